use std::path::{Path, PathBuf};

use sc_data::{AnnData, RowSource};
use sc_io::{Format, h5ad};
use sc_latent::minify::{MinifyKind, MinifyOptions, SizeReport};
use sc_latent::{AnyModel, Cells, hub, prepare_query};
use serde::Serialize;

use crate::common::{
    Query, check_output, check_writable, human_bytes, load_model, note, print_json, read,
    refuse_same,
};
use crate::error::{Error, Result};
use crate::fits;
use crate::hub_pack::tell_kept;
use crate::progress::{Spinner, Watched};

const EXAMPLES: &str = "\
Examples:
  sc minify model cells.h5ad --out atlas              # atlas/model.pt and atlas/adata.h5ad
  sc minify model cells.h5ad --out small.h5ad         # the cells only
  sc minify model cells.h5ad --out atlas --statistics-by cell_type --statistics-by donor
  sc minify model cells.h5ad --out atlas --with-counts";

/// Keep of each cell its place in the latent space and its library size instead of its counts
///
/// The result works with `sc embed`, `sc expression` and everything else that asks the decoder, and scvi-tools opens it.
/// Sums of the raw counts by gene are kept for groups of cells, so that differential expression can still report raw means.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// A folder for model and cells, or NAME.h5ad for the cells only
    #[arg(long, value_name = "FOLDER|OUT.h5ad")]
    out: PathBuf,
    /// Keep the counts too: queries skip the encoder, and all else still works
    #[arg(long)]
    with_counts: bool,
    /// Keep sums of raw counts for each category of this column of obs [default: the model's labels and batches]
    #[arg(long, value_name = "KEY", conflicts_with = "with_counts")]
    statistics_by: Vec<String>,
    /// Compress with gzip; 0 is fastest, 9 is smallest
    #[arg(long, value_name = "LEVEL", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=9))]
    gzip: u8,
    /// Read the whole file at once, instead of some cells at a time from an .h5ad file
    #[arg(long)]
    in_memory: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    cells: PathBuf,
    model: Option<PathBuf>,
    n_cells: usize,
    n_latent: usize,
    kind: MinifyKind,
    #[serde(flatten)]
    sizes: SizeReport,
    ratio: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    refuse_same(&args.out, &[&args.query.data, &args.query.model])?;
    refuse_same(&args.out.join(hub::ADATA), &[&args.query.data])?;
    let folder = args
        .out
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("h5ad"));
    let target = if folder {
        std::fs::create_dir_all(&args.out).map_err(Error::file(&args.out, "create"))?;
        check_writable(&args.out)?;
        args.out.join(hub::ADATA)
    } else {
        check_output(&args.out)?;
        args.out.clone()
    };
    let mut model = load_model(&args.query.model)?;
    if folder {
        refuse_stale(&args.out)?;
    }
    let mut options = MinifyOptions::default();
    if args.with_counts {
        options.kind = MinifyKind::PosteriorWithCounts;
    }
    options.statistics_by = (!args.statistics_by.is_empty()).then(|| args.statistics_by.clone());
    let n_cells = write(args, &model, &options, &target)?;
    let saved = if folder {
        model.set_minified(Some(model.minified_keys(&options)));
        let kept = model.save_scvi_tools_like(&args.query.model, &args.out)?;
        if !args.json {
            tell_kept(&args.query.model, &kept);
        }
        Some(args.out.join(hub::MODEL))
    } else {
        None
    };
    let source = &args.query.data;
    let counts = if source.is_file() { source } else { &target };
    let sizes = SizeReport::measure(counts, &target, saved.as_deref())?;
    let report = Report {
        n_cells,
        n_latent: model.scvi().config().n_latent,
        kind: options.kind,
        ratio: sizes.ratio(),
        cells: target,
        model: saved,
        sizes,
    };
    if args.json {
        return print_json(&report);
    }
    note(&describe(&report, source));
    Ok(())
}

/// What of another model is in the folder and would stay there.
fn refuse_stale(out: &Path) -> Result<()> {
    for (name, what) in [
        ("model.safetensors", "a model of `sc train`"),
        (hub::METADATA, "a hub folder"),
    ] {
        if out.join(name).exists() {
            return Err(Error::Message(format!(
                "{}: is {what} already (it has {name}); choose another folder",
                out.display()
            )));
        }
    }
    Ok(())
}

fn describe(r: &Report, source: &Path) -> String {
    let model = match r.model {
        Some(_) => format!(", and a model of {}", human_bytes(r.sizes.model_bytes)),
        None => String::new(),
    };
    let size = human_bytes(r.sizes.minified_bytes);
    let compared = if source.is_file() {
        let before = human_bytes(r.sizes.counts_bytes);
        let (times, than) = match r.ratio < 1.0 {
            true => (1.0 / r.ratio, "larger"),
            false => (r.ratio, "smaller"),
        };
        format!("{before} -> {size}, {times:.1} times {than}")
    } else {
        size
    };
    format!(
        "{} cells in {} dimensions -> {} ({compared}{model})",
        r.n_cells,
        r.n_latent,
        r.cells.display()
    )
}

/// Writes the minified cells and says how many there are.
fn write(args: &Args, model: &AnyModel, options: &MinifyOptions, target: &Path) -> Result<usize> {
    let path = &args.query.data;
    let packed = match args.gzip {
        0 => h5ad::WriteOptions::default(),
        level => h5ad::WriteOptions::gzip(level),
    };
    if !args.in_memory && sc_io::format_of(path)? == Format::H5ad {
        return write_backed(args, model, options, target, &packed);
    }
    let mut data = read(path)?;
    fits::check(model.registry(), &data)?;
    if let Some(padded) = padded(model, &data)? {
        data = padded;
    }
    let small = {
        let _spinner = Spinner::new("minifying".into());
        model
            .minify(&data, options)
            .map_err(|e| Error::from(e).explained())?
    };
    let _spinner = Spinner::new(format!("writing {}", target.display()));
    h5ad::write(target, &small, &packed)?;
    Ok(small.n_obs())
}

/// The cells of a query's own model as that sees them, if they lack some of the reference's genes or labels.
fn padded(model: &AnyModel, data: &AnnData) -> Result<Option<AnnData>> {
    if model.scvi().query().is_none() {
        return Ok(None);
    }
    let prepared = prepare_query(data, model.registry())?;
    let report = &prepared.report;
    if report.genes.missing.is_empty() && report.filled_labels == 0 {
        return Ok(None);
    }
    note(&format!(
        "{} genes that these cells lack count as never seen, and {} labels as not known",
        report.genes.missing.len(),
        report.filled_labels
    ));
    Ok(Some(prepared.data))
}

/// The counts are never all in memory.
fn write_backed(
    args: &Args,
    model: &AnyModel,
    options: &MinifyOptions,
    target: &Path,
    packed: &h5ad::WriteOptions,
) -> Result<usize> {
    let path = &args.query.data;
    let annotations = h5ad::read_annotations(path)?;
    fits::check(model.registry(), &annotations)?;
    let padded = padded(model, &annotations)?;
    let layer = model.registry().setup.layer.as_deref();
    let counts = h5ad::read_backed(path, layer)
        .map_err(|e| Error::from(e).with_hint("--in-memory reads the whole file at once"))?;
    let keeps = options.kind.has_counts();
    if keeps && annotations.var.index() != model.registry().genes.as_slice() {
        return Err(Error::Message(format!(
            "{}: has other genes than the model, or in another order; --in-memory puts them in order",
            path.display()
        )));
    }
    let counts = Watched::new(Box::new(counts) as Box<dyn RowSource>);
    counts.handle().start("minifying", counts.n_rows());
    let small = {
        let registry = model.registry();
        let cells = match &padded {
            Some(_) => Cells::from_source_for_query(counts, &annotations, registry).map(|c| c.0),
            None => Cells::from_source_for_model(counts, &annotations, registry),
        };
        let cells = cells.map_err(|e| Error::from(e).explained())?;
        let kept: AnnData = padded.unwrap_or_else(|| annotations.clone());
        let layers: Vec<String> = sc_io::inspect(path)?.layers.into_keys().collect();
        model.minify_cells(&cells, kept, &layers, options)?
    };
    let _spinner = Spinner::new(format!("writing {}", target.display()));
    if keeps {
        h5ad::write_annotations(path, target, &small, packed)?;
    } else {
        h5ad::write(target, &small, packed)?;
    }
    Ok(small.n_obs())
}
