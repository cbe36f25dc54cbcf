use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ndarray::Array2;
use sc_data::{AnnData, Csr, Matrix};
use sc_latent::milo::{
    self, Counts, DaTable, Design, NeighbourhoodOptions, Neighbourhoods, Normalisation, SampleSize,
    Sampling, TestOptions,
};
use serde::Serialize;

use crate::common::{check_output, check_writable, note, print_json, read, write};
use crate::error::{Error, Result};
use crate::options::{at_least_one, share};
use crate::places::{Accuracy, places};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc milo embedded.h5ad --sample donor --design '~ batch + condition' --table da.tsv
  sc milo cells.h5ad --rep X_pca --sample donor --design '~ condition' --baseline condition=healthy --annotate cell_type --plot da.svg
  sc milo cells.h5ad --sample donor --design '~ stage' --contrast 'stagelate - stageearly' --out da.h5ad
  sc milo atlas.h5ad --sample donor --design '~ age' --prop 0.05 --json | jq .rising

The last column of the design is tested, unless --test or --contrast says otherwise. Names are R's: the label
`stim` of `condition` is `conditionstim`.";

/// Find where cells become more or fewer between conditions, without clusters (Milo)
///
/// Counts the cells of each sample in neighbourhoods of a nearest-neighbour graph and tests each neighbourhood for a
/// change between samples.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells with an embedding, an .h5ad file
    #[arg(value_name = "DATA.h5ad")]
    data: PathBuf,
    /// The embedding, a matrix in obsm
    #[arg(long, value_name = "KEY", default_value = "X_scVI")]
    rep: String,
    /// The column of obs that says which sample (donor, mouse ...) a cell is of
    #[arg(long, value_name = "KEY")]
    sample: String,
    /// What differs between samples, as a formula of R
    #[arg(long, value_name = "FORMULA")]
    design: String,
    /// Test this column of the design instead of the last one
    #[arg(long, value_name = "COLUMN", conflicts_with = "contrast")]
    test: Option<String>,
    /// Test this combination of columns; the design then has no intercept
    #[arg(
        long,
        value_name = "COMBINATION",
        conflicts_with = "baseline",
        allow_hyphen_values = true
    )]
    contrast: Option<String>,
    /// The label that the others of a variable are compared with [default: the first category]
    #[arg(long, value_name = "VARIABLE=LABEL", value_parser = assignment)]
    baseline: Vec<(String, String)>,
    /// Share of the cells from which neighbourhoods start
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    prop: f64,
    /// Nearest other cells of a cell (scanpy counts the cell itself: its n_neighbors is one more)
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = at_least_one)]
    k: usize,
    /// Take the graph in obsp (connectivities and distances) instead of computing one
    #[arg(long, conflicts_with_all = ["k", "exact", "approx"])]
    stored_graph: bool,
    #[command(flatten)]
    accuracy: Accuracy,
    /// Whose choices to make for neighbourhoods
    #[arg(long, value_name = "WHOSE", default_value = "milopy")]
    like: Like,
    /// What makes samples of different size and composition comparable
    #[arg(long, value_name = "HOW", default_value = "centred")]
    normalise: Normalise,
    /// Draw the start cells with Python's generator, as milopy (seed 42) and pertpy (seed 0) do
    #[arg(long)]
    python_random: bool,
    /// Seed of the start cells, and of an approximate search
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A column of obs with labels of cells, to say what neighbourhoods consist of
    #[arg(long, value_name = "KEY")]
    annotate: Option<String>,
    /// The spatial false discovery rate up to which a change is reported and drawn
    #[arg(long, value_name = "RATE", default_value_t = 0.1, value_parser = rate)]
    alpha: f64,
    /// A copy of the data with neighbourhoods and results, laid out as milopy does
    #[arg(long, value_name = "OUT.h5ad")]
    out: Option<PathBuf>,
    /// The results, one neighbourhood a line: .csv, else separated by tabs
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// A picture: fold changes of the neighbourhoods, by label
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
    /// Print one line of JSON with everything
    #[arg(long)]
    json: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Like {
    /// Refine to the neighbour nearest to the neighbours' median; the index cell is no member; at distance 0 no weight
    Milopy,
    /// Refine to the nearest of all cells; the index cell is a member; at distance 0 the weight is 1
    Milor,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Normalise {
    /// As tmm, then so that most neighbourhoods do not change
    Centred,
    /// Trimmed means of M values of the counts (milopy, miloR)
    Tmm,
    /// Medians of ratios of the counts, relative log expression (miloR's RLE)
    Rle,
    /// Sums of the counts (miloR's logMS)
    Sums,
    /// Numbers of cells
    Cells,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((variable, label)) if !variable.is_empty() => {
            Ok((variable.to_owned(), label.to_owned()))
        }
        _ => Err("not VARIABLE=LABEL".into()),
    }
}

/// A rate of false discoveries.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if v > 0.0 && v <= 1.0 => Ok(v),
        Ok(0.0) => Err("at a rate of 0 nothing could be reported; 0.05 and 0.1 are usual".into()),
        _ => Err("not a rate of false discoveries: more than 0, up to 1; 0.1 is usual".into()),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    n_cells: usize,
    n_neighbourhoods: usize,
    n_tested: usize,
    alpha: f64,
    falling: usize,
    rising: usize,
    #[serde(flatten)]
    table: &'a DaTable,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_outputs(args)?;
    let mut data = match args.out {
        Some(_) => read(&args.data)?,
        None => sc_io::h5ad::read_annotations(&args.data)?,
    };
    let samples = data
        .obs
        .column("obs", &args.sample)?
        .to_categorical(&args.sample)?;
    // Before anything slow: a design that cannot be is said at once.
    let design = design(args, &data, &samples)?;
    let labels = match &args.annotate {
        Some(key) => Some(data.obs.column("obs", key)?.to_categorical(key)?),
        None => None,
    };
    let embedding = places(&data, &args.data, &args.rep)?;
    let (graph, distances) = graph(args, &data, &embedding)?;
    let spinner = Spinner::new("testing neighbourhoods".into());
    let neighbourhoods = Neighbourhoods::new(embedding.view(), &graph, &distances, &options(args))?;
    let counts = Counts::new(&neighbourhoods, &samples, &args.sample)?;
    let test = test_options(args);
    let mut table =
        milo::differential_abundance(&neighbourhoods, embedding.view(), &counts, &design, &test)?
            .with_names(data.obs.index());
    if let Some(labels) = &labels {
        table = table.with_annotations(&neighbourhoods.annotate(labels)?);
    }
    drop(spinner);
    if let Some(path) = &args.table {
        write_table(path, &table)?;
    }
    if let Some(path) = &args.plot {
        let picture = crate::beeswarm::beeswarm(&table, args.alpha)
            .map_err(|e| Error::Message(format!("{}: cannot draw: {e}", path.display())))?;
        sc_io::atomic::write_file(path, |f| f.write_all(picture.as_bytes()))?;
    }
    if let Some(path) = &args.out {
        milo::write_to(&mut data, &neighbourhoods, Some(&table))?;
        write(path, &data)?;
    }
    report(args, &neighbourhoods, &table)
}

fn check_outputs(args: &Args) -> Result<()> {
    if let Some(out) = &args.out {
        check_output(out)?;
    }
    for path in args.table.iter().chain(&args.plot) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        check_writable(folder.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn design(args: &Args, data: &AnnData, samples: &sc_data::Categorical) -> Result<Design> {
    if let Some(contrast) = &args.contrast {
        let design = Design::with_contrast(&args.design, contrast, &data.obs, samples)?;
        return Ok(design);
    }
    let design = Design::with_baselines(&args.design, &data.obs, samples, &args.baseline)?;
    Ok(match &args.test {
        Some(column) => design.testing(column)?,
        None => design,
    })
}

fn options(args: &Args) -> NeighbourhoodOptions {
    let mut options = match args.like {
        Like::Milopy => NeighbourhoodOptions::default(),
        Like::Milor => NeighbourhoodOptions::milo_r(),
    };
    options.proportion = args.prop;
    options.seed = args.seed;
    if args.python_random {
        options.sampling = Sampling::Python;
    }
    options
}

fn test_options(args: &Args) -> TestOptions {
    let mut options = match args.like {
        Like::Milopy => TestOptions::milopy(),
        Like::Milor => TestOptions::milo_r(),
    };
    (options.normalisation, options.size) = match args.normalise {
        Normalise::Centred => (Normalisation::Centred, SampleSize::CountSum),
        Normalise::Tmm => (Normalisation::Tmm, SampleSize::CountSum),
        Normalise::Rle => (Normalisation::Rle, SampleSize::CountSum),
        Normalise::Sums => (Normalisation::Sizes, SampleSize::CountSum),
        Normalise::Cells => (Normalisation::Sizes, SampleSize::Cells),
    };
    options
}

/// The neighbour graph, and the distance of each cell to the furthest of its nearest neighbours.
fn graph(args: &Args, data: &AnnData, embedding: &Array2<f32>) -> Result<(Csr, Vec<f32>)> {
    if !args.stored_graph {
        let _spinner = Spinner::new(format!("nearest neighbours of {} cells", embedding.nrows()));
        let neighbors = args
            .accuracy
            .method(embedding.nrows(), args.seed)
            .neighbors(embedding.view(), args.k)
            .map_err(sc_latent::Error::from)?;
        let graph = sc_neighbors::connectivities(&neighbors).map_err(sc_latent::Error::from)?;
        return Ok((graph, milo::kth_distances(&neighbors)));
    }
    let stored = |key: &str| match data.obsp.get(key) {
        Some(m) => Ok(match m {
            Matrix::Sparse(m) => m.clone(),
            other => other.to_csr(),
        }),
        None => Err(Error::Message(format!(
            "{}: obsp has no \"{key}\"; leave --stored-graph out to compute a graph",
            args.data.display()
        ))),
    };
    let (graph, distances) = (stored("connectivities")?, stored("distances")?);
    let furthest = |i| distances.row(i).1.iter().copied().fold(0.0, f32::max);
    let furthest = (0..distances.n_rows()).map(furthest).collect();
    Ok((graph, furthest))
}

fn write_table(path: &Path, table: &DaTable) -> Result<()> {
    let csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    sc_io::atomic::write_file(path, |f| table.write(f, if csv { ',' } else { '\t' }))?;
    Ok(())
}

fn report(args: &Args, neighbourhoods: &Neighbourhoods, table: &DaTable) -> Result<()> {
    let (falling, rising) = table.n_changed(args.alpha);
    if args.json {
        return print_json(&Report {
            n_cells: neighbourhoods.n_cells(),
            n_neighbourhoods: neighbourhoods.len(),
            n_tested: table.n_tested(),
            alpha: args.alpha,
            falling,
            rising,
            table,
        });
    }
    for path in args.out.iter().chain(&args.table).chain(&args.plot) {
        note(&format!("-> {}", path.display()));
    }
    let sizes = neighbourhoods.sizes();
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64;
    note(&format!(
        "{} neighbourhoods of {mean:.0} cells on average, {} samples, tested: {}\n\
         spatial FDR up to {}: {rising} rise, {falling} fall",
        neighbourhoods.len(),
        table.samples.len(),
        table.tested,
        args.alpha,
    ));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let is = |text: &str| assignment(text).map(|(a, b)| format!("{a}|{b}"));
        assert_eq!(is("a=b=c").unwrap(), "a|b=c");
        assert!(is("a").is_err() && is("=b").is_err());
    }

    #[test]
    fn rates_are_read() {
        assert_eq!((rate("0.05"), rate("1")), (Ok(0.05), Ok(1.0)));
        assert!(rate("0").unwrap_err().contains("nothing could be reported"));
        for bad in ["-0.1", "1.5", "NaN", "x"] {
            assert!(rate(bad).unwrap_err().contains("rate of false discoveries"));
        }
    }
}
