//! `sc hub pack`: a model, its card and its cells in one folder.

use std::path::{Path, PathBuf};

use sc_io::h5ad;
use sc_latent::hub::{self, HubModel, Metrics, PackOptions};
use sc_latent::minify::{MinifiedKeys, MinifyKind, StoredPosterior};
use sc_latent::{AnyModel, Cells, Kept};

use crate::common::{check_writable, load_model, note};
use crate::error::{Error, Result};
use crate::fits;
use crate::progress::Spinner;

/// Make a folder that scvi-hub's HubModel opens
///
/// A model.pt of scvi-tools is copied as it is. Card, metadata and metrics of an earlier model in the folder are replaced.
///
/// Example: sc hub pack model folder --data small.h5ad --license mit --description @about.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with a model: of `sc train`, `sc minify`, or scvi-tools
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The folder to make
    out: PathBuf,
    /// The cells, an .h5ad file; minified ones are far smaller [default: adata.h5ad beside the model]
    #[arg(long, value_name = "FILE.h5ad")]
    data: Option<PathBuf>,
    /// The licence, as hubs abbreviate it: mit, cc-by-4.0, ...
    #[arg(long, value_name = "NAME")]
    license: Option<String>,
    /// What the model is; @FILE reads it from a file
    #[arg(
        long,
        value_name = "TEXT|@FILE",
        default_value = "",
        hide_default_value = true
    )]
    description: String,
    /// What to cite; @FILE reads it from a file
    #[arg(
        long,
        value_name = "TEXT|@FILE",
        default_value = "",
        hide_default_value = true
    )]
    references: String,
    /// What was measured
    #[arg(long, value_name = "NAME", default_values_t = ["rna".to_owned()])]
    modality: Vec<String>,
    /// Where the cells came from
    #[arg(long, value_name = "NAME")]
    tissue: Vec<String>,
    /// Whether the cells have labels
    #[arg(long, value_name = "true|false")]
    annotated: Option<bool>,
    /// Where the full data with counts are
    #[arg(long, value_name = "URL")]
    training_data_url: Option<String>,
    /// Where the program that trained the model is
    #[arg(long, value_name = "URL")]
    training_code_url: Option<String>,
    /// A metrics.json, whose tables become part of the card [default: metrics.json beside the model]
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// Text, or with @ the contents of a file.
fn text(argument: &str) -> Result<String> {
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(Error::file(Path::new(path), "read")),
        None => Ok(argument.to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let options = options(args)?;
    let mut model = load_model(&args.model)?;
    let beside = args.model.join(hub::ADATA);
    let data = args
        .data
        .clone()
        .or_else(|| beside.is_file().then_some(beside));
    refuse_stale(args, data.as_deref())?;
    if let Some(path) = &data {
        check_data(&mut model, path)?;
    }
    std::fs::create_dir_all(&args.out).map_err(Error::file(&args.out, "create"))?;
    check_writable(&args.out)?;
    if let Some(path) = &data {
        copy_data(path, &args.out)?;
    }
    let (_, kept) = HubModel::pack_like(&args.model, &args.out, &model, &options)?;
    note(&format!(
        "{} -> {}",
        args.model.display(),
        args.out.display()
    ));
    tell_kept(&args.model, &kept);
    if data.is_none() && args.training_data_url.is_none() {
        note(
            "without cells (--data) or their address (--training-data-url) nobody can map to the reference cells",
        );
    }
    Ok(())
}

fn options(args: &Args) -> Result<PackOptions> {
    let mut options = PackOptions::default();
    options.license = args.license.clone();
    options.description = text(&args.description)?;
    options.references = text(&args.references)?;
    options.modalities = args.modality.clone();
    options.tissues = args.tissue.clone();
    options.is_annotated = args.annotated;
    options.training_data_url = args.training_data_url.clone();
    options.training_code_url = args.training_code_url.clone();
    // Those of the model, as its cells are.
    let beside = args.model.join(hub::METRICS);
    let beside = beside.is_file().then_some(&beside);
    if let Some(path) = args.metrics.as_ref().or(beside) {
        let text = std::fs::read_to_string(path).map_err(Error::file(path, "read"))?;
        options.metrics = Metrics::from_json(&text)
            .map_err(|e| Error::Message(format!("{}: {e}", path.display())))?;
    }
    Ok(options)
}

/// Cells and weights that are in the folder already, and are not those that are packed.
fn refuse_stale(args: &Args, data: Option<&Path>) -> Result<()> {
    let refuse = |name: &str, why: &str| {
        let path = args.out.join(name);
        Err(Error::Message(format!(
            "{}: is there already, {why}; remove it or choose another folder",
            path.display()
        )))
    };
    let has = |name: &str| args.out.join(name).exists();
    if has(hub::MDATA) {
        return refuse(hub::MDATA, "and would be taken for the cells of this model");
    }
    if data.is_none() && has(hub::ADATA) {
        let why = "and would be taken for the cells of this model: name its cells with --data";
        return refuse(hub::ADATA, why);
    }
    let same = std::fs::canonicalize(&args.model).ok() == std::fs::canonicalize(&args.out).ok();
    if !same && sc_model::save::is_saved_model(&args.out) {
        let why = "a model of `sc train` that `sc` would take before the one that is packed";
        return refuse("model.safetensors", why);
    }
    Ok(())
}

/// Checks that cells fit the model, and notes where they keep their posterior.
fn check_data(model: &mut AnyModel, path: &Path) -> Result<()> {
    let annotations = h5ad::read_annotations(path)?;
    let Some(kind) = MinifyKind::of(&annotations)? else {
        model.set_minified(None);
        fits::check(model.registry(), &annotations)?;
        let counts = h5ad::read_backed(path, model.registry().setup.layer.as_deref())?;
        Cells::from_source_for_model(counts, &annotations, model.registry())
            .map_err(|e| Error::from(e).explained())?;
        note("these cells have their counts; `sc minify` makes them far smaller");
        return Ok(());
    };
    let found = MinifiedKeys::find(&annotations, model.registry().minified.as_ref())?;
    model.set_minified(Some(found));
    fits::check(model.registry(), &annotations)?;
    let mut empty = annotations.clone();
    if kind.has_counts() {
        // Its counts stay where they are.
        let shape = (empty.n_obs(), empty.n_vars());
        let zeros: sc_data::Matrix = sc_data::Csr::zeros(shape.0, shape.1).into();
        if let Some(layer) = &model.registry().setup.layer {
            empty.layers.insert(layer.clone(), zeros.clone());
        }
        empty.x = Some(zeros);
    }
    let cells = Cells::for_model(&empty, model.registry());
    let cells = cells.map_err(|e| Error::from(e).explained())?;
    check_dimensions(model, &cells, path)
}

/// A posterior of another model is found when it is used, which is late.
fn check_dimensions(model: &AnyModel, cells: &Cells<'_>, path: &Path) -> Result<()> {
    let expected = model.scvi().config().n_latent;
    let found = cells.stored_posterior().map(StoredPosterior::n_latent);
    match found {
        Some(found) if found != expected => Err(Error::Message(format!(
            "{}: was minified in {found} dimensions, and the model has {expected}: it is of another model",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn copy_data(path: &Path, out: &Path) -> Result<()> {
    let target = out.join(hub::ADATA);
    if std::fs::canonicalize(path).ok() == std::fs::canonicalize(&target).ok() {
        return Ok(());
    }
    // Without metadata it is no hub folder, until all that is in it belongs together.
    let metadata = out.join(hub::METADATA);
    if metadata.exists() {
        std::fs::remove_file(&metadata).map_err(Error::file(&metadata, "remove"))?;
    }
    let _spinner = Spinner::new(format!("writing {}", target.display()));
    let mut source = std::fs::File::open(path).map_err(Error::file(path, "read"))?;
    Ok(sc_io::atomic::write_file(&target, |file| {
        std::io::copy(&mut source, file).map(|_| ())
    })?)
}

/// Says what became of the `model.pt` of scvi-tools.
pub(crate) fn tell_kept(source: &Path, kept: &Kept) {
    match kept {
        Kept::Anew { lost } if !lost.is_empty() => note(&format!(
            "model.pt was written anew and lacks what only {} has: {}",
            source.display(),
            lost.join(", ")
        )),
        Kept::Copied => note("model.pt is a copy, byte for byte"),
        Kept::Noted => note("model.pt is as it was but for where the cells keep their posterior"),
        _ => {}
    }
}
