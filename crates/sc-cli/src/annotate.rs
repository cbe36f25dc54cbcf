use std::path::{Path, PathBuf};

use sc_data::{AnnData, Categorical, Column};
use sc_latent::{PredictAt, Scanvi};
use sc_model::Probabilities;
use serde::Serialize;

use crate::common::{
    Query, cells_with, check_output, load_model, note, print_json, read, read_annotations,
    refuse_same, write,
};
use crate::error::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  sc annotate scanvi cells.h5ad --out annotated.h5ad
  sc annotate scanvi new_cells.h5ad --out annotated.h5ad --probabilities --json
  sc annotate scvi_tools_model_folder huge.h5ad --out labels_only.h5ad --backed";

/// Give each cell the label that a scANVI model finds most likely
///
/// A copy of the data gets the labels in obs C_scANVI and their probabilities in obs C_scANVI_confidence. The labels that
/// the data has already are not looked at, but for saying how many of them agree.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// The copy, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Column of obs for the labels
    #[arg(long, value_name = "COLUMN", default_value = "C_scANVI")]
    key: String,
    /// Also write the probability of every label to obsm KEY_probabilities
    #[arg(long)]
    probabilities: bool,
    /// Classify one draw from each cell's posterior instead of its mean
    #[arg(long, value_name = "SEED")]
    draw: Option<u64>,
    /// Read the counts from the .h5ad file, some cells at a time; the copy then has no X, layers and raw
    #[arg(long)]
    backed: bool,
    /// Print one line of JSON: how many cells got each label, mean confidence, agreement with known labels
    #[arg(long)]
    json: bool,
}

/// What is said at the end.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_cells: usize,
    /// How many cells got each label.
    labels: Vec<(&'a str, usize)>,
    mean_confidence: f64,
    /// Cells whose most likely label is not more likely than all others together.
    n_uncertain: usize,
    /// Of the cells that have one of the model's labels already, the share that got it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    out: &'a Path,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    if args.backed {
        refuse_same(&args.out, &[&args.query.data])?;
    }
    let dir = &args.query.model;
    let model = load_model(dir)?;
    let model = model.scanvi().ok_or_else(|| no_classifier(dir))?;
    let path = &args.query.data;
    let mut data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let found = classify(args, model, &data)?;
    let (codes, confidence) = found.best();
    let summary = summarise(args, model, &data, &found, &codes, &confidence);
    let codes = codes.iter().map(|&c| Some(c as u32)).collect();
    let labels = Categorical::new(codes, found.labels.clone(), false)?;
    data.obs.insert(&args.key, Column::Categorical(labels))?;
    data.obs.insert(
        format!("{}_confidence", args.key),
        Column::Float32(confidence),
    )?;
    if args.probabilities {
        let values = found.values.clone();
        data.obsm
            .insert(format!("{}_probabilities", args.key), values.into());
    }
    write(&args.out, &data)?;
    if args.json {
        return print_json(&summary);
    }
    note(&describe(&summary, &args.key));
    Ok(())
}

fn no_classifier(dir: &Path) -> Error {
    Error::Message(format!(
        "{}: this scVI model has no classifier; train one from it with `sc train scanvi CELLS --out DIR --from {} \
         --labels-key COLUMN --unlabeled-category LABEL`",
        dir.display(),
        dir.display()
    ))
}

fn classify(args: &Args, model: &Scanvi, data: &AnnData) -> Result<Probabilities> {
    let backed = args.backed.then_some(args.query.data.as_path());
    let registry = model.registry().without_labels();
    let query = cells_with(model.scvi(), &registry, data, backed)?;
    if !query.empty.is_empty() {
        tracing::warn!(
            "{} cells have no counts; their label says nothing",
            query.empty.len()
        );
    }
    let at = args.draw.map_or(PredictAt::PosteriorMean, PredictAt::Draw);
    Ok(model.predict(&query.cells, at)?)
}

fn summarise<'a>(
    args: &'a Args,
    model: &Scanvi,
    data: &AnnData,
    found: &'a Probabilities,
    codes: &[usize],
    confidence: &[f32],
) -> Summary<'a> {
    let labels = found.labels.iter().enumerate();
    let n = codes.len();
    Summary {
        n_cells: n,
        labels: labels
            .map(|(i, l)| (l.as_str(), codes.iter().filter(|&&c| c == i).count()))
            .collect(),
        mean_confidence: confidence.iter().map(|&c| f64::from(c)).sum::<f64>() / n.max(1) as f64,
        n_uncertain: confidence.iter().filter(|&&c| c <= 0.5).count(),
        agreement: agreement(model, data, codes),
        out: &args.out,
    }
}

/// Of the cells that have one of the model's labels in the data, the share that got it again.
fn agreement(model: &Scanvi, data: &AnnData, codes: &[usize]) -> Option<f64> {
    let key = model.registry().setup.labels_key.as_deref()?;
    let column = data.obs.get(key)?.to_categorical(key).ok()?;
    let known = model.labels();
    let (mut n, mut same) = (0usize, 0usize);
    for (label, &code) in column.iter().zip(codes) {
        if let Some(i) = label.and_then(|l| known.iter().position(|k| k == l)) {
            n += 1;
            same += usize::from(i == code);
        }
    }
    (n > 0).then(|| same as f64 / n as f64)
}

fn describe(s: &Summary<'_>, key: &str) -> String {
    let width = s
        .labels
        .iter()
        .map(|l| l.0.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (label, count) in &s.labels {
        text.push_str(&format!("{label:<width$}  {count:>8}\n"));
    }
    text.push_str(&format!(
        "{} cells, mean confidence {:.3}, {} with at most 0.5",
        s.n_cells, s.mean_confidence, s.n_uncertain
    ));
    if let Some(share) = s.agreement {
        text.push_str(&format!(
            "; {:.1} % of the labels that were known agree",
            100.0 * share
        ));
    }
    text.push_str(&format!(
        " -> {}, obs {key} and {key}_confidence",
        s.out.display()
    ));
    text
}
