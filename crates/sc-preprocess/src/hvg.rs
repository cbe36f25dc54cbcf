use sc_data::RowSource;

use crate::moments::count_moments;
use crate::{Error, Result};

/// Bins of the mean within which the `seurat` flavour compares dispersions.
const N_BINS: usize = 20;

/// How [`highly_variable_genes`] scores genes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HvgFlavor {
    /// For data that are normalised and log1p-transformed. Satija et al., "Spatial reconstruction of single-cell gene
    /// expression data", Nat Biotechnol 2015; scanpy's default.
    ///
    /// On `expm1(x)`: dispersion `d = ln(variance / mean)`, and `m = ln(1 + mean)` cut into 20 bins of equal width; the
    /// score is `(d - mean of d in the bin) / standard deviation of d in the bin`, and 1 where the bin has one gene.
    #[default]
    Seurat,
    /// For raw counts. Stuart et al., "Comprehensive integration of single-cell data", Cell 2019.
    ///
    /// A loess curve (degree 2, span 0.3) of `log10(variance)` on `log10(mean)` gives each gene its expected standard
    /// deviation `s`; the score is the variance of `(x - mean) / s`, where `x` is cut off at `mean + s sqrt(n_cells)`.
    SeuratV3,
}

/// Which genes vary more than genes of their mean usually do.
#[derive(Debug, Clone)]
pub struct HighlyVariable {
    /// Mean of each gene: `ln(1 + mean)` for [`HvgFlavor::Seurat`], the mean of the counts for [`HvgFlavor::SeuratV3`].
    pub means: Vec<f64>,
    /// The spread of each gene: `ln(variance / mean)` (NaN if the gene is constant) for [`HvgFlavor::Seurat`], the
    /// variance for [`HvgFlavor::SeuratV3`].
    pub dispersions: Vec<f64>,
    /// The score that genes are ranked by; NaN where there is none.
    pub scores: Vec<f64>,
    /// The genes chosen, in ascending order.
    pub genes: Vec<usize>,
}

impl HighlyVariable {
    /// For each gene whether it was chosen.
    pub fn mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.scores.len()];
        for &g in &self.genes {
            if let Some(m) = mask.get_mut(g) {
                *m = true;
            }
        }
        mask
    }

    /// The chosen genes in the form that [`sc_data::Csr::select_columns`] takes.
    pub fn columns(&self) -> Vec<Option<usize>> {
        self.genes.iter().map(|&g| Some(g)).collect()
    }
}

/// The `n_top` genes with the highest score; all that have one if they are fewer. Of equal scores the gene that comes
/// first wins, so that never more than `n_top` are chosen.
///
/// The source is read once ([`HvgFlavor::Seurat`]) or twice ([`HvgFlavor::SeuratV3`]), a few thousand rows at a time.
///
/// # Errors
/// Those of the source; [`Error::TooSmall`] with fewer than two cells, [`Error::InvalidParameter`] if `n_top` is 0,
/// [`Error::InvalidValue`] if a value is negative or not finite.
pub fn highly_variable_genes(
    source: &dyn RowSource,
    n_top: usize,
    flavor: HvgFlavor,
) -> Result<HighlyVariable> {
    if n_top == 0 {
        return Err(Error::InvalidParameter {
            name: "n_top",
            found: "0".into(),
            expected: "at least 1, usually 2000".into(),
        });
    }
    if source.n_rows() < 2 {
        return Err(Error::TooSmall {
            what: "cells",
            found: source.n_rows(),
            needed: 2,
        });
    }
    let (means, dispersions, scores) = match flavor {
        HvgFlavor::Seurat => seurat(source)?,
        HvgFlavor::SeuratV3 => crate::hvg_v3::seurat_v3(source)?,
    };
    let genes = top(&scores, n_top);
    Ok(HighlyVariable {
        means,
        dispersions,
        scores,
        genes,
    })
}

/// The positions of the `n` highest scores, ascending.
fn top(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&g| !scores[g].is_nan()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(n);
    order.sort_unstable();
    order
}

/// Means, dispersions and scores of [`HvgFlavor::Seurat`].
fn seurat(source: &dyn RowSource) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let m = count_moments(source, |v| f64::from(v).exp_m1())?;
    let mut means = Vec::with_capacity(m.mean.len());
    let mut dispersions = Vec::with_capacity(m.mean.len());
    for (&mean, &variance) in m.mean.iter().zip(&m.variance) {
        let mean = if mean == 0.0 { 1e-12 } else { mean };
        let ratio = variance / mean;
        means.push(mean.ln_1p());
        dispersions.push(if ratio > 0.0 { ratio.ln() } else { f64::NAN });
    }
    let bins = equal_width_bins(&means, N_BINS);
    let (average, deviation) = bin_statistics(&dispersions, &bins);
    let scores = dispersions
        .iter()
        .zip(&bins)
        .map(|(d, &b)| (d - average[b]) / deviation[b])
        .collect();
    Ok((means, dispersions, scores))
}

/// The bin of each value, if the range is cut into `n` bins of equal width that contain their upper end.
fn equal_width_bins(values: &[f64], n: usize) -> Vec<usize> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let step = (high - low) / n as f64;
    let edges: Vec<f64> = (1..n).map(|k| k as f64 * step + low).collect();
    values
        .iter()
        .map(|v| edges.partition_point(|e| e < v))
        .collect()
}

/// The mean and standard deviation (`n - 1`) of the dispersions in each bin, NaN skipped. A bin of one gene gets mean 0
/// and its dispersion for deviation, which makes the gene's score 1.
fn bin_statistics(dispersions: &[f64], bins: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let mut members: Vec<Vec<f64>> = vec![Vec::new(); N_BINS];
    for (&d, &b) in dispersions.iter().zip(bins) {
        if !d.is_nan() {
            members[b].push(d);
        }
    }
    members
        .iter()
        .map(|m| {
            let n = m.len() as f64;
            let mean = m.iter().sum::<f64>() / n;
            match m.as_slice() {
                [one] => (0.0, *one),
                _ => {
                    let squares: f64 = m.iter().map(|d| (d - mean).powi(2)).sum();
                    (mean, (squares / (n - 1.0)).sqrt())
                }
            }
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log1p, normalize_total};
    use sc_data::Csr;

    /// Counts that any language can make again.
    fn counts(n: usize, genes: usize) -> Csr {
        let mut s = 12345u64;
        let mut m = ndarray::Array2::zeros((n, genes));
        for ((i, j), v) in m.indexed_iter_mut() {
            s = s
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let u = (s >> 33) as f64 / (1u64 << 31) as f64;
            let up = if j % 7 == 0 && i % 3 == 0 { 4.0 } else { 1.0 };
            let lambda = 0.05 * (1 + j % 23) as f64 * up;
            *v = (lambda * -(1.0 - u).ln() * 2.0).floor() as f32;
        }
        m.column_mut(13).fill(0.0);
        Csr::from_dense(&m)
    }

    fn close(a: f64, b: f64) -> bool {
        (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-5 * (1.0 + b.abs())
    }

    /// Reference: scanpy 1.11.5, `flavor="seurat"`, 20 genes of 200.
    #[test]
    fn seurat_agrees_with_scanpy() {
        let x = log1p(&normalize_total(&counts(60, 200), Some(1e4)).unwrap()).unwrap();
        let h = highly_variable_genes(&x, 20, HvgFlavor::Seurat).unwrap();
        let expected = [
            10, 14, 27, 35, 56, 63, 97, 100, 105, 106, 107, 118, 119, 140, 144, 168, 174, 176, 178,
            189,
        ];
        assert_eq!(h.genes, expected);
        for (g, mean, dispersion, score) in [
            (
                0,
                0.8594627239364666,
                3.6961006734797777,
                -0.7071067811865459,
            ),
            (7, 3.7793182480043583, 4.936166629762728, 0.9094529653700073),
            (13, 0.0, f64::NAN, f64::NAN),
            (
                50,
                2.1272564617692913,
                4.4065146373826645,
                0.6275769589325513,
            ),
            (
                199,
                4.413704174059263,
                5.070652809271394,
                0.6124904093053467,
            ),
        ] {
            assert!(close(h.means[g], mean), "{g}: {}", h.means[g]);
            assert!(close(h.dispersions[g], dispersion), "{g}");
            assert!(close(h.scores[g], score), "{g}: {}", h.scores[g]);
        }
        assert_eq!(h.mask().iter().filter(|&&m| m).count(), 20);
    }

    /// Reference: scanpy 1.11.5, `flavor="seurat_v3"`, 20 genes of 200.
    #[test]
    fn seurat_v3_agrees_with_scanpy() {
        let x = counts(60, 200);
        assert_eq!(x.row_sums().iter().sum::<f64>(), 11203.0);
        let h = highly_variable_genes(&x, 20, HvgFlavor::SeuratV3).unwrap();
        let expected = [
            7, 28, 49, 56, 70, 80, 97, 100, 105, 106, 119, 121, 140, 144, 147, 168, 178, 188, 189,
            195,
        ];
        assert_eq!(h.genes, expected);
        for (g, mean, variance, score) in [
            (
                0,
                0.03333333333333333,
                0.0327683615819209,
                0.9923971870254904,
            ),
            (7, 0.9333333333333333, 3.453107344632768, 1.6502123521576908),
            (13, 0.0, 0.0, 0.0),
            (50, 0.15, 0.23135593220338982, 1.352492343532998),
            (
                199,
                1.3833333333333333,
                3.8675141242937854,
                1.1935355436303252,
            ),
        ] {
            assert!((h.means[g] - mean).abs() < 1e-12);
            assert!((h.dispersions[g] - variance).abs() < 1e-12);
            assert!((h.scores[g] - score).abs() < 1e-9, "{g}: {}", h.scores[g]);
        }
    }

    #[test]
    fn fewer_genes_than_asked_for_and_bad_input() {
        let x = counts(10, 30);
        let h = highly_variable_genes(&x, 500, HvgFlavor::SeuratV3).unwrap();
        assert_eq!(h.genes.len(), 30);
        assert!(highly_variable_genes(&x, 0, HvgFlavor::Seurat).is_err());
        let one = x.select_rows(&[0]).unwrap();
        assert!(highly_variable_genes(&one, 5, HvgFlavor::Seurat).is_err());
        let negative = ndarray::array![[1.0f32, 2.0], [0.0, -1.0]];
        let error = highly_variable_genes(&negative, 1, HvgFlavor::SeuratV3).unwrap_err();
        assert!(matches!(
            error,
            Error::InvalidValue {
                row: 1,
                column: 1,
                ..
            }
        ));
        // Nothing varies: there is no score to rank by, and no panic.
        let flat = ndarray::Array2::from_elem((4, 3), 1.0f32);
        assert!(
            highly_variable_genes(&flat, 2, HvgFlavor::Seurat)
                .unwrap()
                .genes
                .is_empty()
        );
    }
}
