//! The genes that scBERT attends to.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use sc_data::Categorical;
use sc_model::Parity;
use sc_transformer::network::GeneSets;
use sc_transformer::scbert::{GeneImportance, Scbert, ScbertCells};
use serde::Serialize;

use super::Args;
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::transformer::cells::{Data, GeneSummary, scbert_cells};
use crate::transformer::model::Notes;
use crate::transformer::tables::{test_sets, write_table};

/// Genes of a type that are compared with gene sets.
const TOP: usize = 100;

#[derive(Debug, Serialize)]
struct Summary<'a> {
    /// The types, their cells, and their first genes against the other types.
    types: Vec<(&'a str, usize, Vec<&'a str>)>,
    n_left_out: usize,
    genes: GeneSummary,
}

pub(super) fn run(args: &Args, model: &Scbert, sets: Option<(GeneSets, &Path)>) -> Result<()> {
    if args.labels_key.is_none() && model.labels().is_empty() {
        return Err(Error::Message(format!(
            "{}: this model gives cells no types; name a column of obs that has them with --labels-key, or teach the model \
             with `sc transformer finetune annotate --model scbert`",
            args.model.display()
        )));
    }
    let notes = Notes::of(&args.model)?;
    let data = Data::read(&args.data, &args.matrix, &notes)?;
    let source = data.source("checking the counts")?;
    let cells = scbert_cells(model, &source, &data, &args.scbert.config())?;
    let labels = match &args.labels_key {
        Some(key) => data.labels(key)?,
        None => predicted(model, &cells)?,
    };
    source.handle().start("adding attention up", cells.len());
    let found = model.gene_importance_by_type(&cells, &labels, Parity::Correct)?;
    write_table(&args.out, &table(&found)?)?;
    if let Some((sets, out)) = &sets {
        let mut lists = Vec::new();
        for label in &found.labels {
            let genes = ahead(&found, label)?;
            lists.push((
                label.clone(),
                genes.into_iter().take(args.top.unwrap_or(TOP)).collect(),
            ));
        }
        test_sets((sets, out), "type", lists.into_iter(), &found.universe())?;
    }
    const SHOWN: usize = 5;
    let mut types = Vec::new();
    for (label, &n) in found.labels.iter().zip(&found.n_cells) {
        let genes = ahead(&found, label)?.into_iter().take(SHOWN).collect();
        types.push((label.as_str(), n, genes));
    }
    let summary = Summary {
        types,
        n_left_out: cells.dropped().len(),
        genes: GeneSummary::of_panel(&cells),
    };
    if args.json {
        return print_json(&summary);
    }
    let mut text = format!("{}\n", summary.genes.words());
    for (label, n, genes) in &summary.types {
        text.push_str(&format!("{label} ({n} cells): {}\n", genes.join(", ")));
    }
    note(&format!("{text}importance -> {}", args.out.display()));
    Ok(())
}

/// The types that the model gives; of cells that were left out, none.
fn predicted(model: &Scbert, cells: &ScbertCells<'_>) -> Result<Categorical> {
    let found = model.annotate(cells, None)?;
    let mut names = vec![None; cells.n_rows()];
    let types = found.names();
    for (&row, name) in cells.kept().iter().zip(&types) {
        if let Some(slot) = names.get_mut(row) {
            *slot = Some(*name);
        }
    }
    Ok(Categorical::from_options(names.into_iter()))
}

/// The genes of a type, those first that get more attention than in other types, if there are others.
fn ahead<'a>(found: &'a GeneImportance, label: &str) -> Result<Vec<&'a str>> {
    let ranked = match found.labels.len() {
        1 => found.ranked(label)?,
        _ => found.ranked_against_others(label)?,
    };
    Ok(ranked.into_iter().map(|r| r.0).collect())
}

fn table(found: &GeneImportance) -> Result<String> {
    let mut text = "type\tgene\timportance\tagainst_others\n".to_owned();
    for label in &found.labels {
        let others: HashMap<&str, f64> = match found.labels.len() {
            1 => HashMap::new(),
            _ => found.ranked_against_others(label)?.into_iter().collect(),
        };
        for (gene, importance) in found.ranked(label)? {
            let against = others.get(gene).map(|v| format!("{v:e}"));
            let against = against.unwrap_or_default();
            let _ = writeln!(text, "{label}\t{gene}\t{importance:e}\t{against}");
        }
    }
    Ok(text)
}
