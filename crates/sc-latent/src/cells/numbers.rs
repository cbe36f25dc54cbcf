//! Columns of `obs` that hold numbers.

use ndarray::Array2;
use sc_data::Table;

use crate::{Error, Result, Setup};

/// The continuous covariates of `n` cells, `[N, K]`.
pub(super) fn of_covariates(obs: &Table, setup: &Setup, n: usize) -> Result<Array2<f32>> {
    let keys = &setup.continuous_covariate_keys;
    let mut out = Array2::zeros((n, keys.len()));
    for (mut column, key) in out.columns_mut().into_iter().zip(keys) {
        let values = obs.column("obs", key)?.to_f64(key)?;
        column
            .iter_mut()
            .zip(values)
            .for_each(|(c, v)| *c = v as f32);
    }
    Ok(out)
}

/// The size factors, if there is a column of them.
pub(super) fn size_factors(obs: &Table, setup: &Setup) -> Result<Option<Vec<f32>>> {
    let Some(key) = &setup.size_factor_key else {
        return Ok(None);
    };
    Ok(Some(positive(key, &obs.column("obs", key)?.to_f64(key)?)?))
}

fn positive(key: &str, values: &[f64]) -> Result<Vec<f32>> {
    match values.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        Some(i) => Err(Error::InvalidSetting {
            name: "size_factor_key",
            value: format!("{key} ({} at cell {i})", values[i]),
            reason: "size factors must be positive".into(),
        }),
        None => Ok(values.iter().map(|&v| v as f32).collect()),
    }
}
