//! What is done to one row.

use pulp::{Simd, WithSimd};

use crate::kernel::Real;

// The loops over a row are types of their own, because `inline(always)`, without which they would not be compiled for the
// machine's instructions, can't be said of a closure.

/// `y = gamma (x - mean) / std + beta`; all of one length.
pub(super) struct Norm<'a, T> {
    pub(super) y: &'a mut [T],
    pub(super) x: &'a [T],
    pub(super) mean: &'a [T],
    pub(super) inv_std: &'a [T],
    pub(super) gamma: &'a [T],
    pub(super) beta: &'a [T],
}

impl<T: Real> WithSimd for Norm<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let n = self.y.len();
        let (y, x, mean) = (&mut self.y[..n], &self.x[..n], &self.mean[..n]);
        let (inv_std, gamma, beta) = (&self.inv_std[..n], &self.gamma[..n], &self.beta[..n]);
        for j in 0..n {
            y[j] = (x[j] - mean[j]) * inv_std[j] * gamma[j] + beta[j];
        }
    }
}

/// Sets to 0 what does not come through the gate. A NaN is not closed, so that it shows.
pub(super) struct Close<'a, T> {
    pub(super) y: &'a mut [T],
    pub(super) keep: Option<&'a [u8]>,
    pub(super) scale: T,
}

impl<T: Real> WithSimd for Close<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Some(keep) = self.keep else {
            for y in self.y.iter_mut() {
                *y = if *y <= T::ZERO { T::ZERO } else { *y };
            }
            return;
        };
        for (y, &keep) in self.y.iter_mut().zip(keep) {
            let closed = (keep == 0) | (*y <= T::ZERO);
            *y = if closed { T::ZERO } else { *y * self.scale };
        }
    }
}

/// The gradient before the gate: that after it, where the output is not zero.
pub(super) struct Open<'a, T> {
    pub(super) out: &'a mut [T],
    pub(super) g: &'a [T],
    pub(super) y: &'a [T],
    pub(super) scale: T,
}

impl<T: Real> WithSimd for Open<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, (&g, &y)) in self.out.iter_mut().zip(self.g.iter().zip(self.y)) {
            let open = g * self.scale;
            *out = if y <= T::ZERO { T::ZERO } else { open };
        }
    }
}

/// `dx = gamma / std (g - mean(g) - h mean(g h))` over `dx`, which holds `g`; all of one length.
pub(super) struct Through<'a, T> {
    pub(super) dx: &'a mut [T],
    pub(super) x: &'a [T],
    pub(super) mean: &'a [T],
    pub(super) inv_std: &'a [T],
    pub(super) gamma: &'a [T],
    pub(super) mean_g: &'a [T],
    pub(super) mean_gh: &'a [T],
}

impl<T: Real> WithSimd for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let n = self.dx.len();
        let (dx, x, mean) = (&mut self.dx[..n], &self.x[..n], &self.mean[..n]);
        let (inv_std, gamma) = (&self.inv_std[..n], &self.gamma[..n]);
        let (mean_g, mean_gh) = (&self.mean_g[..n], &self.mean_gh[..n]);
        for j in 0..n {
            let normed = (x[j] - mean[j]) * inv_std[j];
            dx[j] = gamma[j] * inv_std[j] * (dx[j] - mean_g[j] - normed * mean_gh[j]);
        }
    }
}
