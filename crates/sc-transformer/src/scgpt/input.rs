//! Cells as the model reads them.

use sc_tensor::ops::Segments;

use super::config::{ScGptConfig, ValueInput, ensure};
use super::norm::Group;
use crate::Result;
use crate::tokens::TokenBatch;

/// Some cells as the model reads them: their tokens and, for models that use it, the batch (donor, technology) of each.
///
/// A [`TokenBatch`] alone will do for a model that is told no batch: `model.encode(&tokens, &mode)`.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub(super) tokens: &'a TokenBatch,
    pub(super) batches: Option<&'a [u32]>,
}

impl<'a> From<&'a TokenBatch> for Input<'a> {
    fn from(tokens: &'a TokenBatch) -> Self {
        Self {
            tokens,
            batches: None,
        }
    }
}

impl<'a> Input<'a> {
    /// Cells and the batch of each.
    pub fn with_batches(tokens: &'a TokenBatch, batches: &'a [u32]) -> Self {
        Self {
            tokens,
            batches: Some(batches),
        }
    }

    pub(super) fn segments(&self) -> &'a Segments {
        &self.tokens.segments
    }

    /// The cell of each row.
    pub(super) fn cell_of_row(&self) -> Vec<u32> {
        cell_of_row(self.segments())
    }

    /// The first row of each cell.
    pub(super) fn starts(&self) -> Vec<u32> {
        self.tokens.first_tokens()
    }

    /// The rows that a normalisation takes together: those of each batch, known genes and others apart if `apart`.
    pub(super) fn groups(&self, by_batch: bool, apart: bool) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (cell, s) in self.segments().iter().enumerate() {
            let batches = self.batches.filter(|_| by_batch);
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
        let t = self.tokens;
        t.check()?;
        let empty = t.segments.iter().position(|s| s.keys == 0);
        let cell = empty.unwrap_or(0);
        let reason = "it has no token; each cell needs one at least, its <cls>";
        ensure(empty.is_none(), "cell", cell, reason)?;
        let known = c.n_tokens;
        if let Some(id) = t.ids.iter().find(|&&id| id as usize >= known) {
            let reason = format_args!("the vocabulary of the model has {known} tokens");
            ensure(false, "token id", id, reason)?;
        }
        if let Some((at, v)) = t.values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            let reason = format_args!("token {at} must have a finite number");
            ensure(false, "value", v, reason)?;
        }
        if let ValueInput::Category { n } = c.value_input {
            let fine = |v: f32| v >= 0.0 && (v as usize) < n;
            if let Some(v) = t.values.iter().find(|&&v| !fine(v)) {
                let reason = format_args!("a model of categories has 0 to {}", n - 1);
                ensure(false, "value", v, reason)?;
            }
        }
        self.check_conditions(c, needs_batches)
    }

    fn check_conditions(&self, c: &ScGptConfig, needs_batches: bool) -> Result<()> {
        let (known, given, cells) = (c.batches.len(), self.batches, self.tokens.n_cells());
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
        let (known, given) = (c.modalities.len(), self.tokens.modality.as_deref());
        let reason = "this model needs the modality of each token";
        ensure(known == 0 || given.is_some(), "modalities", "none", reason)?;
        let given = given.filter(|_| known > 0).unwrap_or(&[]);
        if let Some(x) = given.iter().find(|&&x| x as usize >= known) {
            let reason = format_args!("the model knows {known}, from 0");
            ensure(false, "modality", x, reason)?;
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
