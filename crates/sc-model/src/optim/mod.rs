//! Optimisers, each a single pass over parameter, gradient and state.
//!
//! The formulas are PyTorch's. A parameter without a gradient is skipped, as there (no weight decay either).

mod kernels;
mod state;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Param, Params, Result};
pub(crate) use kernels::sum_of_squares;
use kernels::{Coefficients, update};
use state::Slot;

/// Which optimiser, and its settings (the learning rate is given at each step).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Kingma & Ba 2015; `weight_decay` is added to the gradient (coupled L2).
    Adam {
        /// Decay rates of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        eps: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Loshchilov & Hutter 2019; the decay is decoupled from the gradient.
    AdamW {
        /// Decay rates of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        eps: f64,
        /// Decoupled decay, multiplied by the learning rate.
        weight_decay: f64,
    },
    /// Tieleman & Hinton 2012.
    RmsProp {
        /// Decay rate of the squared gradient.
        alpha: f64,
        /// Added to the root of the squared gradient.
        eps: f64,
        /// Decay rate of the accumulated step; 0 for none.
        momentum: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Decay rate of the accumulated gradient; 0 for none.
        momentum: f64,
        /// Look ahead along the momentum.
        nesterov: bool,
        /// L2 penalty.
        weight_decay: f64,
    },
}

impl Default for OptimizerKind {
    /// scvi-tools' Adam: epsilon 0.01, weight decay 1e-6.
    fn default() -> Self {
        Self::Adam {
            betas: (0.9, 0.999),
            eps: 0.01,
            weight_decay: 1e-6,
        }
    }
}

/// An optimiser with its state, one slot for each parameter that has had a gradient.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    slots: Vec<Slot>,
    masks: Vec<Option<Tensor>>,
    decay_frozen: bool,
}

impl Optimizer {
    /// Without state yet.
    pub fn new(kind: OptimizerKind, params: &Params) -> Self {
        Self {
            kind,
            slots: params.iter().map(|_| Slot::default()).collect(),
            masks: params.iter().map(|_| None).collect(),
            decay_frozen: false,
        }
    }

    /// Lets weight decay pull at entries that a mask freezes, as scvi-tools does; without, they do not change.
    #[must_use]
    pub fn decay_frozen(mut self, decay: bool) -> Self {
        self.decay_frozen = decay;
        self
    }

    /// Multiplies the gradient of a parameter by `mask` (same shape as the parameter is kept in) from now on. Entries whose
    /// mask is 0 keep their value.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such parameter or the shapes differ.
    pub fn set_mask(&mut self, params: &Params, name: &str, mask: Tensor) -> Result<()> {
        let found = params
            .iter()
            .position(|p| p.name() == name && p.value().dims() == mask.dims());
        match found.and_then(|i| self.masks.get_mut(i)) {
            Some(slot) => {
                *slot = Some(mask);
                Ok(())
            }
            None => Err(Error::InvalidSetting {
                name: "gradient mask",
                value: format!("{name} {:?}", mask.dims()),
                reason: "no parameter has this name and shape".into(),
            }),
        }
    }

    /// One step with learning rate `lr`. `max_norm`, if given, scales all gradients down so that their joint Euclidean
    /// norm is at most that.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn step(
        &mut self,
        params: &Params,
        grads: &GradStore,
        lr: f64,
        max_norm: Option<f64>,
    ) -> Result<()> {
        let scale = match max_norm {
            // PyTorch's clip_grad_norm_: coefficient max_norm / (norm + 1e-6), at most 1.
            Some(max) => (max / (self.masked_norm(params, grads)? + 1e-6)).min(1.0),
            None => 1.0,
        };
        for ((param, slot), mask) in params.iter().zip(&mut self.slots).zip(&self.masks) {
            if !param.is_trainable() {
                continue;
            }
            let Some(grad) = grads.get(param.var().as_tensor()) else {
                continue;
            };
            let masked;
            let grad = match mask {
                Some(m) => {
                    masked = (grad * m)?;
                    &masked
                }
                None => grad,
            };
            let held = mask.as_ref().filter(|_| !self.decay_frozen);
            self.kind
                .step_one(param, &grad.contiguous()?, held, slot, lr, scale)?;
        }
        Ok(())
    }
}

impl Optimizer {
    /// The norm of the gradients as far as the masks let them through.
    fn masked_norm(&self, params: &Params, grads: &GradStore) -> Result<f64> {
        if self.masks.iter().all(Option::is_none) {
            return global_norm(params, grads);
        }
        let mut total = 0.0;
        for (p, mask) in params
            .iter()
            .zip(&self.masks)
            .filter(|(p, _)| p.is_trainable())
        {
            if let Some(g) = grads.get(p.var().as_tensor()) {
                total += match mask {
                    Some(m) => sum_of_squares(&(g * m)?)?,
                    None => sum_of_squares(g)?,
                };
            }
        }
        Ok(total.sqrt())
    }
}

impl OptimizerKind {
    /// Whether the numbers can be used.
    pub(crate) fn check(&self) -> Result<()> {
        let rate = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x.is_finite() && x >= 0.0;
        let fine = match *self {
            Self::Adam {
                betas: (a, b),
                eps,
                weight_decay,
            }
            | Self::AdamW {
                betas: (a, b),
                eps,
                weight_decay,
            } => rate(a) && rate(b) && positive(eps) && positive(weight_decay),
            Self::RmsProp {
                alpha,
                eps,
                momentum,
                weight_decay,
            } => rate(alpha) && positive(eps) && rate(momentum) && positive(weight_decay),
            Self::Sgd {
                momentum,
                nesterov,
                weight_decay,
            } => rate(momentum) && positive(weight_decay) && !(nesterov && momentum == 0.0),
        };
        if fine {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "optimizer",
            value: format!("{self:?}"),
            reason: "decay rates must be in [0, 1), eps and weight_decay not negative, and nesterov needs momentum".into(),
        })
    }

    fn step_one(
        &self,
        param: &Param,
        grad: &Tensor,
        held: Option<&Tensor>,
        slot: &mut Slot,
        lr: f64,
        grad_scale: f64,
    ) -> Result<()> {
        slot.prepare(param, self.n_moments())?;
        slot.step += 1;
        let c = Coefficients::new(self, lr, grad_scale, slot.step);
        let host = candle_core::Device::Cpu;
        let op = Update {
            c,
            slot: std::sync::Mutex::new(slot),
            held: match held {
                Some(mask) => Some(mask.to_device(&host)?.contiguous()?),
                None => None,
            },
        };
        if param.value().device().is_cpu() {
            return Ok(param.var().as_tensor().inplace_op2(grad, &op)?);
        }
        // Other devices: the same kernel on a copy in host memory.
        let value = param.value().to_device(&host)?;
        value.inplace_op2(&grad.to_device(&host)?, &op)?;
        Ok(param.var().set(&value.to_device(param.value().device())?)?)
    }

    fn n_moments(&self) -> usize {
        match *self {
            Self::Adam { .. } | Self::AdamW { .. } => 2,
            Self::RmsProp { momentum, .. } => 1 + usize::from(momentum != 0.0),
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
        }
    }
}

struct Update<'a> {
    c: Coefficients,
    slot: std::sync::Mutex<&'a mut Slot>,
    /// Where this is 0, the parameter keeps its value.
    held: Option<Tensor>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "optimizer-step"
    }

    fn cpu_fwd(
        &self,
        param: &mut CpuStorage,
        param_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> candle_core::Result<()> {
        let mut slot = self
            .slot
            .lock()
            .map_err(|_| candle_core::Error::msg("optimiser state is poisoned"))?;
        let (Some((p0, p1)), Some((g0, g1))) = (
            param_layout.contiguous_offsets(),
            grad_layout.contiguous_offsets(),
        ) else {
            candle_core::bail!("optimiser: parameter and gradient must be contiguous");
        };
        if p1 - p0 != g1 - g0 {
            candle_core::bail!(
                "optimiser: gradient has {} numbers, parameter {}",
                g1 - g0,
                p1 - p0
            );
        }
        let held = self.held.as_ref().map(Tensor::storage_and_layout);
        let held = match &held {
            Some((storage, layout)) => match (&**storage, layout.contiguous_offsets()) {
                (candle_core::Storage::Cpu(storage), Some(range)) => Some((storage, range)),
                _ => candle_core::bail!("optimiser: a mask must be contiguous"),
            },
            None => None,
        };
        match (param, grad, held) {
            (CpuStorage::F32(p), CpuStorage::F32(g), held) => {
                let held = match held {
                    Some((CpuStorage::F32(m), (m0, m1))) => &m[m0..m1],
                    None => &[],
                    _ => candle_core::bail!("optimiser: a mask must have the parameter's type"),
                };
                let (p, g) = (&mut p[p0..p1], &g[g0..g1]);
                update(p, g, held, slot.f32_moments(), &self.c);
            }
            (CpuStorage::F64(p), CpuStorage::F64(g), held) => {
                let held = match held {
                    Some((CpuStorage::F64(m), (m0, m1))) => &m[m0..m1],
                    None => &[],
                    _ => candle_core::bail!("optimiser: a mask must have the parameter's type"),
                };
                let (p, g) = (&mut p[p0..p1], &g[g0..g1]);
                update(p, g, held, slot.f64_moments(), &self.c);
            }
            _ => candle_core::bail!("optimiser: parameters must be f32 or f64"),
        }
        Ok(())
    }
}

/// The Euclidean norm of all gradients together, added up in the order of the parameters.
///
/// # Errors
/// If a tensor operation fails.
pub fn global_norm(params: &Params, grads: &GradStore) -> Result<f64> {
    let mut total = 0.0;
    for p in params.trainable() {
        if let Some(g) = grads.get(p.var().as_tensor()) {
            total += sum_of_squares(g)?;
        }
    }
    Ok(total.sqrt())
}

/// The first parameter whose gradient holds a NaN or an infinity.
///
/// # Errors
/// If a tensor operation fails.
pub fn first_non_finite(params: &Params, grads: &GradStore) -> Result<Option<String>> {
    for p in params.trainable() {
        if let Some(g) = grads.get(p.var().as_tensor())
            && !sum_of_squares(g)?.is_finite()
        {
            return Ok(Some(p.name().to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
