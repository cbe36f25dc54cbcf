//! Random features of the attention: orthogonal directions of random length.

use candle_core::{DType, Device, Tensor};
use sc_tensor::Stream;

use crate::Result;

/// `[features, d]`: blocks of up to `d` orthogonal rows, uniformly turned, each as long as a Gaussian vector of `d` numbers
/// (Choromanski et al. 2021, orthogonal random features).
pub(super) fn draw(
    features: usize,
    d: usize,
    stream: &mut Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let mut all = Vec::with_capacity(features * d);
    while all.len() < features * d {
        let mut block = vec![0f64; d * d];
        stream.fill_normal(&mut block);
        orthonormalise(&mut block, d);
        let rows = d.min(features - all.len() / d);
        all.extend_from_slice(&block[..rows * d]);
    }
    let mut lengths = vec![0f64; features * d];
    stream.fill_normal(&mut lengths);
    for (row, length) in all.chunks_exact_mut(d).zip(lengths.chunks_exact(d)) {
        let norm = length.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x *= norm);
    }
    Ok(Tensor::from_vec(all, (features, d), device)?.to_dtype(dtype)?)
}

/// Gram-Schmidt on the rows of a square matrix, twice for accuracy: the transposed `Q` of its QR decomposition, whose
/// distribution is uniform if the rows are Gaussian.
fn orthonormalise(rows: &mut [f64], d: usize) {
    for i in 0..d {
        let (before, rest) = rows.split_at_mut(i * d);
        let row = &mut rest[..d];
        for _ in 0..2 {
            for other in before.chunks_exact(d) {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
}
