use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::Array2;
use sc_data::AnnData;
use sc_transformer::scbert::{Pooling, Scbert};
use serde::Serialize;

use super::cells::{Data, GeneSummary, scbert_cells};
use super::modalities::{self, ModalityOptions};
use super::model::{self, Notes, Transformer};
use super::query::{Query, Which, refuse};
use super::scgpt_cells::ScgptCells;
use crate::common::{check_output, note, print_json, refuse_same, write};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc transformer embed scGPT_human cells.h5ad --out embedded.h5ad --gene-key gene_name
  sc transformer embed scGPT_human huge.h5ad --out embedded.h5ad --backed --max-length 2048
  sc transformer embed integrated cells.h5ad --out embedded.h5ad --batch-key donor
  sc transformer embed multiomic rna.h5ad --modality protein=adt.h5ad --out embedded.h5ad
  sc transformer embed panglao_pretrain.pth counts.h5ad --out embedded.h5ad \\
      --panel genes.txt --pooling mean
  sc umap embedded.h5ad --rep X_scGPT --plot umap.svg --color cell_type

scGPT reads counts or normalised values: it bins the values of each cell. scBERT needs counts.";

/// Write what scGPT or scBERT makes of each cell to obsm X_scGPT (X_scBERT) of a copy of the data
///
/// Vectors of scGPT have length 1, so that Euclidean neighbours are those of the cosine.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) query: Query,
    /// The copy, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// scBERT: the last position, which stands for the cell, or the mean of all [default: last]
    #[arg(long, value_enum)]
    pooling: Option<PoolingName>,
    #[command(flatten)]
    modalities: ModalityOptions,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PoolingName {
    Last,
    Mean,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_cells: usize,
    n_dimensions: usize,
    /// Cells that scBERT leaves out; their numbers are missing.
    n_left_out: usize,
    key: &'a str,
    genes: GeneSummary,
    seconds: f64,
    out: &'a Path,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let query = &args.query;
    if query.matrix.backed {
        refuse_same(&args.out, &[&query.data])?;
    }
    let model = model::open(&query.model, &query.foreign)?;
    check(args, &model)?;
    let notes = Notes::of(&query.model)?;
    let start = Instant::now();
    if let (Transformer::Scgpt(model), Some(features)) = (&model, &notes.modalities) {
        let found = modalities::embed(model, query, &args.modalities, &notes, features)?;
        return finish(
            args,
            found.cells,
            "X_scGPT",
            found.vectors,
            (found.genes, 0),
            start,
        );
    }
    args.modalities.refuse(&query.model)?;
    let data = Data::read(&query.data, &query.matrix, &notes)?;
    let (key, vectors, genes, n_left_out) = match &model {
        Transformer::Scgpt(model) => {
            let cells = ScgptCells::new(model, &data, &query.scgpt, &notes, "embedding")?;
            let vectors = model.embed_cells(&cells.cells());
            let vectors = vectors.map_err(|e| data.wrong(e))?;
            ("X_scGPT", vectors, cells.genes, 0)
        }
        Transformer::Scbert(model) => {
            let (vectors, genes, left_out) = scbert(args, model, &data)?;
            ("X_scBERT", vectors, genes, left_out)
        }
    };
    finish(args, data.all, key, vectors, (genes, n_left_out), start)
}

fn check(args: &Args, model: &Transformer) -> Result<()> {
    args.query.check(model)?;
    match model {
        Transformer::Scgpt(_) => refuse(Which::Scgpt, &[("--pooling", args.pooling.is_some())]),
        Transformer::Scbert(_) => refuse(Which::Scbert, &args.modalities.given()),
    }
}

fn finish(
    args: &Args,
    mut all: AnnData,
    key: &str,
    vectors: Array2<f32>,
    (genes, n_left_out): (GeneSummary, usize),
    start: Instant,
) -> Result<()> {
    let summary = Summary {
        n_cells: vectors.nrows(),
        n_dimensions: vectors.ncols(),
        n_left_out,
        key,
        genes,
        seconds: start.elapsed().as_secs_f64(),
        out: &args.out,
    };
    all.obsm.insert(key.into(), vectors.into());
    write(&args.out, &all)?;
    if args.json {
        return print_json(&summary);
    }
    if n_left_out > 0 {
        note(&format!(
            "{n_left_out} cells have too few genes and no numbers (--min-genes)"
        ));
    }
    note(&format!(
        "{}\n{} cells in {} dimensions in {:.1} s -> {}, obsm {key}",
        summary.genes.words(),
        summary.n_cells,
        summary.n_dimensions,
        summary.seconds,
        args.out.display()
    ));
    Ok(())
}

/// A row for each cell of the data; those of cells that were left out are not numbers.
fn scbert(args: &Args, model: &Scbert, data: &Data) -> Result<(Array2<f32>, GeneSummary, usize)> {
    let source = data.source("checking the counts")?;
    let cells = scbert_cells(model, &source, data, &args.query.scbert.config())?;
    source.handle().start("embedding", cells.len());
    let pooling = match args.pooling {
        Some(PoolingName::Mean) => Pooling::Mean,
        _ => Pooling::Last,
    };
    let found = model.embed_with(&cells, pooling)?;
    let mut all = Array2::from_elem((cells.n_rows(), found.ncols()), f32::NAN);
    for (&row, vector) in cells.kept().iter().zip(found.rows()) {
        all.row_mut(row).assign(&vector);
    }
    let genes = GeneSummary::of_panel(&cells);
    Ok((all, genes, cells.dropped().len()))
}
