//! Generated cells.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView1};
use sc_data::{AnnData, Column, Csr, Table};
use sc_transformer::scgpt::Generated;
use sc_transformer::tokens::TokenBatch;
use sc_transformer::vocab::{GeneMatch, GeneVocab};

use crate::error::Result;
use crate::transformer::cells::Data;

/// The genes of the output.
pub(super) struct Panel {
    pub(super) names: Vec<String>,
    pub(super) ids: Vec<u32>,
    place: HashMap<u32, usize>,
}

impl Panel {
    pub(super) fn new(known: &GeneMatch, vocab: &GeneVocab) -> Self {
        let mut panel = Self {
            names: Vec::new(),
            ids: Vec::new(),
            place: HashMap::new(),
        };
        // Several columns with one name are one gene.
        for id in known.ids().iter().flatten() {
            if !panel.place.contains_key(id) {
                panel.place.insert(*id, panel.ids.len());
                panel.ids.push(*id);
                let name = vocab.token(*id).unwrap_or_default();
                panel.names.push(name.to_owned());
            }
        }
        panel
    }

    pub(super) fn id(&self, gene: &str) -> Option<u32> {
        let at = self.names.iter().position(|n| n == gene)?;
        self.ids.get(at).copied()
    }
}

/// Generated cells, `[cells, genes of the panel]`.
pub(super) struct Made {
    pub(super) names: Vec<String>,
    /// The cell that was the prompt of each.
    pub(super) prompts: Vec<usize>,
    pub(super) values: Array2<f32>,
    rounds: Array2<f32>,
    /// What the prompting cells have.
    pub(super) truth: Option<Array2<f32>>,
    pub(super) n_generated: usize,
}

impl Made {
    pub(super) fn new(n: usize, genes: usize) -> Self {
        Self {
            names: (0..n).map(|i| format!("generated_{i}")).collect(),
            prompts: Vec::new(),
            values: Array2::zeros((n, genes)),
            rounds: Array2::zeros((n, genes)),
            truth: None,
            n_generated: 0,
        }
    }

    /// Puts generated tokens in their place; `first` is the row of the first cell.
    pub(super) fn put(
        &mut self,
        first: usize,
        batch: &TokenBatch,
        made: &Generated,
        panel: &Panel,
    ) {
        for (row, s) in (first..).zip(batch.segments.iter()) {
            for t in s.start..s.start + s.rows {
                let id = batch.ids.get(t);
                let Some(&column) = id.and_then(|id| panel.place.get(id)) else {
                    continue;
                };
                let (Some(&value), Some(&round)) = (made.values.get(t), made.rounds.get(t)) else {
                    continue;
                };
                if let (Some(v), Some(r)) = (
                    self.values.get_mut((row, column)),
                    self.rounds.get_mut((row, column)),
                ) {
                    (*v, *r) = (value, round as f32);
                    self.n_generated += usize::from(round > 0);
                }
            }
        }
    }

    pub(super) fn correlation(&self) -> Option<f64> {
        let truth = self.truth.as_ref()?;
        let rows = self
            .values
            .rows()
            .into_iter()
            .zip(truth.rows())
            .zip(self.rounds.rows());
        let of = |((v, t), r): (
            (ArrayView1<'_, f32>, ArrayView1<'_, f32>),
            ArrayView1<'_, f32>,
        )| {
            let all = v.iter().zip(t).zip(r);
            let asked = all.filter(|((_, t), r)| **r > 0.0 && **t > 0.0);
            let (a, b): (Vec<f64>, Vec<f64>) = asked
                .map(|((v, t), _)| (f64::from(*v), f64::from(*t)))
                .unzip();
            pearson(&a, &b)
        };
        let found: Vec<f64> = rows.filter_map(of).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    }

    pub(super) fn data(
        self,
        labels_key: Option<&str>,
        data: &Data,
        panel: &Panel,
    ) -> Result<AnnData> {
        let mut obs = Table::new(self.names);
        if !self.prompts.is_empty() {
            let names = data.all.obs.index();
            let cells = self.prompts.iter().filter_map(|&r| names.get(r).cloned());
            obs.insert("prompt_cell", Column::Str(cells.collect()))?;
            if let Some(key) = labels_key {
                let labels = data.labels(key)?.select(&self.prompts);
                obs.insert(key, Column::Categorical(labels))?;
            }
        }
        let mut all = AnnData::new(
            Csr::from_dense(&self.values),
            obs,
            Table::new(panel.names.clone()),
        )?;
        all.layers
            .insert("round".into(), Csr::from_dense(&self.rounds).into());
        if let Some(truth) = &self.truth {
            all.layers
                .insert("prompt".into(), Csr::from_dense(truth).into());
        }
        Ok(all)
    }
}

/// `None` if a side is constant.
fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let over = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum()
    };
    let (ab, aa, bb) = (
        over(&|x, y| x * y),
        over(&|x, _| x * x),
        over(&|_, y| y * y),
    );
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// The bins of prompting cells.
pub(super) fn put_truth(truth: &mut Array2<f32>, first: usize, whole: &TokenBatch, panel: &Panel) {
    for (row, s) in (first..).zip(whole.segments.iter()) {
        for t in s.start..s.start + s.rows {
            let column = whole.ids.get(t).and_then(|id| panel.place.get(id));
            if let (Some(&column), Some(&value)) = (column, whole.values.get(t))
                && let Some(slot) = truth.get_mut((row, column))
            {
                *slot = value;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn constant_sides_have_no_correlation() {
        let r = pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap();
        assert!((r - 1.0).abs() < 1e-12);
        assert!(pearson(&[1.0, 1.0], &[1.0, 2.0]).is_none() && pearson(&[], &[]).is_none());
    }
}
