use indexmap::IndexMap;
use ndarray::{Array1, ArrayView1, ArrayView2};

use crate::tokens::Perturbation;
use crate::{Error, Result};

/// The mean of the cells of each condition, and of control cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    control: Array1<f64>,
    means: IndexMap<String, Array1<f64>>,
}

impl Effects {
    /// Of cells, `[cells, genes]`, and the condition of each; and of control cells.
    ///
    /// # Errors
    /// [`Error::Length`] if shapes don't fit, [`Error::InvalidSetting`] if there is no control cell.
    pub fn new<S: AsRef<str>>(
        cells: ArrayView2<'_, f32>,
        conditions: &[S],
        control: ArrayView2<'_, f32>,
    ) -> Result<Self> {
        let genes = control.ncols();
        for (what, found, expected) in [
            ("the conditions", conditions.len(), cells.nrows()),
            ("a cell", cells.ncols(), genes),
        ] {
            if found != expected {
                return Err(Error::Length {
                    what,
                    found,
                    expected,
                });
            }
        }
        let mut sums: IndexMap<String, (Array1<f64>, usize)> = IndexMap::new();
        for (cell, condition) in cells.rows().into_iter().zip(conditions) {
            let name = condition.as_ref();
            if !sums.contains_key(name) {
                sums.insert(name.to_owned(), (Array1::zeros(genes), 0));
            }
            if let Some((sum, n)) = sums.get_mut(name) {
                add(sum, cell);
                *n += 1;
            }
        }
        sums.sort_unstable_keys();
        Ok(Self {
            control: mean_of(control)?,
            means: sums
                .into_iter()
                .map(|(c, (sum, n))| (c, sum / n as f64))
                .collect(),
        })
    }

    /// From means that are known, e.g. predicted ones.
    ///
    /// # Errors
    /// [`Error::Length`] unless all have as many genes as the control.
    pub fn from_means(
        control: Array1<f64>,
        means: impl IntoIterator<Item = (String, Array1<f64>)>,
    ) -> Result<Self> {
        let mut means: IndexMap<String, Array1<f64>> = means.into_iter().collect();
        means.sort_unstable_keys();
        match means.values().find(|m| m.len() != control.len()) {
            Some(wrong) => Err(Error::Length {
                what: "the mean of a condition",
                found: wrong.len(),
                expected: control.len(),
            }),
            None => Ok(Self { control, means }),
        }
    }

    /// The conditions in alphabetical order.
    pub fn conditions(&self) -> impl Iterator<Item = &String> {
        self.means.keys()
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.control.len()
    }

    /// The mean of control cells.
    pub fn control(&self) -> ArrayView1<'_, f64> {
        self.control.view()
    }

    /// The mean of a condition's cells.
    pub fn mean(&self, condition: &str) -> Option<ArrayView1<'_, f64>> {
        self.means.get(condition).map(|m| m.view())
    }

    /// The mean of a condition's cells minus that of control cells.
    pub fn effect(&self, condition: &str) -> Option<Array1<f64>> {
        Some(self.means.get(condition)? - &self.control)
    }
}

fn add(sum: &mut Array1<f64>, cell: ArrayView1<'_, f32>) {
    for (s, v) in sum.iter_mut().zip(cell) {
        *s += f64::from(*v);
    }
}

fn mean_of(cells: ArrayView2<'_, f32>) -> Result<Array1<f64>> {
    if cells.nrows() == 0 {
        return Err(Error::InvalidSetting {
            name: "control",
            value: "0 cells".into(),
            reason: "effects are differences from control cells; at least one is needed".into(),
        });
    }
    let mut sum = Array1::zeros(cells.ncols());
    cells.rows().into_iter().for_each(|c| add(&mut sum, c));
    Ok(sum / cells.nrows() as f64)
}

/// Predictions without a model, learned from the means of training conditions.
#[derive(Debug, Clone)]
pub struct Baselines<'a> {
    training: &'a Effects,
    mean_effect: Array1<f64>,
    of_genes: IndexMap<String, Array1<f64>>,
}

impl<'a> Baselines<'a> {
    /// From training conditions, named as [`Perturbation::parse`] reads them with `control` for none.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no condition but the control.
    pub fn new(training: &'a Effects, control: &str) -> Result<Self> {
        let mut mean_effect = Array1::zeros(training.n_genes());
        let mut of_genes = IndexMap::new();
        let mut n = 0usize;
        for condition in training.conditions() {
            let perturbation = Perturbation::parse(condition, control);
            let Some(effect) = training
                .effect(condition)
                .filter(|_| !perturbation.is_control())
            else {
                continue;
            };
            mean_effect += &effect;
            n += 1;
            if let [gene] = perturbation.genes() {
                of_genes.insert(gene.clone(), effect);
            }
        }
        if n == 0 {
            return Err(Error::InvalidSetting {
                name: "training",
                value: "no perturbed condition".into(),
                reason: "baselines average over perturbed conditions; at least one is needed"
                    .into(),
            });
        }
        Ok(Self {
            training,
            mean_effect: mean_effect / n as f64,
            of_genes,
        })
    }

    /// No change: the mean of control cells.
    pub fn no_change(&self) -> Array1<f64> {
        self.training.control.clone()
    }

    /// The same for every perturbation: the mean over training conditions.
    pub fn mean(&self) -> Array1<f64> {
        &self.training.control + &self.mean_effect
    }

    /// The sum of the effects of the single genes, and the mean effect for a gene that was not perturbed alone in training.
    /// Of a single gene it is its own effect, or the mean.
    pub fn additive(&self, perturbation: &Perturbation) -> Array1<f64> {
        let mut out = self.training.control.clone();
        for gene in perturbation.genes() {
            out += self.of_genes.get(gene).unwrap_or(&self.mean_effect);
        }
        out
    }

    /// Whether each gene of a perturbation was perturbed alone in training.
    pub fn knows(&self, perturbation: &Perturbation) -> bool {
        perturbation
            .genes()
            .iter()
            .all(|g| self.of_genes.contains_key(g))
    }
}
