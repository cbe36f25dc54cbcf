//! Numbers of ours and how far they are from those of a reference.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_model::Params;

use crate::Npz;

/// Fails unless an error is within a tolerance; `name` and `what` say of what.
pub fn near(name: &str, what: &str, error: f64, tolerance: f64) {
    assert!(
        error <= tolerance,
        "{name} {what}: off by {error:e}, allowed {tolerance:e}"
    );
}

/// The largest difference, each divided by `scale(expected)`; both must have the same length and be finite alike.
pub fn worst(found: &[f64], expected: &[f64], scale: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let mut worst = 0.0f64;
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!(
            f.is_finite() == e.is_finite(),
            "entry {i}: {f} instead of {e}"
        );
        if e.is_finite() {
            worst = worst.max((f - e).abs() / scale(e));
        }
    }
    worst
}

/// Relative to each number.
pub fn worst_relative(found: &[f64], expected: &[f64]) -> f64 {
    worst(found, expected, |e| e.abs().max(1e-30))
}

/// All numbers of a tensor, row-major.
pub fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// All numbers of a matrix, row-major.
pub fn numbers(m: &Array2<f32>) -> Vec<f64> {
    m.iter().map(|&v| f64::from(v)).collect()
}

/// Some rows and columns of a matrix.
pub fn pick(m: &Array2<f32>, rows: &[usize], columns: &[usize]) -> Vec<f64> {
    rows.iter()
        .flat_map(|&r| columns.iter().map(move |&c| f64::from(m[(r, c)])))
        .collect()
}

/// Compares the gradient of each parameter with `prefix/grad/<name>` of the reference, which must be absent or zero where
/// there is none; gives how many were compared.
pub fn gradients(
    name: &str,
    prefix: &str,
    expected: &Npz,
    parameters: &Params,
    grads: &GradStore,
    tolerance: f64,
) -> usize {
    let max_abs = |v: &[f64]| v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let all = format!("{prefix}/grad/");
    let kept = expected.names().filter(|n| n.starts_with(&all));
    let largest = kept.map(|n| max_abs(expected.get(n))).fold(0.0, f64::max);
    let mut seen = 0;
    for p in parameters.iter().filter(|p| !p.is_buffer()) {
        let key = format!("{all}{}", p.name());
        let grad = grads.get(p.var().as_tensor());
        if !expected.has(&key) {
            let none = grad.is_none_or(|g| values(g).iter().all(|&v| v == 0.0));
            assert!(none, "{name} {key}: has a gradient");
            continue;
        }
        let grad = grad.unwrap_or_else(|| panic!("{name} {key}: no gradient"));
        // Weights that we keep input-major are output-major in the reference.
        let grad = match p.is_transposed() {
            true => grad.t().unwrap(),
            false => grad.clone(),
        };
        let expected = expected.get(&key);
        // The bias before a batch norm has a gradient of zero, of which rounding leaves something.
        let scale = max_abs(expected).max(1e-3 * largest);
        let error = worst(&values(&grad), expected, |_| scale);
        near(name, &key, error, tolerance);
        seen += 1;
    }
    seen
}
