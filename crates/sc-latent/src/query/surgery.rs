//! The weights of a reference in a model with room for more categories.

use candle_core::Tensor;
use sc_model::{Param, Params};

use super::growth::{Growth, Source};
use crate::{Error, Parity, Result};

/// Copies the reference's values into the query's parameters and buffers, which have the same names and hold fresh random
/// values. Where the query has more categories, its fresh values stay for those.
pub(super) fn transplant(
    reference: &Params,
    query: &Params,
    growth: &Growth,
    parity: Parity,
) -> Result<()> {
    for param in query.iter() {
        let misfit = |old: Vec<usize>| Error::InvalidSetting {
            name: "cells",
            value: format!(
                "parameter {} of shape {:?}",
                param.name(),
                param.export_shape()
            ),
            reason: format!(
                "the reference has it of shape {old:?}; make the cells with Cells::for_query(data, model.registry())"
            ),
        };
        let old = reference
            .get(param.name())
            .ok_or_else(|| misfit(Vec::new()))?;
        let (from, to) = (old.export_shape(), param.export_shape());
        if from == to {
            param.import(&old.export()?)?;
            continue;
        }
        let differing: Vec<usize> = (0..to.len())
            .filter(|&d| from.get(d) != to.get(d))
            .collect();
        let &[dim] = differing.as_slice() else {
            return Err(misfit(from));
        };
        let slices = slices(param.name(), from[dim], to[dim], growth, parity);
        let slices = slices.ok_or_else(|| misfit(from.clone()))?;
        let value = assemble(old, param, dim, &slices)?;
        if value.dims() != to {
            return Err(misfit(from));
        }
        param.import(&value)?;
    }
    Ok(())
}

/// Where each slice of a resized tensor comes from.
fn slices(
    name: &str,
    old: usize,
    new: usize,
    growth: &Growth,
    parity: Parity,
) -> Option<Vec<Source>> {
    Some(match name {
        "px_r" => growth.dispersion_slices(parity),
        "library_log_means" | "library_log_vars" | "_embeddings_dict.batch.weight" => {
            growth.batch_slices()
        }
        _ => growth.input_slices(old, new, parity)?,
    })
}

/// Puts slices along `dim` side by side, all in the layout of files.
fn assemble(old: &Param, fresh: &Param, dim: usize, slices: &[Source]) -> Result<Tensor> {
    let (old, fresh) = (old.export()?, fresh.export()?);
    let old = old.to_dtype(fresh.dtype())?;
    let parts = slices
        .iter()
        .filter_map(|slice| match slice {
            Source::Reference(r) | Source::Fresh(r) if r.is_empty() => None,
            Source::Reference(r) => Some(old.narrow(dim, r.start, r.len())),
            Source::Fresh(r) => Some(fresh.narrow(dim, r.start, r.len())),
            Source::Zero => Some(fresh.narrow(dim, 0, 1).and_then(|t| t.zeros_like())),
            Source::Mean => Some(old.mean_keepdim(dim)),
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, dim)?)
}
