//! Named parameters and buffers in a fixed order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Device, Tensor, Var};

use crate::{Error, Mode, Result};

mod build;
mod partial;

pub use build::{ParamBuilder, build_params, load_params};
use partial::Partial;

/// How a parameter starts. The names and formulas are PyTorch's, so that a fresh model has the same distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// All the same.
    Const(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform on `(-bound, bound)`.
    Uniform(f64),
}

/// A parameter (trained by gradients) or a buffer (e.g. running statistics).
#[derive(Debug, Clone)]
pub struct Param {
    name: Arc<str>,
    var: Var,
    frozen: Tensor,
    trainable: Arc<AtomicBool>,
    partial: Arc<RwLock<Option<Partial>>>,
    is_buffer: bool,
    transposed: bool,
}

impl Param {
    /// Its name, dotted like PyTorch's `state_dict`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor to compute with: tracked by the graph while training, without a graph otherwise.
    pub fn get(&self, mode: &Mode<'_>) -> &Tensor {
        if mode.tracks() && self.is_trainable() {
            self.var.as_tensor()
        } else {
            &self.frozen
        }
    }

    /// The values, without a graph.
    pub fn value(&self) -> &Tensor {
        &self.frozen
    }

    /// The variable behind it.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Whether gradients reach it. Never true of a buffer.
    pub fn is_trainable(&self) -> bool {
        !self.is_buffer && self.trainable.load(Ordering::Relaxed)
    }

    /// Freezes or thaws all of it. A buffer is never trained by gradients: whether its layer may change it while training
    /// is what this says of one.
    pub fn set_trainable(&self, trainable: bool) {
        self.trainable.store(trainable, Ordering::Relaxed);
        *self.partial.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether a buffer may change while training.
    pub fn is_updated(&self) -> bool {
        self.trainable.load(Ordering::Relaxed)
    }

    /// Whether it is a buffer.
    pub fn is_buffer(&self) -> bool {
        self.is_buffer
    }

    /// The values in PyTorch's layout (a weight that is kept input-major here is output-major there).
    ///
    /// # Errors
    /// If the copy fails.
    pub fn export(&self) -> Result<Tensor> {
        Ok(if self.transposed {
            self.frozen.t()?.contiguous()?
        } else {
            self.frozen.clone()
        })
    }

    /// Whether it is kept in another layout than PyTorch's: input-major.
    pub fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// The shape in PyTorch's layout.
    pub fn export_shape(&self) -> Vec<usize> {
        let mut dims = self.frozen.dims().to_vec();
        if self.transposed {
            dims.reverse();
        }
        dims
    }

    /// Overwrites the values from PyTorch's layout, converting the type.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn import(&self, value: &Tensor) -> Result<()> {
        let value = if self.transposed {
            value.t()?
        } else {
            value.clone()
        };
        let value = value
            .to_dtype(self.var.dtype())?
            .to_device(self.var.device())?
            .contiguous()?;
        Ok(self.var.set(&value)?)
    }
}

/// All parameters and buffers of a model, in the order in which they were made.
#[derive(Debug, Clone)]
pub struct Params {
    device: Device,
    dtype: DType,
    /// The type of weights that are matrices, if they are kept in half precision.
    half: Option<DType>,
    entries: Vec<Param>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Params {
    /// All entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.entries.iter()
    }

    /// The entries that gradients reach, in order.
    pub fn trainable(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter().filter(|p| p.is_trainable())
    }

    /// The entry of this name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.by_name.get(name).and_then(|&i| self.entries.get(i))
    }

    /// The masks of the parameters of which only a part is trained, by name ([`Param::train_only`]).
    pub fn masks(&self) -> Vec<(String, Tensor)> {
        let masked = |p: &Param| Some((p.name().to_owned(), p.mask()?));
        self.trainable().filter_map(masked).collect()
    }

    /// How many numbers are trained, masks not counted.
    pub fn n_trainable(&self) -> usize {
        self.trainable().map(|p| p.frozen.elem_count()).sum()
    }

    /// The first parameter or buffer that holds a NaN or an infinity.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn first_non_finite(&self) -> Result<Option<String>> {
        for p in self.entries.iter().filter(|p| p.frozen.dtype().is_float()) {
            let values = match p.frozen.dtype() {
                DType::BF16 | DType::F16 => p.frozen.to_dtype(DType::F32)?,
                _ => p.frozen.clone(),
            };
            if !crate::optim::sum_of_squares(&values)?.is_finite() {
                return Ok(Some(p.name().to_owned()));
            }
        }
        Ok(None)
    }

    /// Where they live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The floating-point type that is computed in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The type of the matrices among them where they are kept in half precision; see [`build_params`].
    pub fn half(&self) -> Option<DType> {
        self.half
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        let of = |p: &Param| p.frozen.elem_count() * p.frozen.dtype().size_in_bytes();
        self.entries.iter().map(of).sum()
    }

    /// A copy of all values, e.g. of the best epoch.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.entries.iter().map(|p| Ok(p.frozen.copy()?)).collect()
    }

    /// Puts back what [`Params::snapshot`] copied.
    ///
    /// # Errors
    /// If the copy is of another model.
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        if snapshot.len() != self.entries.len() {
            return Err(Error::InvalidSetting {
                name: "snapshot",
                value: format!("{} tensors", snapshot.len()),
                reason: format!("the model has {}", self.entries.len()),
            });
        }
        for (p, t) in self.entries.iter().zip(snapshot) {
            p.var.set(t)?;
        }
        Ok(())
    }
}
