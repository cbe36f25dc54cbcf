//! The fused likelihood as a part of candle's graph.
//!
//! A candle operation has at most three arguments, a likelihood has four. So each tracked tensor gets an operation of its
//! own, a port: the first one returns the log-probabilities, the others zeros, and the result is their sum. The gradients of
//! each cell's log-probability are computed together with the value and wait in memory shared by the ports; `backward` of a
//! port takes its gradient out and scales it in place.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use sc_data::Csr;

use super::composed::log_prob_composed;
use super::evaluate::{Gradients, Held, Wanted, evaluate};
use super::family::{Dispersion, DispersionRows, Family, Mean};
use super::problem::Problem;
use crate::math::{Float, Kernel, dispatch};
use crate::pool::Pooled;
use crate::{DType, Device};

/// The log-probability of every cell, summed over genes: `[N]`.
///
/// `x` are the counts of a minibatch; N is a multiple of their rows, and cell `i` has the counts of row `i % x.n_rows()`,
/// so that several posterior samples of the same minibatch need no copies of it. Whole numbers are not required. All
/// tensors have the same type, `f32` or `f64`.
///
/// `dispersion` is needed by every family but the Poisson, `dropout_logits` (`[N, G]`, the logit of the probability of an
/// extra zero) by the zero-inflated one.
///
/// Gradients are computed for the tensors that are tracked, and only for those. On a device other than the CPU this is
/// [`log_prob_composed`].
///
/// ```
/// use std::sync::Arc;
/// use sc_data::Csr;
/// use sc_tensor::likelihood::{Dispersion, Family, Mean, log_prob};
/// use sc_tensor::{Device, Tensor, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Arc::new(Csr::new(2, 3, vec![0, 2, 3], vec![0, 2, 1], vec![3.0, 1.0, 2.0])?);
/// let logits = Var::zeros((2, 3), sc_tensor::DType::F32, &Device::Cpu)?;
/// let log_library = Tensor::new(&[4f32.ln(), 2f32.ln()], &Device::Cpu)?;
/// let log_theta = Var::zeros(3, sc_tensor::DType::F32, &Device::Cpu)?;
///
/// let mean = Mean::Softmax { logits: &logits, log_library: &log_library };
/// let dispersion = Dispersion::shared(&log_theta);
/// let ll = log_prob(Family::NegativeBinomial, &x, &mean, Some(&dispersion), None)?;
/// assert_eq!(ll.dims(), [2]);
/// let grads = ll.neg()?.mean_all()?.backward()?;
/// assert!(grads.get(&logits).is_some() && grads.get(&log_theta).is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Shapes that don't fit, a type other than `f32` and `f64`, an index without a row, or a parameter that the family lacks
/// or doesn't have.
pub fn log_prob(
    family: Family,
    x: &Arc<Csr>,
    mean: &Mean<'_>,
    dispersion: Option<&Dispersion<'_>>,
    dropout_logits: Option<&Tensor>,
) -> crate::Result<Tensor> {
    if !mean.tensor().device().is_cpu() {
        return log_prob_composed(family, x, mean, dispersion, dropout_logits);
    }
    let problem = Problem::new(family, x, mean, dispersion, dropout_logits)?;
    let ports = [
        (Port::Mean, Some(mean.tensor())),
        (Port::Dropout, dropout_logits),
        (Port::LogTheta, dispersion.map(|d| d.log_theta)),
        (Port::LogLibrary, mean.log_library()),
    ];
    let tracked = ports.into_iter().filter_map(|(port, t)| Some((port, t?)));
    let tracked: Vec<_> = tracked.filter(|(_, t)| t.track_op()).collect();
    Ok(match problem.dtype {
        DType::F64 => connect::<f64>(problem, &tracked)?,
        _ => connect::<f32>(problem, &tracked)?,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Mean,
    Dropout,
    LogTheta,
    LogLibrary,
}

/// What the ports share.
struct State<T> {
    problem: Problem,
    gradients: Mutex<Gradients<T>>,
}

struct PortOp<T> {
    state: Arc<State<T>>,
    port: Port,
    /// The log-probabilities, for the port that returns them.
    value: Mutex<Option<Vec<T>>>,
}

fn connect<T: Pooled>(problem: Problem, tracked: &[(Port, &Tensor)]) -> Result<Tensor> {
    let mut wanted = Wanted::default();
    for (port, _) in tracked {
        wanted.add(*port);
    }
    let (log_prob, gradients) =
        problem.with_numbers(|x| evaluate::<T>(&problem, x, Held::default(), wanted, None))?;
    let n = problem.n;
    let state = Arc::new(State {
        problem,
        gradients: Mutex::new(gradients),
    });
    let mut value = Some(log_prob);
    let mut sum: Option<Tensor> = None;
    for &(port, tensor) in tracked {
        let part = tensor.apply_op1(PortOp {
            state: Arc::clone(&state),
            port,
            value: Mutex::new(value.take()),
        })?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    match (sum, value) {
        (Some(sum), _) => Ok(sum),
        (None, value) => Tensor::from_vec(value.unwrap_or_default(), n, &Device::Cpu),
    }
}

impl Wanted {
    fn add(&mut self, port: Port) {
        match port {
            Port::Mean => self.mean = true,
            Port::Dropout => self.dropout = true,
            Port::LogTheta => self.log_theta = true,
            Port::LogLibrary => self.log_library = true,
        }
    }
}

impl<T> Gradients<T> {
    fn take(&mut self, port: Port) -> Option<Vec<T>> {
        match port {
            Port::Mean => self.mean.take(),
            Port::Dropout => self.dropout.take(),
            Port::LogTheta => self.log_theta.take(),
            Port::LogLibrary => self.log_library.take(),
        }
    }
}

impl<T: Pooled> State<T> {
    /// The gradient of a port, computed again if an earlier `backward` has taken it or if the sums need `weights`.
    fn gradient(&self, port: Port, weights: Option<&[T]>) -> Result<Vec<T>> {
        if weights.is_none() {
            let mut waiting = self
                .gradients
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(taken) = waiting.take(port) {
                return Ok(taken);
            }
        }
        let mut wanted = Wanted::default();
        wanted.add(port);
        let (_, mut gradients) = self
            .problem
            .with_numbers(|x| evaluate(&self.problem, x, Held::default(), wanted, weights))?;
        Ok(gradients.take(port).unwrap_or_default())
    }
}

impl<T: Pooled> CustomOp1 for PortOp<T> {
    fn name(&self) -> &'static str {
        "log_prob"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = self.state.problem.n;
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let value = value.take().unwrap_or_else(|| vec![T::ZERO; n]);
        Ok((T::to_cpu_storage_owned(value), Shape::from(n)))
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let weights = grad.detach().to_vec1::<T>()?;
        let problem = &self.state.problem;
        let summed =
            self.port == Port::LogTheta && !matches!(problem.rows, DispersionRows::PerCell);
        let gradient = if summed {
            // The sum over cells was made with weights of 1, which is right up to a factor if all are equal, as for a
            // mean over cells.
            match weights.split_first() {
                Some((&first, rest)) if rest.iter().all(|&w| w == first) => {
                    let mut gradient = self.state.gradient(self.port, None)?;
                    let len = gradient.len();
                    scale_rows(&mut gradient, len, &[first]);
                    gradient
                }
                _ => self.state.gradient(self.port, Some(&weights))?,
            }
        } else {
            let mut gradient = self.state.gradient(self.port, None)?;
            let width = if self.port == Port::LogLibrary {
                1
            } else {
                problem.g
            };
            scale_rows(&mut gradient, width, &weights);
            gradient
        };
        Tensor::from_vec(gradient, arg.shape(), &Device::Cpu).map(Some)
    }
}

/// Multiplies row `i` by `weights[i]`. What becomes too small to matter becomes 0.
pub(super) fn scale_rows<T: Float>(values: &mut [T], width: usize, weights: &[T]) {
    const CHUNK: usize = 1 << 14;
    if width == 0 {
        return;
    }
    let per_task = (CHUNK / width).max(1);
    values
        .par_chunks_mut(per_task * width)
        .zip(weights.par_chunks(per_task))
        .for_each(|(values, weights)| {
            for (row, &factor) in values.chunks_mut(width).zip(weights) {
                dispatch(Scale { row, factor });
            }
        });
}

struct Scale<'a, T> {
    row: &'a mut [T],
    factor: T,
}

impl<T: Float> Kernel for Scale<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for v in self.row.iter_mut() {
            let scaled = *v * self.factor;
            *v = if scaled.absolute() < T::TINY {
                T::ZERO
            } else {
                scaled
            };
        }
    }
}
