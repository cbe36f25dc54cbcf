use std::path::Path;

use sc_data::{AnnData, Annotation, Column, Matrix, Table, Uns};
use serde::Serialize;

use crate::{Error, Result};

/// What decides how large an atlas is with its counts and without.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SizeInput {
    /// Number of cells.
    pub n_cells: f64,
    /// Number of genes.
    pub n_genes: f64,
    /// Stored counts by all entries, from 0 to 1.
    pub density: f64,
    /// Dimensions of the latent space.
    pub n_latent: f64,
    /// How often mean and variance are stored: 1, or 2 as scvi-tools' workflow leaves them (`X_latent_*` besides).
    pub copies: f64,
    /// Bytes of names and annotations of a cell.
    pub bytes_per_cell: f64,
    /// Bytes of a stored count with its column: 8 as `f32` and `i32`.
    pub bytes_per_count: f64,
    /// Bytes of a stored number of the posterior: 4 as `f32`.
    pub bytes_per_number: f64,
    /// Categories for which sums by gene are kept.
    pub n_groups: f64,
}

impl SizeInput {
    /// Uncompressed files, with 40 bytes of names and annotations a cell and one copy of the posterior.
    pub fn new(n_cells: f64, n_genes: f64, density: f64, n_latent: f64) -> Self {
        Self {
            n_cells,
            n_genes,
            density,
            n_latent,
            copies: 1.0,
            bytes_per_cell: 40.0,
            bytes_per_count: 8.0,
            bytes_per_number: 4.0,
            n_groups: 1.0,
        }
    }

    /// Packed with shuffle and gzip: about what real counts and posteriors came to (docs/minified.md).
    #[must_use]
    pub fn gzipped(self) -> Self {
        Self {
            bytes_per_count: 1.7,
            bytes_per_number: 3.4,
            bytes_per_cell: self.bytes_per_cell / 2.0,
            ..self
        }
    }

    /// The sizes that follow.
    pub fn estimate(&self) -> SizeEstimate {
        let pointers = 8.0 * self.n_cells;
        let annotations = self.bytes_per_cell * self.n_cells;
        let counts = self.density * self.n_cells * self.n_genes * self.bytes_per_count + pointers;
        let numbers = 2.0 * self.n_latent * self.copies + 1.0;
        let posterior = numbers * self.bytes_per_number * self.n_cells;
        // The row pointers of the empty matrix are 4 bytes, and all 0: packed they are nothing.
        let empty = if self.bytes_per_number < 4.0 {
            0.0
        } else {
            4.0 * self.n_cells
        };
        let statistics = 3.0 * 4.0 * self.n_genes * (self.n_groups + 1.0);
        SizeEstimate {
            counts_bytes: counts + annotations,
            minified_bytes: posterior + empty + statistics + annotations,
            posterior_bytes: posterior,
            statistics_bytes: statistics,
            annotation_bytes: annotations,
        }
    }
}

/// What [`SizeInput::estimate`] gives, in bytes.
///
/// ```
/// use sc_latent::minify::SizeInput;
/// // Thirty million cells of 2,000 counted genes each, 50 latent dimensions.
/// let census = SizeInput::new(30e6, 60_000.0, 2_000.0 / 60_000.0, 50.0).estimate();
/// assert!(census.counts_bytes > 480e9 && census.minified_bytes < 15e9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SizeEstimate {
    /// The file with counts.
    pub counts_bytes: f64,
    /// The file without.
    pub minified_bytes: f64,
    /// Of it, the posterior.
    pub posterior_bytes: f64,
    /// Of it, sums of counts by gene.
    pub statistics_bytes: f64,
    /// In both files, names and annotations.
    pub annotation_bytes: f64,
}

impl SizeEstimate {
    /// How many times smaller the file without counts is.
    pub fn ratio(&self) -> f64 {
        self.counts_bytes / self.minified_bytes
    }
}

/// The sizes of two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeReport {
    /// The file with counts.
    pub counts_bytes: u64,
    /// The minified one.
    pub minified_bytes: u64,
    /// The model, without which the minified file is no atlas.
    pub model_bytes: u64,
}

impl SizeReport {
    /// Measures files on the disk.
    ///
    /// # Errors
    /// If one is not there.
    pub fn measure(counts: &Path, minified: &Path, model: Option<&Path>) -> Result<Self> {
        let size = |path: &Path| -> Result<u64> {
            let of = std::fs::metadata(path).map_err(|source| sc_model::Error::File {
                path: path.to_owned(),
                action: "measure",
                source,
            });
            Ok(of.map_err(Error::Model)?.len())
        };
        Ok(Self {
            counts_bytes: size(counts)?,
            minified_bytes: size(minified)?,
            model_bytes: model.map_or(Ok(0), size)?,
        })
    }

    /// How many times smaller the minified file is.
    pub fn ratio(&self) -> f64 {
        self.counts_bytes as f64 / self.minified_bytes.max(1) as f64
    }

    /// The same with the model added to the minified file.
    pub fn ratio_with_model(&self) -> f64 {
        self.counts_bytes as f64 / (self.minified_bytes + self.model_bytes).max(1) as f64
    }
}

/// The bytes of each part of an AnnData in memory, about what an uncompressed file has of it: `X`, `obs`,
/// `obsm/scvi_latent_qzm`, ...
pub fn part_sizes(data: &AnnData) -> Vec<(String, u64)> {
    let mut out = vec![
        ("obs".to_owned(), of_table(&data.obs)),
        ("var".to_owned(), of_table(&data.var)),
    ];
    out.extend(data.x.iter().map(|x| ("X".to_owned(), of_matrix(x))));
    if let Some(raw) = &data.raw {
        out.push(("raw".to_owned(), of_matrix(&raw.x) + of_table(&raw.var)));
    }
    for (part, all) in [
        ("layers", &data.layers),
        ("obsp", &data.obsp),
        ("varp", &data.varp),
    ] {
        out.extend(
            all.iter()
                .map(|(k, m)| (format!("{part}/{k}"), of_matrix(m))),
        );
    }
    for (part, all) in [("obsm", &data.obsm), ("varm", &data.varm)] {
        out.extend(
            all.iter()
                .map(|(k, a)| (format!("{part}/{k}"), of_annotation(a))),
        );
    }
    out.extend(
        data.uns
            .iter()
            .map(|(k, v)| (format!("uns/{k}"), of_uns(v))),
    );
    out
}

fn of_matrix(m: &Matrix) -> u64 {
    let entries = m.n_rows() as u64 * m.n_cols() as u64;
    match m {
        Matrix::Sparse(m) => 8 * m.n_stored() as u64 + 4 * (m.n_rows() as u64 + 1),
        Matrix::Dense64(_) => 8 * entries,
        _ => 4 * entries,
    }
}

fn of_annotation(a: &Annotation) -> u64 {
    match a {
        Annotation::Table(t) => of_table(t),
        Annotation::Matrix(m) => of_matrix(m),
        _ => 0,
    }
}

/// A text of variable length costs its bytes and a reference of 16.
fn of_text(s: &str) -> u64 {
    16 + s.len() as u64
}

fn of_table(t: &Table) -> u64 {
    let names: u64 = t.index().iter().map(|s| of_text(s)).sum();
    names + t.columns().map(|(_, c)| of_column(c)).sum::<u64>()
}

fn of_column(c: &Column) -> u64 {
    let n = c.len() as u64;
    match c {
        Column::Bool(_) => n,
        Column::OptBool(_) => 2 * n,
        Column::Int32(_) | Column::Float32(_) => 4 * n,
        Column::OptInt(_) => 9 * n,
        Column::Str(v) => v.iter().map(|s| of_text(s)).sum(),
        Column::OptStr(v) => v.iter().flatten().map(|s| of_text(s)).sum::<u64>() + n,
        Column::Categorical(c) => {
            let code = match c.categories().len() {
                0..=127 => 1,
                128..=32767 => 2,
                _ => 4,
            };
            code * n + c.categories().iter().map(|s| of_text(s)).sum::<u64>()
        }
        _ => 8 * n,
    }
}

fn of_uns(v: &Uns) -> u64 {
    match v {
        Uns::Ints(a) => 8 * a.len() as u64,
        Uns::Floats(a) => 8 * a.len() as u64,
        Uns::Floats32(a) => 4 * a.len() as u64,
        Uns::Bools(a) => a.len() as u64,
        Uns::Strings(a) => a.iter().map(|s| of_text(s)).sum(),
        Uns::Str(s) => of_text(s),
        Uns::Table(t) => of_table(t),
        Uns::Sparse(m) => 8 * m.n_stored() as u64 + 4 * (m.n_rows() as u64 + 1),
        Uns::Dict(d) => d.values().map(of_uns).sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_adds_up() {
        // One million cells, 2,000 genes, a tenth of the counts stored, 10 dimensions.
        let e = SizeInput::new(1e6, 2000.0, 0.1, 10.0).estimate();
        assert_eq!(e.posterior_bytes, 84e6);
        assert_eq!(e.counts_bytes, 1e6 * (200.0 * 8.0 + 8.0 + 40.0));
        assert!((12.0..14.0).contains(&e.ratio()), "{}", e.ratio());
        let twice = SizeInput {
            copies: 2.0,
            ..SizeInput::new(1e6, 2000.0, 0.1, 10.0)
        };
        assert_eq!(twice.estimate().posterior_bytes, 164e6);
        let packed = SizeInput::new(1e6, 2000.0, 0.1, 10.0).gzipped().estimate();
        assert!(packed.ratio() < e.ratio());
    }

    #[test]
    fn files_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, n: usize| {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![0u8; n]).unwrap();
            path
        };
        let (a, b, m) = (at("a", 1000), at("b", 40), at("m", 10));
        let report = SizeReport::measure(&a, &b, Some(&m)).unwrap();
        assert_eq!((report.ratio(), report.ratio_with_model()), (25.0, 20.0));
        assert!(SizeReport::measure(&a, &folder.path().join("no"), None).is_err());
    }

    #[test]
    fn parts_are_weighed() {
        let x = sc_data::Csr::from_dense(&ndarray::array![[1.0f32, 0.0], [2.0, 3.0]]);
        let names = |p: &str| Table::new((0..2).map(|i| format!("{p}{i}")).collect());
        let data = AnnData::new(x, names("c"), names("g")).unwrap();
        let sizes = part_sizes(&data);
        assert!(sizes.contains(&("X".into(), 3 * 8 + 3 * 4)));
        assert!(sizes.contains(&("obs".into(), 2 * 18)));
    }
}
