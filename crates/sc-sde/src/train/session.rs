//! A training by simulation, as the loop of sc-model sees it.

use std::cell::RefCell;

use candle_core::Tensor;
use sc_model::train::{Loss, Split, Step, TrainConfig, Trainable};
use sc_model::{Mode, Params};
use sc_tensor::{Rng, Stream};

use super::batches::minibatches;
use super::{Batch, Contrast, Objective, Paths, SdeTraining, Snapshots, Terms};
use crate::model::ScDiffEq;
use crate::solve::{BrownianPath, Schedule, Solve};
use crate::{Error, Result};

pub(super) struct Session<'a> {
    model: &'a ScDiffEq,
    training: &'a SdeTraining,
    objective: Objective,
    /// The cells that validate in this epoch, where they are drawn anew.
    redrawn: RefCell<Vec<usize>>,
}

impl<'a> Session<'a> {
    /// Makes sure that the model can be trained so on these cells.
    pub(super) fn new(
        model: &'a ScDiffEq,
        data: &Snapshots,
        training: &'a SdeTraining,
    ) -> Result<Self> {
        let objective = Objective::new(training, model)?;
        let c = model.config();
        let (expected, what) = match &c.autoencoder {
            Some(nets) => (nets.n_input, "inputs of its encoder"),
            None => (c.n_latent, "dimensions of the model"),
        };
        if data.dim() != expected {
            return Err(Error::Shape {
                what: "the states of cells",
                found: data.states().dims().to_vec(),
                expected: format!("[cells, {expected}], the {what}"),
            });
        }
        // Refuses a dt that makes too many steps of these times.
        Schedule::grid(data.times(), training.dt)?;
        Ok(Self {
            model,
            training,
            objective,
            redrawn: RefCell::default(),
        })
    }

    /// The cells of a minibatch, by time.
    fn evaluate(&self, data: &Snapshots, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let groups = data.by_time(rows);
        let params = self.model.parameters();
        let gather = |cells: &[usize]| data.rows(cells, params.dtype(), params.device());
        let Some(first) = groups.first() else {
            return Err(Error::Empty {
                what: "the minibatch",
                found: vec![0],
            });
        };
        let start = gather(first)?;
        let observed = groups.iter().enumerate().map(|(k, cells)| match k {
            // The start is what it is; nothing is compared there.
            0 => Ok(None),
            _ => Ok(Some(gather(cells)?)),
        });
        let observed = observed.collect::<Result<Vec<_>>>()?;
        let rates = match data.rates_of(first) {
            Some(rates) => Some(Tensor::new(rates, params.device())?.to_dtype(params.dtype())?),
            None => None,
        };
        let noise = Noise::of(step);
        let contrast = match (&self.training.contrast, step.mode.is_training()) {
            (Some(c), true) => self.drifted(c, &observed, &noise)?,
            _ => None,
        };
        let all = Batch {
            times: data.times().to_vec(),
            start,
            rates,
            observed,
            contrast,
        };
        let (loss, terms) = match self.training.paths {
            Paths::Through => self.run(&all, &noise.path(0), &step.mode)?,
            Paths::Fresh => self.fresh(&all, &noise, &step.mode)?,
        };
        Ok(sums(loss, &terms, first.len()))
    }

    /// One solution on paths of their own.
    fn run(&self, batch: &Batch, rng: &Rng, mode: &Mode<'_>) -> Result<(Tensor, Terms)> {
        let origin = batch.times.first().copied().unwrap_or_default();
        let n = batch.start.dim(0)? as u64;
        let m = self.objective.brownian_dim(self.model);
        let path = BrownianPath::of_cells(rng, (0..n).collect(), m, origin, self.training.dt)?;
        let evaluated = self.objective.evaluate(self.model, batch, &path, mode)?;
        Ok((evaluated.loss, evaluated.terms))
    }

    /// For every later time, paths from the start that go there only.
    fn fresh(&self, all: &Batch, noise: &Noise<'_>, mode: &Mode<'_>) -> Result<(Tensor, Terms)> {
        let mut sum: Option<Tensor> = None;
        let mut terms = Terms::default();
        let n = all.times.len().saturating_sub(1).max(1);
        let later = all.times.iter().zip(&all.observed).enumerate().skip(1);
        for (k, (t, observed)) in later {
            let batch = Batch {
                times: all.times.first().copied().into_iter().chain([*t]).collect(),
                start: all.start.clone(),
                rates: all.rates.clone(),
                observed: vec![None, observed.clone()],
                // Once for all times.
                contrast: if k == 1 { all.contrast.clone() } else { None },
            };
            let (loss, part) = self.run(&batch, &noise.path(k as u64), mode)?;
            sum = Some(match sum {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
            add(&mut terms, part, n as f64);
        }
        let sum = sum.ok_or(Error::Empty {
            what: "the list of later times",
            found: vec![0],
        })?;
        Ok((sum, terms))
    }

    /// Cells observed last, and where they drift to from there.
    fn drifted(
        &self,
        c: &Contrast,
        observed: &[Option<Tensor>],
        noise: &Noise<'_>,
    ) -> Result<Option<(Tensor, Tensor)>> {
        let Some(Some(last)) = observed.last() else {
            return Ok(None);
        };
        let n = last.dim(0)?.min(c.cells);
        let last = last.narrow(0, 0, n)?.contiguous()?;
        if c.steps == 0 {
            return Ok(Some((last.clone(), last)));
        }
        let equation = self.model.equation(&Mode::eval())?;
        let (dt, m) = (self.training.dt, self.model.config().brownian_dim());
        let cells = (0..n as u64).collect();
        let path = BrownianPath::of_cells(&noise.burn_in(), cells, m, 0.0, dt)?;
        let schedule = Schedule::grid(&[0.0, c.steps as f64 * dt], dt)?;
        let solve = Solve::new(&equation, self.training.scheme, &path, &schedule);
        Ok(solve.run(&last)?.pop().map(|drifted| (last, drifted)))
    }
}

/// The randomness of the paths of a step.
struct Noise<'a>(&'a Step<'a>);

impl<'a> Noise<'a> {
    fn of(step: &'a Step<'a>) -> Self {
        Self(step)
    }

    /// Every training step has noise of its own; validation has the same in every epoch, so that epochs can be compared.
    fn path(&self, k: u64) -> Rng {
        let step = self.0;
        match step.mode.is_training() {
            true => step.rng.child(&format!("path/{}/{k}", step.step)),
            false => step.rng.child(&format!("validation/path/{k}")),
        }
    }

    fn burn_in(&self) -> Rng {
        self.0.rng.child(&format!("burn-in/{}", self.0.step))
    }
}

/// Adds the terms of one of `n` solutions.
fn add(sum: &mut Terms, part: Terms, n: f64) {
    sum.sinkhorn.extend(part.sinkhorn);
    sum.velocity_ratio.extend(part.velocity_ratio);
    if let Some(r) = part.ratio {
        *sum.ratio.get_or_insert(0.0) += r / n;
    }
    if let Some(kl) = part.path_kl {
        *sum.path_kl.get_or_insert(0.0) += kl;
    }
    sum.others += part.others;
}

/// The loss as the loop wants it. Metrics are means over cells there, so each is given as often as there are cells.
fn sums(loss: Tensor, terms: &Terms, n_cells: usize) -> Loss {
    let n = n_cells as f64;
    let mut sums = vec![("sinkhorn", n * terms.sinkhorn.iter().sum::<f64>())];
    if !terms.velocity_ratio.is_empty() {
        sums.push((
            "velocity_ratio_loss",
            n * terms.velocity_ratio.iter().sum::<f64>(),
        ));
    }
    if let Some(r) = terms.ratio {
        sums.push(("velocity_ratio", n * r));
    }
    if let Some(kl) = terms.path_kl {
        sums.push(("path_kl", n * kl));
    }
    if terms.others != 0.0 {
        sums.push(("regularisers", n * terms.others));
    }
    Loss {
        loss,
        sums,
        n_cells,
    }
}

impl Trainable<Snapshots> for Session<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    fn n_cells(&self, data: &Snapshots) -> usize {
        data.n_cells()
    }

    fn split(&self, data: &Snapshots, config: &TrainConfig) -> sc_model::Result<Split> {
        self.training.validation.split_for(data, config)
    }

    /// The loop cuts nothing: a minibatch has cells of every time.
    fn minibatches(
        &self,
        data: &Snapshots,
        cells: &[usize],
        _: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let validation = &self.training.validation;
        let redrawn = validation.redraw.then(|| validation.split(data, stream));
        let groups = match redrawn {
            Some(Ok(split)) => {
                let groups = data.by_time(&split.train);
                self.redrawn.replace(split.validation);
                groups
            }
            // The first split was made the same way, and would have failed.
            _ => data.by_time(cells),
        };
        minibatches(&groups, self.training.batch, stream)
    }

    fn settings(&self) -> String {
        let without_run = SdeTraining {
            run: TrainConfig::default(),
            ..self.training.clone()
        };
        serde_json::to_string(&without_run).unwrap_or_default()
    }

    fn loss(&self, data: &Snapshots, rows: &[usize], step: &Step<'_>) -> sc_model::Result<Loss> {
        let redrawn = self.redrawn.borrow();
        let rows = match step.mode.is_training() || redrawn.is_empty() {
            true => rows.to_vec(),
            false => redrawn.clone(),
        };
        let rows = match step.mode.is_training() {
            true => rows,
            // No more than a minibatch has: the divergence takes time for every pair.
            false => {
                let groups = data.by_time(&rows).into_iter();
                let most = |g: Vec<usize>| {
                    let n = match self.training.batch {
                        super::BatchSize::Cells(n) => n.min(g.len()),
                        super::BatchSize::Share(_) => g.len(),
                    };
                    g.into_iter().take(n)
                };
                groups.flat_map(most).collect()
            }
        };
        self.evaluate(data, &rows, step).map_err(|source| {
            sc_model::Error::model(Error::InEpoch {
                epoch: step.epoch,
                minibatch: step.step_in_epoch,
                source: Box::new(source),
            })
        })
    }
}
