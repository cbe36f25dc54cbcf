//! The operations of candle that stand for a kernel.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Error, Layout, Result, Shape,
    Tensor,
};

use super::{Call, Gradient, TO_TAKE, leave, links};
use crate::backward::collect;

/// A token: one number that stands for a tensor.
fn token() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), 1.into())
}

/// The gradient of a token.
fn nothing() -> Result<Option<Tensor>> {
    Tensor::zeros(1, DType::F32, &Device::Cpu).map(Some)
}

/// What makes the output out of its token.
pub(super) struct Output {
    call: Arc<Call>,
    ready: Mutex<Option<(CpuStorage, Shape)>>,
}

impl Output {
    pub(super) fn new(call: Arc<Call>, ready: (CpuStorage, Shape)) -> Self {
        let ready = Mutex::new(Some(ready));
        Self { call, ready }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((_, id)) = self.call.output.get() {
            // Dropped behind the lock: with it go the tensors before it.
            let link = links(|links| links.remove(id));
            drop(link);
        }
    }
}

impl CustomOp1 for Output {
    fn name(&self) -> &'static str {
        self.call.kernel.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready
            .take()
            .ok_or_else(|| Error::msg("an operation was recorded twice"))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let tensor = grad.detach();
        let grad = Gradient {
            tensor,
            owned: false,
        };
        leave(self.call.number, grad)?;
        nothing()
    }
}

/// What makes a token out of (some of) the arguments of a call.
pub(super) struct Inputs {
    pub(super) call: Arc<Call>,
    /// Which arguments, and the call that each is the output of.
    pub(super) here: Vec<(usize, Option<u64>)>,
    /// Whether this is the token of the output: then the gradients are computed here.
    pub(super) first: bool,
    /// Whether no further ones follow.
    pub(super) last: bool,
}

impl Inputs {
    fn gradients<const N: usize>(&self) -> Result<[Option<Tensor>; N]> {
        let number = self.call.number;
        let mut all = match self.first {
            true => self.call.gradients()?,
            false => TO_TAKE
                .with_borrow_mut(|t| t.remove(&number))
                .unwrap_or_default(),
        };
        let mut out = [const { None }; N];
        let mut slots = out.iter_mut();
        for ((arg, parent), slot) in self.here.iter().zip(slots.by_ref()) {
            let grad = all.get_mut(*arg).and_then(Option::take);
            *slot = self.hand_over(*arg, *parent, grad)?;
        }
        if !self.last {
            TO_TAKE.with_borrow_mut(|t| t.insert(number, all));
            if let Some(slot) = slots.next() {
                *slot = nothing()?;
            }
        }
        Ok(out)
    }

    /// Leaves the gradient for the call that the argument is the output of, or gives what candle is to have.
    fn hand_over(
        &self,
        arg: usize,
        parent: Option<u64>,
        grad: Option<Gradient>,
    ) -> Result<Option<Tensor>> {
        match (parent, grad) {
            (Some(call), grad) => {
                if let Some(grad) = grad {
                    leave(call, grad)?;
                }
                nothing()
            }
            (None, Some(grad)) => Ok(self
                .call
                .args
                .get(arg)
                .and_then(|arg| collect(arg, grad.tensor))),
            (None, None) => Ok(None),
        }
    }
}

impl CustomOp1 for Inputs {
    fn name(&self) -> &'static str {
        self.call.kernel.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.gradients()?;
        Ok(a)
    }
}

impl CustomOp2 for Inputs {
    fn name(&self) -> &'static str {
        self.call.kernel.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.gradients()?;
        Ok((a, b))
    }
}

impl CustomOp3 for Inputs {
    fn name(&self) -> &'static str {
        self.call.kernel.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.gradients()?;
        Ok((a, b, c))
    }
}
