use sc_model::train::{
    Fitted, Loss, Observer, ResumeState, SplitConfig, Step, TrainConfig, Trainable, fit, resume,
};
use sc_model::{LrSchedule, OptimizerKind, Params, Parity};
use serde::{Deserialize, Serialize};

use super::loss::{Parts, correct, cross_entropy};
use super::mask::{MaskConfig, Masked};
use super::{Scbert, ScbertCells};
use crate::{Error, Result};
use sc_tensor::ops::Stabiliser;

/// How a model learns to predict hidden expression. The defaults are upstream's, but for what [`Parity`] names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PretrainConfig {
    /// Which values are hidden.
    pub mask: MaskConfig,
    /// Cells that go through the network at once; a minibatch is gone through in such parts, whose gradients add up.
    /// `None` is 1, and 3 with [`Parity::Upstream`].
    pub micro_batch: Option<usize>,
    /// Draw new random features after so many passes; upstream does after 1,000. `None` keeps them.
    pub redraw_every: Option<u64>,
    /// Upstream stabilises the attention over all cells of a part together, so that cells depend on each other, weighs
    /// parts and not hidden genes alike, and counts these in `f32`.
    pub parity: Parity,
    /// The training loop.
    pub train: TrainConfig,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        let mut train = training();
        train.split.train_size = Some(0.95);
        train.max_grad_norm = Some(1e2);
        train.batch_size = 180;
        Self {
            mask: MaskConfig::default(),
            micro_batch: None,
            redraw_every: None,
            parity: Parity::Correct,
            train,
        }
    }
}

/// What pre-training and fine-tuning have in common.
pub(super) fn training() -> TrainConfig {
    let mut train = TrainConfig::default();
    train.max_epochs = Some(100);
    train.lr = 1e-4;
    train.optimizer = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 1e-8,
        weight_decay: 0.0,
    };
    train.lr_schedule = LrSchedule::CosineRestarts {
        n_epochs: 15,
        warmup: 5,
        growth: 2,
        min_lr: 1e-6,
        decay: 0.9,
    };
    train.split = SplitConfig::default();
    train.validate_every = Some(1);
    train.seed = 2021;
    train
}

/// Cells that go through the network at once, and how their attention is stabilised while training.
pub(super) fn passes(micro_batch: Option<usize>, parity: Parity) -> (usize, Stabiliser) {
    match parity {
        Parity::Correct => (micro_batch.unwrap_or(1).max(1), Stabiliser::PerSequence),
        Parity::Upstream => (micro_batch.unwrap_or(3).max(1), Stabiliser::Batch),
    }
}

impl Scbert {
    /// Trains the model to predict hidden expression. `accuracy_validation` is the mean over cells of the share of hidden
    /// genes whose token is right, among the tokens of expressed genes.
    ///
    /// # Errors
    /// Those of [`fit`], and [`Error::WrongHead`] if the model predicts classes.
    pub fn pretrain(
        &self,
        cells: &ScbertCells<'_>,
        config: &PretrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let task = self.pretraining(config)?;
        Ok(fit(&task, cells, &config.train, observer)?)
    }

    /// Goes on with [`Scbert::pretrain`] from a saved state; the result is the same bit for bit.
    ///
    /// # Errors
    /// Those of [`resume`].
    pub fn resume_pretraining(
        &self,
        cells: &ScbertCells<'_>,
        config: &PretrainConfig,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let task = self.pretraining(config)?;
        Ok(resume(&task, cells, &config.train, state, observer)?)
    }

    /// Pre-training as a task of its own, for [`fit`] or a loop of another kind. All parameters are thawed.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if a rate of the mask is no share.
    pub fn pretraining<'m>(&'m self, config: &'m PretrainConfig) -> Result<Pretraining<'m>> {
        for (name, value) in [
            ("mask.rate", config.mask.rate),
            ("mask.hidden", config.mask.hidden),
        ] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(Error::InvalidSetting {
                    name,
                    value: value.to_string(),
                    reason: "it must be a share, more than 0 and at most 1".into(),
                });
            }
        }
        self.params.iter().for_each(|p| p.set_trainable(true));
        Ok(Pretraining {
            model: self,
            config,
        })
    }
}

/// Predicting hidden expression; see [`Scbert::pretrain`].
#[derive(Debug, Clone, Copy)]
pub struct Pretraining<'m> {
    model: &'m Scbert,
    config: &'m PretrainConfig,
}

impl Pretraining<'_> {
    /// The loss of cells whose values are hidden already: each of `parts` goes through the network at once.
    ///
    /// # Errors
    /// If no value is hidden, or the tokens are not those of whole cells.
    pub fn loss_of(&self, parts: &[Masked], step: &Step<'_>) -> Result<Loss> {
        let (model, parity) = (self.model, self.config.parity);
        let stabiliser = passes(self.config.micro_batch, parity).1;
        let n_hidden: usize = parts.iter().map(|m| m.targets.len()).sum();
        let positions = model.panel.positions();
        if n_hidden == 0 {
            return Err(Error::NoCells {
                found: parts.iter().map(|m| m.tokens.len() / positions).sum(),
                reason: "no gene of the minibatch is expressed, so none can be hidden".into(),
            });
        }
        let used: Vec<&Masked> = parts.iter().filter(|m| !m.targets.is_empty()).collect();
        let mut sum = Parts::new(&model.params, step.mode, used.len());
        let mut accuracy = 0.0;
        for (i, part) in used.iter().enumerate() {
            model.note_pass(self.config.redraw_every, step, i)?;
            let y = model.nets.encode(&part.tokens, stabiliser, &step.mode)?;
            let hidden = sc_tensor::ops::embedding_ids(&y, &part.places)?;
            let logits = model.token_scores(&hidden, &step.mode)?;
            let weight = match parity {
                Parity::Correct => 1.0 / n_hidden as f64,
                Parity::Upstream => 1.0 / (part.targets.len() * used.len()) as f64,
            };
            accuracy += part.accuracy(&logits, positions, model.config.max_bin)?;
            sum.add(cross_entropy(&logits, &part.targets, |_| weight)?)?;
        }
        Ok(Loss {
            loss: sum.finish()?,
            sums: vec![("accuracy", accuracy)],
            n_cells: parts.iter().map(|m| m.tokens.len() / positions).sum(),
        })
    }

    fn hide(
        &self,
        cells: &ScbertCells<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> Result<Vec<Masked>> {
        let c = self.config;
        let (model, positions) = (self.model, self.model.panel.positions());
        let mut stream = step.stream("mask");
        let parts = rows.chunks(passes(c.micro_batch, c.parity).0);
        let hide = |part: &[usize]| {
            let tokens = cells.tokens(part)?;
            Ok(c.mask.draw(
                &tokens,
                positions,
                model.config.mask_token(),
                &mut stream,
                c.parity,
            ))
        };
        parts.map(hide).collect()
    }
}

impl Masked {
    /// The sum over cells of the share of hidden values that are predicted.
    fn accuracy(
        &self,
        logits: &candle_core::Tensor,
        positions: usize,
        max_bin: usize,
    ) -> Result<f64> {
        let cell_of = |place: &u32| *place as usize / positions;
        let (mut sum, mut from) = (0.0, 0);
        for cell in self.places.chunk_by(|a, b| cell_of(a) == cell_of(b)) {
            let targets = self
                .targets
                .get(from..from + cell.len())
                .unwrap_or_default();
            let right = correct(
                &logits.narrow(0, from, cell.len())?,
                targets,
                1..max_bin + 1,
            )?;
            sum += right as f64 / cell.len() as f64;
            from += cell.len();
        }
        Ok(sum)
    }
}

impl<'c> Trainable<ScbertCells<'c>> for Pretraining<'_> {
    fn params(&self) -> &Params {
        &self.model.params
    }

    fn n_cells(&self, cells: &ScbertCells<'c>) -> usize {
        cells.len()
    }

    fn settings(&self) -> String {
        let c = self.config;
        format!(
            "pretraining {:?} {:?} {:?} {:?}",
            c.mask, c.micro_batch, c.redraw_every, c.parity
        )
    }

    fn loss(
        &self,
        cells: &ScbertCells<'c>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        let run = || self.loss_of(&self.hide(cells, rows, step)?, step);
        run().map_err(Error::into_model)
    }
}

impl Scbert {
    /// Counts a pass of training, and draws new random features when it is time.
    pub(super) fn note_pass(&self, every: Option<u64>, step: &Step<'_>, part: usize) -> Result<()> {
        let Some(every) = every.filter(|_| step.mode.is_training()) else {
            return Ok(());
        };
        let calls = &self.nets.calls;
        let mut n = calls.value().to_scalar::<i64>()?.saturating_add(1);
        if n > i64::try_from(every).unwrap_or(i64::MAX) {
            self.draw_projections(step.rng, &[step.step, part as u64])?;
            n = 0;
        }
        Ok(calls.import(&candle_core::Tensor::new(n, calls.value().device())?)?)
    }
}
