//! The loss of a minibatch: paths through the times, and what comes of them.

use candle_core::{DType, Tensor};
use sc_model::Mode;

use super::{Batch, Evaluated, SdeTraining, Terms};
use crate::model::{
    DiffusionKind, DriftKind, Equation, ScDiffEq, diffusion_floor, drift_energy, growth_weights,
    potential_contrast,
};
use crate::solve::{At, Calculus, Motion, Noise, PathKl, Schedule, Sde, Solve};
use crate::{Error, Result};

/// The loss that a model is trained with.
///
/// `sum_k S(simulated_k, observed_k)` over the times, where simulated cells weigh by their growth, and regularisers. All
/// divergences of a minibatch start from the same epsilon, as in scDiffEq, unless
/// [`Marginals::shared_diameter`](super::Marginals::shared_diameter) says otherwise.
#[derive(Debug, Clone)]
pub struct Objective {
    training: SdeTraining,
}

impl Objective {
    /// The loss with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if such a model can't be trained so.
    pub fn new(training: &SdeTraining, model: &ScDiffEq) -> Result<Self> {
        training.check(model.config())?;
        Ok(Self {
            training: training.clone(),
        })
    }

    /// Brownian motions of each cell: what the paths of [`Objective::evaluate`] are made with. One more than the model has where
    /// the divergence from a prior stands beside the state, as a coordinate without noise.
    pub fn brownian_dim(&self, model: &ScDiffEq) -> usize {
        let c = model.config();
        let by_coordinate = matches!(c.noise(), Noise::Diagonal | Noise::Coordinatewise);
        c.brownian_dim() + usize::from(has_prior(model) && by_coordinate)
    }

    /// Moves the cells of a minibatch through its times on the paths of `motion`, and compares.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a path leaves the finite numbers; [`Error::Shape`] if the parts of the batch don't fit.
    pub fn evaluate(
        &self,
        model: &ScDiffEq,
        batch: &Batch,
        motion: &dyn Motion,
        mode: &Mode<'_>,
    ) -> Result<Evaluated> {
        batch.check()?;
        let equation = model.equation(mode)?;
        let start = match model.autoencoder() {
            Some(nets) => nets.encode(&batch.start, mode)?,
            None => batch.start.clone(),
        };
        let prior = has_prior(model);
        let run = Run {
            training: &self.training,
            model,
            equation: &equation,
            batch,
            mode,
            prior,
        };
        match prior {
            true => {
                let with_prior = PathKl(&equation);
                let extended = PathKl::<&Equation>::start(&start)?;
                run.evaluate(&with_prior, &extended, motion)
            }
            false => run.evaluate(&equation, &start, motion),
        }
    }
}

/// Whether the divergence of paths from those of a prior belongs to the loss.
fn has_prior(model: &ScDiffEq) -> bool {
    let c = model.config();
    c.drift == DriftKind::PriorPotential && c.diffusion != DiffusionKind::None
}

/// One minibatch in one mode.
struct Run<'a> {
    training: &'a SdeTraining,
    model: &'a ScDiffEq,
    equation: &'a Equation,
    batch: &'a Batch,
    mode: &'a Mode<'a>,
    /// Whether the last column of states is the divergence from the prior.
    prior: bool,
}

/// An equation with parameters besides its own: those of a decoder, which the loss depends on too.
struct WithParameters<'a> {
    sde: &'a dyn Sde,
    more: Vec<Tensor>,
}

impl Sde for WithParameters<'_> {
    fn noise(&self) -> Noise {
        self.sde.noise()
    }
    fn calculus(&self) -> Calculus {
        self.sde.calculus()
    }
    fn drift(&self, at: At, y: &Tensor) -> Result<Tensor> {
        self.sde.drift(at, y)
    }
    fn diffusion(&self, at: At, y: &Tensor) -> Result<Tensor> {
        self.sde.diffusion(at, y)
    }
    fn diffusion_jvp(&self, at: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        self.sde.diffusion_jvp(at, y, direction)
    }
    fn parameters(&self) -> Vec<Tensor> {
        let mut all = self.sde.parameters();
        all.extend(self.more.iter().cloned());
        all
    }
}

impl Run<'_> {
    fn evaluate(&self, sde: &dyn Sde, start: &Tensor, motion: &dyn Motion) -> Result<Evaluated> {
        let schedule = Schedule::grid(&self.batch.times, self.training.dt)?;
        let sde = WithParameters {
            sde,
            more: self.decoder(),
        };
        let solve = Solve::new(&sde, self.training.scheme, motion, &schedule);
        if !self.mode.tracks() {
            let states = self.split(&solve.run(start)?)?.0;
            let (loss, sinkhorn) = self.marginals(&states)?;
            let terms = Terms {
                sinkhorn,
                ..Terms::default()
            };
            return Ok(Evaluated { loss, terms });
        }
        let solution = solve.with_gradients(start)?;
        let mut terms = Terms::default();
        let (value, gradients) = solution.gradients_of(|states| {
            let (loss, parts) = self.loss(states, schedule.steps().len())?;
            terms = parts;
            Ok(loss)
        })?;
        let mut loss = gradients.as_loss(value, &sde.parameters())?;
        if self.model.autoencoder().is_some() {
            // The start was encoded: the way back goes on into the encoder.
            let term = (start * &gradients.start)?.sum_all()?;
            loss = (loss + (&term - term.detach())?)?;
        }
        Ok(Evaluated { loss, terms })
    }

    fn decoder(&self) -> Vec<Tensor> {
        let all = self.model.parameters().trainable();
        all.filter(|p| p.name().starts_with("Decoder."))
            .map(|p| p.var().as_tensor().clone())
            .collect()
    }

    /// The states, and the divergence from the prior at the end.
    fn split(&self, states: &[Tensor]) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        if !self.prior {
            return Ok((states.to_vec(), None));
        }
        let mut all = Vec::with_capacity(states.len());
        let mut last = None;
        for state in states {
            let (z, kl) = PathKl::<&Equation>::split(state)?;
            all.push(z);
            last = Some(kl);
        }
        Ok((all, last))
    }

    /// The loss of the states at the times.
    fn loss(&self, states: &[Tensor], n_steps: usize) -> Result<(Tensor, Terms)> {
        let (states, kl) = self.split(states)?;
        let (mut loss, sinkhorn) = self.marginals(&states)?;
        let mut terms = Terms {
            sinkhorn,
            ..Terms::default()
        };
        if let Some(kl) = kl {
            let kl = kl.mean_all()?;
            terms.path_kl = Some(number(&kl)?);
            loss = (loss + kl)?;
        }
        if let Some(term) = self.regularisers(&states, n_steps, &mut terms)? {
            loss = (loss + term)?;
        }
        if let (Some(c), Some((observed, drifted))) =
            (&self.training.contrast, &self.batch.contrast)
        {
            // Of the step behind the last, so that dropout drops units of its own.
            let at = self.at(n_steps, states.len());
            let high = self.equation.potential(at, observed)?;
            let low = self.equation.potential(at, drifted)?;
            let term = potential_contrast(&high, &low, c.tau, c.factor)?;
            terms.others += number(&term)?;
            loss = (loss + term)?;
        }
        Ok((loss, terms))
    }

    /// The terms of drift and diffusion at the times.
    fn regularisers(
        &self,
        states: &[Tensor],
        n_steps: usize,
        terms: &mut Terms,
    ) -> Result<Option<Tensor>> {
        let t = self.training;
        if t.velocity_ratio.is_none() && t.diffusion_floor.is_none() && t.drift_energy == 0.0 {
            return Ok(None);
        }
        let mut sum: Option<Tensor> = None;
        let mut add = |term: Tensor| -> Result<()> {
            sum = Some(match sum.take() {
                Some(sum) => (sum + term)?,
                None => term,
            });
            Ok(())
        };
        let n = states.len() as f64;
        for (k, z) in states.iter().enumerate() {
            let at = self.at(n_steps, k);
            let f = self.equation.drift(at, z)?;
            if t.drift_energy > 0.0 {
                let term = (drift_energy(&f)? * (t.drift_energy / n))?;
                terms.others += number(&term)?;
                add(term)?;
            }
            if t.velocity_ratio.is_none() && t.diffusion_floor.is_none() {
                continue;
            }
            let g = self.equation.diffusion(at, z)?;
            if let Some(floor) = &t.diffusion_floor {
                let term = (diffusion_floor(&g, floor.floor)? * (floor.weight / n))?;
                terms.others += number(&term)?;
                add(term)?;
            }
            if let Some(ratio) = &t.velocity_ratio {
                let term = ratio.term(&f, &g)?;
                terms.velocity_ratio.push(number(&term.loss)?);
                let r = number(&term.drift)? / number(&term.diffusion)?;
                *terms.ratio.get_or_insert(0.0) += r / n;
                add(term.loss)?;
            }
        }
        Ok(sum)
    }

    /// Where the regularisers of time `k` are evaluated: behind the path, so that dropout drops units of its own.
    fn at(&self, n_steps: usize, k: usize) -> At {
        At {
            t: self.batch.times.get(k).copied().unwrap_or_default(),
            step: n_steps + k,
            stage: 0,
        }
    }

    /// The divergences of simulated and observed cells: their sum, and each.
    fn marginals(&self, states: &[Tensor]) -> Result<(Tensor, Vec<f64>)> {
        let decoded = self.decoded(states)?;
        let observed = &self.batch.observed;
        let marginals = &self.training.marginals;
        let shared = match marginals.shared_diameter {
            true => {
                let clouds = observed.iter().flatten();
                let all = clouds.chain([&self.batch.start]).chain(&decoded);
                Some(diameter(all)?)
            }
            false => None,
        };
        let sinkhorn = marginals.sinkhorn(shared)?;
        let first = self.batch.times.first().copied().unwrap_or_default();
        let mut sum = match states.first() {
            Some(z) => Tensor::zeros((), z.dtype(), z.device())?,
            None => {
                return Err(Error::Empty {
                    what: "the list of states",
                    found: vec![0],
                });
            }
        };
        let mut each = Vec::with_capacity(decoded.len());
        for ((x, y), t) in decoded.iter().zip(observed).zip(&self.batch.times) {
            let Some(y) = y else {
                each.push(0.0);
                continue;
            };
            let weights = match &self.batch.rates {
                Some(rates) => Some(growth_weights(rates, t - first)?),
                None => None,
            };
            let value = sinkhorn.loss_weighted(x, weights.as_ref(), y, None)?;
            each.push(number(&value)?);
            sum = (sum + value)?;
        }
        Ok((sum, each))
    }

    /// The states as they are compared with the data.
    fn decoded(&self, states: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(nets) = self.model.autoencoder() else {
            return Ok(states.to_vec());
        };
        // All times in one pass, so that dropout drops other units at each.
        let all = nets.decode(&Tensor::cat(states, 0)?, self.mode)?;
        let n = self.batch.start.dim(0)?;
        let part = |k: usize| Ok(all.narrow(0, k * n, n)?.contiguous()?);
        (0..states.len()).map(part).collect()
    }
}

/// The diagonal of the box around all points.
fn diameter<'t>(clouds: impl Iterator<Item = &'t Tensor>) -> Result<f64> {
    let mut boxes: Option<(Vec<f64>, Vec<f64>)> = None;
    for cloud in clouds {
        let cloud = cloud.detach();
        let corner =
            |t: Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(DType::F64)?.to_vec1::<f64>()?) };
        let (low, high) = (corner(cloud.min(0)?)?, corner(cloud.max(0)?)?);
        boxes = Some(match boxes {
            None => (low, high),
            Some((l, h)) => (
                l.iter().zip(&low).map(|(a, b)| a.min(*b)).collect(),
                h.iter().zip(&high).map(|(a, b)| a.max(*b)).collect(),
            ),
        });
    }
    let (low, high) = boxes.unwrap_or_default();
    let sides = low.iter().zip(&high).map(|(l, h)| h - l);
    Ok(sides.fold(0.0, f64::hypot))
}

fn number(t: &Tensor) -> Result<f64> {
    Ok(t.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?)
}
