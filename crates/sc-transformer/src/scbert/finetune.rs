use sc_data::Categorical;
use sc_model::train::{
    Fitted, KeepBest, Loss, Observer, ResumeState, Split, Step, TrainConfig, Trainable, fit, resume,
};
use sc_model::{EarlyStopping, Params, Parity};
use serde::{Deserialize, Serialize};

use super::loss::{Parts, correct, cross_entropy};
use super::pretrain::{passes, training};
use super::{Scbert, ScbertCells};
use crate::{Error, Result};

/// The metric by which the best epoch is chosen.
const ACCURACY: &str = "accuracy_validation";

/// How much the cells of each class count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClassWeights {
    /// All cells alike, as upstream.
    #[default]
    None,
    /// All classes alike: `n / (classes n_c)`.
    Balanced,
    /// `(1 - n_c / n)^2`: the weights that upstream computes and does not use.
    SquaredRarity,
}

/// How a model learns the classes of cells. The defaults are upstream's, but for what [`Parity`] names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FinetuneConfig {
    /// The block that is trained besides the last norm and the head; `None` is the last but one, as upstream. Gradients
    /// go through the blocks after it, which stay as they are.
    pub block: Option<usize>,
    /// Train everything, and not only one block, the last norm and the head: for a model whose weights are random, or of
    /// other cells. Upstream never does.
    pub everything: bool,
    /// How much the cells of each class count.
    pub class_weights: ClassWeights,
    /// Cells that go through the network at once; see [`PretrainConfig::micro_batch`](super::PretrainConfig::micro_batch).
    pub micro_batch: Option<usize>,
    /// Draw new random features after so many passes, in all blocks; upstream does after 1,000. `None` keeps them.
    pub redraw_every: Option<u64>,
    /// Upstream stabilises the attention over all cells of a part together, and adds the losses of the parts of a
    /// minibatch up instead of averaging them.
    pub parity: Parity,
    /// The training loop. 80 % of the cells of each class train; the model of the epoch with the best accuracy on the others
    /// is kept, and training stops after more than 10 epochs without a better one.
    pub train: TrainConfig,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        let mut train = training();
        train.split.train_size = Some(0.8);
        train.max_grad_norm = Some(1e6);
        train.batch_size = 180;
        train.early_stopping = Some(EarlyStopping {
            monitor: ACCURACY.into(),
            patience: 11,
            minimise: false,
            ..EarlyStopping::default()
        });
        Self {
            block: None,
            everything: false,
            class_weights: ClassWeights::None,
            micro_batch: None,
            redraw_every: None,
            parity: Parity::Correct,
            train,
        }
    }
}

impl FinetuneConfig {
    /// The block that is trained in a model of so many.
    pub(super) fn block_of(&self, depth: usize) -> usize {
        self.block.unwrap_or(depth.saturating_sub(2))
    }
}

/// Cells and their classes, those of a model.
pub struct LabelledCells<'a> {
    cells: &'a ScbertCells<'a>,
    codes: Vec<Option<u32>>,
    counts: Vec<usize>,
}

impl Scbert {
    /// Puts labels to cells: one for each row of the source that the cells came from, of the classes of this model. Cells without
    /// a label are not trained on.
    ///
    /// # Errors
    /// If the number of labels differs from that of the rows, or one is no class of the model.
    pub fn labelled<'a>(
        &self,
        cells: &'a ScbertCells<'a>,
        labels: &Categorical,
    ) -> Result<LabelledCells<'a>> {
        if labels.len() != cells.n_rows() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the labels".into(),
                found: labels.len(),
                expected: cells.n_rows(),
            }
            .into());
        }
        let labels = labels.select(cells.kept()).recode("labels", &self.labels)?;
        Ok(LabelledCells {
            cells,
            codes: labels.codes().to_vec(),
            counts: labels.counts(),
        })
    }

    /// Fine-tunes the model to tell the classes of cells; [`Scbert::with_classes`] gives it some.
    ///
    /// # Errors
    /// Those of [`fit`], and [`Error::WrongHead`] if the model has no classes.
    pub fn finetune(
        &self,
        cells: &LabelledCells<'_>,
        config: &FinetuneConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let task = self.finetuning(config)?;
        self.keep_best(observer, |o| fit(&task, cells, &config.train, o))
    }

    /// Goes on with [`Scbert::finetune`] from a saved state: the result is the same bit for bit.
    ///
    /// # Errors
    /// Those of [`resume`].
    pub fn resume_finetuning(
        &self,
        cells: &LabelledCells<'_>,
        config: &FinetuneConfig,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let task = self.finetuning(config)?;
        self.keep_best(observer, |o| resume(&task, cells, &config.train, state, o))
    }

    /// Fine-tuning as a task of its own, for [`fit`] or a loop of another kind. Freezes all but the last norm, one block and
    /// the head, unless [`FinetuneConfig::everything`] is trained.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such block, [`Error::WrongHead`] if the model has no classes.
    pub fn finetuning<'m>(&'m self, config: &'m FinetuneConfig) -> Result<Finetuning<'m>> {
        let depth = self.config.depth;
        let block = config.block_of(depth);
        if block >= depth {
            return Err(Error::InvalidSetting {
                name: "block",
                value: block.to_string(),
                reason: format!("the model has blocks 0 to {}", depth.saturating_sub(1)),
            });
        }
        if self.labels.is_empty() {
            return Err(Error::WrongHead {
                found: "expression",
                wanted: "classes",
                advice: "give it some by with_classes",
            });
        }
        let trained = [
            "norm.",
            "to_out.",
            &format!("performer.net.layers.{block}."),
        ];
        for p in self.params.iter() {
            let chosen = trained.iter().any(|t| p.name().starts_with(t));
            p.set_trainable(config.everything || chosen);
        }
        Ok(Finetuning {
            model: self,
            config,
        })
    }

    /// Trains, and puts the weights of the best epoch back.
    fn keep_best(
        &self,
        observer: &mut dyn Observer,
        train: impl FnOnce(&mut dyn Observer) -> sc_model::Result<Fitted>,
    ) -> Result<Fitted> {
        let mut observers = (KeepBest::highest(&self.params, ACCURACY), observer);
        let fitted = train(&mut observers)?;
        observers.0.restore()?;
        Ok(fitted)
    }
}

impl LabelledCells<'_> {
    /// Cells of each class.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The weight of each class.
    pub(super) fn weights(&self, kind: ClassWeights) -> Vec<f64> {
        let n = self.counts.iter().sum::<usize>() as f64;
        let present = self.counts.iter().filter(|&&c| c > 0).count() as f64;
        let weight = |&c: &usize| match kind {
            ClassWeights::None => 1.0,
            ClassWeights::Balanced => n / (present * c.max(1) as f64),
            ClassWeights::SquaredRarity => (1.0 - c as f64 / n).powi(2),
        };
        self.counts.iter().map(weight).collect()
    }

    /// The cells of each class, and the classes of some cells.
    fn by_class(&self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.counts.len()];
        for (cell, code) in self.codes.iter().enumerate() {
            if let Some(group) = code.and_then(|c| groups.get_mut(c as usize)) {
                group.push(cell);
            }
        }
        groups
    }

    fn classes(&self, cells: &[usize]) -> Result<Vec<u32>> {
        let class = |&c: &usize| {
            self.codes
                .get(c)
                .copied()
                .flatten()
                .ok_or_else(|| Error::InvalidSetting {
                    name: "split.given",
                    value: c.to_string(),
                    reason: "this cell has no label".into(),
                })
        };
        cells.iter().map(class).collect()
    }
}

/// Telling the classes of cells; see [`Scbert::finetune`].
#[derive(Debug, Clone, Copy)]
pub struct Finetuning<'m> {
    model: &'m Scbert,
    config: &'m FinetuneConfig,
}

impl Finetuning<'_> {
    /// The loss of cells with these tokens and classes, which weigh `weights`.
    ///
    /// # Errors
    /// If the tokens are not those of whole cells.
    pub fn loss_of(
        &self,
        tokens: &[u32],
        classes: &[u32],
        weights: &[f64],
        step: &Step<'_>,
    ) -> Result<Loss> {
        let (model, c) = (self.model, self.config);
        let positions = model.panel.positions();
        let (size, stabiliser) = passes(c.micro_batch, c.parity);
        let weight = |class: u32| weights.get(class as usize).copied().unwrap_or(1.0);
        let total = |classes: &[u32]| {
            classes
                .iter()
                .map(|&k| weight(k))
                .sum::<f64>()
                .max(f64::MIN_POSITIVE)
        };
        let all = total(classes);
        let mut sum = Parts::new(&model.params, step.mode, classes.len().div_ceil(size));
        let mut right = 0;
        for (i, (tokens, classes)) in (tokens.chunks(size * positions))
            .zip(classes.chunks(size))
            .enumerate()
        {
            model.note_pass(c.redraw_every, step, i)?;
            let y = model.nets.encode(tokens, stabiliser, &step.mode)?;
            let logits = model.class_scores(&y, &step.mode)?;
            right += correct(&logits, classes, 0..model.labels.len())?;
            let all = match c.parity {
                Parity::Correct => all,
                Parity::Upstream => total(classes),
            };
            let share = |i: usize| classes.get(i).map_or(0.0, |&k| weight(k) / all);
            sum.add(cross_entropy(&logits, classes, share)?)?;
        }
        Ok(Loss {
            loss: sum.finish()?,
            sums: vec![("accuracy", right as f64)],
            n_cells: classes.len(),
        })
    }
}

impl<'c> Trainable<LabelledCells<'c>> for Finetuning<'_> {
    fn params(&self) -> &Params {
        &self.model.params
    }

    fn n_cells(&self, data: &LabelledCells<'c>) -> usize {
        data.codes.len()
    }

    /// Each class is split on its own.
    fn split(&self, data: &LabelledCells<'c>, config: &TrainConfig) -> sc_model::Result<Split> {
        match config.split.given {
            Some(_) => config
                .split
                .split(data.codes.len(), config.batch_size, config.seed),
            None => config
                .split
                .split_groups(&data.by_class(), config.batch_size, config.seed),
        }
    }

    fn settings(&self) -> String {
        let c = self.config;
        let everything = if c.everything { "everything, " } else { "" };
        format!(
            "fine-tuning {everything}block {:?} {:?} {:?} {:?} {:?}",
            c.block, c.class_weights, c.micro_batch, c.redraw_every, c.parity
        )
    }

    fn loss(
        &self,
        data: &LabelledCells<'c>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        let run = || {
            let (tokens, classes) = (data.cells.tokens(rows)?, data.classes(rows)?);
            self.loss_of(
                &tokens,
                &classes,
                &data.weights(self.config.class_weights),
                step,
            )
        };
        run().map_err(Error::into_model)
    }
}
