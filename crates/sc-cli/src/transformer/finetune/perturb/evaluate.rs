//! How well held-out perturbations are predicted, beside baselines without a model.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;
use ndarray::{Array1, Axis};
use sc_data::RowSource;
use sc_transformer::perturb_metrics::{
    Baselines, ChangedGenes, Correlations, Effects, GenesCompared, compare_means,
};
use sc_transformer::scgpt::ScGptPerturb;
use sc_transformer::tokens::Perturbation;
use serde::Serialize;

use super::split::Split;
use crate::error::{Error, Result};
use crate::progress::Counter;
use crate::transformer::screen::{Before, name, spread};

/// Genes that change most, which are compared on their own.
const CHANGED: usize = 20;
/// Perturbations that are shown.
const SHOWN: usize = 20;

/// How alike predicted and true means are.
#[derive(Debug, Clone, Copy, Serialize)]
struct Scores {
    #[serde(flatten)]
    correlations: Correlations,
    /// The mean squared error over all genes, and over those that change most.
    mse: f64,
    mse_de: f64,
}

/// A perturbation that was held out.
#[derive(Debug, Serialize)]
struct Tested {
    perturbation: String,
    /// How many of its genes were perturbed in training, of how many.
    genes_seen: usize,
    n_genes: usize,
    n_cells: usize,
    scores: IndexMap<&'static str, Scores>,
}

#[derive(Debug, Serialize)]
pub(super) struct Evaluation {
    train: Vec<String>,
    validation: Vec<String>,
    /// Control cells from which each perturbation was predicted.
    n_control_cells: usize,
    test: Vec<Tested>,
    /// Means over the tested perturbations; those without a value of a kind don't count for it.
    mean: IndexMap<&'static str, Scores>,
}

/// The mean of the cells of each perturbation, by name, and how many they are; the control is "".
type Means = BTreeMap<String, (Array1<f64>, usize)>;

/// Reads the source once.
fn means(source: &dyn RowSource, of_cells: &[Perturbation], n_genes: usize) -> Result<Means> {
    const ROWS_AT_ONCE: usize = 1024;
    let mut all = Means::new();
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let block = source.read_range(start..(start + ROWS_AT_ONCE).min(source.n_rows()))?;
        for (row, p) in (0..block.n_rows()).zip(of_cells.iter().skip(start)) {
            let entry = all.entry(name(p));
            let (sum, n) = entry.or_insert_with(|| (Array1::zeros(n_genes), 0));
            let (columns, values) = block.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                if let Some(slot) = sum.get_mut(column as usize) {
                    *slot += f64::from(value);
                }
            }
            *n += 1;
        }
    }
    all.values_mut().for_each(|(sum, n)| *sum /= *n as f64);
    Ok(all)
}

/// The means of some perturbations.
fn known<'a>(
    truth: &Means,
    control: &Array1<f64>,
    of: impl Iterator<Item = &'a Perturbation>,
) -> Result<Effects> {
    let found = of.map(name).filter_map(|p| {
        let mean = truth.get(&p)?.0.clone();
        Some((p, mean))
    });
    Ok(Effects::from_means(control.clone(), found)?)
}

/// What is evaluated.
pub(super) struct Test<'a> {
    pub(super) model: &'a ScGptPerturb,
    /// The names of the columns, and their tokens.
    pub(super) names: &'a [String],
    pub(super) ids: &'a [Option<u32>],
    pub(super) source: &'a dyn RowSource,
    pub(super) of_cells: &'a [Perturbation],
    pub(super) split: &'a Split,
    /// The first so many columns are genes that were measured.
    pub(super) n_genes: usize,
    pub(super) n_controls: usize,
    pub(super) batch_size: usize,
}

impl Test<'_> {
    pub(super) fn run(&self) -> Result<Evaluation> {
        let truth = means(self.source, self.of_cells, self.n_genes)?;
        let Some((control, _)) = truth.get("") else {
            return Err(Error::Message("no cell is a control".into()));
        };
        let training = known(&truth, control, self.split.known())?;
        let held_out = self.split.test.iter().map(|t| &t.perturbation);
        let tested = known(&truth, control, held_out)?;
        let all = self.of_cells.iter().enumerate();
        let all: Vec<usize> = all.filter(|c| c.1.is_control()).map(|c| c.0).collect();
        let controls = spread(&all, self.n_controls);
        let methods = self.methods(&training, control, &controls)?;
        let changed = ChangedGenes::by_effect(&tested, CHANGED);
        let mut by_method = Vec::new();
        for (method, predicted) in &methods {
            by_method.push((*method, score(&tested, predicted, &changed)?));
        }
        let test = self.split.test.iter().map(|t| {
            let perturbation = name(&t.perturbation);
            let scores = by_method.iter();
            let scores = scores.filter_map(|(m, s)| Some((*m, s.get(&perturbation).copied()?)));
            Tested {
                genes_seen: t.seen,
                n_genes: t.perturbation.genes().len(),
                n_cells: truth.get(&perturbation).map_or(0, |t| t.1),
                scores: scores.collect(),
                perturbation,
            }
        });
        let mean = by_method.iter().map(|(m, s)| (*m, average(s.values())));
        Ok(Evaluation {
            train: Split::names(&self.split.train),
            validation: Split::names(&self.split.validation),
            n_control_cells: controls.len(),
            test: test.collect(),
            mean: mean.collect(),
        })
    }

    /// What each method predicts of the held-out perturbations.
    fn methods(
        &self,
        training: &Effects,
        control: &Array1<f64>,
        controls: &[usize],
    ) -> Result<Vec<(&'static str, Effects)>> {
        let held_out: Vec<&Perturbation> =
            self.split.test.iter().map(|t| &t.perturbation).collect();
        let baselines = Baselines::new(training, "")?;
        let effects = |of: &dyn Fn(&Perturbation) -> Array1<f64>| {
            let all = held_out.iter().map(|p| (name(p), of(p)));
            Effects::from_means(control.clone(), all)
        };
        Ok(vec![
            (
                "model",
                Effects::from_means(control.clone(), self.predicted(&held_out, controls)?)?,
            ),
            ("additive", effects(&|p| baselines.additive(p))?),
            ("mean", effects(&|_| baselines.mean())?),
            ("no_change", effects(&|_| baselines.no_change())?),
        ])
    }

    fn predicted(
        &self,
        held_out: &[&Perturbation],
        controls: &[usize],
    ) -> Result<Vec<(String, Array1<f64>)>> {
        let (mut counter, mut done) = (Counter::new("predicting"), 0);
        let total = held_out.len() * controls.len();
        let mut all = Vec::with_capacity(held_out.len());
        let before = Before {
            model: self.model,
            names: self.names,
            ids: self.ids,
            cells: self.source.read_rows(controls)?.to_dense(),
            batch_size: self.batch_size,
        };
        for &p in held_out {
            let cells = before.after(p, |n| {
                done += n;
                counter.set(done, total);
            })?;
            let mean = cells.mapv(f64::from).mean_axis(Axis(0));
            let mut mean = mean.unwrap_or_else(|| Array1::zeros(self.n_genes)).to_vec();
            mean.truncate(self.n_genes);
            all.push((name(p), mean.into()));
        }
        Ok(all)
    }
}

/// The scores of each perturbation, by name.
fn score(
    truth: &Effects,
    predicted: &Effects,
    changed: &ChangedGenes,
) -> Result<IndexMap<String, Scores>> {
    let found = compare_means(truth, predicted, changed, GenesCompared::All)?;
    let mut all = IndexMap::new();
    for (condition, correlations) in found.conditions {
        let (Some(t), Some(p)) = (truth.mean(&condition), predicted.mean(&condition)) else {
            continue;
        };
        let square = |g: usize| match (t.get(g), p.get(g)) {
            (Some(t), Some(p)) => (t - p).powi(2),
            _ => f64::NAN,
        };
        let mean = |sum: f64, n: usize| sum / n as f64;
        let de = changed.get(&condition).unwrap_or_default();
        let scores = Scores {
            correlations,
            mse: mean((0..t.len()).map(square).sum(), t.len()),
            mse_de: mean(de.iter().map(|&g| square(g)).sum(), de.len()),
        };
        all.insert(condition, scores);
    }
    Ok(all)
}

fn average<'a>(all: impl Iterator<Item = &'a Scores> + Clone) -> Scores {
    let over = |of: fn(&Scores) -> f64| {
        let values: Vec<f64> = all.clone().map(of).filter(|v| !v.is_nan()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    Scores {
        correlations: Correlations {
            pearson: over(|s| s.correlations.pearson),
            pearson_de: over(|s| s.correlations.pearson_de),
            pearson_delta: over(|s| s.correlations.pearson_delta),
            pearson_de_delta: over(|s| s.correlations.pearson_de_delta),
        },
        mse: over(|s| s.mse),
        mse_de: over(|s| s.mse_de),
    }
}

impl Scores {
    fn values(&self) -> [f64; 6] {
        let c = &self.correlations;
        [
            c.pearson,
            c.pearson_de,
            c.pearson_delta,
            c.pearson_de_delta,
            self.mse,
            self.mse_de,
        ]
    }
}

const COLUMNS: [&str; 6] = [
    "pearson",
    "pearson_de",
    "pearson_delta",
    "pearson_de_delta",
    "mse",
    "mse_de",
];

impl Evaluation {
    /// A row for each perturbation and method, tab-separated.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "perturbation\tgenes_seen\tn_genes\tn_cells\tmethod\t{}\n",
            COLUMNS.join("\t")
        );
        for t in &self.test {
            for (method, scores) in &t.scores {
                let _ = write!(
                    text,
                    "{}\t{}\t{}\t{}\t{method}",
                    t.perturbation, t.genes_seen, t.n_genes, t.n_cells
                );
                for v in scores.values() {
                    let _ = match v.is_nan() {
                        true => write!(text, "\t"),
                        false => write!(text, "\t{v}"),
                    };
                }
                text.push('\n');
            }
        }
        text
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        if self.test.is_empty() {
            return "no perturbation was held out, so that nothing is compared (--gene-share, --combination-share)\n"
                .into();
        }
        let mut text = format!(
            "{} perturbations that were not trained on, predicted from {} control cells (de: the {CHANGED} genes that change \
             most; delta: differences from control)\n",
            self.test.len(),
            self.n_control_cells
        );
        let _ = write!(text, "{:<10}", "");
        for column in COLUMNS {
            let _ = write!(text, " {column:>16}");
        }
        text.push('\n');
        for (method, scores) in &self.mean {
            let _ = write!(text, "{method:<10}");
            for v in scores.values() {
                let _ = write!(text, " {:>16}", number(v));
            }
            text.push('\n');
        }
        self.one_by_one(&mut text);
        text
    }

    fn one_by_one(&self, text: &mut String) {
        let width = self.test.iter().map(|t| t.perturbation.len()).max();
        let width = width.unwrap_or(0).max("pearson_delta".len());
        let _ = write!(text, "{:<width$}  genes seen", "pearson_delta");
        for method in self.mean.keys().filter(|m| **m != "no_change") {
            let _ = write!(text, " {method:>10}");
        }
        text.push('\n');
        for t in self.test.iter().take(SHOWN) {
            let seen = format!("{} of {}", t.genes_seen, t.n_genes);
            let _ = write!(text, "{:<width$}  {seen:>10}", t.perturbation);
            for (_, scores) in t.scores.iter().filter(|s| *s.0 != "no_change") {
                let _ = write!(text, " {:>10}", number(scores.correlations.pearson_delta));
            }
            text.push('\n');
        }
        if let Some(more) = self.test.len().checked_sub(SHOWN).filter(|&n| n > 0) {
            let _ = writeln!(text, "and {more} more");
        }
    }
}

fn number(v: f64) -> String {
    match v.is_nan() {
        true => "-".into(),
        false => format!("{v:.4}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn means_and_errors() {
        let cells = array![[1.0f32, 0.0, 2.0], [3.0, 4.0, 0.0], [0.0, 1.0, 1.0]];
        let of = ["A", "A", "ctrl"].map(|c| Perturbation::parse(c, "ctrl"));
        // The last column is no gene that was measured.
        let found = means(&cells, &of, 2).unwrap();
        assert_eq!(found["A"], (array![2.0, 2.0], 2));
        assert_eq!(found[""], (array![0.0, 1.0], 1));
        let truth =
            Effects::from_means(array![0.0, 1.0], [("A".into(), array![2.0, 2.0])]).unwrap();
        let made = Effects::from_means(array![0.0, 1.0], [("A".into(), array![1.0, 2.0])]).unwrap();
        let changed = ChangedGenes::by_effect(&truth, 1);
        let scores = score(&truth, &made, &changed).unwrap()["A"];
        assert_eq!((scores.mse, scores.mse_de), (0.5, 1.0));
        assert!(
            average([scores, scores].iter())
                .correlations
                .pearson
                .is_nan()
        );
    }
}
