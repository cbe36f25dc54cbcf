//! The Rust side of `benches/peers/map_accuracy.py`, which judges what it writes. FOLDER holds `reference.h5ad` and
//! `query.h5ad` with counts and the columns `batch` and `label` of obs.
//!
//! ```text
//! map_accuracy train FOLDER --out DIR     a reference, saved as scvi-tools would
//! map_accuracy map FOLDER --reference DIR --out DIR
//!     the query's model, saved as scvi-tools would, and places of all cells (obsm X_scVI of reference.h5ad and query.h5ad
//!     in DIR), with the probability of each label (obsm probabilities) if the model has a classifier
//! ```
#![allow(clippy::print_stdout, reason = "a program for programs")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use clap::{Parser, ValueEnum};
use sc_data::AnnData;
use sc_latent::{
    AnyModel, Cells, ClassifierConfig, Labels, NormIn, Parity, PredictAt, QueryOptions, Scanvi,
    Scvi, SemiSupervised, Setup,
};
use sc_model::train::{Fitted, TrainConfig};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The label that stands for "not known".
const UNLABELED: &str = "Unknown";

#[derive(Parser)]
enum Command {
    /// Trains a reference
    Train(Train),
    /// Maps the query
    Map(Map),
}

#[derive(clap::Args)]
struct Train {
    folder: PathBuf,
    #[arg(long)]
    out: PathBuf,
    #[arg(long, value_enum)]
    model: Kind,
    /// scANVI: scVI first, then some epochs with labels
    #[arg(long)]
    scanvi: bool,
    #[arg(long)]
    epochs: usize,
    #[arg(long)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Layer norm, two layers, dropout 0.2
    Scarches,
    /// Batch norm, one layer, dropout 0.1
    Default,
    /// Batch norm, two layers, dropout 0.2
    Batchnorm,
}

#[derive(clap::Args)]
struct Map {
    folder: PathBuf,
    #[arg(long)]
    reference: PathBuf,
    #[arg(long)]
    out: PathBuf,
    #[arg(long)]
    epochs: usize,
    #[arg(long)]
    seed: u64,
    #[arg(long, value_enum, default_value = "default")]
    how: How,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum How {
    /// As is the default
    Default,
    /// As scvi-tools does it
    Upstream,
    /// Without dropping units
    FreezeDropout,
    /// All epochs
    AllEpochs,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Train(args) => train(&args),
        Command::Map(args) => map(&args),
    }
}

fn train(args: &Train) -> Result<()> {
    let start = Instant::now();
    let data = sc_io::h5ad::read(args.folder.join("reference.h5ad"))?;
    let setup = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(&data, &setup)?;
    let params = Scvi::params(&cells).encode_covariates(true);
    let params = match args.model {
        Kind::Default => params,
        Kind::Batchnorm => params.n_layers(2).dropout_rate(0.2),
        Kind::Scarches => params
            .layer_norm(NormIn::Both)
            .batch_norm(NormIn::None)
            .n_layers(2)
            .dropout_rate(0.2),
    };
    let mut scvi = params.check()?.init(&Device::Cpu, args.seed)?;
    let mut config = TrainConfig::default();
    config.max_epochs = Some(args.epochs);
    config.seed = args.seed;
    scvi.fit(&cells, &config, &mut ())?;
    let model = match args.scanvi {
        false => AnyModel::Scvi(scvi),
        true => AnyModel::Scanvi(with_labels(&scvi, &data, args.seed)?),
    };
    model.save_scvi_tools(&args.out)?;
    println!("{{\"seconds\": {}}}", start.elapsed().as_secs_f64());
    Ok(())
}

/// scANVI that begins with the weights of scVI, trained for as long as is usual.
fn with_labels(scvi: &Scvi, data: &AnnData, seed: u64) -> Result<Scanvi> {
    let labels = Labels {
        key: Some("label".into()),
        unlabeled_category: UNLABELED.into(),
    };
    let classifier = ClassifierConfig::default();
    let mut model = Scanvi::from_scvi(scvi, &data.obs, &labels, classifier, seed)?;
    let cells = Cells::for_model(data, model.registry())?;
    let mut config = TrainConfig::default();
    config.seed = seed;
    model.fit(&cells, &config, &SemiSupervised::default(), &mut ())?;
    Ok(model)
}

fn map(args: &Map) -> Result<()> {
    let start = Instant::now();
    let reference = AnyModel::from_scvi_tools(&args.reference, &Device::Cpu)?;
    let mut query = sc_io::h5ad::read(args.folder.join("query.h5ad"))?;
    // Nobody is told the labels of the query.
    query.obs.remove("label");
    let (cells, _) = Cells::for_query(&query, reference.registry())?;
    let mut options = QueryOptions::default();
    match args.how {
        How::Upstream => options.parity = Parity::Upstream,
        How::FreezeDropout => options.freeze_dropout = true,
        How::AllEpochs | How::Default => {}
    }
    let mut config = options.train_config();
    config.max_epochs = Some(args.epochs);
    config.seed = args.seed;
    if args.how == How::AllEpochs {
        config.early_stopping = None;
    }
    let (model, fitted) = fit(&reference, &cells, &options, &config)?;
    let seconds = start.elapsed().as_secs_f64();
    model.save_scvi_tools(&args.out)?;
    write_places(&args.out.join("query.h5ad"), &model, &query)?;
    let data = sc_io::h5ad::read(args.folder.join("reference.h5ad"))?;
    write_places(&args.out.join("reference.h5ad"), &reference, &data)?;
    println!(
        "{{\"seconds\": {seconds}, \"epochs\": {}}}",
        fitted.epoch_seconds.len()
    );
    Ok(())
}

fn fit(
    reference: &AnyModel,
    cells: &Cells<'_>,
    options: &QueryOptions,
    config: &TrainConfig,
) -> Result<(AnyModel, Fitted)> {
    Ok(match reference {
        AnyModel::Scanvi(reference) => {
            let mut model = reference.load_query(cells, options, config.seed)?;
            let fitted = model.fit(cells, config, &SemiSupervised::default(), &mut ())?;
            (model.into(), fitted)
        }
        AnyModel::Scvi(reference) => {
            let mut model = reference.load_query(cells, options, config.seed)?;
            let fitted = model.fit(cells, config, &mut ())?;
            (model.into(), fitted)
        }
    })
}

/// The cells with their places in the latent space, and what the classifier says of them.
fn write_places(to: &Path, model: &AnyModel, data: &AnnData) -> Result<()> {
    let mut out = AnnData::default();
    out.obs = data.obs.clone();
    let cells = Cells::for_model(data, model.registry())?;
    out.obsm
        .insert("X_scVI".into(), model.scvi().latent(&cells)?.mean.into());
    if let Some(model) = model.scanvi() {
        let probabilities = model.predict(&cells, PredictAt::PosteriorMean)?;
        out.obsm
            .insert("probabilities".into(), probabilities.values.into());
    }
    let options = sc_io::h5ad::WriteOptions::default();
    Ok(sc_io::h5ad::write(to, &out, &options)?)
}
