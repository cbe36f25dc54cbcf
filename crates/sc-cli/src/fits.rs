//! Whether the columns of cells are those that a model knows. The libraries refuse what does not fit, too; here all that is
//! wrong with a column is said at once, and which command helps.

use sc_data::{AnnData, Categorical};
use sc_latent::Registry;

use crate::error::{Error, Result};

/// Names that are listed before the rest is counted.
const LISTED: usize = 20;

/// What a column says of a cell.
struct Meaning {
    one: &'static str,
    many: &'static str,
    /// What to do about values that the model does not know.
    hint: String,
}

/// Refuses cells without a column that the model needs, or with values that it does not know.
pub(crate) fn check(registry: &Registry, data: &AnnData) -> Result<()> {
    let setup = &registry.setup;
    let map = "`sc map` adds new ones to a model, and finds the places of the cells";
    if let Some(key) = &setup.batch_key {
        let batch = Meaning {
            one: "the batch of each cell",
            many: "batches",
            hint: map.into(),
        };
        column(data, key, &registry.batches, &batch)?;
    }
    let covariates = setup.categorical_covariate_keys.iter();
    for (key, known) in covariates.zip(&registry.categorical_covariates) {
        let covariate = Meaning {
            one: "a covariate",
            many: "levels",
            hint: map.into(),
        };
        column(data, key, known, &covariate)?;
    }
    let Some(key) = &setup.labels_key else {
        return Ok(());
    };
    let unlabeled = registry
        .unlabeled_code()
        .and(setup.unlabeled_category.as_ref());
    if unlabeled.is_some() && data.obs.get(key).is_none() {
        return Ok(());
    }
    let label = Meaning {
        one: "the label of each cell",
        many: "labels",
        hint: match unlabeled {
            Some(label) => format!("call such cells \"{label}\", or leave the column out"),
            None => "rename them, or leave such cells out".into(),
        },
    };
    column(data, key, &registry.labels, &label)
}

fn column(data: &AnnData, key: &str, known: &[String], meaning: &Meaning) -> Result<()> {
    let Some(column) = data.obs.get(key) else {
        let there: Vec<&str> = data.obs.columns().map(|(name, _)| name).collect();
        let wrong = Error::Message(format!(
            "obs has no column \"{key}\", {}, which the model was trained with; it has: {}",
            meaning.one,
            if there.is_empty() {
                "nothing".into()
            } else {
                there.join(", ")
            }
        ));
        return Err(wrong.with_hint(format!(
            "add it under that name; the model knows the {} {}. {}",
            meaning.many,
            list(known.iter().cloned()),
            capital(&meaning.hint)
        )));
    };
    let column = column.to_categorical(key)?;
    let unknown = unknown(&column, known);
    if unknown.is_empty() {
        return Ok(());
    }
    let wrong = Error::Message(format!(
        "obs column \"{key}\" holds {} that the model does not know: {}. It knows {}",
        meaning.many,
        list(unknown.into_iter()),
        list(known.iter().cloned())
    ));
    Err(wrong.with_hint(meaning.hint.clone()))
}

/// Values that occur and are not known, with the number of cells.
fn unknown(column: &Categorical, known: &[String]) -> Vec<String> {
    let counted = column.categories().iter().zip(column.counts());
    counted
        .filter(|(name, n)| *n > 0 && !known.contains(name))
        .map(|(name, n)| format!("{name} ({n} cells)"))
        .collect()
}

fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let n = names.len();
    let mut shown: Vec<String> = names.take(LISTED).collect();
    if n > LISTED {
        shown.push(format!("and {} more", n - LISTED));
    }
    shown.join(", ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names = |n: usize| list((0..n).map(|i| i.to_string()));
        assert_eq!(names(2), "0, 1");
        assert!(names(25).ends_with("19, and 5 more"));
    }

    #[test]
    fn unknown_values_are_counted() {
        let column = Categorical::from_labels(&["b", "a", "c", "c"]);
        assert_eq!(
            unknown(&column, &["a".into()]),
            ["b (1 cells)", "c (2 cells)"]
        );
    }
}
