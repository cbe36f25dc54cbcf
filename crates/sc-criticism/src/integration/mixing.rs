use sc_neighbors::{Neighbors, lisi_all};

use crate::Result;
use crate::codes::{Codes, at_least_two};
use crate::statistics::median;

/// The perplexity that scIB takes with `k` neighbours besides the cell itself, which it counts.
fn perplexity(neighbors: &Neighbors) -> f64 {
    ((neighbors.k() + 1) as f64 / 3.0)
        .floor()
        .clamp(1.0, neighbors.k().max(1) as f64)
}

/// How well batches are mixed among neighbours, 0..=1: `(median_i LISI_i - 1) / (n_batches - 1)` with the local inverse
/// Simpson's indices of [`sc_neighbors::lisi`]. scIB takes 90 neighbours, the cell itself counted: `k = 89` here.
///
/// # Errors
/// [`Error::InvalidParameter`](crate::Error::InvalidParameter) with fewer than two batches, else as
/// [`sc_neighbors::lisi`].
pub fn ilisi(neighbors: &Neighbors, batches: &[u32]) -> Result<f64> {
    let n = Codes::new(batches).n();
    at_least_two("the number of batches", n)?;
    let all = lisi_all(neighbors, &[batches], Some(perplexity(neighbors)))?;
    let middle = all.first().and_then(|l| median(l)).unwrap_or(1.0);
    Ok((middle - 1.0) / (n - 1) as f64)
}

/// How well labels are kept apart among neighbours, 0..=1: `(n_labels - median_i LISI_i) / (n_labels - 1)`, with neighbours as
/// for [`ilisi`].
///
/// # Errors
/// [`Error::InvalidParameter`](crate::Error::InvalidParameter) with fewer than two labels, else as
/// [`sc_neighbors::lisi`].
pub fn clisi(neighbors: &Neighbors, labels: &[u32]) -> Result<f64> {
    let n = Codes::new(labels).n();
    at_least_two("the number of labels", n)?;
    let all = lisi_all(neighbors, &[labels], Some(perplexity(neighbors)))?;
    let middle = all.first().and_then(|l| median(l)).unwrap_or(1.0);
    Ok((n as f64 - middle) / (n - 1) as f64)
}

/// [`ilisi`] and [`clisi`], for which the weights of the neighbours are found once.
pub(super) fn both_lisi(
    neighbors: &Neighbors,
    batches: &[u32],
    labels: &[u32],
) -> (Result<f64>, Result<f64>) {
    let all = match lisi_all(neighbors, &[batches, labels], Some(perplexity(neighbors))) {
        Ok(all) => all,
        Err(e) => {
            let text = e.to_string();
            return (Err(e.into()), Err(crate::Error::Undefined(text)));
        }
    };
    let middle = |which: usize| all.get(which).and_then(|l| median(l)).unwrap_or(1.0);
    let (b, l) = (Codes::new(batches).n(), Codes::new(labels).n());
    let mixed = at_least_two("the number of batches", b);
    let apart = at_least_two("the number of labels", l);
    (
        mixed.map(|()| (middle(0) - 1.0) / (b - 1) as f64),
        apart.map(|()| (l as f64 - middle(1)) / (l - 1) as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use sc_neighbors::knn;

    #[test]
    fn both_at_once_are_the_same() {
        let x = Array2::from_shape_fn((60, 3), |(i, j)| ((i * 37 + j * 17 + i * i) % 101) as f32);
        let near = knn(x.view(), 29).unwrap();
        let batches: Vec<u32> = (0..60).map(|i| i % 3).collect();
        let labels: Vec<u32> = (0..60).map(|i| i / 15).collect();
        let (i, c) = both_lisi(&near, &batches, &labels);
        assert_eq!(i.unwrap(), ilisi(&near, &batches).unwrap());
        assert_eq!(c.unwrap(), clisi(&near, &labels).unwrap());
        let (i, c) = both_lisi(&near, &[7; 60], &labels);
        assert!(
            i.unwrap_err()
                .to_string()
                .contains("number of batches is 1")
        );
        assert!(c.is_ok());
        assert!(both_lisi(&near, &[0, 1], &labels).0.is_err());
    }
}
