use ndarray::ArrayView2;
use sc_neighbors::{Neighbors, knn, knn_query};

use super::statistics::benjamini_hochberg;
use crate::error::invalid;
use crate::{Error, Result};

/// Neighbours whose mean distance says whether a cell lies off the manifold.
pub const OUTLIER_NEIGHBORS: usize = 5;

/// Replaces the value of each cell by the mean over its neighbours (without itself), `rounds` times.
///
/// # Errors
/// [`Error::Shape`] unless `near` has each cell, and no others.
pub fn smooth(values: &[f64], near: &Neighbors, rounds: usize) -> Result<Vec<f64>> {
    let n = values.len();
    if near.n_points() != n || near.indices.iter().any(|&i| i as usize >= n) {
        return Err(Error::Shape {
            what: "the neighbours",
            found: vec![near.n_points(), near.k()],
            expected: format!("[{n}, k]: those of the same cells, among themselves"),
        });
    }
    let mut now = values.to_vec();
    for _ in 0..rounds {
        let mean = |row: ndarray::ArrayView1<'_, u32>| {
            let all = row.iter().filter_map(|&i| now.get(i as usize));
            all.sum::<f64>() / near.k().max(1) as f64
        };
        now = near.indices.rows().into_iter().map(mean).collect();
    }
    Ok(now)
}

/// Whether cells lie where observed cells do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outliers {
    /// The mean distance of each cell to its nearest observed cells.
    pub distance: Vec<f64>,
    /// The share of observed cells that are at least as far from their nearest ones, the cell itself counted among them.
    pub p: Vec<f64>,
    /// The same, adjusted (Benjamini and Hochberg).
    pub q: Vec<f64>,
}

impl Outliers {
    /// Which cells are outliers at this false discovery rate; 0.05 is usual.
    pub fn at(&self, rate: f64) -> Vec<bool> {
        self.q.iter().map(|q| *q <= rate).collect()
    }
}

/// Compares how far cells are from their `k` nearest observed cells with how far observed cells are from theirs: simulated
/// cells in a place where nothing was observed are where the model guesses.
///
/// # Errors
/// Those of the search, if `k` is 0 or there are too few observed cells, or coordinates don't fit.
pub fn manifold_outliers(
    observed: ArrayView2<'_, f32>,
    cells: ArrayView2<'_, f32>,
    k: usize,
) -> Result<Outliers> {
    if k == 0 || k >= observed.nrows() {
        return Err(invalid(
            "k",
            k,
            format!("1 to {}", observed.nrows().saturating_sub(1)),
        ));
    }
    let mut usual = means(&knn(observed, k)?);
    usual.sort_unstable_by(f64::total_cmp);
    let distance = means(&knn_query(observed, cells, k)?);
    let n = usual.len() as f64;
    let p = |d: &f64| {
        let as_far = usual.len() - usual.partition_point(|u| u < d);
        (1.0 + as_far as f64) / (1.0 + n)
    };
    let p: Vec<f64> = distance.iter().map(p).collect();
    Ok(Outliers {
        q: benjamini_hochberg(&p),
        distance,
        p,
    })
}

fn means(near: &Neighbors) -> Vec<f64> {
    let rows = near.distances.rows().into_iter();
    rows.map(|r| r.iter().map(|d| f64::from(*d)).sum::<f64>() / near.k().max(1) as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use sc_tensor::Rng;

    use super::*;

    #[test]
    fn smoothing_takes_the_mean_of_the_others() {
        let places = array![[0.0f32], [1.0], [2.1], [3.3]];
        let near = knn(places.view(), 2).unwrap();
        let once = smooth(&[0.0, 3.0, 6.0, 9.0], &near, 1).unwrap();
        assert_eq!(once, [4.5, 3.0, 6.0, 4.5]);
        assert_eq!(smooth(&[0.0, 3.0, 6.0, 9.0], &near, 0).unwrap()[0], 0.0);
        assert!(smooth(&[0.0], &near, 1).is_err());
    }

    #[test]
    fn cells_far_from_all_others_are_outliers() {
        let mut values = vec![0f32; 400 * 2];
        Rng::new(2).stream("cells").fill_normal(&mut values);
        let observed = Array2::from_shape_vec((400, 2), values).unwrap();
        let cells = array![[0.0f32, 0.1], [20.0, 0.0], [0.5, -0.5]];
        let found = manifold_outliers(observed.view(), cells.view(), OUTLIER_NEIGHBORS).unwrap();
        assert_eq!(found.at(0.05), [false, true, false]);
        assert!((found.p[1] - 1.0 / 401.0).abs() < 1e-12);
        assert!(manifold_outliers(observed.view(), cells.view(), 400).is_err());
        assert!(manifold_outliers(observed.view(), cells.view(), 0).is_err());
    }
}
