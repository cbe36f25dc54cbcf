use std::fmt::Write;
use std::path::{Path, PathBuf};

use sc_io::h5ad;
use sc_latent::hub::{self, HubModel, Metrics, ModelFacts, PackOptions, PullOptions};
use sc_latent::minify::{MinifiedKeys, MinifyKind};
use sc_latent::{AnyModel, Cells};
use serde::Serialize;

use crate::common::{check_writable, human_bytes, load_model, note, print, print_json};
use crate::error::{Error, Result};
use crate::progress::{Spinner, Transfers};

const EXAMPLES: &str = "\
Examples:
  sc minify model cells.h5ad --out atlas
  sc hub pack atlas lung-hub --data atlas/adata.h5ad --license cc-by-4.0 --tissue lung --description @about.md
  sc hub inspect lung-hub
  sc hub pull scvi-tools/human-lung-cell-atlas --no-data";

/// Hub folders: a model with its card and its cells, as scvi-hub keeps them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pack(Box<Pack>),
    Inspect(Inspect),
    Pull(Pull),
}

/// Make a folder that scvi-hub's HubModel opens
///
/// Example: sc hub pack model folder --data small.h5ad --license mit --description @about.md
#[derive(Debug, clap::Args)]
struct Pack {
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
    #[arg(long, value_name = "TEXT|@FILE", default_value = "")]
    description: String,
    /// What to cite; @FILE reads it from a file
    #[arg(long, value_name = "TEXT|@FILE", default_value = "")]
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
    /// A metrics.json, whose tables become part of the card
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// Say what a hub folder holds
///
/// Example: sc hub inspect folder --json
#[derive(Debug, clap::Args)]
struct Inspect {
    /// The folder
    dir: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Fetch a repository from a hub, and print its folder
///
/// A transfer that was interrupted goes on where it ended; every file is checked against the hub's checksum; what is in the
/// cache already is not fetched again. A token for private repositories is taken from HF_TOKEN, or from a saved login.
///
/// Example: sc hub pull scvi-tools/human-lung-cell-atlas --revision main
#[derive(Debug, clap::Args)]
struct Pull {
    /// owner/name
    repository: String,
    /// A branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    /// The address of the hub [default: HF_ENDPOINT, or the public hub]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Where files are kept [default: below HF_HOME, or ~/.cache/huggingface]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Leave the cells, which are most of it
    #[arg(long)]
    no_data: bool,
    /// Use what the cache has
    #[arg(long)]
    offline: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Pack(a) => pack(a),
        Command::Inspect(a) => inspect(a),
        Command::Pull(a) => pull(a),
    }
}

/// Text, or with @ the contents of a file.
fn text(argument: &str) -> Result<String> {
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(Error::file(Path::new(path), "read")),
        None => Ok(argument.to_owned()),
    }
}

fn pack(args: &Pack) -> Result<()> {
    std::fs::create_dir_all(&args.out).map_err(Error::file(&args.out, "create"))?;
    check_writable(&args.out)?;
    let mut options = PackOptions::default();
    options.license = args.license.clone();
    options.description = text(&args.description)?;
    options.references = text(&args.references)?;
    options.modalities = args.modality.clone();
    options.tissues = args.tissue.clone();
    options.is_annotated = args.annotated;
    options.training_data_url = args.training_data_url.clone();
    options.training_code_url = args.training_code_url.clone();
    if let Some(path) = &args.metrics {
        let text = std::fs::read_to_string(path).map_err(Error::file(path, "read"))?;
        options.metrics = Metrics::from_json(&text)?;
    }
    let beside = args.model.join(hub::ADATA);
    let data = args
        .data
        .clone()
        .or_else(|| beside.is_file().then_some(beside));
    let mut model = load_model(&args.model)?;
    if let Some(path) = &data {
        take_data(&mut model, path, &args.out)?;
    }
    HubModel::pack(&args.out, &model, &options)?;
    note(&format!(
        "{} -> {}",
        args.model.display(),
        args.out.display()
    ));
    if data.is_none() && args.training_data_url.is_none() {
        note(
            "without cells (--data) or their address (--training-data-url) nobody can map to the reference cells",
        );
    }
    Ok(())
}

/// Checks that cells fit the model, notes where they keep their posterior, and copies them.
fn take_data(model: &mut AnyModel, path: &Path, out: &Path) -> Result<()> {
    let annotations = h5ad::read_annotations(path)?;
    let kind = MinifyKind::of(&annotations)?;
    if let Some(kind) = kind {
        let found = MinifiedKeys::find(&annotations, model.registry().minified.as_ref())?;
        model.set_minified(Some(found));
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
        Cells::for_model(&empty, model.registry()).map_err(|e| Error::from(e).explained())?;
    } else {
        model.set_minified(None);
        let counts = h5ad::read_backed(path, model.registry().setup.layer.as_deref())?;
        Cells::from_source_for_model(counts, &annotations, model.registry())
            .map_err(|e| Error::from(e).explained())?;
        note("these cells have their counts; `sc minify` makes them far smaller");
    }
    let target = out.join(hub::ADATA);
    let same = std::fs::canonicalize(path).ok() == std::fs::canonicalize(&target).ok();
    if same {
        return Ok(());
    }
    let _spinner = Spinner::new(format!("writing {}", target.display()));
    let mut source = std::fs::File::open(path).map_err(Error::file(path, "read"))?;
    Ok(sc_io::atomic::write_file(&target, |file| {
        std::io::copy(&mut source, file).map(|_| ())
    })?)
}

#[derive(Debug, Serialize)]
struct Found {
    dir: PathBuf,
    metadata: hub::HubMetadata,
    license: Option<String>,
    tags: Vec<String>,
    description: Option<String>,
    references: Option<String>,
    init_params: serde_json::Map<String, serde_json::Value>,
    setup_args: serde_json::Map<String, serde_json::Value>,
    summary_stats: std::collections::BTreeMap<String, i64>,
    data_registry: std::collections::BTreeMap<String, String>,
    is_minified: bool,
    has_metrics: bool,
    /// Bytes of each file.
    files: std::collections::BTreeMap<String, u64>,
}

fn inspect(args: &Inspect) -> Result<()> {
    let found = find(&HubModel::open(&args.dir)?)?;
    if args.json {
        return print_json(&found);
    }
    print(describe(&found).trim_end())
}

fn find(hub: &HubModel) -> Result<Found> {
    let facts: ModelFacts = hub.facts()?;
    let card = hub.card();
    let files = std::fs::read_dir(hub.dir()).map_err(Error::file(hub.dir(), "list"))?;
    let files = files.flatten().filter_map(|entry| {
        // A link of a cache counts as what it leads to.
        let bytes = std::fs::metadata(entry.path())
            .ok()
            .filter(std::fs::Metadata::is_file)?;
        Some((
            entry.file_name().to_string_lossy().into_owned(),
            bytes.len(),
        ))
    });
    Ok(Found {
        dir: hub.dir().to_owned(),
        metadata: hub.metadata().clone(),
        license: card.and_then(|c| c.header.license.clone()),
        tags: card.map(|c| c.header.tags.clone()).unwrap_or_default(),
        description: card.and_then(|c| c.description()).map(str::to_owned),
        references: card.and_then(|c| c.references()).map(str::to_owned),
        is_minified: facts.is_minified(),
        has_metrics: hub.metrics()?.is_some(),
        init_params: facts.init_params,
        setup_args: facts.setup_args,
        summary_stats: facts.summary_stats,
        data_registry: facts.data_registry,
        files: files.collect(),
    })
}

/// Writing to a `String` cannot fail.
fn describe(f: &Found) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<12} {text}");
    };
    line("folder", &f.dir.display().to_string());
    let m = &f.metadata;
    line(
        "model",
        &format!(
            "{} of scvi-tools {}, cells of anndata {}",
            m.model_cls_name, m.scvi_version, m.anndata_version
        ),
    );
    line("license", f.license.as_deref().unwrap_or("not stated"));
    line("tags", &f.tags.join(", "));
    if let Some(text) = &f.description {
        line("about", text.lines().next().unwrap_or_default());
    }
    line("minified", if f.is_minified { "yes" } else { "no" });
    line("metrics", if f.has_metrics { "yes" } else { "no" });
    let json = |map: &serde_json::Map<String, serde_json::Value>| {
        let shown = map.iter().filter(|(_, v)| !v.is_null());
        let shown = shown.map(|(k, v)| format!("{k} {}", v.to_string().replace('"', "")));
        shown.collect::<Vec<_>>().join(", ")
    };
    line("parameters", &json(&f.init_params));
    line("setup", &json(&f.setup_args));
    let counts = f.summary_stats.iter().map(|(k, v)| format!("{k} {v}"));
    line("counts", &counts.collect::<Vec<_>>().join(", "));
    for (name, bytes) in &f.files {
        line("file", &format!("{name} ({})", human_bytes(*bytes)));
    }
    out
}

fn pull(args: &Pull) -> Result<()> {
    let mut options = PullOptions::default();
    options.revision = args.revision.clone();
    options.endpoint = args.endpoint.clone();
    options.cache_dir = args.cache.clone();
    options.with_data = !args.no_data;
    options.offline = args.offline;
    options.token = std::env::var("HF_TOKEN").ok().filter(|t| !t.is_empty());
    let mut shown = Transfers::new();
    let pulled = hub::pull(&args.repository, &options, &mut |file, done, total| {
        shown.saw(file, done, total);
    });
    shown.finish();
    let pulled = pulled?;
    if args.json {
        return print_json(&pulled);
    }
    for file in &pulled.files {
        let how = if file.transferred == 0 {
            "from the cache".to_owned()
        } else {
            format!("{} transferred", human_bytes(file.transferred))
        };
        note(&format!(
            "{} ({}, {how})",
            file.name,
            human_bytes(file.bytes)
        ));
    }
    print(&pulled.dir.display().to_string())
}
