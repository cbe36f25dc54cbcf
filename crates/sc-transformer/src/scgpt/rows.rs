//! Rows of tensors by index, and the things that repeat among them.

use std::collections::HashMap;
use std::hash::Hash;

use candle_core::{D, Tensor};
use sc_tensor::ops;

use crate::Result;

/// The rows `index` of `x` (`[n, D]`): `[len, D]`.
pub(super) fn gather(x: &Tensor, index: &[u32]) -> Result<Tensor> {
    Ok(ops::embedding_ids(x, index)?)
}

/// `x[i] . y[i]` for each row: `[n, D], [n, D] -> [n]`.
pub(super) fn row_dots(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok((x * y)?.sum(D::Minus1)?)
}

/// Rows scaled to length 1, as torch does: divided by their length or by `eps`, whichever is larger.
pub(super) fn normalise_rows(x: &Tensor, eps: f64) -> Result<Tensor> {
    let square = x.sqr()?.sum_keepdim(D::Minus1)?;
    // Below the root, so that the gradient of a row of zeros is 0 and not NaN.
    let length = square.maximum(eps * eps)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}

/// Few different things, many times: a table of them, and for each row its place in the table.
#[derive(Debug, Clone)]
pub(super) struct Distinct<T> {
    /// In the order of their first occurrence.
    pub(super) table: Vec<T>,
    pub(super) index: Vec<u32>,
}

impl<T: Copy> Distinct<T> {
    /// `key` says when two are the same.
    pub(super) fn new<K: Hash + Eq>(all: &[T], key: impl Fn(T) -> K) -> Self {
        let mut places = HashMap::new();
        let mut table = Vec::new();
        let index = all.iter().map(|&x| {
            *places.entry(key(x)).or_insert_with(|| {
                table.push(x);
                (table.len() - 1) as u32
            })
        });
        let index = index.collect();
        Self { table, index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn distinct_things_keep_their_order() {
        let d = Distinct::new(&[3u32, 1, 3, 2, 1], |x| x);
        assert_eq!((d.table, d.index), (vec![3, 1, 2], vec![0, 1, 0, 2, 1]));
    }

    #[test]
    fn a_row_of_zeros_has_no_gradient_and_no_nan() {
        let x = Var::new(&[[3f64, 4.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let y = normalise_rows(&x, 1e-12).unwrap();
        assert_eq!(y.to_vec2::<f64>().unwrap(), [[0.6, 0.8], [0.0, 0.0]]);
        let g = y.sum_all().unwrap().backward().unwrap();
        let g = g.get(&x).unwrap().to_vec2::<f64>().unwrap();
        assert!(g.iter().flatten().all(|v| v.is_finite()));
    }
}
