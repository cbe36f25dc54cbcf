//! Sizes of samples by the trimmed mean of M values (Robinson and Oshlack, "A scaling normalization method for
//! differential expression analysis of RNA-seq data", Genome Biol 2010).

use ndarray::{ArrayView1, ArrayView2};

use super::ranks::{average_ranks, quantile};

/// The share of log ratios cut off at either end.
const TRIM_RATIOS: f64 = 0.3;
/// The share of log abundances cut off at either end.
const TRIM_ABUNDANCES: f64 = 0.05;

/// By which factor the size of each sample is to be multiplied so that most rows do not change; their geometric mean is
/// 1. `counts` is `[rows, samples]`.
///
/// Against a reference sample `r`, the one whose upper quartile of `y / N` is nearest to the mean: for each row `M = log2((y /
/// N) / (y_r / N_r))`, `A` the mean of the two logarithms, and the variance `v = (N - y) / (N y) + (N_r - y_r) / (N_r y_r)`. Rows are
/// kept whose `M` is not among the highest and lowest 30 % and whose `A` is not among the highest and lowest 5 %; the factor
/// is 2 to the mean of `M` weighted by `1 / v`.
pub(super) fn tmm_factors(counts: ArrayView2<'_, f64>, sizes: &[f64]) -> Vec<f64> {
    let reference = reference(counts, sizes);
    let mut factors: Vec<f64> = (0..counts.ncols())
        .map(|i| {
            factor(
                (counts.column(i), sizes[i]),
                (counts.column(reference), sizes[reference]),
            )
        })
        .collect();
    centre(&mut factors);
    factors
}

/// Makes the geometric mean 1.
pub(super) fn centre(factors: &mut [f64]) {
    let n = factors.len().max(1) as f64;
    let middle = (factors.iter().map(|f| f.ln()).sum::<f64>() / n).exp();
    factors.iter_mut().for_each(|f| *f /= middle);
}

/// The sample whose upper quartile is nearest to the mean of all. Rows without any counts do not count.
fn reference(counts: ArrayView2<'_, f64>, sizes: &[f64]) -> usize {
    let full: Vec<usize> = (0..counts.nrows())
        .filter(|&g| counts.row(g).iter().any(|&y| y > 0.0))
        .collect();
    let quartiles: Vec<f64> = counts
        .columns()
        .into_iter()
        .zip(sizes)
        .map(|(y, n)| {
            let y: Vec<f64> = full.iter().map(|&g| y[g]).collect();
            quantile(&y, 0.75) / n
        })
        .collect();
    let first_least = |score: &dyn Fn(usize) -> f64| {
        let mut best = (f64::INFINITY, 0);
        for i in 0..sizes.len() {
            if score(i) < best.0 {
                best = (score(i), i);
            }
        }
        best.1
    };
    if quantile(&quartiles, 0.5) < 1e-20 {
        // Most rows are empty in most samples: the fullest sample.
        let roots = |i: usize| -counts.column(i).iter().map(|y| y.sqrt()).sum::<f64>();
        return first_least(&roots);
    }
    let mean = quartiles.iter().sum::<f64>() / quartiles.len() as f64;
    first_least(&|i| (quartiles[i] - mean).abs())
}

fn factor((y, n): (ArrayView1<'_, f64>, f64), (r, n_r): (ArrayView1<'_, f64>, f64)) -> f64 {
    let (mut ratios, mut abundances, mut variances) = (Vec::new(), Vec::new(), Vec::new());
    for (&y, &r) in y.iter().zip(r) {
        if y > 0.0 && r > 0.0 {
            let (a, b) = (y / n, r / n_r);
            // Counts are small integers: equal ratios must come out as equal numbers, or their ranks are arbitrary.
            ratios.push((a / b).log2());
            abundances.push(f64::midpoint(a.log2(), b.log2()));
            variances.push((n - y) / (n * y) + (n_r - r) / (n_r * r));
        }
    }
    if ratios.iter().all(|m| m.abs() < 1e-6) {
        return 1.0;
    }
    let rows = ratios.len() as f64;
    let between = |rank: f64, trim: f64| {
        let cut = (rows * trim).floor();
        rank >= cut + 1.0 && rank <= rows - cut
    };
    let (of_ratio, of_abundance) = (average_ranks(&ratios), average_ranks(&abundances));
    let (mut sum, mut weights) = (0.0, 0.0);
    for g in 0..ratios.len() {
        if between(of_ratio[g], TRIM_RATIOS) && between(of_abundance[g], TRIM_ABUNDANCES) {
            sum += ratios[g] / variances[g];
            weights += 1.0 / variances[g];
        }
    }
    let factor = (sum / weights).exp2();
    if factor.is_finite() { factor } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Counts that any language can make again.
    fn counts() -> Array2<f64> {
        Array2::from_shape_fn((40, 5), |(g, i)| {
            let base = ((g * 7 + 3) % 23) as f64 * (1.0 + i as f64 * 0.3);
            (base + ((g * 13 + i * 31) % 17) as f64 - 4.0)
                .max(0.0)
                .floor()
        })
    }

    #[test]
    fn factors_undo_a_composition_effect() {
        // Two samples; a tenth of the rows takes up half of the second one.
        let counts = Array2::from_shape_fn((100, 2), |(g, i)| {
            let base = 100.0 + (g % 7) as f64 * 10.0;
            if i == 1 && g % 10 == 0 {
                base * 10.0
            } else {
                base
            }
        });
        let sizes: Vec<f64> = counts.columns().into_iter().map(|c| c.sum()).collect();
        let f = tmm_factors(counts.view(), &sizes);
        // Rows that do not change have the same share of the effective sizes.
        let ratio = sizes[0] * f[0] / (sizes[1] * f[1]);
        assert!((ratio - 1.0).abs() < 1e-12, "{f:?} {ratio}");
        assert!((f[0] * f[1] - 1.0).abs() < 1e-12);
    }

    /// Computed from the same formulas with numpy; `TMM` of rnanorm 2 gives the same.
    #[test]
    fn factors_agree_with_a_second_implementation() {
        let counts = counts();
        let sizes: Vec<f64> = counts.columns().into_iter().map(|c| c.sum()).collect();
        let found = tmm_factors(counts.view(), &sizes);
        for (found, expected) in found.iter().zip(NUMPY_TMM) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
        }
    }
    const NUMPY_TMM: [f64; 5] = [
        1.010_327_372_937_098_3,
        0.857_720_745_391_960_9,
        0.895_529_430_322_175_1,
        1.070_715_659_297_311,
        1.203_477_427_152_035,
    ];

    #[test]
    fn equal_and_empty_samples_have_factor_one() {
        let counts = Array2::from_elem((10, 3), 4.0);
        assert_eq!(tmm_factors(counts.view(), &[40.0; 3]), [1.0; 3]);
        let mut sparse = Array2::zeros((8, 3));
        for i in 0..3 {
            sparse[[i, i]] = 5.0;
        }
        assert_eq!(tmm_factors(sparse.view(), &[5.0; 3]), [1.0; 3]);
    }
}
