use candle_core::Tensor;

use super::backprop::Solution;
use super::solver::{advance, check_finite, check_start, interpolate};
use super::{Motion, Schedule, Scheme, Sde, State};
use crate::Result;

/// An equation to be solved over a schedule.
#[derive(Clone, Copy)]
pub struct Solve<'a> {
    pub(super) sde: &'a dyn Sde,
    pub(super) scheme: Scheme,
    pub(super) motion: &'a dyn Motion,
    pub(super) schedule: &'a Schedule,
    pub(super) keep: usize,
    pub(super) segment: usize,
}

impl<'a> Solve<'a> {
    /// What is to be solved, how, on which Brownian motion, over which times.
    pub fn new(
        sde: &'a dyn Sde,
        scheme: Scheme,
        motion: &'a dyn Motion,
        schedule: &'a Schedule,
    ) -> Self {
        Self {
            sde,
            scheme,
            motion,
            schedule,
            keep: 1 << 17,
            segment: (16 / scheme.depth()).max(1),
        }
    }

    /// Keeps the graphs for the way back where steps times cells are no more than this; 131,072, which for nets of two layers
    /// of 512 units is between one and two gigabytes. Longer paths are solved again, piece by piece, on the way back: a third
    /// more work, in the memory of a piece.
    #[must_use]
    pub fn keep_graphs_of(mut self, steps_times_cells: usize) -> Self {
        self.keep = steps_times_cells;
        self
    }

    /// Steps of a piece: what the graph, and with it the stack, is as deep as. 16 of Euler's, fewer of others.
    #[must_use]
    pub fn segment(mut self, steps: usize) -> Self {
        self.segment = steps.max(1);
        self
    }

    /// The states at the times of the schedule, without a graph. Nothing but them and the current state is held.
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged) if a path leaves the finite numbers;
    /// [`Error::NotFinite`](crate::Error::NotFinite) if it starts there.
    pub fn run(&self, start: &Tensor) -> Result<Vec<Tensor>> {
        let mut states = Vec::with_capacity(self.schedule.outputs().len());
        self.walk(start, |_, before, state| {
            self.hand_out(before, state, &mut states)
        })?;
        Ok(states)
    }

    /// The states at the times of the schedule, and the way back from gradients of them.
    ///
    /// # Errors
    /// As [`Solve::run`].
    pub fn with_gradients(&self, start: &Tensor) -> Result<Solution<'a>> {
        Solution::new(*self, start)
    }

    /// Calls `visit` with the number of steps done, the state before and the state after, from the start on.
    pub(super) fn walk(
        &self,
        start: &Tensor,
        mut visit: impl FnMut(usize, &State, &State) -> Result<()>,
    ) -> Result<()> {
        check_start(self.sde, self.scheme, self.motion, start)?;
        let mut state = State::start(self.first_time(), start.detach());
        visit(0, &state, &state)?;
        for &interval in self.schedule.steps() {
            let next = advance(self.sde, self.scheme, self.motion, interval, &state)?.detached();
            check_finite(&state, &next)?;
            visit(next.step, &state, &next)?;
            state = next;
        }
        Ok(())
    }

    pub(super) fn first_time(&self) -> f64 {
        self.schedule.times().first().copied().unwrap_or_default()
    }

    /// Appends the outputs that lie in the step that led to `state`.
    pub(super) fn hand_out(
        &self,
        before: &State,
        state: &State,
        states: &mut Vec<Tensor>,
    ) -> Result<()> {
        for output in self.schedule.outputs().iter().skip(states.len()) {
            if output.after != state.step {
                break;
            }
            states.push(interpolate(&before.y, &state.y, output.weight)?);
        }
        Ok(())
    }
}

impl State {
    /// The same without a graph.
    pub(super) fn detached(&self) -> Self {
        Self {
            t: self.t,
            step: self.step,
            y: self.y.detach(),
            memory: self.memory.as_ref().map(|m| super::scheme::Memory {
                z: m.z.detach(),
                f: m.f.detach(),
                g: m.g.detach(),
            }),
        }
    }

    /// Its tensors in a fixed order.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let mut all = vec![self.y.clone()];
        if let Some(m) = &self.memory {
            all.extend([m.z.clone(), m.f.clone(), m.g.clone()]);
        }
        all
    }
}
