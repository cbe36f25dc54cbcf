mod cells;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candle_core::Device;
use sc_data::{Columns, RowSource, Rows};
use sc_transformer::scgpt::{PERTURB_KIND, ScGptPerturb};
use sc_transformer::tokens::Perturbation;
use sc_transformer::tokens::preprocess::preprocess;
use serde::Serialize;

use super::cells::{Data, wrong_in};
use super::model::{Notes, PerturbationNotes};
use super::query::MatrixOptions;
use super::screen::{self, Before, Conditions, list};
use super::tables::{check_table, write_table};
use crate::common::{CHECKPOINT, check_output, note, print_json, refuse_same, write};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Counter;
use cells::{Effect, cells, effects, narrow, table};

const EXAMPLES: &str = "\
Examples:
  sc transformer perturb perturbed screen.h5ad --genes KLF1,SET --out predicted.h5ad
  sc transformer perturb perturbed screen.h5ad --genes KLF1 --genes SET --genes KLF1,SET \\
      --out predicted.h5ad --effects effects.tsv
  sc transformer perturb perturbed other_line.h5ad --genes MAPK1 --out predicted.h5ad \\
      --only cell_line=A549

MODEL is of `sc transformer finetune perturb`. If DATA has the column with conditions, its control
cells are what is perturbed, otherwise all of its cells.";

/// Predict expression after perturbations, of one gene or several together, that need not have been measured
///
/// Each perturbation is done to the same control cells. The file has these and the predicted cells, normalised and
/// log-transformed as in training, with obs condition, control_cell and predicted.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of `sc transformer finetune perturb`
    model: PathBuf,
    /// Cells before the perturbation: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    data: PathBuf,
    /// Genes that are perturbed together, with commas (or +) between them; repeat it for more perturbations
    #[arg(long, value_name = "GENE,...", required = true)]
    genes: Vec<String>,
    /// The control cells and the predicted cells, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Also write what each perturbation does to each gene, tab-separated; the largest difference first
    #[arg(long, value_name = "OUT.tsv")]
    effects: Option<PathBuf>,
    #[command(flatten)]
    conditions: Conditions,
    /// Control cells that are perturbed, evenly from among all
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_one)]
    n_cells: usize,
    /// Cells that are predicted at once, on which memory depends and the result does not
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    batch_size: usize,
    #[command(flatten)]
    matrix: MatrixOptions,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Predicted<'a> {
    perturbation: String,
    /// Whether it was trained on; if not, how many of its genes were perturbed in training.
    trained: bool,
    genes_seen: usize,
    n_genes: usize,
    /// The genes that change most.
    top: Vec<Effect<'a>>,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_control_cells: usize,
    n_genes: usize,
    /// Genes of the model that the data lack: they are read without expression.
    n_missing: usize,
    perturbations: Vec<Predicted<'a>>,
    out: &'a Path,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    if args.matrix.backed {
        refuse_same(&args.out, &[&args.data])?;
    }
    if let Some(path) = &args.effects {
        check_table(path)?;
    }
    let model = open(&args.model)?;
    let notes = Notes::of(&args.model)?;
    let (Some(genes), Some(noted)) = (&notes.genes, &notes.perturbations) else {
        return Err(wrong_in(
            &args.model,
            "cells.json doesn't say how the model reads cells; train it again with `sc transformer finetune perturb`",
        ));
    };
    let wanted = wanted(args, &model, noted)?;
    let data = Data::read(&args.data, &args.matrix, &notes)?;
    let controls = controls(args, &data, noted)?;
    let (columns, n_missing) = columns(&data, genes, noted)?;

    let whole = data.source("reading the controls")?;
    let raw = Rows::new(&whole, controls.clone())?;
    let steps = screen::steps(noted.normalize);
    let prepared = preprocess(&raw, &steps, None).map_err(|e| data.wrong(e))?;
    let source = Columns::new(prepared.source(&raw)?, columns)?;
    let names: Vec<String> = genes.iter().chain(&noted.unmeasured).cloned().collect();
    let (source, names, extra) = with_wanted(source, names, &wanted)?;
    let found = model.vocab().match_genes(&names, noted.case())?;
    let before = Before {
        model: &model,
        names: &names,
        ids: found.ids(),
        cells: source.read_range(0..source.n_rows())?.to_dense(),
        batch_size: args.batch_size,
    };
    let mut blocks = vec![narrow(&before.cells, genes.len())];
    let (mut counter, mut done) = (Counter::new("predicting"), 0);
    for p in &wanted {
        let total = wanted.len() * controls.len();
        let made = before.after(p, |n| {
            done += n;
            counter.set(done, total);
        })?;
        blocks.push(narrow(&made, genes.len()));
    }
    write(
        &args.out,
        &cells(&data, &controls, noted, &wanted, genes, &blocks)?,
    )?;
    let effects = effects(genes, &blocks);
    if let Some(path) = &args.effects {
        write_table(path, &table(&wanted, &effects))?;
    }
    let trained: std::collections::HashSet<&str> =
        noted.trained.iter().map(String::as_str).collect();
    let seen = seen(noted);
    const TOP: usize = 5;
    let predicted = wanted.iter().zip(effects).map(|(p, mut effects)| {
        effects.truncate(TOP);
        let name = screen::name(p);
        let genes_seen = p.genes().iter().filter(|g| seen.contains(*g)).count();
        Predicted {
            trained: trained.contains(name.as_str()),
            perturbation: name,
            genes_seen,
            n_genes: p.genes().len(),
            top: effects,
        }
    });
    let summary = Summary {
        n_control_cells: controls.len(),
        n_genes: genes.len(),
        n_missing,
        perturbations: predicted.collect(),
        out: &args.out,
    };
    if args.json {
        return print_json(&summary);
    }
    tell(args, &summary, extra);
    Ok(())
}

fn open(dir: &Path) -> Result<ScGptPerturb> {
    let how = "a model of perturbations is made with `sc transformer finetune perturb`";
    if !dir.exists() {
        return Err(wrong_in(dir, format!("there is no such folder; {how}")));
    }
    if !sc_model::save::is_saved_model(dir) {
        let why = match dir.join(CHECKPOINT).is_file() {
            true => "training was interrupted here; finish it with --resume".to_owned(),
            false => format!("holds no model.safetensors; {how}"),
        };
        return Err(wrong_in(dir, why));
    }
    let kind = sc_model::save::model_kind(dir)?;
    if kind != PERTURB_KIND {
        return Err(wrong_in(
            dir,
            format!("holds a model of kind \"{kind}\"; {how}"),
        ));
    }
    Ok(ScGptPerturb::load(dir, &Device::Cpu)?)
}

/// The perturbations that were asked for, each once.
fn wanted(
    args: &Args,
    model: &ScGptPerturb,
    noted: &PerturbationNotes,
) -> Result<Vec<Perturbation>> {
    let mut all: Vec<Perturbation> = Vec::new();
    for text in &args.genes {
        let genes = text.split([',', '+']).map(str::trim);
        let p = Perturbation::new(genes.filter(|g| !g.is_empty()));
        if p.is_control() {
            return Err(Error::Message(format!(
                "--genes \"{text}\": names no gene; expected GENE or GENE,GENE"
            )));
        }
        let unknown = |g: &&String| model.vocab().match_genes(&[g], noted.case()).is_err();
        if let Some(gene) = p.genes().iter().find(unknown) {
            let upper = gene.to_uppercase();
            let hint = match model.vocab().id(&upper) {
                Some(_) => format!("; it has {upper}"),
                None => String::new(),
            };
            return Err(wrong_in(
                &args.model,
                format!(
                    "the gene {gene} is not in the vocabulary of the model, which knows {} tokens{hint}. A model that begins \
                     with released weights (--from) knows more",
                    model.vocab().len()
                ),
            ));
        }
        if !all.contains(&p) {
            all.push(p);
        }
    }
    Ok(all)
}

/// The rows of the cells before the perturbation.
fn controls(args: &Args, data: &Data, noted: &PerturbationNotes) -> Result<Vec<usize>> {
    let c = &args.conditions;
    let (key, control) = (
        c.key(Some(&noted.condition_key)),
        c.control(Some(&noted.control)),
    );
    let mut rows = c.rows(data)?;
    if data.all.obs.get(key).is_some() || c.is_named() {
        let labels = data.labels(key)?;
        let (known, of_cells) = screen::perturbed(&labels, rows, control);
        let pairs = known.into_iter().zip(&of_cells);
        rows = pairs.filter(|p| p.1.is_control()).map(|p| p.0).collect();
        if rows.is_empty() {
            return Err(screen::no_control(data, key, control, &labels));
        }
    }
    Ok(screen::spread(&rows, args.n_cells))
}

/// The column of each gene of the model, and how many are missing.
fn columns(
    data: &Data,
    genes: &[String],
    noted: &PerturbationNotes,
) -> Result<(Vec<Option<usize>>, usize)> {
    let mut place = std::collections::HashMap::new();
    for (gene, column) in data.genes.iter().zip(0..) {
        place.entry(gene.as_str()).or_insert(column);
    }
    let mut columns: Vec<Option<usize>> = genes
        .iter()
        .map(|g| place.get(g.as_str()).copied())
        .collect();
    let n_missing = columns.iter().filter(|c| c.is_none()).count();
    if n_missing == columns.len() {
        let some: Vec<String> = genes.iter().take(3).cloned().collect();
        return Err(data.wrong(format!(
            "has none of the {} genes that the model was trained on, such as {}",
            genes.len(),
            list(&some)
        )));
    }
    // What was not measured in training is read without expression here, too.
    columns.extend(noted.unmeasured.iter().map(|_| None));
    Ok((columns, n_missing))
}

/// With columns for genes that are to be perturbed and are none; how many.
fn with_wanted<S: RowSource>(
    source: S,
    mut names: Vec<String>,
    wanted: &[Perturbation],
) -> Result<(Columns<S>, Vec<String>, usize)> {
    let n = names.len();
    for gene in wanted.iter().flat_map(Perturbation::genes) {
        if !names.contains(gene) {
            names.push(gene.clone());
        }
    }
    let extra = names.len() - n;
    Ok((screen::widened(source, extra)?, names, extra))
}

/// Genes that were perturbed in training.
fn seen(noted: &PerturbationNotes) -> std::collections::HashSet<String> {
    let genes = noted.trained.iter().flat_map(|p| p.split('+'));
    genes.map(str::to_owned).collect()
}

fn tell(args: &Args, s: &Summary<'_>, extra: usize) {
    let mut text = String::new();
    if s.n_missing > 0 {
        let _ = writeln!(
            text,
            "{} of {} genes of the model are not in the data and are read without expression",
            s.n_missing, s.n_genes
        );
    }
    if extra > 0 {
        let _ = writeln!(
            text,
            "{extra} perturbed genes are no columns of the model's data"
        );
    }
    for p in &s.perturbations {
        let top = p
            .top
            .iter()
            .map(|e| format!("{} {:+.3}", e.gene, e.difference));
        let known = match (p.trained, p.genes_seen) {
            (true, _) => "trained on".to_owned(),
            (false, n) => format!("new; {n} of {} genes were perturbed in training", p.n_genes),
        };
        let top: Vec<String> = top.collect();
        let _ = writeln!(text, "{} ({known}): {}", p.perturbation, top.join(", "));
    }
    let _ = write!(
        text,
        "{} cells x {} genes after {} perturbations -> {}",
        s.n_control_cells,
        s.n_genes,
        s.perturbations.len(),
        args.out.display()
    );
    if let Some(path) = &args.effects {
        let _ = write!(text, "; effects -> {}", path.display());
    }
    note(&text);
}
