//! Names that occur more than once, as gene symbols do.

use std::collections::HashMap;

use indexmap::IndexMap;
use sc_data::{Result, Table};

/// The names that occur more than once, in order, with how often they do.
///
/// No reader of this crate changes names. Models align features by name, so deal with what this finds before training:
/// use the gene ids, or [`make_unique`].
pub fn duplicates(names: &[String]) -> Vec<(String, usize)> {
    let mut counts: IndexMap<&str, usize> = IndexMap::with_capacity(names.len());
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|&(_, n)| n > 1)
        .map(|(name, n)| (name.to_owned(), n))
        .collect()
}

/// The table with `-1`, `-2`, ... appended to the second, third, ... occurrence of a row name; a suffix that is taken
/// already is passed over.
///
/// # Errors
/// None in practice: the columns fit as before.
pub fn make_unique(table: &Table) -> Result<Table> {
    let mut taken: std::collections::HashSet<String> = table.index().iter().cloned().collect();
    let mut next: HashMap<&str, usize> = HashMap::new();
    let mut index = Vec::with_capacity(table.n_rows());
    for name in table.index() {
        let Some(suffix) = next.get_mut(name.as_str()) else {
            next.insert(name, 1);
            index.push(name.clone());
            continue;
        };
        let unique = loop {
            let candidate = format!("{name}-{suffix}");
            *suffix += 1;
            if taken.insert(candidate.clone()) {
                break candidate;
            }
        };
        index.push(unique);
    }
    let mut unique = Table::new(index).with_index_name(table.index_name().map(str::to_owned));
    for (name, column) in table.columns() {
        unique.insert(name, column.clone())?;
    }
    Ok(unique)
}

/// Warns about duplicate names of a file that was just read.
pub(crate) fn warn_of_duplicates(path: &std::path::Path, what: &str, names: &[String]) {
    let twice = duplicates(names);
    if let Some((first, n)) = twice.first() {
        tracing::warn!(
            file = %path.display(),
            "{} names of {what} occur more than once, the first is \"{first}\" ({n} times); names::make_unique tells them apart",
            twice.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_data::Column;

    #[test]
    fn the_second_occurrence_gets_a_number() {
        let names = ["a", "b", "a", "a-1", "a"].map(str::to_owned).to_vec();
        assert_eq!(duplicates(&names), vec![("a".to_owned(), 3)]);
        let mut table = Table::new(names);
        table.insert("x", Column::Int((0..5).collect())).unwrap();
        let unique = make_unique(&table).unwrap();
        assert_eq!(unique.index(), ["a", "b", "a-2", "a-1", "a-3"]);
        assert!(duplicates(unique.index()).is_empty());
        assert_eq!(unique.get("x"), table.get("x"));
    }
}
