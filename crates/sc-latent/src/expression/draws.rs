//! Expression of cells that are drawn at random: the cells first, so that a million cells cost what the draws cost.

use std::collections::HashMap;

use ndarray::Array2;
use rand_distr::{Distribution, Uniform};
use rayon::prelude::*;
use sc_tensor::DType;
use sc_tensor::rng::{Rng, Stream};

use candle_core::Tensor;

use super::importance::Importance;
use super::rows::{Encoded, Writer};
use crate::arrays::decoded_at_once;
use crate::decoded::Decoded;
use crate::elbo::Noise;
use crate::{Cells, Error, LibrarySize, Result, Scvi};

/// How likely each cell is to be drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Weights {
    /// All alike.
    #[default]
    Uniform,
    /// By how well its place in the latent space explains the counts of other cells; see [`Importance`].
    Importance(Importance),
}

/// Options of [`Scvi::expression_draws`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DrawOptions {
    /// What expression is scaled to; 1 by default.
    pub library_size: LibrarySize,
    /// Decode as if all cells were of this batch; of several, the mean over them. Empty: each cell's own batch.
    pub transform_batch: Vec<String>,
    /// Only these genes (columns of the model).
    pub genes: Option<Vec<usize>>,
    /// How many draws in all; 5,000 by default.
    pub n_draws: usize,
    /// Draw among these cells only.
    pub among: Option<Vec<usize>>,
    /// How likely each cell is to be drawn.
    pub weights: Weights,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self {
            library_size: LibrarySize::Fixed(1.0),
            transform_batch: Vec::new(),
            genes: None,
            n_draws: 5000,
            among: None,
            weights: Weights::Uniform,
            seed: 0,
        }
    }
}

/// What [`Scvi::expression_draws`] gives.
#[derive(Debug, Clone)]
pub struct ExpressionDraws {
    /// Expression, `[draws, genes]`.
    pub values: Array2<f32>,
    /// The cell of each draw.
    pub cells: Vec<usize>,
}

/// One of the posterior draws of a cell. Rows sort by cell, so that a file is read from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    pub(crate) cell: usize,
    pub(crate) copy: usize,
}

/// The rows that were drawn, each once and sorted, and which of them each draw is.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    pub(crate) picks: Vec<u32>,
}

impl Plan {
    pub(crate) fn new(drawn: &[Row]) -> Self {
        let mut rows = drawn.to_vec();
        rows.sort_unstable();
        rows.dedup();
        // Every row is found: `rows` holds them all.
        let picks = drawn
            .iter()
            .map(|row| rows.binary_search(row).unwrap_or_default() as u32)
            .collect();
        Self { rows, picks }
    }
}

/// Endless draws of some cells, each equally often: one random order of all of them after the other, every time with a
/// posterior draw of its own. Costs what is taken of it, however many cells there are.
///
/// Leaving out cells leaves such draws of the others.
pub(crate) fn shuffled_rows<'a>(
    among: &'a [usize],
    stream: Stream,
) -> impl Iterator<Item = Row> + 'a {
    Shuffled {
        among,
        stream,
        next: 0,
        copy: 0,
        swapped: HashMap::new(),
    }
}

/// A Fisher-Yates shuffle that keeps only the places that were swapped.
struct Shuffled<'a> {
    among: &'a [usize],
    stream: Stream,
    next: usize,
    copy: usize,
    swapped: HashMap<usize, usize>,
}

impl Iterator for Shuffled<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.next == self.among.len() {
            self.next = 0;
            self.copy += 1;
            self.swapped.clear();
        }
        // There are no places left only if there are no cells.
        let place = Uniform::new(self.next, self.among.len())
            .ok()?
            .sample(&mut self.stream);
        let here = self.swapped.remove(&self.next).unwrap_or(self.next);
        let there = if place == self.next {
            here
        } else {
            self.swapped.insert(place, here).unwrap_or(place)
        };
        self.next += 1;
        Some(Row {
            cell: *self.among.get(there)?,
            copy: self.copy,
        })
    }
}

fn no_cells() -> Error {
    Error::InvalidSetting {
        name: "cells",
        value: "none".into(),
        reason: "draws need at least one cell to be drawn from".into(),
    }
}

impl Scvi {
    /// Expression at `n_draws` posterior draws of randomly drawn cells, `[draws, genes]`: what scvi-tools'
    /// `get_normalized_expression` gives for `n_samples_overall`.
    ///
    /// There each cell is decoded `n_draws / n_cells + 1` times, and rows are drawn from the result with replacement. Here
    /// the cells are drawn first, and only those are encoded and decoded, so that the cost does not depend on the number of
    /// cells. Each cell is drawn equally often, every time with a posterior draw of its own: the same distribution of a
    /// draw, and less noise in the mean of many. With importance weights draws are made with replacement; of more cells than
    /// draws, `n_draws` are chosen uniformly first.
    ///
    /// # Errors
    /// If the cells do not fit the model, there are none, or a batch, gene or cell is unknown; with importance weights also
    /// for more than one batch.
    pub fn expression_draws(
        &self,
        cells: &Cells<'_>,
        options: &DrawOptions,
    ) -> Result<ExpressionDraws> {
        self.fits(cells)?;
        let genes = options.genes.as_deref();
        let width = self.n_selected(genes)?;
        let codes = self.batch_codes(&options.transform_batch)?;
        let among = self.among(cells, options.among.as_deref())?;
        let rng = Rng::new(options.seed).child("draws");
        let drawn = match (&options.weights, codes.as_slice()) {
            (Weights::Importance(_), [_, _, ..]) => {
                return Err(Error::InvalidSetting {
                    name: "transform_batch",
                    value: options.transform_batch.join(", "),
                    reason: "importance weights are those of one batch".into(),
                });
            }
            (weights, codes) => {
                let code = codes.first().copied().flatten();
                self.draw_rows(cells, &among, options.n_draws, weights, code, &rng)?
            }
        };
        let plan = Plan::new(&drawn);
        let mut distinct = Array2::<f32>::zeros((plan.rows.len(), width));
        let at_once = decoded_at_once(self.registry.n_genes());
        for (b, &code) in codes.iter().enumerate() {
            let rng = rng.child(&format!("batch {b}"));
            let out = distinct.as_slice_mut().unwrap_or_default();
            let parts = out.chunks_mut((at_once * width).max(1)).collect();
            self.decode_drawn(
                cells,
                &plan.rows,
                code,
                &rng,
                at_once,
                parts,
                |_, decoded, to| {
                    let weight = 1.0 / codes.len() as f64;
                    Writer::new(options.library_size, genes, weight).write(decoded, b > 0, to)
                },
            )?;
        }
        let picks: Vec<usize> = plan.picks.iter().map(|&p| p as usize).collect();
        Ok(ExpressionDraws {
            values: distinct.select(ndarray::Axis(0), &picks),
            cells: drawn.iter().map(|r| r.cell).collect(),
        })
    }

    /// The cells to draw among, if they exist.
    fn among(&self, cells: &Cells<'_>, among: Option<&[usize]>) -> Result<Vec<usize>> {
        let len = cells.n_cells();
        let Some(among) = among else {
            return Ok((0..len).collect());
        };
        match among.iter().find(|&&c| c >= len) {
            Some(&index) => Err(sc_data::Error::OutOfRange {
                what: "cell",
                index,
                len,
            }
            .into()),
            None => Ok(among.to_vec()),
        }
    }

    /// Draws posterior draws of cells, with replacement.
    pub(crate) fn draw_rows(
        &self,
        cells: &Cells<'_>,
        among: &[usize],
        n_draws: usize,
        weights: &Weights,
        code: Option<u32>,
        rng: &Rng,
    ) -> Result<Vec<Row>> {
        if among.is_empty() {
            return Err(no_cells());
        }
        match weights {
            Weights::Uniform => Ok(shuffled_rows(among, rng.stream("rows"))
                .take(n_draws)
                .collect()),
            Weights::Importance(importance) => {
                self.importance_rows(cells, among, n_draws, importance, code, rng)
            }
        }
    }

    /// Encodes the cells of `rows` once each, decodes the rows as if all were of batch `code`, `at_once` at a time and on all
    /// threads, and calls `f` with room for numbers, each block and its part. The noise of a row depends on its cell, its copy and `rng` alone.
    pub(crate) fn decode_drawn<P: Send, T: Send>(
        &self,
        cells: &Cells<'_>,
        rows: &[Row],
        code: Option<u32>,
        rng: &Rng,
        at_once: usize,
        parts: Vec<P>,
        f: impl Fn(&mut Vec<f32>, &Decoded, P) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (distinct, at) = distinct_cells(rows);
        let Some(encoded) = self.encode_cells(cells, &distinct)? else {
            return Ok(Vec::new());
        };
        rows.par_chunks(at_once)
            .zip(at.par_chunks(at_once))
            .zip(parts)
            .map_init(Vec::new, |room, ((rows, at), part)| {
                let noise = self.noise_of(rows, &encoded, rng)?;
                let decoded = self.decode_rows(&encoded.select(at)?, &noise, code)?;
                f(room, &decoded, part)
            })
            .collect()
    }

    /// The noise of posterior draws of cells.
    pub(crate) fn noise_of(&self, rows: &[Row], encoded: &Encoded, rng: &Rng) -> Result<Noise> {
        let draw = |name: &str, width: usize| -> Result<Tensor> {
            let stream = rng.stream(name);
            let mut noise = vec![0f64; rows.len() * width];
            for (noise, row) in noise.chunks_mut(width.max(1)).zip(rows) {
                stream
                    .at(&[row.copy as u64, row.cell as u64])
                    .fill_normal(noise);
            }
            let noise = Tensor::from_vec(noise, (rows.len(), width), self.device())?;
            Ok(match self.dtype() {
                DType::F64 => noise,
                other => noise.to_dtype(other)?,
            })
        };
        Ok(Noise {
            z: Some(draw("z", self.config.n_latent)?),
            library: match &encoded.ql {
                Some(_) => Some(draw("library", 1)?),
                None => None,
            },
            z2: None,
        })
    }
}

/// The cells of rows, each once and sorted, and for each row which of them is its.
pub(crate) fn distinct_cells(rows: &[Row]) -> (Vec<usize>, Vec<u32>) {
    let mut cells: Vec<usize> = rows.iter().map(|row| row.cell).collect();
    cells.sort_unstable();
    cells.dedup();
    // Every cell is found: `cells` holds them all.
    let place = |row: &Row| cells.binary_search(&row.cell).unwrap_or_default() as u32;
    let at = rows.iter().map(place).collect();
    (cells, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_is_drawn_equally_often_in_random_order() {
        let among = [3, 5, 8, 9];
        let rng = Rng::new(0);
        let mut first = [0; 4];
        for seed in 0..4000 {
            let stream = rng.stream("test").at(&[seed]);
            let rows: Vec<Row> = shuffled_rows(&among, stream).take(10).collect();
            for (copy, pass) in rows.chunks(4).enumerate() {
                assert!(pass.iter().all(|r| r.copy == copy));
                let mut cells: Vec<usize> = pass.iter().map(|r| r.cell).collect();
                cells.sort_unstable();
                cells.dedup();
                assert_eq!(cells.len(), pass.len());
            }
            let last = rows[7].cell;
            first[among.iter().position(|c| *c == last).unwrap()] += 1;
        }
        // 1,000 expected, standard deviation 27.
        assert!(
            first.iter().all(|n: &i32| (n - 1000).abs() < 140),
            "{first:?}"
        );
        assert_eq!(shuffled_rows(&[], rng.stream("test")).next(), None);
    }

    #[test]
    fn a_few_of_many_cost_little() {
        let among: Vec<usize> = (0..1_000_000).collect();
        let mut rows: Vec<Row> = shuffled_rows(&among, Rng::new(0).stream("t"))
            .take(5000)
            .collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 5000);
        let mean = rows.iter().map(|r| r.cell as f64).sum::<f64>() / 5000.0;
        // Standard deviation 4,082.
        assert!((mean - 500_000.0).abs() < 20_000.0);
    }

    #[test]
    fn a_plan_holds_each_row_once_and_knows_where() {
        let row = |cell, copy| Row { cell, copy };
        let drawn = [row(7, 1), row(2, 0), row(7, 0), row(7, 1)];
        let plan = Plan::new(&drawn);
        assert_eq!(plan.rows, [row(2, 0), row(7, 0), row(7, 1)]);
        assert_eq!(plan.picks, [2, 0, 1, 2]);
        assert_eq!(distinct_cells(&plan.rows), (vec![2, 7], vec![0, 1, 1]));
    }
}
