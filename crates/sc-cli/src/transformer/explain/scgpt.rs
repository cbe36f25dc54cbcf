//! Which genes inform which in scGPT, by type or condition.

use std::fmt::Write as _;
use std::path::Path;

use sc_data::{Categorical, Columns, RowSource, Rows};
use sc_model::Parity;
use sc_transformer::network::{AttentionRanks, GeneSets};
use sc_transformer::scgpt::{Input, ScGpt};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::tokens::preprocess::{PreprocessOptions, check_logged, preprocess};
use sc_transformer::vocab::GeneCase;
use serde::Serialize;

use super::Args;
use super::pairs::{Cells, OfType, compare, lists, table};
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::model::Notes;
use crate::transformer::scgpt_cells::{batches, limits, tokens};
use crate::transformer::screen::{list, spread};
use crate::transformer::tables::{test_sets, write_table};

/// Genes that are read.
const GENES: usize = 1200;

#[derive(Debug, Serialize)]
struct Summary<'a> {
    n_genes: usize,
    layer: usize,
    types: Vec<OfType<'a>>,
    genes: GeneSummary,
}

pub(super) fn run(args: &Args, model: &ScGpt, sets: Option<(GeneSets, &Path)>) -> Result<()> {
    let notes = Notes::of(&args.model)?;
    let layer = layer(args, model)?;
    let Some(key) = &args.labels_key else {
        return Err(Error::Message(
            "attention is compared between types or conditions: name a column of obs that has them with --labels-key".into(),
        ));
    };
    let data = Data::read(&args.data, &args.matrix, &notes)?;
    let labels = data.labels(key)?;
    let known = data.known(model.vocab(), args.scgpt.ignore_case, &notes)?;
    let sources = sources(args, &data, known.ids())?;
    let cells = cells(args, &data, &labels)?;

    // Genes of the vocabulary first, then the variable ones among them, in the cells that are compared.
    let columns = known.columns();
    let source = data.source("choosing variable genes")?;
    let rows = Rows::new(&source, cells.rows.clone())?;
    let rows = Columns::new(&rows, columns.iter().map(|&c| Some(c)).collect())?;
    let n_hvg = args.attention.n_hvg.unwrap_or(GENES).min(columns.len());
    let mut steps = PreprocessOptions::integration(n_hvg, !check_logged(&rows)?.logged);
    steps.always = sources
        .iter()
        .filter_map(|s| columns.binary_search(s).ok())
        .collect();
    let prepared = preprocess(&rows, &steps, None).map_err(|e| data.wrong(e))?;
    let read = prepared.source(&rows)?;
    let chosen = pick(&columns, &prepared.genes);
    let ids = chosen
        .iter()
        .filter_map(|&c| known.ids().get(c).copied().flatten());
    let names: Vec<String> = ids
        .filter_map(|id| model.vocab().token(id).map(str::to_owned))
        .collect();

    source
        .handle()
        .start("comparing attention", cells.rows.len());
    let told = batches(model, &data, &args.scgpt, &notes)?;
    let told = told.map(|all| pick(&all, &cells.rows));
    let asking = Asking {
        args,
        model,
        notes: &notes,
        layer,
        names: &names,
        cells: &cells,
        told: told.as_deref(),
    };
    let (ranks, first) = asking.ranks(&read).map_err(|e| data.wrong(e))?;
    let asked: Vec<usize> = sources
        .iter()
        .filter_map(|s| chosen.iter().position(|c| c == s))
        .collect();
    let types = compare(args, &cells, &ranks, first, &names, &asked)?;
    write_table(&args.out, &table(&types))?;
    if let Some((sets, out)) = &sets {
        let lists = lists(&types, !asked.is_empty());
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        test_sets((sets, out), "type", lists.into_iter(), &all)?;
    }
    tell(
        args,
        layer,
        names.len(),
        types,
        GeneSummary::of_match(&known),
    )
}

fn pick<T: Copy>(all: &[T], at: &[usize]) -> Vec<T> {
    at.iter().filter_map(|&i| all.get(i).copied()).collect()
}

/// What is asked of the model.
struct Asking<'a> {
    args: &'a Args,
    model: &'a ScGpt,
    notes: &'a Notes,
    layer: usize,
    /// The genes, which are the columns that are read.
    names: &'a [String],
    cells: &'a Cells<'a>,
    /// The batch of each cell, of models that are told.
    told: Option<&'a [u32]>,
}

impl Asking<'_> {
    /// The ranks of all types, and how many tokens come before the genes.
    fn ranks(&self, read: &dyn RowSource) -> Result<(AttentionRanks, usize)> {
        let (model, names, cells) = (self.model, self.names, self.cells);
        let mut options = tokens(model, None, self.args.scgpt.seed(), self.notes);
        (options.include_zeros, options.max_len) = (true, None);
        let first = usize::from(options.cls.is_some());
        let found = model.vocab().match_genes(names, GeneCase::Exact)?;
        let tokenizer = Tokenizer::new(model.vocab(), &found, options)?;
        let (n, heads) = (names.len() + first, model.config().n_heads);
        let mut ranks = AttentionRanks::new(n, heads, cells.types.len(), Parity::Correct);
        let mut limits = limits(model, &self.args.scgpt);
        limits.window = limits.window.min((limits.max_tokens / n.max(1)).max(1));
        for batch in tokenizer.batches(read, limits, 0)? {
            let batch = batch?;
            let told = self.told.map(|all| pick(all, &batch.cells));
            let input = match &told {
                Some(b) => Input::with_batches(&batch, b),
                None => Input::from(&batch),
            };
            let types = pick(&cells.of_type, &batch.cells);
            model.add_attention(input, self.layer, &types, &mut ranks)?;
        }
        Ok((ranks, first))
    }
}

fn layer(args: &Args, model: &ScGpt) -> Result<usize> {
    let n = model.config().n_layers;
    if !model.config().modalities.is_empty() {
        return Err(Error::Message(format!(
            "{}: this is a model of several modalities; attention is compared for models of RNA",
            args.model.display()
        )));
    }
    if args.scgpt.max_length.is_some() {
        return Err(Error::Message(
            "--max-length: all cells show the same genes here, whose number is --n-hvg; leave it out".into(),
        ));
    }
    match args.attention.attention_layer {
        None => Ok(n.saturating_sub(1)),
        Some(layer) if layer <= n => Ok(layer - 1),
        Some(layer) => Err(Error::Message(format!(
            "--attention-layer {layer}: the model has {n} layers"
        ))),
    }
}

/// The columns of the sources.
fn sources(args: &Args, data: &Data, ids: &[Option<u32>]) -> Result<Vec<usize>> {
    let place = |gene: &String| {
        let column = data.genes.iter().position(|g| g == gene);
        match column.filter(|&c| ids.get(c).is_some_and(Option::is_some)) {
            Some(column) => Ok(column),
            None => Err(data.wrong(format!(
                "--source {gene}: there is no such gene in the data, or the model doesn't know it"
            ))),
        }
    };
    args.attention.source.iter().map(place).collect()
}

fn cells<'a>(args: &Args, data: &Data, labels: &'a Categorical) -> Result<Cells<'a>> {
    let mut found = Cells {
        rows: Vec::new(),
        of_type: Vec::new(),
        types: Vec::new(),
        baseline: None,
    };
    let mut pairs = Vec::new();
    for (code, name) in (0u32..).zip(labels.categories()) {
        let all = labels.codes().iter().enumerate();
        let all: Vec<usize> = all
            .filter(|(_, c)| **c == Some(code))
            .map(|(r, _)| r)
            .collect();
        if all.is_empty() {
            continue;
        }
        let kept = spread(&all, args.attention.max_cells.unwrap_or(usize::MAX));
        pairs.extend(kept.into_iter().map(|row| (row, found.types.len())));
        found.types.push(name);
    }
    pairs.sort_unstable();
    (found.rows, found.of_type) = pairs.into_iter().unzip();
    if found.types.is_empty() {
        return Err(data.wrong("no cell has a type"));
    }
    if let Some(name) = &args.attention.baseline {
        found.baseline = found.types.iter().position(|t| t == name);
        if found.baseline.is_none() {
            return Err(data.wrong(format!(
                "no cell is of the --baseline \"{name}\"; there are: {}",
                list(labels.categories())
            )));
        }
    }
    Ok(found)
}

fn tell(
    args: &Args,
    layer: usize,
    n_genes: usize,
    mut types: Vec<OfType<'_>>,
    genes: GeneSummary,
) -> Result<()> {
    const SHOWN: usize = 5;
    types.iter_mut().for_each(|t| t.pairs.truncate(SHOWN));
    let summary = Summary {
        n_genes,
        layer: layer + 1,
        types,
        genes,
    };
    if args.json {
        return print_json(&summary);
    }
    let mut text = format!(
        "{}\nattention of {n_genes} genes in layer {}\n",
        summary.genes.words(),
        summary.layer
    );
    for t in &summary.types {
        let pairs = t
            .pairs
            .iter()
            .map(|p| format!("{} > {}", p.source, p.target));
        let pairs: Vec<String> = pairs.collect();
        let _ = writeln!(
            text,
            "{} ({} cells): {}",
            t.name,
            t.n_cells,
            pairs.join(", ")
        );
    }
    note(&format!("{text}attention -> {}", args.out.display()));
    Ok(())
}
