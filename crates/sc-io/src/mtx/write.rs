use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use sc_data::{AnnData, Column};

use crate::{Error, Result, atomic};

/// Options of [`write_dir`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The matrix to write; `None` is `X`.
    pub layer: Option<String>,
    /// Gzip level from 0 to 9; `None` writes plain text.
    pub gzip: Option<u32>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            layer: None,
            gzip: Some(6),
        }
    }
}

impl WriteOptions {
    /// Plain text.
    pub fn plain() -> Self {
        Self {
            layer: None,
            gzip: None,
        }
    }

    /// A layer instead of `X`.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<String>) -> Self {
        self.layer = Some(layer.into());
        self
    }
}

/// Writes `matrix.mtx`, `barcodes.tsv` and `features.tsv` as Cell Ranger 3 does, gzipped by default. The folder is
/// made if it does not exist.
///
/// Identifiers come from the columns `gene_ids` and `feature_types` of `var` where they exist. Only the matrix and
/// the names are written: the rest of the data has no place in this format.
///
/// # Errors
/// [`Error::Data`] if there is no such matrix, [`Error::Content`] if a name contains a tab or a line break,
/// [`Error::Io`] if writing fails.
pub fn write_dir(path: impl AsRef<Path>, data: &AnnData, options: &WriteOptions) -> Result<()> {
    let folder = path.as_ref();
    let matrix = data
        .matrix(options.layer.as_deref())
        .map_err(Error::data(folder, "the matrix"))?
        .to_csr();
    data.check().map_err(Error::data(folder, "the data"))?;
    let features = features(folder, data)?;
    let barcodes = lines(
        folder,
        "obs",
        data.obs.index().iter().map(|b| vec![b.as_str()]),
    )?;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    text(folder, "barcodes.tsv", options.gzip, |w| {
        w.write_all(barcodes.as_bytes())
    })?;
    text(folder, "features.tsv", options.gzip, |w| {
        w.write_all(features.as_bytes())
    })?;
    text(folder, "matrix.mtx", options.gzip, |w| {
        let whole = matrix.data().iter().all(|v| v.fract() == 0.0);
        let field = if whole { "integer" } else { "real" };
        writeln!(w, "%%MatrixMarket matrix coordinate {field} general")?;
        let (cells, genes) = (matrix.n_rows(), matrix.n_cols());
        writeln!(w, "{genes} {cells} {}", matrix.n_stored())?;
        for cell in 0..cells {
            let (columns, values) = matrix.row(cell);
            for (&gene, &value) in columns.iter().zip(values) {
                // Rust prints the shortest text that reads back as the same number.
                writeln!(w, "{} {} {value}", gene as usize + 1, cell + 1)?;
            }
        }
        Ok(())
    })
}

fn text(
    folder: &Path,
    name: &str,
    gzip: Option<u32>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    match gzip {
        None => atomic::write_file(folder.join(name), |f| write(f)),
        Some(level) => atomic::write_file(folder.join(format!("{name}.gz")), |f| {
            let level = flate2::Compression::new(level.min(9));
            let mut packed = std::io::BufWriter::new(GzEncoder::new(f, level));
            write(&mut packed)?;
            packed
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)?
                .finish()?;
            Ok(())
        }),
    }
}

fn features(folder: &Path, data: &AnnData) -> Result<String> {
    let texts = |column: &str| -> Option<Vec<String>> {
        match data.var.get(column)? {
            Column::Str(v) => Some(v.clone()),
            Column::Categorical(c) => c.iter().map(|l| l.map(str::to_owned)).collect(),
            _ => None,
        }
    };
    let names = data.var.index();
    let ids = texts("gene_ids").unwrap_or_else(|| names.to_vec());
    let types =
        texts("feature_types").unwrap_or_else(|| vec!["Gene Expression".to_owned(); names.len()]);
    let rows = ids.iter().zip(names).zip(&types);
    lines(
        folder,
        "var",
        rows.map(|((id, name), kind)| vec![id.as_str(), name, kind]),
    )
}

fn lines<'a>(
    folder: &Path,
    what: &str,
    rows: impl Iterator<Item = Vec<&'a str>>,
) -> Result<String> {
    let mut out = String::new();
    for row in rows {
        if let Some(bad) = row.iter().find(|f| f.contains(['\t', '\n', '\r'])) {
            return Err(Error::content(
                folder,
                what,
                format!("{bad:?}"),
                "names without tabs and line breaks",
            ));
        }
        out.push_str(&row.join("\t"));
        out.push('\n');
    }
    Ok(out)
}
