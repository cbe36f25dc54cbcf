use rayon::prelude::*;
use sc_data::Csr;

use crate::{Error, Neighbors, Result};

/// Halvings of the search for a bandwidth.
const STEPS: usize = 64;
/// When the sum of the weights is this close to its target the bandwidth is found.
const TOLERANCE: f64 = 1e-5;
/// Bandwidths are at least this share of the mean distance.
const MIN_SCALE: f64 = 1e-3;

/// The weighted neighbour graph of UMAP (McInnes, Healy and Melville, arXiv:1802.03426, section 3.1), `[n, n]`,
/// symmetric, weights in 0..=1: what clustering and embedding work on.
///
/// For a point with distances `d_1 <= ... <= d_k`, `rho` is the smallest that is not 0 and `sigma` solves
/// `sum_j exp(-max(0, d_j - rho) / sigma) = log2(k + 1)`; the terms are the weights `w_ij`. The two directions are joined
/// to `w_ij + w_ji - w_ij w_ji`.
///
/// A point does not count among its own neighbours here, but does in scanpy and umap-learn: their `n_neighbors=15`
/// is `k = 14`, and gives the same graph.
///
/// # Errors
/// [`Error::LengthMismatch`] if indices and distances differ in shape, [`Error::InvalidGraph`] if a neighbour does not
/// exist or a distance is negative or not finite.
pub fn connectivities(neighbors: &Neighbors) -> Result<Csr> {
    check(neighbors)?;
    let (n, k) = (neighbors.n_points(), neighbors.k());
    let all: f64 = neighbors.distances.iter().map(|&d| f64::from(d)).sum();
    // Over k + 1 distances, as the point itself is one at distance 0.
    let mean = all / (n * (k + 1)).max(1) as f64;
    let weights: Vec<f32> = (0..n)
        .into_par_iter()
        .flat_map_iter(|i| {
            let d: Vec<f64> = neighbors
                .distances
                .row(i)
                .iter()
                .map(|&d| f64::from(d))
                .collect();
            let (rho, sigma) = smooth(&d, mean);
            d.into_iter().map(move |d| weight(d, rho, sigma) as f32)
        })
        .collect();
    let directed = Csr::new(
        n,
        n,
        (0..=n).map(|i| i * k).collect(),
        neighbors.indices.iter().copied().collect(),
        weights,
    )?;
    join(&directed)
}

fn check(neighbors: &Neighbors) -> Result<()> {
    if neighbors.indices.dim() != neighbors.distances.dim() {
        return Err(Error::LengthMismatch {
            what: "the distances",
            found: neighbors.distances.len(),
            expected: neighbors.indices.len(),
        });
    }
    let n = neighbors.n_points();
    if let Some(j) = neighbors.indices.iter().find(|&&j| j as usize >= n) {
        return Err(Error::InvalidGraph {
            reason: format!("has a neighbour {j} among {n} points"),
        });
    }
    match neighbors
        .distances
        .iter()
        .find(|&&d| !(d.is_finite() && d >= 0.0))
    {
        Some(d) => Err(Error::InvalidGraph {
            reason: format!("has a distance {d}"),
        }),
        None => Ok(()),
    }
}

/// The weight of a neighbour at distance `d`.
fn weight(d: f64, rho: f64, sigma: f64) -> f64 {
    if d <= rho || sigma == 0.0 {
        1.0
    } else {
        (-(d - rho) / sigma).exp()
    }
}

/// `rho` and `sigma` of one point; `mean` is the mean distance over all points.
fn smooth(d: &[f64], mean: f64) -> (f64, f64) {
    let rho = d.iter().copied().find(|&d| d > 0.0).unwrap_or(0.0);
    let target = ((d.len() + 1) as f64).log2();
    let (mut low, mut high, mut sigma) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..STEPS {
        let sum: f64 = d.iter().map(|&d| weight(d, rho, sigma)).sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = sigma;
            sigma = f64::midpoint(low, high);
        } else {
            low = sigma;
            sigma = if high.is_finite() {
                f64::midpoint(low, high)
            } else {
                sigma * 2.0
            };
        }
    }
    let scale = if rho > 0.0 {
        d.iter().sum::<f64>() / (d.len() + 1) as f64
    } else {
        mean
    };
    (rho, sigma.max(MIN_SCALE * scale))
}

/// `w + w^T - w * w^T` by elements; zeros are left out.
fn join(directed: &Csr) -> Result<Csr> {
    let n = directed.n_rows();
    let reverse = directed.transpose();
    let mut indptr = vec![0];
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for i in 0..n {
        let ((ca, va), (cb, vb)) = (directed.row(i), reverse.row(i));
        let (mut a, mut b) = (0, 0);
        while a < ca.len() || b < cb.len() {
            let (j, x, y) = match (ca.get(a), cb.get(b)) {
                (Some(&p), Some(&q)) if p == q => (p, va[a], vb[b]),
                (Some(&p), q) if q.is_none_or(|&q| p < q) => (p, va[a], 0.0),
                (_, Some(&q)) => (q, 0.0, vb[b]),
                _ => break,
            };
            a += usize::from(ca.get(a) == Some(&j));
            b += usize::from(cb.get(b) == Some(&j));
            let w = (f64::from(x) + f64::from(y) - f64::from(x) * f64::from(y)) as f32;
            if w > 0.0 {
                indices.push(j);
                data.push(w);
            }
        }
        indptr.push(indices.len());
    }
    Ok(Csr::new(n, n, indptr, indices, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn;
    use crate::testing::{blobs, lattice, with_threads};
    use ndarray::array;

    /// Reference: umap-learn 0.5.12, `fuzzy_simplicial_set(n_neighbors=6)` with the exact neighbours.
    #[test]
    fn agrees_with_umap_learn() {
        let g = connectivities(&knn(lattice().view(), 5).unwrap()).unwrap();
        assert_eq!(g.n_stored(), 72);
        let expected: [(usize, &[u32], &[f32]); 3] = [
            (
                0,
                &[1, 3, 6, 9, 11],
                &[0.134_539_23, 0.937_876_9, 0.190_823_36, 1.0, 0.634_981_4],
            ),
            (
                5,
                &[1, 7, 8, 9, 10],
                &[0.460_193_43, 1.0, 0.854_964_4, 0.289_579_6, 0.500_041_9],
            ),
            (
                11,
                &[0, 1, 3, 7, 9, 10],
                &[
                    0.634_981_4,
                    0.893_311_14,
                    1.0,
                    0.524_429_6,
                    0.292_493_9,
                    0.138_213_4,
                ],
            ),
        ];
        for (row, columns, weights) in expected {
            let (c, v) = g.row(row);
            assert_eq!(c, columns);
            for (a, b) in v.iter().zip(weights) {
                assert!((a - b).abs() < 2e-5, "{row}: {a} {b}");
            }
        }
    }

    #[test]
    fn symmetric_and_the_same_on_any_number_of_threads() {
        let (x, _) = blobs(400, 3, 5);
        let n = knn(x.view(), 14).unwrap();
        let run = |threads| with_threads(threads, || connectivities(&n).unwrap());
        let g = run(1);
        assert_eq!(g, run(3));
        assert_eq!(g, g.transpose());
        assert!(g.data().iter().all(|&w| w > 0.0 && w <= 1.0));
    }

    #[test]
    fn coinciding_points_have_weight_one() {
        let x = array![[0.0f32], [0.0], [0.0], [5.0]];
        let g = connectivities(&knn(x.view(), 2).unwrap()).unwrap();
        assert_eq!(g.row(0).1[..2], [1.0, 1.0]);
    }

    #[test]
    fn bad_neighbours_are_refused() {
        let good = knn(lattice().view(), 2).unwrap();
        let mut bad = good.clone();
        bad.indices[[0, 0]] = 99;
        assert!(connectivities(&bad).is_err());
        let mut bad = good.clone();
        bad.distances[[0, 0]] = f32::NAN;
        assert!(connectivities(&bad).is_err());
    }
}
