//! Attention and FAVOR+ against PyTorch's and scBERT's numbers (`$SC_SHARED/golden/transformer/attention`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use sc_tensor::ops::{self, Keys, Segments, Stabiliser, composed};
use sc_tests::{json, shared, values};

/// Tensors of a reference file, and how near they must be met.
struct Golden {
    tensors: HashMap<String, Tensor>,
    about: serde_json::Value,
}

impl Golden {
    fn open(file: &str) -> Option<Self> {
        let dir = shared()?.join("golden/transformer");
        let tensors = candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap();
        let about = json(&dir.join("MANIFEST.json"))["files"][file]["tensors"].clone();
        Some(Self { tensors, about })
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    fn check(&self, name: &str, found: &Tensor) {
        let (expected, about) = (self.get(name), &self.about[name]);
        let (atol, rtol) = (
            about["atol"].as_f64().unwrap(),
            about["rtol"].as_f64().unwrap(),
        );
        assert_eq!(found.elem_count(), expected.elem_count(), "{name}");
        for (i, (f, e)) in values(found).iter().zip(values(expected)).enumerate() {
            assert!(
                (f - e).abs() <= atol + rtol * e.abs(),
                "{name}, element {i}: {f} instead of {e}"
            );
        }
    }
}

/// `[batch, heads, n, d]` as rows of `[batch n, heads d]`, and back.
fn pack(x: &Tensor) -> Tensor {
    let (b, h, n, d) = x.dims4().unwrap();
    x.transpose(1, 2).unwrap().reshape((b * n, h * d)).unwrap()
}

fn unpack(x: &Tensor, like: &Tensor) -> Tensor {
    let (b, h, n, d) = like.dims4().unwrap();
    x.reshape((b, n, h, d))
        .unwrap()
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
}

/// Attention of rows in an order where each cell's keys come first; the result is in the old order again.
fn attend(x: &Tensor, is_key: &[Vec<bool>], heads: usize, keys: Keys) -> Tensor {
    let n = is_key[0].len();
    let mut order = Vec::new();
    for (b, cell) in is_key.iter().enumerate() {
        for wanted in [true, false] {
            let rows = (0..n).filter(|&i| cell[i] == wanted);
            order.extend(rows.map(|i| (b * n + i) as u32));
        }
    }
    let lengths = is_key
        .iter()
        .map(|cell| (n, cell.iter().filter(|&&k| k).count()));
    let segments = Segments::with_keys(lengths).unwrap();
    let mut back = vec![0u32; order.len()];
    for (at, &row) in order.iter().enumerate() {
        back[row as usize] = at as u32;
    }
    let pick = |x: &Tensor, rows: Vec<u32>| {
        let rows = Tensor::from_vec(rows, x.dim(0).unwrap(), &Device::Cpu).unwrap();
        x.index_select(&rows, 0).unwrap()
    };
    let y = ops::attention(&pick(x, order), heads, &segments, keys, None).unwrap();
    pick(&y, back)
}

/// The logarithms of the sums of `exp(score)`, `[batch, heads, n]`. With one more key, of zeros, and values that are 1 for that
/// key alone, attention gives `1 / (1 + sum)`.
fn log_sums(q: &Tensor, k: &Tensor, is_key: &[Vec<bool>]) -> Tensor {
    let [q, k] = [q, k].map(|x| x.to_dtype(DType::F64).unwrap());
    let (b, h, n, d) = q.dims4().unwrap();
    let more = Tensor::zeros((b, h, 1, d), DType::F64, &Device::Cpu).unwrap();
    let [q, k] = [q, k].map(|x| pack(&Tensor::cat(&[&x, &more], 2).unwrap()));
    let ones = Tensor::cat(
        &[
            more.zeros_like().unwrap().repeat((1, 1, n, 1)).unwrap(),
            more.ones_like().unwrap(),
        ],
        2,
    );
    let qkv = Tensor::cat(&[q, k, pack(&ones.unwrap())], 1).unwrap();
    let mut is_key = is_key.to_vec();
    is_key.iter_mut().for_each(|cell| cell.push(true));
    let y = attend(&qkv, &is_key, h, Keys::Only);
    let y = y
        .reshape((b, n + 1, h, d))
        .unwrap()
        .narrow(1, 0, n)
        .unwrap();
    let share = y.narrow(3, 0, 1).unwrap().squeeze(3).unwrap();
    let sums = (share.recip().unwrap() - 1.0).unwrap().log().unwrap();
    sums.transpose(1, 2).unwrap().contiguous().unwrap()
}

#[test]
fn softmax_attention() {
    let Some(golden) = Golden::open("attention/softmax_attention.safetensors") else {
        return;
    };
    for case in ["h4d8", "h2d64", "h2d16_pad"] {
        let get = |name: &str| golden.get(&format!("{case}.{name}")).clone();
        let q = get("q");
        let (_, heads, n, _) = q.dims4().unwrap();
        let qkv = Tensor::cat(&[pack(&q), pack(&get("k")), pack(&get("v"))], 1).unwrap();
        let padding: Vec<Vec<u8>> = get("padding").to_vec2().unwrap();
        let known = get("P").to_dtype(DType::F64).unwrap();
        let known = values(&known)[0] as usize;

        let used = |limit: usize| -> Vec<Vec<bool>> {
            let cell = |pad: &Vec<u8>| (0..n).map(|i| i < limit && pad[i] == 0).collect();
            padding.iter().map(cell).collect()
        };
        let dense = attend(&qkv, &used(n), heads, Keys::Only);
        golden.check(&format!("{case}.dense"), &unpack(&dense, &q));
        let sums = log_sums(&q, &get("k"), &used(n));
        golden.check(&format!("{case}.logsumexp_dense"), &sums);

        // Padded rows don't attend to themselves.
        let only = attend(&qkv, &used(known), heads, Keys::Only);
        let and_self = attend(&qkv, &used(known), heads, Keys::AndSelf);
        let padded = Tensor::new(padding.concat(), &Device::Cpu).unwrap();
        let padded = padded
            .unsqueeze(1)
            .unwrap()
            .broadcast_as(only.shape())
            .unwrap();
        let both = padded.where_cond(&only, &and_self).unwrap();
        golden.check(&format!("{case}.generative_mask"), &unpack(&both, &q));
    }
}

/// The features of all cells, with the factor that the original has and that cancels in the attention.
fn features(phi: sc_tensor::Result<Vec<Tensor>>) -> Tensor {
    let phi = Tensor::stack(&phi.unwrap(), 0).unwrap();
    let m = phi.dim(3).unwrap() as f64;
    (phi * m.powf(-0.5)).unwrap()
}

/// Which rows see which in generative pre-training. With scores that are all 0 and values that are the columns of a unit
/// matrix, attention shows it.
#[test]
fn the_mask_of_generative_pretraining() {
    let Some(golden) = Golden::open("scgpt_generative/dense_mask_r50.safetensors") else {
        return;
    };
    let (n, known) = (19, 10);
    let zeros = Tensor::zeros((n, 2 * n), DType::F32, &Device::Cpu).unwrap();
    let eye = Tensor::eye(n, DType::F32, &Device::Cpu).unwrap();
    let qkv = Tensor::cat(&[zeros, eye], 1).unwrap();
    let segments = Segments::with_keys([(n, known)]).unwrap();
    let y = ops::attention(&qkv, 1, &segments, Keys::AndSelf, None).unwrap();
    let seen: Vec<f64> = values(&y)
        .iter()
        .map(|&v| f64::from(u8::from(v > 0.0)))
        .collect();
    assert_eq!(seen, values(golden.get("allowed")));
}

#[test]
fn favor() {
    let Some(golden) = Golden::open("attention/favor.safetensors") else {
        return;
    };
    for case in ["d8m16", "d64m266", "d16_large"] {
        let get = |name: &str| golden.get(&format!("{case}.{name}")).clone();
        let check = |name: &str, found: &Tensor| golden.check(&format!("{case}.{name}"), found);
        let shape = get("q");
        let (batch, heads, n, _) = shape.dims4().unwrap();
        let segments = Segments::new(vec![n; batch]).unwrap();
        let projection = get("projection");
        let [q, k, v] = ["q", "k", "v"].map(|name| Var::from_tensor(&pack(&get(name))).unwrap());
        let run = |stabiliser| {
            ops::favor_attention(&q, &k, &v, &projection, heads, &segments, stabiliser).unwrap()
        };
        let phi = composed::favor_query_features(&q, &projection, heads, &segments);
        check("phi_q", &features(phi));
        for (name, stabiliser) in [
            ("phi_k_per_cell", Stabiliser::PerSequence),
            ("phi_k_batch_max", Stabiliser::Batch),
        ] {
            let phi = composed::favor_key_features(&k, &projection, heads, &segments, stabiliser);
            check(name, &features(phi));
        }
        check(
            "out_per_cell",
            &unpack(&run(Stabiliser::PerSequence), &shape),
        );

        let y = unpack(&run(Stabiliser::Batch), &shape);
        check("out_batch_max", &y);
        let count = y.elem_count();
        let weights: Vec<f32> = (0..count)
            .map(|i| (-1.0 + 2.0 * i as f64 / (count - 1) as f64) as f32)
            .collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
        let loss = (y * weights).unwrap().sum_all().unwrap();
        let grads = sc_tensor::backward(&loss).unwrap();
        for (name, x) in [("q", &q), ("k", &k), ("v", &v)] {
            let grad = unpack(grads.get(x).unwrap(), &shape);
            check(&format!("grad_batch_max.{name}"), &grad);
        }

        let scores =
            ops::favor_key_importance(&q, &k, &projection, heads, &segments, Stabiliser::Batch);
        let scores = scores.unwrap().reshape((batch, n, heads)).unwrap();
        check(
            "attention_column_mean_batch_max",
            &scores.transpose(1, 2).unwrap().contiguous().unwrap(),
        );
    }
}
