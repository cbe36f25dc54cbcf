use std::path::Path;

use hdf5::Group;
use indexmap::IndexMap;
use sc_data::{AnnData, Annotation, Matrix, Uns};

use super::write_parts::Out;
use crate::hdf::H5;
use crate::{Error, Result, atomic};

/// How numbers are packed in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: the fastest to write and to read.
    #[default]
    None,
    /// Shuffle and gzip of a level from 0 to 9, which every HDF5 library reads. Counts shrink to a fifth or less.
    Gzip(u8),
}

/// Options of [`write()`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// How numbers are packed.
    pub compression: Compression,
}

impl WriteOptions {
    /// Shuffle and gzip of a level from 0 (none) to 9 (smallest); 4 is a good choice.
    pub fn gzip(level: u8) -> Self {
        Self {
            compression: Compression::Gzip(level.min(9)),
        }
    }
}

/// Writes an `.h5ad` file as anndata 0.12 does. The file appears whole or, if anything fails, an older one stays.
///
/// # Errors
/// [`Error::Data`] if the parts do not fit together, [`Error::Content`] if a name cannot be written (it is empty or
/// contains a slash), [`Error::Io`] or [`Error::Hdf5`] if the file system refuses.
pub fn write(path: impl AsRef<Path>, data: &AnnData, options: &WriteOptions) -> Result<()> {
    let path = path.as_ref();
    data.check().map_err(Error::data(path, "/"))?;
    hdf5::silence_errors(true);
    atomic::write_by_name(path, |temporary| {
        let file = H5::create(temporary, 0).map_err(Error::hdf5(path, "/"))?;
        let out = Out::new(path, options.compression);
        let written = out.anndata(&file, data);
        // Flushing says what closing in the destructor would hide: a full disk.
        let flushed = file.flush().map_err(Error::hdf5(path, "/"));
        let closed = file.close().map_err(Error::hdf5(path, "/"));
        written.and(flushed).and(closed)
    })
}

impl Out<'_> {
    /// Everything but `X`, the layers and `raw`.
    pub(super) fn annotated(&self, root: &Group, data: &AnnData) -> Result<()> {
        self.table(root, "obs", &data.obs)?;
        self.table(root, "var", &data.var)?;
        self.dict(root, "uns", &data.uns)?;
        self.annotations(root, "obsm", &data.obsm)?;
        self.annotations(root, "varm", &data.varm)?;
        self.matrices(root, "obsp", &data.obsp)?;
        self.matrices(root, "varp", &data.varp)
    }

    pub(crate) fn anndata(&self, root: &Group, data: &AnnData) -> Result<()> {
        self.encode(root, "anndata", "0.1.0")?;
        self.annotated(root, data)?;
        self.matrices(root, "layers", &data.layers)?;
        if let Some(x) = &data.x {
            self.matrix(root, "X", x)?;
        }
        if let Some(raw) = &data.raw {
            let group = self.group(root, "raw", "raw", "0.1.0")?;
            self.matrix(&group, "X", &raw.x)?;
            self.table(&group, "var", &raw.var)?;
            self.annotations(&group, "varm", &raw.varm)?;
        }
        Ok(())
    }

    pub(crate) fn annotations(
        &self,
        parent: &Group,
        name: &str,
        all: &IndexMap<String, Annotation>,
    ) -> Result<()> {
        let group = self.group(parent, name, "dict", "0.1.0")?;
        for (key, annotation) in all {
            match annotation {
                Annotation::Matrix(m) => self.matrix(&group, key, m)?,
                Annotation::Table(t) => self.table(&group, key, t)?,
                _ => return Err(self.unknown(&group, key)),
            }
        }
        Ok(())
    }

    pub(crate) fn matrices(
        &self,
        parent: &Group,
        name: &str,
        all: &IndexMap<String, Matrix>,
    ) -> Result<()> {
        let group = self.group(parent, name, "dict", "0.1.0")?;
        all.iter()
            .try_for_each(|(key, m)| self.matrix(&group, key, m))
    }

    pub(crate) fn dict(
        &self,
        parent: &Group,
        name: &str,
        dict: &IndexMap<String, Uns>,
    ) -> Result<()> {
        let group = self.group(parent, name, "dict", "0.1.0")?;
        for (key, value) in dict {
            self.uns(&group, key, value)?;
        }
        Ok(())
    }

    fn uns(&self, g: &Group, key: &str, value: &Uns) -> Result<()> {
        const SCALAR: (&str, &str) = ("numeric-scalar", "0.2.0");
        const ARRAY: (&str, &str) = ("array", "0.2.0");
        match value {
            Uns::Null => self.null(g, key),
            Uns::Bool(v) => self.scalar(g, key, v, SCALAR),
            Uns::Int(v) => self.scalar(g, key, v, SCALAR),
            Uns::Float(v) => self.scalar(g, key, v, SCALAR),
            Uns::Str(v) => self.scalar(g, key, &self.varlen(g, v)?, ("string", "0.2.0")),
            Uns::Ints(v) => self.array(g, key, v.view(), Some(ARRAY)),
            Uns::Floats(v) => self.array(g, key, v.view(), Some(ARRAY)),
            Uns::Floats32(v) => self.array(g, key, v.view(), Some(ARRAY)),
            Uns::Bools(v) => self.array(g, key, v.view(), Some(ARRAY)),
            Uns::Strings(v) => {
                let texts: Vec<String> = v.iter().cloned().collect();
                self.strings(g, key, v.shape(), &texts)
            }
            Uns::Sparse(m) => self.sparse(g, key, m),
            // Clusters called "CD4/CD8" are fields of a record array, which read as a table.
            Uns::Table(t) if t.columns().any(|(name, _)| name.contains('/')) => {
                tracing::warn!(file = %self.path.display(), "{}/{key} has columns with a slash in their names, which the format cannot hold; it is left out", g.name());
                Ok(())
            }
            Uns::Table(t) => self.table(g, key, t),
            Uns::Dict(d) => {
                self.check_name(g, key)?;
                self.dict(g, key, d)
            }
            _ => Err(self.unknown(g, key)),
        }
    }
}
