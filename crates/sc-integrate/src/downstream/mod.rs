//! What a trained model is for: embeddings, prediction of one modality from another, labels.

mod embed;
mod predict;
mod traits;
mod transfer;

pub(crate) use embed::unit_rows;
pub use embed::{Compose, JointEmbedding, ModalityEmbedding};
pub use predict::{LibrarySize, PredictOptions, Prediction};
pub use traits::OfModality;

use candle_core::{DType, Tensor};
use ndarray::Array2;

use crate::Result;

/// Cells that are encoded or decoded at once.
const CELLS_AT_ONCE: usize = 512;

/// Copies a matrix into some rows of another.
fn fill_rows(out: &mut Array2<f32>, start: usize, t: &Tensor) -> Result<()> {
    let (n, k) = t.dims2()?;
    let values: Vec<f32> = t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let part = Array2::from_shape_vec((n, k), values).map_err(candle_core::Error::wrap)?;
    for (mut to, from) in out.rows_mut().into_iter().skip(start).zip(part.rows()) {
        to.assign(&from);
    }
    Ok(())
}
