mod binning;
mod cells;
mod hidden;
mod steps;

use ndarray::Array2;
use sc_tensor::Rng;

use super::*;
use crate::vocab::{GeneCase, GeneVocab, SPECIALS};

fn vocab(n: usize) -> GeneVocab {
    GeneVocab::new(
        (0..n)
            .map(|i| format!("g{i}"))
            .chain(SPECIALS.map(str::to_owned)),
    )
    .unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("g{i}")).collect()
}

fn tokenizer(n: usize, options: TokenizerOptions) -> Tokenizer {
    let vocab = vocab(n);
    let genes = vocab.match_genes(&names(n), GeneCase::Exact).unwrap();
    Tokenizer::new(&vocab, &genes, options).unwrap()
}

/// Counts like those of a cell: most are zero, most others are small.
fn counts(cells: usize, genes: usize, seed: u64) -> Array2<f32> {
    let mut u = vec![0f64; cells * genes];
    Rng::new(seed)
        .stream("counts")
        .fill_uniform(0.0, 1.0, &mut u);
    let of = |u: f64| {
        if u < 0.6 {
            0.0
        } else {
            (1.0 / (1.001 - u)).ln().floor() as f32
        }
    };
    Array2::from_shape_vec((cells, genes), u.into_iter().map(of).collect()).unwrap()
}

fn same(a: &TokenBatch, b: &TokenBatch) {
    assert_eq!((&a.cells, &a.ids, &a.values), (&b.cells, &b.ids, &b.values));
    assert_eq!(
        a.segments.iter().collect::<Vec<_>>(),
        b.segments.iter().collect::<Vec<_>>()
    );
}

/// The tokens of one cell.
fn of_cell(batch: &TokenBatch, cell: usize) -> (Vec<u32>, Vec<f32>) {
    let at = batch.cells.iter().position(|&c| c == cell).unwrap();
    let s = batch.segments.iter().nth(at).unwrap();
    let rows = s.start..s.start + s.rows;
    (
        batch.ids[rows.clone()].to_vec(),
        batch.values[rows].to_vec(),
    )
}
