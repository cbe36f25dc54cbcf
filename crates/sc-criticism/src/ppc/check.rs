use sc_data::{Categorical, RowSource};
use sc_model::Parity;

use super::block::{Size, de_passes};
use super::calibration::LEVELS;
use super::de::Groups;
use super::model::Against;
use super::observed::observe;
use super::{DeOptions, LeftOut, ModelCheck, Observed, Samples};
use crate::{Error, Result};

/// How models are checked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PpcOptions {
    /// Quantile levels of the intervals of calibration, ascending: the first and the last make an interval, the second and
    /// the last but one, ... Those of scvi-tools by default.
    pub levels: Vec<f64>,
    /// How differential expression is compared, if there are groups.
    pub de: DeOptions,
    /// Whether to repeat scvi-tools' slips: `zero_fraction` is the share of cells that have a gene, the undefined coefficient
    /// of variation of raw genes without counts is 0, and genes are ordered by signed scores for the areas under curves.
    pub parity: Parity,
}

impl Default for PpcOptions {
    fn default() -> Self {
        Self {
            levels: LEVELS.to_vec(),
            de: DeOptions::default(),
            parity: Parity::Correct,
        }
    }
}

/// A posterior predictive check of one or several models on the same cells; see [`crate::ppc`].
#[must_use]
pub struct Ppc<'a> {
    raw: &'a dyn RowSource,
    labels: Option<&'a Categorical>,
    options: PpcOptions,
    models: Vec<Entry<'a>>,
}

/// A model under its name.
pub(super) struct Entry<'a> {
    pub(super) name: String,
    pub(super) samples: &'a dyn Samples,
    pub(super) sets: Vec<(String, Vec<usize>)>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Checked {
    /// Cells.
    pub n_cells: usize,
    /// Genes.
    pub n_genes: usize,
    /// With which options.
    pub options: PpcOptions,
    /// Of the raw counts.
    pub observed: Observed,
    /// Of each model, in the order in which they were added.
    pub models: Vec<ModelCheck>,
    /// Groups too small to be compared with the rest.
    pub left_out: Vec<LeftOut>,
}

impl<'a> Ppc<'a> {
    /// A check against the raw counts `[cells, genes]`, in memory or in a file.
    pub fn new(raw: &'a dyn RowSource) -> Self {
        Self {
            raw,
            labels: None,
            options: PpcOptions::default(),
            models: Vec::new(),
        }
    }

    /// Compares differential expression of these groups against the rest, too. Cells without a label belong to every rest.
    pub fn groups(mut self, labels: &'a Categorical) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Other options.
    pub fn options(mut self, options: PpcOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds a model.
    pub fn model(mut self, name: impl Into<String>, samples: &'a dyn Samples) -> Self {
        self.models.push(Entry {
            name: name.into(),
            samples,
            sets: Vec::new(),
        });
        self
    }

    /// Scores the coefficients of variation of some cells by themselves, for the model that was added last: of those that
    /// trained it, and of those that did not.
    pub fn cells(mut self, set: impl Into<String>, cells: Vec<usize>) -> Self {
        if let Some(model) = self.models.last_mut() {
            model.sets.push((set.into(), cells));
        }
        self
    }

    /// Goes through all cells. `progress` hears how many cells are done, of how many; each model has all of them again.
    ///
    /// # Errors
    /// If there are no cells, genes or samples, if shapes or labels do not fit, if no group has two cells, or if a count is
    /// not a number: each is named.
    pub fn run(self, progress: &mut dyn FnMut(usize, usize)) -> Result<Checked> {
        let size = Size {
            n_cells: self.raw.n_rows(),
            n_genes: self.raw.n_cols(),
        };
        self.check(size)?;
        let groups = self.labels.map(Groups::new).transpose()?;
        if groups.is_some() {
            for model in &self.models {
                self.options
                    .de
                    .check(size.n_genes, model.samples.n_samples())?;
            }
        }
        let has_groups = groups.is_some();
        let of_raw = match has_groups {
            true => de_passes(&self.options.de, size, 1).len(),
            false => 1,
        };
        let of_models = self.models.len() * Against::n_passes(&self.options, size, has_groups);
        let (mut done, all) = (0, size.n_cells * (of_raw + of_models));
        let mut watch = |cells: usize| {
            done += cells;
            progress(done, all);
        };
        let (observed, truths) =
            observe(self.raw, size, groups.as_ref(), &self.options, &mut watch)?;
        let against = Against {
            raw: self.raw,
            size,
            observed: &observed,
            groups: groups.as_ref(),
            truths: &truths,
            options: &self.options,
        };
        let models = self.models.iter();
        let models = models
            .map(|entry| against.check(entry, &mut watch))
            .collect::<Result<_>>()?;
        Ok(Checked {
            n_cells: size.n_cells,
            n_genes: size.n_genes,
            models,
            left_out: groups.map(|g| g.left_out).unwrap_or_default(),
            options: self.options,
            observed,
        })
    }

    fn check(&self, size: Size) -> Result<()> {
        if size.n_cells == 0 || size.n_genes == 0 {
            return Err(Error::Nothing {
                what: "raw counts",
                found: size.n_cells,
                genes: size.n_genes,
            });
        }
        if let Some(labels) = self.labels.filter(|l| l.len() != size.n_cells) {
            return Err(Error::Length {
                what: "the column of labels".into(),
                found: labels.len(),
                like: "the raw counts".into(),
                expected: size.n_cells,
            });
        }
        for (k, model) in self.models.iter().enumerate() {
            if self.models.iter().take(k).any(|m| m.name == model.name) {
                return Err(Error::Setting {
                    name: "the name of a model",
                    found: format!("\"{}\" twice", model.name),
                    expected: "a name of its own for each",
                });
            }
            if model.samples.n_samples() == 0 {
                return Err(Error::Setting {
                    name: "the number of samples",
                    found: format!("0 for {}", model.name),
                    expected: "at least 1",
                });
            }
            if model.samples.n_cells() != size.n_cells {
                return Err(Error::Length {
                    what: format!("each sample of {}", model.name),
                    found: model.samples.n_cells(),
                    like: "the raw counts".into(),
                    expected: size.n_cells,
                });
            }
        }
        Ok(())
    }
}
