//! Several modalities of the same and of other cells.

mod check;
mod join;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;

use crate::table::names_or_nothing;
use crate::{AnnData, Annotation, Error, Matrix, Result, Table, Uns};

/// What the modalities of a [`MuData`] have in common: the attribute `axis` of a `.h5mu` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Shared {
    /// Cells (`axis` 0): RNA and proteins of the same cells. Cells of the same name are one cell, features are kept apart.
    #[default]
    Cells,
    /// Features (`axis` 1): several data sets of the same genes. Features of the same name are one, cells are kept apart.
    Features,
    /// Both (`axis` -1): the same matrix before and after some step.
    Both,
}

impl Shared {
    /// The number that stands for it in files.
    pub fn axis(self) -> i64 {
        match self {
            Self::Cells => 0,
            Self::Features => 1,
            Self::Both => -1,
        }
    }

    /// What a number in a file stands for.
    pub fn from_axis(axis: i64) -> Option<Self> {
        match axis {
            0 => Some(Self::Cells),
            1 => Some(Self::Features),
            -1 => Some(Self::Both),
            _ => None,
        }
    }

    /// Whether cells of the same name are one cell.
    pub fn cells(self) -> bool {
        self != Self::Features
    }

    /// Whether features of the same name are one feature.
    pub fn features(self) -> bool {
        self != Self::Cells
    }
}

/// Where each joint cell (or feature) lies in a modality; `None` if the modality lacks it. Every cell of the modality is
/// there once.
pub type Places = Vec<Option<usize>>;

/// Several modalities, each an [`AnnData`] of its own, and what is known of the cells and features of all of them together:
/// the `MuData` of muon, the contents of an `.h5mu` file.
///
/// Not every cell need be in every modality: `obsmap` says which row of a modality a joint cell is. The fields are public;
/// [`MuData::check`] says whether they fit together, and every reader and writer calls it.
///
/// ```
/// use indexmap::IndexMap;
/// use sc_data::{AnnData, MuData, Table};
///
/// let names = |names: &[&str]| Table::new(names.iter().map(|n| n.to_string()).collect());
/// let x = ndarray::array![[1.0f32, 2.0], [3.0, 4.0]];
/// let rna = AnnData::new(x.clone(), names(&["c1", "c2"]), names(&["CD3E", "CD19"]))?;
/// let adt = AnnData::new(x, names(&["c2", "c3"]), names(&["CD3", "CD19"]))?;
/// let cells = MuData::new(IndexMap::from([("rna".to_owned(), rna), ("adt".to_owned(), adt)]))?;
///
/// assert_eq!(cells.obs.index(), ["c1", "c2", "c3"]);
/// assert_eq!(cells.obsmap["adt"], [None, Some(0), Some(1)]);
/// assert_eq!(cells.paired(&["rna", "adt"])?, [1]);
/// assert_eq!(cells.n_vars(), 4);
/// # Ok::<(), sc_data::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MuData {
    /// The modalities in order.
    pub modalities: IndexMap<String, AnnData>,
    /// What they have in common.
    pub shared: Shared,
    /// One row a joint cell.
    pub obs: Table,
    /// One row a joint feature.
    pub var: Table,
    /// Joint cells x anything, e.g. a joint embedding. Which modalities a cell has is not among it, as in Python, but in
    /// `obsmap`; the names of the modalities are reserved.
    pub obsm: IndexMap<String, Annotation>,
    /// Joint features x anything.
    pub varm: IndexMap<String, Annotation>,
    /// Joint cells x joint cells.
    pub obsp: IndexMap<String, Matrix>,
    /// Joint features x joint features.
    pub varp: IndexMap<String, Matrix>,
    /// Anything else.
    pub uns: IndexMap<String, Uns>,
    /// By modality: the row of each joint cell in it.
    pub obsmap: IndexMap<String, Places>,
    /// By modality: the column of each joint feature in it.
    pub varmap: IndexMap<String, Places>,
}

impl MuData {
    /// Modalities that share cells. The joint cells are those of the first modality, then those of the second that the first
    /// lacks, and so on; the joint features are those of the first modality, then those of the second, and so on.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if a modality has two cells of one name, [`Error::InvalidName`] if a modality's name is empty or
    /// has a slash, [`Error::LengthMismatch`] if the parts of a modality don't fit together.
    pub fn new(modalities: IndexMap<String, AnnData>) -> Result<Self> {
        Self::with_shared(modalities, Shared::Cells)
    }

    /// Modalities that share cells, features or both. What is shared is joined by name, in order of appearance; what is not
    /// is put one behind the other.
    ///
    /// # Errors
    /// As [`MuData::new`]; of what is shared names must be unique within a modality.
    pub fn with_shared(modalities: IndexMap<String, AnnData>, shared: Shared) -> Result<Self> {
        let (obs, obsmap) = join::join(&modalities, join::OBS, shared.cells())?;
        let (var, varmap) = join::join(&modalities, join::VAR, shared.features())?;
        let data = Self {
            modalities,
            shared,
            obs: Table::new(obs),
            var: Table::new(var),
            obsmap,
            varmap,
            ..Self::default()
        };
        data.check()?;
        Ok(data)
    }

    /// Number of joint cells.
    pub fn n_obs(&self) -> usize {
        self.obs.n_rows()
    }

    /// Number of joint features.
    pub fn n_vars(&self) -> usize {
        self.var.n_rows()
    }

    /// The modality called `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], which lists the modalities there are.
    pub fn modality(&self, name: &str) -> Result<&AnnData> {
        self.named(&self.modalities, name)
    }

    /// The row of each joint cell in a modality, `None` where it has none.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn rows_in(&self, modality: &str) -> Result<&[Option<usize>]> {
        self.named(&self.obsmap, modality).map(Vec::as_slice)
    }

    /// The joint cell of each row of a modality: the other way round than [`MuData::rows_in`]. With it a joint column is
    /// brought to the modality: `mdata.obs.column("obs", "batch")?.select(&mdata.cells_of("rna")?)`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality, [`Error::InvalidMap`] if its cells are not all among the joint ones.
    pub fn cells_of(&self, modality: &str) -> Result<Vec<usize>> {
        let n = self.modality(modality)?.n_obs();
        join::inverse(self.rows_in(modality)?, n).map_err(|reason| Error::InvalidMap {
            map: "obsmap",
            modality: modality.to_owned(),
            reason,
        })
    }

    /// The joint cells that have all of some modalities, in order.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn paired(&self, modalities: &[&str]) -> Result<Vec<usize>> {
        let maps = modalities
            .iter()
            .map(|m| self.rows_in(m))
            .collect::<Result<Vec<_>>>()?;
        let has_all = |cell: &usize| {
            maps.iter()
                .all(|m| m.get(*cell).copied().flatten().is_some())
        };
        Ok((0..self.n_obs()).filter(has_all).collect())
    }

    /// The rows of the cells that have all of some modalities: one list a modality, the same cell at the same place of each.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn paired_rows(&self, modalities: &[&str]) -> Result<Vec<Vec<usize>>> {
        let cells = self.paired(modalities)?;
        modalities
            .iter()
            .map(|m| {
                let rows = self.rows_in(m)?;
                Ok(cells
                    .iter()
                    .filter_map(|&c| rows.get(c).copied().flatten())
                    .collect())
            })
            .collect()
    }

    /// The joint cells in the order given, and of each modality those of its cells that are among them, in that order. `obsp`
    /// is left out, as in [`AnnData::select_obs`]. A modality may be left without cells.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a cell does not exist.
    pub fn select_obs(&self, cells: &[usize]) -> Result<Self> {
        let obs = self.obs.select_rows(cells)?;
        let mut modalities = IndexMap::with_capacity(self.modalities.len());
        let mut obsmap = IndexMap::with_capacity(self.modalities.len());
        for (name, data) in &self.modalities {
            let places = self.rows_in(name)?;
            let own = cells.iter().map(|&c| places.get(c).copied().flatten());
            let mut rows = Vec::new();
            let mut map = Vec::with_capacity(cells.len());
            for row in own {
                map.push(row.map(|_| rows.len()));
                rows.extend(row);
            }
            modalities.insert(name.clone(), data.select_obs(&rows)?);
            obsmap.insert(name.clone(), map);
        }
        let obsm = self.obsm.iter();
        let obsm = obsm.map(|(k, a)| Ok((k.clone(), a.select_rows(cells)?)));
        Ok(Self {
            modalities,
            shared: self.shared,
            obs,
            var: self.var.clone(),
            obsm: obsm.collect::<Result<_>>()?,
            varm: self.varm.clone(),
            obsp: IndexMap::new(),
            varp: self.varp.clone(),
            uns: self.uns.clone(),
            obsmap,
            varmap: self.varmap.clone(),
        })
    }

    /// Finds `obsmap` and `varmap` anew, by the names of the cells and features, after those of a modality were reordered or
    /// exchanged. The joint tables stay as they are.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a modality has a cell or feature that the joint table lacks, [`Error::Duplicate`] if names do not
    /// say which is which.
    pub fn map_by_names(&mut self) -> Result<()> {
        let (cells, features) = (self.shared.cells(), self.shared.features());
        self.obsmap = join::maps(self.obs.index(), &self.modalities, join::OBS, cells)?;
        self.varmap = join::maps(self.var.index(), &self.modalities, join::VAR, features)?;
        Ok(())
    }

    fn named<'a, T>(&self, all: &'a IndexMap<String, T>, name: &str) -> Result<&'a T> {
        all.get(name).ok_or_else(|| Error::NotFound {
            container: "the data".into(),
            kind: "modality",
            name: name.to_owned(),
            available: names_or_nothing(self.modalities.keys()),
        })
    }
}
