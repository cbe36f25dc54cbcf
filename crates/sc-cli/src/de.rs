use std::path::PathBuf;

use clap::ValueEnum;
use sc_data::Categorical;
use sc_latent::de::{
    ChangeOptions, DeComparison, DeOptions, DeTable, Groups, LEAST_PSEUDOCOUNT, Mode, TestMode,
    differential_expression_observed,
};
use sc_latent::{Importance, Scvi, Weights};

use crate::common::{
    Query, cells_for, check_writable, load_model, note, print_json, read, read_annotations,
};
use crate::error::{Error, Result};
use crate::options::{at_least_one, not_negative, probability};
use crate::progress::Counter;
use crate::volcano;

const EXAMPLES: &str = "\
Examples:
  sc de model cells.h5ad --groupby cell_type --out de.tsv
  sc de model cells.h5ad --groupby cell_type --group1 'B cells' --group2 'CD4 T cells' --out de.csv --plot de.svg
  sc de model cells.h5ad --groupby cell_type --pairwise --batch-correction --out de.json
  sc de model cells.h5ad --groupby stim --group1 stim --delta auto --interval 0.95 --out de.tsv

The table has scvi-tools' columns, sorted by probability within each comparison. .tsv, .csv and .json are written.";

/// Find the genes that differ between groups of cells, by draws from the model
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// The table: .tsv, .csv or .json
    #[arg(long, value_name = "TABLE")]
    out: PathBuf,
    /// The column of obs with the groups [default: the model's labels]
    #[arg(long, value_name = "KEY")]
    groupby: Option<String>,
    /// These groups only (may be repeated) [default: each group]
    #[arg(long, value_name = "GROUP")]
    group1: Vec<String>,
    /// Against this group [default: all the other cells]
    #[arg(long, value_name = "GROUP", conflicts_with = "pairwise")]
    group2: Option<String>,
    /// Every two groups against each other
    #[arg(long)]
    pairwise: bool,
    /// change: does a gene change by --delta or more? vanilla: is it expressed more in the first group?
    #[arg(long, value_enum, default_value = "change")]
    mode: Asked,
    /// The least log2 fold change that counts, or `auto` to estimate it from all genes [default: 0.25]
    #[arg(long, value_name = "N|auto", value_parser = delta)]
    delta: Option<Delta>,
    /// Add the probabilities of a rise and of a fall instead of taking the larger
    #[arg(long)]
    two_sided: bool,
    /// Added to expression before the logarithm [default: estimated from genes without counts]
    #[arg(long, value_name = "N", value_parser = pseudocounts)]
    pseudocounts: Option<f64>,
    /// A gene whose mean count is below this is one without counts [default: 0.01]
    #[arg(long, value_name = "N", value_parser = not_negative, conflicts_with = "pseudocounts")]
    threshold_counts: Option<f64>,
    /// Report the shortest interval with this probability (may be repeated), e.g. 0.95
    #[arg(long, value_name = "LEVEL", value_parser = probability)]
    interval: Vec<f64>,
    /// The false discovery rate at which genes are called [default: 0.05]
    #[arg(long, value_name = "RATE", value_parser = probability)]
    fdr: Option<f64>,
    /// Decode all cells as if they came from the same batches, and compare batch by batch
    #[arg(long)]
    batch_correction: bool,
    /// With --batch-correction: only these batches (may be repeated) [default: all]
    #[arg(long, value_name = "BATCH", requires = "batch_correction")]
    batch: Vec<String>,
    /// Leave out the tenth of each group that lies apart in the latent space
    #[arg(long)]
    filter_outliers: bool,
    /// Draw cells by importance instead of uniformly; slow
    #[arg(long)]
    importance: bool,
    /// Draws from each group
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = at_least_one)]
    samples: usize,
    /// Compare so many random pairs of draws instead of pairing them as they come
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    permutations: Option<usize>,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also draw a volcano plot of each comparison
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
    /// Print a summary as JSON
    #[arg(long)]
    json: bool,
    /// Read the counts from the .h5ad file, some cells at a time
    #[arg(long)]
    backed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    Change,
    Vanilla,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Delta {
    Auto,
    Of(f64),
}

fn delta(text: &str) -> Result<Delta, String> {
    if text == "auto" {
        return Ok(Delta::Auto);
    }
    not_negative(text).map(Delta::Of)
}

fn pseudocounts(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v >= LEAST_PSEUDOCOUNT => Ok(v),
        _ => Err(format!("not a number from {LEAST_PSEUDOCOUNT:e}")),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_outputs(args)?;
    check_mode(args)?;
    let model = load_model(&args.query.model)?;
    let model = model.scvi();
    let options = options(args);
    let path = &args.query.data;
    let data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let (key, labels) = labels(args, model, &data)?;
    let groups = groups(args, &labels).map_err(|e| in_column(e, &key))?;
    let table = {
        let query = cells_for(model, &data, args.backed.then_some(path))?;
        let mut counter = Counter::new("comparing");
        differential_expression_observed(model, &query.cells, &groups, &options, &mut |k, n| {
            counter.set(k, n);
        })?
    };
    table.write(&args.out)?;
    if let Some(plot) = &args.plot {
        volcano::write(plot, &table)?;
    }
    report(args, &key, &table)
}

fn check_outputs(args: &Args) -> Result<()> {
    let known = |path: &PathBuf, extensions: &[&str], option: &str| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if extension.is_some_and(|e| extensions.contains(&e.as_str())) && !path.is_dir() {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            return check_writable(folder.unwrap_or(std::path::Path::new(".")));
        }
        Err(Error::Message(format!(
            "{}: {option} must end in .{}",
            path.display(),
            extensions.join(" or .")
        )))
    };
    known(&args.out, &["tsv", "csv", "json"], "--out")?;
    match &args.plot {
        Some(plot) => known(plot, &["svg"], "--plot"),
        None => Ok(()),
    }
}

/// What is asked of changes says nothing about `--mode vanilla`.
fn check_mode(args: &Args) -> Result<()> {
    let of_change = [
        ("--delta", args.delta.is_some()),
        ("--two-sided", args.two_sided),
        ("--pseudocounts", args.pseudocounts.is_some()),
        ("--threshold-counts", args.threshold_counts.is_some()),
        ("--interval", !args.interval.is_empty()),
        ("--fdr", args.fdr.is_some()),
    ];
    let given = of_change.iter().filter(|(_, given)| *given);
    let given: Vec<&str> = given.map(|(name, _)| *name).collect();
    if args.mode == Asked::Change || given.is_empty() {
        return Ok(());
    }
    Err(Error::Message(format!(
        "{} cannot be used with --mode vanilla, which asks no more than in which group a gene is expressed more; leave it \
         out, or use --mode change",
        given.join(", ")
    )))
}

fn options(args: &Args) -> DeOptions {
    let mut options = DeOptions::default();
    if args.mode == Asked::Change {
        let mut change = ChangeOptions::default();
        match args.delta {
            Some(Delta::Auto) => change.delta = None,
            Some(Delta::Of(delta)) => change.delta = Some(delta),
            None => {}
        }
        if let Some(threshold) = args.threshold_counts {
            change.threshold_counts = threshold;
        }
        if args.two_sided {
            change.test = TestMode::Two;
        }
        change.pseudocounts = args.pseudocounts;
        change.cred_intervals.clone_from(&args.interval);
        options.mode = Mode::Change(change);
    }
    options.n_samples = args.samples;
    options.batch_correction = args.batch_correction;
    options.batches1.clone_from(&args.batch);
    options.batches2.clone_from(&args.batch);
    options.permutations = args.permutations;
    options.filter_outliers = args.filter_outliers;
    if let Some(fdr) = args.fdr {
        options.fdr_target = fdr;
    }
    options.seed = args.seed;
    if args.importance {
        options.weights = Weights::Importance(Importance::default());
    }
    options
}

/// The groups, and the column they are in.
fn labels(args: &Args, model: &Scvi, data: &sc_data::AnnData) -> Result<(String, Categorical)> {
    let of_model = &model.registry().setup.labels_key;
    let Some(key) = args.groupby.as_ref().or(of_model.as_ref()) else {
        let columns: Vec<&str> = data.obs.columns().map(|(name, _)| name).collect();
        return Err(Error::Message(format!(
            "--groupby must name the column of obs with the groups; there are {}",
            columns.join(", ")
        )));
    };
    let labels = data.obs.column("obs", key)?.to_categorical(key)?;
    Ok((key.clone(), labels))
}

fn groups(args: &Args, labels: &Categorical) -> Result<Groups> {
    Ok(match &args.group2 {
        Some(group2) => Groups::against(labels, &args.group1, group2),
        None if args.pairwise => Groups::pairwise(labels, &args.group1),
        None => Groups::one_vs_rest(labels, &args.group1),
    }?)
}

fn in_column(e: Error, key: &str) -> Error {
    e.with_hint(format!("the groups are those of obs[\"{key}\"]"))
}

/// The first genes of a comparison.
fn head<'a>(table: &'a DeTable, c: &DeComparison, n: usize) -> Vec<&'a str> {
    let name = |&g: &usize| table.gene_names().get(g).map(String::as_str);
    c.genes.iter().filter_map(name).take(n).collect()
}

fn report(args: &Args, key: &str, table: &DeTable) -> Result<()> {
    let called = |c: &DeComparison| {
        let calls = c.is_de.as_ref()?;
        Some(calls.iter().filter(|called| **called).count())
    };
    if args.json {
        let comparisons: Vec<serde_json::Value> = table
            .comparisons
            .iter()
            .map(|c| {
                serde_json::json!({
                    "group1": c.group1,
                    "group2": c.group2,
                    "n_cells1": c.n_cells1,
                    "n_cells2": c.n_cells2,
                    "n_de": called(c),
                    "delta": c.statistics.change().map(|c| c.delta),
                    "pseudocounts": c.statistics.change().map(|c| c.pseudocounts),
                    "first": head(table, c, 10),
                })
            })
            .collect();
        return print_json(&serde_json::json!({
            "groupby": key,
            "out": args.out,
            "rows": table.n_rows(),
            "fdr": (args.mode == Asked::Change).then_some(table.fdr_target()),
            "comparisons": comparisons,
        }));
    }
    for c in &table.comparisons {
        let calls = called(c).map_or_else(String::new, |n| {
            let fdr = table.fdr_target();
            format!("{n} genes at a false discovery rate of {fdr}; ")
        });
        note(&format!(
            "{}: {calls}{}",
            c.name(),
            head(table, c, 5).join(", ")
        ));
    }
    note(&format!(
        "{} rows -> {}",
        table.n_rows(),
        args.out.display()
    ));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read() {
        assert_eq!(delta("auto"), Ok(Delta::Auto));
        assert_eq!(delta("0.5"), Ok(Delta::Of(0.5)));
        assert!(delta("-1").is_err() && delta("automatic").is_err());
        assert_eq!(pseudocounts("1e-5"), Ok(1e-5));
        assert!(pseudocounts("0").is_err() && pseudocounts("inf").is_err());
    }
}
