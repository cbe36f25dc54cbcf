//! The genes of the data in the order of the model.

use std::collections::HashMap;
use std::sync::Arc;

use sc_data::{Columns, RowSource};

use crate::{Error, Result};

/// Counts with the genes of the model, in its order.
pub(super) fn columns_of<'a>(
    counts: Box<dyn RowSource + 'a>,
    found: &[String],
    genes: &[String],
) -> Result<Box<dyn RowSource + 'a>> {
    if found == genes {
        return Ok(counts);
    }
    let counts: Arc<dyn RowSource + 'a> = Arc::from(counts);
    Ok(Box::new(Columns::new(counts, match_genes(genes, found)?)?))
}

/// For each gene of the model its column in the data.
pub(crate) fn match_genes(model: &[String], found: &[String]) -> Result<Vec<Option<usize>>> {
    let mut lookup: HashMap<&str, usize> = HashMap::with_capacity(found.len());
    for (i, g) in found.iter().enumerate() {
        if lookup.insert(g, i).is_some() {
            return Err(sc_data::Error::Duplicate {
                what: "var (the gene names)".into(),
                name: g.clone(),
            }
            .into());
        }
    }
    let columns: Vec<Option<usize>> = model
        .iter()
        .map(|g| lookup.get(g.as_str()).copied())
        .collect();
    let missing: Vec<&str> = model
        .iter()
        .zip(&columns)
        .filter(|(_, c)| c.is_none())
        .map(|(g, _)| g.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(columns);
    }
    let some = |names: &mut dyn Iterator<Item = &str>| names.take(3).collect::<Vec<_>>().join(", ");
    Err(Error::MissingGenes {
        count: missing.len(),
        n_genes: model.len(),
        examples: some(&mut missing.iter().copied()),
        found: found.len(),
        found_examples: some(&mut found.iter().map(String::as_str)),
    })
}
