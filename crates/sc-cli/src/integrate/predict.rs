//! `sc integrate predict`.

use std::path::PathBuf;

use sc_data::{AnnData, Table};
use sc_integrate::{LibrarySize, PredictOptions};

use super::input::Trained;
use crate::common::{check_output, note, write};
use crate::error::{Error, Result};

/// Predict one modality from another, with how sure that is
///
/// X of the new file are expected values, layer "std" how far values are expected to lie from them, layer "latent_std" how
/// much of that is doubt about the place of the cell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) trained: Trained,
    /// Modality to predict from [default: the one that is given]
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Modality to predict
    #[arg(long, value_name = "NAME")]
    to: String,
    /// The new file, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Library size of counts: "predicted" from the other modality, "observed" where the cell has both, or a number
    #[arg(long, value_name = "SIZE", default_value = "predicted", value_parser = library)]
    library: LibrarySize,
    /// Batch that all cells are taken to be of [default: their own]
    #[arg(long, value_name = "BATCH")]
    batch: Option<String>,
    /// Draws of each cell's place; 0 takes its mean
    #[arg(long, value_name = "N", default_value_t = 25)]
    samples: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn library(text: &str) -> std::result::Result<LibrarySize, String> {
    match text {
        "predicted" => Ok(LibrarySize::Predicted),
        "observed" => Ok(LibrarySize::Observed),
        _ => match text.parse::<f64>() {
            Ok(l) if l.is_finite() && l > 0.0 => Ok(LibrarySize::Fixed(l)),
            _ => Err("neither \"predicted\", \"observed\" nor a positive number".into()),
        },
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let model = args.trained.load()?;
    let sources = args.trained.input.read()?;
    let cells = args.trained.input.cells_for(&model, &sources)?;
    let from = match (&args.from, sources.as_slice()) {
        (Some(from), _) => from.clone(),
        (None, [one]) => one.name.clone(),
        (None, _) => {
            return Err(Error::Message(
                "several modalities are given: say which to predict from (--from NAME)".into(),
            ));
        }
    };
    let mut options = PredictOptions::default();
    options.library = args.library;
    options.batch.clone_from(&args.batch);
    options.n_samples = args.samples;
    options.seed = args.seed;
    let found = model.predict(&cells, &from, &args.to, &options)?;
    let names = found
        .cells
        .iter()
        .filter_map(|&c| cells.names().get(c).cloned());
    let k = model.registry().modality(&args.to)?;
    let features = model.registry().modalities.get(k);
    let features = features.map(|m| m.features.clone()).unwrap_or_default();
    let (n, width) = found.mean.dim();
    let mut out = AnnData::default();
    out.obs = Table::new(names.collect());
    out.var = Table::new(features);
    out.x = Some(found.mean.into());
    out.layers.insert("std".into(), found.predictive_std.into());
    out.layers
        .insert("latent_std".into(), found.latent_std.into());
    write(&args.out, &out)?;
    note(&format!(
        "{width} features of {} in {n} cells -> {}",
        args.to,
        args.out.display()
    ));
    Ok(())
}
