use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use sc_tensor::backward;

use super::scheme::Memory;
use super::solver::{advance, check_finite, check_start, interpolate};
use super::{Solve, State};
use crate::{Error, Result};

/// Solved paths, and the exact gradient of the scheme on the way back ("discretise, then optimise").
///
/// A path is cut into segments of a few steps. Going back, each segment is differentiated on its own, so that neither the
/// stack nor the graph grows with the number of steps. Short paths keep their graphs from the way there; long ones keep the
/// state at the start of each segment only, and solve the segment again with the same Brownian increments.
pub struct Solution<'a> {
    solve: Solve<'a>,
    states: Vec<Tensor>,
    segments: Vec<Segment>,
}

struct Segment {
    start: State,
    graph: Option<Graph>,
}

/// A segment with its graph.
struct Graph {
    inputs: Vec<Var>,
    end: State,
    /// Which outputs lie in it, and what they are.
    outputs: Vec<(usize, Tensor)>,
}

/// Gradients of a loss of the states.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// In the start, `[cells, D]`.
    pub start: Tensor,
    /// In [`Sde::parameters`](super::Sde::parameters), in their order; 0 where the loss doesn't depend on one.
    pub parameters: Vec<Tensor>,
}

impl<'a> Solution<'a> {
    pub(super) fn new(solve: Solve<'a>, start: &Tensor) -> Result<Self> {
        check_start(solve.sde, solve.scheme, solve.motion, start)?;
        let mut solution = Self {
            solve,
            states: Vec::new(),
            segments: Vec::new(),
        };
        let mut state = State::start(solve.first_time(), start.detach());
        solve.hand_out(&state, &state, &mut solution.states)?;
        let n = solve.schedule.steps().len();
        let keep = n.saturating_mul(start.dim(0)?) <= solve.keep;
        while state.step < n {
            let graph = solution.graph(&state)?;
            let end = graph.end.detached();
            for (_, output) in &graph.outputs {
                solution.states.push(output.detach());
            }
            solution.segments.push(Segment {
                start: state,
                graph: keep.then_some(graph),
            });
            state = end;
        }
        Ok(solution)
    }

    /// The states at the times of the schedule, `[cells, D]` each, without a graph.
    pub fn states(&self) -> &[Tensor] {
        &self.states
    }

    /// Solves the segment that begins at `start`.
    fn graph(&self, start: &State) -> Result<Graph> {
        let Solve {
            sde,
            scheme,
            motion,
            schedule,
            ..
        } = self.solve;
        let inputs = start
            .tensors()
            .iter()
            .map(Var::from_tensor)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let first_output = schedule
            .outputs()
            .iter()
            .position(|o| o.after > start.step)
            .unwrap_or(schedule.outputs().len());
        let mut state = start.with_tensors(&inputs)?;
        let mut outputs = Vec::new();
        let steps = schedule.steps().iter().skip(start.step);
        for &interval in steps.take(self.solve.segment) {
            let next = advance(sde, scheme, motion, interval, &state)?;
            check_finite(&state, &next)?;
            let from = first_output + outputs.len();
            for (i, output) in schedule.outputs().iter().enumerate().skip(from) {
                if output.after != next.step {
                    break;
                }
                outputs.push((i, interpolate(&state.y, &next.y, output.weight)?));
            }
            state = next;
        }
        Ok(Graph {
            inputs,
            end: state,
            outputs,
        })
    }

    /// The value of a loss of the states, and its gradients. The loss may depend on the parameters of the equation beside the
    /// states, as a regulariser does that evaluates drift and diffusion there: those gradients are added.
    ///
    /// # Errors
    /// Those of `loss`, and as [`Solution::backward`].
    pub fn gradients_of(
        self,
        loss: impl FnOnce(&[Tensor]) -> Result<Tensor>,
    ) -> Result<(f64, Gradients)> {
        let parameters = self.solve.sde.parameters();
        let states = self
            .states
            .iter()
            .map(|z| Ok(Var::from_tensor(z)?.into_inner()))
            .collect::<Result<Vec<Tensor>>>()?;
        let loss = loss(&states)?;
        let value = loss.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let direct = backward(&loss)?;
        let of_states: Vec<_> = states.iter().map(|z| direct.get(z).cloned()).collect();
        let mut gradients = self.backward(&of_states)?;
        for (sum, p) in gradients.parameters.iter_mut().zip(&parameters) {
            if let Some(grad) = direct.get(p) {
                *sum = (&*sum + grad.detach())?;
            }
        }
        Ok((value, gradients))
    }

    /// The gradients, given those of the loss in each of the states (`None` where it doesn't depend on one).
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one for each state, of its shape.
    pub fn backward(self, of_states: &[Option<Tensor>]) -> Result<Gradients> {
        check_cotangents(&self.states, of_states)?;
        let cotangent = |i: usize| of_states.get(i).and_then(Option::as_ref);
        let parameters = self.solve.sde.parameters();
        let mut sums: Vec<Option<Tensor>> = vec![None; parameters.len()];
        // Of the tensors of the state at the end of the segment.
        let mut after: Vec<Option<Tensor>> = Vec::new();
        let mut segments = self.segments;
        let (solve, states) = (self.solve, self.states);
        let again = Solution {
            solve,
            states: Vec::new(),
            segments: Vec::new(),
        };
        while let Some(segment) = segments.pop() {
            let graph = match segment.graph {
                Some(graph) => graph,
                None => again.graph(&segment.start)?,
            };
            let mut loss: Option<Tensor> = None;
            let mut add = |value: &Tensor, by: &Tensor| -> Result<()> {
                let term = (value * by)?.sum_all()?;
                loss = Some(match &loss {
                    Some(sum) => (sum + term)?,
                    None => term,
                });
                Ok(())
            };
            for (value, by) in graph.end.tensors().iter().zip(&after) {
                if let Some(by) = by {
                    add(value, by)?;
                }
            }
            for (i, value) in &graph.outputs {
                if let Some(by) = cotangent(*i) {
                    add(value, &by.detach())?;
                }
            }
            let Some(loss) = loss else {
                after = vec![None; graph.inputs.len()];
                continue;
            };
            let grads = backward(&loss)?;
            after = graph
                .inputs
                .iter()
                .map(|v| grads.get(v.as_tensor()).map(Tensor::detach))
                .collect();
            accumulate(&mut sums, &parameters, &grads)?;
        }
        let of_start = after.into_iter().next().flatten();
        let start = match (of_start, cotangent(0)) {
            (Some(a), Some(b)) => (a + b.detach())?,
            (Some(a), None) => a,
            (None, Some(b)) => b.detach(),
            (None, None) => match states.first() {
                Some(s) => s.zeros_like()?,
                None => {
                    return Err(Error::Empty {
                        what: "the list of states",
                        found: vec![0],
                    });
                }
            },
        };
        Ok(Gradients {
            start,
            parameters: or_zeros(sums, &parameters)?,
        })
    }
}

/// Refuses gradients that don't fit the states.
pub(super) fn check_cotangents(states: &[Tensor], of_states: &[Option<Tensor>]) -> Result<()> {
    if of_states.len() != states.len() {
        return Err(Error::Shape {
            what: "the list of gradients of states",
            found: vec![of_states.len()],
            expected: format!("[{}], one for each time", states.len()),
        });
    }
    for (state, grad) in states.iter().zip(of_states) {
        if let Some(grad) = grad
            && grad.dims() != state.dims()
        {
            return Err(Error::Shape {
                what: "the gradient of a state",
                found: grad.dims().to_vec(),
                expected: format!("{:?}, as the state", state.dims()),
            });
        }
    }
    Ok(())
}

/// Adds the gradients of the parameters to their sums.
pub(super) fn accumulate(
    sums: &mut [Option<Tensor>],
    parameters: &[Tensor],
    grads: &GradStore,
) -> Result<()> {
    for (sum, p) in sums.iter_mut().zip(parameters) {
        let Some(grad) = grads.get(p) else { continue };
        let grad = grad.detach();
        *sum = Some(match sum.take() {
            Some(sum) => (sum + grad)?,
            None => grad,
        });
    }
    Ok(())
}

/// The sums, with zeros where nothing was added.
pub(super) fn or_zeros(sums: Vec<Option<Tensor>>, parameters: &[Tensor]) -> Result<Vec<Tensor>> {
    sums.into_iter()
        .zip(parameters)
        .map(|(sum, p)| match sum {
            Some(sum) => Ok(sum),
            None => Ok(p.zeros_like()?.detach()),
        })
        .collect()
}

impl Gradients {
    /// A number whose value is `loss` and whose gradient in the parameters is these gradients: what a training loop that
    /// calls `backward` on a loss is given. `parameters` are those of the equation.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn as_loss(&self, loss: f64, parameters: &[Tensor]) -> Result<Tensor> {
        let mut total = Tensor::new(loss, self.start.device())?.to_dtype(self.start.dtype())?;
        for (p, grad) in parameters.iter().zip(&self.parameters) {
            let term = (p * grad)?.sum_all()?;
            let nothing = (&term - term.detach())?;
            total = (total + nothing)?;
        }
        Ok(total)
    }
}

impl State {
    /// The same with other tensors, in the order of [`State::tensors`].
    fn with_tensors(&self, tensors: &[Var]) -> Result<Self> {
        let missing = || Error::Shape {
            what: "the tensors of a state",
            found: vec![tensors.len()],
            expected: "[1] or [4]".into(),
        };
        let get = |i: usize| {
            let var = tensors.get(i).ok_or_else(missing)?;
            Ok::<_, Error>(var.as_tensor().clone())
        };
        Ok(Self {
            t: self.t,
            step: self.step,
            y: get(0)?,
            memory: match self.memory {
                Some(_) => Some(Memory {
                    z: get(1)?,
                    f: get(2)?,
                    g: get(3)?,
                }),
                None => None,
            },
        })
    }
}
