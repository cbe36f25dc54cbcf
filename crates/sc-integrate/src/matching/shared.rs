//! Shared nearest neighbours: the matching of the competition's winner.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use sc_data::Csr;
use sc_neighbors::knn;

use super::{both, nearest, normalized};
use crate::{Error, Result};

/// Matches by shared nearest neighbours. Of `x` and `y` cells, let `J` be the number of `y` cells among the `k` nearest of both,
/// plus the number of `x` cells among the `k` nearest of both, where a cell is one of the nearest of its own side. The weight is
/// `J / (4 k - J)`. With `k` = 1, as the winner had it, a nearest neighbour in one direction weighs 1/3, a mutual one 1.
///
/// # Errors
/// [`Error::InvalidSetting`] if `k` is 0, [`Error::NoCells`] if a side is empty, [`sc_data::Error::LengthMismatch`] if the
/// dimensions differ, [`sc_neighbors::Error`] if a coordinate is not finite.
pub fn shared_neighbours(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, k: usize) -> Result<Csr> {
    ensemble_shared_neighbours(&[(x, y)], k)
}

/// The same from several models' embeddings of the same cells: intersections and unions are summed over models.
///
/// # Errors
/// As [`shared_neighbours`]; [`sc_data::Error::LengthMismatch`] unless all models have the same cells.
pub fn ensemble_shared_neighbours(
    models: &[(ArrayView2<'_, f32>, ArrayView2<'_, f32>)],
    k: usize,
) -> Result<Csr> {
    let Some((x0, y0)) = models.first() else {
        return Err(Error::NoCells {
            what: "the ensemble".into(),
            reason: "give at least one pair of embeddings".into(),
        });
    };
    let (n, m) = (x0.nrows(), y0.nrows());
    let mut lists = Vec::with_capacity(models.len());
    let mut all = 0;
    for (x, y) in models {
        for (what, found, expected) in [("first", x.nrows(), n), ("second", y.nrows(), m)] {
            if found != expected {
                return Err(sc_data::Error::LengthMismatch {
                    what: format!("the {what} embedding of a model"),
                    found,
                    expected,
                }
                .into());
            }
        }
        let (x, y) = both(*x, *y)?;
        all += 2 * (k.min(n) + k.min(m));
        lists.push(Lists::new(&x, &y, k)?);
    }
    let rows = (0..n)
        .into_par_iter()
        .map_init(
            || vec![0u32; m],
            |shared, i| {
                let mut touched = Vec::new();
                for l in &lists {
                    l.count(i, shared, &mut touched);
                }
                let weigh = |j: u32| {
                    let common = f64::from(std::mem::take(&mut shared[j as usize]));
                    (j, common / (all as f64 - common))
                };
                touched.into_iter().map(weigh).collect()
            },
        )
        .collect();
    normalized(rows, m)
}

/// Who is near whom.
struct Lists {
    /// Of each x cell, the nearest y cells.
    y_of_x: Array2<u32>,
    /// Of each y cell, the y cells that have it among their nearest.
    has_y: Vec<Vec<u32>>,
    /// Of each x cell, its nearest x cells, itself first.
    x_of_x: Array2<u32>,
    /// Of each x cell, the y cells that have it among their nearest.
    has_x: Vec<Vec<u32>>,
}

impl Lists {
    fn new(x: &Array2<f32>, y: &Array2<f32>, k: usize) -> Result<Self> {
        let x_of_y = nearest(x, y, k)?.indices;
        Ok(Self {
            y_of_x: nearest(y, x, k)?.indices,
            has_y: reversed(&with_self(y, k)?, y.nrows()),
            x_of_x: with_self(x, k)?,
            has_x: reversed(&x_of_y, x.nrows()),
        })
    }

    /// Adds for an x cell what each y cell shares with it.
    fn count(&self, i: usize, shared: &mut [u32], touched: &mut Vec<u32>) {
        let by_y = self
            .y_of_x
            .row(i)
            .into_iter()
            .map(|&j| &self.has_y[j as usize]);
        let by_x = self
            .x_of_x
            .row(i)
            .into_iter()
            .map(|&j| &self.has_x[j as usize]);
        for &j in by_y.chain(by_x).flatten() {
            let count = &mut shared[j as usize];
            if *count == 0 {
                touched.push(j);
            }
            *count += 1;
        }
    }
}

/// The `k` nearest of each point among its own kind, itself first.
fn with_self(points: &Array2<f32>, k: usize) -> Result<Array2<u32>> {
    let n = points.nrows();
    let k = k.min(n);
    if k <= 1 {
        return Ok(Array2::from_shape_fn((n, k), |(i, _)| i as u32));
    }
    let near = knn(points.view(), k - 1)?.indices;
    Ok(Array2::from_shape_fn((n, k), |(i, c)| match c {
        0 => i as u32,
        _ => near[[i, c - 1]],
    }))
}

/// For each of `n` points the rows that hold it.
fn reversed(lists: &Array2<u32>, n: usize) -> Vec<Vec<u32>> {
    let mut out = vec![Vec::new(); n];
    for (i, list) in lists.outer_iter().enumerate() {
        for &j in list {
            out[j as usize].push(i as u32);
        }
    }
    out
}
