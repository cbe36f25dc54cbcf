//! Generated counts of held-out cells.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};
use sc_data::{Csr, RowSource};
use sc_model::Mode;
use sc_tensor::{DType, Rng, Tensor};
use sc_transformer::scgpt::{GenerateOptions, ScGpt};
use sc_transformer::tokens::{Edges, TokenBatch};

use crate::Result;
use crate::bins::{ask, counts_of, fill};

/// Bins of a cell, zero included.
const N_BINS: usize = 51;

/// Held-out cells: their counts and all of their tokens.
pub(crate) struct HeldOut<'a> {
    pub(crate) model: &'a ScGpt,
    pub(crate) counts: ArrayView2<'a, f32>,
    pub(crate) tokens: &'a TokenBatch,
    pub(crate) seed: u64,
}

type Tables = Vec<Box<dyn RowSource>>;

impl HeldOut<'_> {
    /// Which half of the genes of a cell one belongs to.
    fn half(&self, cell: usize) -> impl Fn(u32) -> bool + use<> {
        let n = self.counts.ncols();
        let order = Rng::new(self.seed)
            .stream("half")
            .at(&[cell as u64])
            .permutation(n);
        let mut first = vec![false; n];
        order.into_iter().take(n / 2).for_each(|g| first[g] = true);
        move |gene| first.get(gene as usize).copied().unwrap_or(false)
    }

    fn halves(&self) -> Vec<impl Fn(u32) -> bool + use<>> {
        (0..self.counts.nrows()).map(|c| self.half(c)).collect()
    }

    /// Each half of a cell's genes, generated from the other half. Bins become counts by the counts of the half that is known.
    pub(crate) fn by_genes(&self, n_samples: usize, rounds: usize) -> Result<Tables> {
        let halves = self.halves();
        let mut all: Vec<Array2<f32>> = vec![Array2::zeros(self.counts.dim()); n_samples];
        for first in [true, false] {
            let known = |cell: usize, gene: u32| halves[cell](gene) == first;
            let asked = ask(self.tokens, known)?;
            let edges = self.edges(known);
            for (k, table) in all.iter_mut().enumerate() {
                let bins = self.generate(&asked, None, k, rounds)?;
                let counts = to_counts(&asked, &bins, &edges);
                fill(table, &asked, &counts);
            }
        }
        Ok(boxed(all))
    }

    /// All genes, generated from the cells' vectors. Bins become counts by all counts of the cell.
    pub(crate) fn by_cells(&self, n_samples: usize, rounds: usize) -> Result<Tables> {
        let prompt = self.model.cell_vectors(self.tokens)?;
        let asked = ask(self.tokens, |_, _| false)?;
        let edges = self.edges(|_, _| true);
        let mut all = Vec::with_capacity(n_samples);
        for k in 0..n_samples {
            let bins = self.generate(&asked, Some(&prompt), k, rounds)?;
            let counts = to_counts(&asked, &bins, &edges);
            let mut table = Array2::zeros(self.counts.dim());
            fill(&mut table, &asked, &counts);
            all.push(table);
        }
        Ok(boxed(all))
    }

    fn generate(
        &self,
        asked: &TokenBatch,
        prompt: Option<&Tensor>,
        sample: usize,
        rounds: usize,
    ) -> Result<Vec<f32>> {
        let mut options = GenerateOptions::default();
        options.rounds = rounds;
        options.sample_zeros = true;
        options.seed = self.seed * 1000 + sample as u64;
        Ok(self.model.generate(asked, prompt, &options)?.values)
    }

    fn edges(&self, known: impl Fn(usize, u32) -> bool) -> Vec<Edges> {
        let cells = self.counts.rows().into_iter().enumerate();
        let of = |(cell, row): (usize, ndarray::ArrayView1<'_, f32>)| {
            let genes = row.iter().zip(0u32..);
            let there = genes.filter(|(v, g)| **v != 0.0 && known(cell, *g));
            Edges::of(&there.map(|(v, _)| *v).collect::<Vec<f32>>(), N_BINS)
        };
        cells.map(of).collect()
    }

    /// Squared errors of predicted bins, a mean over genes that were not known, from the other half of the genes and from the
    /// cell's vector; the same of the mean bin of each gene over training cells, `means`, and over those of the cell's type.
    pub(crate) fn errors(
        &self,
        means: &[f64],
        by_type: &[Vec<f64>],
    ) -> Result<BTreeMap<&'static str, f64>> {
        let halves = self.halves();
        let mode = Mode::eval();
        let half = ask(self.tokens, |cell, gene| halves[cell](gene))?;
        let none = ask(self.tokens, |_, _| false)?;
        let prompt = self.model.cell_vectors(self.tokens)?;
        let made = |asked: &TokenBatch, prompt: Option<&Tensor>| -> Result<Vec<f32>> {
            let e = self.model.encode_generative(asked, prompt, &mode)?;
            let value = self.model.decode(&e, &mode)?.value;
            Ok(value.to_dtype(DType::F32)?.to_vec1()?)
        };
        let (from_genes, from_cells) = (made(&half, None)?, made(&none, Some(&prompt))?);
        let gene = |asked: &TokenBatch, row: usize| asked.ids[row] as usize;
        let plain = |_: usize, row: usize| means.get(gene(&half, row)).copied().unwrap_or(0.0);
        let typed = |cell: usize, row: usize| {
            let of = by_type.get(cell).and_then(|m| m.get(gene(&half, row)));
            of.copied().unwrap_or(0.0)
        };
        Ok(BTreeMap::from([
            (
                "scGPT, other half of the genes",
                error(&half, |_, row| f64::from(from_genes[row])),
            ),
            (
                "scGPT, vector of the cell",
                error(&none, |_, row| f64::from(from_cells[row])),
            ),
            ("mean of the gene", error(&half, plain)),
            ("mean of the gene in the cell's type", error(&half, typed)),
        ]))
    }
}

/// The mean squared error of unknown genes.
fn error(asked: &TokenBatch, predicted: impl Fn(usize, usize) -> f64) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for (cell, s) in asked.segments.iter().enumerate() {
        for row in s.start + s.keys..s.start + s.rows {
            sum += (predicted(cell, row) - f64::from(asked.targets[row])).powi(2);
            n += 1.0;
        }
    }
    sum / n
}

fn to_counts(asked: &TokenBatch, bins: &[f32], edges: &[Edges]) -> Vec<f32> {
    let mut counts = vec![0.0; bins.len()];
    for (s, edges) in asked.segments.iter().zip(edges) {
        for row in s.start + s.keys..s.start + s.rows {
            counts[row] = counts_of(bins[row], edges);
        }
    }
    counts
}

fn boxed(tables: Vec<Array2<f32>>) -> Tables {
    let sparse = tables.iter().map(Csr::from_dense);
    sparse.map(|t| Box::new(t) as Box<dyn RowSource>).collect()
}

/// Genes drawn each for itself from training cells: what a gene does is right, what a cell is, is not.
pub(crate) fn independent(
    train: ArrayView2<'_, f32>,
    n_cells: usize,
    n_samples: usize,
    seed: u64,
) -> Tables {
    let n = train.nrows();
    let table = |k: usize| {
        let mut draws = vec![0f64; n_cells * train.ncols()];
        let stream = Rng::new(seed).stream("independent");
        stream.at(&[k as u64]).fill_uniform(0.0, 1.0, &mut draws);
        let cell = |u: f64| ((u * n as f64) as usize).min(n.saturating_sub(1));
        Array2::from_shape_fn((n_cells, train.ncols()), |(c, g)| {
            train[(cell(draws[c * train.ncols() + g]), g)]
        })
    };
    boxed((0..n_samples).map(table).collect())
}
