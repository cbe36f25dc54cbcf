//! Which genes are known.

use super::{Generated, one_cell};
use crate::Result;
use crate::tokens::TokenBatch;

pub(super) struct State {
    values: Vec<f32>,
    rounds: Vec<u32>,
    cells: Vec<CellState>,
}

struct CellState {
    known: Vec<usize>,
    unknown: Vec<usize>,
    /// How many were unknown at the start.
    total: usize,
}

impl State {
    pub(super) fn new(tokens: &TokenBatch) -> Self {
        let cell = |s: sc_tensor::ops::Segment| CellState {
            known: (s.start..s.start + s.keys).collect(),
            unknown: (s.start + s.keys..s.start + s.rows).collect(),
            total: s.rows - s.keys,
        };
        Self {
            values: tokens.values.clone(),
            rounds: vec![0; tokens.n_tokens()],
            cells: tokens.segments.iter().map(cell).collect(),
        }
    }

    /// The rows that are known, the first token first.
    pub(super) fn known(&self, cell: usize) -> Vec<usize> {
        self.cells
            .get(cell)
            .map(|c| c.known.clone())
            .unwrap_or_default()
    }

    pub(super) fn unknown(&self, cell: usize) -> Vec<usize> {
        self.cells
            .get(cell)
            .map(|c| c.unknown.clone())
            .unwrap_or_default()
    }

    /// Some rows as a cell, with the values they have by now.
    pub(super) fn tokens(&self, from: &TokenBatch, rows: &[usize]) -> Result<TokenBatch> {
        one_cell(from, rows, &self.values)
    }

    /// Makes known what round `round` of `rounds` is due of the `asked` rows, whose value and confidence are `made`; gives the
    /// rows that have become known.
    pub(super) fn accept(
        &mut self,
        cell: usize,
        asked: &[usize],
        made: &[(f32, f64)],
        (round, rounds): (usize, usize),
    ) -> Vec<usize> {
        let Some(c) = self.cells.get_mut(cell) else {
            return Vec::new();
        };
        let mut waiting: Vec<(usize, f32, f64)> = asked
            .iter()
            .zip(made)
            .map(|(&row, &(value, confidence))| (row, value, confidence))
            .collect();
        // The sort is stable: of equally confident ones the first comes first.
        waiting.sort_by(|a, b| b.2.total_cmp(&a.2));
        let due = (c.total * round).div_ceil(rounds);
        let n = due.saturating_sub(c.total - asked.len()).min(waiting.len());
        let (now, later) = waiting.split_at(n);
        for &(row, value, _) in now {
            if let (Some(v), Some(r)) = (self.values.get_mut(row), self.rounds.get_mut(row)) {
                (*v, *r) = (value, round as u32);
            }
        }
        let new: Vec<usize> = now.iter().map(|w| w.0).collect();
        c.known.extend(&new);
        c.unknown = later.iter().map(|w| w.0).collect();
        // Draws belong to places, so that these must not depend on confidence.
        c.unknown.sort_unstable();
        new
    }

    pub(super) fn generated(self) -> Generated {
        Generated {
            values: self.values,
            rounds: self.rounds,
        }
    }
}
