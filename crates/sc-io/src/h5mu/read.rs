use std::path::Path;

use hdf5::Group;
use indexmap::IndexMap;
use sc_data::{MuData, Places, Shared};

use crate::hdf::{H5, Node, child};
use crate::{Error, Result};

/// Reads a whole `.h5mu` file. See the [module](crate::h5mu) for what is read and what is not.
///
/// # Errors
/// [`Error`] if the file is missing, damaged or of another kind; it names the place in the file.
pub fn read(path: impl AsRef<Path>) -> Result<MuData> {
    read_parts(path.as_ref(), true)
}

/// Reads everything but the matrices of expression: `X`, `layers` and `raw` of the modalities stay on the disk. Their rows
/// are read with [`h5ad::read_backed`](crate::h5ad::read_backed).
///
/// # Errors
/// As [`read`].
pub fn read_annotations(path: impl AsRef<Path>) -> Result<MuData> {
    read_parts(path.as_ref(), false)
}

fn read_parts(path: &Path, matrices: bool) -> Result<MuData> {
    let h5 = H5::open(path)?;
    is_mudata(&h5)?;
    let root: &Group = &h5.root;
    let mut data = MuData::default();
    for name in h5.modality_names()? {
        let modality = h5.anndata(&h5.modality(&name)?, matrices)?;
        data.modalities.insert(name, modality);
    }
    data.shared = h5.shared()?;
    data.obs = h5.table(&h5.require(root, "obs")?, None)?;
    data.var = h5.table(&h5.require(root, "var")?, None)?;
    let (n, g) = (data.n_obs(), data.n_vars());
    if let Some(Node::Group(uns)) = h5.member(root, "uns")? {
        data.uns = h5.dict(&uns, 0)?;
    }
    data.obsm = h5.annotations(root, "obsm", n)?;
    data.varm = h5.annotations(root, "varm", g)?;
    // Under the name of a modality: which cells and features it has. The maps say that, too.
    for name in data.modalities.keys() {
        data.obsm.shift_remove(name);
        data.varm.shift_remove(name);
    }
    data.obsp = h5.matrices(root, "obsp", (n, n))?;
    data.varp = h5.matrices(root, "varp", (g, g))?;
    let names: Vec<String> = data.modalities.keys().cloned().collect();
    data.obsmap = h5.maps("obsmap", &names)?;
    data.varmap = h5.maps("varmap", &names)?;
    settle_maps(&h5, &mut data)?;
    Ok(data)
}

/// Maps that are not there, or are those of cells that the modality had once, are found by name.
fn settle_maps(h5: &H5, data: &mut MuData) -> Result<()> {
    let problem = match data.check() {
        Ok(()) if names_agree(data) => return Ok(()),
        Ok(()) => None,
        Err(e) => Some(e),
    };
    let n = data.modalities.len();
    let complete = data.obsmap.len() == n && data.varmap.len() == n;
    let stored = (data.obsmap.clone(), data.varmap.clone());
    match (data.map_by_names().and_then(|()| data.check()), problem) {
        (Ok(()), _) => {
            if complete {
                tracing::warn!(
                    file = %h5.path.display(),
                    "obsmap or varmap does not fit the names of the modalities, as when one was exchanged; the names are believed"
                );
            }
            Ok(())
        }
        // Names that do not say which is which leave the maps that are stored.
        (Err(_), None) => {
            (data.obsmap, data.varmap) = stored;
            Ok(())
        }
        (Err(_), Some(problem)) if complete => Err(h5.data("/")(problem)),
        (Err(e), Some(_)) => Err(h5.data("/")(e)),
    }
}

/// Whether joint cells and features are called as in their modalities.
fn names_agree(data: &MuData) -> bool {
    data.modalities.iter().all(|(name, modality)| {
        [
            (
                data.obsmap.get(name),
                data.obs.index(),
                modality.obs.index(),
            ),
            (
                data.varmap.get(name),
                data.var.index(),
                modality.var.index(),
            ),
        ]
        .into_iter()
        .all(|(map, joint, own)| {
            let places = map.into_iter().flatten().zip(joint);
            places
                .filter_map(|(row, name)| Some(own.get((*row)?) == Some(name)))
                .all(|same| same)
        })
    })
}

/// Whether the file is MuData's; if not, the error says what it looks like.
pub(crate) fn is_mudata(h5: &H5) -> Result<()> {
    if h5.root.link_exists("mod") {
        return Ok(());
    }
    let (found, hint) = if h5.root.link_exists("obs") {
        (
            "AnnData, which has no modalities",
            "read it with h5ad::read, or put several into an .h5mu file (sc convert)",
        )
    } else {
        (
            "an HDF5 file without a group \"mod\"",
            "an .h5mu file has its modalities there",
        )
    };
    Err(Error::Unsupported {
        path: h5.path.clone(),
        found: found.into(),
        hint: hint.into(),
    })
}

impl H5 {
    fn modalities(&self) -> Result<Group> {
        match self.require(&self.file, "mod")? {
            Node::Group(group) => Ok(group),
            Node::Dataset(_) => Err(self.wrong("/mod", "a dataset", "a group of modalities")),
        }
    }

    /// The modalities: first those that `mod-order` names, then any others.
    pub(crate) fn modality_names(&self) -> Result<Vec<String>> {
        let group = self.modalities()?;
        let there = self.names(&group)?;
        let order = self.attr_strings(&group, "mod-order")?.unwrap_or_default();
        let mut names: Vec<String> = Vec::with_capacity(there.len());
        for name in order {
            match there.contains(&name) {
                true if !names.contains(&name) => names.push(name),
                true => {}
                false => {
                    tracing::warn!(file = %self.path.display(), "/mod: mod-order names \"{name}\", which is not there");
                }
            }
        }
        for name in there {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The group of a modality.
    pub(crate) fn modality(&self, name: &str) -> Result<Group> {
        let all = self.modalities()?;
        let at = child("/mod", name);
        match self.member(&all, name)? {
            Some(Node::Group(group)) if group.link_exists("mod") => Err(self.wrong(
                &at,
                "modalities inside a modality",
                "AnnData; take them out with mudata for Python",
            )),
            Some(Node::Group(group)) => Ok(group),
            Some(Node::Dataset(_)) => Err(self.wrong(&at, "a dataset", "a group with obs and var")),
            None => Err(self.wrong(
                "/mod",
                format!("no \"{name}\" (only: {})", self.names(&all)?.join(", ")),
                "the name of a modality",
            )),
        }
    }

    fn shared(&self) -> Result<Shared> {
        let axis = self.attr_ints(&self.file, "axis")?.unwrap_or_default();
        match axis[..] {
            [] => Ok(Shared::Cells),
            [axis] => Shared::from_axis(axis)
                .ok_or_else(|| self.wrong("/", format!("the axis {axis}"), "0, 1 or -1")),
            _ => Err(self.wrong("/", format!("the axis {axis:?}"), "0, 1 or -1")),
        }
    }

    /// Cells that all modalities have, if they share cells and maps say which.
    pub(crate) fn n_paired(&self, modalities: &[String]) -> Result<Option<usize>> {
        let maps = self.maps("obsmap", modalities)?;
        if !self.shared()?.cells() || maps.len() < modalities.len() {
            return Ok(None);
        }
        let n = maps.values().map(Vec::len).min().unwrap_or(0);
        let has_all = |cell: &usize| {
            maps.values()
                .all(|m| m.get(*cell).is_some_and(Option::is_some))
        };
        Ok(Some((0..n).filter(has_all).count()))
    }

    /// `obsmap` or `varmap`, of the modalities that are in it.
    fn maps(&self, name: &str, modalities: &[String]) -> Result<IndexMap<String, Places>> {
        let group = match self.member(&self.file, name)? {
            Some(Node::Group(group)) => group,
            Some(Node::Dataset(_)) => {
                return Err(self.wrong(&child("/", name), "a dataset", "a map for each modality"));
            }
            None => return Ok(IndexMap::new()),
        };
        let mut maps = IndexMap::new();
        for modality in modalities {
            if group.link_exists(modality) {
                let map = self.dataset(&group, modality)?;
                maps.insert(modality.clone(), self.places(&map)?);
            }
        }
        Ok(maps)
    }

    /// Rows counted from 1, 0 for none.
    fn places(&self, map: &hdf5::Dataset) -> Result<Places> {
        let at = map.name();
        match self.shape(map)?[..] {
            [_] | [_, 1] => {}
            ref other => {
                return Err(self.wrong(&at, format!("the shape {other:?}"), "one number a row"));
            }
        }
        let rows = self.i64s(map)?.into_iter().map(|row| match row {
            0 => Ok(None),
            // Beyond the machine's numbers: refused later as out of range.
            1.. => Ok(Some(usize::try_from(row - 1).unwrap_or(usize::MAX))),
            _ => Err(self.wrong(&at, format!("row {row}"), "rows from 1, and 0 for none")),
        });
        rows.collect()
    }
}
