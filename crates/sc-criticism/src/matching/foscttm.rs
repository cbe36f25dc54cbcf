use ndarray::ArrayView2;
use sc_neighbors::GroupedPoints;

use crate::codes::same_length;
use crate::{Error, Result};

/// Fractions of samples closer than the true match; see [`foscttm`].
#[derive(Debug, Clone, PartialEq)]
pub struct Foscttm {
    /// Of each row of the first embedding among the rows of the second.
    pub first: Vec<f64>,
    /// Of each row of the second embedding among the rows of the first.
    pub second: Vec<f64>,
}

impl Foscttm {
    /// The mean over both directions: 0 if every cell is nearest to itself, about 0.5 by chance.
    pub fn mean(&self) -> f64 {
        let n = (self.first.len() + self.second.len()) as f64;
        (self.first.iter().sum::<f64>() + self.second.iter().sum::<f64>()) / n
    }
}

/// The fraction of samples closer than the true match (Liu et al. 2019), row `i` of both embeddings being the same cell: for
/// each row the share of the other side's rows that are strictly nearer to it, by Euclidean distance, than its own.
///
/// All pairs are compared, in tiles; memory is linear in the number of cells.
///
/// # Errors
/// [`Error::Length`] unless both have the same cells, [`Error::Undefined`] without cells, [`Error::Neighbors`] if a coordinate
/// is not finite or the dimensions differ.
pub fn foscttm(first: ArrayView2<'_, f32>, second: ArrayView2<'_, f32>) -> Result<Foscttm> {
    let one_way =
        |query: ArrayView2<'_, f32>, reference: ArrayView2<'_, f32>| -> Result<Vec<f64>> {
            let n = query.nrows() as f64;
            let nearer = ranks(query, reference)?;
            Ok(nearer.into_iter().map(|c| c as f64 / n).collect())
        };
    Ok(Foscttm {
        first: one_way(first, second)?,
        second: one_way(second, first)?,
    })
}

/// For each row of `query` how many rows of `reference` are nearer than its own.
fn ranks(query: ArrayView2<'_, f32>, reference: ArrayView2<'_, f32>) -> Result<Vec<u64>> {
    let n = query.nrows();
    same_length("one embedding", reference.nrows(), "the other", n)?;
    if n == 0 {
        return Err(Error::Undefined("there are no cells".into()));
    }
    let all = GroupedPoints::new(reference, &vec![0; n])?;
    Ok(all.count_nearer(query, reference)?)
}

/// The share of rows of `query` of which the same row of `reference` is among the `k` nearest, by Euclidean distance. Scale
/// rows to length 1 first for cosines.
///
/// # Errors
/// As [`foscttm`]; [`Error::InvalidParameter`] if `k` is 0.
pub fn recall_at(
    query: ArrayView2<'_, f32>,
    reference: ArrayView2<'_, f32>,
    k: usize,
) -> Result<f64> {
    if k == 0 {
        return Err(Error::InvalidParameter {
            name: "k",
            found: "0".into(),
            expected: "at least 1".into(),
        });
    }
    let ranks = ranks(query, reference)?;
    let found = ranks.iter().filter(|&&r| r < k as u64).count();
    Ok(found as f64 / ranks.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn by_hand() {
        let x = array![[0.0f32], [1.0], [5.0]];
        let y = array![[0.2f32], [0.1], [4.0]];
        let f = foscttm(x.view(), y.view()).unwrap();
        // From 0: 0.1 is nearer than 0.2. From 1: 0.2 is nearer than 0.1.
        assert_eq!(f.first, [1.0 / 3.0, 1.0 / 3.0, 0.0]);
        assert_eq!(f.second, [0.0, 1.0 / 3.0, 0.0]);
        assert!((f.mean() - 1.0 / 6.0).abs() < 1e-12);
        assert_eq!(recall_at(x.view(), y.view(), 1).unwrap(), 1.0 / 3.0);
        assert_eq!(recall_at(x.view(), y.view(), 2).unwrap(), 1.0);
        // Equally near is not nearer.
        let same = array![[1.0f32], [1.0]];
        assert_eq!(foscttm(same.view(), same.view()).unwrap().mean(), 0.0);
    }

    #[test]
    fn bad_input_is_named() {
        let x = array![[0.0f32], [1.0]];
        let e = foscttm(x.view(), array![[0.0f32]].view()).unwrap_err();
        assert!(e.to_string().contains("1 rows; expected 2"), "{e}");
        assert!(foscttm(x.view(), array![[0.0f32], [f32::NAN]].view()).is_err());
        assert!(foscttm(x.view(), array![[0.0f32, 1.0], [0.0, 1.0]].view()).is_err());
        assert!(recall_at(x.view(), x.view(), 0).is_err());
        let none = ndarray::Array2::zeros((0, 2));
        assert!(foscttm(none.view(), none.view()).is_err());
    }
}
