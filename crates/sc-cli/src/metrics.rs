//! `sc metrics`: how well embeddings keep kinds of cells apart and mix batches.

use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis};
use sc_criticism::integration::{Metric, Scores, Suite, aggregates};
use sc_data::{AnnData, Categorical, Column};

use crate::common::{check_writable, name_rows, note, print, print_json, read, read_annotations};
use crate::error::{Error, Result};
use crate::metrics_report::{Compared, report};
use crate::options::at_least_one;
use crate::places::{labels, list, places};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc metrics embedded.h5ad --embedding X_scVI --embedding X_pca --batch-key donor --label-key cell_type
  sc metrics embedded.h5ad --embedding X_scVI --batch-key donor --label-key cell_type --out metrics.html
  sc metrics embedded.h5ad --embedding X_scVI --batch-key donor --label-key cell_type --glue --json

Beside metrics.html, metrics.json and metrics.csv hold the same numbers.";

/// The embedding from before integration, unless another is named.
const USUAL_BEFORE: &str = "X_pca";
/// Where scanpy puts the scores of the cell cycle.
const USUAL_CYCLE: [&str; 2] = ["S_score", "G2M_score"];

/// Compare embeddings of the same cells: how well they keep kinds of cells apart and mix batches
///
/// The metrics of scIB as scib-metrics defines them, their totals, and scGPT's AvgBIO and AvgBATCH; with --glue also those
/// of scglue. All go up to 1, higher being better. What these data don't define is missing, with its reason, and is left
/// out of the totals of all embeddings.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells with embeddings: an .h5ad file
    data: PathBuf,
    /// An obsm to judge; several are compared
    #[arg(long, value_name = "KEY", required = true)]
    embedding: Vec<String>,
    /// The obs column with the batches
    #[arg(long, value_name = "KEY")]
    batch_key: String,
    /// The obs column with the kinds of cells
    #[arg(long, value_name = "KEY", alias = "labels-key")]
    label_key: String,
    /// An obsm from before integration, for what compares with it [default: X_pca, if the data have it]
    #[arg(long, value_name = "KEY")]
    before: Option<String>,
    /// Two obs columns with scores of the cell cycle [default: S_score,G2M_score, if the data have them]
    #[arg(long, value_name = "S,G2M", value_delimiter = ',', num_args = 2)]
    cell_cycle: Vec<String>,
    /// An obs column with a pseudotime from before integration; empty or NaN for cells without one
    #[arg(long, value_name = "KEY")]
    pseudotime: Option<String>,
    /// The report, an .html file; .json and .csv files of the same name are written beside it
    #[arg(long, value_name = "OUT.html")]
    out: Option<PathBuf>,
    /// Also scglue's metrics, whose time grows with the square of the number of cells
    #[arg(long)]
    glue: bool,
    /// Leave out cells without a label or a batch
    #[arg(long)]
    drop_missing: bool,
    /// How often k-means starts; the best run counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    kmeans_starts: usize,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print the report as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_out(args)?;
    let path = &args.data;
    let data = match sc_io::format_of(path)? {
        sc_io::Format::H5ad => read_annotations(path)?,
        _ => read(path)?,
    };
    let cells = Chosen::new(args, &data)?;
    let batches = cells.labels(&args.batch_key)?;
    let kinds = cells.labels(&args.label_key)?;
    let before = cells.before(&args.embedding)?;
    let cycle = cells.cell_cycle()?;
    let times = cells.pseudotime()?;

    let mut suite = Suite::new(&kinds, &batches)?
        .glue(args.glue)
        .kmeans_starts(args.kmeans_starts)
        .seed(args.seed);
    if let Some((_, places)) = &before {
        suite = suite.before(places.view())?;
    }
    if let Some(scores) = &cycle {
        suite = suite.cell_cycle(scores.view())?;
    }
    if let Some(times) = &times {
        suite = suite.pseudotime(times)?;
    }
    let mut found = Vec::new();
    for key in &args.embedding {
        let places = cells.places(key)?;
        found.push(score(&suite, key, &places, &args.data)?);
    }
    let compared = Compared {
        totals: aggregates(&found),
        names: args.embedding.clone(),
        found,
        data: &data,
        path,
        batch_key: &args.batch_key,
        label_key: &args.label_key,
        before: before.map(|b| b.0),
        rows: cells.rows.as_deref(),
        seed: args.seed,
    };
    give(args, &compared)
}

/// The metrics of one embedding.
fn score(suite: &Suite<'_>, key: &str, places: &Array2<f32>, path: &Path) -> Result<Scores> {
    let mut spinner = None;
    let found = suite.score_with(places.view(), &mut |stage| {
        // The one before ends first.
        drop(spinner.take());
        spinner = Some(Spinner::new(format!("{key}: {stage}")));
    });
    drop(spinner);
    found.map_err(|e| Error::Message(format!("{}: obsm {key}: {e}", path.display())))
}

/// The cells that are judged, and where to find what about them.
struct Chosen<'a> {
    args: &'a Args,
    data: &'a AnnData,
    /// Their rows, unless these are all cells.
    rows: Option<Vec<usize>>,
}

impl<'a> Chosen<'a> {
    fn new(args: &'a Args, data: &'a AnnData) -> Result<Self> {
        let columns = [&args.batch_key, &args.label_key].map(|key| labels(data, &args.data, key));
        let [batches, kinds] = columns;
        let (batches, kinds) = (batches?, kinds?);
        let missing: Vec<usize> = (0..data.n_obs())
            .filter(|&i| batches.get(i).is_none() || kinds.get(i).is_none())
            .collect();
        let rows = match (missing.is_empty(), args.drop_missing) {
            (true, _) => None,
            (false, true) => {
                note(&format!(
                    "{} cells without a label or a batch are left out",
                    missing.len()
                ));
                let all = 0..data.n_obs();
                Some(all.filter(|i| missing.binary_search(i).is_err()).collect())
            }
            (false, false) => {
                return Err(Error::Message(format!(
                    "{}: {} cells lack a {} or a {}: rows {}; --drop-missing leaves them out",
                    args.data.display(),
                    missing.len(),
                    args.label_key,
                    args.batch_key,
                    name_rows(&missing, data.obs.index())
                )));
            }
        };
        Ok(Self { args, data, rows })
    }

    fn labels(&self, key: &str) -> Result<Categorical> {
        let all = labels(self.data, &self.args.data, key)?;
        Ok(match &self.rows {
            Some(rows) => all.select(rows),
            None => all,
        })
    }

    fn places(&self, key: &str) -> Result<Array2<f32>> {
        let all = places(self.data, &self.args.data, key).map_err(|_| {
            Error::Message(format!(
                "{}: obsm has no \"{key}\"; it has: {}",
                self.args.data.display(),
                list(self.data.obsm.keys())
            ))
        })?;
        Ok(match &self.rows {
            Some(rows) => all.select(Axis(0), rows),
            None => all,
        })
    }

    /// The embedding from before integration, and its name.
    fn before(&self, judged: &[String]) -> Result<Option<(String, Array2<f32>)>> {
        let usual = self.data.obsm.contains_key(USUAL_BEFORE);
        let key = match &self.args.before {
            Some(key) => key.clone(),
            None if usual => USUAL_BEFORE.to_owned(),
            None => return Ok(None),
        };
        if judged.contains(&key) && judged.len() == 1 {
            note(&format!(
                "{key} is judged and is also taken for the embedding from before integration; name another with --before"
            ));
        }
        let places = self.places(&key)?;
        Ok(Some((key, places)))
    }

    fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        let container = format!("{}: obs", self.args.data.display());
        let all = self.data.obs.column(&container, key)?.to_f64(key)?;
        Ok(match &self.rows {
            Some(rows) => rows.iter().map(|&r| all[r]).collect(),
            None => all,
        })
    }

    fn cell_cycle(&self) -> Result<Option<Array2<f64>>> {
        let numeric = |key: &&str| {
            let column = self.data.obs.get(key);
            column.is_some_and(|c| matches!(c, Column::Float(_) | Column::Float32(_)))
        };
        let keys: Vec<&str> = if self.args.cell_cycle.is_empty() {
            USUAL_CYCLE.into_iter().filter(numeric).collect()
        } else {
            self.args.cell_cycle.iter().map(String::as_str).collect()
        };
        if keys.len() < 2 {
            return Ok(None);
        }
        let columns = keys
            .iter()
            .map(|key| self.numbers(key))
            .collect::<Result<Vec<_>>>()?;
        let n = columns[0].len();
        Ok(Some(Array2::from_shape_fn((n, columns.len()), |(i, j)| {
            columns[j][i]
        })))
    }

    fn pseudotime(&self) -> Result<Option<Vec<f64>>> {
        let key = self.args.pseudotime.as_deref();
        key.map(|key| self.numbers(key)).transpose()
    }
}

fn check_out(args: &Args) -> Result<()> {
    let Some(out) = &args.out else {
        return Ok(());
    };
    if out
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("html"))
    {
        return Err(Error::Message(format!(
            "{}: --out must end in .html",
            out.display()
        )));
    }
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty());
    check_writable(folder.unwrap_or(Path::new(".")))
}

/// Writes and prints what was asked for.
fn give(args: &Args, compared: &Compared<'_>) -> Result<()> {
    let report = report(compared)?;
    let json = report.json();
    if let Some(out) = &args.out {
        let write = |path: &Path, text: &str| -> Result<()> {
            Ok(sc_io::atomic::write_file(path, |file| {
                file.write_all(text.as_bytes())
            })?)
        };
        let pretty = serde_json::to_string_pretty(&json)
            .map_err(|e| Error::Message(format!("cannot write JSON: {e}")))?;
        write(&out.with_extension("json"), &pretty)?;
        write(&out.with_extension("csv"), &report.csv())?;
        write(out, &report.html())?;
        note(&format!("report -> {}", out.display()));
    }
    if args.json {
        print_json(&json)
    } else {
        print(&table(compared))
    }
}

/// Metrics by embedding, for people.
fn table(compared: &Compared<'_>) -> String {
    let first = Metric::ALL
        .iter()
        .map(|m| m.name().len())
        .max()
        .unwrap_or_default()
        .max(20);
    let width = compared.names.iter().map(|n| n.chars().count());
    let width = width.max().unwrap_or_default().max(8) + 2;
    let line = |name: &str, values: Vec<Option<f64>>| {
        let mut text = format!("{name:first$}");
        for v in values {
            let shown = v.map_or_else(|| "n/a".to_owned(), |v| format!("{v:.4}"));
            text.push_str(&format!("{shown:>width$}"));
        }
        text
    };
    let mut lines = vec![format!("{:first$}", "")];
    for name in &compared.names {
        lines[0].push_str(&format!("{name:>width$}"));
    }
    for (title, metrics) in compared.by_kind() {
        lines.push(title.to_owned());
        for m in metrics {
            let values = compared.found.iter().map(|s| s.get(m)).collect();
            lines.push(line(&format!("  {}", m.name()), values));
        }
    }
    lines.push("totals".to_owned());
    for (name, values) in compared.total_rows() {
        lines.push(line(&format!("  {name}"), values));
    }
    lines.extend(compared.remarks());
    lines.join("\n")
}
