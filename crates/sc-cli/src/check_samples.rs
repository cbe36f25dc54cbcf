//! Samples that another program wrote.

use std::collections::HashMap;
use std::path::Path;

use sc_criticism::ppc::Tables;
use sc_data::{AnnData, Columns, RowSource};

use crate::error::{Error, Result};

/// The layers of a file as samples, read from it some cells at a time.
pub(crate) fn tables(
    path: &Path,
    annotations: &AnnData,
    genes: &[String],
    data: &AnnData,
) -> Result<Tables<'static>> {
    let refuse = |what: String| Error::Message(format!("{}: {what}", path.display()));
    let names: Vec<String> = sc_io::inspect(path)?.layers.into_keys().collect();
    if names.is_empty() {
        return Err(refuse(
            "has no layers; each is a sample of the counts".into(),
        ));
    }
    let (own, expected) = (annotations.obs.index(), data.obs.index());
    if own != expected {
        let other = own.iter().zip(expected).position(|(a, b)| a != b);
        return Err(refuse(match other {
            Some(i) => format!(
                "cell {i} is {}, that of the data {}: samples must be of the same cells in the same order",
                own[i], expected[i]
            ),
            None => format!("has {} cells, the data {}", own.len(), expected.len()),
        }));
    }
    let position: HashMap<&str, usize> = annotations
        .var
        .index()
        .iter()
        .enumerate()
        .map(|(i, g)| (g.as_str(), i))
        .collect();
    let columns = genes
        .iter()
        .map(|g| match position.get(g.as_str()) {
            Some(&i) => Ok(Some(i)),
            None => Err(refuse(format!("lacks the gene {g}, which the counts have"))),
        })
        .collect::<Result<Vec<_>>>()?;
    let sources = names
        .iter()
        .map(|layer| {
            let source = sc_io::h5ad::read_backed(path, Some(layer))?;
            Ok(Box::new(Columns::new(source, columns.clone())?) as Box<dyn RowSource>)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tables::new(sources)?)
}
