use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use ndarray::Array2;
use sc_model::Mode;
use sc_transformer::network::{
    Edge, EdgeOptions, Program, ProgramOptions, cosine_edges, gene_programs,
};
use sc_transformer::scgpt::ScGpt;
use serde::Serialize;

use super::cells::{Data, GeneSummary};
use super::model::{self, Notes};
use super::query::MatrixOptions;
use super::tables::{Sets, check_table, test_sets, write_table};
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc transformer genes scGPT_human cells.h5ad --out network.tsv --gene-key gene_name
  sc transformer genes scGPT_human hvg.h5ad --out network.tsv --only highly_variable \\
      --programs programs.tsv --resolution 20 --gmt reactome.gmt --enrichment enrichment.tsv";

/// Write which genes scGPT holds for alike, the programs they form, and the gene sets these match
///
/// Two genes are alike if the vectors that scGPT learned for them point the same way (cosine). Programs are communities
/// (Leiden) of the graph of nearest genes. Expression plays no part: the data say only which genes to look at.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder with scGPT (a released checkpoint, or of `sc transformer finetune`)
    model: PathBuf,
    /// Cells whose genes are looked at: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    data: PathBuf,
    /// The pairs of genes, tab-separated
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
    /// Column of var that is true for the genes to look at, such as highly_variable [default: all]
    #[arg(long, value_name = "COLUMN")]
    only: Option<String>,
    /// The smallest cosine of a pair
    #[arg(long, value_name = "COSINE", default_value_t = 0.5)]
    min_similarity: f32,
    /// The file for the programs, tab-separated
    #[arg(long, value_name = "OUT.tsv")]
    programs: Option<PathBuf>,
    /// A higher resolution gives more and smaller programs
    #[arg(long, default_value_t = ProgramOptions::default().resolution)]
    resolution: f64,
    /// The fewest genes of a program
    #[arg(long, value_name = "N", default_value_t = ProgramOptions::default().min_genes, value_parser = at_least_one)]
    min_genes: usize,
    /// Neighbours of a gene in the graph, the gene itself counted
    #[arg(long, value_name = "N", default_value_t = ProgramOptions::default().neighbors, value_parser = at_least_one)]
    neighbors: usize,
    #[command(flatten)]
    sets: Sets,
    #[command(flatten)]
    matrix: MatrixOptions,
    /// Look genes that are not in the vocabulary up again without regard to upper and lower case
    #[arg(long)]
    ignore_case: bool,
    /// Seed of the search for communities
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_genes: usize,
    n_edges: usize,
    /// Genes of each program.
    programs: Vec<usize>,
    genes: GeneSummary,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_table(&args.out)?;
    if let Some(path) = &args.programs {
        check_table(path)?;
    }
    let sets = args.sets.read()?;
    let model = model::open_scgpt(
        &args.model,
        ", whose vectors of genes are those of gene2vec",
    )?;
    let data = Data::read(&args.data, &args.matrix, &Notes::default())?;
    let found = data.known(model.vocab(), args.ignore_case, &Notes::default())?;
    let ids = chosen(args, &data, found.ids())?;
    let names: Vec<&str> = ids
        .iter()
        .filter_map(|&id| model.vocab().token(id))
        .collect();
    let vectors = vectors(&model, &ids)?;
    let options = EdgeOptions {
        min: args.min_similarity,
        ..EdgeOptions::default()
    };
    let spinner = Spinner::new(format!("comparing {} genes", ids.len()));
    let edges = cosine_edges(vectors.view(), options)?;
    drop(spinner);
    write_table(&args.out, &network(&edges, &names))?;

    let mut summary = Summary {
        n_genes: ids.len(),
        n_edges: edges.len(),
        programs: Vec::new(),
        genes: GeneSummary::of_match(&found),
    };
    if args.programs.is_some() || sets.is_some() {
        let programs = programs(args, &vectors)?;
        summary.programs = programs.iter().map(|p| p.genes.len()).collect();
        let named = |p: &Program| -> Vec<&str> {
            let genes = p.genes.iter();
            genes.filter_map(|&g| names.get(g).copied()).collect()
        };
        if let Some(path) = &args.programs {
            let mut text = "program\tgene\n".to_owned();
            for p in &programs {
                for gene in named(p) {
                    let _ = writeln!(text, "{}\t{gene}", p.community);
                }
            }
            write_table(path, &text)?;
        }
        if let Some((sets, out)) = &sets {
            let lists = programs.iter().map(|p| (p.community.to_string(), named(p)));
            test_sets((sets, out), "program", lists, &names)?;
        }
    }
    if args.json {
        return print_json(&summary);
    }
    let mut text = format!(
        "{}\n{} pairs of {} genes -> {}",
        summary.genes.words(),
        summary.n_edges,
        summary.n_genes,
        args.out.display()
    );
    if let Some(path) = &args.programs {
        let n = summary.programs.len();
        text.push_str(&format!("; {n} programs -> {}", path.display()));
    }
    note(&text);
    Ok(())
}

/// The tokens of the genes to look at, each once.
fn chosen(args: &Args, data: &Data, ids: &[Option<u32>]) -> Result<Vec<u32>> {
    let wanted: Option<Vec<bool>> = match &args.only {
        None => None,
        Some(key) => Some(data.flags(key)?),
    };
    let mut seen = HashSet::new();
    let is_wanted = |column: usize| match &wanted {
        Some(wanted) => wanted.get(column).copied().unwrap_or(false),
        None => true,
    };
    let ids: Vec<u32> = ids
        .iter()
        .enumerate()
        .filter_map(|(column, id)| id.filter(|_| is_wanted(column)))
        .filter(|&id| seen.insert(id))
        .collect();
    if ids.is_empty() {
        let key = args.only.as_deref().unwrap_or_default();
        return Err(data.wrong(format!(
            "var {key} is true for no gene of the model's vocabulary"
        )));
    }
    Ok(ids)
}

/// What the model has learned of each gene, `[genes, D]`.
fn vectors(model: &ScGpt, ids: &[u32]) -> Result<Array2<f32>> {
    let t = model.gene_vectors(ids, &Mode::eval())?;
    let wrong = |e: candle_core::Error| Error::Transformer(e.into());
    let shape = t.dims2().map_err(wrong)?;
    let values = t.flatten_all().and_then(|t| t.to_vec1()).map_err(wrong)?;
    Array2::from_shape_vec(shape, values).map_err(|e| Error::Message(e.to_string()))
}

fn network(edges: &[Edge], names: &[&str]) -> String {
    let name = |i: u32| names.get(i as usize).copied().unwrap_or_default();
    let mut text = "gene_a\tgene_b\tsimilarity\n".to_owned();
    for e in edges {
        let _ = writeln!(text, "{}\t{}\t{}", name(e.a), name(e.b), e.weight);
    }
    text
}

fn programs(args: &Args, vectors: &Array2<f32>) -> Result<Vec<Program>> {
    let options = ProgramOptions {
        neighbors: args.neighbors,
        resolution: args.resolution,
        min_genes: args.min_genes,
        seed: args.seed,
    };
    let n = vectors.nrows();
    if n <= args.neighbors {
        return Err(Error::Message(format!(
            "programs of {n} genes need fewer --neighbors than {}: at most {}",
            args.neighbors,
            n.saturating_sub(1)
        )));
    }
    let _spinner = Spinner::new(format!("grouping {n} genes"));
    Ok(gene_programs(vectors.view(), &options)?)
}
