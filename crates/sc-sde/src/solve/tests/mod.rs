mod gradients;
mod known;
mod orders;
mod refused;
mod same_bits;
mod steps;

use candle_core::{DType, Device, Tensor, Var};

use super::*;
use crate::Result;

/// `dX = (X - X^3) dt + (a + b sin X) dB` in each coordinate, with `a` and `b` to be learned.
struct Wave {
    a: Var,
    b: Var,
    calculus: Calculus,
}

impl Wave {
    fn new(calculus: Calculus) -> Self {
        let of = |v: f64| Var::new(v, &Device::Cpu).unwrap();
        Self {
            a: of(0.4),
            b: of(0.2),
            calculus,
        }
    }
}

impl Sde for Wave {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn calculus(&self) -> Calculus {
        self.calculus
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y - (y.sqr()? * y)?)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(y.sin()?.broadcast_mul(&self.b)?.broadcast_add(&self.a)?)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok((y.cos()?.broadcast_mul(&self.b)? * direction)?)
    }
    fn parameters(&self) -> Vec<Tensor> {
        vec![self.a.as_tensor().clone(), self.b.as_tensor().clone()]
    }
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn matrix(rows: usize, columns: usize, of: impl Fn(usize, usize) -> f64) -> Tensor {
    let all: Vec<f64> = (0..rows * columns)
        .map(|k| of(k / columns, k % columns))
        .collect();
    Tensor::from_vec(all, (rows, columns), &Device::Cpu).unwrap()
}

fn filled(rows: usize, columns: usize, value: f64) -> Tensor {
    matrix(rows, columns, |_, _| value)
}
