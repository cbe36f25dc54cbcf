//! Weighted sums over the pairs of each point: costs, and the gradients of costs.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::exp2::{Exp2, LOWEST};
use super::points::{Cloud, Packed, ROWS};
use super::tile::{fill, set_diagonal};
use super::{Cost, Points, SMALLEST_SQUARE, check, check_terms, mixed};
use crate::tiles::{GROUP, by_rows, narrow_width, pad_to, widths};
use crate::{Result, tiles::Lanes};

/// What the pairs of a point count.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// As `exp(terms_j - cost(x_i, y_j) / epsilon)`, which sum to 1 for each `i`.
    Softmax {
        /// The temperature.
        epsilon: f64,
        /// One for each point of `y`.
        terms: &'a [f64],
        /// What [`log_sums`](super::log_sums()) gives for the same terms.
        log_sums: &'a [f64],
    },
    /// These, one for each point of `y`, whatever `x_i` is.
    Each(&'a [f64]),
}

/// `sum_j w_ij d cost(x_i, y_j) / d x_i`, `[points of x, dim]`.
///
/// Where the distance is at its smallest value the gradient is 0. If `x` and `y` are the same object, no point moves
/// because of itself.
///
/// # Errors
/// If the clouds don't fit together, or there aren't as many weights as points.
pub fn cost_gradients(
    x: &Points,
    y: &Points,
    cost: Cost,
    weights: Weights<'_>,
) -> Result<Vec<f64>> {
    const OP: &str = "cost_gradients";
    match weights {
        Weights::Softmax {
            epsilon,
            terms,
            log_sums,
        } => {
            check(OP, x, y, epsilon)?;
            check_terms(OP, "the terms", terms, y)?;
            check_terms(OP, "the log-sums", log_sums, x)?;
        }
        Weights::Each(w) => {
            check(OP, x, y, 1.0)?;
            check_terms(OP, "the weights", w, y)?;
        }
    }
    match (&x.0, &y.0) {
        (Packed::Single(x), Packed::Single(y)) => Ok(gradients(x, y, cost, weights)),
        (Packed::Double(x), Packed::Double(y)) => Ok(gradients(x, y, cost, weights)),
        _ => Err(mixed(OP)),
    }
}

/// `sum_j w_j cost(x_i, y_j)` for each point of `x`. Here a distance may be 0. If `x` and `y` are the same object, a point
/// costs nothing with itself.
///
/// # Errors
/// As [`cost_gradients`].
pub fn cost_sums(x: &Points, y: &Points, cost: Cost, weights: &[f64]) -> Result<Vec<f64>> {
    const OP: &str = "cost_sums";
    check(OP, x, y, 1.0)?;
    check_terms(OP, "the weights", weights, y)?;
    match (&x.0, &y.0) {
        (Packed::Single(x), Packed::Single(y)) => Ok(sums(x, y, cost, weights)),
        (Packed::Double(x), Packed::Double(y)) => Ok(sums(x, y, cost, weights)),
        _ => Err(mixed(OP)),
    }
}

/// The terms of a softmax in powers of two, ready for tiles; for the weights themselves only `columns`.
struct Prepared<T> {
    softmax: bool,
    scale: T,
    /// `[padded]`, nothing past the last point.
    columns: Vec<T>,
    /// What is subtracted for each row, `[padded]`.
    rows: Vec<T>,
}

impl<T: Exp2> Prepared<T> {
    fn new(x: &Cloud<T>, y: &Cloud<T>, cost: Cost, weights: Weights<'_>) -> Self {
        let log2 = std::f64::consts::LOG2_E;
        let padded = |n: usize, rest: f64, v: &mut dyn Iterator<Item = f64>| {
            let mut out = vec![T::of(rest); n];
            for (out, v) in out.iter_mut().zip(v) {
                *out = T::of(v.max(LOWEST));
            }
            out
        };
        match weights {
            Weights::Each(w) => Self {
                softmax: false,
                scale: T::ONE,
                columns: padded(y.padded, 0.0, &mut w.iter().copied()),
                rows: Vec::new(),
            },
            Weights::Softmax {
                epsilon,
                terms,
                log_sums,
            } => {
                let half = match cost {
                    Cost::HalfSquared => 0.5 / epsilon,
                    Cost::Distance => 0.0,
                };
                let of_y = terms.iter().zip(&y.squares);
                let of_x = log_sums.iter().zip(&x.squares);
                Self {
                    softmax: true,
                    scale: T::of(log2 / epsilon),
                    columns: padded(
                        y.padded,
                        LOWEST,
                        &mut of_y.map(|(t, s)| log2 * (t - s * half)),
                    ),
                    rows: padded(x.padded, 0.0, &mut of_x.map(|(l, s)| log2 * (l + s * half))),
                }
            }
        }
    }
}

fn gradients<T: Exp2>(x: &Cloud<T>, y: &Cloud<T>, cost: Cost, weights: Weights<'_>) -> Vec<f64> {
    let prepared = Prepared::new(x, y, cost, weights);
    let values = values(y);
    let strips: Vec<Vec<f64>> = (0..x.padded / ROWS)
        .into_par_iter()
        .map(|strip| {
            pulp::Arch::new().dispatch(Strip {
                x,
                y,
                cost,
                weights: &prepared,
                values: &values,
                strip,
            })
        })
        .collect();
    let mut out = strips.concat();
    out.truncate(x.len * x.dim);
    out
}

/// The coordinates of the points of each panel and a 1, as right operands: `[panel][block][point][narrow width]`.
fn values<T: Lanes>(y: &Cloud<T>) -> Vec<T> {
    let (width, narrow) = widths::<T>();
    let blocks = pad_to(y.dim + 1, narrow) / narrow;
    let mut out = vec![T::ZERO; y.padded * blocks * narrow];
    let panels = y.panels.chunks_exact(width * y.dim);
    for (p, (panel, out)) in panels
        .zip(out.chunks_exact_mut(width * blocks * narrow))
        .enumerate()
    {
        let mut put = |k: usize, j: usize, v: T| {
            out[((k / narrow) * width + j) * narrow + k % narrow] = v;
        };
        for (k, row) in panel.chunks_exact(width).enumerate() {
            for (j, &v) in row.iter().enumerate() {
                put(k, j, v);
            }
        }
        for j in 0..width.min(y.len.saturating_sub(p * width)) {
            put(y.dim, j, T::ONE);
        }
    }
    out
}

/// The gradients of the points of a strip.
struct Strip<'a, T> {
    x: &'a Cloud<T>,
    y: &'a Cloud<T>,
    cost: Cost,
    weights: &'a Prepared<T>,
    values: &'a [T],
    strip: usize,
}

impl<T: Exp2> WithSimd for Strip<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        if S::IS_SCALAR {
            self.run::<S, false>(simd)
        } else {
            self.run::<S, true>(simd)
        }
    }
}

impl<T: Exp2> Strip<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) -> Vec<f64> {
        let (width, narrow) = (T::width::<S>(), narrow_width::<S, T>());
        let blocks = pad_to(self.x.dim + 1, narrow) / narrow;
        let mut tile = vec![T::ZERO; ROWS * width];
        let mut totals = vec![T::ZERO; ROWS * width];
        let mut sums = vec![T::ZERO; blocks * ROWS * narrow];
        let panels = self.values.chunks_exact(width * blocks * narrow);
        for (panel, values) in panels.enumerate() {
            let range = panel..panel + 1;
            fill::<S, T, FMA>(
                simd, self.cost, self.x, self.strip, self.y, range, &mut tile,
            );
            if self.cost == Cost::Distance && std::ptr::eq(self.x, self.y) {
                let least = T::of(-SMALLEST_SQUARE.sqrt());
                set_diagonal::<S, T>(self.strip, panel, &mut tile, least);
            }
            self.weigh::<S, FMA>(panel, &mut tile, &mut totals);
            for (values, sums) in values
                .chunks_exact(width * narrow)
                .zip(sums.chunks_exact_mut(ROWS * narrow))
            {
                by_rows(simd, &tile, width, values, sums);
            }
        }
        self.gradients(&sums, &totals, width, narrow)
    }

    /// The entries of a tile become weights, over the distance if that is the cost; softmax weights are added to `totals`.
    #[inline(always)]
    fn weigh<S: Simd, const FMA: bool>(&self, panel: usize, tile: &mut [T], totals: &mut [T]) {
        let width = T::width::<S>();
        let w = self.weights;
        let columns = &w.columns[panel * width..][..width];
        let least = T::of(SMALLEST_SQUARE.sqrt());
        for r in 0..ROWS {
            let row = &mut tile[r * width..][..width];
            let total = &mut totals[r * width..][..width];
            let mut weights = [T::ZERO; crate::tiles::WIDEST];
            if w.softmax {
                let offset = w.rows[self.strip * ROWS + r];
                for j in 0..width {
                    let e = row[j].fma::<FMA>(w.scale, columns[j]) - offset;
                    weights[j] = e.exp2::<FMA>();
                    total[j] += weights[j];
                }
            } else {
                weights[..width].copy_from_slice(columns);
            }
            match self.cost {
                Cost::HalfSquared => row.copy_from_slice(&weights[..width]),
                Cost::Distance => {
                    for j in 0..width {
                        let distance = -row[j];
                        let moves = distance > least;
                        row[j] = if moves {
                            weights[j] / distance
                        } else {
                            T::ZERO
                        };
                    }
                }
            }
        }
    }

    /// `x_i sum_j w_ij - sum_j w_ij y_j` of the real rows, divided by what the weights sum to.
    fn gradients(&self, sums: &[T], totals: &[T], width: usize, narrow: usize) -> Vec<f64> {
        let (x, dim) = (self.x, self.x.dim);
        let mut out = vec![0.0; ROWS * dim];
        for (r, out) in out.chunks_exact_mut(dim).enumerate() {
            let row = self.strip * ROWS + r;
            let sum =
                |k: usize| sums[(k / narrow) * ROWS * narrow + r * narrow + k % narrow].wide();
            let of_ones = sum(dim);
            let total: f64 = match (self.weights.softmax, self.cost) {
                (false, _) => 1.0,
                (true, Cost::HalfSquared) => of_ones,
                (true, Cost::Distance) => {
                    totals[r * width..][..width].iter().map(|v| v.wide()).sum()
                }
            };
            if total == 0.0 {
                continue;
            }
            let group = &x.groups[(row / GROUP) * GROUP * dim..];
            for (k, out) in out.iter_mut().enumerate() {
                let coordinate = group[k * GROUP + row % GROUP].wide();
                *out = (coordinate * of_ones - sum(k)) / total;
            }
        }
        out
    }
}

fn sums<T: Exp2>(x: &Cloud<T>, y: &Cloud<T>, cost: Cost, weights: &[f64]) -> Vec<f64> {
    let weights = Prepared::new(x, y, cost, Weights::Each(weights)).columns;
    let strips: Vec<Vec<f64>> = (0..x.padded / ROWS)
        .into_par_iter()
        .map(|strip| {
            pulp::Arch::new().dispatch(CostSums {
                x,
                y,
                cost,
                weights: &weights,
                strip,
            })
        })
        .collect();
    let mut out = strips.concat();
    out.truncate(x.len);
    out
}

/// The weighted costs of the points of a strip.
struct CostSums<'a, T> {
    x: &'a Cloud<T>,
    y: &'a Cloud<T>,
    cost: Cost,
    weights: &'a [T],
    strip: usize,
}

impl<T: Exp2> WithSimd for CostSums<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        if S::IS_SCALAR {
            self.run::<S, false>(simd)
        } else {
            self.run::<S, true>(simd)
        }
    }
}

impl<T: Exp2> CostSums<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) -> Vec<f64> {
        let width = T::width::<S>();
        let rows = &self.x.squares_rounded[self.strip * ROWS..][..ROWS];
        let mut tile = vec![T::ZERO; ROWS * width];
        let mut sums = vec![0.0; ROWS];
        for panel in 0..self.y.padded / width {
            // Scalar products first, also for distances, which may be 0 here.
            fill::<S, T, FMA>(
                simd,
                Cost::HalfSquared,
                self.x,
                self.strip,
                self.y,
                panel..panel + 1,
                &mut tile,
            );
            let columns = &self.y.squares_rounded[panel * width..][..width];
            let weights = &self.weights[panel * width..][..width];
            for (row, tile) in rows.iter().zip(tile.chunks_exact_mut(width)) {
                for j in 0..width {
                    let half = (*row + columns[j]) * T::HALF - tile[j];
                    let half = if half > T::ZERO { half } else { T::ZERO };
                    tile[j] = match self.cost {
                        Cost::HalfSquared => half,
                        Cost::Distance => (half + half).sqrt(),
                    };
                }
            }
            if std::ptr::eq(self.x, self.y) {
                set_diagonal::<S, T>(self.strip, panel, &mut tile, T::ZERO);
            }
            for (sum, tile) in sums.iter_mut().zip(tile.chunks_exact(width)) {
                let mut products = [T::ZERO; crate::tiles::WIDEST];
                for j in 0..width {
                    products[j] = tile[j] * weights[j];
                }
                *sum += products.iter().map(|v| v.wide()).sum::<f64>();
            }
        }
        sums
    }
}
