//! What the tests of the operations share.

use std::sync::Arc;

use ndarray::Array2;
use sc_data::Csr;

use crate::{DType, Device, Result, Rng, Tensor, Var};

/// Uniform numbers in `[lo, hi)`; the name decides which.
pub(crate) fn random(name: &str, lo: f64, hi: f64, dims: &[usize], dtype: DType) -> Tensor {
    let mut stream = Rng::new(11).stream(name);
    stream.uniform(lo, hi, dims, dtype, &Device::Cpu).unwrap()
}

/// Counts from 1 to 4 in about `density` of the entries; the second row is empty and so is the first column.
pub(crate) fn counts(n: usize, g: usize, density: f64) -> Arc<Csr> {
    let mut u = vec![0f64; n * g];
    Rng::new(5).stream("counts").fill_uniform(0.0, 1.0, &mut u);
    let dense = Array2::from_shape_fn((n, g), |(i, j)| {
        let u = u[i * g + j];
        match i != 1 && j != 0 && u < density {
            true => (u / density * 4.0).floor() as f32 + 1.0,
            false => 0.0,
        }
    });
    Arc::new(Csr::from_dense(&dense))
}

pub(crate) fn numbers(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// `|a - b| <= tol * max(1, |b|)` everywhere.
pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tol: f64, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    assert_eq!(a.dtype(), b.dtype(), "{what}");
    for (i, (a, b)) in numbers(a).iter().zip(numbers(b)).enumerate() {
        assert!(
            (a - b).abs() <= tol * b.abs().max(1.0),
            "{what}, element {i}: {a} is not {b}"
        );
    }
}

/// The value of `f` and the gradients of a weighted sum of it.
pub(crate) fn value_and_gradients(
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(t).unwrap())
        .collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked).unwrap();
    let weights = random("cotangent", 0.5, 1.5, y.dims(), y.dtype());
    let grads = (&y * weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let mut out = vec![y];
    out.extend(vars.iter().map(|v| grads.get(v).unwrap().clone()));
    out
}

/// The fused operation and its twin agree in value and gradients, in `f32` and `f64`.
pub(crate) fn assert_twins(
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    twin: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    tolerance: (f64, f64),
) {
    for (dtype, tol) in [(DType::F32, tolerance.0), (DType::F64, tolerance.1)] {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype).unwrap()).collect();
        let a = value_and_gradients(fused, &inputs);
        let b = value_and_gradients(twin, &inputs);
        for (k, (a, b)) in a.iter().zip(&b).enumerate() {
            assert_close(a, b, tol, &format!("{dtype:?}, output 0 or gradient {k}"));
        }
    }
}

/// The value and the gradients have the same bits in a pool of one thread and of two.
pub(crate) fn assert_same_on_threads(
    f: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync),
    inputs: &[Tensor],
) {
    let run = |threads: usize| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let all = value_and_gradients(&|x| f(x), inputs);
            all.iter()
                .map(|t| numbers(t).iter().map(|v| v.to_bits()).collect())
                .collect()
        })
    };
    let one = run(1);
    assert!(one == run(2), "two threads give other bits than one");
    assert!(one == run(3), "three threads give other bits than one");
}
