use ndarray::{Array2, ArrayView2};

use crate::{Error, Result};

/// The weight of the conservation of biology in a total; the removal of batches has the rest. scIB's and scGPT's choice.
pub const BIO_WEIGHT: f64 = 0.6;

/// A total of two kinds of scores: `0.6 bio + 0.4 batch`.
pub fn total(bio: f64, batch: f64) -> f64 {
    BIO_WEIGHT * bio + (1.0 - BIO_WEIGHT) * batch
}

/// Scores of a method in GLUE's comparison; see [`glue_overall`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GlueScores {
    /// The mean of the scaled scores of biology.
    pub bio: f64,
    /// The mean of the scaled scores of mixing.
    pub mixing: f64,
    /// `0.6 bio + 0.4 mixing`.
    pub overall: f64,
}

/// The scores by which GLUE (Cao and Gao 2022) compares methods on a data set: each metric is brought to 0..=1 over the
/// methods, `(x - min) / (max - min)`; then those of biology (mean average precision, silhouette width, neighbour
/// conservation) and those of mixing (alignment score, silhouette of omics layers, graph connectivity) are averaged.
///
/// Rows of `bio` and `mixing` are methods, columns are metrics.
///
/// # Errors
/// [`Error::Length`] unless both have the same methods, [`Error::NotANumber`] if a score is not finite, [`Error::Undefined`] if
/// all methods have the same value of a metric, or there are none.
pub fn glue_overall(
    bio: ArrayView2<'_, f64>,
    mixing: ArrayView2<'_, f64>,
) -> Result<Vec<GlueScores>> {
    if bio.nrows() != mixing.nrows() {
        return Err(Error::Length {
            what: "the scores of mixing".into(),
            found: mixing.nrows(),
            like: "those of biology".into(),
            expected: bio.nrows(),
        });
    }
    let (bio, mixing) = (scaled(bio)?, scaled(mixing)?);
    let mean = |m: &Array2<f64>, i: usize| m.row(i).sum() / m.ncols() as f64;
    Ok((0..bio.nrows())
        .map(|i| {
            let (bio, mixing) = (mean(&bio, i), mean(&mixing, i));
            GlueScores {
                bio,
                mixing,
                overall: total(bio, mixing),
            }
        })
        .collect())
}

/// Each column brought to 0..=1.
fn scaled(scores: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    if let Some(((row, column), &value)) = scores.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotANumber {
            what: format!("metric {column}"),
            row,
            value,
        });
    }
    if scores.is_empty() {
        return Err(Error::Undefined("there are no scores to compare".into()));
    }
    let mut out = scores.to_owned();
    for (at, mut column) in out.columns_mut().into_iter().enumerate() {
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low == high {
            return Err(Error::Undefined(format!(
                "all methods have the same value of metric {at}, which cannot be scaled"
            )));
        }
        column.mapv_inplace(|v| (v - low) / (high - low));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn scores_are_relative_to_the_other_methods() {
        let s = glue_overall(
            array![[0.2, 5.0], [0.4, 1.0]].view(),
            array![[0.0], [0.1]].view(),
        )
        .unwrap();
        assert_eq!((s[0].bio, s[0].mixing, s[0].overall), (0.5, 0.0, 0.3));
        assert!((s[1].overall - 0.7).abs() < 1e-12);
        let flat = array![[1.0], [1.0]];
        assert!(glue_overall(flat.view(), flat.view()).is_err());
        assert!(glue_overall(flat.view(), array![[1.0]].view()).is_err());
        let nan = array![[f64::NAN], [1.0]];
        assert!(glue_overall(nan.view(), nan.view()).is_err());
    }
}
