//! Embedding cells of several files.

use std::collections::HashMap;

use ndarray::Array2;
use sc_data::AnnData;
use sc_transformer::scgpt::{CellSource, ScGpt};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::vocab::GeneCase;

use super::{Files, ModalityOptions, token};
use crate::error::{Error, Result};
use crate::transformer::cells::GeneSummary;
use crate::transformer::model::{ModalityNotes, Notes};
use crate::transformer::query::Query;
use crate::transformer::scgpt_cells::{limits, tokens};

/// Embedded cells of several files.
pub(in crate::transformer) struct Embedded {
    pub(in crate::transformer) cells: AnnData,
    pub(in crate::transformer) vectors: Array2<f32>,
    pub(in crate::transformer) genes: GeneSummary,
}

/// Embeds cells with a model of several modalities. Files that are not there, and features that they lack, are no tokens.
pub(in crate::transformer) fn embed(
    model: &ScGpt,
    query: &Query,
    more: &ModalityOptions,
    notes: &Notes,
    features: &ModalityNotes,
) -> Result<Embedded> {
    for (option, given) in [
        ("--batch-key", query.scgpt.batch_key.is_some()),
        ("--ignore-case", query.scgpt.ignore_case),
    ] {
        if given {
            return Err(Error::Message(format!(
                "{option}: the vectors of a model of several modalities don't depend on the batch, and its features are \
                 matched to the letter; leave it out"
            )));
        }
    }
    let files = Files::read(&query.data, more, &query.matrix, notes)?;
    let names = notes.genes.clone().unwrap_or_default();
    let mut columns = Vec::with_capacity(files.parts.len());
    let (mut n_features, mut missing) = (0, Vec::new());
    for part in &files.parts {
        if !features.of_genes.contains(&part.modality) {
            let mut known = features.of_genes.clone();
            known.sort_unstable();
            known.dedup();
            return Err(part.data.wrong(format!(
                "is called {}, and the model knows the modalities {}; name them with --data-modality and --modality",
                part.modality,
                known.join(", ")
            )));
        }
        let mut place: HashMap<String, usize> = HashMap::new();
        for (feature, column) in part.data.genes.iter().zip(0..) {
            let token = token(&features.first, &part.modality, feature);
            place.entry(token).or_insert(column);
        }
        let of: Vec<Option<usize>> = names.iter().map(|n| place.get(n).copied()).collect();
        n_features += part.data.genes.len();
        let own = names.iter().zip(&features.of_genes).zip(&of);
        let own = own.filter(|((_, m), _)| **m == part.modality);
        missing.extend(
            own.filter(|(_, c)| c.is_none())
                .map(|((n, _), _)| n.clone()),
        );
        if of.iter().all(Option::is_none) {
            let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
            return Err(part.data.wrong(format!(
                "has none of the features that the model was trained on, such as {}",
                some.join(", ")
            )));
        }
        columns.push(of);
    }
    let n_used = columns.iter().flatten().flatten().count();
    let found = model.vocab().match_genes(&names, GeneCase::Exact)?;
    let options = tokens(model, query.scgpt.max_length, query.scgpt.seed(), notes);
    let tokenizer =
        Tokenizer::new(model.vocab(), &found, options)?.with_modalities(&features.of_genes)?;
    let source = files.source(columns, "embedding")?;
    let told = vec![0; files.cells.len()];
    let mut cells = CellSource::new(&source, &tokenizer);
    // Only decoders are told the batch.
    cells.batches = model.config().use_batch_labels.then_some(told.as_slice());
    cells.limits = limits(model, &query.scgpt);
    let vectors = model.embed_cells(&cells)?;
    drop(source);
    Ok(Embedded {
        vectors,
        genes: GeneSummary::new(
            n_features,
            n_used,
            &missing,
            "of the model are not in the data",
        ),
        cells: files.annotations()?,
    })
}
