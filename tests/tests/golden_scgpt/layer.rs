//! The first layer, step by step, with the weights by their names.

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_tensor::ops::{self, Keys, Segments};

use super::folder::{Golden, Inputs};

const WIDTH: usize = 32;
const HEADS: usize = 4;
const TOKENS: usize = 19;

/// `[cells x tokens, D]` as `[cells, heads, tokens, numbers of a head]`.
fn by_head(x: &Tensor) -> Tensor {
    let x = x.reshape(((), TOKENS, HEADS, WIDTH / HEADS)).unwrap();
    x.transpose(1, 2).unwrap().contiguous().unwrap()
}

/// The weights of the softmax, `[cells, heads, tokens, keys]`: attention to the columns of a unit matrix, eight at a time.
fn weights(q: &Tensor, k: &Tensor, segments: &Segments) -> Tensor {
    let (n, size) = (q.dim(0).unwrap(), WIDTH / HEADS);
    let mut parts = Vec::new();
    for first in (0..TOKENS).step_by(size) {
        let one = |row: usize, column: usize| row % TOKENS == first + column % size;
        let v = (0..n * WIDTH).map(|i| f32::from(u8::from(one(i / WIDTH, i % WIDTH))));
        let v = Tensor::from_vec(v.collect(), (n, WIDTH), &Device::Cpu).unwrap();
        let qkv = Tensor::cat(&[q, k, &v], 1).unwrap();
        let y = ops::attention(&qkv, HEADS, segments, Keys::Only, None).unwrap();
        parts.push(by_head(&y));
    }
    let all = Tensor::cat(&parts, 3).unwrap();
    all.narrow(3, 0, TOKENS).unwrap().contiguous().unwrap()
}

#[test]
fn a_layer_step_by_step() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let expected = golden.file("scgpt/expected.safetensors");
    let model = golden.checkpoint("scgpt").load(&Device::Cpu).unwrap();
    let mode = Mode::eval();
    let weight = |name: &str| {
        let name = format!("transformer_encoder.layers.0.{name}");
        let p = model.parameters().get(&name);
        p.unwrap_or_else(|| panic!("no {name}")).value().clone()
    };
    let linear = |x: &Tensor, name: &str| {
        let [w, b] = ["weight", "bias"].map(|kind| weight(&format!("{name}.{kind}")));
        ops::linear(x, &w, Some(&b)).unwrap()
    };
    let norm = |x: &Tensor, name: &str| {
        let [w, b] = ["weight", "bias"].map(|kind| weight(&format!("{name}.{kind}")));
        ops::layer_norm(x, Some(&w), Some(&b), 1e-5).unwrap()
    };

    // The reference has cells 0 and 2.
    let cells = [0, 2];
    let of = |all: Vec<f32>| cells.map(|c| all[c * TOKENS..][..TOKENS].to_vec()).concat();
    let ids = inputs.file.u32s("gene_ids");
    let ids = cells.map(|c| ids[c * TOKENS..][..TOKENS].to_vec()).concat();
    let valid = cells.map(|c| &inputs.valid[c * TOKENS..][..TOKENS]);
    let keys = valid.map(|v| v.iter().filter(|v| **v).count());
    let segments = Segments::with_keys(keys.map(|k| (TOKENS, k))).unwrap();
    let rows = valid.concat();

    let genes = model.gene_vectors(&ids, &mode).unwrap();
    let values = model.value_vectors(&of(inputs.file.f32s("values")), &mode);
    let h = (genes + values.unwrap()).unwrap();
    let qkv = linear(&h, "self_attn.Wqkv");
    let [q, k, v] = [0, 1, 2].map(|i| qkv.narrow(1, i * WIDTH, WIDTH).unwrap());
    for (name, x) in [("q", &q), ("k", &k), ("v", &v)] {
        expected.near(&format!("layer0.{name}"), &by_head(x));
    }
    let of_heads = valid.map(|v| v.repeat(HEADS)).concat();
    let found = weights(&q, &k, &segments);
    expected.near_where("layer0.attn_probs", &found, Some(&of_heads));
    let context = ops::attention(&qkv, HEADS, &segments, Keys::Only, None).unwrap();
    let attended = linear(&context, "self_attn.out_proj");
    let normed = norm(&(&h + &attended).unwrap(), "norm1");
    let inner = ops::relu(&linear(&normed, "linear1")).unwrap();
    let fed = linear(&inner, "linear2");
    for (name, x) in [
        ("attn_context", &context),
        ("attn_out", &attended),
        ("after_norm1", &normed),
        ("ffn_out", &fed),
    ] {
        expected.near_where(&format!("layer0.{name}"), x, Some(&rows));
    }
    let output = norm(&(normed + fed).unwrap(), "norm2");
    let wanted = expected.get("layer0.output").to_dtype(DType::F64).unwrap();
    let output = output.reshape((2, TOKENS, WIDTH)).unwrap();
    for (i, c) in cells.into_iter().enumerate() {
        let rows = |t: &Tensor, cell: usize| {
            let t = t.get(cell).unwrap().narrow(0, 0, keys[i]).unwrap();
            sc_tests::values(&t)
        };
        for (f, e) in rows(&output, i).iter().zip(rows(&wanted, c)) {
            assert!((f - e).abs() < 2e-5 + 1e-5 * e.abs(), "{f} instead of {e}");
        }
    }
}
