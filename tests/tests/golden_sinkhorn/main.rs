//! Optimal transport against the numbers of geomloss and POT (`$SC_SHARED/golden/sde`): every setting, in `f64` and `f32`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exact;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use ndarray::{Array1, Array2};
use sc_model::Parity;
use sc_sde::transport::{Cloud, Sinkhorn, SinkhornParams, Solution};
use sc_tensor::math::Float;
use sc_tests::{json, shared, values};
use serde_json::Value;

struct Golden {
    tensors: HashMap<String, Tensor>,
    about: Value,
}

fn folder() -> Option<PathBuf> {
    Some(shared()?.join("golden/sde"))
}

impl Golden {
    fn open(file: &str) -> Option<Self> {
        let dir = folder()?;
        Some(Self {
            tensors: candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap(),
            about: json(&dir.join("MANIFEST.json"))["files"][file]["tensors"].clone(),
        })
    }

    fn get(&self, name: &str) -> Vec<f64> {
        values(&self.tensors[name])
    }

    fn matrix(&self, name: &str) -> Array2<f64> {
        let (n, d) = self.tensors[name].dims2().unwrap();
        Array2::from_shape_vec((n, d), self.get(name)).unwrap()
    }

    /// Compares with a tensor if the file has it; gives how many numbers were compared.
    fn check(&self, name: &str, dtype: DType, found: &[f64]) -> usize {
        let Some(tensor) = self.tensors.get(name) else {
            return 0;
        };
        let key = if dtype == DType::F32 { "t32" } else { "t64" };
        let limits = &self.about[name][key];
        let (rtol, atol) = (limits[0].as_f64().unwrap(), limits[1].as_f64().unwrap());
        close(
            &format!("{name} {dtype:?}"),
            found,
            &values(tensor),
            rtol,
            atol,
        )
    }
}

fn close(name: &str, found: &[f64], expected: &[f64], rtol: f64, atol: f64) -> usize {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= atol + rtol * e.abs(),
            "{name}, element {i}: {f} instead of {e}, allowed {:e}",
            atol + rtol * e.abs()
        );
    }
    found.len()
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("no number: {v}"))
}

fn scalars() -> Option<Vec<Value>> {
    let all = json(&folder()?.join("sinkhorn_scalars.json"));
    Some(all.as_array().unwrap().clone())
}

/// Weights of a case: even, or those of the file times a mass.
fn weights(golden: &Golden, case: &Value) -> (Vec<f64>, Vec<f64>) {
    let (n, m) = (
        golden.tensors["x"].dim(0).unwrap(),
        golden.tensors["y"].dim(0).unwrap(),
    );
    if case["weights"] == "u" {
        return (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
    }
    let scaled = |name: &str, scale: &Value| -> Vec<f64> {
        let scale = number(scale);
        golden.get(name).iter().map(|w| w * scale).collect()
    };
    let scale = &case["mass_scale"];
    (scaled("a_w", &scale[0]), scaled("b_w", &scale[1]))
}

fn params(case: &Value) -> SinkhornParams {
    Sinkhorn::params()
        .p(case["p"].as_u64().unwrap() as u32)
        .blur(number(&case["blur"]))
        .scaling(number(&case["scaling"]))
        .debias(case["debias"].as_bool().unwrap())
        .reach(case["reach"].as_f64())
        .parity(Parity::Upstream)
}

fn solve<T: Float>(golden: &Golden, params: SinkhornParams, a: &[f64], b: &[f64]) -> Solution {
    let points = |name| golden.matrix(name).mapv(T::of);
    let (x, y) = (points("x"), points("y"));
    let (a, b) = (Array1::from(a.to_vec()), Array1::from(b.to_vec()));
    let x = Cloud::new(x.view())
        .unwrap()
        .with_weights(a.view())
        .unwrap();
    let y = Cloud::new(y.view())
        .unwrap()
        .with_weights(b.view())
        .unwrap();
    params.check().unwrap().solve(&x, &y).unwrap()
}

fn check_case(golden: &Golden, case: &Value, dtype: DType) -> usize {
    let (a, b) = weights(golden, case);
    let solution = match dtype {
        DType::F32 => solve::<f32>(golden, params(case), &a, &b),
        _ => solve::<f64>(golden, params(case), &a, &b),
    };
    let name = case["case"].as_str().unwrap();
    let what = format!("{} {name} {dtype:?}", case["size"].as_str().unwrap());
    // What single precision did to the original's value.
    let slack = 4.0 * number(&case["max_abs_diff_f32"]["value"]);
    let (rtol, atol) = match dtype {
        DType::F32 => (1e-5, slack),
        _ => (1e-9, 0.0),
    };
    let value = number(&case["value_f64"]);
    let mut n = close(&what, &[solution.value()], &[value], rtol, atol);
    let gradients = (
        solution.gradient_x().unwrap().into_raw_vec_and_offset().0,
        solution.gradient_y().unwrap().into_raw_vec_and_offset().0,
    );
    let parts = [
        ("value", vec![solution.value()]),
        ("grad_x", gradients.0),
        ("grad_y", gradients.1),
        ("grad_a", solution.gradient_a()),
        ("grad_b", solution.gradient_b()),
        ("pot_f", solution.potential_x()),
        ("pot_g", solution.potential_y()),
    ];
    for (part, found) in &parts {
        n += golden.check(&format!("{name}.{part}"), dtype, found);
        // Norms are there also for gradients that aren't.
        if let (DType::F64, Some(norm)) = (dtype, case[format!("norm_{part}_f64")].as_f64()) {
            let ours = found.iter().map(|v| v * v).sum::<f64>().sqrt();
            n += close(&format!("{what} {part}"), &[ours], &[norm], 1e-7, 1e-9);
        }
    }
    n
}

const SIZES: [&str; 3] = ["30x5", "64x50", "200x50"];

#[test]
fn values_gradients_and_potentials_in_all_settings() {
    let Some(cases) = scalars() else {
        return;
    };
    let (mut compared, mut settings) = (0, 0);
    for size in SIZES {
        let golden = Golden::open(&format!("sinkhorn_{size}.safetensors")).unwrap();
        let of_size = cases
            .iter()
            .filter(|c| c["size"] == size && c["case"] != "references");
        for case in of_size {
            settings += 1;
            for dtype in [DType::F64, DType::F32] {
                compared += check_case(&golden, case, dtype);
            }
        }
    }
    assert_eq!(settings, 72);
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn zero_weights() {
    if folder().is_none() {
        return;
    }
    for size in ["30x5", "64x50"] {
        let golden = Golden::open(&format!("sinkhorn_{size}.safetensors")).unwrap();
        let (a, b) = (golden.get("zero_weight.a"), golden.get("b_w"));
        for dtype in [DType::F64, DType::F32] {
            let s = match dtype {
                DType::F32 => solve::<f32>(&golden, Sinkhorn::params(), &a, &b),
                _ => solve::<f64>(&golden, Sinkhorn::params(), &a, &b),
            };
            let gradient = s.gradient_x().unwrap().into_raw_vec_and_offset().0;
            assert_eq!(golden.check("zero_weight.value", dtype, &[s.value()]), 1);
            assert!(golden.check("zero_weight.grad_x", dtype, &gradient) > 0);
            assert!(golden.check("zero_weight.grad_a", dtype, &s.gradient_a()) > 0);
        }
    }
}

#[test]
fn batches_through_tensors() {
    let Some(golden) = Golden::open("sinkhorn_batched.safetensors") else {
        return;
    };
    for dtype in [DType::F64, DType::F32] {
        let var =
            |name: &str| Var::from_tensor(&golden.tensors[name].to_dtype(dtype).unwrap()).unwrap();
        let inputs = ["x", "a", "y", "b"].map(var);
        for (blur, scaling) in [(0.05, 0.5), (0.1, 0.7)] {
            for debias in [true, false] {
                let tag = if debias { "deb" } else { "bias" };
                let name = format!("blur{blur}_sc{scaling}_{tag}");
                let sinkhorn = Sinkhorn::params()
                    .blur(blur)
                    .scaling(scaling)
                    .debias(debias);
                let sinkhorn = sinkhorn.check().unwrap();
                let [x, a, y, b] = [0, 1, 2, 3].map(|i: usize| inputs[i].as_tensor());
                let loss = sinkhorn.loss_weighted(x, Some(a), y, Some(b)).unwrap();
                let mut n = golden.check(&format!("{name}.value"), dtype, &values(&loss));
                let grads = sc_tensor::backward(&loss.sum_all().unwrap()).unwrap();
                for (part, input) in ["grad_x", "grad_a", "grad_y", "grad_b"].iter().zip(&inputs) {
                    let g = values(grads.get(input).unwrap());
                    n += golden.check(&format!("{name}.{part}"), dtype, &g);
                    let potential = match *part {
                        "grad_a" => "pot_f",
                        "grad_b" => "pot_g",
                        _ => continue,
                    };
                    n += golden.check(&format!("{name}.{potential}"), dtype, &g);
                }
                assert!(n > 900, "{name}: {n}");
                if dtype == DType::F64 {
                    let alone: Vec<f64> = (0..3)
                        .map(|i| {
                            let at = |t: &Tensor| t.get(i).unwrap();
                            let one = sinkhorn
                                .loss_weighted(&at(x), Some(&at(a)), &at(y), Some(&at(b)))
                                .unwrap();
                            one.to_scalar::<f64>().unwrap()
                        })
                        .collect();
                    golden.check(&format!("{name}.value_each_alone"), dtype, &alone);
                }
            }
        }
    }
}
