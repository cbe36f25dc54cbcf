//! Predicted cells, and what perturbations do to genes.

use std::fmt::Write as _;

use ndarray::{Array1, Array2, Axis, concatenate};
use sc_data::{AnnData, Categorical, Column, Table};
use sc_transformer::tokens::Perturbation;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::transformer::cells::Data;
use crate::transformer::model::PerturbationNotes;
use crate::transformer::screen;

/// The difference that a perturbation makes to a gene.
#[derive(Debug, Serialize)]
pub(super) struct Effect<'a> {
    pub(super) gene: &'a str,
    control: f64,
    predicted: f64,
    pub(super) difference: f64,
}

pub(super) fn narrow(cells: &Array2<f32>, genes: usize) -> Array2<f32> {
    let genes = genes.min(cells.ncols());
    cells.slice_axis(Axis(1), (0..genes).into()).to_owned()
}

/// The controls, and the same cells after each perturbation.
pub(super) fn cells(
    data: &Data,
    controls: &[usize],
    noted: &PerturbationNotes,
    wanted: &[Perturbation],
    genes: &[String],
    blocks: &[Array2<f32>],
) -> Result<AnnData> {
    let obs = data.all.obs.index();
    let old: Vec<&str> = controls
        .iter()
        .filter_map(|&r| obs.get(r).map(String::as_str))
        .collect();
    let mut conditions = vec![noted.control.clone()];
    conditions.extend(wanted.iter().map(screen::name));
    let (mut index, mut condition, mut from) = (Vec::new(), Vec::new(), Vec::new());
    for (i, name) in conditions.iter().enumerate() {
        for &cell in &old {
            index.push(match i {
                0 => cell.to_owned(),
                _ => format!("{cell}|{name}"),
            });
            condition.push(name.as_str());
            from.push(cell.to_owned());
        }
    }
    let predicted = (0..index.len()).map(|i| i >= old.len()).collect();
    let views: Vec<_> = blocks.iter().map(|b| b.view()).collect();
    let x = concatenate(Axis(0), &views).map_err(|e| Error::Message(e.to_string()))?;
    let mut table = Table::new(index);
    let labels = Categorical::from_labels(&condition);
    table.insert("condition", Column::Categorical(labels))?;
    table.insert("control_cell", Column::Str(from))?;
    table.insert("predicted", Column::Bool(predicted))?;
    Ok(AnnData::new(x, table, Table::new(genes.to_vec()))?)
}

/// For each perturbation the genes, those first that change most.
pub(super) fn effects<'a>(genes: &'a [String], blocks: &[Array2<f32>]) -> Vec<Vec<Effect<'a>>> {
    let mean = |b: &Array2<f32>| -> Array1<f64> {
        let mean = b.mapv(f64::from).mean_axis(Axis(0));
        mean.unwrap_or_else(|| Array1::zeros(genes.len()))
    };
    let Some((before, after)) = blocks.split_first() else {
        return Vec::new();
    };
    let control = mean(before);
    let of = |block: &Array2<f32>| {
        let values = control.iter().zip(mean(block));
        let mut all: Vec<Effect<'a>> = genes
            .iter()
            .zip(values)
            .map(|(gene, (&control, predicted))| Effect {
                gene,
                control,
                predicted,
                difference: predicted - control,
            })
            .collect();
        all.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()));
        all
    };
    after.iter().map(of).collect()
}

pub(super) fn table(wanted: &[Perturbation], effects: &[Vec<Effect<'_>>]) -> String {
    let mut text = "perturbation\tgene\tcontrol\tpredicted\tdifference\n".to_owned();
    for (p, effects) in wanted.iter().zip(effects) {
        let name = screen::name(p);
        for e in effects {
            let _ = writeln!(
                text,
                "{name}\t{}\t{}\t{}\t{}",
                e.gene, e.control, e.predicted, e.difference
            );
        }
    }
    text
}
