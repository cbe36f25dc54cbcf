//! Training with labels: each minibatch of all cells goes with one of labelled cells.

use std::cell::{OnceCell, RefCell};

use sc_model::train::{
    Fitted, Loss, Observer, ResumeState, Split, Step, TrainConfig, Trainable, fit, resume,
};
use sc_model::{Mode, Params, heuristic_epochs};

use super::Scanvi;
use super::classifier::{Score, cross_entropy};
use super::config::SemiSupervised;
use super::loss::Halves;
use crate::model::Training;
use crate::{Cells, Error, Result};

impl Scanvi {
    /// Epochs that [`Scanvi::fit`] trains where the settings don't say: as scVI, and after [`Scanvi::from_scvi`] a third
    /// of them, from 2 to 10.
    pub fn default_epochs(&self, n_cells: usize) -> usize {
        let epochs = heuristic_epochs(n_cells);
        if self.pretrained {
            ((epochs as f64 / 3.0).round_ties_even() as usize).clamp(2, 10)
        } else {
            epochs
        }
    }

    /// Trains from where the weights are, on all cells and on the labels of those that have one. See
    /// [`sc_model::train::fit`] and, for what is kept of an earlier training, [`Scvi::fit`](crate::Scvi::fit).
    ///
    /// Labelled and unlabelled cells are split into those that train and those that validate separately, exactly as
    /// scvi-tools does. In each step the classifier learns from a minibatch of labelled cells besides; there are fewer
    /// of them, so they come round several times in an epoch. The history has `train_classification_loss`,
    /// `train_accuracy`, `train_f1_score` and `train_calibration_error` (and the same of `validation`) besides scVI's
    /// metrics. Without any labelled cell the classifier learns nothing, with a warning.
    ///
    /// # Errors
    /// Those of [`Scvi::fit`](crate::Scvi::fit), and [`Error::InvalidSetting`] if a setting can't be, or a single labelled
    /// cell meets a batch norm.
    pub fn fit(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        semi: &SemiSupervised,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let config = self.train_config(cells, config);
        let fitted = fit(&self.session(cells, semi)?, cells, &config, observer)?;
        let mut history = self
            .scvi
            .training
            .take()
            .map(|t| t.history)
            .unwrap_or_default();
        history.append(&fitted.history);
        self.scvi.registry.minified = None;
        self.scvi.training = Some(Training {
            split: fitted.split.clone(),
            history,
        });
        Ok(fitted)
    }

    /// Goes on with training that was interrupted; the settings must be those of then.
    ///
    /// # Errors
    /// Those of [`sc_model::train::resume`].
    pub fn resume(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        semi: &SemiSupervised,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let config = self.train_config(cells, config);
        let fitted = resume(&self.session(cells, semi)?, cells, &config, state, observer)?;
        self.scvi.training = Some(Training {
            split: fitted.split.clone(),
            history: fitted.history.clone(),
        });
        Ok(fitted)
    }

    /// The settings with the number of epochs filled in.
    pub fn train_config(&self, cells: &Cells<'_>, config: &TrainConfig) -> TrainConfig {
        let mut config = config.clone();
        config.max_epochs = Some(
            config
                .max_epochs
                .unwrap_or_else(|| self.default_epochs(cells.n_cells())),
        );
        config
    }

    fn session<'a>(&'a self, cells: &Cells<'_>, semi: &'a SemiSupervised) -> Result<Session<'a>> {
        semi.check()?;
        self.scvi.prepare(cells)?;
        if self.semi.n_labels() > 0 && !cells.labels().iter().any(|&l| self.is_known(l)) {
            tracing::warn!("no cell has a known label: the classifier does not learn from labels");
        }
        Ok(Session {
            model: self,
            semi,
            labelled: OnceCell::new(),
            order: RefCell::new(None),
        })
    }

    /// Whether a code is that of a label, not of the category that stands for "not known".
    fn is_known(&self, code: u32) -> bool {
        (code as usize) < self.semi.n_labels()
    }
}

/// One training of a model.
struct Session<'a> {
    model: &'a Scanvi,
    semi: &'a SemiSupervised,
    labelled: OnceCell<Labelled>,
    /// The order of the labelled cells in an epoch.
    order: RefCell<Option<(usize, Vec<usize>)>>,
}

/// The cells whose label is known.
struct Labelled {
    train: Vec<usize>,
    validation: Vec<usize>,
}

impl Session<'_> {
    /// The fewest labelled cells that a training minibatch may hold.
    fn fewest(&self) -> usize {
        let sees_labels =
            |name: &str| name.starts_with("z_encoder.") || name.starts_with("classifier.");
        self.model.scvi.fewest_cells(sees_labels)
    }

    fn labelled(&self, cells: &Cells<'_>, split: &Split) -> &Labelled {
        let known = |rows: &[usize]| {
            let labels = cells.labels();
            let is_known = |&&r: &&usize| labels.get(r).is_some_and(|&l| self.model.is_known(l));
            rows.iter().filter(is_known).copied().collect()
        };
        self.labelled.get_or_init(|| Labelled {
            train: known(&split.train),
            validation: known(&split.validation),
        })
    }

    /// The labelled cells that go with a minibatch, if there are any: the next of those of this epoch, which begin anew
    /// when all have been seen.
    fn rows(&self, cells: &Cells<'_>, step: &Step<'_>, batch_size: usize) -> Result<Vec<usize>> {
        let labelled = self.labelled(cells, step.split);
        if !step.mode.is_training() {
            return Ok(nth_chunk(
                &labelled.validation,
                batch_size,
                step.step_in_epoch,
                1,
            ));
        }
        if labelled.train.is_empty() {
            return Ok(Vec::new());
        }
        if labelled.train.len() < self.fewest() {
            return Err(Error::InvalidSetting {
                name: "labels",
                value: format!("{} labelled training cell", labelled.train.len()),
                reason: format!(
                    "batch normalisation needs at least {}; label more cells, or normalise layers instead",
                    self.fewest()
                ),
            });
        }
        let mut order = self.order.borrow_mut();
        if order.as_ref().is_none_or(|(epoch, _)| *epoch != step.epoch) {
            *order = Some((step.epoch, self.shuffled(&labelled.train, cells, step)));
        }
        let order = order.as_ref().map(|(_, rows)| rows.as_slice());
        Ok(nth_chunk(
            order.unwrap_or_default(),
            batch_size,
            step.step_in_epoch,
            self.fewest(),
        ))
    }

    /// The labelled cells of an epoch in random order: all, or at most so many of each label.
    fn shuffled(&self, train: &[usize], cells: &Cells<'_>, step: &Step<'_>) -> Vec<usize> {
        let mut stream = step.rng.stream("labelled").at(&[step.epoch as u64]);
        let mut shuffle = |rows: &[usize]| -> Vec<usize> {
            let order = stream.permutation(rows.len());
            order
                .into_iter()
                .filter_map(|i| rows.get(i).copied())
                .collect()
        };
        let Some(most) = self.semi.n_samples_per_label else {
            return shuffle(train);
        };
        let mut by_label = vec![Vec::new(); self.model.semi.n_labels()];
        for &row in train {
            let label = cells.labels().get(row).map(|&l| l as usize);
            if let Some(of_label) = label.and_then(|l| by_label.get_mut(l)) {
                of_label.push(row);
            }
        }
        let drawn: Vec<usize> = by_label
            .iter()
            .flat_map(|rows| shuffle(rows).into_iter().take(most))
            .collect();
        shuffle(&drawn)
    }
}

/// The `k`-th chunk of `size` rows, counted round and round. A last chunk of fewer than `fewest` is passed over.
fn nth_chunk(rows: &[usize], size: usize, k: usize, fewest: usize) -> Vec<usize> {
    let chunks = rows.len() / size + usize::from(rows.len() % size >= fewest.max(1));
    match chunks {
        0 => Vec::new(),
        n => rows.chunks(size).nth(k % n).unwrap_or_default().to_vec(),
    }
}

impl Trainable<Cells<'_>> for Session<'_> {
    fn params(&self) -> &Params {
        self.model.scvi.parameters()
    }

    fn n_cells(&self, cells: &Cells<'_>) -> usize {
        cells.n_cells()
    }

    fn read_ahead(&self, cells: &Cells<'_>, rows: &[usize]) {
        cells.counts().read_ahead(rows);
    }

    fn min_batch(&self) -> usize {
        Trainable::<Cells<'_>>::min_batch(&self.model.scvi)
    }

    fn masks(&self) -> Vec<(String, candle_core::Tensor)> {
        Trainable::<Cells<'_>>::masks(&self.model.scvi)
    }

    fn settings(&self) -> String {
        format!(
            "classification_ratio {}, n_samples_per_label {:?}",
            self.semi.classification_ratio, self.semi.n_samples_per_label
        )
    }

    fn split(&self, cells: &Cells<'_>, config: &TrainConfig) -> sc_model::Result<Split> {
        if config.split.given.is_some() {
            return config
                .split
                .split(cells.n_cells(), config.batch_size, config.seed);
        }
        let (mut labelled, mut unlabelled) = (Vec::new(), Vec::new());
        for (i, &code) in cells.labels().iter().enumerate() {
            if self.model.is_known(code) {
                labelled.push(i);
            } else {
                unlabelled.push(i);
            }
        }
        config
            .split
            .split_groups(&[labelled, unlabelled], config.batch_size, config.seed)
    }

    fn loss(&self, cells: &Cells<'_>, rows: &[usize], step: &Step<'_>) -> sc_model::Result<Loss> {
        Ok(self.step(cells, rows, step)?)
    }
}

impl Session<'_> {
    fn step(&self, cells: &Cells<'_>, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let (model, n) = (self.model, rows.len());
        let log1p = model.scvi.config.log_variational;
        let batch = cells.minibatch(rows, log1p)?;
        let noise = model.noise(n, |name| step.stream(name))?;
        let mode = model.scvi.training_mode(step.mode);
        let halves = Halves::of(&model.elbo_terms(&batch, &noise, &mode)?)?;
        let mut loss = halves.loss(step.kl_weight)?;
        let sums = halves.sums()?;
        let mut sums = vec![
            ("elbo", sums.reconstruction + sums.kl),
            ("reconstruction_loss", sums.reconstruction),
            ("kl_local", sums.kl),
        ];
        let labelled = self.rows(cells, step, step.batch_size)?;
        if !labelled.is_empty() {
            let batch = cells.minibatch(&labelled, log1p)?;
            let logits = model.labelled_logits(&batch, &mode.pass(1))?;
            let told = model.semi.classifier.trained_logits(&logits)?;
            let ce = cross_entropy(&told, &batch.labels)?;
            let score = Score::new(&logits, &batch.labels)?;
            // Means over the labelled minibatch, which the history weights by the cells of the whole one.
            let mean = |v: f64| v * n as f64;
            sums.extend([
                (
                    "{set}_classification_loss",
                    mean(crate::arrays::to_vec(&ce.detach())?.iter().sum()),
                ),
                ("{set}_accuracy", mean(score.accuracy)),
                ("{set}_f1_score", mean(score.accuracy)),
                ("{set}_calibration_error", mean(score.calibration_error)),
            ]);
            loss = (loss + (ce * self.semi.classification_ratio)?)?;
        }
        Ok(Loss {
            loss,
            sums,
            n_cells: n,
        })
    }
}

impl Scanvi {
    /// The classifier at the posterior mean of a minibatch.
    pub(crate) fn labelled_logits(
        &self,
        batch: &crate::Minibatch,
        mode: &Mode<'_>,
    ) -> Result<candle_core::Tensor> {
        let batch = batch.counted("the classification loss")?;
        let q = self.scvi.nets.encode_z(&batch, mode)?;
        self.semi.classifier.logits(&q.mean, mode)
    }

    /// The classification loss of a minibatch of labelled cells: the mean of `-log softmax(classifier(mean of z1))[label]`.
    ///
    /// # Errors
    /// If the minibatch does not fit the model, or a cell has no label.
    pub fn classification_loss(
        &self,
        batch: &crate::Minibatch,
        mode: &Mode<'_>,
    ) -> Result<candle_core::Tensor> {
        let logits = self.labelled_logits(batch, mode)?;
        cross_entropy(
            &self.semi.classifier.trained_logits(&logits)?,
            &batch.labels,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_round_and_lonely_ones_are_left_out() {
        let rows: Vec<usize> = (0..9).collect();
        let sizes = |fewest| -> Vec<usize> {
            (0..4)
                .map(|k| nth_chunk(&rows, 4, k, fewest).len())
                .collect()
        };
        assert_eq!(sizes(1), [4, 4, 1, 4]);
        assert_eq!(sizes(2), [4, 4, 4, 4]);
        assert_eq!(nth_chunk(&rows, 4, 2, 2), [0, 1, 2, 3]);
        assert!(nth_chunk(&[], 4, 0, 1).is_empty());
    }
}
