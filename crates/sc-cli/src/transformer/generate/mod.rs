mod cells;
mod made;

use std::path::{Path, PathBuf};

use sc_transformer::scgpt::ScGpt;
use serde::Serialize;

use super::cells::{Data, GeneSummary};
use super::model::{self, Notes};
use super::query::MatrixOptions;
use crate::common::{check_output, note, print_json, refuse_same, write};
use crate::error::{Error, Result};
use crate::options::{at_least_one, probability};
use cells::{from_cells, from_set};
use made::Panel;

const EXAMPLES: &str = "\
Examples:
  sc transformer generate scgpt cells.h5ad --out generated.h5ad --labels-key cell_type --label 'B cell'
  sc transformer generate scgpt cells.h5ad --out generated.h5ad --prompt genes --known-share 0.25
  sc transformer generate scgpt cells.h5ad --out generated.h5ad --prompt genes --known CD3D,CD8A
  sc transformer generate scgpt cells.h5ad --out generated.h5ad --set MS4A1=48,CD79A=45 --rounds 5

X has bins, 0 (none) to 50 (the cell's highest values): what scGPT reads and writes. Layer round says
when a value was generated, from 1; 0 is a gene that was known or not asked for. Layer prompt has the
bins of the cell that was the prompt.";

/// Generate cells with scGPT, from the vector of a cell, from some of its genes, or from genes that are set
///
/// In each round all missing values are predicted from the known ones, and the surest become known. The genes that are asked for
/// are those that the prompting cell expresses, as in pre-training, or all genes of the data.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder with scGPT that was pre-trained: released, or of `sc transformer pretrain`
    model: PathBuf,
    /// Cells to prompt with: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx. With --set only their genes are used
    data: PathBuf,
    /// The generated cells, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// What is known of a cell: its vector, some of its genes, or both
    #[arg(long, value_enum, default_value_t = Kind::Cell, conflicts_with = "set")]
    prompt: Kind,
    /// Column of obs with the types of cells
    #[arg(long, value_name = "COLUMN", requires = "label")]
    labels_key: Option<String>,
    /// Prompt with cells of this type; repeat it for more [default: all]
    #[arg(
        long,
        value_name = "LABEL",
        requires = "labels_key",
        conflicts_with = "set"
    )]
    label: Vec<String>,
    /// Cells to generate, from cells evenly from among all; with --set and --sample-zeros, draws
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    n_cells: usize,
    /// Prompts of genes: these are known, of the cells that express them; commas between them
    #[arg(long, value_name = "GENE,...", value_delimiter = ',', conflicts_with_all = ["known_share", "set"])]
    known: Vec<String>,
    /// Prompts of genes: this share of a cell's genes is known, drawn at random [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = probability, conflicts_with = "set")]
    known_share: Option<f64>,
    /// Begin with these genes in these bins (0 to 50) instead of a cell; commas between them
    #[arg(long, value_name = "GENE=BIN,...", value_delimiter = ',', value_parser = gene_bin)]
    set: Vec<(String, f32)>,
    /// Genes that are asked for: those that the prompting cell expresses, or all of the data [default: expressed; with --set all]
    #[arg(long, value_enum)]
    ask: Option<Ask>,
    /// Rounds in which values become known
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
    /// Which values become known first: those surest to be zero or not (of models that predict that, of others the largest), the
    /// largest, or any
    #[arg(long, value_enum, default_value_t = First::Surest)]
    first: First,
    /// Draw whether a value is zero, of models that predict that; otherwise the likelier is taken
    #[arg(long)]
    sample_zeros: bool,
    #[command(flatten)]
    matrix: MatrixOptions,
    /// Look genes that are not in the vocabulary up again without regard to upper and lower case
    #[arg(long)]
    ignore_case: bool,
    /// The most tokens of a prompting cell, `<cls>` included; of a cell with more, a random sample is taken [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "set")]
    max_length: Option<usize>,
    /// Column of obs with the batch, for models that are told it [default: as it was trained]
    #[arg(long, value_name = "COLUMN", conflicts_with = "set")]
    batch_key: Option<String>,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Cell,
    Genes,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ask {
    Expressed,
    All,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum First {
    Surest,
    Largest,
    Random,
}

fn gene_bin(text: &str) -> Result<(String, f32), String> {
    let wrong = || "not GENE=BIN, such as CD3D=45".to_owned();
    let (gene, bin) = text.split_once('=').ok_or_else(wrong)?;
    match bin.trim().parse::<f32>() {
        Ok(bin) if bin.is_finite() && bin >= 0.0 && !gene.is_empty() => {
            Ok((gene.trim().to_owned(), bin))
        }
        _ => Err(wrong()),
    }
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_cells: usize,
    n_genes: usize,
    /// Values that were generated, in a cell.
    n_generated: f64,
    /// Pearson's correlation with the bins of the prompting cell, over the generated genes that it expresses: the mean over
    /// cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<f64>,
    genes: GeneSummary,
    out: &'a Path,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    if args.matrix.backed {
        refuse_same(&args.out, &[&args.data])?;
    }
    let model = model::open_scgpt(&args.model, ", which can't generate")?;
    check(args, &model)?;
    let notes = Notes::of(&args.model)?;
    let data = Data::read(&args.data, &args.matrix, &notes)?;
    let known = data.known(model.vocab(), args.ignore_case, &notes)?;
    let panel = Panel::new(&known, model.vocab());
    let made = match args.set.is_empty() {
        true => from_cells(args, &model, &data, &known, &panel, &notes)?,
        false => from_set(args, &model, &data, &panel)?,
    };
    let summary = Summary {
        n_cells: made.names.len(),
        n_genes: panel.names.len(),
        n_generated: made.n_generated as f64 / made.names.len().max(1) as f64,
        correlation: made.correlation(),
        genes: GeneSummary::of_match(&known),
        out: &args.out,
    };
    write(
        &args.out,
        &made.data(args.labels_key.as_deref(), &data, &panel)?,
    )?;
    if args.json {
        return print_json(&summary);
    }
    let alike = summary
        .correlation
        .map(|r| format!("; correlation with the prompting cells {r:.3}"));
    note(&format!(
        "{}\n{} cells with {:.0} generated values each{} -> {}",
        summary.genes.words(),
        summary.n_cells,
        summary.n_generated,
        alike.unwrap_or_default(),
        args.out.display()
    ));
    Ok(())
}

fn check(args: &Args, model: &ScGpt) -> Result<()> {
    let (c, dir) = (model.config(), args.model.display());
    let wrong = |why: String| Err(Error::Message(why));
    if !c.generative {
        return wrong(format!(
            "{dir}: this model was not made to generate genes; take a released one, or pre-train one with `sc transformer pretrain`"
        ));
    }
    if !c.modalities.is_empty() {
        return wrong(format!(
            "{dir}: this is a model of several modalities, which are not generated"
        ));
    }
    let genes = matches!(args.prompt, Kind::Genes | Kind::Both);
    let given = [
        ("--known", !args.known.is_empty()),
        ("--known-share", args.known_share.is_some()),
    ];
    if let Some((name, _)) = given.into_iter().find(|g| g.1 && !genes) {
        return wrong(format!(
            "{name}: only for prompts of genes; add --prompt genes or --prompt both"
        ));
    }
    if args.sample_zeros && !c.nonzero_prob {
        return wrong(format!(
            "--sample-zeros: {dir} doesn't predict how likely values are zero (models of `finetune integrate` do); leave it out"
        ));
    }
    let tops = args.set.iter().find(|s| s.1 > (c.n_bins - 1) as f32);
    match tops {
        Some((gene, bin)) => wrong(format!(
            "--set {gene}={bin}: the model has the bins 0 to {}",
            c.n_bins - 1
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_read_or_refused() {
        assert!(gene_bin("CD3D=45").is_ok_and(|b| b.1 == 45.0));
        for wrong in ["CD3D", "=3", "A=x", "A=-1", "A=NaN"] {
            assert!(gene_bin(wrong).is_err(), "{wrong}");
        }
    }
}
