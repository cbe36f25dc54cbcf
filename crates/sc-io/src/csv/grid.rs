//! Numbers in rows and columns.

use csv::ByteRecord;
use sc_data::{AnnData, Csr, Table};

use crate::lines::{Records, number, text};
use crate::{Error, Result};

/// How the lines are to be read, as the first ones show.
struct Layout {
    /// Of the columns, with a name for that of row names if there is one.
    header: Option<Vec<String>>,
    named_rows: bool,
    /// Numbers in a row.
    n_values: usize,
}

/// The rows read so far.
struct Grid {
    names: Vec<String>,
    indptr: Vec<usize>,
    indices: Vec<u32>,
    data: Vec<f32>,
}

/// `first` is the first record; `records` gives those after it.
pub(super) fn read(
    first: ByteRecord,
    mut records: Records<'_>,
    genes_in_rows: bool,
) -> Result<AnnData> {
    let (path, comment) = (records.path, records.comment.clone());
    // A name, unlike a number, may be missing: the line of names of R has one field less.
    let is_header = first
        .iter()
        .next_back()
        .is_some_and(|f| number(f).is_none());
    let header: Option<Vec<String>> = is_header.then(|| first.iter().map(text).collect());
    let mut grid = Grid {
        names: Vec::new(),
        indptr: vec![0],
        indices: Vec::new(),
        data: Vec::new(),
    };
    let mut layout = None;
    if header.is_none() {
        let found = Layout::of(None, comment.as_deref(), &first);
        grid.push(&first, &found, &records)?;
        layout = Some(found);
    }
    loop {
        let Some(record) = records.next()?.cloned() else {
            break;
        };
        let layout =
            layout.get_or_insert_with(|| Layout::of(header.clone(), comment.as_deref(), &record));
        grid.push(&record, layout, &records)?;
    }
    let Some(layout) = layout else {
        return Err(Error::content(
            path,
            "the file",
            "no row of numbers",
            "a line for each cell or gene",
        ));
    };
    let (n_rows, n_values) = (grid.indptr.len() - 1, layout.n_values);
    let numbered = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let rows = match layout.named_rows {
        true => grid.names,
        false => numbered(n_rows),
    };
    let (columns, index_name) = match layout.header {
        Some(mut names) if names.len() == n_values + 1 => {
            let rest = names.split_off(1);
            (rest, names.pop().filter(|n| !n.is_empty()))
        }
        Some(names) => (names, None),
        None => (numbered(n_values), None),
    };
    let x = Csr::new(n_rows, n_values, grid.indptr, grid.indices, grid.data)
        .map_err(Error::data(path, "the numbers"))?;
    let rows = Table::new(rows).with_index_name(index_name);
    let columns = Table::new(columns);
    if genes_in_rows {
        AnnData::new(x.transpose(), columns, rows)
    } else {
        AnnData::new(x, rows, columns)
    }
    .map_err(Error::data(path, "the names"))
}

impl Layout {
    fn of(header: Option<Vec<String>>, comment: Option<&str>, row: &ByteRecord) -> Self {
        let first = row.get(0).unwrap_or_default();
        let unnamed = header.as_ref().is_some_and(|h| {
            h.len() + 1 == row.len()
                || (h.len() == row.len() && h.first().is_some_and(String::is_empty))
        });
        let named_rows = unnamed || number(first).is_none();
        let n_values = row.len() - usize::from(named_rows && !row.is_empty());
        // As anndata: names may stand in the last comment.
        let header = header.or_else(|| {
            let names = comment?.split([' ', '\t', ',', ';']);
            let names: Vec<_> = names.filter(|n| !n.is_empty()).map(str::to_owned).collect();
            (names.len() == n_values).then_some(names)
        });
        Self {
            header,
            named_rows,
            n_values,
        }
    }
}

impl Grid {
    fn push(&mut self, record: &ByteRecord, layout: &Layout, records: &Records<'_>) -> Result<()> {
        let named = usize::from(layout.named_rows);
        let expected = layout.n_values + named;
        if let Some(header) = &layout.header
            && ![layout.n_values, expected].contains(&header.len())
        {
            return Err(records.wrong(
                format!("{} fields", record.len()),
                format!("{}, as the line of names has", header.len()),
            ));
        }
        if record.len() != expected {
            return Err(records.wrong(
                format!("{} fields", record.len()),
                format!("{expected}, as the first row has"),
            ));
        }
        if layout.named_rows {
            self.names.push(text(record.get(0).unwrap_or_default()));
        }
        for (column, field) in record.iter().skip(named).enumerate() {
            let Some(value) = number(field) else {
                return Err(records.wrong(
                    format!("{:?} in field {}", text(field), column + named + 1),
                    "a number (names may stand in the first line and the first column)",
                ));
            };
            if value != 0.0 {
                self.indices.push(column as u32);
                self.data.push(value);
            }
        }
        self.indptr.push(self.indices.len());
        Ok(())
    }
}
