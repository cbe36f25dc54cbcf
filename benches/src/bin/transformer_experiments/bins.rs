//! Cells as bins, of which a model is told some.

use ndarray::Array2;
use sc_tensor::ops::Segments;
use sc_transformer::tokens::{Edges, TokenBatch};

use crate::Result;

/// The value of a gene that is to be generated.
const MASK: f32 = -1.0;

/// The same cells with `known` genes first, and the others behind the keys, to be generated. Cells begin with `<cls>`.
pub(crate) fn ask(whole: &TokenBatch, known: impl Fn(usize, u32) -> bool) -> Result<TokenBatch> {
    let mut order = Vec::with_capacity(whole.n_tokens());
    let mut lengths = Vec::with_capacity(whole.n_cells());
    for (cell, s) in whole.segments.iter().enumerate() {
        let is_known = |row: usize| row == s.start || known(cell, whole.ids[row]);
        let (first, rest): (Vec<usize>, Vec<usize>) =
            (s.start..s.start + s.rows).partition(|&row| is_known(row));
        lengths.push((s.rows, first.len()));
        order.extend(first);
        order.extend(rest);
    }
    let segments = Segments::with_keys(lengths)?;
    let pick = |v: &[f32]| -> Vec<f32> { order.iter().map(|&row| v[row]).collect() };
    let (mut values, mut scored) = (pick(&whole.values), vec![false; order.len()]);
    for s in segments.iter() {
        values[s.start + s.keys..s.start + s.rows].fill(MASK);
        scored[s.start + s.keys..s.start + s.rows].fill(true);
    }
    Ok(TokenBatch {
        cells: whole.cells.clone(),
        ids: order.iter().map(|&row| whole.ids[row]).collect(),
        targets: pick(&whole.targets),
        values,
        scored,
        modality: None,
        flags: None,
        has_cls: true,
        segments,
    })
}

/// Puts the values of generated genes, whose tokens are their columns, into cells x genes.
pub(crate) fn fill(into: &mut Array2<f32>, asked: &TokenBatch, values: &[f32]) {
    for (cell, s) in asked.segments.iter().enumerate() {
        for row in s.start + s.keys..s.start + s.rows {
            into[(cell, asked.ids[row] as usize)] = values[row];
        }
    }
}

/// Counts of bins: bin `b` holds what lies between two of the quantiles of a cell's counts, and their mean is taken.
pub(crate) fn counts_of(bin: f32, edges: &Edges) -> f32 {
    let (edges, b) = (edges.as_slice(), bin.round() as usize);
    if b == 0 {
        return 0.0;
    }
    let last = edges.len().saturating_sub(1);
    let at = |i: usize| edges.get(i.min(last)).copied().unwrap_or(1.0);
    ((at(b - 1) + at(b)) / 2.0).round().max(1.0) as f32
}
