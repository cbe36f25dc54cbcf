//! The likelihood with its linear layers is the composition of both.

use super::super::{Layer, LinearMean, log_prob_linear};
use super::*;
use crate::testing::{assert_same_on_threads, numbers, random, value_and_gradients};
use crate::{DType, gradcheck, ops};

/// h, weight, bias, dropout weight, dropout bias, log_theta, log_library
fn inputs(n: usize, g: usize, n_theta: usize, dtype: DType) -> Vec<Tensor> {
    let width = 5;
    vec![
        random("h", -1.0, 1.0, &[n, width], dtype),
        random("w", -1.0, 1.0, &[g, width], dtype),
        random("b", -1.0, 1.0, &[g], dtype),
        random("dw", -1.0, 1.0, &[g, width], dtype),
        random("db", -1.0, 1.0, &[g], dtype),
        random("log_theta", -3.0, 3.0, &[n_theta, g], dtype),
        random("log_library", 1.0, 4.0, &[n], dtype),
    ]
}

/// The arguments besides the tensors.
struct Setting {
    family: Family,
    softplus: bool,
    rows: DispersionRows,
    x: Arc<Csr>,
}

impl Setting {
    fn fused(&self, t: &[Tensor]) -> Result<Tensor> {
        let (layer, log_library) = (
            Layer {
                weight: &t[1],
                bias: &t[2],
            },
            &t[6],
        );
        let mean = match self.softplus {
            true => LinearMean::Softplus { layer, log_library },
            false => LinearMean::Softmax { layer, log_library },
        };
        let dispersion = Dispersion {
            log_theta: &t[5],
            rows: self.rows.clone(),
        };
        let dropout = Layer {
            weight: &t[3],
            bias: &t[4],
        };
        log_prob_linear(
            self.family,
            &self.x,
            &t[0],
            &mean,
            self.family.has_dispersion().then_some(&dispersion),
            self.family.has_dropout().then_some(dropout),
        )
    }

    fn composed(&self, t: &[Tensor]) -> Result<Tensor> {
        let logits = &ops::linear(&t[0], &t[1], Some(&t[2]))?;
        let dropout = ops::linear(&t[0], &t[3], Some(&t[4]))?;
        let log_library = &t[6];
        let mean = match self.softplus {
            true => Mean::Softplus {
                logits,
                log_library,
            },
            false => Mean::Softmax {
                logits,
                log_library,
            },
        };
        let dispersion = Dispersion {
            log_theta: &t[5],
            rows: self.rows.clone(),
        };
        log_prob(
            self.family,
            &self.x,
            &mean,
            self.family.has_dispersion().then_some(&dispersion),
            self.family.has_dropout().then_some(&dropout),
        )
    }

    /// Adds a little of everything, so that tensors the family does not use have a gradient, too.
    fn touched(&self, t: &[Tensor], fused: bool) -> Result<Tensor> {
        let mut y = match fused {
            true => self.fused(t)?,
            false => self.composed(t)?,
        };
        for t in t {
            y = y.broadcast_add(&(t.sum_all()? * 1e-3)?)?;
        }
        Ok(y)
    }
}

fn settings(g: usize) -> Vec<(Setting, usize)> {
    let mut out = Vec::new();
    for family in FAMILIES {
        for softplus in [false, true] {
            for (rows, n_theta) in [
                (DispersionRows::Shared, 1),
                (DispersionRows::Index(Arc::from([1, 0, 1])), 2),
                (DispersionRows::PerCell, 6),
            ] {
                let x = counts(3, g, &mut Noise(3));
                let setting = Setting {
                    family,
                    softplus,
                    rows,
                    x,
                };
                out.push((setting, n_theta));
            }
        }
    }
    out
}

#[test]
fn equals_the_composition() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-4)] {
        for (s, n_theta) in settings(300) {
            let inputs = inputs(6, 300, n_theta, dtype);
            let a = value_and_gradients(&|t| s.touched(t, true), &inputs);
            let b = value_and_gradients(&|t| s.touched(t, false), &inputs);
            for (k, (a, b)) in a.iter().zip(&b).enumerate() {
                let (a, b) = (numbers(a), numbers(b));
                let most = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                let what = format!("{:?} {:?} {dtype:?}, gradient {k}", s.family, s.rows);
                assert_close(&a, &b, tolerance, tolerance * most, &what);
            }
        }
    }
}

#[test]
fn equal_cotangents_take_the_short_cut() {
    for (s, n_theta) in settings(70) {
        let inputs = inputs(6, 70, n_theta, DType::F64);
        let run = |fused| {
            let vars: Vec<Var> = inputs
                .iter()
                .map(|t| Var::from_tensor(t).unwrap())
                .collect();
            let t: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let loss = s.touched(&t, fused).unwrap().mean_all().unwrap();
            let first = crate::backward(&loss).unwrap();
            // A second time, with what the first has left.
            let second = loss.backward().unwrap();
            vars.iter()
                .map(|v| {
                    let (a, b) = (first.get(v).unwrap(), second.get(v).unwrap());
                    assert_eq!(numbers(a), numbers(b));
                    numbers(a)
                })
                .collect::<Vec<_>>()
        };
        for (k, (a, b)) in run(true).iter().zip(run(false)).enumerate() {
            assert_close(a, &b, 1e-10, 1e-10, &format!("{:?}, {k}", s.family));
        }
    }
}

#[test]
fn gradients_are_slopes() {
    for (mut s, n_theta) in settings(7) {
        // Small ones: differences of large log-probabilities have few digits.
        s.x = crate::testing::counts(3, 7, 0.5);
        let inputs = inputs(6, 7, n_theta, DType::F64);
        // The squares in a normal are large, too.
        let tolerance = if s.family == Family::Normal {
            1e-4
        } else {
            1e-6
        };
        gradcheck(|t| s.touched(t, true), &inputs, 1e-6, tolerance).unwrap();
    }
}

#[test]
fn threads_do_not_matter() {
    for dtype in [DType::F32, DType::F64] {
        for (s, n_theta) in settings(5000).into_iter().take(16).step_by(3) {
            let inputs = inputs(6, 5000, n_theta, dtype);
            assert_same_on_threads(&|t| s.touched(t, true), &inputs);
        }
    }
}

#[test]
fn any_subset_may_be_tracked() {
    let (s, n_theta) = settings(40).swap_remove(12);
    assert_eq!(s.family, Family::ZeroInflatedNegativeBinomial);
    let inputs = inputs(6, 40, n_theta, DType::F64);
    let all = value_and_gradients(&|t| s.fused(t), &inputs);
    let value = s.fused(&inputs).unwrap();
    assert!(!value.track_op(), "nothing tracked, nothing recorded");
    assert_close(&numbers(&value), &numbers(&all[0]), 1e-14, 0.0, "untracked");
    for k in 0..inputs.len() {
        let y = value_and_gradients(
            &|t| {
                let mut args = inputs.clone();
                args[k] = t[0].clone();
                s.fused(&args)
            },
            &inputs[k..=k],
        );
        let (a, b) = (numbers(&y[1]), numbers(&all[k + 1]));
        assert_close(&a, &b, 1e-12, 1e-12, &format!("tensor {k} alone"));
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let (s, n_theta) = settings(40).swap_remove(12);
    for k in 0..7 {
        let mut t = inputs(6, 40, n_theta, DType::F64);
        t[k] = random("wrong", 0.0, 1.0, &[5, 3], DType::F64);
        assert!(s.fused(&t).is_err(), "tensor {k}");
        let mut t = inputs(6, 40, n_theta, DType::F64);
        t[k] = t[k].to_dtype(DType::F32).unwrap();
        assert!(s.fused(&t).is_err(), "type of tensor {k}");
    }
}
