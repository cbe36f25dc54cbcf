use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::Serialize;

use crate::{Error, Result};

/// Rows of a block of similarities.
const BLOCK: usize = 256;

/// Two genes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Edge {
    /// The row of one of them.
    pub a: u32,
    /// The row of the other, larger.
    pub b: u32,
    /// The cosine of the angle between their vectors.
    pub weight: f32,
}

/// Which edges [`cosine_edges`] keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeOptions {
    /// At least this similarity. 0.5 in scGPT's helper for whole networks, 0.4 in its pictures of programs.
    pub min: f32,
    /// Less than this similarity. scGPT drops pairs from 0.99 on, to be rid of genes paired with themselves, which never
    /// occur here.
    pub below: f32,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            min: 0.5,
            below: f32::INFINITY,
        }
    }
}

/// Pairs of genes whose vectors, rows of `[genes, dimensions]`, point the same way; by row, each pair once.
///
/// Time is quadratic in the number of genes, memory linear in that of edges.
///
/// # Errors
/// [`Error::Neighbors`] if a coordinate is not finite.
pub fn cosine_edges(vectors: ArrayView2<'_, f32>, options: EdgeOptions) -> Result<Vec<Edge>> {
    let unit = unit_rows(vectors)?;
    let n = unit.nrows();
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let of_block = |&start: &usize| {
        let rows = unit.slice_axis(Axis(0), (start..(start + BLOCK).min(n)).into());
        let later = unit.slice_axis(Axis(0), (start..n).into());
        let similar = rows.dot(&later.t());
        let mut edges = Vec::new();
        for (i, row) in similar.rows().into_iter().enumerate() {
            for (j, &weight) in row.iter().enumerate().skip(i + 1) {
                if weight >= options.min && weight < options.below {
                    edges.push(Edge {
                        a: (start + i) as u32,
                        b: (start + j) as u32,
                        weight,
                    });
                }
            }
        }
        edges
    };
    let found: Vec<Vec<Edge>> = starts.par_iter().map(of_block).collect();
    Ok(found.concat())
}

/// The `n` genes most like that of row `gene`, most alike first, with their similarity.
///
/// # Errors
/// As [`cosine_edges`]; [`Error::Data`] if there is no such row.
pub fn neighbours_of(
    vectors: ArrayView2<'_, f32>,
    gene: usize,
    n: usize,
) -> Result<Vec<(usize, f32)>> {
    if gene >= vectors.nrows() {
        return Err(sc_data::Error::OutOfRange {
            what: "gene",
            index: gene,
            len: vectors.nrows(),
        }
        .into());
    }
    let unit = unit_rows(vectors)?;
    let similar = unit.dot(&unit.row(gene));
    let others = similar
        .iter()
        .copied()
        .enumerate()
        .filter(|(g, _)| *g != gene);
    let mut others: Vec<(usize, f32)> = others.collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    others.truncate(n);
    Ok(others)
}

/// Rows scaled to length 1; rows of zeros stay.
fn unit_rows(vectors: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
    if let Some(((row, column), &value)) = vectors.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::Neighbors(sc_neighbors::Error::InvalidCoordinate {
            row,
            column,
            value,
        }));
    }
    let mut unit = vectors.to_owned();
    for mut row in unit.axis_iter_mut(Axis(0)) {
        let square: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        if square > 0.0 {
            let factor = 1.0 / square.sqrt();
            row.mapv_inplace(|v| (f64::from(v) * factor) as f32);
        }
    }
    Ok(unit)
}
