use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use sc_tensor::rng::{Rng, Stream};

use super::{Increment, Interval, Motion};
use crate::{Error, Result};

/// Brownian paths that can be asked for any stretch of time, in any order, any number of times.
///
/// Time is cut into cells of length `width`; the increment of each, and its area, come from a random stream of its own,
/// named by the seed, the cell of the data and the number of the stretch. Within a stretch the path is a Brownian bridge
/// that is halved again and again where it is asked for, each half drawn from a stream of its own (a virtual tree). So
/// nothing is stored, and a path depends on the seed and the cell's number alone: not on the step size, the other cells,
/// the order of the questions or the number of threads. Steps of length `width` cost one draw.
///
/// Halving keeps the increment `W` and the space-time area `H` (`U = h (W/2 + H)`) jointly right: with `Z ~ N(0, h/16)` and
/// `N ~ N(0, h/12)` the left half has `W/2 + 3H/2 + Z` and `H/4 - Z/2 + N/2`, the right half the rest of `W` and
/// `H/4 - Z/2 - N/2` (Foster 2020).
#[derive(Debug, Clone)]
pub struct BrownianPath {
    base: Stream,
    bridge: Stream,
    cells: Vec<u64>,
    m: usize,
    origin: f64,
    width: f64,
}

/// A stretch is resolved to this many halvings; times in between are rounded.
const DEPTH: u32 = 32;
const UNITS: i64 = 1 << DEPTH;

impl BrownianPath {
    /// Paths of the cells `0..cells`, `m` for each, that start at `origin`. `width` is best the step of the solver.
    ///
    /// # Errors
    /// [`Error::Times`] unless `width` is above 0 and `origin` is finite.
    pub fn new(seed: u64, cells: usize, m: usize, origin: f64, width: f64) -> Result<Self> {
        let cells = (0..cells as u64).collect();
        Self::of_cells(&Rng::new(seed), cells, m, origin, width)
    }

    /// Paths of cells with these numbers: a cell has the same path in every batch. To simulate a cell many times, give each
    /// time a number of its own.
    ///
    /// # Errors
    /// As [`BrownianPath::new`].
    pub fn of_cells(rng: &Rng, cells: Vec<u64>, m: usize, origin: f64, width: f64) -> Result<Self> {
        if !(width.is_finite() && width > 0.0 && origin.is_finite()) {
            return Err(Error::Times {
                reason: format!(
                    "a Brownian path from {origin} in stretches of {width}; the start must be finite and the length above 0"
                ),
            });
        }
        Ok(Self {
            base: rng.stream("brownian/stretch"),
            bridge: rng.stream("brownian/bridge"),
            cells,
            m,
            origin,
            width,
        })
    }

    /// The time in parts of a stretch.
    fn position(&self, t: f64) -> Result<i64> {
        let at = ((t - self.origin) / self.width * UNITS as f64).round();
        // Beyond this, neighbouring parts can't be told apart anyway.
        match at.abs() < 9e18 {
            true => Ok(at as i64),
            false => Err(Error::Times {
                reason: format!(
                    "{t} is too far from the start {} for stretches of {}",
                    self.origin, self.width
                ),
            }),
        }
    }

    /// Adds what the path of one cell does between two positions to `w`, and to `u` the integral of the path since `from`.
    fn of_cell(&self, cell: u64, from: i64, to: i64, w: &mut [f64], u: Option<&mut [f64]>) {
        let mut total = Piece::none(self.m);
        let with_area = u.is_some();
        let (first, last) = (from.div_euclid(UNITS), (to - 1).div_euclid(UNITS));
        for k in first..=last {
            let start = k.saturating_mul(UNITS);
            let (lo, hi) = ((from - start).max(0), (to - start).min(UNITS));
            let whole = lo == 0 && hi == UNITS;
            let piece = self.stretch(cell, k, with_area || !whole);
            if whole {
                total.append(&piece);
            } else {
                let node = Node {
                    cell,
                    stretch: k,
                    id: 1,
                    lo: 0,
                    hi: UNITS,
                };
                self.restrict(node, piece, lo, hi, &mut total);
            }
        }
        w.copy_from_slice(&total.w);
        if let Some(u) = u {
            u.copy_from_slice(&total.u);
        }
    }

    /// The whole of a stretch. Without its area that isn't drawn.
    fn stretch(&self, cell: u64, k: i64, with_area: bool) -> Piece {
        let mut stream = self.base.at(&[cell, k as u64]);
        let h = self.width;
        let mut piece = Piece::none(self.m);
        piece.length = h;
        stream.fill_normal(&mut piece.w);
        if with_area {
            stream.fill_normal(&mut piece.u);
        }
        let (sd, sd_area) = (h.sqrt(), (h / 12.0).sqrt());
        for (w, u) in piece.w.iter_mut().zip(&mut piece.u) {
            *w *= sd;
            *u = h * (0.5 * *w + sd_area * *u);
        }
        piece
    }

    /// Appends the part of `piece` between `from` and `to` to `total`.
    fn restrict(&self, node: Node, piece: Piece, from: i64, to: i64, total: &mut Piece) {
        if from <= node.lo && node.hi <= to {
            return total.append(&piece);
        }
        let mid = node.lo + (node.hi - node.lo) / 2;
        let (left, right) = self.halves(&node, &piece);
        if from < mid && node.lo < to {
            let half = Node {
                id: node.id * 2,
                hi: mid,
                ..node
            };
            self.restrict(half, left, from, to, total);
        }
        if to > mid && from < node.hi {
            let half = Node {
                id: node.id * 2 + 1,
                lo: mid,
                ..node
            };
            self.restrict(half, right, from, to, total);
        }
    }

    fn halves(&self, node: &Node, piece: &Piece) -> (Piece, Piece) {
        let mut stream = self.bridge.at(&[node.cell, node.stretch as u64, node.id]);
        let mut noise = vec![0.0; 2 * self.m];
        stream.fill_normal(&mut noise);
        let (zs, ns) = noise.split_at(self.m);
        let h = piece.length;
        let (sd_z, sd_n) = ((h / 16.0).sqrt(), (h / 12.0).sqrt());
        let (mut left, mut right) = (Piece::none(self.m), Piece::none(self.m));
        (left.length, right.length) = (h / 2.0, h / 2.0);
        for (j, (&w, &u)) in piece.w.iter().zip(&piece.u).enumerate() {
            let area = u / h - 0.5 * w;
            let (z, n) = (
                zs.get(j).map_or(0.0, |z| sd_z * z),
                ns.get(j).map_or(0.0, |n| sd_n * n),
            );
            let w_left = 0.5 * w + 1.5 * area + z;
            let w_right = w - w_left;
            left.set(j, w_left, 0.25 * area - 0.5 * z + 0.5 * n);
            right.set(j, w_right, 0.25 * area - 0.5 * z - 0.5 * n);
        }
        (left, right)
    }
}

/// A part of a stretch: a node of the tree of halves. The root has id 1, the halves of `i` are `2i` and `2i + 1`.
#[derive(Clone, Copy)]
struct Node {
    cell: u64,
    stretch: i64,
    id: u64,
    lo: i64,
    hi: i64,
}

/// Increment and area of a part of a path, for each of its motions.
struct Piece {
    length: f64,
    w: Vec<f64>,
    u: Vec<f64>,
}

impl Piece {
    fn none(m: usize) -> Self {
        Self {
            length: 0.0,
            w: vec![0.0; m],
            u: vec![0.0; m],
        }
    }

    fn set(&mut self, j: usize, w: f64, area: f64) {
        if let (Some(slot_w), Some(slot_u)) = (self.w.get_mut(j), self.u.get_mut(j)) {
            *slot_w = w;
            *slot_u = self.length * (0.5 * w + area);
        }
    }

    /// What follows this part directly.
    fn append(&mut self, next: &Self) {
        for (u, (w, (&next_w, &next_u))) in self
            .u
            .iter_mut()
            .zip(self.w.iter_mut().zip(next.w.iter().zip(&next.u)))
        {
            *u += next_u + *w * next.length;
            *w += next_w;
        }
        self.length += next.length;
    }
}

impl Motion for BrownianPath {
    fn dims(&self) -> (usize, usize) {
        (self.cells.len(), self.m)
    }

    fn increment(
        &self,
        step: Interval,
        area: bool,
        dtype: DType,
        device: &Device,
    ) -> Result<Increment> {
        let (from, to) = (self.position(step.start)?, self.position(step.end)?);
        if to < from {
            return Err(Error::Times {
                reason: format!("a step from {} back to {}", step.start, step.end),
            });
        }
        let (n, m) = self.dims();
        let mut w = vec![0.0f64; n * m];
        let mut u = vec![0.0f64; if area { n * m } else { 0 }];
        if to > from && m > 0 {
            let rows = w.par_chunks_mut(m).zip(&self.cells);
            if area {
                rows.zip(u.par_chunks_mut(m))
                    .for_each(|((w, &cell), u)| self.of_cell(cell, from, to, w, Some(u)));
            } else {
                rows.for_each(|(w, &cell)| self.of_cell(cell, from, to, w, None));
            }
        }
        let tensor = |v: Vec<f64>| -> Result<Tensor> {
            Ok(Tensor::from_vec(v, (n, m), device)?.to_dtype(dtype)?)
        };
        Ok(Increment {
            w: tensor(w)?,
            area: match area {
                true => Some(tensor(u)?),
                false => None,
            },
        })
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
