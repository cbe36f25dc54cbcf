use std::io::Write;
use std::path::Path;

use csv::{QuoteStyle, WriterBuilder};
use flate2::Compression;
use flate2::write::GzEncoder;
use sc_data::{AnnData, Csr};

use super::extension;
use crate::{Error, Result, atomic};

/// Writes `X` with the names of cells (rows) and features (columns): separated by tabulators if the name ends in `.tsv`,
/// otherwise by commas; gzipped if it ends in `.gz`. Nothing else of the data has a place in such a table.
///
/// # Errors
/// [`Error::Data`] if there is no `X`, [`Error::Io`] if writing fails.
pub fn write(path: impl AsRef<Path>, data: &AnnData) -> Result<()> {
    let path = path.as_ref();
    data.check().map_err(Error::data(path, "the data"))?;
    let x = data.matrix(None).map_err(Error::data(path, "the matrix"))?;
    let x = x.to_csr();
    let delimiter = match extension(path).as_deref() {
        Some("tsv" | "tab") => b'\t',
        _ => b',',
    };
    let gzipped = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    atomic::write_file(path, |file| {
        if gzipped {
            let mut packed = GzEncoder::new(file, Compression::default());
            table(&mut packed, data, &x, delimiter)?;
            packed.finish().map(|_| ())
        } else {
            table(file, data, &x, delimiter)
        }
    })
}

fn table(to: &mut impl Write, data: &AnnData, x: &Csr, delimiter: u8) -> std::io::Result<()> {
    let mut writer = WriterBuilder::new()
        .delimiter(delimiter)
        .quote_style(QuoteStyle::Necessary)
        .from_writer(to);
    // An unnamed first column is what says that it holds names.
    writer.write_field("")?;
    writer.write_record(data.var.index())?;
    let mut row = vec![0.0f32; x.n_cols()];
    for (cell, name) in data.obs.index().iter().enumerate() {
        let (columns, values) = x.row(cell);
        for (c, v) in columns.iter().zip(values) {
            row[*c as usize] = *v;
        }
        writer.write_field(name)?;
        writer.write_record(row.iter().map(f32::to_string))?;
        for c in columns {
            row[*c as usize] = 0.0;
        }
    }
    writer.flush()
}
