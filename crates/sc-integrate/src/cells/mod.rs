//! Cells of several modalities, paired by name.

mod check;
mod minibatch;
mod modality;
mod order;

pub(crate) use minibatch::is_identity;
pub use minibatch::{Minibatch, Part};
pub use modality::Modality;

use indexmap::{IndexMap, IndexSet};
use ndarray::Array2;
use sc_data::{Categorical, Columns, RowSource};

use crate::registry::{ModalityInfo, Registry};
use crate::{Error, Result};

/// A cell without a label.
pub(crate) const UNLABELLED: u32 = u32::MAX;

/// Cells as [`Clue`](crate::Clue) reads them: the union of the cells of all modalities. Cells of the same name are the same
/// cell, and each may have any of the modalities.
pub struct MultiCells<'a> {
    registry: Registry,
    /// In the order of the registry; `None` for a modality that the model knows and the data lack.
    modalities: Vec<Option<Loaded<'a>>>,
    names: Vec<String>,
}

/// A modality with its codes.
struct Loaded<'a> {
    values: Box<dyn RowSource + 'a>,
    representation: Option<Array2<f32>>,
    batch: Vec<u32>,
    labels: Vec<u32>,
    /// The row of each cell of the union.
    row_of: Vec<Option<u32>>,
    /// The cell of each row.
    cell_of: Vec<usize>,
}

impl std::fmt::Debug for MultiCells<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.registry.modalities.iter().map(|m| m.name.as_str());
        f.debug_struct("MultiCells")
            .field("n_cells", &self.names.len())
            .field("modalities", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<'a> MultiCells<'a> {
    /// Cells for a new model. The order of the modalities is that of the subspaces.
    ///
    /// # Errors
    /// [`Error::NoCells`] if a modality is empty, [`Error::DuplicateCell`], [`Error::InvalidSetting`] if two modalities have
    /// the same name or a feature occurs twice, and if a batch is missing.
    pub fn new(modalities: Vec<Modality<'a>>) -> Result<Self> {
        let registry = Registry {
            batches: categories(modalities.iter().map(|m| m.batches.as_ref())),
            labels: categories(modalities.iter().map(|m| m.labels.as_ref())),
            modalities: modalities.iter().map(info).collect(),
        };
        for m in &modalities {
            unique_features(m)?;
        }
        Self::with_registry(modalities.into_iter().map(Some).collect(), registry)
    }

    /// Cells for a model that knows its modalities; those that the data lack may be left out. Features are brought into
    /// the model's order, and those it does not know are left out.
    ///
    /// # Errors
    /// As [`MultiCells::new`]; [`Error::NotFound`] if the model does not know a modality or batch, or the data lack a
    /// feature; [`Error::InvalidSetting`] if a representation is of another width.
    pub fn for_model(modalities: Vec<Modality<'a>>, registry: &Registry) -> Result<Self> {
        let mut slots: Vec<Option<Modality<'a>>> = Vec::new();
        slots.resize_with(registry.n_modalities(), || None);
        for m in modalities {
            let k = registry.modality(&m.name)?;
            let known = registry.modalities.get(k);
            let matched = match known {
                Some(known) => match_modality(m, known)?,
                None => continue,
            };
            if slots[k].is_some() {
                return Err(Error::InvalidSetting {
                    name: "modality",
                    value: matched.name,
                    reason: "it is given twice".into(),
                });
            }
            slots[k] = Some(matched);
        }
        Self::with_registry(slots, registry.clone())
    }

    fn with_registry(modalities: Vec<Option<Modality<'a>>>, registry: Registry) -> Result<Self> {
        registry.check()?;
        let mut union: IndexMap<String, Vec<Option<u32>>> = IndexMap::new();
        let n_modalities = modalities.len();
        for (k, m) in modalities.iter().enumerate() {
            let Some(m) = m else { continue };
            if m.cells.is_empty() {
                return Err(Error::NoCells {
                    what: format!("modality \"{}\"", m.name),
                    reason: "it has no cell; leave the modality out".into(),
                });
            }
            for (row, cell) in m.cells.iter().enumerate() {
                let rows = union
                    .entry(cell.clone())
                    .or_insert_with(|| vec![None; n_modalities]);
                if let Some(first) = rows[k].replace(row as u32) {
                    return Err(Error::DuplicateCell {
                        modality: m.name.clone(),
                        cell: cell.clone(),
                        first: first as usize,
                        second: row,
                    });
                }
            }
        }
        if union.is_empty() {
            return Err(Error::NoCells {
                what: "the data".into(),
                reason: "there is no modality that the model knows".into(),
            });
        }
        let loaded = modalities
            .into_iter()
            .enumerate()
            .map(|(k, m)| {
                let row_of: Vec<_> = union.values().map(|rows| rows[k]).collect();
                m.map(|m| load(m, row_of, &registry)).transpose()
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            registry,
            modalities: loaded,
            names: union.into_keys().collect(),
        })
    }

    /// Modalities, batches and labels.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Number of cells, each counted once however many modalities it has.
    pub fn n_cells(&self) -> usize {
        self.names.len()
    }

    /// Their names, in the order of first appearance.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The cells that have a modality, by number, in their order.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn with_modality(&self, name: &str) -> Result<Vec<usize>> {
        let k = self.registry.modality(name)?;
        Ok((0..self.n_cells()).filter(|&c| self.has(c, k)).collect())
    }

    /// The cells that have two modalities.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn paired(&self, first: &str, second: &str) -> Result<Vec<usize>> {
        let (a, b) = (
            self.registry.modality(first)?,
            self.registry.modality(second)?,
        );
        let both = |c: &usize| self.has(*c, a) && self.has(*c, b);
        Ok((0..self.n_cells()).filter(both).collect())
    }

    /// Whether a cell has a modality.
    pub(crate) fn has(&self, cell: usize, modality: usize) -> bool {
        let m = self.modalities.get(modality).and_then(Option::as_ref);
        m.is_some_and(|m| m.row_of.get(cell).is_some_and(Option::is_some))
    }

    /// Whether any cell has a modality.
    pub(crate) fn has_any(&self, modality: usize) -> bool {
        self.modalities.get(modality).is_some_and(Option::is_some)
    }

    /// Which modalities a cell has, as bits.
    pub(crate) fn pattern(&self, cell: usize) -> Vec<bool> {
        (0..self.modalities.len())
            .map(|k| self.has(cell, k))
            .collect()
    }
}

/// All categories in the order of first appearance.
fn categories<'c>(columns: impl Iterator<Item = Option<&'c Categorical>>) -> Vec<String> {
    let all: IndexSet<&String> = columns
        .flatten()
        .flat_map(Categorical::categories)
        .collect();
    all.into_iter().cloned().collect()
}

fn info(m: &Modality<'_>) -> ModalityInfo {
    ModalityInfo {
        name: m.name.clone(),
        features: m.features.clone(),
        likelihood: m.likelihood,
        representation: m.representation.as_ref().map(Array2::ncols),
        weight: m.weight,
    }
}

fn unique_features(m: &Modality<'_>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match m.features.iter().find(|f| !seen.insert(f.as_str())) {
        None => Ok(()),
        Some(twice) => Err(Error::InvalidSetting {
            name: "features",
            value: twice.clone(),
            reason: format!("it occurs twice in modality \"{}\"", m.name),
        }),
    }
}

/// Brings the features of a modality into the order of a model.
fn match_modality<'a>(mut m: Modality<'a>, known: &ModalityInfo) -> Result<Modality<'a>> {
    unique_features(&m)?;
    if m.representation.as_ref().map(Array2::ncols) != known.representation {
        let width = |w: Option<usize>| w.map_or("none".to_owned(), |w| format!("{w} columns"));
        return Err(Error::InvalidSetting {
            name: "representation",
            value: width(m.representation.as_ref().map(Array2::ncols)),
            reason: format!(
                "the model was trained with {} for modality \"{}\"",
                width(known.representation),
                m.name
            ),
        });
    }
    m.likelihood = known.likelihood;
    m.weight = known.weight;
    if m.features == known.features {
        return Ok(m);
    }
    let position: std::collections::HashMap<&str, usize> = m
        .features
        .iter()
        .enumerate()
        .map(|(i, f)| (f.as_str(), i))
        .collect();
    let columns = known
        .features
        .iter()
        .map(|f| match position.get(f.as_str()) {
            Some(&i) => Ok(Some(i)),
            None => Err(Error::not_found(
                "feature",
                f,
                m.features.iter().map(String::as_str),
            )),
        })
        .collect::<Result<Vec<_>>>()?;
    m.values = Box::new(Columns::new(m.values, columns)?);
    m.features.clone_from(&known.features);
    Ok(m)
}

fn load<'a>(m: Modality<'a>, row_of: Vec<Option<u32>>, registry: &Registry) -> Result<Loaded<'a>> {
    let n = m.cells.len();
    let what = |of: &str| format!("{of} of modality \"{}\"", m.name);
    let batch = match (&m.batches, registry.batches.is_empty()) {
        (_, true) => vec![0; n],
        (Some(b), false) => codes(b, "batch", &what("batch"), &registry.batches)?,
        (None, false) => {
            return Err(Error::NoCells {
                what: what("batches"),
                reason: "the other modalities, or the model, have batches; give them".into(),
            });
        }
    };
    let labels = match &m.labels {
        Some(l) if !registry.labels.is_empty() => label_codes(l, &registry.labels),
        _ => vec![UNLABELLED; n],
    };
    let mut cell_of = vec![0; n];
    for (cell, row) in row_of.iter().enumerate() {
        if let Some(slot) = row.and_then(|r| cell_of.get_mut(r as usize)) {
            *slot = cell;
        }
    }
    Ok(Loaded {
        values: m.values,
        representation: m.representation,
        batch,
        labels,
        row_of,
        cell_of,
    })
}

/// The codes of a column in the order of a registry.
fn codes(
    column: &Categorical,
    kind: &'static str,
    what: &str,
    known: &[String],
) -> Result<Vec<u32>> {
    let complete = column.complete_codes(what)?;
    let map: Vec<Option<u32>> = column
        .categories()
        .iter()
        .map(|c| known.iter().position(|k| k == c).map(|i| i as u32))
        .collect();
    complete
        .into_iter()
        .map(|code| {
            let new = map.get(code as usize).copied().flatten();
            new.ok_or_else(|| {
                let name = column.categories().get(code as usize);
                let name = name.map_or("", String::as_str);
                Error::not_found(kind, name, known.iter().map(String::as_str))
            })
        })
        .collect()
}

/// The same for labels, where those that are not known don't count.
fn label_codes(column: &Categorical, known: &[String]) -> Vec<u32> {
    let of = |label: Option<&str>| {
        let label = label?;
        known.iter().position(|k| k == label).map(|i| i as u32)
    };
    column.iter().map(|l| of(l).unwrap_or(UNLABELLED)).collect()
}
