//! Which genes inform which in scGPT, by type or condition.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use ndarray::{Array2, ArrayView2};
use sc_data::{Categorical, Columns, Rows};
use sc_model::Parity;
use sc_transformer::network::{AttentionRanks, GeneSets};
use sc_transformer::scgpt::{Input, ScGpt};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::tokens::preprocess::{PreprocessOptions, check_logged, preprocess};
use sc_transformer::vocab::GeneCase;
use serde::Serialize;

use super::Args;
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::model::Notes;
use crate::transformer::scgpt_cells::{batches, limits, tokens};
use crate::transformer::screen::{list, spread};
use crate::transformer::tables::{test_sets, write_table};

/// Pairs of a type and source, and of a type without sources.
const TOP_OF_SOURCE: usize = 20;
const TOP: usize = 100;
/// Genes that are read.
const GENES: usize = 1200;

/// A gene that informs another.
#[derive(Debug, Clone, Serialize)]
struct Pair<'a> {
    source: &'a str,
    target: &'a str,
    /// The mean rank among all pairs with this source, from 0 to 1.
    rank: f32,
    /// Less that of the other types, or of the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_others: Option<f32>,
}

#[derive(Debug, Serialize)]
struct OfType<'a> {
    name: &'a str,
    n_cells: u64,
    pairs: Vec<Pair<'a>>,
}

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
    let chosen: Vec<usize> = prepared
        .genes
        .iter()
        .filter_map(|&g| columns.get(g).copied())
        .collect();
    let ids = chosen
        .iter()
        .filter_map(|&c| known.ids().get(c).copied().flatten());
    let names: Vec<String> = ids
        .filter_map(|id| model.vocab().token(id).map(str::to_owned))
        .collect();

    let mut options = tokens(model, None, args.scgpt.seed(), &notes);
    (options.include_zeros, options.max_len) = (true, None);
    let found = model.vocab().match_genes(&names, GeneCase::Exact)?;
    let tokenizer = Tokenizer::new(model.vocab(), &found, options.clone())?;
    let told = batches(model, &data, &args.scgpt, &notes)?;
    let told = told.map(|all| {
        cells
            .rows
            .iter()
            .filter_map(|&r| all.get(r).copied())
            .collect::<Vec<_>>()
    });
    let first = usize::from(options.cls.is_some());
    let heads = model.config().n_heads;
    let mut ranks = AttentionRanks::new(
        names.len() + first,
        heads,
        cells.types.len(),
        Parity::Correct,
    );
    source
        .handle()
        .start("comparing attention", cells.rows.len());
    let mut limits = limits(model, &args.scgpt);
    limits.window = limits
        .window
        .min((limits.max_tokens / names.len().max(1)).max(1));
    for batch in tokenizer.batches(&read, limits, 0)? {
        let batch = batch.map_err(|e| data.wrong(e))?;
        let pick = |all: &[u32]| {
            batch
                .cells
                .iter()
                .filter_map(|&c| all.get(c).copied())
                .collect::<Vec<u32>>()
        };
        let of_batch = told.as_deref().map(pick);
        let input = match &of_batch {
            Some(b) => Input::with_batches(&batch, b),
            None => Input::from(&batch),
        };
        let types: Vec<usize> = batch
            .cells
            .iter()
            .filter_map(|&c| cells.of_type.get(c).copied())
            .collect();
        model.add_attention(input, layer, &types, &mut ranks)?;
    }
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

/// The cells that are compared.
struct Cells<'a> {
    rows: Vec<usize>,
    /// The type of each of these.
    of_type: Vec<usize>,
    types: Vec<&'a str>,
    /// The type that others are compared with.
    baseline: Option<usize>,
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

/// The pairs of each type that are ahead of the others.
fn compare<'a>(
    args: &Args,
    cells: &Cells<'a>,
    ranks: &AttentionRanks,
    first: usize,
    names: &'a [String],
    sources: &[usize],
) -> Result<Vec<OfType<'a>>> {
    let n = cells.types.len();
    let means: Vec<Array2<f32>> = (0..n).map(|t| ranks.mean(t)).collect::<Result<_, _>>()?;
    let mut types = Vec::new();
    for (t, &name) in cells.types.iter().enumerate() {
        let Some(own) = means.get(t) else { continue };
        let against = match cells.baseline {
            Some(b) if b == t => None,
            Some(b) => means.get(b).map(|m| own - m),
            None if n < 2 => None,
            None => {
                let mut sum = Array2::<f32>::zeros(own.dim());
                let others = means.iter().enumerate().filter(|(o, _)| *o != t);
                others.for_each(|(_, m)| sum += m);
                Some(own - &(sum / (n - 1) as f32))
            }
        };
        let found = Found {
            ranks: own.view(),
            against: against.as_ref().map(|a| a.view()),
            first,
            names,
        };
        let pairs = match sources.is_empty() {
            true => found.best(None, args.top.unwrap_or(TOP)),
            false => {
                let of = |&s: &usize| found.best(Some(s), args.top.unwrap_or(TOP_OF_SOURCE));
                sources.iter().flat_map(of).collect()
            }
        };
        types.push(OfType {
            name,
            n_cells: ranks.n_cells(t),
            pairs,
        });
    }
    Ok(types)
}

/// The ranks of a type, and its differences to others.
struct Found<'a, 'r> {
    ranks: ArrayView2<'r, f32>,
    against: Option<ArrayView2<'r, f32>>,
    /// The first tokens are no genes.
    first: usize,
    names: &'a [String],
}

impl<'a> Found<'a, '_> {
    /// The pairs with this source, or with any, those first that are ahead of the others.
    fn best(&self, source: Option<usize>, n: usize) -> Vec<Pair<'a>> {
        let by = self.against.as_ref().unwrap_or(&self.ranks);
        let genes = self.names.len();
        let sources = source.map_or(0..genes, |s| s..s + 1);
        let mut all: Vec<(f32, usize, usize)> = Vec::new();
        for s in sources {
            let targets = (0..genes).filter(|&t| t != s);
            let value = |t: usize| by.get((t + self.first, s + self.first)).copied();
            all.extend(targets.filter_map(|t| Some((value(t)?, s, t))));
            // Of all pairs of a large network only the best are kept.
            if all.len() > 2 * n.max(1 << 16) {
                keep(&mut all, n);
            }
        }
        keep(&mut all, n);
        let pair = |(_, s, t): (f32, usize, usize)| {
            let at = (t + self.first, s + self.first);
            Some(Pair {
                source: self.names.get(s)?,
                target: self.names.get(t)?,
                rank: self.ranks.get(at).copied()?,
                against_others: self.against.as_ref().and_then(|a| a.get(at).copied()),
            })
        };
        all.into_iter().filter_map(pair).collect()
    }
}

/// The highest; of equal ones the first.
fn keep(all: &mut Vec<(f32, usize, usize)>, n: usize) {
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all.truncate(n);
}

fn table(types: &[OfType<'_>]) -> String {
    let mut text = "type\tsource\ttarget\trank\tagainst_others\n".to_owned();
    for t in types {
        for p in &t.pairs {
            let against = p.against_others.map(|v| v.to_string());
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{}",
                t.name,
                p.source,
                p.target,
                p.rank,
                against.unwrap_or_default()
            );
        }
    }
    text
}

/// Targets to compare with gene sets: of each type, or of each type and source. As in the original, a source is one of its
/// targets.
fn lists<'a>(types: &[OfType<'a>], by_source: bool) -> Vec<(String, Vec<&'a str>)> {
    let mut lists: Vec<(String, Vec<&'a str>)> = Vec::new();
    for t in types {
        let mut seen: HashSet<(String, &str)> = HashSet::new();
        for p in &t.pairs {
            let name = match by_source {
                true => format!("{} {}", t.name, p.source),
                false => t.name.to_owned(),
            };
            let at = match lists.iter().position(|l| l.0 == name) {
                Some(at) => at,
                None => {
                    lists.push((name.clone(), Vec::new()));
                    lists.len() - 1
                }
            };
            let Some((_, genes)) = lists.get_mut(at) else {
                continue;
            };
            for gene in [p.source, p.target] {
                if seen.insert((name.clone(), gene)) {
                    genes.push(gene);
                }
            }
        }
    }
    lists
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_best_pairs_come_first_without_cls() {
        let names = ["A", "B"].map(str::to_owned);
        // Rows are targets, columns are sources; the first of both is <cls>.
        let ranks = array![[9.0f32, 9.0, 9.0], [9.0, 8.0, 0.2], [9.0, 0.5, 8.0]];
        let against = array![[9.0f32, 9.0, 9.0], [9.0, 8.0, 0.3], [9.0, 0.1, 8.0]];
        let found = Found {
            ranks: ranks.view(),
            against: Some(against.view()),
            first: 1,
            names: &names,
        };
        let best = found.best(None, 5);
        assert_eq!(best.len(), 2);
        assert_eq!(
            (best[0].source, best[0].target, best[0].rank),
            ("B", "A", 0.2)
        );
        assert_eq!(best[0].against_others, Some(0.3));
        let of_a = found.best(Some(0), 5);
        assert_eq!((of_a.len(), of_a[0].target), (1, "B"));
    }
}
