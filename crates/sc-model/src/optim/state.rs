use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::Optimizer;
use crate::{Error, Param, Params, Result};

/// What the optimiser remembers of one parameter.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Steps with a gradient so far.
    pub(super) step: u64,
    moments: Moments,
}

#[derive(Debug, Default)]
enum Moments {
    #[default]
    None,
    F32([Vec<f32>; 2]),
    F64([Vec<f64>; 2]),
}

impl Slot {
    /// Zeros for the first `n` moments, unless they are there.
    pub(super) fn prepare(&mut self, param: &Param, n: usize) -> Result<()> {
        if !matches!(self.moments, Moments::None) {
            return Ok(());
        }
        let len = param.value().elem_count();
        let lens = [if n > 0 { len } else { 0 }, if n > 1 { len } else { 0 }];
        self.moments = match param.value().dtype() {
            DType::F32 => Moments::F32(lens.map(|l| vec![0.0; l])),
            DType::F64 => Moments::F64(lens.map(|l| vec![0.0; l])),
            other => {
                return Err(Error::InvalidSetting {
                    name: "dtype",
                    value: format!("{other:?}"),
                    reason: "parameters must be F32 or F64 to be trained".into(),
                });
            }
        };
        Ok(())
    }

    pub(super) fn f32_moments(&mut self) -> [&mut [f32]; 2] {
        match &mut self.moments {
            Moments::F32([m, v]) => [m, v],
            _ => [&mut [], &mut []],
        }
    }

    pub(super) fn f64_moments(&mut self) -> [&mut [f64]; 2] {
        match &mut self.moments {
            Moments::F64([m, v]) => [m, v],
            _ => [&mut [], &mut []],
        }
    }
}

impl Optimizer {
    /// The state as named tensors `optimizer/<parameter>/{step, m, v}`.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self, params: &Params) -> Result<Vec<(String, Tensor)>> {
        let mut out = Vec::new();
        for (param, slot) in params.iter().zip(&self.slots) {
            if slot.step == 0 {
                continue;
            }
            let mut add =
                |what: &str, t: Tensor| out.push((format!("optimizer/{}/{what}", param.name()), t));
            add("step", Tensor::new(slot.step as i64, &Device::Cpu)?);
            match &slot.moments {
                Moments::None => {}
                Moments::F32(m) => {
                    for (what, v) in ["m", "v"].into_iter().zip(m).filter(|(_, v)| !v.is_empty()) {
                        add(what, Tensor::from_slice(v, v.len(), &Device::Cpu)?);
                    }
                }
                Moments::F64(m) => {
                    for (what, v) in ["m", "v"].into_iter().zip(m).filter(|(_, v)| !v.is_empty()) {
                        add(what, Tensor::from_slice(v, v.len(), &Device::Cpu)?);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Takes up what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// If a tensor has the wrong size or type.
    pub fn load_state(&mut self, params: &Params, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let n_moments = self.kind.n_moments();
        for (param, slot) in params.iter().zip(&mut self.slots) {
            let get = |what: &str| tensors.get(&format!("optimizer/{}/{what}", param.name()));
            let Some(step) = get("step") else { continue };
            slot.step = step.to_scalar::<i64>()?.max(0) as u64;
            slot.moments = Moments::None;
            slot.prepare(param, n_moments)?;
            for (k, what) in ["m", "v"].into_iter().enumerate().take(n_moments) {
                let len = param.value().elem_count();
                let Some(t) = get(what).filter(|t| t.elem_count() == len) else {
                    return Err(Error::InvalidSetting {
                        name: "optimiser state",
                        value: format!("{}/{what}", param.name()),
                        reason: format!(
                            "the checkpoint has no moment of {len} numbers of this name"
                        ),
                    });
                };
                let t = t.flatten_all()?;
                match &mut slot.moments {
                    Moments::F32(m) => m[k] = t.to_dtype(DType::F32)?.to_vec1()?,
                    Moments::F64(m) => m[k] = t.to_dtype(DType::F64)?.to_vec1()?,
                    Moments::None => {}
                }
            }
        }
        Ok(())
    }
}
