//! Products of small tiles whose sums stay in registers: what attention and the layers of transformers are made of.
//!
//! The left operand is packed in *groups* of [`GROUP`] rows, the right one in *panels* as wide as [`Lanes::width`]; both
//! are read straight through, so there is nothing to index. Every element of a product is one chain of multiply-adds in
//! the order of the inner dimension. So its bits depend on its own row and column, and on nothing else: not on how many
//! rows there are, not on the other rows, not on the number of threads.

mod aligned;
mod matrix;
mod pack;

use pulp::Simd;

pub(crate) use aligned::Aligned;
pub(crate) use matrix::{Left, Panels};
pub(crate) use pack::{Rows, groups_of_columns, groups_of_rows, pad_to, panel_of_rows};

use crate::pool::Pooled;

/// Rows of a group of the left operand.
pub(crate) const GROUP: usize = 8;

/// Registers to the width of a panel: with eight rows that fills 24 of 32 registers with sums.
const REGISTERS: usize = 3;

/// The most columns that a panel can have.
pub(crate) const WIDEST: usize = 16 * REGISTERS;

/// Numbers that can be computed with a register at a time.
pub(crate) trait Lanes: Pooled {
    /// A register full.
    type V<S: Simd>: Copy + 'static;

    /// Columns of a panel.
    fn width<S: Simd>() -> usize {
        REGISTERS * (size_of::<Self::V<S>>() / size_of::<Self>())
    }

    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// `a b + c`, in one rounding where the machine can.
    fn multiply_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    fn multiply<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    fn registers<S: Simd>(x: &[Self]) -> &[Self::V<S>];
    fn registers_mut<S: Simd>(x: &mut [Self]) -> &mut [Self::V<S>];
}

macro_rules! lanes {
    ($t:ident, $v:ident, $splat:ident, $fma:ident, $mul:ident, $slice:ident, $slice_mut:ident) => {
        impl Lanes for $t {
            type V<S: Simd> = S::$v;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$v {
                simd.$splat(x)
            }
            #[inline(always)]
            fn multiply_add<S: Simd>(simd: S, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
                simd.$fma(a, b, c)
            }
            #[inline(always)]
            fn multiply<S: Simd>(simd: S, a: S::$v, b: S::$v) -> S::$v {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn registers<S: Simd>(x: &[Self]) -> &[S::$v] {
                S::$slice(x).0
            }
            #[inline(always)]
            fn registers_mut<S: Simd>(x: &mut [Self]) -> &mut [S::$v] {
                S::$slice_mut(x).0
            }
        }
    };
}
lanes!(
    f32,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    mul_f32s,
    as_simd_f32s,
    as_mut_simd_f32s
);
lanes!(
    f64,
    f64s,
    splat_f64s,
    mul_add_e_f64s,
    mul_f64s,
    as_simd_f64s,
    as_mut_simd_f64s
);

/// `c = a^T b`, or `c += a^T b`, for a group `a` of `[k, GROUP]`, a panel `b` of `[k, width]` and a tile `c` of
/// `[GROUP, width]`.
#[inline(always)]
pub(crate) fn block<S: Simd, T: Lanes>(simd: S, a: &[T], b: &[T], c: &mut [T], add: bool) {
    let (a, b) = (a.as_chunks().0, T::registers::<S>(b).as_chunks().0);
    let c = T::registers_mut::<S>(c).as_chunks_mut().0;
    if S::REGISTER_COUNT >= 32 {
        part::<S, T, 8, 0, 3, 0>(simd, a, b, c, add);
    } else {
        // Twelve sums, three columns and one number of a row are just the sixteen registers that there are, and the compiler then
        // sends a sum through memory in every step, which halves the speed.
        part::<S, T, 4, 0, 2, 0>(simd, a, b, c, add);
        part::<S, T, 4, 4, 2, 0>(simd, a, b, c, add);
        part::<S, T, 8, 0, 1, 2>(simd, a, b, c, add);
    }
}

/// [`block`] for all groups of the left operand: `a` of `[group][k, GROUP]`, `c` of `[group][GROUP, width]`.
#[inline(always)]
pub(crate) fn product<S: Simd, T: Lanes>(
    simd: S,
    a: &[T],
    k: usize,
    b: &[T],
    c: &mut [T],
    add: bool,
) {
    if k == 0 {
        return;
    }
    for (a, c) in a
        .chunks_exact(k * GROUP)
        .zip(c.chunks_exact_mut(GROUP * T::width::<S>()))
    {
        block(simd, a, b, c, add);
    }
}

/// `M` rows of a tile from row `FROM` on, `W` registers of each from register `V` on.
#[inline(always)]
fn part<S: Simd, T: Lanes, const M: usize, const FROM: usize, const W: usize, const V: usize>(
    simd: S,
    a: &[[T; GROUP]],
    b: &[[T::V<S>; REGISTERS]],
    c: &mut [[T::V<S>; REGISTERS]],
    add: bool,
) {
    let Some(c) = c.get_mut(FROM..FROM + M) else {
        return;
    };
    let mut sums = [[T::splat(simd, T::ZERO); W]; M];
    if add {
        for (sum, c) in sums.iter_mut().zip(c.iter()) {
            sum.copy_from_slice(&c[V..V + W]);
        }
    }
    for (a, b) in a.iter().zip(b) {
        for i in 0..M {
            let x = T::splat(simd, a[FROM + i]);
            for w in 0..W {
                sums[i][w] = T::multiply_add(simd, x, b[V + w], sums[i][w]);
            }
        }
    }
    for (c, sum) in c.iter_mut().zip(sums) {
        c[V..V + W].copy_from_slice(&sum);
    }
}

/// The number of rows that [`by_rows`] takes must be a multiple of this.
pub(crate) const BY_ROWS: usize = 12;

/// `a = a b`, or `a = a b + c`, with `a` and `c` rows as wide as a panel and `b` one row.
#[inline(always)]
pub(crate) fn multiply_rows<S: Simd, T: Lanes>(
    simd: S,
    a: &mut [T],
    b: &[T; WIDEST],
    c: Option<&[T]>,
) {
    let a = T::registers_mut::<S>(a).as_chunks_mut::<REGISTERS>().0;
    let Some(b) = T::registers::<S>(b).first_chunk::<REGISTERS>() else {
        return;
    };
    match c {
        None => {
            for a in a {
                for v in 0..REGISTERS {
                    a[v] = T::multiply(simd, a[v], b[v]);
                }
            }
        }
        Some(c) => {
            let c = T::registers::<S>(c).as_chunks::<REGISTERS>().0;
            for (a, c) in a.iter_mut().zip(c) {
                for v in 0..REGISTERS {
                    a[v] = T::multiply_add(simd, a[v], b[v], c[v]);
                }
            }
        }
    }
}

/// Registers to the width of a narrow panel.
const NARROW: usize = 2;

/// Columns of a narrow panel.
pub(crate) fn narrow_width<S: Simd, T: Lanes>() -> usize {
    T::width::<S>() / REGISTERS * NARROW
}

/// The columns of a panel and of a narrow panel on this machine.
pub(crate) fn widths<T: Lanes>() -> (usize, usize) {
    struct Widths<T>(std::marker::PhantomData<T>);
    impl<T: Lanes> pulp::WithSimd for Widths<T> {
        type Output = (usize, usize);

        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            (T::width::<S>(), narrow_width::<S, T>())
        }
    }
    pulp::Arch::new().dispatch(Widths::<T>(std::marker::PhantomData))
}

/// `c += a b` for a tile `a` of rows as wide as a panel, of which the first `k` columns count, a narrow panel `b` of `[k,
/// narrow]`, and a narrow panel `c`. The number of rows is a multiple of [`BY_ROWS`]; others are left out.
#[inline(always)]
pub(crate) fn by_rows<S: Simd, T: Lanes>(simd: S, a: &[T], k: usize, b: &[T], c: &mut [T]) {
    let (b, c) = (
        T::registers::<S>(b).as_chunks().0,
        T::registers_mut::<S>(c).as_chunks_mut().0,
    );
    let b = &b[..k.min(b.len())];
    if S::REGISTER_COUNT >= 32 {
        narrow_rows::<S, T, 12>(simd, a, b, c);
    } else {
        narrow_rows::<S, T, 4>(simd, a, b, c);
    }
}

#[inline(always)]
fn narrow_rows<S: Simd, T: Lanes, const M: usize>(
    simd: S,
    a: &[T],
    b: &[[T::V<S>; NARROW]],
    c: &mut [[T::V<S>; NARROW]],
) {
    let width = T::width::<S>();
    let b = &b[..b.len().min(width)];
    for (a, c) in a.chunks_exact(M * width).zip(c.as_chunks_mut::<M>().0) {
        let mut sums = *c;
        for (k, b) in b.iter().enumerate() {
            for i in 0..M {
                let x = T::splat(simd, a[i * width + k]);
                for v in 0..NARROW {
                    sums[i][v] = T::multiply_add(simd, x, b[v], sums[i][v]);
                }
            }
        }
        *c = sums;
    }
}

#[cfg(test)]
mod tests;
