use ndarray::{Array2, ArrayView2, Axis};
use sc_neighbors::silhouette_samples;

use crate::codes::{Codes, at_least_two, pick, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// Average silhouette width of labels, 0..=1: `(mean_i s_i + 1) / 2` with the silhouette widths `s_i` of
/// [`sc_neighbors::silhouette_samples`], Euclidean. 1: labels form tight groups far apart; 0.5: they overlap.
///
/// `silhouette_label` of scib-metrics, `avg_silhouette_width` of scglue.
///
/// # Errors
/// As [`sc_neighbors::silhouette_samples`].
pub fn asw_label(points: ArrayView2<'_, f32>, labels: &[u32]) -> Result<f64> {
    let widths = silhouette_samples(points, labels)?;
    Ok(rescaled(widths.iter().copied()))
}

/// The mean of silhouette widths, brought to 0..=1.
fn rescaled(widths: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = widths.len() as f64;
    f64::midpoint(widths.sum::<f64>() / n, 1.0)
}

/// The labels that occur in the fewest batches, or in at most `threshold` of them.
///
/// # Errors
/// [`Error::Length`] unless there is a batch for each label, [`Error::Undefined`] if no label is in that few.
pub fn isolated(labels: &[u32], batches: &[u32], threshold: Option<usize>) -> Result<Vec<u32>> {
    same_length("the batches", batches.len(), "the labels", labels.len())?;
    let codes = Codes::new(labels);
    let in_batches: Vec<usize> = codes
        .rows()
        .iter()
        .map(|rows| Codes::new(&pick(batches, rows)).n())
        .collect();
    let fewest = in_batches.iter().copied().min().unwrap_or_default();
    let threshold = threshold.unwrap_or(fewest);
    if threshold < fewest || codes.n() == 0 {
        return Err(Error::Undefined(format!(
            "no label is in at most {threshold} batches; the fewest are {fewest}"
        )));
    }
    let chosen = codes.labels.iter().zip(&in_batches);
    Ok(chosen
        .filter(|(_, n)| **n <= threshold)
        .map(|(&l, _)| l)
        .collect())
}

/// How well labels that occur in few batches are kept apart, 0..=1: the silhouette widths of the cells of each
/// [`isolated`] label, averaged and brought to 0..=1, then averaged over these labels. `isolated_labels` of scib-metrics.
///
/// # Errors
/// As [`isolated`] and [`sc_neighbors::silhouette_samples`].
pub fn isolated_asw(
    points: ArrayView2<'_, f32>,
    labels: &[u32],
    batches: &[u32],
    threshold: Option<usize>,
) -> Result<f64> {
    let chosen = isolated(labels, batches, threshold)?;
    isolated_from_widths(&silhouette_samples(points, labels)?, labels, &chosen)
}

/// Both of [`asw_label`] and [`isolated_asw`], for which the widths are computed once.
///
/// # Errors
/// As they.
pub(super) fn label_widths(
    points: ArrayView2<'_, f32>,
    labels: &[u32],
    batches: &[u32],
) -> Result<(f64, Result<f64>)> {
    let widths = silhouette_samples(points, labels)?;
    let asw = rescaled(widths.iter().copied());
    let few = isolated(labels, batches, None)
        .and_then(|chosen| isolated_from_widths(&widths, labels, &chosen));
    Ok((asw, few))
}

fn isolated_from_widths(widths: &[f64], labels: &[u32], chosen: &[u32]) -> Result<f64> {
    let each: Vec<f64> = chosen
        .iter()
        .map(|&label| {
            let own = widths.iter().zip(labels).filter(|(_, l)| **l == label);
            let own: Vec<f64> = own.map(|(&w, _)| w).collect();
            rescaled(own.into_iter())
        })
        .collect();
    mean(&each).ok_or_else(|| Error::Undefined("there are no labels".into()))
}

/// What is done with labels within which batches have no silhouette: those of one batch, and those with a batch for
/// each cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AswBatch {
    /// They are left out, as scIB does.
    #[default]
    Scib,
    /// They count as perfectly mixed (1), as in scglue.
    Scglue,
}

/// How well batches are mixed within labels, 0..=1: the mean over labels of `mean_i (1 - |s_i|)`, where `s_i` is the
/// silhouette width of cell `i` by batch among the cells with its label. 1: batches overlap.
///
/// # Errors
/// [`Error::Length`] unless there is a label and a batch for each point, [`Error::Undefined`] if no label has a width,
/// [`Error::Neighbors`] if a coordinate is not finite.
pub fn asw_batch(
    points: ArrayView2<'_, f32>,
    labels: &[u32],
    batches: &[u32],
    without: AswBatch,
) -> Result<f64> {
    let each = within_labels(labels, batches, points.nrows(), |rows, batches| {
        let part = points.select(Axis(0), rows);
        let widths = silhouette_samples(part.view(), batches)?;
        Ok(widths.iter().map(|w| 1.0 - w.abs()).sum::<f64>() / widths.len() as f64)
    })?;
    let each: Vec<f64> = match without {
        AswBatch::Scib => each.into_iter().flatten().collect(),
        AswBatch::Scglue => each.into_iter().map(|v| v.unwrap_or(1.0)).collect(),
    };
    mean(&each).ok_or_else(no_mixed_label)
}

fn no_mixed_label() -> Error {
    Error::Undefined(
        "no label has cells of several batches, and several cells of one of them".into(),
    )
}

/// What `score` makes of the rows of each label and their batches; `None` where batches have no silhouette.
fn within_labels(
    labels: &[u32],
    batches: &[u32],
    cells: usize,
    score: impl Fn(&[usize], &[u32]) -> Result<f64>,
) -> Result<Vec<Option<f64>>> {
    same_length("the labels", labels.len(), "the embedding", cells)?;
    same_length("the batches", batches.len(), "the embedding", cells)?;
    at_least_two("the number of batches", Codes::new(batches).n())?;
    let rows = Codes::new(labels).rows();
    rows.iter()
        .map(|rows| {
            let own = pick(batches, rows);
            let n = Codes::new(&own).n();
            if n < 2 || n == rows.len() {
                Ok(None)
            } else {
                score(rows, &own).map(Some)
            }
        })
        .collect()
}

/// From what a cell's own batch is told apart in [`bras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Others {
    /// All cells of the other batches.
    #[default]
    All,
    /// The other batch that is furthest away.
    Furthest,
}

/// Batch-removal-adapted silhouette, 0..=1 (Rautenstrauch and Ohler 2025): like [`asw_batch`], but with cosine distances,
/// and against all other batches rather than the nearest one, which a single well-mixed pair of batches would satisfy.
///
/// Mean cosine distances to a group are linear in its points: `mean_j (1 - u_i . u_j) = 1 - u_i . mean_j u_j`, so that the
/// time is linear in the number of points. A point at the origin has no direction, and is at distance 1 from all.
///
/// # Errors
/// As [`asw_batch`].
pub fn bras(
    points: ArrayView2<'_, f32>,
    labels: &[u32],
    batches: &[u32],
    others: Others,
) -> Result<f64> {
    if let Some(((row, column), &value)) = points.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotANumber {
            what: format!("column {column} of the embedding"),
            row,
            value: f64::from(value),
        });
    }
    let each = within_labels(labels, batches, points.nrows(), |rows, batches| {
        Ok(cosine_mixing(points, rows, batches, others))
    })?;
    let each: Vec<f64> = each.into_iter().flatten().collect();
    mean(&each).ok_or_else(no_mixed_label)
}

/// `mean_i (1 - |s_i|)` among some rows.
fn cosine_mixing(
    points: ArrayView2<'_, f32>,
    rows: &[usize],
    batches: &[u32],
    others: Others,
) -> f64 {
    let codes = Codes::new(batches);
    let mut units = points.select(Axis(0), rows).mapv(f64::from);
    for mut row in units.rows_mut() {
        let norm = row.dot(&row).sqrt();
        if norm > 0.0 {
            row /= norm;
        }
    }
    let mut sums = Array2::<f64>::zeros((codes.n(), units.ncols()));
    for (row, &b) in units.outer_iter().zip(&codes.of) {
        let mut sum = sums.row_mut(b as usize);
        sum += &row;
    }
    let total = sums.sum_axis(Axis(0));
    let mixing = units.outer_iter().zip(&codes.of).map(|(row, &own)| {
        let own = own as usize;
        let size = codes.sizes[own];
        if size == 1 {
            return 1.0;
        }
        let own_sum = row.dot(&sums.row(own));
        let near = 1.0 - (own_sum - row.dot(&row)) / (size - 1) as f64;
        let far = match others {
            Others::All => 1.0 - (row.dot(&total) - own_sum) / (rows.len() - size) as f64,
            Others::Furthest => (0..codes.n())
                .filter(|&b| b != own)
                .map(|b| 1.0 - row.dot(&sums.row(b)) / codes.sizes[b] as f64)
                .fold(f64::NEG_INFINITY, f64::max),
        };
        // Rounding can make distances of 0 negative.
        let (near, far) = (near.max(0.0), far.max(0.0));
        let larger = near.max(far);
        let width = if larger > 0.0 {
            (far - near) / larger
        } else {
            0.0
        };
        1.0 - width.abs()
    });
    mixing.sum::<f64>() / rows.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn example() -> (Array2<f32>, Vec<u32>, Vec<u32>) {
        let x = Array2::from_shape_fn((24, 3), |(i, j)| {
            ((i * 37 + j * 17 + i * i * j) % 101) as f32 / 10.0 + 1.0
        });
        let labels = (0..24).map(|i| i % 3).collect();
        let batches = (0..24).map(|i| (i / 3) % 2).collect();
        (x, labels, batches)
    }

    #[test]
    fn cosine_distances_to_groups_are_those_to_their_points() {
        let (x, labels, batches) = example();
        let u = x.mapv(f64::from);
        let distance = |i: usize, j: usize| {
            let (a, b) = (u.row(i), u.row(j));
            1.0 - a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
        };
        let mut each = Vec::new();
        for label in 0..3u32 {
            let rows: Vec<usize> = (0..24).filter(|&i| labels[i] == label).collect();
            let widths = rows.iter().map(|&i| {
                let of = |same: bool| -> Vec<f64> {
                    let it = rows.iter().filter(|&&j| j != i);
                    it.filter(|&&j| (batches[j] == batches[i]) == same)
                        .map(|&j| distance(i, j))
                        .collect()
                };
                let (a, b) = (mean(&of(true)).unwrap(), mean(&of(false)).unwrap());
                1.0 - ((b - a) / a.max(b)).abs()
            });
            each.push(mean(&widths.collect::<Vec<_>>()).unwrap());
        }
        let expected = mean(&each).unwrap();
        let found = bras(x.view(), &labels, &batches, Others::All).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn undefined_widths_are_named() {
        let (x, labels, _) = example();
        let one = vec![0; 24];
        for e in [
            asw_batch(x.view(), &labels, &one, AswBatch::Scib).unwrap_err(),
            bras(x.view(), &labels, &one, Others::All).unwrap_err(),
        ] {
            assert!(e.to_string().contains("number of batches is 1"), "{e}");
        }
        // Each label in a batch of its own.
        assert!(asw_batch(x.view(), &labels, &labels, AswBatch::Scib).is_err());
        assert_eq!(
            asw_batch(x.view(), &labels, &labels, AswBatch::Scglue).unwrap(),
            1.0
        );
        assert!(asw_label(x.view(), &one).is_err());
        assert!(asw_label(x.view(), &[0, 1]).is_err());
        let mut bad = x.clone();
        bad[[3, 1]] = f32::NAN;
        let e = bras(bad.view(), &labels, &labels, Others::All).unwrap_err();
        assert!(e.to_string().contains("row 3"), "{e}");
        assert!(asw_label(bad.view(), &labels).is_err());
    }

    #[test]
    fn isolated_labels_are_those_in_few_batches() {
        let (labels, batches) = ([0, 0, 1, 1, 2, 2], [0, 1, 0, 0, 1, 1]);
        assert_eq!(isolated(&labels, &batches, None).unwrap(), [1, 2]);
        assert_eq!(isolated(&labels, &batches, Some(2)).unwrap(), [0, 1, 2]);
        assert!(isolated(&labels, &batches, Some(0)).is_err());
        let x = array![[0.0f32], [1.0], [5.0], [5.5], [9.0], [9.1]];
        let all = isolated_asw(x.view(), &labels, &batches, None).unwrap();
        assert!(all > 0.9, "{all}");
    }
}
