//! The inner loops that several operations share, compiled for AVX2 and AVX-512 and chosen at run time.
//!
//! They are plain loops over slices without fused multiply-adds, so every machine gets the same bits.

use pulp::{Arch, Simd, WithSimd};

use crate::kernel::Real;

/// How many partial sums a long sum is split into; a fixed number keeps the order of additions fixed.
const LANES: usize = 16;

/// `out += sum_k values[k] * rows[ids[k]]`, the terms added in the order given; `rows` has `out.len()` columns.
///
/// This is the core of both directions of a sparse product. The row numbers must be in range.
pub(crate) struct GatherAxpy<'a, T, V, I> {
    pub(crate) out: &'a mut [T],
    pub(crate) values: V,
    pub(crate) ids: I,
    pub(crate) rows: &'a [T],
}

impl<T: Real, V: Fn(usize) -> T, I: ExactSizeIterator<Item = usize> + Clone> WithSimd
    for GatherAxpy<'_, T, V, I>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            out,
            values,
            ids,
            rows,
        } = self;
        let n = ids.len();
        let width = out.len();
        // As much of `out` as eight registers hold stays there while all terms are added.
        let done = if S::F32_LANES >= 16 {
            gather_tiles::<T, 128, 64>(out, &values, &ids, rows)
        } else {
            gather_tiles::<T, 64, 32>(out, &values, &ids, rows)
        };
        let out = &mut out[done..];
        if out.is_empty() {
            return;
        }
        let rest = out.len();
        let row = |i: usize| &rows[i * width + done..][..rest];
        let mut ids = ids;
        let mut k = 0;
        // Four rows at a time: `out` is read and written once for the four. The additions keep their order.
        while k + 4 <= n {
            let (Some(a), Some(b), Some(c), Some(d)) =
                (ids.next(), ids.next(), ids.next(), ids.next())
            else {
                return;
            };
            let (a, b, c, d) = (row(a), row(b), row(c), row(d));
            let (va, vb, vc, vd) = (values(k), values(k + 1), values(k + 2), values(k + 3));
            for j in 0..rest {
                out[j] = (((out[j] + va * a[j]) + vb * b[j]) + vc * c[j]) + vd * d[j];
            }
            k += 4;
        }
        for i in ids {
            let (a, v) = (row(i), values(k));
            for j in 0..rest {
                out[j] += v * a[j];
            }
            k += 1;
        }
    }
}

/// The columns of a sparse product that fill tiles of `F32` (or `F64`) numbers, and how many these are.
#[inline(always)]
fn gather_tiles<T: Real, const F32: usize, const F64: usize>(
    out: &mut [T],
    values: &impl Fn(usize) -> T,
    ids: &(impl Iterator<Item = usize> + Clone),
    rows: &[T],
) -> usize {
    if size_of::<T>() == 4 {
        gather_tile::<T, F32>(out, values, ids, rows)
    } else {
        gather_tile::<T, F64>(out, values, ids, rows)
    }
}

#[inline(always)]
fn gather_tile<T: Real, const W: usize>(
    out: &mut [T],
    values: &impl Fn(usize) -> T,
    ids: &(impl Iterator<Item = usize> + Clone),
    rows: &[T],
) -> usize {
    let width = out.len();
    let (tiles, _) = out.as_chunks_mut::<W>();
    let n_tiles = tiles.len();
    for (t, tile) in tiles.iter_mut().enumerate() {
        let mut sums = *tile;
        for (k, i) in ids.clone().enumerate() {
            let v = values(k);
            let row = &rows[i * width + t * W..].as_chunks::<W>().0[0];
            for j in 0..W {
                sums[j] += v * row[j];
            }
        }
        *tile = sums;
    }
    n_tiles * W
}

/// `sum_j a[j] * b[j]`.
#[inline(always)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    sum_of(
        [a, b],
        #[inline(always)]
        |[a, b]| a * b,
    )
}

/// `sum_j f(x[0][j], x[1][j], ..)` up to the end of the shortest, added as in [`reduce`]: for slices this is faster.
#[inline(always)]
pub(crate) fn sum_of<T: Real, const N: usize>(x: [&[T]; N], f: impl Fn([T; N]) -> T) -> T {
    let n = x.iter().map(|x| x.len()).min().unwrap_or(0);
    let parts = x.map(
        #[inline(always)]
        |x| x[..n].as_chunks::<LANES>(),
    );
    let mut sums = [T::ZERO; LANES];
    for k in 0..n / LANES {
        let x: [&[T; LANES]; N] = std::array::from_fn(
            #[inline(always)]
            |i| &parts[i].0[k],
        );
        for (l, sum) in sums.iter_mut().enumerate() {
            *sum += f(std::array::from_fn(
                #[inline(always)]
                |i| x[i][l],
            ));
        }
    }
    for (l, sum) in sums.iter_mut().enumerate().take(n % LANES) {
        *sum += f(std::array::from_fn(
            #[inline(always)]
            |i| parts[i].1[l],
        ));
    }
    pairwise(sums)
}

/// The sum of partial sums.
#[inline(always)]
fn pairwise<T: Real>(mut sums: [T; LANES]) -> T {
    let mut span = LANES / 2;
    while span > 0 {
        for l in 0..span {
            sums[l] += sums[l + span];
        }
        span /= 2;
    }
    sums[0]
}

/// `sum_j f(j)` for `j` in `0..n`, in sixteen partial sums that are added up pairwise. Call it from within
/// [`vectorised`], and `f` should be a simple expression.
#[inline(always)]
pub(crate) fn reduce<T: Real>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut sums = [T::ZERO; LANES];
    let whole = n - n % LANES;
    let mut j = 0;
    while j < whole {
        for (l, sum) in sums.iter_mut().enumerate() {
            *sum += f(j + l);
        }
        j += LANES;
    }
    for j in whole..n {
        sums[j - whole] += f(j);
    }
    pairwise(sums)
}

/// The largest element; NaN if one is NaN, minus infinity if there is none.
#[inline(always)]
pub(crate) fn maximum<T: Real>(x: &[T]) -> T {
    let mut best = [T::of_f32(f32::NEG_INFINITY); LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for lanes in whole {
        for (b, &v) in best.iter_mut().zip(lanes) {
            *b = v.larger(*b);
        }
    }
    for (b, &v) in best.iter_mut().zip(rest) {
        *b = v.larger(*b);
    }
    best.iter()
        .fold(T::of_f32(f32::NEG_INFINITY), |m, &v| v.larger(m))
}

/// Runs `f` compiled for the best instruction set that this machine has.
#[inline]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}
