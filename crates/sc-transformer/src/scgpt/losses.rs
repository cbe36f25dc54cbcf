//! The objectives: each a scalar to differentiate.
//!
//! Masks are tensors of 0 and 1 of the shape of the prediction. With nothing to score, a mean over scored positions is NaN,
//! as in the original; the training recipes leave such a term out.

use candle_core::{D, DType, Device, Tensor};
use sc_tensor::ops;

use super::config::ensure;
use super::rows::normalise_rows;
use crate::Result;

/// Mean squared error over the masked positions: gene expression prediction (GEP), and GEPC with the values that were
/// predicted from cells.
///
/// # Errors
/// If the shapes differ.
pub fn masked_mse(predicted: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let error = ((predicted * mask)? - (target * mask)?)?;
    Ok((error.sqr()?.sum_all()? / mask.sum_all()?)?)
}

/// Bernoulli negative log-likelihood of "the value is not zero" over the masked positions, from the logits of its
/// probability: `log(1 + e^l) - t l` with `t = 1(target > 0)`, exact for all logits.
///
/// # Errors
/// If the shapes differ.
pub fn nonzero_nll(logits: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let t = target.gt(0f64)?.to_dtype(logits.dtype())?;
    let nll = (ops::softplus(logits)? - (t * logits)?)?;
    Ok(((nll * mask)?.sum_all()? / mask.sum_all()?)?)
}

/// [`nonzero_nll`] from probabilities, which are kept one machine epsilon away from 0 and 1, as torch does.
///
/// # Errors
/// If the shapes differ.
pub fn nonzero_nll_of_probs(probs: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let eps = match probs.dtype() {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    let p = probs.maximum(eps)?.minimum(1.0 - eps)?;
    let logits = (p.log()? - ops::log1p(&p.neg()?)?)?;
    nonzero_nll(&logits, target, mask)
}

/// Elastic cell similarity: `mean(1 - (relu(S) - beta)^2)` over all pairs, where `S` are the cosines between the cells'
/// vectors and 0 on the diagonal. Cells more similar than `beta` are drawn together, others pushed apart.
///
/// # Errors
/// If `cells` is no matrix.
pub fn elastic_similarity(cells: &Tensor, beta: f64) -> Result<Tensor> {
    let (n, _) = cells.dims2()?;
    let c = normalise_rows(cells, 1e-12)?;
    let others = (1.0 - Tensor::eye(n, c.dtype(), c.device())?)?;
    let s = (c.matmul(&c.t()?.contiguous()?)? * others)?;
    let pull = (ops::relu(&s)? - beta)?.sqr()?;
    Ok((1.0 - pull)?.mean_all()?)
}

/// The temperature of [`contrastive`] in all recipes.
pub const TEMPERATURE: f64 = 0.5;

/// Cosines between all pairs of two views of the same cells, divided by the temperature.
///
/// # Errors
/// If the shapes differ.
pub fn contrastive_logits(first: &Tensor, second: &Tensor, temperature: f64) -> Result<Tensor> {
    let (a, b) = (normalise_rows(first, 1e-8)?, normalise_rows(second, 1e-8)?);
    Ok((a.matmul(&b.t()?.contiguous()?)? / temperature)?)
}

/// Contrastive cell embedding (CCE): each cell must be most similar to itself in a second view, which differs by its
/// dropout (Gao et al. 2021).
///
/// # Errors
/// If the shapes differ.
pub fn contrastive(first: &Tensor, second: &Tensor, temperature: f64) -> Result<Tensor> {
    let labels: Vec<u32> = (0..first.dim(0)? as u32).collect();
    cross_entropy(&contrastive_logits(first, second, temperature)?, &labels)
}

/// Mean cross-entropy of labels: cell types (CLS) or batches (DAB).
///
/// # Errors
/// If a label has no logit, or there are more or fewer labels than rows.
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let (n, classes) = logits.dims2()?;
    let reason = format_args!("there are {n} rows of logits");
    ensure(labels.len() == n, "labels", labels.len(), reason)?;
    let hot = ops::one_hot(labels, classes, logits.dtype(), logits.device())?;
    let chosen = (ops::log_softmax(logits)? * hot)?.sum(D::Minus1)?;
    Ok(chosen.neg()?.mean_all()?)
}

/// Mean of `|predicted - target| / (target + 1e-6)` over the masked positions. Includes zeros if the mask does, and is then
/// very large.
///
/// # Errors
/// If the shapes differ.
pub fn mean_relative_error(predicted: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let error = ((predicted - target)?.abs()? * mask)?;
    let relative = (error / (target + 1e-6)?)?;
    Ok((relative.sum_all()? / mask.sum_all()?)?)
}

/// A mask with a 1 for each row that is scored.
pub(super) fn mask_of(scored: &[bool], dtype: DType, device: &Device) -> Result<Tensor> {
    let mask: Vec<u8> = scored.iter().map(|&s| u8::from(s)).collect();
    Ok(Tensor::from_vec(mask, scored.len(), device)?.to_dtype(dtype)?)
}
