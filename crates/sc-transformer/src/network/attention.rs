use ndarray::{Array2, ArrayView2, ArrayView3, Axis, Zip};
use rayon::prelude::*;
use sc_model::Parity;
use serde::Serialize;

use crate::{Error, Result};

/// Which genes attend to which, by the attention scores of a layer, averaged over the cells of each condition.
///
/// In each cell and head the scores `q k^T` are replaced by ranks: first within each row (which keys a query attends to most),
/// then these within each column (which queries attend most to a key), both from 0 to `genes - 1`. Ranks are averaged over
/// heads and cells and divided by the number of genes. Scale and softmax change no rank, so that none is applied. Of equal
/// ranks the one that comes first is lower.
///
/// Rows are queries, the genes that are informed; columns are keys, the genes that inform. The targets of a transcription
/// factor are the rows with high values in its column. All cells have the same genes in the same order.
///
/// Sums are integers: the result does not depend on the order of cells or the number of threads.
#[derive(Debug, Clone)]
pub struct AttentionRanks {
    sums: Vec<Array2<u64>>,
    cells: Vec<u64>,
    heads: u64,
    parity: Parity,
}

impl AttentionRanks {
    /// For cells of `genes` tokens, `heads` heads, and so many conditions. With [`Parity::Upstream`] the first cell of each
    /// condition counts but adds nothing, as in scGPT's tutorial.
    pub fn new(genes: usize, heads: usize, conditions: usize, parity: Parity) -> Self {
        Self {
            sums: vec![Array2::zeros((genes, genes)); conditions],
            cells: vec![0; conditions],
            heads: heads as u64,
            parity,
        }
    }

    /// Adds a cell: its queries and keys, `[genes, heads, numbers of a head]`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such condition, [`Error::Length`] if a shape does not fit.
    pub fn add(
        &mut self,
        condition: usize,
        q: ArrayView3<'_, f32>,
        k: ArrayView3<'_, f32>,
    ) -> Result<()> {
        let len = self.sums.len();
        let (Some(sum), Some(cells)) =
            (self.sums.get_mut(condition), self.cells.get_mut(condition))
        else {
            let (what, index) = ("condition", condition);
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        };
        let genes = sum.nrows();
        for (what, found, expected) in [
            ("the queries (genes)", q.len_of(Axis(0)), genes),
            ("the keys (genes)", k.len_of(Axis(0)), genes),
            (
                "the queries (heads)",
                q.len_of(Axis(1)),
                self.heads as usize,
            ),
            ("the keys (heads)", k.len_of(Axis(1)), self.heads as usize),
            ("a key", k.len_of(Axis(2)), q.len_of(Axis(2))),
        ] {
            if found != expected {
                return Err(Error::Length {
                    what,
                    found,
                    expected,
                });
            }
        }
        *cells += 1;
        if *cells == 1 && self.parity == Parity::Upstream {
            return Ok(());
        }
        for (q, k) in q.axis_iter(Axis(1)).zip(k.axis_iter(Axis(1))) {
            let ranks = columns_of_rows(q, k);
            // `ranks` is transposed: a row for each key.
            Zip::from(&mut *sum)
                .and(ranks.t())
                .par_for_each(|s, &r| *s += u64::from(r));
        }
        Ok(())
    }

    /// The number of cells of a condition so far.
    pub fn n_cells(&self, condition: usize) -> u64 {
        self.cells.get(condition).copied().unwrap_or(0)
    }

    /// Mean ranks of a condition, `[queries, keys]`, from 0 to less than 1.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such condition, [`Error::InvalidSetting`] if it has no cell.
    pub fn mean(&self, condition: usize) -> Result<Array2<f32>> {
        let Some(sum) = self.sums.get(condition) else {
            return Err(sc_data::Error::OutOfRange {
                what: "condition",
                index: condition,
                len: self.sums.len(),
            }
            .into());
        };
        let cells = self.n_cells(condition);
        if cells == 0 {
            return Err(Error::InvalidSetting {
                name: "condition",
                value: condition.to_string(),
                reason: "no cell of it was added".into(),
            });
        }
        let most = (cells * self.heads * sum.nrows() as u64) as f64;
        Ok(sum.mapv(|s| (s as f64 / most) as f32))
    }

    /// Mean ranks of one condition minus those of another, e.g. perturbed minus control.
    ///
    /// # Errors
    /// As [`AttentionRanks::mean`].
    pub fn difference(&self, condition: usize, from: usize) -> Result<Array2<f32>> {
        Ok(self.mean(condition)? - self.mean(from)?)
    }
}

/// Ranks within rows of `q k^T`, and of these within columns: `[keys, queries]`.
fn columns_of_rows(q: ArrayView2<'_, f32>, k: ArrayView2<'_, f32>) -> Array2<u32> {
    let genes = q.nrows();
    let mut by_query = Array2::<u32>::zeros((genes, genes));
    by_query
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(q.axis_iter(Axis(0)))
        .for_each(|(mut ranks, q)| {
            let mut scores: Vec<(f32, u32)> = k
                .rows()
                .into_iter()
                .map(|k| {
                    q.iter()
                        .zip(k)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum::<f64>() as f32
                })
                .zip(0u32..)
                .collect();
            scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (rank, (_, key)) in (0u32..).zip(scores) {
                if let Some(slot) = ranks.get_mut(key as usize) {
                    *slot = rank;
                }
            }
        });
    let mut by_key = Array2::<u32>::zeros((genes, genes));
    by_key
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(by_query.axis_iter(Axis(1)))
        .for_each(|(mut out, column)| {
            // Ranks are below `genes`: counting them sorts them, and keeps equal ones in order.
            let mut next = vec![0u32; genes + 1];
            for &r in column {
                if let Some(n) = next.get_mut(r as usize + 1) {
                    *n += 1;
                }
            }
            let mut before = 0;
            for n in &mut next {
                before += *n;
                *n = before;
            }
            for (slot, &r) in out.iter_mut().zip(column) {
                if let Some(n) = next.get_mut(r as usize) {
                    *slot = *n;
                    *n += 1;
                }
            }
        });
    by_key
}

/// The `n` genes that are most informed by a gene (its targets), with their values: the highest of its column.
///
/// # Errors
/// [`Error::Data`] if there is no such gene.
pub fn top_queries(ranks: ArrayView2<'_, f32>, key: usize, n: usize) -> Result<Vec<Ranked>> {
    check(key, ranks.ncols())?;
    Ok(highest(ranks.column(key).iter().copied(), n))
}

/// The `n` genes that inform a gene most, with their values: the highest of its row.
///
/// # Errors
/// [`Error::Data`] if there is no such gene.
pub fn top_keys(ranks: ArrayView2<'_, f32>, query: usize, n: usize) -> Result<Vec<Ranked>> {
    check(query, ranks.nrows())?;
    Ok(highest(ranks.row(query).iter().copied(), n))
}

/// A gene and its value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranked {
    /// Its place among the tokens.
    pub gene: usize,
    /// Its mean rank, or the difference of mean ranks.
    pub value: f32,
}

fn check(index: usize, len: usize) -> Result<()> {
    match index < len {
        true => Ok(()),
        false => Err(sc_data::Error::OutOfRange {
            what: "gene",
            index,
            len,
        }
        .into()),
    }
}

fn highest(values: impl Iterator<Item = f32>, n: usize) -> Vec<Ranked> {
    let mut all: Vec<Ranked> = values
        .enumerate()
        .map(|(gene, value)| Ranked { gene, value })
        .collect();
    all.sort_by(|a, b| b.value.total_cmp(&a.value));
    all.truncate(n);
    all
}
