//! Cells before and after perturbations, as models of perturbations read them.

use ndarray::{Array2, Axis};
use sc_data::{Categorical, Columns, RowSource};
use sc_transformer::scgpt::{PredictOptions, ScGptPerturb};
use sc_transformer::tokens::Perturbation;
use sc_transformer::tokens::preprocess::{PreprocessOptions, Target};

use super::cells::Data;
use crate::error::{Error, Result};

/// Which cells, and what was done to them.
#[derive(Debug, clap::Args)]
pub(super) struct Conditions {
    /// Column of obs with the genes that were perturbed in each cell, + between them [default: condition, or as it was trained]
    #[arg(long, value_name = "COLUMN")]
    condition_key: Option<String>,
    /// What that column says of control cells, alone or beside a gene (A+ctrl) [default: ctrl, or as it was trained]
    #[arg(long, value_name = "LABEL")]
    control: Option<String>,
    /// Only cells with this label in a column of obs, such as one cell line; repeat it for more
    #[arg(long, value_name = "COLUMN=LABEL", value_parser = filter)]
    only: Vec<(String, String)>,
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, label)) if !key.is_empty() => Ok((key.to_owned(), label.to_owned())),
        _ => Err("not COLUMN=LABEL, such as cell_line=K562".into()),
    }
}

impl Conditions {
    pub(super) fn key<'a>(&'a self, noted: Option<&'a str>) -> &'a str {
        self.condition_key
            .as_deref()
            .or(noted)
            .unwrap_or("condition")
    }

    pub(super) fn control<'a>(&'a self, noted: Option<&'a str>) -> &'a str {
        self.control.as_deref().or(noted).unwrap_or("ctrl")
    }

    /// Whether the column was named.
    pub(super) fn is_named(&self) -> bool {
        self.condition_key.is_some()
    }

    /// The rows of the cells that are looked at.
    pub(super) fn rows(&self, data: &Data) -> Result<Vec<usize>> {
        let mut rows: Vec<usize> = (0..data.all.n_obs()).collect();
        for (key, label) in &self.only {
            let labels = data.labels(key)?;
            rows.retain(|&r| labels.get(r) == Some(label));
            if rows.is_empty() {
                return Err(data.wrong(format!(
                    "no cell has \"{label}\" in obs {key} (--only); it has: {}",
                    list(labels.categories())
                )));
            }
        }
        Ok(rows)
    }
}

/// Rows, and what was done to the cell of each. Cells of which that isn't known are left out.
pub(super) fn perturbed(
    labels: &Categorical,
    rows: Vec<usize>,
    control: &str,
) -> (Vec<usize>, Vec<Perturbation>) {
    let known = rows.into_iter();
    let known = known.filter_map(|r| Some((r, Perturbation::parse(labels.get(r)?, control))));
    known.unzip()
}

/// That no cell is a control.
pub(super) fn no_control(data: &Data, key: &str, control: &str, labels: &Categorical) -> Error {
    data.wrong(format!(
        "no cell has \"{control}\" in obs {key}, so that nothing is known of cells before a perturbation; it has: {}. Name \
         the control with --control",
        list(labels.categories())
    ))
}

/// Names, the first of many.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    format!("{}{more}", shown.join(", "))
}

/// What is shown and written of a perturbation: its genes.
pub(super) fn name(perturbation: &Perturbation) -> String {
    perturbation.genes().join("+")
}

/// How counts become what the model reads; nothing to do if they are logarithms already.
pub(super) fn steps(normalize: Option<f64>) -> PreprocessOptions {
    PreprocessOptions {
        target: normalize.map(Target::Total),
        log1p: normalize.is_some(),
        ..PreprocessOptions::default()
    }
}

/// `source` with more columns, which are empty.
pub(super) fn widened<S: RowSource>(source: S, more: usize) -> Result<Columns<S>> {
    let own = (0..source.n_cols()).map(Some);
    let columns = own.chain(std::iter::repeat_n(None, more)).collect();
    Ok(Columns::new(source, columns)?)
}

/// So many of some cells, evenly from among them.
pub(super) fn spread(cells: &[usize], n: usize) -> Vec<usize> {
    let n = n.min(cells.len());
    let at = (0..n).map(|i| i * cells.len() / n.max(1));
    at.filter_map(|i| cells.get(i).copied()).collect()
}

/// What a model of perturbations makes of control cells.
pub(super) struct Before<'a> {
    pub(super) model: &'a ScGptPerturb,
    /// What the columns are called, and their tokens. Columns without one stay as they are.
    pub(super) names: &'a [String],
    pub(super) ids: &'a [Option<u32>],
    /// Control cells, `[cells, columns]`.
    pub(super) cells: Array2<f32>,
    /// Cells that are predicted at once.
    pub(super) batch_size: usize,
}

impl Before<'_> {
    /// The cells after a perturbation, `[cells, columns]`.
    pub(super) fn after(
        &self,
        perturbation: &Perturbation,
        mut done: impl FnMut(usize),
    ) -> Result<Array2<f32>> {
        let known = self.ids.iter().enumerate();
        let (columns, ids): (Vec<usize>, Vec<u32>) =
            known.filter_map(|(c, id)| id.map(|id| (c, id))).unzip();
        let place = |gene: &String| {
            let at = columns
                .iter()
                .position(|&c| self.names.get(c) == Some(gene));
            at.ok_or_else(|| {
                Error::Message(format!(
                    "the gene {gene} is not among those that the model reads"
                ))
            })
        };
        let genes: Vec<usize> = perturbation
            .genes()
            .iter()
            .map(place)
            .collect::<Result<_>>()?;
        let mut options = PredictOptions::default();
        options.batch_size = self.batch_size;
        let mut all = self.cells.clone();
        for mut block in all.axis_chunks_iter_mut(Axis(0), self.batch_size.max(1)) {
            let before = block.select(Axis(1), &columns);
            let perturbed = vec![genes.clone(); before.nrows()];
            let made = self
                .model
                .predict(before.view(), &ids, &perturbed, &options)?;
            for (&column, made) in columns.iter().zip(made.columns()) {
                block.column_mut(column).assign(&made);
            }
            done(before.nrows());
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_spread_evenly() {
        let cells: Vec<usize> = (10..20).collect();
        assert_eq!(spread(&cells, 3), [10, 13, 16]);
        assert_eq!(spread(&cells, 99), cells);
        assert!(spread(&[], 3).is_empty());
    }

    #[test]
    fn cells_without_a_condition_are_left_out() {
        let labels = Categorical::from_options([Some("A+ctrl"), None, Some("ctrl")].into_iter());
        let (rows, found) = perturbed(&labels, vec![0, 1, 2], "ctrl");
        assert_eq!(rows, [0, 2]);
        assert_eq!(name(&found[0]), "A");
        assert!(found[1].is_control());
        assert!(filter("K562").is_err());
        assert!(filter("line=K562").is_ok_and(|f| f.1 == "K562"));
    }
}
