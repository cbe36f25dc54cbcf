//! Making parameters, with random values or those of a file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Shape, Tensor, Var};
use sc_tensor::rng::Rng;

use super::{Init, Param, Params};
use crate::{Error, Result};

/// Makes parameters with dotted names; `pp("encoder")` goes one level down.
///
/// Each parameter draws its initial values from a random stream of its own name, so that adding a layer does not
/// change the others.
#[derive(Clone)]
pub struct ParamBuilder<'a> {
    store: &'a RefCell<Params>,
    source: Source<'a>,
    prefix: String,
}

/// Where the initial values come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Random(&'a Rng),
    /// A file's tensors in PyTorch's layout. Shapes are compared before anything is allocated, so that a file which asks
    /// for absurd sizes is refused, not obeyed.
    File(&'a Path, &'a HashMap<String, Tensor>),
}

/// Runs `build` with a [`ParamBuilder`] and returns what it built together with the parameters it made.
///
/// With `dtype` one of half precision ([`DType::BF16`], [`DType::F16`]), weights that are matrices (linear layers, tables of
/// vectors) are kept so, in half the memory, and widened when they are used: everything is computed in `f32`. Such a model
/// cannot be trained.
///
/// # Errors
/// Those of `build`.
pub fn build_params<T, E: From<Error>>(
    device: &Device,
    dtype: DType,
    rng: &Rng,
    build: impl FnOnce(&ParamBuilder<'_>) -> Result<T, E>,
) -> Result<(T, Params), E> {
    build_from(device, dtype, Source::Random(rng), build)
}

/// The same with the values of a file, in PyTorch's names and layout.
///
/// # Errors
/// [`Error::MissingTensor`] or [`Error::WrongShape`] if the file is of another model, and those of `build`.
pub fn load_params<T, E: From<Error>>(
    device: &Device,
    dtype: DType,
    path: &Path,
    tensors: &HashMap<String, Tensor>,
    build: impl FnOnce(&ParamBuilder<'_>) -> Result<T, E>,
) -> Result<(T, Params), E> {
    build_from(device, dtype, Source::File(path, tensors), build)
}

fn build_from<T, E: From<Error>>(
    device: &Device,
    dtype: DType,
    source: Source<'_>,
    build: impl FnOnce(&ParamBuilder<'_>) -> Result<T, E>,
) -> Result<(T, Params), E> {
    let half = matches!(dtype, DType::BF16 | DType::F16).then_some(dtype);
    let store = RefCell::new(Params {
        device: device.clone(),
        dtype: half.map_or(dtype, |_| DType::F32),
        half,
        entries: Vec::new(),
        by_name: HashMap::new(),
    });
    let built = build(&ParamBuilder {
        store: &store,
        source,
        prefix: String::new(),
    })?;
    Ok((built, store.into_inner()))
}

impl ParamBuilder<'_> {
    /// The builder for names below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            store: self.store,
            source: self.source,
            prefix: self.path(&name.to_string()),
        }
    }

    /// The full name of `name` below this builder.
    pub fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.store.borrow().device.clone()
    }

    /// The floating-point type that is computed in.
    pub fn dtype(&self) -> DType {
        self.store.borrow().dtype
    }

    /// The type that matrices are kept in, where that is one of half precision.
    pub fn half(&self) -> Option<DType> {
        self.store.borrow().half
    }

    /// A parameter.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the name is taken.
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Param> {
        self.add(name, shape.into(), init, false, false)
    }

    /// A weight that PyTorch keeps as `[n_out, n_in]` and we as `[n_in, n_out]`, so that each input (a gene) owns
    /// one contiguous row. Files keep PyTorch's layout.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the name is taken.
    pub fn transposed(&self, name: &str, n_in: usize, n_out: usize, init: Init) -> Result<Param> {
        self.add(name, Shape::from((n_in, n_out)), init, false, true)
    }

    /// A buffer: saved, never trained. It starts as `value` everywhere.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the name is taken.
    pub fn buffer(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        value: f64,
        dtype: DType,
    ) -> Result<Param> {
        let shape = shape.into();
        let value = match self.source {
            Source::Random(_) => Tensor::full(value, shape, &self.device())?.to_dtype(dtype)?,
            Source::File(path, tensors) => {
                self.read_tensor(path, tensors, name, shape.dims(), dtype)?
            }
        };
        self.push(name, &value, true, false)
    }

    /// A tensor of the file, if it has this shape.
    fn read_tensor(
        &self,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
        name: &str,
        dims: &[usize],
        dtype: DType,
    ) -> Result<Tensor> {
        let name = self.path(name);
        let Some(t) = tensors.get(&name) else {
            let what = format!("of shape {dims:?}");
            return Err(Error::MissingTensor {
                path: path.to_owned(),
                name,
                what,
            });
        };
        if t.dims() != dims {
            return Err(Error::WrongShape {
                path: path.to_owned(),
                name,
                found: t.dims().to_vec(),
                expected: dims.to_vec(),
            });
        }
        Ok(t.to_dtype(dtype)?.to_device(&self.device())?)
    }

    fn add(
        &self,
        name: &str,
        shape: Shape,
        init: Init,
        is_buffer: bool,
        transposed: bool,
    ) -> Result<Param> {
        let (device, dtype) = (self.device(), self.dtype());
        let matrix = shape.rank() == 2 && !is_buffer && !transposed;
        let kept = self.half().filter(|_| matrix).unwrap_or(dtype);
        let rng = match self.source {
            Source::Random(rng) => rng,
            Source::File(path, tensors) => {
                let mut dims = shape.dims().to_vec();
                if transposed {
                    dims.reverse();
                }
                let t = self.read_tensor(path, tensors, name, &dims, kept)?;
                let t = if transposed {
                    t.t()?.contiguous()?
                } else {
                    t.contiguous()?
                };
                return self.push(name, &t, is_buffer, transposed);
            }
        };
        let mut stream = rng.stream(&format!("init/{}", self.path(name)));
        let value = match init {
            Init::Const(c) => Tensor::full(c, shape, &device)?.to_dtype(dtype)?,
            Init::Normal(sd) => (stream.normal(shape, dtype, &device)? * sd)?,
            Init::Uniform(bound) => stream.uniform(-bound, bound, shape, dtype, &device)?,
        };
        self.push(name, &value.to_dtype(kept)?, is_buffer, transposed)
    }

    fn push(&self, name: &str, value: &Tensor, is_buffer: bool, transposed: bool) -> Result<Param> {
        // A copy: a tensor of a file may be shared.
        let var = Var::from_tensor(&value.copy()?)?;
        let name: Arc<str> = self.path(name).into();
        let param = Param {
            frozen: var.as_detached_tensor(),
            trainable: Arc::new(AtomicBool::new(self.half().is_none())),
            partial: Arc::default(),
            name: name.clone(),
            var,
            is_buffer,
            transposed,
        };
        let mut store = self.store.borrow_mut();
        let index = store.entries.len();
        if store.by_name.insert(name.clone(), index).is_some() {
            return Err(Error::InvalidSetting {
                name: "parameter",
                value: name.to_string(),
                reason: "this name is taken".into(),
            });
        }
        store.entries.push(param.clone());
        Ok(param)
    }
}
