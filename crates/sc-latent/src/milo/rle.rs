//! Sizes of samples by the median of ratios (Anders and Huber, "Differential expression analysis for sequence count data",
//! Genome Biol 2010), also called relative log expression.

use ndarray::ArrayView2;

use super::ranks::quantile;
use super::tmm::centre;

/// By which factor the size of each sample is to be multiplied so that the median row does not change; their geometric
/// mean is 1. `counts` is `[rows, samples]`.
///
/// A sample is as large as the median over rows of `y / m`, `m` being the geometric mean of the row over samples. As zeros
/// are frequent, only the sample's own rows with counts enter, and of a row `m = exp(sum_{y > 0} ln y / n)`, n counting all
/// samples, which pydeseq2 and DESeq2 call `poscounts`; without zeros it is the original. A sample without counts keeps its
/// size.
pub(super) fn rle_factors(counts: ArrayView2<'_, f64>, sizes: &[f64]) -> Vec<f64> {
    let n = counts.ncols() as f64;
    let means: Vec<f64> = counts
        .outer_iter()
        .map(|row| {
            row.iter()
                .filter(|y| **y > 0.0)
                .map(|y| y.ln())
                .sum::<f64>()
                / n
        })
        .collect();
    let mut factors: Vec<f64> = counts
        .columns()
        .into_iter()
        .zip(sizes)
        .map(|(column, size)| {
            let both = column.iter().zip(&means).filter(|(y, _)| **y > 0.0);
            let ratios: Vec<f64> = both.map(|(y, m)| y.ln() - m).collect();
            let factor = quantile(&ratios, 0.5).exp() / size;
            if factor.is_finite() { factor } else { 1.0 }
        })
        .collect();
    centre(&mut factors);
    factors
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Reference: `deseq2_norm_fit` with `poscounts` of pydeseq2.
    #[test]
    fn size_factors_are_pydeseq2s() {
        let counts = Array2::from_shape_fn((40, 5), |(g, i)| {
            let base = ((g * 7 + 3) % 23) as f64 * (1.0 + i as f64 * 0.3);
            (base + ((g * 13 + i * 31) % 17) as f64 - 4.0)
                .max(0.0)
                .floor()
        });
        let found = rle_factors(counts.view(), &[1.0; 5]);
        for (found, expected) in found.iter().zip(PYDESEQ2) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
        }
        // Sizes are taken into account, and samples without counts left alone.
        let sizes = [10.0, 20.0, 30.0, 40.0, 50.0];
        let scaled = rle_factors(counts.view(), &sizes);
        let ratio = |f: &[f64], n: &[f64]| f[3] * n[3] / (f[1] * n[1]);
        assert!((ratio(&scaled, &sizes) / ratio(&found, &[1.0; 5]) - 1.0).abs() < 1e-12);
        assert_eq!(
            rle_factors(Array2::zeros((3, 2)).view(), &[1.0; 2]),
            [1.0; 2]
        );
    }
    const PYDESEQ2: [f64; 5] = [
        0.720_857_608_774_666_4,
        0.895_193_774_155_975_7,
        0.955_689_078_402_474_2,
        1.177_114_736_311_928_5,
        1.377_520_404_038_735_4,
    ];
}
