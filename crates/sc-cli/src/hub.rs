use std::fmt::Write;
use std::path::PathBuf;

use sc_latent::hub::{self, HubModel, ModelFacts, PullOptions};
use serde::Serialize;

use crate::common::{human_bytes, note, print, print_json};
use crate::error::{Error, Result};
use crate::hub_pack;
use crate::progress::Transfers;

const EXAMPLES: &str = "\
Examples:
  sc minify model cells.h5ad --out atlas
  sc hub pack atlas lung-hub --license cc-by-4.0 --tissue lung --description @about.md
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
    Pack(Box<hub_pack::Args>),
    Inspect(Inspect),
    Pull(Pull),
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
        Command::Pack(a) => hub_pack::run(a),
        Command::Inspect(a) => inspect(a),
        Command::Pull(a) => pull(a),
    }
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
