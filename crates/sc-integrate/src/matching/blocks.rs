//! Matching batch by batch.

use ndarray::{ArrayView2, Axis};
use sc_data::{Categorical, Csr};

use super::normalized;
use crate::Result;

/// Matches the cells of each batch among themselves, by any of the ways of this module, and puts the results together. Where
/// batches are known, nothing helps a matching more. Cells of a batch that the other side lacks have empty rows, as have
/// cells without a batch.
///
/// ```
/// use sc_data::Categorical;
/// use sc_integrate::matching::{shared_neighbours, within_batches};
///
/// let x = ndarray::array![[1.0f32, 0.0], [1.0, 0.1]];
/// let batches = Categorical::from_labels(&["a", "b"]);
/// let m = within_batches(x.view(), &batches, x.view(), &batches, |x, y| shared_neighbours(x, y, 1))?;
/// assert_eq!(m.row(1), (&[1u32][..], &[1.0f32][..]));
/// # Ok::<(), sc_integrate::Error>(())
/// ```
///
/// # Errors
/// [`sc_data::Error::LengthMismatch`] unless there is a batch, or a missing one, for each cell, and those of `matcher`.
pub fn within_batches(
    x: ArrayView2<'_, f32>,
    x_batches: &Categorical,
    y: ArrayView2<'_, f32>,
    y_batches: &Categorical,
    matcher: impl Fn(ArrayView2<'_, f32>, ArrayView2<'_, f32>) -> Result<Csr>,
) -> Result<Csr> {
    for (what, batches, n) in [
        ("first", x_batches, x.nrows()),
        ("second", y_batches, y.nrows()),
    ] {
        if batches.len() != n {
            return Err(sc_data::Error::LengthMismatch {
                what: format!("the batches of the {what} embedding"),
                found: batches.len(),
                expected: n,
            }
            .into());
        }
    }
    let mut rows = vec![Vec::new(); x.nrows()];
    for batch in x_batches.categories() {
        let of = |batches: &Categorical| -> Vec<usize> {
            (0..batches.len())
                .filter(|&i| batches.get(i) == Some(batch))
                .collect()
        };
        let (in_x, in_y) = (of(x_batches), of(y_batches));
        if in_x.is_empty() || in_y.is_empty() {
            continue;
        }
        let (of_x, of_y) = (x.select(Axis(0), &in_x), y.select(Axis(0), &in_y));
        let found = matcher(of_x.view(), of_y.view())?;
        for (r, &i) in in_x.iter().enumerate() {
            let (columns, values) = found.row(r);
            let entries = columns.iter().zip(values);
            let global = entries.filter_map(|(&c, &v)| {
                let j = in_y.get(c as usize)?;
                Some((*j as u32, f64::from(v)))
            });
            rows[i] = global.collect();
        }
    }
    normalized(rows, y.nrows())
}
