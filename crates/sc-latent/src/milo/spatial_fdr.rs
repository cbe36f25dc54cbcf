//! Corrections for many tests.

use super::Neighbourhoods;
use super::ranks::ascending;
use crate::Result;

/// What neighbourhoods weigh in the spatial false discovery rate: those in dense places, which overlap with many others,
/// less. Each weight is 1 over the number named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Weighting {
    /// The distance from the index cell to its furthest nearest neighbour (the default of all implementations of Milo).
    #[default]
    KthDistance,
    /// The mean distance from the index cell to the members.
    MeanDistance,
    /// The largest distance from the index cell to a member.
    LargestDistance,
    /// The number of cells shared with other neighbourhoods; a neighbourhood that shares none weighs 1.
    Overlap,
    /// All weigh the same: the Benjamini-Hochberg procedure.
    None,
}

impl Weighting {
    /// The weight of each neighbourhood. `embedding` is `[cells, dimensions]`. `at_zero` is the weight of a neighbourhood
    /// whose distance is 0, as that of cells which all lie at one place: 0 in milopy and pertpy, 1 in miloR.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if the embedding has another number of cells.
    pub fn weights(
        self,
        neighbourhoods: &Neighbourhoods,
        embedding: ndarray::ArrayView2<'_, f32>,
        at_zero: f64,
    ) -> Result<Vec<f64>> {
        super::neighbourhoods::same_length(
            "the rows of the embedding",
            embedding.nrows(),
            neighbourhoods.n_cells(),
        )?;
        let inverse = |d: f64| if d > 0.0 { 1.0 / d } else { at_zero };
        let distances = |j: usize| {
            let index = embedding.row(neighbourhoods.index_cells()[j]);
            let members = neighbourhoods.members().row(j).0.iter();
            members.map(move |&c| {
                let other = embedding.row(c as usize);
                let square: f64 = index
                    .iter()
                    .zip(other)
                    .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                    .sum();
                square.sqrt()
            })
        };
        let each = 0..neighbourhoods.len();
        Ok(match self {
            Self::KthDistance => neighbourhoods
                .kth_distance()
                .iter()
                .map(|&d| inverse(d))
                .collect(),
            Self::MeanDistance => each
                .map(|j| {
                    let n = neighbourhoods.members().row(j).0.len().max(1) as f64;
                    inverse(distances(j).sum::<f64>() / n)
                })
                .collect(),
            Self::LargestDistance => each
                .map(|j| inverse(distances(j).fold(0.0, f64::max)))
                .collect(),
            Self::Overlap => {
                let shared = neighbourhoods.overlaps()?.row_sums();
                shared
                    .into_iter()
                    .map(|s| if s > 0.0 { 1.0 / s } else { 1.0 })
                    .collect()
            }
            Self::None => vec![1.0; neighbourhoods.len()],
        })
    }
}

/// P-values adjusted for many weighted tests (Benjamini and Hochberg 1997): in ascending order,
/// `min_{l >= i} p_l sum(w) / sum_{q <= l} w_q`, at most 1. A NaN stays one and does not count.
pub fn weighted_fdr(p_values: &[f64], weights: &[f64]) -> Vec<f64> {
    let weight = |i: usize| weights.get(i).copied().unwrap_or(0.0);
    let order: Vec<usize> = ascending(p_values)
        .into_iter()
        .filter(|&i| !p_values[i].is_nan())
        .collect();
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut up_to = 0.0;
    let raised: Vec<f64> = order
        .iter()
        .map(|&i| {
            up_to += weight(i);
            // Before the first weight that is not 0 nothing is known.
            if up_to > 0.0 {
                p_values[i] * total / up_to
            } else {
                1.0
            }
        })
        .collect();
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut least = 1.0f64;
    for (&i, r) in order.iter().zip(raised).rev() {
        least = least.min(r);
        adjusted[i] = least;
    }
    adjusted
}

/// The Benjamini-Hochberg false discovery rate.
pub fn fdr(p_values: &[f64]) -> Vec<f64> {
    weighted_fdr(p_values, &vec![1.0; p_values.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benjamini_hochberg() {
        // scipy.stats.false_discovery_control([0.01, 0.04, 0.03, 0.005, 0.9])
        let found = fdr(&[0.01, 0.04, 0.03, 0.005, 0.9]);
        for (a, b) in found.iter().zip([0.025, 0.05, 0.05, 0.025, 0.9]) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }

    /// Three cells at one place and three apart, each with an edge to the others of its group.
    #[test]
    fn what_weighs_infinitely_weighs_as_asked() {
        let x = ndarray::Array2::from_shape_fn((6, 1), |(i, _)| if i < 3 { 0.0 } else { i as f32 });
        let g = ndarray::Array2::from_shape_fn((6, 6), |(i, j)| {
            if i != j && i / 3 == j / 3 {
                1.0f32
            } else {
                0.0
            }
        });
        let graph = sc_data::Csr::from_dense(&g);
        let options = crate::milo::NeighbourhoodOptions {
            proportion: 1.0,
            refinement: crate::milo::Refinement::None,
            ..Default::default()
        };
        let distance = [0.0, 0.0, 0.0, 2.0, 1.0, 2.0];
        let n = Neighbourhoods::new(x.view(), &graph, &distance, &options).unwrap();
        let weights = |w: Weighting, at_zero| w.weights(&n, x.view(), at_zero).unwrap();
        let kth = Weighting::KthDistance;
        assert_eq!(weights(kth, 0.0), [0.0, 0.0, 0.0, 0.5, 1.0, 0.5]);
        assert_eq!(weights(kth, 1.0), [1.0, 1.0, 1.0, 0.5, 1.0, 0.5]);
        for w in [Weighting::MeanDistance, Weighting::LargestDistance] {
            assert_eq!(weights(w, 1.0)[..3], [1.0; 3]);
            assert_eq!(weights(w, 1.0)[3..], weights(w, 0.0)[3..]);
        }
    }

    #[test]
    fn weights_count_and_missing_values_do_not() {
        let p = [0.02, f64::NAN, 0.01, 0.5];
        let found = weighted_fdr(&p, &[2.0, 100.0, 1.0, 1.0]);
        // Sorted: 0.01 (weight 1), 0.02 (up to 3), 0.5 (up to 4) of 4.
        let expected = [0.02 * 4.0 / 3.0, f64::NAN, 0.02 * 4.0 / 3.0, 0.5];
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan()),
                "{a} {b}"
            );
        }
        assert_eq!(weighted_fdr(&[0.1, 0.2], &[0.0, 1.0]), [0.2, 0.2]);
        assert_eq!(weighted_fdr(&[0.1], &[0.0]), [1.0]);
        assert!(fdr(&[]).is_empty());
    }
}
