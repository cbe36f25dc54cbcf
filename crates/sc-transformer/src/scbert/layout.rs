//! The tensors of a checkpoint: which there must be, and what a file has instead.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::Tensor;

use super::ScbertConfig;
use super::nets::HeadKind;
use crate::{Error, Result};

/// Name and shape of every tensor of such a model, in upstream's order.
pub(super) fn layout(
    c: &ScbertConfig,
    positions: usize,
    head: HeadKind,
) -> Vec<(String, Vec<usize>)> {
    let (dim, inner, hidden) = (c.dim, c.inner(), c.n_hidden());
    let mut all = vec![
        ("token_emb.weight".to_owned(), vec![c.n_tokens(), dim]),
        ("pos_emb.emb.weight".to_owned(), vec![positions, dim]),
        ("performer.calls_since_last_redraw".to_owned(), vec![]),
    ];
    for i in 0..c.depth {
        let block = [
            ("0.norm.weight", vec![dim]),
            ("0.norm.bias", vec![dim]),
            (
                "0.fn.fast_attention.projection_matrix",
                vec![c.n_features(), c.dim_head],
            ),
            ("0.fn.to_q.weight", vec![inner, dim]),
            ("0.fn.to_k.weight", vec![inner, dim]),
            ("0.fn.to_v.weight", vec![inner, dim]),
            ("0.fn.to_out.weight", vec![dim, inner]),
            ("0.fn.to_out.bias", vec![dim]),
            ("1.norm.weight", vec![dim]),
            ("1.norm.bias", vec![dim]),
            ("1.fn.fn.w1.weight", vec![hidden, dim]),
            ("1.fn.fn.w1.bias", vec![hidden]),
            ("1.fn.fn.w2.weight", vec![dim, hidden]),
            ("1.fn.fn.w2.bias", vec![dim]),
        ];
        all.extend(block.map(|(n, shape)| (format!("performer.net.layers.{i}.{n}"), shape)));
    }
    let mut add = |name: &str, shape: Vec<usize>| all.push((name.to_owned(), shape));
    add("norm.weight", vec![dim]);
    add("norm.bias", vec![dim]);
    let [first, second] = c.classifier_hidden;
    match head {
        HeadKind::Tokens => {
            add("to_out.weight", vec![c.n_tokens(), dim]);
            add("to_out.bias", vec![c.n_tokens()]);
        }
        HeadKind::Classes(n) => {
            add("to_out.conv1.weight", vec![1, 1, 1, dim]);
            add("to_out.conv1.bias", vec![1]);
            for (name, out, input) in [
                ("fc1", first, positions),
                ("fc2", second, first),
                ("fc3", n, second),
            ] {
                add(&format!("to_out.{name}.weight"), vec![out, input]);
                add(&format!("to_out.{name}.bias"), vec![out]);
            }
        }
    }
    all
}

/// Accepts a file that has just these tensors, but for those named in `ignore`.
pub(super) fn compare(
    path: &Path,
    expected: &[(String, Vec<usize>)],
    found: &HashMap<String, Tensor>,
    ignore: &[String],
) -> Result<()> {
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for (name, shape) in expected {
        match found.get(name) {
            None => missing.push(name.clone()),
            Some(t) if t.dims() != shape.as_slice() => {
                shapes.push(format!("{name} is {:?} instead of {shape:?}", t.dims()));
            }
            Some(_) => {}
        }
    }
    let known: HashSet<&str> = expected.iter().map(|e| e.0.as_str()).collect();
    let others = found
        .keys()
        .filter(|n| !known.contains(n.as_str()) && !ignore.contains(n));
    let mut unexpected: Vec<String> = others.cloned().collect();
    unexpected.sort_unstable();
    match missing.is_empty() && shapes.is_empty() && unexpected.is_empty() {
        true => Ok(()),
        false => Err(Error::OtherTensors {
            path: path.to_owned(),
            missing,
            unexpected,
            shapes,
        }),
    }
}
