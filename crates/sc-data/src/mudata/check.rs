//! Whether the parts of a [`MuData`] fit together.

use indexmap::IndexMap;

use super::join::{OBS, Side, VAR, inverse};
use super::{MuData, Places};
use crate::{Annotation, Error, Matrix, Result};

impl MuData {
    /// Whether modalities, joint tables and maps fit together.
    ///
    /// # Errors
    /// [`Error::InvalidName`] if a modality's name is empty, has a slash, or is that of an entry of `obsm` or `varm`;
    /// [`Error::InvalidMap`] if a map does not name every row of its modality once; [`Error::NotFound`] if a map is of no
    /// modality; [`Error::LengthMismatch`] names the first part that is too long or too short.
    pub fn check(&self) -> Result<()> {
        for (name, data) in &self.modalities {
            good_name(name)?;
            data.check().map_err(|e| in_modality(name, e))?;
        }
        self.check_side(OBS, self.n_obs(), &self.obsmap)?;
        self.check_side(VAR, self.n_vars(), &self.varmap)?;
        self.check_rows("obsm", &self.obsm, self.n_obs())?;
        self.check_rows("varm", &self.varm, self.n_vars())?;
        check_square("obsp", &self.obsp, self.n_obs())?;
        check_square("varp", &self.varp, self.n_vars())
    }

    fn check_side(&self, side: Side, joint: usize, maps: &IndexMap<String, Places>) -> Result<()> {
        for name in maps.keys() {
            self.modality(name)?;
        }
        for (name, data) in &self.modalities {
            let wrong = |reason: String| Error::InvalidMap {
                map: side.map,
                modality: name.clone(),
                reason,
            };
            let map = maps
                .get(name)
                .ok_or_else(|| wrong("is missing; MuData::map_by_names finds it".into()))?;
            same(|| format!("{}/{name}", side.map), map.len(), joint)?;
            inverse(map, side.names(data).len()).map_err(wrong)?;
        }
        Ok(())
    }

    fn check_rows(
        &self,
        what: &str,
        all: &IndexMap<String, Annotation>,
        rows: usize,
    ) -> Result<()> {
        for (key, annotation) in all {
            if self.modalities.contains_key(key) {
                return Err(Error::InvalidName {
                    kind: "annotation",
                    name: key.clone(),
                    reason: "is that of a modality; files say under it which cells have the modality",
                });
            }
            same(
                || format!("rows of {what}/{key}"),
                annotation.n_rows(),
                rows,
            )?;
        }
        Ok(())
    }
}

fn check_square(what: &str, all: &IndexMap<String, Matrix>, n: usize) -> Result<()> {
    for (key, matrix) in all {
        same(|| format!("rows of {what}/{key}"), matrix.n_rows(), n)?;
        same(|| format!("columns of {what}/{key}"), matrix.n_cols(), n)?;
    }
    Ok(())
}

/// A modality is a folder inside a file.
fn good_name(name: &str) -> Result<()> {
    let reason = match name {
        "" => "is empty",
        "." => "means the folder itself",
        n if n.contains('/') => "has a slash, which separates levels in files",
        n if n.contains('\0') => "has a NUL byte",
        _ => return Ok(()),
    };
    Err(Error::InvalidName {
        kind: "modality",
        name: name.to_owned(),
        reason,
    })
}

fn in_modality(name: &str, error: Error) -> Error {
    match error {
        Error::LengthMismatch {
            what,
            found,
            expected,
        } => Error::LengthMismatch {
            what: format!("modality \"{name}\": {what}"),
            found,
            expected,
        },
        other => other,
    }
}

fn same(what: impl FnOnce() -> String, found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::LengthMismatch {
            what: what(),
            found,
            expected,
        }),
    }
}
