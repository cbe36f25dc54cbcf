//! [`log_prob_linear`](super::log_prob_linear) as a part of candle's graph.
//!
//! As in `graph.rs` the tracked tensors are the arguments of ports, here of up to three tensors each, that share the state.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, Result, Shape, Tensor};

use super::evaluate::{Gradients, Held, Wanted, evaluate};
use super::graph::scale_rows;
use super::head::Layer;
use super::problem::{Numbers, Problem};
use crate::kernel::{self, Arg, Kernel, View};
use crate::matmul::{Matrix, multiply, product};
use crate::pool::{self, Pooled};

/// The arguments that may be tracked.
pub(super) struct Tensors<'a> {
    pub(super) h: &'a Tensor,
    pub(super) mean: Layer<'a>,
    pub(super) dropout: Option<Layer<'a>>,
    pub(super) log_theta: Option<&'a Tensor>,
    pub(super) log_library: &'a Tensor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Hidden,
    MeanWeight,
    MeanBias,
    DropoutWeight,
    DropoutBias,
    LogTheta,
    LogLibrary,
}

impl Tensors<'_> {
    fn tracked(&self) -> Vec<(Slot, &Tensor)> {
        let dropout = self.dropout.as_ref();
        let all = [
            (Slot::Hidden, Some(self.h)),
            (Slot::MeanWeight, Some(self.mean.weight)),
            (Slot::DropoutWeight, dropout.map(|d| d.weight)),
            (Slot::MeanBias, Some(self.mean.bias)),
            (Slot::DropoutBias, dropout.map(|d| d.bias)),
            (Slot::LogTheta, self.log_theta),
            (Slot::LogLibrary, Some(self.log_library)),
        ];
        let there = all.into_iter().filter_map(|(slot, t)| Some((slot, t?)));
        there.filter(|(_, t)| t.track_op()).collect()
    }
}

/// What the computation needs, out of the graph.
struct Inputs {
    problem: Problem,
    h: Tensor,
    /// Weight and bias.
    mean: [Tensor; 2],
    dropout: Option<[Tensor; 2]>,
    wanted: Wanted,
}

/// What the ports share. The `[N, G]` gradients come from the pool and go back to it.
struct State<T: Pooled> {
    inputs: Inputs,
    gradients: Gradients<T>,
}

impl<T: Pooled> Drop for State<T> {
    fn drop(&mut self) {
        recycle(&mut self.gradients);
    }
}

fn recycle<T: Pooled>(gradients: &mut Gradients<T>) {
    let (mean, dropout) = (gradients.mean.take(), gradients.dropout.take());
    mean.into_iter().chain(dropout).for_each(pool::give);
}

/// Log-probabilities, tracked if one of the tensors is.
pub(super) fn connect<T: Pooled>(problem: Problem, tensors: &Tensors<'_>) -> Result<Tensor> {
    let tracked = tensors.tracked();
    let has = |slots: &[Slot]| tracked.iter().any(|(slot, _)| slots.contains(slot));
    let plain = |t: &Tensor| t.detach().contiguous();
    let layer = |l: Layer<'_>| Ok::<_, candle_core::Error>([plain(l.weight)?, plain(l.bias)?]);
    let inputs = Inputs {
        h: plain(tensors.h)?,
        mean: layer(tensors.mean)?,
        dropout: tensors.dropout.map(layer).transpose()?,
        wanted: Wanted {
            mean: has(&[Slot::Hidden, Slot::MeanWeight]),
            dropout: tensors.dropout.is_some() && has(&[Slot::Hidden, Slot::DropoutWeight]),
            mean_bias: has(&[Slot::MeanBias]),
            dropout_bias: has(&[Slot::DropoutBias]),
            log_theta: has(&[Slot::LogTheta]),
            log_library: has(&[Slot::LogLibrary]),
        },
        problem,
    };
    let n = inputs.problem.n;
    let (log_prob, mut gradients) = inputs.evaluate::<T>(inputs.wanted, None)?;
    if tracked.is_empty() {
        recycle(&mut gradients);
        return kernel::tensor(log_prob, n);
    }
    let state = Arc::new(State { inputs, gradients });
    let mut value = Some(log_prob);
    let mut sum: Option<Tensor> = None;
    for chunk in tracked.chunks(3) {
        let port = Port {
            state: Arc::clone(&state),
            slots: chunk.iter().map(|&(slot, _)| slot).collect(),
            value: Mutex::new(value.take()),
        };
        let args: Vec<&Tensor> = chunk.iter().map(|&(_, t)| t).collect();
        let part = kernel::apply(port, &args)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::msg("log_prob_linear: no port"))
}

impl Inputs {
    /// Logits by two products, then the rows of the likelihood in place.
    fn evaluate<T: Pooled>(
        &self,
        wanted: Wanted,
        weights: Option<&[T]>,
    ) -> Result<(Vec<T>, Gradients<T>)> {
        let p = &self.problem;
        let logits = |[weight, _]: &[Tensor; 2]| -> Result<Vec<T>> {
            let (h, w) = (View::new(&self.h), View::new(weight));
            let (h, w) = (matrix(&h, &self.h)?, matrix(&w, weight)?);
            let mut out = pool::take(p.n * p.g);
            multiply(h, w.t(), &mut out, false)?;
            Ok(out)
        };
        let held = Held {
            mean: Some(logits(&self.mean)?),
            dropout: self.dropout.as_ref().map(logits).transpose()?,
        };
        let mean_bias = View::new(&self.mean[1]);
        let dropout_bias = self.dropout.as_ref().map(|[_, bias]| View::new(bias));
        let dropout_bias = dropout_bias.as_ref().map(View::slice).transpose()?;
        let mean_bias = Some(mean_bias.slice()?);
        p.with_numbers(|numbers| {
            let numbers = Numbers {
                mean_bias,
                dropout_bias,
                ..*numbers
            };
            evaluate(p, &numbers, held, wanted, weights)
        })
    }
}

fn matrix<'a, T: Pooled>(view: &'a View<'_>, tensor: &Tensor) -> Result<Matrix<'a, T>> {
    let (rows, cols) = tensor.dims2()?;
    Matrix::new(view.slice()?, rows, cols)
}

struct Port<T: Pooled> {
    state: Arc<State<T>>,
    slots: Vec<Slot>,
    /// The log-probabilities, for the port that returns them; the others return zeros.
    value: Mutex<Option<Vec<T>>>,
}

impl<T: Pooled> Kernel for Port<T> {
    fn name(&self) -> &'static str {
        "log_prob_linear"
    }

    fn forward(&self, _: &[Arg<'_>]) -> Result<(CpuStorage, Shape)> {
        let n = self.state.inputs.problem.n;
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let value = value.take().unwrap_or_else(|| vec![T::ZERO; n]);
        Ok((T::to_cpu_storage_owned(value), Shape::from(n)))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let cotangent = View::new(grad);
        let cotangent = cotangent.slice::<T>()?;
        let sums = self.sums(cotangent)?;
        let slots = self.slots.iter().zip(args);
        let gradients = slots.map(|(&slot, arg)| {
            let gradient = match slot {
                Slot::Hidden => self.state.by_hidden(cotangent)?,
                Slot::MeanWeight => self
                    .state
                    .by_weight(&self.state.gradients.mean, cotangent)?,
                Slot::DropoutWeight => self
                    .state
                    .by_weight(&self.state.gradients.dropout, cotangent)?,
                Slot::MeanBias => sums.of(&self.state, |g| &g.mean_bias),
                Slot::DropoutBias => sums.of(&self.state, |g| &g.dropout_bias),
                Slot::LogTheta => sums.of(&self.state, |g| &g.log_theta),
                Slot::LogLibrary => {
                    let mut each = self.state.gradients.log_library.clone().unwrap_or_default();
                    scale_rows(&mut each, 1, cotangent);
                    each
                }
            };
            kernel::tensor(gradient, arg.shape()).map(Some)
        });
        gradients.collect()
    }
}

/// Gradients that are sums over cells. Those in the state were made with weights of 1, which is right up to a factor if the
/// cotangents of all cells are equal, as for a mean over cells; otherwise they are computed again.
enum Sums<T> {
    Scaled(T),
    Again(Box<Gradients<T>>),
}

impl<T: Pooled> Sums<T> {
    fn of(&self, state: &State<T>, pick: fn(&Gradients<T>) -> &Option<Vec<T>>) -> Vec<T> {
        match self {
            Self::Again(gradients) => pick(gradients).clone().unwrap_or_default(),
            Self::Scaled(factor) => {
                let mut sum = pick(&state.gradients).clone().unwrap_or_default();
                let len = sum.len();
                scale_rows(&mut sum, len, &[*factor]);
                sum
            }
        }
    }
}

impl<T: Pooled> Port<T> {
    fn sums(&self, cotangent: &[T]) -> Result<Sums<T>> {
        let first = cotangent.first().copied().unwrap_or(T::ONE);
        let summed = [Slot::MeanBias, Slot::DropoutBias, Slot::LogTheta];
        let needed = self.slots.iter().any(|slot| summed.contains(slot));
        if !needed || cotangent.iter().all(|&c| c == first) {
            return Ok(Sums::Scaled(first));
        }
        let inputs = &self.state.inputs;
        let (_, mut gradients) = inputs.evaluate(inputs.wanted, Some(cotangent))?;
        recycle(&mut gradients);
        Ok(Sums::Again(Box::new(gradients)))
    }
}

impl<T: Pooled> State<T> {
    /// `S^T (diag(c) h)`
    fn by_weight(&self, gradients: &Option<Vec<T>>, cotangent: &[T]) -> Result<Vec<T>> {
        let p = &self.inputs.problem;
        let (n, width) = self.inputs.h.dims2()?;
        let mut h = View::new(&self.inputs.h).slice::<T>()?.to_vec();
        scale_rows(&mut h, width, cotangent);
        let s = Matrix::new(gradients.as_deref().unwrap_or_default(), p.n, p.g)?;
        product(s.t(), Matrix::new(&h, n, width)?)
    }

    /// `diag(c) (S W)`, summed over the layers.
    fn by_hidden(&self, cotangent: &[T]) -> Result<Vec<T>> {
        let p = &self.inputs.problem;
        let (n, width) = self.inputs.h.dims2()?;
        let mut out = vec![T::ZERO; n * width];
        let dropout = (self.gradients.dropout.as_ref()).zip(self.inputs.dropout.as_ref());
        let mean = (self.gradients.mean.as_ref()).map(|s| (s, &self.inputs.mean));
        for (k, (s, [weight, _])) in mean.into_iter().chain(dropout).enumerate() {
            let w = View::new(weight);
            let s = Matrix::new(s.as_slice(), p.n, p.g)?;
            multiply(s, matrix(&w, weight)?, &mut out, k > 0)?;
        }
        scale_rows(&mut out, width, cotangent);
        Ok(out)
    }
}
