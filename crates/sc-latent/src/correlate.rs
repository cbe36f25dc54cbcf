use candle_core::{Device, Tensor};
use ndarray::{Array2, Axis};
use rayon::prelude::*;

use crate::Result;
use crate::arrays::to_array2;
use crate::expression::Correlation;

/// The correlation of the columns of `[samples, genes]`. A constant column correlates with nothing (0, not NaN), and
/// with itself.
pub(crate) fn correlation(
    mut samples: Array2<f32>,
    kind: Correlation,
    device: &Device,
) -> Result<Array2<f32>> {
    samples
        .axis_iter_mut(Axis(1))
        .into_par_iter()
        .for_each(|mut column| {
            let mut values: Vec<f64> = column.iter().map(|&v| f64::from(v)).collect();
            if kind == Correlation::Spearman {
                values = ranks(&values);
            }
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let norm = values
                .iter()
                .map(|v| (v - mean).powi(2))
                .sum::<f64>()
                .sqrt();
            for (to, v) in column.iter_mut().zip(values) {
                *to = if norm > 0.0 {
                    ((v - mean) / norm) as f32
                } else {
                    0.0
                };
            }
        });
    let shape = samples.dim();
    let values = samples
        .as_standard_layout()
        .iter()
        .copied()
        .collect::<Vec<_>>();
    let z = Tensor::from_vec(values, shape, device)?;
    let mut out = to_array2(&z.t()?.matmul(&z)?)?;
    for (i, mut row) in out.rows_mut().into_iter().enumerate() {
        row.mapv_inplace(|v| v.clamp(-1.0, 1.0));
        row[i] = 1.0;
    }
    Ok(out)
}

/// Ranks from 1; ties share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        let rank = (start + end + 1) as f64 / 2.0;
        order[start..end].iter().for_each(|&i| out[i] = rank);
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), vec![3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn monotone_columns_correlate_by_rank() {
        let m = ndarray::array![
            [1.0f32, 1.0, 4.0, 7.0],
            [2.0, 8.0, 3.0, 7.0],
            [3.0, 27.0, 2.0, 7.0]
        ];
        let c = correlation(m.clone(), Correlation::Spearman, &Device::Cpu).unwrap();
        assert!((c[(0, 1)] - 1.0).abs() < 1e-6 && (c[(0, 2)] + 1.0).abs() < 1e-6);
        assert_eq!((c[(0, 3)], c[(3, 3)]), (0.0, 1.0));
        let p = correlation(m, Correlation::Pearson, &Device::Cpu).unwrap();
        assert!(p[(0, 1)] < 0.97);
    }
}
