//! What is checked without files: the reference numbers of a formula's clouds, gradients, invariances, bad input.

mod behaviour;
mod reference;
mod twin;

use ndarray::{Array1, Array2};
use sc_tensor::{Device, Tensor};

use super::*;

/// The clouds of the reference numbers: `sin(0.7 i + 1.3 k) + 0.1 k` and `cos(0.5 j + 0.9 k) + 0.5`.
fn reference(n: usize, m: usize, dim: usize) -> (Array2<f64>, Array2<f64>) {
    (
        Array2::from_shape_fn((n, dim), |(i, k)| {
            (0.7 * i as f64 + 1.3 * k as f64).sin() + 0.1 * k as f64
        }),
        Array2::from_shape_fn((m, dim), |(j, k)| {
            (0.5 * j as f64 + 0.9 * k as f64).cos() + 0.5
        }),
    )
}

/// `1 + 0.5 sin(1 + i)`, brought to sum 1.
fn uneven(n: usize) -> Array1<f64> {
    let w = Array1::from_shape_fn(n, |i| 1.0 + 0.5 * (1.0 + i as f64).sin());
    &w / w.sum()
}

fn solve(sinkhorn: SinkhornParams, x: &Array2<f64>, y: &Array2<f64>, even: bool) -> Solution {
    let (mut cx, mut cy) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
    if !even {
        cx = cx.with_weights(uneven(x.nrows()).view()).unwrap();
        cy = cy.with_weights(uneven(y.nrows()).view()).unwrap();
    }
    sinkhorn.check().unwrap().solve(&cx, &cy).unwrap()
}

fn norm(g: &Array2<f64>) -> f64 {
    g.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn near(found: f64, expected: f64, tol: f64, what: &str) {
    assert!(
        (found - expected).abs() <= tol,
        "{what}: {found} is not {expected}"
    );
}

fn tensor(a: &Array2<f64>) -> Tensor {
    let (n, d) = a.dim();
    Tensor::from_vec(a.iter().copied().collect::<Vec<_>>(), (n, d), &Device::Cpu).unwrap()
}

fn in_tensor(e: Error) -> sc_tensor::Error {
    sc_tensor::Error::Candle(candle_core::Error::wrap(e))
}
