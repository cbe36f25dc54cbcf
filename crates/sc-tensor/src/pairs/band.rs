//! The log-sums of a band: every so many-th strip of rows, with the sums along its rows and along the columns.
//!
//! All is in powers of two. Each lane of a row, and each column, has its own running maximum and sum relative to it. Both
//! are brought up to date once per tile, so that a term costs one exponential; with the maximum subtracted, nothing can
//! overflow, and what underflows is below the precision of the sum.

use pulp::{Simd, WithSimd};

use super::exp2::{Exp2, LOWEST};
use super::points::{Cloud, ROWS};
use super::tile::{fill, own_panels, set_diagonal};
use super::{Cost, SMALLEST_SQUARE};
use crate::tiles::WIDEST;

/// Columns of a tile, at most; with that a tile stays in the nearest cache.
const COLUMNS: usize = 2 * ROWS;
/// The most lanes that a register has.
const LANES: usize = WIDEST / 3;

/// What is summed.
pub(super) struct Problem<'a, T> {
    pub(super) x: &'a Cloud<T>,
    pub(super) y: &'a Cloud<T>,
    pub(super) cost: Cost,
    /// What a scalar product, or minus a distance, is multiplied with.
    pub(super) scale: T,
    /// The terms of the columns, for the sums along rows; `[padded]`.
    pub(super) of_y: &'a [T],
    /// The terms of the rows, if the sums along columns are wanted.
    pub(super) of_x: Option<&'a [T]>,
    /// Both clouds are the same: only columns from the diagonal on are gone through, and what is to their left comes from
    /// the sums along columns.
    pub(super) within: bool,
    /// How many bands there are.
    pub(super) bands: usize,
}

/// One band of a problem.
pub(super) struct Band<'a, T>(pub(super) &'a Problem<'a, T>, pub(super) usize);

/// Sums of a band.
pub(super) struct Sums<T> {
    /// The logarithms of the sums along rows, strip after strip.
    pub(super) rows: Vec<f64>,
    /// Along columns the maxima and the sums relative to them.
    pub(super) largest: Vec<T>,
    pub(super) total: Vec<T>,
}

/// Running maxima and sums of the rows of a strip.
struct RowSums<T> {
    largest: [[T; LANES]; ROWS],
    total: [[T; LANES]; ROWS],
}

impl<T: Exp2> WithSimd for Band<'_, T> {
    type Output = Sums<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Sums<T> {
        if S::IS_SCALAR {
            self.sums::<S, false>(simd)
        } else {
            self.sums::<S, true>(simd)
        }
    }
}

impl<T: Exp2> Band<'_, T> {
    #[inline(always)]
    fn sums<S: Simd, const FMA: bool>(self, simd: S) -> Sums<T> {
        let Self(p, band) = self;
        let width = T::width::<S>();
        let (strips, panels) = (p.x.padded / ROWS, p.y.padded / width);
        let columns = if p.of_x.is_some() { p.y.padded } else { 0 };
        let mut sums = Sums {
            rows: Vec::with_capacity(strips.div_ceil(p.bands) * ROWS),
            largest: vec![T::of(LOWEST); columns],
            total: vec![T::ZERO; columns],
        };
        let mut tile = vec![T::ZERO; ROWS * COLUMNS];
        for strip in (band..strips).step_by(p.bands) {
            let mut rows = RowSums::new();
            let mut first = 0;
            if p.within {
                let own = own_panels::<S, T>(strip);
                first = own.end;
                p.diagonal::<S, FMA>(simd, strip, own, &mut tile, &mut rows);
            }
            for from in (first..panels).step_by(COLUMNS / width) {
                let range = from..panels.min(from + COLUMNS / width);
                let at = from * width..range.end * width;
                let tile = &mut tile[..at.len() * ROWS];
                fill::<S, T, FMA>(simd, p.cost, p.x, strip, p.y, range, tile);
                rows.add::<S, FMA>(tile, p.scale, &p.of_y[at.clone()]);
                if let Some(terms) = p.of_x {
                    let terms = &terms[strip * ROWS..][..ROWS];
                    let (largest, total) =
                        (&mut sums.largest[at.clone()], &mut sums.total[at.clone()]);
                    down_columns::<S, T, FMA>(tile, p.scale, terms, largest, total);
                }
            }
            rows.finish::<S, FMA>(&mut sums.rows);
        }
        sums
    }
}

impl<T: Exp2> Problem<'_, T> {
    /// The points of a strip with themselves, of which only sums along rows are needed.
    #[inline(always)]
    fn diagonal<S: Simd, const FMA: bool>(
        &self,
        simd: S,
        strip: usize,
        own: std::ops::Range<usize>,
        tile: &mut [T],
        rows: &mut RowSums<T>,
    ) {
        let (width, first) = (T::width::<S>(), own.start);
        let at = own.start * width..own.end * width;
        let tile = &mut tile[..at.len() * ROWS];
        fill::<S, T, FMA>(simd, self.cost, self.x, strip, self.y, own, tile);
        if self.cost == Cost::Distance {
            let least = T::of(-SMALLEST_SQUARE.sqrt());
            set_diagonal::<S, T>(strip, first, tile, least);
        }
        rows.add::<S, FMA>(tile, self.scale, &self.of_y[at]);
    }
}

impl<T: Exp2> RowSums<T> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            largest: [[T::of(LOWEST); LANES]; ROWS],
            total: [[T::ZERO; LANES]; ROWS],
        }
    }

    /// Adds `2^(scale t + term of its column)` for the entries `t` of a tile.
    #[inline(always)]
    fn add<S: Simd, const FMA: bool>(&mut self, tile: &[T], scale: T, terms: &[T]) {
        let lanes = size_of::<T::V<S>>() / size_of::<T>();
        let width = T::width::<S>();
        for r in 0..ROWS {
            let old = self.largest[r];
            let mut new = old;
            for (tile, terms) in tile
                .chunks_exact(ROWS * width)
                .zip(terms.chunks_exact(width))
            {
                let row = &tile[r * width..][..width];
                for (t, term) in row.chunks_exact(lanes).zip(terms.chunks_exact(lanes)) {
                    for l in 0..lanes {
                        new[l] = t[l].fma::<FMA>(scale, term[l]).above(new[l]);
                    }
                }
            }
            let mut sum = [T::ZERO; LANES];
            for (tile, terms) in tile
                .chunks_exact(ROWS * width)
                .zip(terms.chunks_exact(width))
            {
                let row = &tile[r * width..][..width];
                for (t, term) in row.chunks_exact(lanes).zip(terms.chunks_exact(lanes)) {
                    for l in 0..lanes {
                        sum[l] += (t[l].fma::<FMA>(scale, term[l]) - new[l]).exp2::<FMA>();
                    }
                }
            }
            let total = &mut self.total[r];
            for l in 0..lanes {
                let kept = (old[l] - new[l]).exp2::<FMA>();
                total[l] = total[l].fma::<FMA>(kept, sum[l]);
            }
            self.largest[r] = new;
        }
    }

    /// The logarithms of the sums, the lanes of each row brought together.
    #[inline(always)]
    fn finish<S: Simd, const FMA: bool>(&self, out: &mut Vec<f64>) {
        let lanes = size_of::<T::V<S>>() / size_of::<T>();
        for (largest, total) in self.largest.iter().zip(&self.total) {
            let mut top = largest[0];
            for l in 1..lanes {
                top = largest[l].above(top);
            }
            let mut parts = [T::ZERO; LANES];
            for l in 0..lanes {
                parts[l] = total[l] * (largest[l] - top).exp2::<FMA>();
            }
            let sum: f64 = parts.iter().map(|v| v.wide()).sum();
            out.push(top.wide() + sum.log2());
        }
    }
}

/// Adds `2^(scale t + term of its row)` for the entries `t` of a tile to the sums of the columns.
#[inline(always)]
fn down_columns<S: Simd, T: Exp2, const FMA: bool>(
    tile: &[T],
    scale: T,
    terms: &[T],
    largest: &mut [T],
    total: &mut [T],
) {
    let width = T::width::<S>();
    for ((tile, largest), total) in tile
        .chunks_exact(ROWS * width)
        .zip(largest.chunks_exact_mut(width))
        .zip(total.chunks_exact_mut(width))
    {
        let mut new = [T::ZERO; WIDEST];
        new[..width].copy_from_slice(largest);
        for (row, &term) in tile.chunks_exact(width).zip(terms) {
            for j in 0..width {
                new[j] = row[j].fma::<FMA>(scale, term).above(new[j]);
            }
        }
        let mut sum = [T::ZERO; WIDEST];
        for (row, &term) in tile.chunks_exact(width).zip(terms) {
            for j in 0..width {
                sum[j] += (row[j].fma::<FMA>(scale, term) - new[j]).exp2::<FMA>();
            }
        }
        for j in 0..width {
            let kept = (largest[j] - new[j]).exp2::<FMA>();
            total[j] = total[j].fma::<FMA>(kept, sum[j]);
            largest[j] = new[j];
        }
    }
}
