use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use sc_data::{AnnData, Table};
use sc_latent::{Expression, LibrarySize, Scvi};

use crate::common::{
    Query, cells_for, check_output, load_model, note, read, read_annotations, refuse_same, write,
};
use crate::error::{Error, Result};
use crate::options::library_size;

const EXAMPLES: &str = "\
Examples:
  sc expression model cells.h5ad --out expression.h5ad
  sc expression model cells.h5ad --out expression.h5ad --library-size 10000 --genes CD3E,MS4A1
  sc expression model cells.h5ad --out expression.h5ad --genes markers.txt --posterior-mean
  sc expression model cells.h5ad --out as_a.h5ad --transform-batch donor_a --n-samples 25";

/// Write the expected expression of each cell and gene, without noise, as X of a new file with the same cells
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// The new file, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// What each cell sums to over all genes: a number, or `latent` for its own library size
    #[arg(long, value_name = "N|latent", default_value = "1", value_parser = library_size)]
    library_size: LibrarySize,
    /// As if all cells came from this batch; of several, the mean over them [default: each cell's own]
    #[arg(long, value_name = "BATCH")]
    transform_batch: Vec<String>,
    /// Only these genes: A,B,C or a file with one a line [default: all genes of the model]
    #[arg(long, value_name = "FILE|LIST")]
    genes: Option<String>,
    /// Draws from the posterior to average over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::options::at_least_one)]
    n_samples: usize,
    /// Take the posterior mean instead of draws: nothing is random
    #[arg(long, conflicts_with = "n_samples")]
    posterior_mean: bool,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Read the counts from the .h5ad file, some cells at a time
    #[arg(long)]
    backed: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    refuse_same(&args.out, &[&args.query.data])?;
    let model = load_model(&args.query.model)?;
    let model = model.scvi();
    let genes = args
        .genes
        .as_deref()
        .map(|g| selected(model, g))
        .transpose()?;
    let mut options = Expression::default();
    options.library_size = args.library_size;
    options.transform_batch.clone_from(&args.transform_batch);
    options.genes.clone_from(&genes);
    options.n_samples = if args.posterior_mean {
        0
    } else {
        args.n_samples
    };
    options.seed = args.seed;
    for batch in &options.transform_batch {
        model.registry().batch_code(batch)?;
    }

    let path = &args.query.data;
    let data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let values = {
        let query = cells_for(model, &data, args.backed.then_some(path))?;
        model.normalized_expression(&query.cells, &options)?
    };
    let names = &model.registry().genes;
    let names: Vec<&str> = match &genes {
        Some(genes) => genes
            .iter()
            .filter_map(|&g| names.get(g))
            .map(String::as_str)
            .collect(),
        None => names.iter().map(String::as_str).collect(),
    };
    let var = rows_named(&data.var, &names)?;
    let out = AnnData::new(values, data.obs, var)?;
    write(&args.out, &out)?;
    note(&format!(
        "{} cells x {} genes -> {}, X",
        out.n_obs(),
        out.n_vars(),
        args.out.display()
    ));
    Ok(())
}

/// The columns of the genes that were asked for, each once.
fn selected(model: &Scvi, text: &str) -> Result<Vec<usize>> {
    let from_file = Path::new(text).is_file();
    let owned = if from_file {
        std::fs::read_to_string(text).map_err(Error::file(Path::new(text), "read"))?
    } else {
        text.replace(',', "\n")
    };
    let mut seen = HashSet::new();
    let names: Vec<&str> = owned
        .lines()
        .map(str::trim)
        .filter(|g| !g.is_empty() && seen.insert(*g))
        .collect();
    if names.is_empty() {
        return Err(Error::Message(format!("--genes {text}: names no gene")));
    }
    model.registry().gene_indices(&names).map_err(|e| {
        let e = Error::from(e);
        if from_file {
            e
        } else {
            e.with_hint(format!(
                "\"{text}\" is no file, so it was read as a list of genes"
            ))
        }
    })
}

/// The rows of a table by name. The query of a model of its own may lack some of the genes; then there are only names.
fn rows_named(table: &Table, names: &[&str]) -> Result<Table> {
    let lookup: HashMap<&str, usize> = table
        .index()
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_str(), i))
        .collect();
    let rows: Option<Vec<usize>> = names.iter().map(|name| lookup.get(name).copied()).collect();
    Ok(match rows {
        Some(rows) => table.select_rows(&rows)?,
        None => Table::new(names.iter().map(|&name| name.to_owned()).collect()),
    })
}
