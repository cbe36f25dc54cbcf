//! Reading the reference numbers.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use ndarray::Array2;
use sc_tensor::ops::Segments;
use sc_tests::shared;
use sc_transformer::tokens::TokenBatch;
use sc_transformer::vocab::{GeneVocab, SPECIALS};
use serde_json::Value;

pub(crate) fn golden() -> Option<PathBuf> {
    Some(shared()?.join("golden/transformer"))
}

pub(crate) fn f64s(v: &Value) -> Vec<f64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

pub(crate) fn f32s(v: &Value) -> Vec<f32> {
    f64s(v).into_iter().map(|x| x as f32).collect()
}

pub(crate) fn u32s(v: &Value) -> Vec<u32> {
    f64s(v).into_iter().map(|x| x as u32).collect()
}

pub(crate) fn usizes(v: &Value) -> Vec<usize> {
    f64s(v).into_iter().map(|x| x as usize).collect()
}

pub(crate) fn texts(v: &Value) -> Vec<String> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn matrix(v: &Value) -> Array2<f32> {
    let rows: Vec<Vec<f32>> = v.as_array().unwrap().iter().map(f32s).collect();
    let shape = (rows.len(), rows[0].len());
    Array2::from_shape_vec(shape, rows.concat()).unwrap()
}

pub(crate) fn load(path: &str) -> Option<HashMap<String, Tensor>> {
    Some(candle_core::safetensors::load(golden()?.join(path), &Device::Cpu).unwrap())
}

pub(crate) fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub(crate) fn dense(t: &Tensor) -> Array2<f32> {
    let values = numbers(t).into_iter().map(|v| v as f32).collect();
    Array2::from_shape_vec(t.dims2().unwrap(), values).unwrap()
}

/// Cells as the original pads them.
pub(crate) fn padded<T: Copy>(batch: &TokenBatch, of: &[T], pad: T) -> Vec<Vec<T>> {
    let longest = batch.longest();
    let cells = batch.segments.iter().map(|s| {
        let mut row = of[s.start..s.start + s.rows].to_vec();
        row.resize(longest, pad);
        row
    });
    cells.collect()
}

/// A vocabulary of as many tokens as the golden data count, whose gene `i` is called `g<i>`.
pub(crate) fn numbered(n: usize) -> GeneVocab {
    GeneVocab::new(
        (0..n)
            .map(|i| format!("g{i}"))
            .chain(SPECIALS.map(str::to_owned)),
    )
    .unwrap()
}

/// A batch of these cells, padding left out.
pub(crate) fn packed(ids: &[Vec<u32>], values: &[Vec<f32>], has_cls: bool) -> TokenBatch {
    let segments = Segments::new(ids.iter().map(Vec::len)).unwrap();
    TokenBatch {
        cells: (0..ids.len()).collect(),
        ids: ids.concat(),
        values: values.concat(),
        targets: values.concat(),
        scored: vec![false; ids.iter().map(Vec::len).sum()],
        modality: None,
        flags: None,
        has_cls,
        segments,
    }
}
