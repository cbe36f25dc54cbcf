//! The code of each cell in columns of `obs` that hold categories.

use std::collections::HashSet;

use sc_data::{Categorical, Table};

use crate::registry::NO_CATEGORY;
use crate::{Error, Registry, Result};

/// What a column of categories is to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Batch,
    Covariate,
    Label,
}

/// The batch of each cell.
pub(super) fn of_batches(obs: &Table, registry: &Registry, n: usize) -> Result<Vec<u32>> {
    match &registry.setup.batch_key {
        Some(key) => codes(obs, key, &registry.batches, Meaning::Batch, registry),
        None => Ok(vec![0; n]),
    }
}

/// The label of each cell. Data without the column of labels has cells whose labels are not known.
pub(super) fn of_labels(obs: &Table, registry: &Registry, n: usize) -> Result<Vec<u32>> {
    match (&registry.setup.labels_key, registry.unlabeled_code()) {
        (Some(key), Some(code)) if obs.get(key).is_none() => Ok(vec![code; n]),
        (None, Some(code)) => Ok(vec![code; n]),
        (Some(key), _) => codes(obs, key, &registry.labels, Meaning::Label, registry),
        (None, None) => Ok(vec![0; n]),
    }
}

/// The level of each cell in each categorical covariate.
pub(super) fn of_covariates(obs: &Table, registry: &Registry) -> Result<Vec<Vec<u32>>> {
    let keys = &registry.setup.categorical_covariate_keys;
    keys.iter()
        .zip(&registry.categorical_covariates)
        .map(|(key, levels)| codes(obs, key, levels, Meaning::Covariate, registry))
        .collect()
}

fn codes(
    obs: &Table,
    key: &str,
    known: &[String],
    meaning: Meaning,
    registry: &Registry,
) -> Result<Vec<u32>> {
    let column = obs.column("obs", key)?.to_categorical(key)?;
    let unknown = unknown(&column, known);
    if !unknown.is_empty() {
        return Err(refused(key, &unknown, known, meaning, registry));
    }
    Ok(column.recode(key, known)?.complete_codes(key)?)
}

fn refused(
    key: &str,
    unknown: &[String],
    known: &[String],
    meaning: Meaning,
    registry: &Registry,
) -> Error {
    match meaning {
        Meaning::Label => unknown_labels(key, unknown, registry),
        Meaning::Batch | Meaning::Covariate => Error::UnknownCategories {
            column: key.to_owned(),
            meaning: match meaning {
                Meaning::Batch => "batches",
                _ => "levels of a covariate",
            },
            unknown: listed(unknown),
            known: listed(known),
        },
    }
}

/// Labels that a model does not know and can't be taught.
pub(crate) fn unknown_labels(column: &str, unknown: &[String], registry: &Registry) -> Error {
    Error::UnknownLabels {
        column: column.to_owned(),
        unknown: listed(unknown),
        known: listed(registry.known_labels()),
        unlabeled: match &registry.setup.unlabeled_category {
            Some(u) => format!("call such cells \"{u}\""),
            None => "leave such cells out".into(),
        },
    }
}

/// Categories that occur and are not among `known`, each once.
pub(crate) fn unknown(column: &Categorical, known: &[String]) -> Vec<String> {
    let known: HashSet<&str> = known.iter().map(String::as_str).collect();
    let occurs = column.counts();
    column
        .categories()
        .iter()
        .zip(occurs)
        .filter(|(c, n)| *n > 0 && !known.contains(c.as_str()))
        .map(|(c, _)| c.clone())
        .collect()
}

/// Names for a message: all, or of many the first.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{}, ... ({} in all)", first.join(", "), names.len())
        }
        _ => names.join(", "),
    }
}

/// Whether a column was given or is the single made-up category.
pub(crate) fn is_given(categories: &[String]) -> bool {
    categories != [NO_CATEGORY]
}
