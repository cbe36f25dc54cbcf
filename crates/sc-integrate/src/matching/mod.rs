//! Which cell of one modality is which of another: matchings of embeddings, as the competition's entries made them.
//!
//! A matching is a sparse matrix with a row for each cell of the first set and a column for each of the second, whose rows
//! sum to 1, or to 0 where a cell has no match. Vectors are compared by direction: rows are brought to length 1 first.
//!
//! ```
//! use sc_integrate::matching::{bipartite, shared_neighbours};
//!
//! let rna = ndarray::array![[1.0f32, 0.1], [0.1, 1.0]];
//! let protein = ndarray::array![[0.0f32, 2.0], [3.0, 0.0]];
//! let soft = shared_neighbours(rna.view(), protein.view(), 1)?;
//! assert_eq!(soft.row(0), (&[1u32][..], &[1.0f32][..]));
//! assert_eq!(bipartite(rna.view(), protein.view())?, [Some(1), Some(0)]);
//! # Ok::<(), sc_integrate::Error>(())
//! ```

mod assign;
mod blocks;
mod kernel;
mod shared;
mod sinkhorn;

pub use assign::{as_matching, bipartite};
pub use blocks::within_batches;
pub use kernel::{mutual_neighbours, nearest_neighbours};
pub use shared::{ensemble_shared_neighbours, shared_neighbours};
pub(crate) use sinkhorn::{Plan, plan};
pub use sinkhorn::{SinkhornOptions, sinkhorn};

use ndarray::{Array2, ArrayView2};
use sc_data::Csr;
use sc_neighbors::{Neighbors, knn_query};

use crate::{Error, Result};

/// Rows brought to length 1.
fn directions(x: ArrayView2<'_, f32>) -> Array2<f32> {
    crate::downstream::unit_rows(&x.to_owned())
}

/// Two sets of cells that can be compared, as directions.
fn both(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<(Array2<f32>, Array2<f32>)> {
    if x.ncols() != y.ncols() {
        return Err(sc_data::Error::LengthMismatch {
            what: "the dimensions of the second embedding".into(),
            found: y.ncols(),
            expected: x.ncols(),
        }
        .into());
    }
    for (what, a) in [("first", &x), ("second", &y)] {
        if a.nrows() == 0 {
            return Err(Error::NoCells {
                what: format!("the {what} embedding"),
                reason: "there is nothing to match".into(),
            });
        }
    }
    Ok((directions(x), directions(y)))
}

/// The `k` nearest rows of `reference`, at most all.
fn nearest(reference: &Array2<f32>, query: &Array2<f32>, k: usize) -> Result<Neighbors> {
    if k == 0 {
        return Err(Error::InvalidSetting {
            name: "k",
            value: "0".into(),
            reason: "it must be at least 1".into(),
        });
    }
    let k = k.min(reference.nrows());
    Ok(knn_query(reference.view(), query.view(), k)?)
}

/// A matching from rows of columns and weights, each row brought to sum 1 if it has any weight.
fn normalized(rows: Vec<Vec<(u32, f64)>>, n_columns: usize) -> Result<Csr> {
    let mut indptr = Vec::with_capacity(rows.len() + 1);
    indptr.push(0);
    let (mut indices, mut values) = (Vec::new(), Vec::new());
    let n = rows.len();
    for mut row in rows {
        row.sort_unstable_by_key(|e| e.0);
        let sum: f64 = row.iter().map(|e| e.1).sum();
        if sum > 0.0 {
            indices.extend(row.iter().map(|e| e.0));
            values.extend(row.iter().map(|e| (e.1 / sum) as f32));
        }
        indptr.push(indices.len());
    }
    Ok(Csr::new(n, n_columns, indptr, indices, values)?)
}
