use ndarray::{Array2, array};
use sc_tensor::{Device, Rng, Tensor, gradcheck};

use super::*;

fn cloud(name: &str, n: usize) -> Array2<f64> {
    let mut v = vec![0.0; n * 3];
    Rng::new(2).stream(name).fill_normal(&mut v);
    Array2::from_shape_vec((n, 3), v).unwrap()
}

fn kernels() -> [Mmd; 2] {
    [
        Mmd::new(Kernel::Energy).unwrap(),
        Mmd::new(Kernel::Rbf(vec![0.5, 1.0, 3.0])).unwrap(),
    ]
}

fn plain(kernel: &Kernel, x: &Cloud<'_, f64>, y: &Cloud<'_, f64>) -> f64 {
    let k = |d: f64| match kernel {
        Kernel::Energy => -d,
        Kernel::Rbf(s) => {
            s.iter()
                .map(|s| (-d * d / (2.0 * s * s)).exp())
                .sum::<f64>()
                / s.len() as f64
        }
    };
    let mean = |x: &Cloud<'_, f64>, y: &Cloud<'_, f64>| {
        let mut sum = 0.0;
        for (p, a) in x.points().rows().into_iter().zip(x.weights()) {
            for (q, b) in y.points().rows().into_iter().zip(y.weights()) {
                let d = (&p - &q).mapv(|v| v * v).sum().sqrt();
                sum += a / x.mass() * b / y.mass() * k(d);
            }
        }
        sum
    };
    mean(x, x) + mean(y, y) - 2.0 * mean(x, y)
}

#[test]
fn values_are_those_of_plain_loops() {
    let (x, y) = (cloud("x", 57), cloud("y", 20) + 0.5);
    let weights = ndarray::Array1::linspace(0.0, 2.0, 57);
    let x = Cloud::new(x.view())
        .unwrap()
        .with_weights(weights.view())
        .unwrap();
    let y = Cloud::new(y.view()).unwrap();
    for mmd in kernels() {
        let expected = plain(&mmd.kernel, &x, &y);
        let found = mmd.squared(&x, &y).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        // The distance of a point to its copy is known to the root of the precision only.
        assert!(mmd.squared(&x, &x).unwrap().abs() < 1e-7);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let tensor = |a: &Array2<f64>| {
        let (n, d) = a.dim();
        Tensor::from_vec(a.iter().copied().collect::<Vec<_>>(), (n, d), &Device::Cpu).unwrap()
    };
    let (x, y) = (tensor(&cloud("x", 7)), tensor(&(cloud("y", 5) + 0.5)));
    let to_tensor = |e: Error| sc_tensor::Error::Candle(candle_core::Error::wrap(e));
    for mmd in kernels() {
        let loss = |v: &[Tensor]| mmd.loss(&v[0], &v[1]).map_err(to_tensor);
        gradcheck(loss, &[x.clone(), y.clone()], 1e-6, 1e-7).unwrap();
        let batched = |v: &[Tensor]| {
            let x = Tensor::stack(&[&v[0], &(&v[0] * 2.0)?], 0)?;
            let y = Tensor::stack(&[&v[1], &v[1]], 0)?;
            mmd.loss(&x, &y).map_err(to_tensor)
        };
        gradcheck(batched, &[x.clone(), y.clone()], 1e-6, 1e-7).unwrap();
    }
}

#[test]
fn bad_input() {
    assert!(Mmd::new(Kernel::Rbf(vec![])).is_err());
    assert!(Mmd::new(Kernel::Rbf(vec![1.0, 0.0])).is_err());
    assert!(Mmd::new(Kernel::Rbf(vec![f64::NAN])).is_err());
    let (x, y) = (array![[0.0, 1.0]], array![[0.0]]);
    let (x, y) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
    assert!(kernels()[0].squared(&x, &y).is_err());
    let ints = Tensor::new(&[[1u32]], &Device::Cpu).unwrap();
    assert!(kernels()[0].loss(&ints, &ints).is_err());
}
