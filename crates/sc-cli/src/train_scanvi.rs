//! `sc train scanvi`: the options. What happens is in [`crate::train_run`].

use std::path::PathBuf;

use candle_core::Device;
use sc_data::{AnnData, RowSource, Table};
use sc_latent::{
    AnyModel, Cells, ClassifierConfig, Labels, Registry, Scanvi, ScanviConfig, ScanviValidParams,
    Scvi, ScviConfig, SemiSupervised,
};
use sc_model::train::{Fitted, Observer, ResumeState, TrainConfig};
use serde::Serialize;

use crate::common::{load_model, refuse_same};
use crate::error::{Error, Result};
use crate::options::{at_least_one, not_negative};
use crate::train_run::{self, Model, Plan, Task};
use crate::train_scvi::{self, Columns, Training};

const EXAMPLES: &str = "\
Examples:
  sc train scvi cells.h5ad --out scvi --batch-key donor
  sc train scanvi cells.h5ad --out scanvi --from scvi \\
      --labels-key cell_type --unlabeled-category Unknown --n-samples-per-label 100
  sc annotate scanvi cells.h5ad --out annotated.h5ad

  sc train scanvi cells.h5ad --out scanvi --batch-key donor \\
      --labels-key cell_type --unlabeled-category Unknown --max-epochs 100

With --from the weights of scVI are where it begins, and 10 epochs are the default; this is the
better way. DIR then holds the model and the metrics of each epoch, among them the accuracy of
the classifier (history.csv).";

/// Train scANVI: scVI that learns from the labels of some cells and gives labels to the others
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells with raw counts: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    data: PathBuf,
    /// Folder for the model; made if it isn't there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Begin with this trained scVI model (of sc train scvi, or of scvi-tools), and take its settings
    #[arg(long, value_name = "SCVI_DIR")]
    from: Option<PathBuf>,

    #[command(flatten, next_help_heading = "Labels")]
    labels: LabelOptions,
    #[command(flatten, next_help_heading = "Data")]
    columns: Columns,
    #[command(flatten, next_help_heading = "Model")]
    model: train_scvi::Model,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    #[command(flatten, next_help_heading = "Run")]
    pub(crate) run: train_scvi::Run,
}

#[derive(Debug, clap::Args)]
struct LabelOptions {
    /// Column of obs with the label of each cell [default with --from: that of the scVI model]
    #[arg(long, value_name = "COLUMN", required_unless_present = "from")]
    labels_key: Option<String>,
    /// The label that stands for "not known"
    #[arg(long, value_name = "LABEL")]
    unlabeled_category: String,
    /// In each epoch learn from at most N cells of each label, drawn anew [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_samples_per_label: Option<usize>,
    /// Weight of the classification loss
    #[arg(long, value_name = "WEIGHT", default_value_t = 50.0, value_parser = not_negative)]
    classification_ratio: f64,
    /// A classifier without hidden layers
    #[arg(long)]
    linear_classifier: bool,
}

impl LabelOptions {
    fn classifier(&self) -> ClassifierConfig {
        if self.linear_classifier {
            ClassifierConfig::linear()
        } else {
            ClassifierConfig::default()
        }
    }

    fn semi(&self) -> SemiSupervised {
        let mut semi = SemiSupervised::default();
        semi.classification_ratio = self.classification_ratio;
        semi.n_samples_per_label = self.n_samples_per_label;
        semi
    }
}

/// The options, and the scVI model to begin with.
struct Job<'a> {
    args: &'a Args,
    from: Option<Scvi>,
}

impl Job<'_> {
    /// The scVI model's registry with the labels of these cells.
    fn registry(&self, scvi: &Scvi, obs: &Table) -> Result<Registry> {
        let labels = self.labels();
        let key = labels
            .key
            .or_else(|| scvi.registry().setup.labels_key.clone())
            .ok_or_else(|| {
                Error::Message(
                    "the scVI model knows no labels: name their column with --labels-key".into(),
                )
            })?;
        Ok(scvi
            .registry()
            .with_labels(obs, &key, &labels.unlabeled_category)?)
    }

    fn labels(&self) -> Labels {
        let l = &self.args.labels;
        Labels {
            key: l.labels_key.clone(),
            unlabeled_category: l.unlabeled_category.clone(),
        }
    }

    fn valid(&self, cells: &Cells<'_>) -> Result<ScanviValidParams> {
        let config = match &self.from {
            Some(scvi) => scvi.config().clone(),
            None => self.args.model.apply(ScviConfig::default()),
        };
        let settings = ScanviConfig::new(config, self.args.labels.classifier());
        Ok(Scanvi::with_config(cells, settings).check()?)
    }
}

impl Plan for Job<'_> {
    type Model = Semi;

    fn task(&self) -> Task<'_> {
        let a = self.args;
        let layer = match &self.from {
            Some(scvi) => scvi.registry().setup.layer.as_deref(),
            None => a.columns.layer.as_deref(),
        };
        Task {
            data: &a.data,
            out: &a.out,
            layer,
            columns: &a.columns,
            run: &a.run,
            training: &a.training,
        }
    }

    fn cells<'a>(&self, counts: impl RowSource + 'a, annotations: &AnnData) -> Result<Cells<'a>> {
        Ok(match &self.from {
            Some(scvi) => {
                let registry = self.registry(scvi, &annotations.obs)?;
                Cells::from_source_for_model(counts, annotations, &registry)?
            }
            None => {
                let l = &self.args.labels;
                let setup = self
                    .args
                    .columns
                    .setup(l.labels_key.as_deref(), Some(&l.unlabeled_category));
                Cells::from_source(counts, annotations, &setup)?
            }
        })
    }

    fn scvi_config(&self, cells: &Cells<'_>) -> Result<ScviConfig> {
        Ok(self.valid(cells)?.config().scvi.clone())
    }

    fn model(&self, cells: &Cells<'_>, obs: &Table) -> Result<Semi> {
        let seed = self.args.training.seed();
        let model = match &self.from {
            Some(scvi) => {
                let classifier = self.args.labels.classifier();
                Scanvi::from_scvi(scvi, obs, &self.labels(), classifier, seed)?
            }
            None => self.valid(cells)?.init(&Device::Cpu, seed)?,
        };
        Ok(Semi {
            model,
            semi: self.args.labels.semi(),
        })
    }
}

/// A model and how its labels take part.
pub(crate) struct Semi {
    model: Scanvi,
    semi: SemiSupervised,
}

/// What must be the same for training to go on.
#[derive(Serialize)]
struct Settings<'a> {
    #[serde(flatten)]
    model: ScanviConfig,
    labels: &'a SemiSupervised,
}

impl Model for Semi {
    fn settings(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(Settings {
            model: self.model.config(),
            labels: &self.semi,
        })
    }

    fn train_config(&self, cells: &Cells<'_>, config: TrainConfig) -> TrainConfig {
        self.model.train_config(cells, &config)
    }

    fn train(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        state: Option<&ResumeState>,
        observer: &mut dyn Observer,
    ) -> sc_latent::Result<Fitted> {
        match state {
            Some(state) => self
                .model
                .resume(cells, config, &self.semi, state, observer),
            None => self.model.fit(cells, config, &self.semi, observer),
        }
    }

    fn save(&self, dir: &std::path::Path) -> sc_latent::Result<()> {
        self.model.save(dir)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let from = match &args.from {
        Some(dir) => {
            refuse_same(&args.out, &[dir])?;
            if args.model.any() || args.columns.any() {
                return Err(Error::Message(format!(
                    "--from takes the columns and the settings of {}: leave out the options under \"Model\", and of those \
                     under \"Data\" the ones that name a layer or a column",
                    dir.display()
                )));
            }
            match load_model(dir)? {
                AnyModel::Scvi(m) => Some(m),
                AnyModel::Scanvi(_) => {
                    return Err(Error::Message(format!(
                        "{}: --from needs an scVI model, and this is scANVI already",
                        dir.display()
                    )));
                }
            }
        }
        None => None,
    };
    train_run::run(&Job { args, from })
}
