//! Tiles of minus the costs of some rows and columns.

use pulp::Simd;

use super::points::{Cloud, ROWS};
use super::{Cost, SMALLEST_SQUARE};
use crate::tiles::{GROUP, Lanes, block};

/// Fills `tile`, `[panel][ROWS][width]`, for the rows of a strip and some panels of columns: with `x y` of each pair for
/// [`Cost::HalfSquared`] (the squares belong to rows and columns, and are added there), with minus the distance for
/// [`Cost::Distance`].
#[inline(always)]
pub(super) fn fill<S: Simd, T: Lanes, const FMA: bool>(
    simd: S,
    cost: Cost,
    x: &Cloud<T>,
    strip: usize,
    y: &Cloud<T>,
    panels: std::ops::Range<usize>,
    tile: &mut [T],
) {
    let (width, dim) = (T::width::<S>(), x.dim);
    let groups = &x.groups[strip * ROWS * dim..][..ROWS * dim];
    for (panel, tile) in panels.zip(tile.chunks_exact_mut(ROWS * width)) {
        let columns = &y.panels[panel * width * dim..][..width * dim];
        for (group, out) in groups
            .chunks_exact(GROUP * dim)
            .zip(tile.chunks_exact_mut(GROUP * width))
        {
            block(simd, group, columns, out, false);
        }
        if cost == Cost::Distance {
            let rows = &x.squares_rounded[strip * ROWS..][..ROWS];
            let columns = &y.squares_rounded[panel * width..][..width];
            minus_distances::<S, T, FMA>(rows, columns, tile);
        }
    }
}

#[inline(always)]
fn minus_distances<S: Simd, T: Lanes, const FMA: bool>(rows: &[T], columns: &[T], tile: &mut [T]) {
    let (width, two) = (T::width::<S>(), T::of(2.0));
    let least = T::of(SMALLEST_SQUARE);
    for (&row, tile) in rows.iter().zip(tile.chunks_exact_mut(width)) {
        for j in 0..width {
            let square = tile[j].fma::<FMA>(-two, row + columns[j]);
            let square = if square > least { square } else { least };
            tile[j] = -square.sqrt();
        }
    }
}

/// The panels on the diagonal: those of the points of a strip themselves.
#[inline(always)]
pub(super) fn own_panels<S: Simd, T: Lanes>(strip: usize) -> std::ops::Range<usize> {
    let per_strip = ROWS / T::width::<S>();
    strip * per_strip..(strip + 1) * per_strip
}

/// Sets the entries of the points with themselves in a tile that begins with panel `first`; rounding leaves something
/// else there.
#[inline(always)]
pub(super) fn set_diagonal<S: Simd, T: Lanes>(
    strip: usize,
    first: usize,
    tile: &mut [T],
    value: T,
) {
    let width = T::width::<S>();
    for (k, tile) in tile.chunks_exact_mut(ROWS * width).enumerate() {
        let from = (first + k) * width;
        for j in 0..width {
            if let Some(row) = (from + j).checked_sub(strip * ROWS)
                && row < ROWS
            {
                tile[row * width + j] = value;
            }
        }
    }
}
