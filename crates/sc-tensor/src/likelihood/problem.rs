//! The arguments of a likelihood, checked, and free of the graph.

use std::sync::Arc;

use candle_core::{Storage, Tensor};
use sc_data::Csr;

use super::family::{Dispersion, DispersionRows, Family, Mean};
use crate::math::Float;
use crate::{DType, Error, Result};

pub(super) const OP: &str = "log_prob";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MeanKind {
    Rate,
    Softmax,
    Softplus,
}

/// Everything that the value and the gradients are a function of.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) family: Family,
    pub(super) x: Arc<Csr>,
    /// Rows of the parameters: a multiple of the rows of `x`.
    pub(super) n: usize,
    pub(super) g: usize,
    pub(super) dtype: DType,
    pub(super) mean_kind: MeanKind,
    /// `None` where the kernel computes it.
    pub(super) mean: Option<Tensor>,
    pub(super) log_library: Option<Tensor>,
    pub(super) log_theta: Option<Tensor>,
    pub(super) rows: DispersionRows,
    pub(super) dropout: Option<Tensor>,
}

fn shape_error(what: &'static str, found: &[usize], expected: impl Into<String>) -> Error {
    Error::Shape {
        op: OP,
        what,
        found: found.to_vec(),
        expected: expected.into(),
    }
}

/// The tensor out of the graph, contiguous, if it has the type that all have.
pub(super) fn plain(t: &Tensor, dtype: DType) -> Result<Tensor> {
    if t.dtype() != dtype {
        return Err(Error::DType {
            op: "log_prob, all tensors of one type",
            found: t.dtype(),
        });
    }
    Ok(t.detach().contiguous()?)
}

impl Problem {
    /// Checks shapes and types. The tensors become contiguous and leave the graph.
    pub(super) fn new(
        family: Family,
        x: &Arc<Csr>,
        mean: &Mean<'_>,
        dispersion: Option<&Dispersion<'_>>,
        dropout: Option<&Tensor>,
    ) -> Result<Self> {
        let kind = match mean {
            Mean::Rate(_) => MeanKind::Rate,
            Mean::Softmax { .. } => MeanKind::Softmax,
            Mean::Softplus { .. } => MeanKind::Softplus,
        };
        let tensor = mean.tensor();
        let mut problem = Self::of_dims(
            family,
            x,
            (kind, tensor.dims(), tensor.dtype()),
            mean.log_library(),
            dispersion,
            dropout.map(Tensor::dims),
        )?;
        problem.mean = Some(plain(tensor, problem.dtype)?);
        problem.dropout = dropout.map(|t| plain(t, problem.dtype)).transpose()?;
        Ok(problem)
    }

    /// The same, without the `[N, G]` tensors: the dimensions that they have or would have are enough.
    pub(super) fn of_dims(
        family: Family,
        x: &Arc<Csr>,
        (kind, dims, dtype): (MeanKind, &[usize], DType),
        log_library: Option<&Tensor>,
        dispersion: Option<&Dispersion<'_>>,
        dropout: Option<&[usize]>,
    ) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::DType {
                op: OP,
                found: dtype,
            });
        }
        let g = x.n_cols();
        let (n, width) = match dims {
            &[n, width] => (n, width),
            other => return Err(shape_error("the mean", other, format!("[N, {g}]"))),
        };
        let whole = if x.n_rows() == 0 {
            n == 0
        } else {
            n % x.n_rows() == 0
        };
        if width != g || !whole {
            let expected = format!("[N, {g}] with N a multiple of {}", x.n_rows());
            return Err(shape_error("the mean", dims, expected));
        }
        let plain = |t: &Tensor| plain(t, dtype);
        if let Some(l) = log_library
            && l.dims() != [n]
            && l.dims() != [n, 1]
        {
            let expected = format!("[{n}] or [{n}, 1]");
            return Err(shape_error("log_library", l.dims(), expected));
        }
        check_dispersion(family, x, n, dispersion)?;
        match dropout {
            Some(dims) if !family.has_dropout() || dims != [n, g] => {
                let expected = if family.has_dropout() {
                    format!("[{n}, {g}]")
                } else {
                    format!("none: {family:?} has no dropout")
                };
                return Err(shape_error("dropout_logits", dims, expected));
            }
            None if family.has_dropout() => {
                return Err(shape_error("dropout_logits", &[], format!("[{n}, {g}]")));
            }
            _ => {}
        }
        Ok(Self {
            family,
            x: Arc::clone(x),
            n,
            g,
            dtype,
            mean_kind: kind,
            mean: None,
            log_library: log_library.map(plain).transpose()?,
            log_theta: dispersion.map(|d| plain(d.log_theta)).transpose()?,
            rows: dispersion.map_or(DispersionRows::Shared, |d| d.rows.clone()),
            dropout: None,
        })
    }

    /// Number of rows of `log_theta`.
    pub(super) fn n_theta(&self) -> usize {
        match (&self.log_theta, &self.rows) {
            (None, _) => 0,
            (Some(_), DispersionRows::Shared) => 1,
            (Some(t), _) => t.dims().first().copied().unwrap_or(0),
        }
    }

    /// The row of `log_theta` that cell `i` uses.
    pub(super) fn theta_row(&self, i: usize) -> usize {
        match &self.rows {
            DispersionRows::Shared => 0,
            DispersionRows::PerCell => i,
            DispersionRows::Index(index) => index[i % index.len()] as usize,
        }
    }
}

fn check_dispersion(
    family: Family,
    x: &Csr,
    n: usize,
    dispersion: Option<&Dispersion<'_>>,
) -> Result<()> {
    let g = x.n_cols();
    let Some(d) = dispersion else {
        return if family.has_dispersion() {
            Err(shape_error("the dispersion", &[], format!("[R, {g}]")))
        } else {
            Ok(())
        };
    };
    let dims = d.log_theta.dims();
    if !family.has_dispersion() {
        let expected = format!("none: {family:?} has no dispersion");
        return Err(shape_error("the dispersion", dims, expected));
    }
    let (fits, expected) = match &d.rows {
        DispersionRows::Shared => (
            dims == [g] || dims == [1, g],
            format!("[{g}] or [1, {g}] (shared by all cells)"),
        ),
        DispersionRows::PerCell => (dims == [n, g], format!("[{n}, {g}] (one row per cell)")),
        DispersionRows::Index(_) => (
            dims.len() == 2 && dims.get(1) == Some(&g),
            format!("[R, {g}] (one row per group)"),
        ),
    };
    if !fits {
        return Err(shape_error("log_theta", dims, expected));
    }
    if let DispersionRows::Index(index) = &d.rows {
        if index.len() != n && index.len() != x.n_rows() {
            let expected = format!("[{}] or [{n}]", x.n_rows());
            return Err(shape_error(
                "the dispersion index",
                &[index.len()],
                expected,
            ));
        }
        let len = dims.first().copied().unwrap_or(0);
        if let Some(position) = index.iter().position(|&r| r as usize >= len) {
            return Err(Error::OutOfRange {
                op: OP,
                index: index[position] as usize,
                position,
                len,
            });
        }
    }
    Ok(())
}

/// The numbers of a [`Problem`].
pub(super) struct Numbers<'a, T> {
    /// `None` if they stand where the gradients will be.
    pub(super) mean: Option<&'a [T]>,
    pub(super) log_library: Option<&'a [T]>,
    pub(super) log_theta: Option<&'a [T]>,
    /// As `mean`.
    pub(super) dropout: Option<&'a [T]>,
    /// What is still to be added to each row of `mean` and `dropout`.
    pub(super) mean_bias: Option<&'a [T]>,
    pub(super) dropout_bias: Option<&'a [T]>,
}

impl Problem {
    /// Calls `f` with the numbers of the tensors, which must be on the CPU.
    pub(super) fn with_numbers<T: Float, R>(
        &self,
        f: impl FnOnce(&Numbers<'_, T>) -> R,
    ) -> candle_core::Result<R> {
        with_slice(self.mean.as_ref(), |mean| {
            with_slice(self.log_library.as_ref(), |log_library| {
                with_slice(self.log_theta.as_ref(), |log_theta| {
                    with_slice(self.dropout.as_ref(), |dropout| {
                        f(&Numbers {
                            mean,
                            log_library,
                            log_theta,
                            dropout,
                            mean_bias: None,
                            dropout_bias: None,
                        })
                    })
                })
            })
        })
        .and_then(|r| r)
        .and_then(|r| r)
        .and_then(|r| r)
    }
}

fn with_slice<T: Float, R>(
    tensor: Option<&Tensor>,
    f: impl FnOnce(Option<&[T]>) -> R,
) -> candle_core::Result<R> {
    let Some(tensor) = tensor else {
        return Ok(f(None));
    };
    let (guard, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*guard else {
        return Err(candle_core::Error::msg(
            "the fused likelihood needs tensors on the CPU",
        ));
    };
    let all = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(f(Some(&all[start..end]))),
        None => Err(candle_core::Error::msg(
            "the fused likelihood needs contiguous tensors",
        )),
    }
}
