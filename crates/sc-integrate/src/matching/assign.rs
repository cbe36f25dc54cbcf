//! One partner for each cell.

use ndarray::ArrayView2;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use sc_data::Csr;

use super::both;
use crate::{Error, Result};

/// Cosines are solved for as whole numbers.
const UNITS: f64 = 1e12;

/// The assignment with the largest sum of cosines, in which each cell has at most one partner (Kuhn 1955, Munkres 1957): for each `x`
/// cell its `y` cell. Of sets of different sizes the surplus has none. Time grows with the cube of the number of cells: match
/// batch by batch where batches are known.
///
/// # Errors
/// As [`shared_neighbours`](super::shared_neighbours); [`Error::InvalidSetting`] if a coordinate is not finite.
pub fn bipartite(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<Vec<Option<u32>>> {
    let (x, y) = both(x, y)?;
    let cosines = x.mapv(f64::from).dot(&y.mapv(f64::from).t());
    if let Some(((i, _), v)) = cosines.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::InvalidSetting {
            name: "embedding",
            value: v.to_string(),
            reason: format!("every coordinate must be finite; look at row {i}"),
        });
    }
    let (n, m) = cosines.dim();
    // The solver wants no more rows than columns.
    let wide = n <= m;
    let at = |r: usize, c: usize| match wide {
        true => cosines[[r, c]],
        false => cosines[[c, r]],
    };
    let (rows, columns) = (n.min(m), n.max(m));
    let weights = Matrix::from_fn(rows, columns, |(r, c)| (at(r, c) * UNITS).round() as i64);
    let (_, partners) = kuhn_munkres(&weights);
    let mut out = vec![None; n];
    for (r, c) in partners.into_iter().enumerate() {
        let (i, j) = if wide { (r, c) } else { (c, r) };
        if let Some(slot) = out.get_mut(i) {
            *slot = Some(j as u32);
        }
    }
    Ok(out)
}

/// An assignment as a matching.
///
/// # Errors
/// [`sc_data::Error::InvalidCsr`] if a partner does not exist.
pub fn as_matching(partners: &[Option<u32>], n_columns: usize) -> Result<Csr> {
    let rows = partners
        .iter()
        .map(|p| p.iter().map(|&j| (j, 1.0)).collect());
    super::normalized(rows.collect(), n_columns)
}
