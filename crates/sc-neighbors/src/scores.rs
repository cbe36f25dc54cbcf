//! How well an embedding keeps kinds of cells apart and mixes batches.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::{Error, GroupedPoints, Neighbors, Result};

/// When the entropy of the weights is this close to its target the bandwidth is found; as scIB does it, whose
/// numbers are not those of the exact solution.
const ENTROPY_TOLERANCE: f64 = 1e-5;
/// Steps of that search.
const ENTROPY_STEPS: usize = 50;

/// The silhouette width of each point (Rousseeuw 1987), -1..=1: `(b - a) / max(a, b)`, where `a` is its mean Euclidean
/// distance to the other points with its label and `b` the smallest mean distance to the points with another one. 0 for
/// a point that is alone with its label.
///
/// Exact, in time quadratic in the number of points and memory linear.
///
/// # Errors
/// [`Error::LengthMismatch`] unless there is a label for each point, [`Error::InvalidParameter`] with fewer than two
/// labels, [`Error::InvalidCoordinate`] if a coordinate is not finite.
pub fn silhouette_samples(points: ArrayView2<'_, f32>, labels: &[u32]) -> Result<Vec<f64>> {
    same_length(labels.len(), points.nrows())?;
    let (codes, n_labels) = consecutive(labels);
    if n_labels < 2 {
        return Err(Error::InvalidParameter {
            name: "the number of different labels",
            found: n_labels.to_string(),
            expected: "at least 2".into(),
        });
    }
    let grouped = GroupedPoints::new(points, &codes)?;
    grouped.distance_sums(points, |i, sums| {
        width(sums, codes[i] as usize, grouped.sizes())
    })
}

/// The mean of [`silhouette_samples`]: near 1 if labels form tight separate groups, near 0 if they overlap.
///
/// # Errors
/// As [`silhouette_samples`].
pub fn silhouette(points: ArrayView2<'_, f32>, labels: &[u32]) -> Result<f64> {
    let widths = silhouette_samples(points, labels)?;
    Ok(widths.iter().sum::<f64>() / widths.len() as f64)
}

/// The silhouette width from the sums of distances to each label.
fn width(sums: &[f64], own: usize, sizes: &[usize]) -> f64 {
    if sizes[own] == 1 {
        return 0.0;
    }
    let a = sums[own] / (sizes[own] - 1) as f64;
    let others = (0..sizes.len()).filter(|&c| c != own);
    let b = others
        .map(|c| sums[c] / sizes[c] as f64)
        .fold(f64::INFINITY, f64::min);
    let larger = a.max(b);
    if larger > 0.0 { (b - a) / larger } else { 0.0 }
}

/// The local inverse Simpson's index of each point (Korsunsky et al., "Fast, sensitive and accurate integration of
/// single-cell data with Harmony", Nat Methods 2019): the effective number of different labels among its neighbours, from
/// 1 to the number of labels.
///
/// Neighbours weigh `p_ij ~ exp(-beta_i d_ij)`, with `beta_i` such that the entropy of `p_i` is `ln(perplexity)`; the
/// index is `1 / sum_label (sum_{j with label} p_ij)^2`. `None` for the perplexity takes a third of the neighbours, as
/// scIB does (30 for 90).
///
/// # Errors
/// [`Error::LengthMismatch`] unless there is a label for each point, [`Error::InvalidParameter`] unless
/// `1 <= perplexity <= k`, [`Error::InvalidGraph`] if a neighbour does not exist.
pub fn lisi(neighbors: &Neighbors, labels: &[u32], perplexity: Option<f64>) -> Result<Vec<f64>> {
    let mut all = lisi_all(neighbors, &[labels], perplexity)?;
    Ok(all.pop().unwrap_or_default())
}

/// [`lisi`] for several kinds of labels: the weights of the neighbours are found once.
///
/// # Errors
/// As [`lisi`].
pub fn lisi_all(
    neighbors: &Neighbors,
    labels: &[&[u32]],
    perplexity: Option<f64>,
) -> Result<Vec<Vec<f64>>> {
    let n = neighbors.n_points();
    for labels in labels {
        same_length(labels.len(), n)?;
    }
    same_length(neighbors.distances.len(), neighbors.indices.len())?;
    let k = neighbors.k();
    let perplexity = perplexity.unwrap_or((k as f64 / 3.0).floor().max(1.0));
    if !(perplexity >= 1.0 && perplexity <= k as f64) {
        return Err(Error::InvalidParameter {
            name: "perplexity",
            found: perplexity.to_string(),
            expected: format!("1 to {k}, the number of neighbours"),
        });
    }
    if let Some(j) = neighbors.indices.iter().find(|&&j| j as usize >= n) {
        return Err(Error::InvalidGraph {
            reason: format!("has a neighbour {j} among {n} points"),
        });
    }
    let kinds: Vec<(Vec<u32>, usize)> = labels.iter().map(|l| consecutive(l)).collect();
    let rows: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let p = neighbour_weights(neighbors.distances.row(i), perplexity.ln());
            let near = neighbors.indices.row(i);
            let index = |(codes, n_labels): &(Vec<u32>, usize)| {
                let mut shares = vec![0.0; *n_labels];
                for (&j, p) in near.iter().zip(&p) {
                    shares[codes[j as usize] as usize] += p;
                }
                1.0 / shares.iter().map(|s| s * s).sum::<f64>()
            };
            kinds.iter().map(index).collect()
        })
        .collect();
    Ok((0..labels.len())
        .map(|kind| rows.iter().map(|row| row[kind]).collect())
        .collect())
}

/// How well batches are mixed, 0..=1: `(median_i lisi_i - 1) / (n_batches - 1)` over [`lisi`] with the batch for label.
/// It is the iLISI of scIB (Luecken et al., "Benchmarking atlas-level data integration in single-cell genomics", Nat
/// Methods 2022), there with 90 neighbours. 0: every neighbourhood is of one batch; 1: every neighbourhood holds all
/// batches in equal shares.
///
/// # Errors
/// As [`lisi`], and [`Error::InvalidParameter`] with fewer than two batches.
pub fn ilisi(neighbors: &Neighbors, batches: &[u32], perplexity: Option<f64>) -> Result<f64> {
    let n_batches = consecutive(batches).1;
    if n_batches < 2 {
        return Err(Error::InvalidParameter {
            name: "the number of batches",
            found: n_batches.to_string(),
            expected: "at least 2".into(),
        });
    }
    let median = median(lisi(neighbors, batches, perplexity)?);
    Ok((median - 1.0) / (n_batches - 1) as f64)
}

/// Weights `exp(-beta d)`, normalised to sum 1, with the entropy given.
fn neighbour_weights(distances: ArrayView1<'_, f32>, entropy: f64) -> Vec<f64> {
    // Only differences of distances matter.
    let nearest = distances.iter().copied().fold(f32::INFINITY, f32::min);
    let d: Vec<f64> = distances.iter().map(|&d| f64::from(d - nearest)).collect();
    let (mut beta, mut low, mut high) = (1.0, 0.0, f64::INFINITY);
    let mut weights = vec![0.0; d.len()];
    for _ in 0..ENTROPY_STEPS {
        d.iter()
            .zip(&mut weights)
            .for_each(|(d, w)| *w = (-beta * d).exp());
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        let mean: f64 = weights.iter().zip(&d).map(|(w, d)| w * d).sum();
        let excess = total.ln() + beta * mean - entropy;
        if excess.abs() < ENTROPY_TOLERANCE {
            break;
        }
        if excess > 0.0 {
            low = beta;
            beta = if high.is_finite() {
                f64::midpoint(low, high)
            } else {
                beta * 2.0
            };
        } else {
            high = beta;
            beta = f64::midpoint(low, high);
        }
    }
    weights
}

/// The adjusted Rand index of two partitions of the same points (Hubert and Arabie 1985): 1 if they are the same but
/// for the names of the groups, about 0 if they have nothing in common.
///
/// With `n_ij` points in group `i` of `a` and group `j` of `b`, `S = sum_ij C(n_ij, 2)`, `A` and `B` likewise for the groups of
/// each, and `E = A B / C(n, 2)`: `(S - E) / ((A + B) / 2 - E)`.
///
/// # Errors
/// [`Error::LengthMismatch`] if the lengths differ.
pub fn adjusted_rand_index(a: &[u32], b: &[u32]) -> Result<f64> {
    same_length(b.len(), a.len())?;
    let mut cells: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let (mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new());
    for (&x, &y) in a.iter().zip(b) {
        *cells.entry((x, y)).or_default() += 1;
        *rows.entry(x).or_insert(0u64) += 1;
        *columns.entry(y).or_insert(0u64) += 1;
    }
    let pairs = |n: u64| n as f64 * (n as f64 - 1.0) / 2.0;
    let both: f64 = cells.values().map(|&n| pairs(n)).sum();
    let in_a: f64 = rows.values().map(|&n| pairs(n)).sum();
    let in_b: f64 = columns.values().map(|&n| pairs(n)).sum();
    let all = pairs(a.len() as u64);
    let expected = if all > 0.0 { in_a * in_b / all } else { 0.0 };
    let largest = f64::midpoint(in_a, in_b);
    // Both partitions are one group, or both are single points: they are the same.
    Ok(if largest == expected {
        1.0
    } else {
        (both - expected) / (largest - expected)
    })
}

fn same_length(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::LengthMismatch {
        what: "the labels",
        found,
        expected,
    })
}

/// Labels as numbers from 0 without gaps, and how many there are.
fn consecutive(labels: &[u32]) -> (Vec<u32>, usize) {
    let different: BTreeSet<u32> = labels.iter().copied().collect();
    let number: BTreeMap<u32, u32> = different.into_iter().zip(0..).collect();
    let codes = labels
        .iter()
        .filter_map(|l| number.get(l).copied())
        .collect();
    (codes, number.len())
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match (values.get(n / 2), values.get(n.saturating_sub(1) / 2)) {
        (Some(a), Some(b)) => f64::midpoint(*a, *b),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn;
    use crate::testing::{blobs, lattice, with_threads};
    use ndarray::Array2;

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn silhouette_agrees_with_scikit_learn() {
        let labels: Vec<u32> = (0..12).map(|i| i % 3).collect();
        let s = silhouette_samples(lattice().view(), &labels).unwrap();
        assert!((s[0] - 0.4963902235031128).abs() < 1e-6);
        assert!((s[4] + 0.26963135600090027).abs() < 1e-6);
        assert!((s[11] + 0.5101932287216187).abs() < 1e-6);
        let mean = silhouette(lattice().view(), &labels).unwrap();
        assert!((mean - 0.032038722187280655).abs() < 1e-6);
        assert!(silhouette(lattice().view(), &[0; 12]).is_err());
        assert!(silhouette(lattice().view(), &[0, 1]).is_err());
    }

    #[test]
    fn a_label_of_one_point_has_width_zero() {
        let x = ndarray::array![[0.0f32], [1.0], [10.0]];
        let s = silhouette_samples(x.view(), &[7, 7, 9]).unwrap();
        assert_eq!(s[2], 0.0);
        assert!((s[0] - 0.9).abs() < 1e-12 && (s[1] - 8.0 / 9.0).abs() < 1e-12);
    }

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn rand_index_agrees_with_scikit_learn() {
        let ari = adjusted_rand_index(&[0, 0, 1, 1, 2, 2, 2], &[0, 0, 1, 2, 2, 2, 1]).unwrap();
        assert!((ari - 0.2125).abs() < 1e-12);
        assert_eq!(adjusted_rand_index(&[5, 5, 1], &[0, 0, 9]).unwrap(), 1.0);
        assert_eq!(adjusted_rand_index(&[0, 0], &[1, 1]).unwrap(), 1.0);
        assert_eq!(adjusted_rand_index(&[], &[]).unwrap(), 1.0);
        assert!(adjusted_rand_index(&[0], &[]).is_err());
    }

    #[test]
    fn mixed_batches_score_high_and_separate_ones_low() {
        let (x, group) = blobs(600, 3, 4);
        let n = knn(x.view(), 60).unwrap();
        // Batches that have nothing to do with position, and batches that are the clouds.
        let mixed: Vec<u32> = (0..600).map(|i| (i / 3) % 2).collect();
        assert!(ilisi(&n, &mixed, None).unwrap() > 0.85);
        assert!(ilisi(&n, &group, None).unwrap() < 1e-6);
        assert!(ilisi(&n, &vec![1; 600], None).is_err());
        assert!(ilisi(&n, &mixed, Some(61.0)).is_err());
        let run = |threads| with_threads(threads, || lisi(&n, &mixed, None).unwrap());
        assert_eq!(run(1), run(3));
        let widths = |threads| with_threads(threads, || silhouette_samples(x.view(), &group));
        assert_eq!(widths(1).unwrap(), widths(3).unwrap());
    }

    /// Four neighbours at one distance weigh the same: shares 3/4 and 1/4.
    #[test]
    fn lisi_of_equal_distances() {
        let n = Neighbors {
            indices: ndarray::array![
                [1, 2, 3, 4],
                [0, 2, 3, 4],
                [0, 1, 3, 4],
                [0, 1, 2, 4],
                [0, 1, 2, 3]
            ],
            distances: Array2::from_elem((5, 4), 2.0),
        };
        let l = lisi(&n, &[0, 0, 0, 0, 1], Some(4.0)).unwrap();
        assert!((l[0] - 1.0 / (0.75f64.powi(2) + 0.25f64.powi(2))).abs() < 1e-12);
        assert!((l[4] - 1.0).abs() < 1e-12);
    }

    /// Reference: the equations in NumPy, the entropy solved for by SciPy's `brentq`.
    #[test]
    fn lisi_agrees_with_an_independent_solution() {
        let labels: Vec<u32> = (0..12).map(|i| i % 2).collect();
        let n = knn(lattice().view(), 9).unwrap();
        let l = lisi(&n, &labels, None).unwrap();
        for (i, e) in [
            (0, 1.0515749394709468),
            (3, 1.3118983969727689),
            (10, 1.7334936904832785),
        ] {
            assert!((l[i] - e).abs() < 1e-4, "{i}: {} {e}", l[i]);
        }
        let mixing = ilisi(&n, &labels, None).unwrap();
        assert!((mixing - 0.26220721772411903).abs() < 1e-4, "{mixing}");
    }
}
