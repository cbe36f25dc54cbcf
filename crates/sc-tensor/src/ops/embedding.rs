use candle_core::{CpuStorage, DType, Device, Shape, Tensor};
use rayon::prelude::*;

use super::composed;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::{Error, Result};

/// Rows of `weight` (`[V, D]`) by index: `ids` of any shape gives `[.., D]`.
///
/// The gradient of the weight adds up the rows of equal ids in the order in which they stand. Rows of a weight in half
/// precision (`bf16`, `f16`) come as `f32`.
///
/// # Errors
/// [`Error::OutOfRange`] if an id is not below `V`, [`Error::DType`] if the ids are not `u32`, [`Error::Shape`] if the
/// weight is not a matrix.
pub fn embedding(weight: &Tensor, ids: &Tensor) -> Result<Tensor> {
    if ids.dtype() != DType::U32 {
        return Err(Error::DType {
            op: "embedding of ids",
            found: ids.dtype(),
        });
    }
    if !composed::fusible(&[weight]) && !composed::is_half(weight) {
        return composed::embedding(weight, ids);
    }
    let mut dims = ids.dims().to_vec();
    let flat = ids.flatten_all()?.to_vec1::<u32>()?;
    let rows = embedding_ids(weight, &flat)?;
    dims.push(weight.dim(1)?);
    Ok(rows.reshape(dims)?)
}

/// Rows of `weight` (`[V, D]`) by index: `[len, D]`, see [`embedding`].
///
/// # Errors
/// As [`embedding`].
pub fn embedding_ids(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let &[v, _] = weight.dims() else {
        return Err(Error::Shape {
            op: "embedding",
            what: "the weight",
            found: weight.dims().to_vec(),
            expected: "[entries, width]".into(),
        });
    };
    check_ids("embedding", ids, v)?;
    if !composed::fusible(&[weight]) {
        let ids = Tensor::from_slice(ids, ids.len(), weight.device())?;
        let rows = composed::embedding(weight, &ids)?;
        return match composed::is_half(weight) {
            true => Ok(rows.to_dtype(DType::F32)?),
            false => Ok(rows),
        };
    }
    Ok(kernel::apply(Embedding(ids.to_vec()), &[weight])?)
}

/// A `[len, n]` tensor with a 1 in column `ids[i]` of row `i` and 0 elsewhere.
///
/// # Errors
/// [`Error::OutOfRange`] if an id is not below `n`.
pub fn one_hot(ids: &[u32], n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    check_ids("one_hot", ids, n)?;
    let mut hot = vec![0u8; ids.len() * n];
    for (i, &id) in ids.iter().enumerate() {
        hot[i * n + id as usize] = 1;
    }
    Ok(Tensor::from_vec(hot, (ids.len(), n), device)?.to_dtype(dtype)?)
}

fn check_ids(op: &'static str, ids: &[u32], len: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= len) {
        None => Ok(()),
        Some(position) => Err(Error::OutOfRange {
            op,
            index: ids[position] as usize,
            position,
            len,
        }),
    }
}

struct Embedding(Vec<u32>);

impl Kernel for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(ids: &[u32], w: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let (d, w) = (w.dims()[1], w.slice::<T>()?);
            let mut y = vec![T::ZERO; ids.len() * d];
            kernel::for_rows(&mut y, d, |i, y| {
                y.copy_from_slice(&w[ids[i] as usize * d..][..d]);
            });
            Ok((T::to_cpu_storage_owned(y), (ids.len(), d).into()))
        }
        by_dtype!("embedding", args[0].dtype(), run(&self.0, &args[0]))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let dw = by_dtype!(
            "embedding",
            grad.dtype(),
            weight_gradient(&self.0, args[0].dims2()?, grad)
        )?;
        Ok(vec![Some(dw)])
    }
}

/// Entries of the table in parallel; each adds up its own rows of the gradient.
fn weight_gradient<T: Real>(
    ids: &[u32],
    (v, d): (usize, usize),
    grad: &Tensor,
) -> candle_core::Result<Tensor> {
    let view = View::new(grad);
    let g = view.slice::<T>()?;
    let mut dw = vec![T::ZERO; v * d];
    if d == 0 {
        return kernel::tensor(dw, (v, d));
    }
    let add = |out: &mut [T], position: usize| {
        for (o, &g) in out.iter_mut().zip(&g[position * d..][..d]) {
            *o += g;
        }
    };
    if g.len() < kernel::PARALLEL_FROM {
        for (position, &id) in ids.iter().enumerate() {
            add(&mut dw[id as usize * d..][..d], position);
        }
    } else {
        // Positions by id; the sort is stable, so equal ids keep their order.
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&p| ids[p as usize]);
        let per_task = (4096 / d).max(1);
        dw.par_chunks_mut(per_task * d)
            .enumerate()
            .for_each(|(k, part)| {
                let first = k * per_task;
                let last = first + part.len() / d;
                let from = order.partition_point(|&p| (ids[p as usize] as usize) < first);
                let to = order.partition_point(|&p| (ids[p as usize] as usize) < last);
                for &p in &order[from..to] {
                    let row = ids[p as usize] as usize - first;
                    add(&mut part[row * d..][..d], p as usize);
                }
            });
    }
    kernel::tensor(dw, (v, d))
}

#[cfg(test)]
#[path = "embedding_tests.rs"]
mod tests;
