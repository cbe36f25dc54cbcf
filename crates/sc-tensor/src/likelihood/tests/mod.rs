#![allow(missing_docs, clippy::print_stdout)]

mod behaviour;
mod entries;
mod golden;
mod head;
mod npz;
mod twin;

use std::sync::Arc;

use sc_data::Csr;

use super::{Dispersion, DispersionRows, Family, Mean, log_prob, log_prob_composed};
use crate::{Device, Result, Tensor, Var};

const FAMILIES: [Family; 4] = [
    Family::Poisson,
    Family::NegativeBinomial,
    Family::ZeroInflatedNegativeBinomial,
    Family::Normal,
];

/// Numbers that look random, uniform in [0, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, lo: f64, hi: f64, n: usize) -> Vec<f64> {
        (0..n).map(|_| lo + (hi - lo) * self.next()).collect()
    }
}

/// All arguments of a likelihood, in `f64`.
struct Case {
    family: Family,
    /// 0: rates, 1: softmax, 2: softplus
    mean: usize,
    rows: DispersionRows,
    n: usize,
    g: usize,
    x: Arc<Csr>,
    logits: Vec<f64>,
    log_library: Vec<f64>,
    log_theta: Vec<f64>,
    dropout: Vec<f64>,
}

/// Counts from 0 to some thousand, fractions, an explicit zero, and an empty first row.
fn counts(rows: usize, g: usize, noise: &mut Noise) -> Arc<Csr> {
    let (mut indptr, mut indices, mut data) = (vec![0], vec![], vec![]);
    for i in 0..rows {
        for j in 0..g {
            let stored = i > 0 && noise.next() < 0.5;
            if stored {
                indices.push(j as u32);
                data.push(match (noise.next() * 10.0) as usize {
                    0 => 0.0,
                    1 => 0.5,
                    2 => (noise.next() * 30.0 + 8.0) as f32,
                    3 => (noise.next() * 3000.0).floor() as f32,
                    _ => (noise.next() * 10.0).floor() as f32,
                });
            }
        }
        indptr.push(indices.len());
    }
    Arc::new(Csr::new(rows, g, indptr, indices, data).unwrap())
}

impl Case {
    fn new(
        family: Family,
        mean: usize,
        rows: DispersionRows,
        copies: usize,
        g: usize,
        seed: u64,
    ) -> Self {
        let mut noise = Noise(seed);
        let x = counts(3, g, &mut noise);
        let n = 3 * copies;
        let n_theta = match &rows {
            DispersionRows::Shared => 1,
            DispersionRows::PerCell => n,
            DispersionRows::Index(_) => 2,
        };
        let (lo, hi) = if mean == 0 { (0.01, 20.0) } else { (-6.0, 4.0) };
        Self {
            family,
            mean,
            rows,
            n,
            g,
            x,
            logits: noise.between(lo, hi, n * g),
            log_library: noise.between(1.0, 5.0, n),
            log_theta: noise.between(-3.0, 4.0, n_theta * g),
            dropout: noise.between(-6.0, 6.0, n * g),
        }
    }

    /// logits, log_theta, dropout, log_library
    fn tensors<T: crate::math::Float>(&self) -> Vec<Var> {
        let var = |v: &[f64], shape: &[usize]| {
            let v: Vec<T> = v.iter().map(|&v| T::of(v)).collect();
            Var::from_vec(v, shape, &Device::Cpu).unwrap()
        };
        vec![
            var(&self.logits, &[self.n, self.g]),
            var(
                &self.log_theta,
                &[self.log_theta.len() / self.g.max(1), self.g],
            ),
            var(&self.dropout, &[self.n, self.g]),
            var(&self.log_library, &[self.n]),
        ]
    }

    fn log_prob(&self, t: &[Tensor], fused: bool) -> Result<Tensor> {
        let mean = match self.mean {
            0 => Mean::Rate(&t[0]),
            1 => Mean::Softmax {
                logits: &t[0],
                log_library: &t[3],
            },
            _ => Mean::Softplus {
                logits: &t[0],
                log_library: &t[3],
            },
        };
        let dispersion = Dispersion {
            log_theta: &t[1],
            rows: self.rows.clone(),
        };
        let dispersion = self.family.has_dispersion().then_some(&dispersion);
        let dropout = self.family.has_dropout().then_some(&t[2]);
        let f = if fused { log_prob } else { log_prob_composed };
        f(self.family, &self.x, &mean, dispersion, dropout)
    }

    /// Which of the tensors the likelihood depends on.
    fn used(&self) -> [bool; 4] {
        [
            true,
            self.family.has_dispersion(),
            self.family.has_dropout(),
            self.mean != 0,
        ]
    }

    /// Log-probabilities and gradients of their weighted sum, as `f64`.
    fn run<T: crate::math::Float>(
        &self,
        fused: bool,
        weights: &[f64],
    ) -> (Vec<f64>, Vec<Option<Vec<f64>>>) {
        let vars = self.tensors::<T>();
        let t: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let ll = self.log_prob(&t, fused).unwrap();
        let w: Vec<T> = weights.iter().map(|&w| T::of(w)).collect();
        let w = Tensor::from_vec(w, self.n, &Device::Cpu).unwrap();
        let grads = (&ll * w).unwrap().sum_all().unwrap().backward().unwrap();
        let wide = |t: &Tensor| -> Vec<f64> {
            let v = t.flatten_all().unwrap().to_vec1::<T>().unwrap();
            v.into_iter().map(crate::math::Lane::wide).collect()
        };
        let grads = vars.iter().map(|v| grads.get(v).map(wide)).collect();
        (wide(&ll), grads)
    }
}

fn assert_close(a: &[f64], b: &[f64], relative: f64, absolute: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (k, (&a, &b)) in a.iter().zip(b).enumerate() {
        let allowed = absolute + relative * b.abs();
        assert!(
            (a - b).abs() <= allowed,
            "{what} [{k}]: {a} is not {b} +- {allowed:e}"
        );
    }
}
