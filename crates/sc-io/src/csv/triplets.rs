//! Tables of umi_tools: a line for each gene of each cell.

use std::collections::BTreeMap;

use sc_data::{AnnData, Csr, Table};

use crate::lines::{Records, number, text};
use crate::{Error, Result};

/// The line of names.
pub(super) const HEADER: [&[u8]; 3] = [b"gene", b"cell", b"count"];

pub(super) fn read(mut records: Records<'_>) -> Result<AnnData> {
    let path = records.path;
    // By cell, then by gene; genes by the order in which they come.
    let mut genes: BTreeMap<String, usize> = BTreeMap::new();
    let mut cells: BTreeMap<String, BTreeMap<usize, f32>> = BTreeMap::new();
    loop {
        let Some(record) = records.next()? else { break };
        let fields = (record.get(0), record.get(1), record.get(2).map(number));
        let (Some(gene), Some(cell), Some(Some(count)), 3) =
            (fields.0, fields.1, fields.2, record.len())
        else {
            let found = record.iter().map(text).collect::<Vec<_>>().join(" ");
            return Err(records.wrong(format!("{found:?}"), "a gene, a cell and a count"));
        };
        let n = genes.len();
        let gene = *genes.entry(text(gene)).or_insert(n);
        let entry = cells.entry(text(cell)).or_default();
        *entry.entry(gene).or_insert(0.0) += count;
    }
    // Columns in the order of names.
    let mut place = vec![0u32; genes.len()];
    for (column, first) in genes.values().enumerate() {
        if let Some(p) = place.get_mut(*first) {
            *p = column as u32;
        }
    }
    let (mut indptr, mut entries) = (vec![0], Vec::new());
    for row in cells.values() {
        let start = entries.len();
        entries.extend(row.iter().filter_map(|(g, v)| Some((*place.get(*g)?, *v))));
        entries[start..].sort_unstable_by_key(|e| e.0);
        indptr.push(entries.len());
    }
    let (indices, data) = entries.into_iter().unzip();
    let x = Csr::new(cells.len(), genes.len(), indptr, indices, data)
        .map_err(Error::data(path, "the counts"))?;
    let obs = Table::new(cells.into_keys().collect()).with_index_name(Some("cell".into()));
    let var = Table::new(genes.into_keys().collect()).with_index_name(Some("gene".into()));
    AnnData::new(x, obs, var).map_err(Error::data(path, "the names"))
}
