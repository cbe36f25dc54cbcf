//! Cells as the model reads them.

use sc_tensor::ops::Segments;

use super::config::{ScGptConfig, ValueInput, ensure};
use super::norm::Group;
use crate::Result;

/// The tokens of some cells, one cell after the other, without padding between them.
///
/// The first token of each cell is its `<cls>`. Rows of a cell behind its keys (see [`Segments`]) are padding, or genes whose
/// value is to be generated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CellTokens {
    /// The id of each token's gene.
    pub ids: Vec<u32>,
    /// The value of each token.
    pub values: Vec<f32>,
    /// Which tokens belong to which cell.
    pub segments: Segments,
    /// The batch of each cell; needed by a model that uses it.
    pub batches: Option<Vec<u32>>,
    /// The modality of each token; needed by a model that uses it.
    pub modalities: Option<Vec<u32>>,
}

impl CellTokens {
    /// Cells whose batch and modality are not known.
    pub fn new(ids: Vec<u32>, values: Vec<f32>, segments: Segments) -> Self {
        Self {
            ids,
            values,
            segments,
            batches: None,
            modalities: None,
        }
    }

    /// With the batch of each cell.
    #[must_use]
    pub fn with_batches(mut self, batches: Vec<u32>) -> Self {
        self.batches = Some(batches);
        self
    }

    /// With the modality of each token.
    #[must_use]
    pub fn with_modalities(mut self, modalities: Vec<u32>) -> Self {
        self.modalities = Some(modalities);
        self
    }

    /// How many cells there are.
    pub fn n_cells(&self) -> usize {
        self.segments.len()
    }

    /// The cell of each row.
    pub(super) fn cell_of_row(&self) -> Vec<u32> {
        cell_of_row(&self.segments)
    }

    /// The first row of each cell.
    pub(super) fn starts(&self) -> Vec<u32> {
        self.segments.iter().map(|s| s.start as u32).collect()
    }

    /// The rows that a normalisation takes together: those of each batch, known genes and others apart if `apart`.
    pub(super) fn groups(&self, by_batch: bool, apart: bool) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (cell, s) in self.segments.iter().enumerate() {
            let batches = self.batches.as_deref().filter(|_| by_batch);
            let domain = batches.and_then(|b| b.get(cell)).copied().unwrap_or(0);
            for row in s.start..s.start + s.rows {
                let other = apart && row >= s.start + s.keys;
                let place = *places.entry((domain, other)).or_insert_with(|| {
                    let rows = Vec::new();
                    groups.push(Group { domain, rows });
                    groups.len() - 1
                });
                if let Some(g) = groups.get_mut(place) {
                    g.rows.push(row as u32);
                }
            }
        }
        groups
    }

    /// Whether a model of these settings can read them.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names what doesn't fit.
    pub(super) fn check(&self, c: &ScGptConfig, needs_batches: bool) -> Result<()> {
        let n = self.segments.rows();
        let reason = format_args!("the cells have {n} tokens");
        ensure(self.ids.len() == n, "ids", self.ids.len(), reason)?;
        ensure(self.values.len() == n, "values", self.values.len(), reason)?;
        let empty = self.segments.iter().position(|s| s.keys == 0);
        let cell = empty.unwrap_or(0);
        let reason = "it has no token; each cell needs its <cls> at least";
        ensure(empty.is_none(), "cell", cell, reason)?;
        let known = c.n_tokens;
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= known) {
            let reason = format_args!("the vocabulary of the model has {known} tokens");
            ensure(false, "token id", id, reason)?;
        }
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            let reason = format_args!("token {at} must have a finite number");
            ensure(false, "value", self.values[at], reason)?;
        }
        if let ValueInput::Category { n } = c.value_input {
            let fine = |v: f32| v >= 0.0 && (v as usize) < n;
            if let Some(v) = self.values.iter().find(|&&v| !fine(v)) {
                let reason = format_args!("a model of categories has 0 to {}", n - 1);
                ensure(false, "value", v, reason)?;
            }
        }
        self.check_conditions(c, needs_batches)
    }

    fn check_conditions(&self, c: &ScGptConfig, needs_batches: bool) -> Result<()> {
        let (n, cells) = (self.segments.rows(), self.segments.len());
        let (known, given) = (c.batches.len(), self.batches.as_deref());
        let reason = "this model needs the batch of each cell";
        ensure(!needs_batches || given.is_some(), "batches", "none", reason)?;
        if let Some(b) = given {
            let reason = format_args!("there are {cells} cells");
            ensure(b.len() == cells, "batches", b.len(), reason)?;
            if needs_batches && let Some(x) = b.iter().find(|&&x| x as usize >= known) {
                let reason = format_args!(
                    "the model knows {known} batches, from 0; map a new batch to one of them"
                );
                ensure(false, "batch", x, reason)?;
            }
        }
        let (known, given) = (c.modalities.len(), self.modalities.as_deref());
        let reason = "this model needs the modality of each token";
        ensure(known == 0 || given.is_some(), "modalities", "none", reason)?;
        if let Some(m) = given.filter(|_| known > 0) {
            let reason = format_args!("the cells have {n} tokens");
            ensure(m.len() == n, "modalities", m.len(), reason)?;
            if let Some(x) = m.iter().find(|&&x| x as usize >= known) {
                let reason = format_args!("the model knows {known}, from 0");
                ensure(false, "modality", x, reason)?;
            }
        }
        Ok(())
    }
}

/// The cell of each row.
pub(super) fn cell_of_row(segments: &Segments) -> Vec<u32> {
    let mut cells = Vec::with_capacity(segments.rows());
    for (i, s) in (0u32..).zip(segments.iter()) {
        cells.extend(std::iter::repeat_n(i, s.rows));
    }
    cells
}
