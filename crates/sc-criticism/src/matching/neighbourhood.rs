use ndarray::{ArrayView2, Axis, Slice};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sc_neighbors::{knn, knn_query};

use crate::codes::{Codes, at_least_two, pick, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// Neighbours that are held at a time, in all cells together.
const HELD: usize = 1 << 23;

/// scglue's number of neighbours for a share of the cells: `max(round(n share), 1)`, at most all others. Its `round`
/// takes halves to the even number.
///
/// # Errors
/// [`Error::InvalidParameter`] unless the share is above 0 and up to 1 and there are two cells.
pub fn neighbours_of_share(n_cells: usize, share: f64) -> Result<usize> {
    at_least_two("the number of cells", n_cells)?;
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::InvalidParameter {
            name: "the share of the cells that are neighbours",
            found: share.to_string(),
            expected: "more than 0, up to 1; usually 0.01".into(),
        });
    }
    let k = (n_cells as f64 * share).round_ties_even() as usize;
    Ok(k.clamp(1, n_cells - 1))
}

/// What `each` makes of a cell's number and its `k` nearest others, nearest first. A cell is not its own neighbour. Cells
/// are taken some at a time, so that memory does not grow with `k` times their number.
fn over_neighbours<T: Send>(
    points: ArrayView2<'_, f32>,
    k: usize,
    each: impl Fn(usize, &[u32]) -> T + Sync,
) -> Result<Vec<T>> {
    let n = points.nrows();
    if n * k <= HELD {
        let near = knn(points, k)?;
        let rows = near.indices.outer_iter().enumerate();
        return Ok(rows.map(|(i, row)| each(i, &row.to_vec())).collect());
    }
    let mut out = Vec::with_capacity(n);
    let step = (HELD / (k + 1)).max(1);
    for start in (0..n).step_by(step) {
        let end = (start + step).min(n);
        let part = points.slice_axis(Axis(0), Slice::from(start..end));
        // The cell itself is found too, unless many others lie at its place.
        let near = knn_query(points, part, k + 1)?;
        let found: Vec<T> = near
            .indices
            .outer_iter()
            .into_par_iter()
            .enumerate()
            .map(|(r, row)| {
                let own = (start + r) as u32;
                let mut others: Vec<u32> = row.iter().copied().filter(|&j| j != own).collect();
                others.truncate(k);
                each(start + r, &others)
            })
            .collect();
        out.extend(found);
    }
    Ok(out)
}

/// Mean average precision of labels among the `k` nearest neighbours, 0..=1 (Cao and Gao 2022): for each cell the precision
/// at the rank of every neighbour with its label, averaged over these; 0 if there are none. With
/// [`neighbours_of_share`]`(n, 0.01)` it is scglue's.
///
/// # Errors
/// [`Error::Length`] unless there is a label for each cell, else as [`sc_neighbors::knn`].
pub fn mean_average_precision(
    points: ArrayView2<'_, f32>,
    labels: &[u32],
    k: usize,
) -> Result<f64> {
    same_length("the labels", labels.len(), "the embedding", points.nrows())?;
    let each = over_neighbours(points, k, |i, near| {
        let (mut hits, mut sum) = (0.0, 0.0);
        for (rank, &j) in near.iter().enumerate() {
            if labels[j as usize] == labels[i] {
                hits += 1.0;
                sum += hits / (rank + 1) as f64;
            }
        }
        if hits > 0.0 { sum / hits } else { 0.0 }
    })?;
    mean(&each).ok_or_else(|| Error::Undefined("there are no cells".into()))
}

/// How well the neighbours of cells within their batch are kept, 0..=1: the Jaccard index `|A n B| / |A u B|` of a cell's `k`
/// nearest neighbours before and after integration, both within its batch, averaged over the cells of a batch and then over
/// batches. scglue takes [`neighbours_of_share`]`(n, 0.01)` of all cells. Small batches have fewer.
///
/// # Errors
/// [`Error::Length`] unless all are of the same cells; [`Error::InvalidParameter`] if `k` is 0 or a batch has one cell; else as
/// [`sc_neighbors::knn`].
pub fn neighbor_conservation(
    before: ArrayView2<'_, f32>,
    after: ArrayView2<'_, f32>,
    batches: &[u32],
    k: usize,
) -> Result<f64> {
    let n = batches.len();
    same_length(
        "the embedding before integration",
        before.nrows(),
        "the batches",
        n,
    )?;
    same_length("the embedding", after.nrows(), "the batches", n)?;
    let mut each = Vec::new();
    for rows in Codes::new(batches).rows() {
        at_least_two("the number of cells in a batch", rows.len())?;
        let k = k.min(rows.len() - 1);
        let sets = |points: ArrayView2<'_, f32>| {
            over_neighbours(points.select(Axis(0), &rows).view(), k, |_, near| {
                let mut near = near.to_vec();
                near.sort_unstable();
                near
            })
        };
        let (a, b) = (sets(before)?, sets(after)?);
        let shared = a.iter().zip(&b).map(|(a, b)| {
            let both = a.iter().filter(|j| b.binary_search(j).is_ok()).count();
            both as f64 / (a.len() + b.len() - both) as f64
        });
        each.push(shared.sum::<f64>() / rows.len() as f64);
    }
    mean(&each).ok_or_else(|| Error::Undefined("there are no cells".into()))
}

/// Seurat's alignment score, 0..=1 (Butler et al. 2018): with as many cells of each of `B` batches as the smallest has, and on
/// average `x` of `k` nearest neighbours in a cell's own batch, `(k - x) B / (k (B - 1))`, at most 1. `k` is
/// [`neighbours_of_share`] of these cells; the mean over `repeats` random choices of them (scglue: 4). If all batches have the
/// same size, nothing is chosen and once is enough.
///
/// # Errors
/// [`Error::Length`] unless there is a batch for each cell, [`Error::InvalidParameter`] with fewer than two batches or no
/// repeat, else as [`neighbours_of_share`] and [`sc_neighbors::knn`].
pub fn seurat_alignment_score(
    points: ArrayView2<'_, f32>,
    batches: &[u32],
    share: f64,
    repeats: usize,
    seed: u64,
) -> Result<f64> {
    same_length(
        "the batches",
        batches.len(),
        "the embedding",
        points.nrows(),
    )?;
    let codes = Codes::new(batches);
    at_least_two("the number of batches", codes.n())?;
    if repeats == 0 {
        return Err(Error::InvalidParameter {
            name: "repeats",
            found: "0".into(),
            expected: "at least 1, usually 4".into(),
        });
    }
    let rows = codes.rows();
    let smallest = codes.sizes.iter().copied().min().unwrap_or_default();
    let equal = codes.sizes.iter().all(|&s| s == smallest);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let each = (0..if equal { 1 } else { repeats })
        .map(|_| {
            let mut chosen: Vec<usize> = Vec::with_capacity(smallest * codes.n());
            for rows in &rows {
                let places = sample(&mut rng, rows.len(), smallest);
                chosen.extend(places.iter().filter_map(|p| rows.get(p)));
            }
            chosen.sort_unstable();
            alignment(
                points.select(Axis(0), &chosen).view(),
                &pick(&codes.of, &chosen),
                codes.n() as f64,
                share,
            )
        })
        .collect::<Result<Vec<f64>>>()?;
    mean(&each).ok_or_else(|| Error::Undefined("there are no cells".into()))
}

fn alignment(
    points: ArrayView2<'_, f32>,
    batches: &[u32],
    n_batches: f64,
    share: f64,
) -> Result<f64> {
    let k = neighbours_of_share(batches.len(), share)?;
    let own = over_neighbours(points, k, |i, near| {
        near.iter()
            .filter(|&&j| batches[j as usize] == batches[i])
            .count()
    })?;
    let own = own.iter().sum::<usize>() as f64 / batches.len() as f64;
    let k = k as f64;
    Ok(((k - own) * n_batches / (k * (n_batches - 1.0))).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn precision_by_hand() {
        let x = array![[0.0f32], [1.0], [3.0], [6.0]];
        // Neighbours of 0: 1, 3, 6; of 1: 0, 3, 6; of 3: 1, 0 (both 2 and 3 away), 6; of 6: 3, 1, 0.
        let labels = [0, 1, 0, 0];
        let map = mean_average_precision(x.view(), &labels, 2).unwrap();
        assert!((map - (0.5 + 0.0 + 0.5 + 1.0) / 4.0).abs() < 1e-12, "{map}");
        assert!(mean_average_precision(x.view(), &[0], 2).is_err());
        assert!(mean_average_precision(x.view(), &labels, 4).is_err());
    }

    #[test]
    fn shares_round_like_python() {
        assert_eq!(neighbours_of_share(250, 0.01).unwrap(), 2);
        assert_eq!(neighbours_of_share(350, 0.01).unwrap(), 4);
        assert_eq!(neighbours_of_share(10, 0.01).unwrap(), 1);
        assert_eq!(neighbours_of_share(10, 1.0).unwrap(), 9);
        assert!(neighbours_of_share(10, 0.0).is_err());
        assert!(neighbours_of_share(1, 0.5).is_err());
    }

    #[test]
    fn the_same_neighbours_are_conserved() {
        let x = Array2::from_shape_fn((60, 3), |(i, j)| ((i * 37 + j * 17 + i * i) % 101) as f32);
        let batches: Vec<u32> = (0..60).map(|i| i % 2).collect();
        assert_eq!(
            neighbor_conservation(x.view(), x.view(), &batches, 5).unwrap(),
            1.0
        );
        let far = x.mapv(|v| (v * 13.0) % 29.0);
        let other = neighbor_conservation(x.view(), far.view(), &batches, 5).unwrap();
        assert!(other < 0.5, "{other}");
        let mut alone = batches.clone();
        alone[3] = 9;
        assert!(neighbor_conservation(x.view(), x.view(), &alone, 5).is_err());
    }

    #[test]
    fn alignment_of_mixed_and_separate_batches() {
        let n = 120;
        let x = Array2::from_shape_fn((n, 2), |(i, j)| {
            ((i * 37 + j * 17 + i * i * j) % 101) as f32
        });
        let mixed: Vec<u32> = (0..n as u32).map(|i| u32::from(i % 3 == 0)).collect();
        let mut apart = x.clone();
        for (mut row, &b) in apart.rows_mut().into_iter().zip(&mixed) {
            row += 1e4 * b as f32;
        }
        let score =
            |x: &Array2<f32>, seed| seurat_alignment_score(x.view(), &mixed, 0.1, 4, seed).unwrap();
        assert!(score(&x, 0) > 0.8);
        assert_eq!(score(&apart, 0), 0.0);
        assert_eq!(score(&x, 7), score(&x, 7));
        assert!(seurat_alignment_score(x.view(), &mixed, 0.1, 0, 0).is_err());
        assert!(seurat_alignment_score(x.view(), &[0; 120], 0.1, 4, 0).is_err());
    }
}
