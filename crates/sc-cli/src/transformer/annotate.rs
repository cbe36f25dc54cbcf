use std::path::{Path, PathBuf};

use ndarray::Array2;
use sc_data::{Categorical, Column};
use sc_model::{Classify, Probabilities};
use sc_transformer::scbert::{Scbert, UNASSIGNED};
use sc_transformer::scgpt::labels_or_novel;
use serde::Serialize;

use super::cells::{Data, GeneSummary, scbert_cells};
use super::model::{self, Notes, Transformer};
use super::query::Query;
use super::scgpt_cells::ScgptCells;
use crate::common::{check_output, note, print_json, refuse_same, write};
use crate::error::{Error, Result};
use crate::options::probability;

const EXAMPLES: &str = "\
Examples:
  sc transformer annotate annotator new_cells.h5ad --out annotated.h5ad
  sc transformer annotate annotator new_cells.h5ad --out annotated.h5ad --novel-below 0.5 \\
      --labels-key cell_type
  sc transformer annotate finetune_best.pth counts.h5ad --out annotated.h5ad \\
      --panel genes.txt --classes types.txt";

/// Give each cell the type that a fine-tuned scGPT or scBERT finds most likely
///
/// A copy of the data gets the types in obs C_scGPT (C_scBERT) and their probabilities in obs C_scGPT_confidence.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) query: Query,
    /// The copy, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Column of obs for the types [default: C_scGPT or C_scBERT]
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Call cells "Unassigned" whose most likely type is less likely than P: they may be of a type that was not trained
    #[arg(long, value_name = "P", value_parser = probability)]
    novel_below: Option<f64>,
    /// Also write the probability of every type to obsm KEY_probabilities
    #[arg(long)]
    probabilities: bool,
    /// Column of obs with known types, to say how many of them agree [default: that of training, if it is there]
    #[arg(long, value_name = "COLUMN")]
    labels_key: Option<String>,
    /// Print one line of JSON: how many cells got each type, mean confidence, agreement with known types
    #[arg(long)]
    json: bool,
}

/// What is said at the end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_cells: usize,
    /// How many cells got each type.
    labels: Vec<(String, usize)>,
    n_unassigned: usize,
    /// Cells without a type: they have too few genes for scBERT.
    n_left_out: usize,
    mean_confidence: f64,
    /// Of the cells that have a type that the model knows already, the share that got it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    genes: GeneSummary,
    out: &'a Path,
}

/// Probabilities of all cells; rows of cells that were left out are not numbers.
struct Found {
    probabilities: Probabilities,
    genes: GeneSummary,
    left_out: Vec<usize>,
    key: &'static str,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let query = &args.query;
    if query.matrix.backed {
        refuse_same(&args.out, &[&query.data])?;
    }
    let model = model::open(&query.model, &query.foreign)?;
    query.check(&model)?;
    let notes = Notes::of(&query.model)?;
    let classes = match &model {
        Transformer::Scgpt(m) => &m.config().classes,
        Transformer::Scbert(m) => m.labels(),
    };
    if classes.is_empty() {
        return Err(no_classifier(&query.model));
    }
    let mut data = Data::read(&query.data, &query.matrix, &notes)?;
    let known = known_types(args, &data, &notes)?;
    let found = match &model {
        Transformer::Scgpt(model) => {
            let cells = ScgptCells::new(model, &data, &query.scgpt, &notes, "annotating")?;
            let probabilities = model.classify(&cells.cells());
            Found {
                probabilities: probabilities.map_err(|e| data.wrong(e))?,
                genes: cells.genes,
                left_out: Vec::new(),
                key: "C_scGPT",
            }
        }
        Transformer::Scbert(model) => scbert(args, model, &data)?,
    };
    let key = args.key.clone().unwrap_or_else(|| found.key.to_owned());
    let labels = labels(&found, args.novel_below)?;
    let (_, mut confidence) = found.probabilities.best();
    for &row in &found.left_out {
        if let Some(c) = confidence.get_mut(row) {
            *c = f32::NAN;
        }
    }
    let values = found.probabilities.values.clone();
    let summary = summarise(args, found, &labels, known.as_ref(), &confidence);
    let obs = &mut data.all.obs;
    obs.insert(&key, Column::Categorical(labels))?;
    obs.insert(format!("{key}_confidence"), Column::Float32(confidence))?;
    if args.probabilities {
        let name = format!("{key}_probabilities");
        data.all.obsm.insert(name, values.into());
    }
    write(&args.out, &data.all)?;
    if args.json {
        return print_json(&summary);
    }
    note(&describe(&summary, &key));
    Ok(())
}

fn no_classifier(model: &Path) -> Error {
    Error::Message(format!(
        "{}: this model has no classifier; train one from it with `sc transformer finetune annotate CELLS --out DIR --from \
         {} --labels-key COLUMN`",
        model.display(),
        model.display()
    ))
}

/// The types that cells have already.
fn known_types(args: &Args, data: &Data, notes: &Notes) -> Result<Option<Categorical>> {
    let noted = notes.labels_key.as_deref();
    let noted = noted.filter(|k| data.all.obs.get(k).is_some());
    match args.labels_key.as_deref().or(noted) {
        Some(key) => data.labels(key).map(Some),
        None => Ok(None),
    }
}

fn scbert(args: &Args, model: &Scbert, data: &Data) -> Result<Found> {
    let source = data.source("checking the counts")?;
    let cells = scbert_cells(model, &source, data, &args.query.scbert.config())?;
    source.handle().start("annotating", cells.len());
    let p = model.classify(&cells)?;
    let mut values = Array2::from_elem((cells.n_rows(), p.values.ncols()), f32::NAN);
    for (&row, of_cell) in cells.kept().iter().zip(p.values.rows()) {
        values.row_mut(row).assign(&of_cell);
    }
    Ok(Found {
        probabilities: Probabilities {
            labels: p.labels,
            values,
        },
        genes: GeneSummary::of_panel(&cells),
        left_out: cells.dropped().iter().map(|d| d.0).collect(),
        key: "C_scBERT",
    })
}

/// The type of each cell.
fn labels(found: &Found, novel_below: Option<f64>) -> Result<Categorical> {
    let p = &found.probabilities;
    let threshold = novel_below.unwrap_or(0.0) as f32;
    let chosen = labels_or_novel(p, threshold)?;
    let mut names: Vec<Option<&str>> = chosen
        .into_iter()
        .map(|label| label.or(Some(UNASSIGNED)))
        .collect();
    for &row in &found.left_out {
        if let Some(name) = names.get_mut(row) {
            *name = None;
        }
    }
    let mut categories = p.labels.clone();
    if novel_below.is_some() && !categories.iter().any(|c| c == UNASSIGNED) {
        categories.push(UNASSIGNED.to_owned());
    }
    let labels = Categorical::from_options(names.into_iter());
    Ok(labels.recode("types", &categories)?)
}

fn summarise<'a>(
    args: &'a Args,
    found: Found,
    labels: &Categorical,
    known: Option<&Categorical>,
    confidence: &[f32],
) -> Summary<'a> {
    let counted = labels.categories().iter().cloned().zip(labels.counts());
    let sure: Vec<f64> = confidence
        .iter()
        .filter(|c| c.is_finite())
        .map(|&c| f64::from(c))
        .collect();
    Summary {
        n_cells: labels.len(),
        n_unassigned: labels.iter().filter(|l| *l == Some(UNASSIGNED)).count(),
        n_left_out: found.left_out.len(),
        labels: counted.filter(|(l, _)| l != UNASSIGNED).collect(),
        mean_confidence: sure.iter().sum::<f64>() / sure.len().max(1) as f64,
        agreement: known.and_then(|k| agreement(k, labels, &found.probabilities.labels)),
        genes: found.genes,
        out: &args.out,
    }
}

/// Of the cells with a type that the model knows, the share that got it.
fn agreement(known: &Categorical, found: &Categorical, types: &[String]) -> Option<f64> {
    let (mut n, mut same) = (0usize, 0usize);
    for (label, found) in known.iter().zip(found.iter()) {
        if label.is_some_and(|l| types.iter().any(|t| t == l)) {
            n += 1;
            same += usize::from(label == found);
        }
    }
    (n > 0).then(|| same as f64 / n as f64)
}

fn describe(s: &Summary<'_>, key: &str) -> String {
    let lengths = s.labels.iter().map(|l| l.0.chars().count());
    let width = lengths.max().unwrap_or(0).max(UNASSIGNED.len());
    let mut text = format!("{}\n", s.genes.words());
    for (label, count) in &s.labels {
        text.push_str(&format!("{label:<width$}  {count:>8}\n"));
    }
    if s.n_unassigned > 0 {
        text.push_str(&format!("{UNASSIGNED:<width$}  {:>8}\n", s.n_unassigned));
    }
    text.push_str(&format!(
        "{} cells, mean confidence {:.3}",
        s.n_cells, s.mean_confidence
    ));
    if s.n_left_out > 0 {
        text.push_str(&format!(
            ", {} with too few genes and without a type (--min-genes)",
            s.n_left_out
        ));
    }
    if let Some(share) = s.agreement {
        text.push_str(&format!(
            "; {:.1} % of the types that were known agree",
            100.0 * share
        ));
    }
    text.push_str(&format!(
        " -> {}, obs {key} and {key}_confidence",
        s.out.display()
    ));
    text
}
