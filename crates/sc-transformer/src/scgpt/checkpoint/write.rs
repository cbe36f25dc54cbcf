//! Checkpoints for the original.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Tensor};
use sc_io::pytorch::{self, Dict, TorchTensor, Value};
use sc_model::{Params, files};

use super::names::Layout;
use super::{ARGS, VOCAB, WEIGHTS};
use crate::Result;
use crate::scgpt::args::Args;
use crate::scgpt::model::ScGpt;

pub(super) fn export(model: &ScGpt, dir: &Path, layout: Layout) -> Result<()> {
    let state = state_dict(model.parameters(), layout)?;
    files::create_folder(dir)?;
    pytorch::write(dir.join(WEIGHTS), &state)?;
    model.vocab().save(dir.join(VOCAB))?;
    let text = format!("{:#}\n", Args::of(model.config()).to_json());
    let path = dir.join(ARGS);
    Ok(files::write_atomic(&path, |f| {
        f.write_all(text.as_bytes())
    })?)
}

/// All parameters and buffers, under the names of a layout.
fn state_dict(params: &Params, layout: Layout) -> Result<Value> {
    let tensor = |p: &sc_model::Param| -> Result<(String, Value)> {
        Ok((layout.name(p.name()), Value::from(to_torch(&p.export()?)?)))
    };
    let all = params.iter().map(tensor).collect::<Result<Vec<_>>>()?;
    Ok(Dict::ordered(all).into())
}

fn to_torch(t: &Tensor) -> Result<TorchTensor> {
    let (shape, flat) = (t.dims(), t.flatten_all()?);
    Ok(match t.dtype() {
        DType::F64 => TorchTensor::from_f64(shape, &flat.to_vec1()?)?,
        DType::I64 => TorchTensor::from_i64(shape, &flat.to_vec1()?)?,
        _ => TorchTensor::from_f32(shape, &flat.to_dtype(DType::F32)?.to_vec1()?)?,
    })
}
