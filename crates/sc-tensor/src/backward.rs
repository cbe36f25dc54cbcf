use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, TensorId};

use crate::{Result, pool, tape};

thread_local! {
    /// Where the operations of this crate leave the gradients of variables while [`backward`] runs.
    static COLLECTED: RefCell<Option<Vec<(TensorId, Tensor)>>> = const { RefCell::new(None) };
}

/// The gradients of `loss` with respect to the variables it depends on: `loss.backward()`, but faster.
///
/// candle adds each gradient to a tensor of zeros that it allocates first, which for the weight of a wide layer costs
/// more than the gradient itself. Here the operations of this crate hand the gradients of variables over directly, as
/// they do among each other. The result is the same.
///
/// ```
/// use sc_tensor::{Device, Var, backward, ops};
/// let w = Var::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let x = sc_tensor::Tensor::new(&[[3f32, 4.0]], &Device::Cpu)?;
/// let loss = ops::linear(&x, &w, None)?.sum_all()?;
/// let grads = backward(&loss)?;
/// assert_eq!(grads.get(&w).unwrap().to_vec2::<f32>()?, [[3.0, 4.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If an operation on the way has no gradient, or candle refuses for want of memory.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    // Taken back when dropped, so that an error or a panic leaves nothing behind for the next call.
    struct Session;
    impl Drop for Session {
        fn drop(&mut self) {
            COLLECTED.with_borrow_mut(|c| *c = None);
            tape::forget();
        }
    }
    tape::forget();
    COLLECTED.with_borrow_mut(|c| *c = Some(Vec::new()));
    let session = Session;
    let mut grads = loss.backward()?;
    let collected = COLLECTED.with_borrow_mut(Option::take).unwrap_or_default();
    drop(session);
    for (id, grad) in collected {
        let sum = match grads.get_id(id) {
            Some(there) => (there + grad)?.detach(),
            None => grad,
        };
        grads.insert_id(id, sum);
    }
    Ok(grads)
}

/// Gives the memory of gradients back, to be used again by the next [`backward`]: a training loop saves the time in which
/// the system would hand out fresh memory for the gradient of each wide layer.
///
/// This takes the numbers out of the tensors. A clone of a gradient that is still held elsewhere is an empty tensor
/// afterwards, and whatever is done with it fails; so call this only where nobody else was given one, and copy
/// ([`Tensor::copy`]) what should stay.
///
/// ```
/// use sc_tensor::{Device, Var, backward, ops, recycle};
/// let w = Var::zeros((300, 300), sc_tensor::DType::F32, &Device::Cpu)?;
/// let x = sc_tensor::Tensor::ones((2, 300), sc_tensor::DType::F32, &Device::Cpu)?;
/// for _ in 0..2 {
///     let grads = backward(&ops::linear(&x, &w, None)?.sum_all()?)?;
///     // ... a step of an optimiser ...
///     recycle(grads);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recycle(grads: GradStore) {
    for id in grads.get_ids() {
        if let Some(grad) = grads.get_id(*id) {
            take_out(grad);
        }
    }
}

/// Takes the numbers out of a large tensor, to be used again.
pub(crate) fn take_out(tensor: &Tensor) {
    if tensor.device().is_cpu() && tensor.elem_count() >= pool::SMALLEST {
        // A tensor that refuses stays as it is.
        tensor.inplace_op1(&TakeOut).ok();
    }
}

struct TakeOut;

impl InplaceOp1 for TakeOut {
    fn name(&self) -> &'static str {
        "recycle"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        match storage {
            CpuStorage::F32(v) => pool::give(std::mem::take(v)),
            CpuStorage::F64(v) => pool::give(std::mem::take(v)),
            _ => {}
        }
        Ok(())
    }
}

/// Keeps the gradient of a variable for [`backward`]; gives it back if that isn't running, or if `arg` is no variable.
pub(crate) fn collect(arg: &Tensor, grad: Tensor) -> Option<Tensor> {
    if !arg.is_variable() {
        return Some(grad);
    }
    COLLECTED.with_borrow_mut(|collected| match collected {
        Some(list) => {
            list.push((arg.id(), grad));
            None
        }
        None => Some(grad),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbers, random};
    use crate::{DType, Var, ops};

    #[test]
    fn gradients_are_those_of_candle() {
        let var = |name, dims: &[usize]| {
            Var::from_tensor(&random(name, -1.0, 1.0, dims, DType::F64)).unwrap()
        };
        let (x, w, b) = (var("x", &[5, 4]), var("w", &[4, 4]), var("b", &[4]));
        // `w` is used twice by this crate and once by candle.
        let h = ops::softplus(&ops::linear(&x, &w, Some(&b)).unwrap()).unwrap();
        let y = ops::linear(&h, &w, None).unwrap();
        let loss =
            (y.sqr().unwrap().sum_all().unwrap() + w.exp().unwrap().sum_all().unwrap()).unwrap();
        let (ours, candles) = (backward(&loss).unwrap(), loss.backward().unwrap());
        for v in [&x, &w, &b] {
            let (a, b) = (ours.get(v).unwrap(), candles.get(v).unwrap());
            assert!(!a.track_op());
            for (a, b) in numbers(a).iter().zip(numbers(b)) {
                assert!((a - b).abs() < 1e-12 * b.abs().max(1.0));
            }
        }
    }

    #[test]
    fn recycled_memory_changes_nothing() {
        let w = Var::from_tensor(&random("w", -1.0, 1.0, &[300, 300], DType::F64)).unwrap();
        let x = random("x", -1.0, 1.0, &[3, 300], DType::F64);
        let gradient = || {
            let y = ops::linear(&x, &w, None).unwrap();
            backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap()
        };
        let first = gradient();
        let expected = numbers(first.get(&w).unwrap());
        recycle(first);
        // The second one is computed in the memory of the first.
        for _ in 0..2 {
            let again = gradient();
            assert_eq!(numbers(again.get(&w).unwrap()), expected);
            recycle(again);
        }
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let w = Var::new(&[[1f64]], &crate::Device::Cpu).unwrap();
        let y = ops::linear(&w, &w, None).unwrap();
        // candle has no gradient for this.
        let bad = y.reshape((1, 1, 1)).unwrap().conv_transpose1d(
            &w.reshape((1, 1, 1)).unwrap(),
            0,
            0,
            1,
            1,
            1,
        );
        assert!(backward(&bad.unwrap()).is_err());
        let grads = y.backward().unwrap();
        assert_eq!(numbers(grads.get(&w).unwrap()), [2.0]);
    }
}
