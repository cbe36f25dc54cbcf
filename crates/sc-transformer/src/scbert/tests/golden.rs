//! What happens inside the network, against the numbers of the original.

use sc_tensor::ops::composed::{favor_key_features, favor_query_features};
use sc_tensor::ops::{Segments, Stabiliser};

use super::*;
use crate::golden::{Golden, folder};
use crate::scbert::nets::Attended;

fn open() -> Option<(Scbert, Golden, Vec<u32>)> {
    let path = folder()?.join("scbert/panglao_pretrain.pth");
    let options = UpstreamOptions::default();
    let model = Scbert::from_scbert(path, panel(100), &options, &Device::Cpu).unwrap();
    let cell = Golden::open("scbert/inputs.safetensors")?.tokens("tokens");
    let golden = Golden::open("scbert/expected.safetensors")?;
    Some((model, golden, cell[..101].to_vec()))
}

#[test]
fn blocks_from_the_inside() {
    let Some((model, golden, cell)) = open() else {
        return;
    };
    let (c, mode) = (model.config(), Mode::eval());
    let (heads, d, m) = (c.heads, c.dim_head, c.n_features());
    let segments = Segments::new([cell.len()]).unwrap();
    let own = Stabiliser::PerSequence;
    let mut x = model.nets.embed(&cell, &mode).unwrap();
    golden.near("cell0.embedding", &x);
    for (i, block) in model.nets.blocks.iter().enumerate() {
        let attended = block.attend(&x, heads, &segments, own, &mode).unwrap();
        let next = block.feed(&attended, &mode).unwrap();
        golden.near(&format!("cell0.block{i}.output"), &next);
        if i == 0 {
            let of = |name: &str| format!("cell0.block0.{name}");
            golden.near(&of("attn_out"), &(attended - &x).unwrap());
            let (q, k) = block.queries_and_keys(&x, &mode).unwrap();
            golden.near(&of("q_head0"), &q.narrow(1, 0, d).unwrap());
            golden.near(&of("k_head0"), &k.narrow(1, 0, d).unwrap());
            // The original's features have a factor that cancels in the attention.
            let first = |phi: &Tensor| {
                let rows = phi.get(0).unwrap().narrow(0, 0, 8).unwrap();
                (rows * (m as f64).powf(-0.5)).unwrap()
            };
            let p = block.projection.value();
            let phi = favor_query_features(&q, p, heads, &segments).unwrap();
            golden.near(&of("phi_q_head0_first8"), &first(&phi[0]));
            let phi = favor_key_features(&k, p, heads, &segments, own).unwrap();
            golden.near(&of("phi_k_head0_first8"), &first(&phi[0]));
        }
        x = next;
    }
}

#[test]
fn attention_by_block_and_head() {
    let Some((model, golden, cell)) = open() else {
        return;
    };
    for (name, attended) in [
        ("natural", Attended::Forward),
        ("upstream", Attended::AfterResidual),
    ] {
        let blocks = model.nets.importance(&cell, attended).unwrap();
        let by_head: Vec<Tensor> = blocks.iter().map(|b| b.t().unwrap()).collect();
        let all = Tensor::stack(&by_head, 0).unwrap();
        golden.near(&format!("importance.{name}.per_layer_head"), &all);
        // What the original's half precision gives is near that, too.
        if attended == Attended::AfterResidual {
            let found = model.position_importance(&cell, Parity::Upstream).unwrap();
            let found = Tensor::new(found, &Device::Cpu).unwrap();
            golden.near("importance.upstream_fp16", &found);
        }
    }
}
