//! What anndata < 0.7 wrote otherwise: tables as records, categories in `uns`, neighbours in `uns`.

use hdf5::{Dataset, Group};
use indexmap::IndexMap;
use sc_data::{AnnData, Annotation, Categorical, Column, Matrix, Table, Uns};

use crate::Result;
use crate::hdf::H5;
use crate::hdf::Node;
use crate::hdf::records::Field;

impl H5 {
    /// Records as a table. A first field called "index" is the index; without one the rows are numbered.
    pub(crate) fn records_as_table(&self, of: &Dataset) -> Result<Table> {
        let at = of.name();
        let n = self.length_1d(of)?;
        let mut fields = self.records(of)?.into_iter().peekable();
        let named = fields.next_if(|(name, field)| {
            matches!(name.as_str(), "index" | "_index") && matches!(field, Field::Column(_))
        });
        let index = match named {
            Some((_, Field::Column(Column::Str(names)))) => names,
            Some((_, Field::Column(Column::Int(ids)))) => ids.iter().map(i64::to_string).collect(),
            Some((_, Field::Column(Column::Int32(ids)))) => {
                ids.iter().map(i32::to_string).collect()
            }
            Some(_) => return Err(self.wrong(&at, "an index of numbers", "row names")),
            None => (0..n).map(|i| i.to_string()).collect(),
        };
        let mut table = Table::new(index);
        for (name, field) in fields {
            match field {
                Field::Column(column) => {
                    table.insert(name, column).map_err(self.data(&at))?;
                }
                Field::Matrix(_) => {
                    tracing::warn!(file = %self.path.display(), "{at}: the field \"{name}\" holds several numbers a row and is left out");
                }
            }
        }
        Ok(table)
    }

    /// `obsm` and `varm` as records of arrays.
    pub(crate) fn records_as_matrices(&self, of: &Dataset) -> Result<IndexMap<String, Annotation>> {
        let mut all = IndexMap::new();
        for (name, field) in self.records(of)? {
            match field {
                Field::Matrix(m) => {
                    all.insert(name, Annotation::Matrix(m));
                }
                Field::Column(column) => match column.to_f64(&name) {
                    Ok(values) => {
                        let m = ndarray::Array1::from(values).insert_axis(ndarray::Axis(1));
                        all.insert(name, Annotation::Matrix(Matrix::Dense64(m)));
                    }
                    Err(e) => {
                        tracing::warn!(file = %self.path.display(), "{}: {e}; it is left out", of.name());
                    }
                },
            }
        }
        Ok(all)
    }

    /// Moves what old files keep elsewhere to where it is today.
    pub(crate) fn upgrade(&self, root: &Group, data: &mut AnnData) -> Result<()> {
        let old = matches!(self.member(root, "obs")?, Some(Node::Dataset(_)));
        if !old {
            return Ok(());
        }
        let AnnData {
            obs,
            var,
            raw,
            uns,
            obsp,
            ..
        } = data;
        let mut used = Vec::new();
        let raw = raw.as_mut().map(|r| &mut r.var);
        for table in [obs, var].into_iter().chain(raw) {
            used.extend(restore_categories(table, uns));
        }
        for key in used {
            uns.shift_remove(&key);
        }
        let n = data.obs.n_rows();
        if let Some(Uns::Dict(neighbors)) = uns.get_mut("neighbors") {
            for key in ["distances", "connectivities"] {
                match neighbors.shift_remove(key) {
                    Some(Uns::Sparse(m)) if (m.n_rows(), m.n_cols()) == (n, n) => {
                        obsp.insert(key.to_owned(), Matrix::Sparse(m));
                    }
                    Some(other) => {
                        neighbors.insert(key.to_owned(), other);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// Integer columns become categorical where `uns` has `<column>_categories` for all their codes. Returns the keys used.
fn restore_categories(table: &mut Table, uns: &IndexMap<String, Uns>) -> Vec<String> {
    let mut restored = Vec::new();
    for (name, column) in table.columns() {
        let key = format!("{name}_categories");
        let categories: Vec<String> = match uns.get(&key) {
            Some(Uns::Strings(c)) => c.iter().cloned().collect(),
            Some(Uns::Str(one)) => vec![one.clone()],
            Some(Uns::Ints(c)) => c.iter().map(i64::to_string).collect(),
            _ => continue,
        };
        let codes: Vec<i64> = match column {
            Column::Int(v) => v.clone(),
            Column::Int32(v) => v.iter().map(|&i| i64::from(i)).collect(),
            _ => continue,
        };
        let codes = codes.iter().map(|&c| u32::try_from(c).ok()).collect();
        if let Ok(c) = Categorical::new(codes, categories, false) {
            restored.push((name.to_owned(), key, c));
        }
    }
    restored
        .into_iter()
        .filter_map(|(name, key, c)| {
            table
                .insert(name, Column::Categorical(c))
                .ok()
                .map(|()| key)
        })
        .collect()
}
