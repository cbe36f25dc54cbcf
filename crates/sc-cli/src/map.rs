//! `sc map`: new data on a model that is there already.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sc_data::{AnnData, Column, RowSource, Table};
use sc_latent::{AnyModel, Cells, NonInteger, QueryOptions, QueryReport, Scvi, SemiSupervised};
use sc_model::train::{Fitted, ProgressBar, StopReason, TrainConfig};
use serde::Serialize;

use crate::common::{
    check_output, check_writable, load_model, name_rows, note, print_json, read, read_annotations,
    refuse_same, write,
};
use crate::error::{Error, Result};
use crate::options::{at_least_one, not_negative};
use crate::progress::{Spinner, Watched};

const EXAMPLES: &str = "\
Examples:
  sc map model query.h5ad --out mapped.h5ad
  sc map model query.h5ad --out mapped            # the folder then holds the query's model too
  sc map scvi_tools_model_folder query.h5ad --out mapped.h5ad --max-epochs 100
  sc map model query.h5ad --out mapped.h5ad --gene-key gene_ids
  sc map model huge.h5ad --out mapped --backed

Genes are matched by name: those that the query lacks count as never seen, those that the model
does not know are left out. Batches and covariate levels that the model does not know are added
to it; only what belongs to those is trained, so that the places of the reference's cells stay
where they were, and the query's can be compared with them.";

/// The query with its places, in the folder of its model.
const DATA: &str = "query.h5ad";

/// Map new cells onto a trained model (scArches), and write their places to obsm X_scVI or X_scANVI
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder with the reference: a model of `sc train`, or of scvi-tools
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// New cells with raw counts: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    #[arg(value_name = "QUERY")]
    data: PathBuf,
    /// Where to write: an .h5ad file with the places of the cells, or a folder for that file and the query's model
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Column of var with the names of the genes, instead of the index
    #[arg(long, value_name = "COLUMN")]
    gene_key: Option<String>,
    /// Accept counts that are not integers, with a warning
    #[arg(long)]
    allow_non_integer: bool,
    /// Leave the counts in the .h5ad file and read them some cells at a time; the copy then has no X, layers and raw
    #[arg(long)]
    backed: bool,

    /// Write the query's model also as scvi-tools does (model.pt); OUT must be a folder
    #[arg(long)]
    scvi_tools: bool,

    #[command(flatten, next_help_heading = "What is trained")]
    freeze: Freeze,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print one line of JSON at the end: genes, new categories, metrics of each epoch
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Freeze {
    /// Train everything; the places of the reference's cells then change
    #[arg(long)]
    unfrozen: bool,
    /// Train the whole first layer of the encoder; the places of the reference's cells then change
    #[arg(long)]
    train_expression: bool,
    /// Train the whole first layer of the decoder
    #[arg(long)]
    train_decoder_first_layer: bool,
    /// Train the encoder's batch norms; the places of the reference's cells then change
    #[arg(long)]
    train_batchnorm_encoder: bool,
    /// Freeze the decoder's batch norms
    #[arg(long)]
    freeze_batchnorm_decoder: bool,
    /// Train the classifier
    #[arg(long)]
    train_classifier: bool,
    /// Drop no hidden units while training
    #[arg(long)]
    freeze_dropout: bool,
}

#[derive(Debug, clap::Args)]
struct Training {
    /// Passes over the cells, at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    max_epochs: usize,
    /// Epochs without a better training ELBO after which training stops; see --no-early-stopping
    #[arg(long, value_name = "EPOCHS", default_value_t = 10, value_parser = at_least_one)]
    patience: usize,
    /// Train all epochs
    #[arg(long)]
    no_early_stopping: bool,
    /// Cells of a minibatch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    batch_size: usize,
    /// Weight decay
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    weight_decay: f64,
    /// Learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Seed of everything random: new weights, split, order, dropout, draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Args {
    fn options(&self) -> QueryOptions {
        let f = &self.freeze;
        let mut o = QueryOptions::default();
        o.unfrozen = f.unfrozen;
        o.freeze_dropout = f.freeze_dropout;
        o.freeze_expression = !f.train_expression;
        o.freeze_decoder_first_layer = !f.train_decoder_first_layer;
        o.freeze_batchnorm_encoder = !f.train_batchnorm_encoder;
        o.freeze_batchnorm_decoder = f.freeze_batchnorm_decoder;
        o.freeze_classifier = !f.train_classifier;
        o
    }

    fn train_config(&self, options: &QueryOptions) -> TrainConfig {
        let t = &self.training;
        let mut config = options.train_config();
        config.max_epochs = Some(t.max_epochs);
        config.batch_size = t.batch_size;
        config.lr = t.lr;
        config.seed = t.seed;
        if let sc_model::OptimizerKind::Adam { weight_decay, .. } = &mut config.optimizer {
            *weight_decay = t.weight_decay;
        }
        if t.no_early_stopping {
            config.early_stopping = None;
        } else if let Some(rule) = &mut config.early_stopping {
            rule.patience = t.patience;
        }
        config
    }

    /// Where the cells go, and where the model, if anywhere.
    fn targets(&self) -> Result<(PathBuf, Option<&Path>)> {
        let is_file = self
            .out
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("h5ad"));
        if is_file && self.scvi_tools {
            return Err(Error::Message(format!(
                "--scvi-tools writes the query's model, and {} is a file for its cells: give --out a folder",
                self.out.display()
            )));
        }
        if is_file {
            check_output(&self.out)?;
            return Ok((self.out.clone(), None));
        }
        std::fs::create_dir_all(&self.out).map_err(Error::file(&self.out, "make this folder"))?;
        check_writable(&self.out)?;
        Ok((self.out.join(DATA), Some(&self.out)))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (data_out, model_out) = args.targets()?;
    refuse_same(&data_out, &[&args.data])?;
    refuse_same(&args.out, &[&args.model])?;
    let reference = load_model(&args.model)?;
    let mut data = match args.backed {
        true => read_annotations(&args.data)?,
        false => read(&args.data)?,
    };
    let genes = described(&data, args)?;
    let (latent, mapped) = {
        let (cells, report) = cells(args, &data, &genes, reference.scvi())?;
        tell_of(&report, reference.scvi());
        let start = Instant::now();
        let options = args.options();
        let (model, fitted) = train(&reference, &cells, &options, args)?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(dir) = model_out {
            let _spinner = Spinner::new(format!("writing {}", dir.display()));
            model.save(dir)?;
            if args.scvi_tools {
                model.save_scvi_tools(dir)?;
            }
        }
        let latent = model.scvi().latent(&cells)?.mean;
        let mapped = Mapped {
            key: match model {
                AnyModel::Scanvi(_) => "X_scANVI",
                _ => "X_scVI",
            },
            dimensions: latent.dim(),
            report,
            fitted,
            seconds,
        };
        (latent, mapped)
    };
    data.obsm.insert(mapped.key.into(), latent.into());
    write(&data_out, &data)?;
    tell(args, &mapped, &data_out, model_out)
}

/// The model of the query, trained.
fn train(
    reference: &AnyModel,
    cells: &Cells<'_>,
    options: &QueryOptions,
    args: &Args,
) -> Result<(AnyModel, Fitted)> {
    let (config, seed) = (args.train_config(options), args.training.seed);
    let mut bar = ProgressBar::new("elbo_train");
    Ok(match reference {
        AnyModel::Scanvi(reference) => {
            let mut model = reference.load_query(cells, options, seed)?;
            let fitted = model.fit(cells, &config, &SemiSupervised::default(), &mut bar)?;
            (AnyModel::Scanvi(model), fitted)
        }
        other => {
            let mut model = other.scvi().load_query(cells, options, seed)?;
            let fitted = model.fit(cells, &config, &mut bar)?;
            (AnyModel::Scvi(model), fitted)
        }
    })
}

struct Mapped {
    /// The entry of obsm with the places.
    key: &'static str,
    /// Cells, and dimensions of the latent space.
    dimensions: (usize, usize),
    report: QueryReport,
    fitted: Fitted,
    seconds: f64,
}

/// What says which cells and genes there are, the genes under the names that the model may know.
fn described(data: &AnnData, args: &Args) -> Result<AnnData> {
    let mut out = AnnData::default();
    out.obs = data.obs.clone();
    out.var = data.var.clone();
    // Says whether the cells are minified.
    out.uns.clone_from(&data.uns);
    let Some(key) = &args.gene_key else {
        return Ok(out);
    };
    let column = data.var.column("var", key)?;
    let names: Vec<String> = match column {
        Column::Str(names) => names.clone(),
        other => {
            let names = other.to_categorical(key)?;
            // A gene without a name is one that no model knows.
            names
                .iter()
                .map(|n| n.unwrap_or_default().to_owned())
                .collect()
        }
    };
    out.var = Table::new(names);
    Ok(out)
}

/// The cells of the query with the model's genes. Refuses what the model can't be trained on.
fn cells<'a>(
    args: &Args,
    data: &'a AnnData,
    described: &AnnData,
    reference: &Scvi,
) -> Result<(Cells<'a>, QueryReport)> {
    let layer = reference.registry().setup.layer.as_deref();
    let counts: Box<dyn RowSource + 'a> = match args.backed {
        true => Box::new(sc_io::h5ad::read_backed(&args.data, layer)?),
        false => Box::new(data.matrix(layer)?),
    };
    let counts = Watched::new(counts);
    let watch = counts.handle();
    let (cells, report) = Cells::from_source_for_query(counts, described, reference.registry())
        .map_err(|e| Error::from(e).explained())?;
    watch.start("checking the counts", cells.n_cells());
    let non_integer = match args.allow_non_integer {
        true => NonInteger::Warn,
        false => NonInteger::Refuse,
    };
    let empty = cells.check_counts(reference.config(), non_integer)?;
    if !empty.is_empty() && reference.config().use_observed_lib_size {
        return Err(Error::Message(format!(
            "{} cells have no counts of the model's genes, and no place: rows {}. Leave them out of the file",
            empty.len(),
            name_rows(&empty, data.obs.index())
        )));
    }
    Ok((cells, report))
}

/// What the query and the model have in common.
fn tell_of(report: &QueryReport, reference: &Scvi) {
    let genes = &report.genes;
    let mut text = format!(
        "{} of the model's {} genes; {} of the query's are left out",
        genes.shared,
        genes.n_reference,
        genes.extra.len()
    );
    if !report.new_batches.is_empty() {
        text.push_str(&format!("; new batches {}", report.new_batches.join(", ")));
    }
    for (column, level) in &report.new_levels {
        text.push_str(&format!("; new {column} {level}"));
    }
    if report.filled_labels > 0 {
        text.push_str(&format!("; {} cells without a label", report.filled_labels));
    }
    note(&text);
    if !report.new_batches.is_empty() && !reference.config().encode_covariates {
        note(
            "the model's encoder does not see the batch (it was made without encode_covariates): the cells' places won't \
             depend on training",
        );
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    report: &'a QueryReport,
    n_cells: usize,
    n_latent: usize,
    epochs: usize,
    stopped_early: bool,
    elbo_train: Vec<f64>,
    epoch_seconds: &'a [f64],
    seconds: f64,
    data: &'a Path,
    model: Option<&'a Path>,
}

fn tell(args: &Args, mapped: &Mapped, data: &Path, model: Option<&Path>) -> Result<()> {
    let fitted = &mapped.fitted;
    let (n_cells, n_latent) = mapped.dimensions;
    let summary = Summary {
        report: &mapped.report,
        n_cells,
        n_latent,
        epochs: fitted.history.values("elbo_train").len(),
        stopped_early: fitted.stop == StopReason::EarlyStopping,
        elbo_train: fitted.history.values("elbo_train"),
        epoch_seconds: &fitted.epoch_seconds,
        seconds: mapped.seconds,
        data,
        model,
    };
    let mut text = format!(
        "mapped {n_cells} cells in {} epochs, {:.1} s; -ELBO {:.2}{}\nplaces in {}, obsm {}",
        summary.epochs,
        summary.seconds,
        summary.elbo_train.last().copied().unwrap_or(f64::NAN),
        if summary.stopped_early {
            "; stopped early"
        } else {
            ""
        },
        data.display(),
        mapped.key
    );
    if let Some(model) = model {
        text.push_str(&format!("; model in {}", model.display()));
    }
    note(&text);
    if args.json {
        print_json(&summary)
    } else {
        Ok(())
    }
}
