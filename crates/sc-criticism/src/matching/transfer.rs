use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use sc_neighbors::{Neighbors, knn, knn_query};

use crate::codes::same_length;
use crate::{Error, Result};

/// Labels transferred from one modality to another; see [`snn_label_transfer`].
#[derive(Debug, Clone, PartialEq)]
pub struct SnnTransfer {
    /// The label of each query cell.
    pub labels: Vec<u32>,
    /// The share of the weight that voted for it, 0..=1; 0 where no reference cell shares a neighbour.
    pub confidence: Vec<f64>,
}

/// Labels by shared nearest neighbours, as scglue transfers them.
///
/// Of a reference cell `r` and a query cell `q`, let `J_rq` be the number of reference cells among the `k` nearest of both, plus
/// the number of query cells among the `k` nearest of both; a cell is one of the nearest of its own side. With `w_rq = J_rq / (4 k -
/// J_rq)`, brought to sum 1 over `r`, the weights of each label are summed; the highest wins, the first of equal ones.
///
/// # Errors
/// [`Error::Length`] unless there is a label for each reference cell, [`Error::InvalidParameter`] unless `2 <= k`, else as
/// [`sc_neighbors::knn`].
pub fn snn_label_transfer(
    reference: ArrayView2<'_, f32>,
    labels: &[u32],
    query: ArrayView2<'_, f32>,
    k: usize,
) -> Result<SnnTransfer> {
    same_length(
        "the labels",
        labels.len(),
        "the reference",
        reference.nrows(),
    )?;
    let most = reference.nrows().min(query.nrows());
    if k < 2 || k > most {
        return Err(Error::InvalidParameter {
            name: "k",
            found: k.to_string(),
            expected: format!("2 to {most}, the cells of the smaller side; usually 30"),
        });
    }
    // For each reference cell those that count it among their nearest.
    let in_reference = reversed(&with_self(&knn(reference, k - 1)?), reference.nrows());
    let near_query = knn_query(query, reference, k)?.indices;
    let in_query = reversed(&near_query, query.nrows());
    let from_query = knn_query(reference, query, k)?.indices;
    let own_query = with_self(&knn(query, k - 1)?);
    let n_labels = labels.iter().max().map_or(0, |&m| m as usize + 1);
    let found: Vec<(u32, f64)> = (0..query.nrows())
        .into_par_iter()
        .map_init(
            || (vec![0u32; reference.nrows()], Vec::new()),
            |(shared, touched), q| {
                let reference_side = from_query.row(q);
                let query_side = own_query.row(q);
                let lists = reference_side.iter().map(|&j| &in_reference[j as usize]);
                let lists = lists.chain(query_side.iter().map(|&j| &in_query[j as usize]));
                for &r in lists.flatten() {
                    if shared[r as usize] == 0 {
                        touched.push(r);
                    }
                    shared[r as usize] += 1;
                }
                // One order of the sums, whatever the order of the lists.
                touched.sort_unstable();
                let mut votes = vec![0.0; n_labels];
                for r in touched.drain(..) {
                    let j = f64::from(std::mem::take(&mut shared[r as usize]));
                    votes[labels[r as usize] as usize] += j / (4.0 * k as f64 - j);
                }
                winner(&votes)
            },
        )
        .collect();
    let (labels, confidence) = found.into_iter().unzip();
    Ok(SnnTransfer { labels, confidence })
}

/// The label with the most votes, and its share of them.
fn winner(votes: &[f64]) -> (u32, f64) {
    let all: f64 = votes.iter().sum();
    let mut best = (0, 0.0);
    for (label, &v) in votes.iter().enumerate() {
        if v > best.1 {
            best = (label as u32, v);
        }
    }
    (best.0, if all > 0.0 { best.1 / all } else { 0.0 })
}

/// The neighbours of each point, itself first.
fn with_self(near: &Neighbors) -> Array2<u32> {
    Array2::from_shape_fn((near.n_points(), near.k() + 1), |(i, c)| {
        if c == 0 {
            i as u32
        } else {
            near.indices[[i, c - 1]]
        }
    })
}

/// For each of `n` points the rows that hold it.
fn reversed(lists: &Array2<u32>, n: usize) -> Vec<Vec<u32>> {
    let mut out = vec![Vec::new(); n];
    for (i, list) in lists.outer_iter().enumerate() {
        for &j in list {
            out[j as usize].push(i as u32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn clouds_keep_their_labels() {
        let x = Array2::from_shape_fn((60, 2), |(i, j)| {
            let noise = ((i * 31 + j * 17 + i * i) % 97) as f32 / 97.0;
            if i % 2 == j { 9.0 + noise } else { noise }
        });
        let y = &x + 0.1;
        let labels: Vec<u32> = (0..60).map(|i| 3 * (i % 2)).collect();
        let found = snn_label_transfer(x.view(), &labels, y.view(), 5).unwrap();
        assert_eq!(found.labels, labels);
        assert!(found.confidence.iter().all(|&c| c == 1.0));
    }

    #[test]
    fn bad_input_is_named() {
        let x = array![[0.0f32], [1.0], [2.0]];
        let transfer = |labels: &[u32], k| snn_label_transfer(x.view(), labels, x.view(), k);
        assert!(transfer(&[0, 1], 2).is_err());
        assert!(transfer(&[0, 1, 1], 1).is_err());
        assert!(transfer(&[0, 1, 1], 4).is_err());
        assert!(transfer(&[0, 1, 1], 2).is_ok());
    }
}
