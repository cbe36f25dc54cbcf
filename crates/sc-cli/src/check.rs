//! `sc check`: posterior predictive checks, and their report.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sc_criticism::ppc::{Checked, DeTest, Drawn, Ppc, PpcOptions, Samples, Tables};
use sc_criticism::report::Report;
use sc_data::{AnnData, Categorical, Columns, RowSource};
use sc_latent::{AnyModel, Parity};

use crate::check_report::{self, Subject};
use crate::common::{
    QueryCells, cells_for, check_writable, load_model, note, print_json, read, read_annotations,
};
use crate::error::{Error, Result};
use crate::options::{at_least_one, share};
use crate::places::labels;
use crate::progress::Counter;

const EXAMPLES: &str = "\
Examples:
  sc check model cells.h5ad --out report.html
  sc check model cells.h5ad --out report.html --labels-key cell_type --samples 20
  sc check zinb nb small cells.h5ad --out compared.html --labels-key cell_type
  sc check model cells.h5ad --out report.html --labels-key cell_type --card metrics.json
  sc check model samples.h5ad cells.h5ad --out report.html   # samples of another program: each layer is one

Beside report.html, report.json and report.csv hold the same numbers. The figures of CV scatter, calibration
and differential expression are in the report; a UMAP too, if the data have one.";

/// Check whether models generate cells like those they saw: posterior predictive checks, as an HTML report
///
/// Draws counts for every cell from each model and compares their statistics with those of the raw counts: coefficients of
/// variation by cell and by gene, zeros, means, variances, library sizes, calibration, and with --labels-key differential
/// expression. Cells stream through in blocks, so that the draws of all cells are never held.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folders with models of `sc train` or of scvi-tools; or .h5ad files whose layers are samples of the same cells
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// Cells with raw counts: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The report, an .html file; .json and .csv files of the same name are written beside it
    #[arg(long, value_name = "OUT.html")]
    out: PathBuf,
    /// Column of obs with groups, each compared with the rest for differential expression
    #[arg(long, value_name = "KEY")]
    labels_key: Option<String>,
    /// Samples of each cell
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    samples: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Layer with the raw counts, where only samples of another program are checked [default: X]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// obsm with places to draw, by batch and label [default: X_umap, if the data have it]
    #[arg(long, value_name = "KEY")]
    umap: Option<String>,
    /// Also write the tables of a hub card, which `sc hub pack --metrics` takes; for one model
    #[arg(long, value_name = "metrics.json")]
    card: Option<PathBuf>,
    /// Repeat scvi-tools' slips: `zero_fraction` is the share of non-zeros, scores of the areas under curves are signed,
    /// the card's R² has raw and generated counts exchanged
    #[arg(long)]
    upstream: bool,
    /// Read the counts from the .h5ad file, some cells at a time
    #[arg(long)]
    backed: bool,
    #[command(flatten, next_help_heading = "Differential expression")]
    de: De,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print the report as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct De {
    /// The test
    #[arg(long, value_enum, default_value_t = Test::TTest)]
    de_test: Test,
    /// How many of the samples are tested
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    de_samples: usize,
    /// Genes with an adjusted p-value below this in the raw counts are the true ones
    #[arg(long, value_name = "P", default_value_t = 1e-3, value_parser = share)]
    de_p_value: f64,
    /// How many top genes are compared; at most a tenth of all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    de_top: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Test {
    TTest,
    Wilcoxon,
}

/// A model, or samples of one, under the name by which the report speaks of it.
struct Candidate {
    name: String,
    kind: Kind,
}

#[expect(clippy::large_enum_variant, reason = "there are a few")]
enum Kind {
    Model(AnyModel),
    Samples(PathBuf, AnnData),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_outputs(args)?;
    let path = &args.data;
    let candidates = candidates(args)?;
    let data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let groups = match &args.labels_key {
        Some(key) => Some(labels(&data, path, key)?),
        None => None,
    };
    let umap = check_report::places(&data, path, args.umap.as_deref())?;

    let backed = args.backed.then_some(path.as_path());
    let queries = candidates
        .iter()
        .map(|c| match &c.kind {
            Kind::Model(model) => Ok(Some(cells_of(model, &data, backed)?)),
            Kind::Samples(..) => Ok(None),
        })
        .collect::<Result<Vec<_>>>()?;
    let (raw, genes) = raw_counts(args, &candidates, &queries, &data)?;
    let samples = candidates
        .iter()
        .zip(&queries)
        .map(|(c, q)| samples(c, q.as_ref(), args, &genes, &data))
        .collect::<Result<Vec<_>>>()?;

    let checked = check(args, &candidates, &samples, &*raw, groups.as_ref())?;
    for group in &checked.left_out {
        note(&format!(
            "group {} has {} cells: too few on one side for differential expression",
            group.group, group.n_cells
        ));
    }
    let subject = Subject {
        data: &data,
        path,
        batch_key: candidates.iter().find_map(|c| match &c.kind {
            Kind::Model(m) => m.registry().setup.batch_key.clone(),
            Kind::Samples(..) => None,
        }),
        labels_key: args.labels_key.as_deref(),
        umap,
        samples: args.samples,
        seed: args.seed,
        upstream: args.upstream,
    };
    let report = subject.report(&checked)?;
    write_report(args, &report, &checked)
}

fn check_outputs(args: &Args) -> Result<()> {
    let ends = |path: &Path, with: &str| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case(with))
    };
    if !ends(&args.out, "html") {
        return Err(Error::Message(format!(
            "{}: --out must end in .html",
            args.out.display()
        )));
    }
    for path in std::iter::once(&args.out).chain(&args.card) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        check_writable(folder.unwrap_or(Path::new(".")))?;
    }
    match &args.card {
        Some(card) if args.models.len() > 1 => Err(Error::Message(format!(
            "{}: --card describes one model, and here are {}",
            card.display(),
            args.models.len()
        ))),
        _ => Ok(()),
    }
}

/// Loads what is checked. Names are those of the folders, with the folders above them where that is not enough.
fn candidates(args: &Args) -> Result<Vec<Candidate>> {
    let last = |path: &PathBuf| path.file_stem().map(|n| n.to_string_lossy().into_owned());
    args.models
        .iter()
        .map(|path| {
            let is_other = |p: &&PathBuf| *p != path && last(p) == last(path);
            let name = match args.models.iter().find(is_other) {
                Some(_) => None,
                None => last(path),
            };
            let is_file = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("h5ad"));
            Ok(Candidate {
                name: name.unwrap_or_else(|| path.display().to_string()),
                kind: match is_file {
                    true => Kind::Samples(path.clone(), read_annotations(path)?),
                    false => Kind::Model(load_model(path)?),
                },
            })
        })
        .collect()
}

/// The cells of a model, with their counts.
fn cells_of<'a>(
    model: &'a AnyModel,
    data: &'a AnnData,
    backed: Option<&Path>,
) -> Result<QueryCells<'a>> {
    let query = cells_for(model.scvi(), data, backed)?;
    query.cells.require_counts("a posterior predictive check")?;
    // There is a bar for the whole check.
    query.watch.start("", 0);
    Ok(query)
}

/// The raw counts with the genes that all models have in common.
fn raw_counts<'a>(
    args: &Args,
    candidates: &'a [Candidate],
    queries: &'a [Option<QueryCells<'_>>],
    data: &'a AnnData,
) -> Result<(Box<dyn RowSource + 'a>, Vec<String>)> {
    let mut first: Option<(&str, &[String])> = None;
    for candidate in candidates {
        let Kind::Model(model) = &candidate.kind else {
            continue;
        };
        let genes = model.registry().genes.as_slice();
        match first {
            Some((name, expected)) if expected != genes => {
                return Err(Error::Message(format!(
                    "{name} and {} have other genes ({} and {}), or in another order: their figures would not be \
                     comparable; check them one by one",
                    candidate.name,
                    expected.len(),
                    genes.len()
                )));
            }
            _ => first = Some((&candidate.name, genes)),
        }
    }
    let of_model = queries.iter().flatten().next();
    Ok(match (first, of_model) {
        (Some((_, genes)), Some(query)) => (Box::new(query.cells.counts()), genes.to_vec()),
        _ => {
            let layer = args.layer.as_deref();
            let counts: Box<dyn RowSource + 'a> = if args.backed {
                Box::new(sc_io::h5ad::read_backed(&args.data, layer)?)
            } else {
                Box::new(data.matrix(layer)?)
            };
            (counts, data.var.index().to_vec())
        }
    })
}

/// What a candidate generates.
fn samples<'a, 'b: 'a>(
    candidate: &'a Candidate,
    query: Option<&'a QueryCells<'b>>,
    args: &Args,
    genes: &[String],
    data: &AnnData,
) -> Result<Box<dyn Samples + 'a>> {
    match (&candidate.kind, query) {
        (Kind::Model(model), Some(query)) => Ok(Box::new(Drawn::new(
            model.scvi(),
            &query.cells,
            args.samples,
            args.seed,
        ))),
        (Kind::Samples(path, annotations), _) => {
            Ok(Box::new(tables(path, annotations, genes, data)?))
        }
        // Every model has its cells.
        (Kind::Model(_), None) => Err(Error::Message(format!("{}: no cells", candidate.name))),
    }
}

/// The layers of a file as samples, read from it some cells at a time.
fn tables(
    path: &Path,
    annotations: &AnnData,
    genes: &[String],
    data: &AnnData,
) -> Result<Tables<'static>> {
    let refuse = |what: String| Error::Message(format!("{}: {what}", path.display()));
    let names: Vec<String> = sc_io::inspect(path)?.layers.into_keys().collect();
    if names.is_empty() {
        return Err(refuse(
            "has no layers; each is a sample of the counts".into(),
        ));
    }
    let (own, expected) = (annotations.obs.index(), data.obs.index());
    if own != expected {
        let other = own.iter().zip(expected).position(|(a, b)| a != b);
        return Err(refuse(match other {
            Some(i) => format!(
                "cell {i} is {}, that of the data {}: samples must be of the same cells in the same order",
                own[i], expected[i]
            ),
            None => format!("has {} cells, the data {}", own.len(), expected.len()),
        }));
    }
    let position: std::collections::HashMap<&str, usize> = annotations
        .var
        .index()
        .iter()
        .enumerate()
        .map(|(i, g)| (g.as_str(), i))
        .collect();
    let columns = genes
        .iter()
        .map(|g| match position.get(g.as_str()) {
            Some(&i) => Ok(Some(i)),
            None => Err(refuse(format!("lacks the gene {g}, which the counts have"))),
        })
        .collect::<Result<Vec<_>>>()?;
    let sources = names
        .iter()
        .map(|layer| {
            let source = sc_io::h5ad::read_backed(path, Some(layer))?;
            Ok(Box::new(Columns::new(source, columns.clone())?) as Box<dyn RowSource>)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tables::new(sources)?)
}

fn check(
    args: &Args,
    candidates: &[Candidate],
    samples: &[Box<dyn Samples + '_>],
    raw: &dyn RowSource,
    groups: Option<&Categorical>,
) -> Result<Checked> {
    let mut options = PpcOptions::default();
    options.de.test = match args.de.de_test {
        Test::TTest => DeTest::TTest,
        Test::Wilcoxon => DeTest::Wilcoxon,
    };
    options.de.n_samples = args.de.de_samples;
    options.de.p_value = args.de.de_p_value;
    options.de.n_top = args.de.de_top;
    if args.upstream {
        options.parity = Parity::Upstream;
    }
    let mut ppc = Ppc::new(raw).options(options);
    if let Some(groups) = groups {
        ppc = ppc.groups(groups);
    }
    for (candidate, samples) in candidates.iter().zip(samples) {
        ppc = ppc.model(&candidate.name, &**samples);
        if let Kind::Model(model) = &candidate.kind {
            for (set, cells) in split(model, raw.n_rows()) {
                ppc = ppc.cells(set, cells);
            }
        }
    }
    let mut counter = Counter::new("checking");
    Ok(ppc.run(&mut |done, all| counter.set(done, all))?)
}

/// The cells that trained and those that validated, if these are the cells of the training.
fn split(model: &AnyModel, n_cells: usize) -> Vec<(String, Vec<usize>)> {
    let Some(training) = model.scvi().training() else {
        return Vec::new();
    };
    let split = &training.split;
    if split.train.len() + split.validation.len() + split.test.len() != n_cells
        || split.validation.is_empty()
    {
        return Vec::new();
    }
    vec![
        (check_report::TRAINING.to_owned(), split.train.clone()),
        (
            check_report::VALIDATION.to_owned(),
            split.validation.clone(),
        ),
    ]
}

fn write_report(args: &Args, report: &Report, checked: &Checked) -> Result<()> {
    let json = report.json();
    let write = |path: &Path, text: &str| -> Result<()> {
        Ok(sc_io::atomic::write_file(path, |file| {
            file.write_all(text.as_bytes())
        })?)
    };
    let pretty = serde_json::to_string_pretty(&json)
        .map_err(|e| Error::Message(format!("cannot write JSON: {e}")))?;
    write(&args.out.with_extension("json"), &pretty)?;
    write(&args.out.with_extension("csv"), &report.csv())?;
    write(&args.out, &report.html())?;
    if let Some(card) = &args.card {
        let metrics = check_report::card(checked, args.upstream);
        write(card, &metrics.to_json()?)?;
        note(&format!("card -> {}", card.display()));
    }
    if args.json {
        print_json(&json)?;
    }
    note(&format!(
        "{} cells x {} genes, {} models -> {}",
        checked.n_cells,
        checked.n_genes,
        checked.models.len(),
        args.out.display()
    ));
    Ok(())
}
