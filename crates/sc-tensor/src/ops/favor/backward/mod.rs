//! The gradient of FAVOR+ attention, from the inputs, the output and the sums over keys; features are computed again.
//!
//! With `phi` and `psi` the features of queries and keys, `D_i = phi_i z`, and `g` the gradient of the output:
//! `dphi_if = (g_i S_f - (g_i out_i) z_f) / D_i`, `dS = sum_i phi_i g_i / D_i`, `dz = -sum_i phi_i (g_i out_i) / D_i`,
//! `dpsi_jf = dS_f v_j + dz_f`, `dv_j = psi_j dS`. Behind a feature `exp(u - norm - max) + eps` stand the exponent, the
//! norm and the maximum; none of them is a constant.

mod keys;
mod queries;

use super::problem::{EPS, Features, Largest, Sizes, Sums};
use crate::tiles::Lanes;

/// All that is known when the gradient is asked for.
pub(super) struct Known<'a, T> {
    pub(super) sizes: &'a Sizes,
    pub(super) features: &'a Features<T>,
    pub(super) queries: &'a [T],
    pub(super) keys: &'a [T],
    pub(super) values: &'a [T],
    pub(super) out: &'a [T],
    pub(super) grad: &'a [T],
    pub(super) sums: &'a [Vec<Sums<T>>],
    pub(super) largest: &'a [Largest<T>],
}

/// The gradients of the sums over the keys of a head.
#[derive(Clone)]
struct SumGradients<T> {
    /// `dS`, `[m, d]`
    values: Vec<T>,
    /// `dz`, `[m]`
    features: Vec<T>,
}

/// The gradients of queries, keys and values.
pub(super) fn backward<T: Lanes>(known: &Known<'_, T>) -> [Vec<T>; 3] {
    let (dq, sum_grads) = queries::backward(known);
    let shares = shares(known, &sum_grads);
    let [dk, dv] = keys::backward(known, &sum_grads, &shares);
    [dq, dk, dv]
}

/// What the gradient of the exponents that reach the maximum is lowered by, for each sequence: all that the maximum was
/// subtracted from, in equal parts.
fn shares<T: Lanes>(known: &Known<'_, T>, grads: &[Vec<SumGradients<T>>]) -> Vec<T> {
    let of_sequences: Vec<f64> = known
        .sums
        .iter()
        .zip(grads)
        .map(|(sums, grads)| {
            sums.iter()
                .zip(grads)
                .map(|(s, g)| through_maximum(s, g))
                .sum()
        })
        .collect();
    let total: f64 = of_sequences.iter().sum();
    let one = |(sum, largest): (&f64, &Largest<T>)| {
        let sum = match known.sizes.stabiliser {
            super::Stabiliser::PerSequence => *sum,
            super::Stabiliser::Batch => total,
        };
        T::of(if largest.ties > 0.0 {
            sum / largest.ties
        } else {
            0.0
        })
    };
    of_sequences.iter().zip(known.largest).map(one).collect()
}

/// `sum_jf b_jf dpsi_jf = sum_f (sum_j b_jf v_j) dS_f + (sum_j b_jf) dz_f`
fn through_maximum<T: Lanes>(sums: &Sums<T>, grads: &SumGradients<T>) -> f64 {
    let dot = |a: &[T], b: &[T]| -> f64 { a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum() };
    dot(&sums.products, &grads.values) + dot(&sums.weights, &grads.features)
}
