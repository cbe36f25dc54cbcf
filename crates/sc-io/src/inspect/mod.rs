//! What a file holds, found out by reading as little of it as possible.

mod h5;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use sc_data::{Annotation, Column, Matrix, Table, Uns};
use serde::Serialize;

use crate::hdf::{H5, Node, Place};
use crate::{Error, Format, Result, csv, format_of, loom, mtx, tenx};

/// How many values of a column are shown.
const EXAMPLES: usize = 5;
/// How many categories of a column are shown.
const CATEGORIES: usize = 12;

/// What [`inspect`] found. Meant to be printed or serialised.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The file or folder.
    pub path: PathBuf,
    /// What it is.
    pub format: Format,
    /// The version of the format, in words.
    pub encoding: String,
    /// Its size on the disk, in bytes.
    pub file_bytes: u64,
    /// Number of cells.
    pub n_obs: usize,
    /// Number of features.
    pub n_vars: usize,
    /// `X`.
    pub x: Option<MatrixInfo>,
    /// The layers.
    pub layers: IndexMap<String, MatrixInfo>,
    /// `raw.X`.
    pub raw: Option<MatrixInfo>,
    /// The columns of the cells.
    pub obs: TableInfo,
    /// The columns of the features.
    pub var: TableInfo,
    /// What there is for each cell, e.g. `X_pca`: its shape and type.
    pub obsm: IndexMap<String, String>,
    /// What there is for each feature.
    pub varm: IndexMap<String, String>,
    /// Matrices of cells x cells.
    pub obsp: IndexMap<String, String>,
    /// Matrices of features x features.
    pub varp: IndexMap<String, String>,
    /// The keys of `uns`.
    pub uns: Vec<String>,
    /// What is unusual, missing or not supported.
    pub notes: Vec<String>,
    /// The modalities of a file of several; what is said outside of them is said of all together.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub modalities: IndexMap<String, Inspection>,
    /// Cells that all modalities have, of a file of several that share cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_paired: Option<usize>,
}

impl Inspection {
    /// Bytes of memory that reading everything takes at least.
    pub fn memory_bytes(&self) -> u64 {
        self.x
            .iter()
            .chain(self.layers.values())
            .chain(&self.raw)
            .map(|m| m.memory_bytes)
            .chain(self.modalities.values().map(Self::memory_bytes))
            .sum()
    }
}

/// What is known of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MatrixInfo {
    /// "dense", "csr" or "csc".
    pub storage: String,
    /// Rows and columns.
    pub shape: (usize, usize),
    /// The type of the numbers, as numpy calls it.
    pub dtype: String,
    /// Stored entries.
    pub n_stored: usize,
    /// Stored entries by all entries.
    pub density: f64,
    /// Bytes it takes in memory.
    pub memory_bytes: u64,
    /// How it is packed in the file; empty for not at all.
    pub filters: Vec<String>,
}

impl MatrixInfo {
    fn new(storage: &str, shape: (usize, usize), dtype: String, n_stored: usize) -> Self {
        let all = shape.0 as f64 * shape.1 as f64;
        let memory_bytes = match storage {
            "dense" if dtype == "float64" => 8 * n_stored as u64,
            "dense" => 4 * n_stored as u64,
            _ => 8 * n_stored as u64 + 8 * (shape.0 as u64 + 1),
        };
        Self {
            storage: storage.to_owned(),
            shape,
            dtype,
            n_stored,
            density: if all > 0.0 {
                n_stored as f64 / all
            } else {
                0.0
            },
            memory_bytes,
            filters: Vec::new(),
        }
    }
}

/// What is known of `obs` or `var`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct TableInfo {
    /// Number of rows.
    pub n_rows: usize,
    /// The first row names.
    pub index: Vec<String>,
    /// The columns in order.
    pub columns: Vec<ColumnInfo>,
}

/// What is known of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// What it holds, in words.
    pub kind: String,
    /// How many categories there are, for categories.
    pub n_categories: Option<usize>,
    /// The first categories or values.
    pub examples: Vec<String>,
}

/// Says what a file or folder holds. Matrices are not read, except for the first values of `X`, which tell counts
/// from normalised values.
///
/// # Errors
/// Those of [`format_of`]; [`Error`] if the file is damaged.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let path = path.as_ref();
    match format_of(path)? {
        Format::H5ad => h5::inspect(path),
        Format::H5mu => h5::inspect_modalities(path),
        Format::TenxH5 => {
            let all = tenx::ReadOptions::features(tenx::Features::All);
            tenx_info(path, tenx::read_h5_with(path, &all))
        }
        Format::MtxDir => mtx_info(path),
        Format::Loom => loom_info(path),
        Format::Csv => csv_info(path),
    }
}

fn empty(path: &Path, format: Format, encoding: &str) -> Inspection {
    Inspection {
        path: path.to_owned(),
        format,
        encoding: encoding.to_owned(),
        file_bytes: std::fs::metadata(Place::of(path).file).map_or(0, |m| m.len()),
        n_obs: 0,
        n_vars: 0,
        x: None,
        layers: IndexMap::new(),
        raw: None,
        obs: TableInfo::default(),
        var: TableInfo::default(),
        obsm: IndexMap::new(),
        varm: IndexMap::new(),
        obsp: IndexMap::new(),
        varp: IndexMap::new(),
        uns: Vec::new(),
        notes: Vec::new(),
        modalities: IndexMap::new(),
        n_paired: None,
    }
}

/// Cell Ranger's files are small enough to be read.
fn tenx_info(path: &Path, data: Result<sc_data::AnnData>) -> Result<Inspection> {
    let mut found = empty(path, Format::TenxH5, "Cell Ranger");
    let data = match data {
        Ok(data) => data,
        Err(Error::Content { found: what, .. }) if what.starts_with("the genomes") => {
            found.encoding = "Cell Ranger 2".into();
            found.notes.push(format!("{what}: choose one to read it"));
            return Ok(found);
        }
        Err(e) => return Err(e),
    };
    if let Some(Matrix::Sparse(x)) = &data.x {
        let shape = (x.n_rows(), x.n_cols());
        found.x = Some(MatrixInfo::new("csr", shape, "int32".into(), x.n_stored()));
    }
    (found.n_obs, found.n_vars) = (data.n_obs(), data.n_vars());
    found.obs = table_info(&data.obs);
    found.var = table_info(&data.var);
    note_duplicates(&mut found.notes, "var", data.var.index());
    Ok(found)
}

fn mtx_info(path: &Path) -> Result<Inspection> {
    let prefixes = mtx::prefixes(path)?;
    let mut found = empty(path, Format::MtxDir, "MatrixMarket coordinate");
    let Some(prefix) = prefixes.first() else {
        return Ok(found);
    };
    if prefixes.len() > 1 {
        let all = prefixes.join(", ");
        found.notes.push(format!(
            "several matrices, with the prefixes {all}; this is the first"
        ));
    }
    let (genes, cells, entries, field) = mtx::header(path, prefix)?;
    (found.n_obs, found.n_vars) = (cells, genes);
    found.x = Some(MatrixInfo::new("csr", (cells, genes), field, entries));
    match mtx::names(path, prefix) {
        Ok((obs, var)) => {
            for (table, n) in [(&obs, cells), (&var, genes)] {
                if table.n_rows() != n {
                    found.notes.push(format!(
                        "{} names for {n} rows or columns of the matrix",
                        table.n_rows()
                    ));
                }
            }
            note_duplicates(&mut found.notes, "var", var.index());
            found.obs = table_info(&obs);
            found.var = table_info(&var);
        }
        Err(e) => found.notes.push(e.to_string()),
    }
    Ok(found)
}

fn loom_info(path: &Path) -> Result<Inspection> {
    let h5 = H5::open(path)?;
    let data = loom::annotations(&h5)?;
    let mut found = empty(
        path,
        Format::Loom,
        "features x cells, read as cells x features",
    );
    if let Some(version) = data.uns.get("LOOM_SPEC_VERSION") {
        found.encoding = match version {
            Uns::Str(v) => format!("version {v}"),
            other => format!("version {other:?}"),
        };
    }
    (found.n_obs, found.n_vars) = (data.n_obs(), data.n_vars());
    found.x = h5.turned_info(&h5.file, "matrix", &mut found.notes)?;
    if let Some(Node::Group(layers)) = h5.member(&h5.file, "layers")? {
        for name in h5.names(&layers)? {
            if let Some(info) = h5.turned_info(&layers, &name, &mut found.notes)? {
                found.layers.insert(name, info);
            }
        }
    }
    found.obs = table_info(&data.obs);
    found.var = table_info(&data.var);
    found.obsm = data.obsm.iter().map(several).collect();
    found.varm = data.varm.iter().map(several).collect();
    found.obsp = data.obsp.iter().map(graph).collect();
    found.varp = data.varp.iter().map(graph).collect();
    found.uns = data.uns.keys().cloned().collect();
    note_duplicates(&mut found.notes, "obs", data.obs.index());
    note_duplicates(&mut found.notes, "var", data.var.index());
    Ok(found)
}

fn several((name, values): (&String, &Annotation)) -> (String, String) {
    let width = match values {
        Annotation::Matrix(m) => m.n_cols(),
        Annotation::Table(t) => t.columns().len(),
        _ => 0,
    };
    (name.clone(), format!("{} x {width}", values.n_rows()))
}

fn graph((name, edges): (&String, &Matrix)) -> (String, String) {
    let n = edges.n_rows();
    (name.clone(), format!("{n} x {n}"))
}

/// A table of text has to be read to say anything.
fn csv_info(path: &Path) -> Result<Inspection> {
    let data = csv::read(path)?;
    let mut found = empty(path, Format::Csv, "rows are taken for cells");
    (found.n_obs, found.n_vars) = (data.n_obs(), data.n_vars());
    if let Some(Matrix::Sparse(x)) = &data.x {
        let shape = (x.n_rows(), x.n_cols());
        found.x = Some(MatrixInfo::new("csr", shape, "text".into(), x.n_stored()));
    }
    found.obs = table_info(&data.obs);
    found.var = table_info(&data.var);
    note_duplicates(&mut found.notes, "obs", data.obs.index());
    note_duplicates(&mut found.notes, "var", data.var.index());
    Ok(found)
}

fn note_duplicates(notes: &mut Vec<String>, what: &str, names: &[String]) {
    let twice = crate::names::duplicates(names);
    if let Some((name, n)) = twice.first() {
        notes.push(format!(
            "{} names of {what} occur more than once, e.g. \"{name}\" {n} times",
            twice.len()
        ));
    }
}

fn table_info(table: &Table) -> TableInfo {
    TableInfo {
        n_rows: table.n_rows(),
        index: table.index().iter().take(EXAMPLES).cloned().collect(),
        columns: table
            .columns()
            .map(|(name, column)| column_info(name, column))
            .collect(),
    }
}

fn column_info(name: &str, column: &Column) -> ColumnInfo {
    fn shown<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().take(EXAMPLES).map(T::to_string).collect()
    }
    fn optional<T: ToString>(values: &[Option<T>]) -> Vec<String> {
        let text = |v: &Option<T>| v.as_ref().map_or("NA".into(), T::to_string);
        values.iter().take(EXAMPLES).map(text).collect()
    }
    let mut n_categories = None;
    let examples = match column {
        Column::Bool(v) => shown(v),
        Column::Int32(v) => shown(v),
        Column::Int(v) => shown(v),
        Column::Float32(v) => shown(v),
        Column::Float(v) => shown(v),
        Column::Str(v) => shown(v),
        Column::OptBool(v) => optional(v),
        Column::OptInt(v) => optional(v),
        Column::OptStr(v) => optional(v),
        Column::Categorical(c) => {
            n_categories = Some(c.categories().len());
            c.categories().iter().take(CATEGORIES).cloned().collect()
        }
        _ => Vec::new(),
    };
    ColumnInfo {
        name: name.to_owned(),
        kind: column.type_name().to_owned(),
        n_categories,
        examples,
    }
}
