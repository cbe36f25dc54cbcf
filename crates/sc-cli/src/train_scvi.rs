//! `sc train scvi`: the options, many of them shared with other models. What happens is in [`crate::train_run`].

use std::path::PathBuf;

use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sc_data::{AnnData, RowSource, Table};
use sc_latent::{
    BatchRepresentation, Cells, Dispersion, LatentDistribution, Likelihood, NormIn, Scvi,
    ScviConfig, ScviValidParams, Setup,
};
use sc_model::EarlyStopping;
use sc_model::train::TrainConfig;

use crate::error::Result;
use crate::options::{Order, at_least_one, batch_representation, not_negative, share};
use crate::train_run::{self, Plan, Task};

const EXAMPLES: &str = "\
Examples:
  sc train scvi cells.h5ad --out model
  sc train scvi cells.h5ad --out model --layer counts --batch-key donor
  sc train scvi cells.h5ad --out model --batch-key donor --categorical-covariate chemistry
  sc train scvi cells.h5ad --out model --max-epochs 100 --validate-every 1 --early-stopping
  sc train scvi cells.h5ad --out loadings --linear --n-latent 20
  sc train scvi atlas.h5ad --out reference --batch-key donor --encode-covariates \
      --layer-norm both --batch-norm none --n-layers 2 --dropout-rate 0.2    # a reference for `sc map`
  sc train scvi huge.h5ad --out model --backed
  sc train scvi huge.h5ad --out model --backed --resume    # after an interruption

DIR then holds the model (model.safetensors, config.json) and the metrics of each epoch
(history.csv). Ctrl-C writes a checkpoint and ends with exit code 130; the same command with
--resume goes on, and ends with bit for bit the weights of an undisturbed run.";

/// Train scVI, or LinearSCVI with --linear
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells with raw counts: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    data: PathBuf,
    /// Folder for the model; made if it isn't there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten, next_help_heading = "Data")]
    columns: Columns,
    /// Column of obs with the label of each cell, for --dispersion gene-label
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    labels_key: Option<String>,
    /// LinearSCVI: a linear decoder, negative binomial counts, a learned library size
    #[arg(long, help_heading = "Model")]
    linear: bool,
    #[command(flatten, next_help_heading = "Model")]
    model: Model,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    #[command(flatten, next_help_heading = "Run")]
    pub(crate) run: Run,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Columns {
    /// The layer with the counts [default: X]
    #[arg(long)]
    pub(crate) layer: Option<String>,
    /// Column of obs with the batch of each cell
    #[arg(long, value_name = "COLUMN")]
    batch_key: Option<String>,
    /// Column of obs with categories to correct for besides the batch; may be repeated
    #[arg(long, value_name = "COLUMN")]
    categorical_covariate: Vec<String>,
    /// Column of obs with numbers to correct for; may be repeated
    #[arg(long, value_name = "COLUMN")]
    continuous_covariate: Vec<String>,
    /// Column of obs with size factors, to be used instead of the sum of the counts
    #[arg(long, value_name = "COLUMN")]
    size_factor_key: Option<String>,
    /// Accept counts that are not integers, with a warning
    #[arg(long)]
    pub(crate) allow_non_integer: bool,
    /// Leave cells without any counts out
    #[arg(long)]
    pub(crate) drop_empty_cells: bool,
    /// Leave the counts in the .h5ad file and read them some cells at a time
    #[arg(long)]
    pub(crate) backed: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Model {
    /// Dimensions of the latent space [default: 10]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_latent: Option<usize>,
    /// Width of the hidden layers [default: 128]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_hidden: Option<usize>,
    /// Hidden layers of encoder and decoder [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_layers: Option<usize>,
    /// Share of the encoder's hidden units that is dropped in training [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    dropout_rate: Option<f64>,
    /// Networks with batch norms [default: both]
    #[arg(long, value_name = "NETWORK", value_parser = norm_in())]
    batch_norm: Option<NormIn>,
    /// Networks with layer norms [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = norm_in())]
    layer_norm: Option<NormIn>,
    /// Distribution of the counts [default: zinb, with --linear nb]
    #[arg(long, value_parser = PossibleValuesParser::new(["zinb", "nb", "poisson", "normal"])
        .try_map(|s| s.parse::<Likelihood>()))]
    likelihood: Option<Likelihood>,
    /// What the dispersion of a gene depends on [default: gene]
    #[arg(long, value_parser = PossibleValuesParser::new(["gene", "gene-batch", "gene-label", "gene-cell"])
        .try_map(|s| s.parse::<Dispersion>()))]
    dispersion: Option<Dispersion>,
    /// Distribution of the latent variable: normal, or logistic normal [default: normal]
    #[arg(long, value_parser = PossibleValuesParser::new(["normal", "ln"])
        .try_map(|s| s.parse::<LatentDistribution>()))]
    latent_distribution: Option<LatentDistribution>,
    /// Let the encoder read the values as they are instead of ln(1 + x), as negative ones need it
    #[arg(long)]
    no_log_variational: bool,
    /// Let the encoder see batch and covariates too
    #[arg(long)]
    encode_covariates: bool,
    /// Learn the library size of a cell
    #[arg(long)]
    learn_library_size: bool,
    /// Take the sum of a cell's counts as its library size, which is the default without --linear
    #[arg(long, conflicts_with = "learn_library_size")]
    observed_library_size: bool,
    /// How the networks see the batch: one-hot, embedding or embedding:LENGTH [default: one-hot]
    #[arg(long, value_name = "KIND", value_parser = batch_representation)]
    batch_representation: Option<BatchRepresentation>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Training {
    /// Passes over the cells [default: 400, fewer with more than 20,000 cells]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_epochs: Option<usize>,
    /// Cells of a minibatch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    batch_size: usize,
    #[command(flatten)]
    order: Order,
    /// Share of the cells that train; the others validate [default: 0.9]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    train_size: Option<f64>,
    /// Compute the validation metrics every N epochs [default: only if early stopping needs them]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    validate_every: Option<usize>,
    /// Stop when the validation ELBO has not improved for a while
    #[arg(long)]
    early_stopping: bool,
    /// Epochs without improvement after which training stops
    #[arg(long, value_name = "EPOCHS", default_value_t = 45, requires = "early_stopping", value_parser = at_least_one)]
    early_stopping_patience: usize,
    /// Learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Seed of everything random: weights, split, order, dropout, draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Go on with training that was interrupted; the other options must be those of then (more epochs are fine)
    #[arg(long)]
    pub(crate) resume: bool,
    /// Start anew although DIR holds the checkpoint of an interrupted training
    #[arg(long, conflicts_with = "resume")]
    pub(crate) overwrite: bool,
    /// Save a checkpoint every so many minutes; 0 after every minibatch
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0, value_parser = not_negative)]
    checkpoint_minutes: f64,
    #[arg(long, hide = true)]
    checkpoint_every_step: bool,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print one line of JSON at the end: seconds and metrics of each epoch, peak memory
    #[arg(long)]
    pub(crate) json: bool,
}

impl Run {
    pub(crate) fn checkpoint_every(&self) -> std::time::Duration {
        let minutes = if self.checkpoint_every_step {
            0.0
        } else {
            self.checkpoint_minutes
        };
        // More minutes than a `Duration` holds mean never.
        std::time::Duration::try_from_secs_f64(60.0 * minutes).unwrap_or(std::time::Duration::MAX)
    }
}

impl Columns {
    pub(crate) fn setup(&self, labels_key: Option<&str>, unlabeled: Option<&str>) -> Setup {
        Setup {
            layer: self.layer.clone(),
            batch_key: self.batch_key.clone(),
            labels_key: labels_key.map(str::to_owned),
            unlabeled_category: unlabeled.map(str::to_owned),
            size_factor_key: self.size_factor_key.clone(),
            categorical_covariate_keys: self.categorical_covariate.clone(),
            continuous_covariate_keys: self.continuous_covariate.clone(),
        }
    }

    /// Whether a column was named.
    pub(crate) fn any(&self) -> bool {
        self.setup(None, None) != Setup::default()
    }
}

fn norm_in() -> impl TypedValueParser<Value = NormIn> {
    PossibleValuesParser::new(["both", "encoder", "decoder", "none"]).try_map(|s| s.parse())
}

impl Model {
    /// Settings with what was asked for.
    pub(crate) fn apply(&self, mut c: ScviConfig) -> ScviConfig {
        c.encode_covariates = self.encode_covariates;
        c.log_variational = !self.no_log_variational;
        macro_rules! set {
            ($($name:ident),+) => { $(if let Some(value) = self.$name { c.$name = value; })+ };
        }
        set!(
            likelihood,
            n_latent,
            n_hidden,
            n_layers,
            dropout_rate,
            batch_norm,
            layer_norm,
            dispersion,
            latent_distribution,
            batch_representation
        );
        if self.learn_library_size || self.observed_library_size {
            c.use_observed_lib_size = self.observed_library_size;
        }
        c
    }

    /// Whether anything was asked for.
    pub(crate) fn any(&self) -> bool {
        self.n_latent.is_some()
            || self.n_hidden.is_some()
            || self.n_layers.is_some()
            || self.dropout_rate.is_some()
            || self.batch_norm.is_some()
            || self.layer_norm.is_some()
            || self.likelihood.is_some()
            || self.dispersion.is_some()
            || self.latent_distribution.is_some()
            || self.batch_representation.is_some()
            || self.no_log_variational
            || self.encode_covariates
            || self.learn_library_size
            || self.observed_library_size
    }
}

impl Training {
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn config(&self) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.max_epochs = self.max_epochs;
        config.batch_size = self.batch_size;
        config.split.train_size = self.train_size;
        config.shuffle = self.order.shuffle();
        config.validate_every = self.validate_every;
        config.early_stopping = self.early_stopping.then(|| EarlyStopping {
            patience: self.early_stopping_patience,
            ..EarlyStopping::default()
        });
        config.lr = self.lr;
        config.seed = self.seed;
        config
    }
}

impl Args {
    fn valid(&self, cells: &Cells<'_>) -> Result<ScviValidParams> {
        let config = if self.linear {
            ScviConfig::linear()
        } else {
            ScviConfig::default()
        };
        Ok(Scvi::with_config(cells, self.model.apply(config)).check()?)
    }
}

impl Plan for Args {
    type Model = Scvi;

    fn task(&self) -> Task<'_> {
        Task {
            data: &self.data,
            out: &self.out,
            layer: self.columns.layer.as_deref(),
            columns: &self.columns,
            run: &self.run,
            training: &self.training,
        }
    }

    fn cells<'a>(&self, counts: impl RowSource + 'a, annotations: &AnnData) -> Result<Cells<'a>> {
        let setup = self.columns.setup(self.labels_key.as_deref(), None);
        Ok(Cells::from_source(counts, annotations, &setup)?)
    }

    fn scvi_config(&self, cells: &Cells<'_>) -> Result<ScviConfig> {
        Ok(self.valid(cells)?.config().clone())
    }

    fn model(&self, cells: &Cells<'_>, _: &Table) -> Result<Scvi> {
        Ok(self.valid(cells)?.init(&Device::Cpu, self.training.seed)?)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    train_run::run(args)
}
