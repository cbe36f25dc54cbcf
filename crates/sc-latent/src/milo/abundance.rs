use ndarray::ArrayView2;
use rayon::prelude::*;

use super::nb_glm::one_group;

/// Counts added to a sample of average size before its logarithm is taken.
const PRIOR: f64 = 2.0;
/// The dispersion taken while it is not known.
const DISPERSION: f64 = 0.05;

/// Counts to be added to each row so that logarithms are finite, in proportion to the sizes of the samples, and the offsets
/// that go with them: `prior N_i / mean(N)` and `ln(N_i + 2 prior_i)`.
pub(super) fn prior_counts(sizes: &[f64], prior: f64) -> (Vec<f64>, Vec<f64>) {
    let mean = sizes.iter().sum::<f64>() / sizes.len().max(1) as f64;
    let added: Vec<f64> = sizes.iter().map(|n| prior * n / mean).collect();
    let offset = sizes
        .iter()
        .zip(&added)
        .map(|(n, a)| (n + 2.0 * a).ln())
        .collect();
    (added, offset)
}

/// The mean abundance of each row, `log2` of counts per million.
pub(super) fn average_log_cpm(counts: ArrayView2<'_, f64>, sizes: &[f64]) -> Vec<f64> {
    let (added, offset) = prior_counts(sizes, PRIOR);
    counts
        .outer_iter()
        .into_par_iter()
        .map(|row| {
            let y: Vec<f64> = row.iter().zip(&added).map(|(y, a)| y + a).collect();
            (one_group(&y, &offset, DISPERSION) + 1e6f64.ln()) / std::f64::consts::LN_2
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Reference: `aveLogCPM` of inmoose 0.9.1.
    #[test]
    fn agrees_with_inmoose() {
        let y = Array2::from_shape_fn((3, 8), |(g, i)| ((g * 11 + i * 17 + g * i * 3) % 29) as f64);
        let sizes: Vec<f64> = (0..8).map(|i| 100.0 + 10.0 * f64::from(i)).collect();
        for (found, expected) in average_log_cpm(y.view(), &sizes).iter().zip(INMOOSE) {
            assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        }
        let empty = average_log_cpm(Array2::zeros((1, 8)).view(), &sizes);
        assert!(empty[0].is_finite());
    }
    const INMOOSE: [f64; 3] = [
        16.658_040_835_971_537,
        16.641_424_264_871_663,
        16.966_837_378_264_76,
    ];
}
