use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::save::{WEIGHTS, model_kind, read_model, save_model};
use sc_model::train::{
    Fitted, History, Loss, Observer, ResumeState, Split, Step, TrainConfig, Trainable, fit, resume,
};
use sc_model::{Mode, Params};
use serde::{Deserialize, Serialize};

use crate::arrays::to_vec;
use crate::cells::Minibatch;
use crate::elbo::Noise;
use crate::nets::{Nets, Posterior};
use crate::{Cells, Error, Query, Registry, Result, ScviConfig, ScviParams};

/// scVI: a variational auto-encoder of single-cell counts (Lopez et al., Nature Methods 2018).
///
/// A cell with counts `x` in batch `s` is generated as
///
/// ```text
/// z ~ Normal(0, I)                             what the cell is, without its batch
/// l = ln(sum of x)                             its library size (or learned)
/// mu = exp(l) * softmax(decoder(z, s))         expected counts
/// x ~ ZINB(mu, theta, dropout(z, s))           or NB, Poisson, Normal
/// ```
///
/// and `q(z | x) = Normal(mean(x), var(x))` is learned with it by maximising the evidence lower bound.
///
/// ```
/// use sc_latent::{Cells, Likelihood, Scvi};
/// use sc_model::train::TrainConfig;
///
/// // Sixty cells of two kinds, five genes.
/// let counts = ndarray::Array2::from_shape_fn((60, 5), |(i, g)| ((i * 7 + g * 3) % 5 + if i % 2 == g % 2 { 6 } else { 0 }) as f32);
/// let cells = Cells::plain(&counts);
/// let mut model = Scvi::params(&cells)
///     .n_latent(2)
///     .likelihood(Likelihood::Nb)
///     .check()?
///     .init(&candle_core::Device::Cpu, 0)?;
/// let mut config = TrainConfig::default();
/// config.max_epochs = Some(3);
/// let fitted = model.fit(&cells, &config, &mut ())?;
/// assert_eq!(fitted.history.values("elbo_train").len(), 3);
/// assert_eq!(model.latent(&cells)?.mean.dim(), (60, 2));
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Debug)]
pub struct Scvi {
    pub(crate) config: ScviConfig,
    pub(crate) registry: Registry,
    pub(crate) params: Params,
    pub(crate) nets: Nets,
    pub(crate) training: Option<Training>,
    pub(crate) query: Option<Query>,
}

/// What is kept of training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Training {
    /// Which cells trained and which validated.
    pub split: Split,
    /// The metrics of each epoch.
    pub history: History,
}

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved {
    model: ScviConfig,
    registry: Registry,
    training: Option<Training>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<Query>,
}

pub(crate) const KIND: &str = "scvi";

impl Scvi {
    /// The settings.
    pub fn config(&self) -> &ScviConfig {
        &self.config
    }

    /// Genes and categories.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Parameters and buffers.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// What is kept of training, if there was any.
    pub fn training(&self) -> Option<&Training> {
        self.training.as_ref()
    }

    /// Whether cells were made for this model: the codes of batches and the order of genes must mean the same.
    pub(crate) fn fits(&self, cells: &Cells<'_>) -> Result<()> {
        let (a, b) = (&self.registry, cells.registry());
        // A posterior that was stored before more training is no longer this model's.
        let is_own = cells.stored_posterior().is_none_or(|_| {
            cells.minified().is_some_and(|kind| !kind.has_counts()) || a.minified == b.minified
        });
        let same = is_own
            && a.genes == b.genes
            && a.batches == b.batches
            && a.labels == b.labels
            && a.categorical_covariates == b.categorical_covariates
            && a.setup.continuous_covariate_keys == b.setup.continuous_covariate_keys
            && a.setup.size_factor_key.is_some() == b.setup.size_factor_key.is_some();
        if same {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "cells",
            value: "made for other genes or categories".into(),
            reason: "make them with Cells::for_model(data, model.registry())".into(),
        })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.params.dtype()
    }

    pub(crate) fn device(&self) -> &Device {
        self.params.device()
    }

    /// Trains from where the weights are. See [`sc_model::train::fit`].
    ///
    /// A model that was trained before goes on with its weights, a fresh optimiser, and the KL weight from its start; the
    /// history is appended. Give it another seed, or it will see the same random numbers again.
    ///
    /// A learned library size takes its prior from the cells first. Counts should have been looked at with
    /// [`Cells::check_counts`].
    ///
    /// # Errors
    /// [`Error::EmptyCells`] if a cell has no counts, and those of [`sc_model::train::fit`].
    pub fn fit(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        self.prepare(cells)?;
        let fitted = fit(self, cells, config, observer)?;
        let mut history = self.training.take().map(|t| t.history).unwrap_or_default();
        history.append(&fitted.history);
        self.registry.minified = None;
        self.training = Some(Training {
            split: fitted.split.clone(),
            history,
        });
        Ok(fitted)
    }

    /// Goes on with training that was interrupted.
    ///
    /// # Errors
    /// Those of [`sc_model::train::resume`].
    pub fn resume(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        self.prepare(cells)?;
        let fitted = resume(self, cells, config, state, observer)?;
        self.training = Some(Training {
            split: fitted.split.clone(),
            history: fitted.history.clone(),
        });
        Ok(fitted)
    }

    /// Library sizes of all cells: refuses empty cells, and sets the prior of a learned library size to the mean and
    /// variance of its logarithm in each batch (an empty cell counts as 0, as in scvi-tools).
    pub(crate) fn prepare(&self, cells: &Cells<'_>) -> Result<()> {
        self.fits(cells)?;
        cells.require_counts("training")?;
        let log_library = self.log_library_sizes(cells)?;
        if self.nets.library_prior.is_none() && self.registry.setup.size_factor_key.is_none() {
            refuse_empty(&log_library)?;
        }
        self.set_library_prior(cells, &log_library)
    }

    /// The prior of a learned library size in each batch. Those of a reference stay in the model of a query.
    fn set_library_prior(&self, cells: &Cells<'_>, log_library: &[f64]) -> Result<()> {
        let Some((means, vars)) = &self.nets.library_prior else {
            return Ok(());
        };
        let n = self.registry.batches.len();
        let known = self
            .query
            .as_ref()
            .map_or(0, |q| q.reference_batches.min(n));
        let (mut mean, mut var) = match known {
            0 => (vec![0.0; n], vec![1.0; n]),
            _ => (to_vec(means.value())?, to_vec(vars.value())?),
        };
        for b in known..n {
            let of_batch: Vec<f64> = log_library
                .iter()
                .zip(cells.batch())
                .filter(|(_, code)| **code as usize == b)
                .map(|(l, _)| if l.is_finite() { *l } else { 0.0 })
                .collect();
            if !of_batch.is_empty() {
                let m = of_batch.iter().sum::<f64>() / of_batch.len() as f64;
                mean[b] = m;
                // Without any spread the prior would be a point, and its density infinite.
                var[b] =
                    of_batch.iter().map(|l| (l - m).powi(2)).sum::<f64>() / of_batch.len() as f64;
            }
        }
        if let Some(b) = var.iter().position(|v| *v <= 0.0) {
            return Err(Error::InvalidSetting {
                name: "use_observed_lib_size",
                value: "false".into(),
                reason: format!(
                    "all cells of batch \"{}\" have the same library size, so that its prior has no variance; observe \
                     the library size instead, or merge that batch",
                    self.registry.batches[b]
                ),
            });
        }
        means.import(&Tensor::from_vec(mean, (1, n), self.device())?)?;
        vars.import(&Tensor::from_vec(var, (1, n), self.device())?)?;
        Ok(())
    }

    /// The prior of the library size in the batches that only the query has.
    pub(crate) fn learn_library_prior(&self, cells: &Cells<'_>) -> Result<()> {
        if self.nets.library_prior.is_none() {
            return Ok(());
        }
        self.set_library_prior(cells, &self.log_library_sizes(cells)?)
    }

    /// The log of the sum of counts of every cell; minus infinity for empty ones.
    fn log_library_sizes(&self, cells: &Cells<'_>) -> Result<Vec<f64>> {
        const ROWS_AT_ONCE: usize = 4096;
        let mut out = Vec::with_capacity(cells.n_cells());
        for start in (0..cells.n_cells()).step_by(ROWS_AT_ONCE) {
            let end = (start + ROWS_AT_ONCE).min(cells.n_cells());
            out.extend(
                cells
                    .counts()
                    .read_range(start..end)?
                    .row_sums()
                    .iter()
                    .map(|s| s.ln()),
            );
        }
        Ok(out)
    }

    /// `q(z | x)` of a minibatch, and `q(l | x)` if the library size is learned. Of minified cells it is the one that was
    /// stored; [`Minibatch::counted`] makes the encoder look at their counts.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn encode(
        &self,
        batch: &Minibatch,
        mode: &Mode<'_>,
    ) -> Result<(Posterior, Option<Posterior>)> {
        self.nets.encode(batch, mode)
    }

    /// LinearSCVI's loadings, `[genes, n_latent]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the decoder is not linear.
    pub fn loadings(&self) -> Result<ndarray::Array2<f32>> {
        match self.nets.loadings()? {
            Some(t) => crate::arrays::to_array2(&t),
            None => Err(Error::InvalidSetting {
                name: "decoder",
                value: "nonlinear".into(),
                reason: "only LinearSCVI has loadings (Scvi::linear_params)".into(),
            }),
        }
    }

    /// Writes `config.json` and `model.safetensors` to a folder.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let saved = Saved {
            model: self.config.clone(),
            registry: self.registry.clone(),
            training: self.training.clone(),
            query: self.query.clone(),
        };
        Ok(save_model(dir.as_ref(), KIND, &saved, &self.params)?)
    }

    /// Reads a folder that [`Scvi::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        check_kind(dir, KIND)?;
        let (_, saved, tensors) = read_model::<Saved>(dir)?;
        let valid = ScviParams::new(saved.model, saved.registry).check()?;
        let mut model = valid.load(device, DType::F32, &dir.join(WEIGHTS), &tensors)?;
        model.training = saved.training;
        if let Some(query) = saved.query {
            model.freeze(query)?;
        }
        Ok(model)
    }
}

/// Refuses a folder with another model, before its settings are read as those of this one.
pub(crate) fn check_kind(dir: &Path, expected: &'static str) -> Result<()> {
    let kind = model_kind(dir)?;
    if kind == expected {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        name: "model",
        value: kind,
        reason: format!("{} holds another model than {expected}", dir.display()),
    })
}

pub(crate) fn refuse_empty(log_library: &[f64]) -> Result<()> {
    let empty: Vec<usize> = log_library
        .iter()
        .enumerate()
        .filter(|(_, l)| !l.is_finite())
        .map(|(i, _)| i)
        .collect();
    if empty.is_empty() {
        return Ok(());
    }
    let mut rows = empty
        .iter()
        .take(5)
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if empty.len() > 5 {
        rows.push_str(", ...");
    }
    Err(Error::EmptyCells {
        count: empty.len(),
        rows,
    })
}

impl Trainable<Cells<'_>> for Scvi {
    fn params(&self) -> &Params {
        &self.params
    }

    fn n_cells(&self, cells: &Cells<'_>) -> usize {
        cells.n_cells()
    }

    fn read_ahead(&self, cells: &Cells<'_>, rows: &[usize]) {
        cells.counts().read_ahead(rows);
    }

    fn min_batch(&self) -> usize {
        self.fewest_cells(|_| true)
    }

    fn loss(&self, cells: &Cells<'_>, rows: &[usize], step: &Step<'_>) -> sc_model::Result<Loss> {
        let batch = cells.minibatch(rows, self.config.log_variational)?;
        let noise = Noise::draw(self, rows.len(), |name| step.stream(name))?;
        let terms = self.elbo_terms(&batch, &noise, &self.training_mode(step.mode))?;
        let sums = terms.sums()?;
        Ok(Loss {
            loss: terms.loss(step.kl_weight)?,
            sums: vec![
                ("elbo", sums.reconstruction + sums.kl),
                ("reconstruction_loss", sums.reconstruction),
                ("kl_local", sums.kl),
            ],
            n_cells: rows.len(),
        })
    }
}
