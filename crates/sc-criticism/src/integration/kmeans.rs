use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{Error, Result};

/// Rounds of one start.
const MAX_ROUNDS: usize = 300;
/// Starts end when their centres move less than this share of the mean variance of the coordinates.
const TOLERANCE: f64 = 1e-4;
/// Rows of a task.
const TASK: usize = 512;

/// `k` clusters of points by Lloyd's algorithm, the best of `starts` runs from centres chosen by k-means++ (Arthur and
/// Vassilvitskii 2007): the cluster of each point. Empty clusters take the point that is furthest from its centre.
///
/// The same seed gives the same clusters on any number of threads.
///
/// # Errors
/// [`Error::InvalidParameter`] unless `1 <= k <= n` and there is a start, [`Error::NotANumber`] if a coordinate is not
/// finite.
pub fn kmeans(points: ArrayView2<'_, f32>, k: usize, starts: usize, seed: u64) -> Result<Vec<u32>> {
    let n = points.nrows();
    if k == 0 || k > n || starts == 0 {
        return Err(Error::InvalidParameter {
            name: "the number of clusters or of starts",
            found: format!("{k} or {starts}"),
            expected: format!("1 to {n} clusters, at least 1 start"),
        });
    }
    if let Some(((row, column), &v)) = points.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotANumber {
            what: format!("column {column} of the embedding"),
            row,
            value: f64::from(v),
        });
    }
    let points = points.as_standard_layout();
    let run = |start: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(start);
        lloyd(points.view(), plus_plus(points.view(), k, &mut rng))
    };
    let mut best = run(0);
    for start in 1..starts as u64 {
        let next = run(start);
        if next.1 < best.1 {
            best = next;
        }
    }
    Ok(best.0)
}

/// Centres far from each other: each next one is a point chosen with a probability proportional to its squared distance
/// from those before; of a few candidates that which leaves the smallest sum of squares.
fn plus_plus(points: ArrayView2<'_, f32>, k: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let n = points.nrows();
    let candidates = 2 + (k as f64).ln() as usize;
    let mut centres = Array2::zeros((k, points.ncols()));
    let mut nearest = vec![f64::INFINITY; n];
    for c in 0..k {
        let tried = if c == 0 { 1 } else { candidates };
        let total: f64 = nearest.iter().sum();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..tried {
            let at = if c == 0 {
                rng.random_range(0..n)
            } else {
                chosen(&nearest, rng.random::<f64>() * total)
            };
            let centre = points.row(at);
            let left: Vec<f64> = (0..n)
                .into_par_iter()
                .with_min_len(TASK)
                .map(|i| nearest[i].min(square(points.row(i), centre)))
                .collect();
            let sum: f64 = left.iter().sum();
            if best.as_ref().is_none_or(|b| sum < b.0) {
                best = Some((sum, at, left));
            }
        }
        if let Some((_, at, left)) = best {
            centres.row_mut(c).assign(&points.row(at));
            nearest = left;
        }
    }
    centres
}

/// The place where the running sum of weights exceeds `at`.
fn chosen(weights: &[f64], at: f64) -> usize {
    let mut sum = 0.0;
    let found = weights.iter().position(|w| {
        sum += w;
        sum > at
    });
    found.unwrap_or(weights.len() - 1)
}

/// The clusters, and the sum of squared distances from their centres.
fn lloyd(points: ArrayView2<'_, f32>, mut centres: Array2<f32>) -> (Vec<u32>, f64) {
    let tolerance = TOLERANCE * mean_variance(points);
    let mut clusters: Vec<(u32, f64)> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        clusters = nearest_centres(points, centres.view());
        let next = means(points, &clusters, centres.nrows());
        let moved = centres
            .outer_iter()
            .zip(next.outer_iter())
            .map(|(a, b)| square(a, b))
            .sum::<f64>();
        centres = next;
        if moved <= tolerance {
            break;
        }
    }
    let sum = clusters.iter().map(|c| c.1).sum();
    (clusters.into_iter().map(|c| c.0).collect(), sum)
}

/// The nearest centre of each point and the squared distance from it; of equal ones the first.
fn nearest_centres(points: ArrayView2<'_, f32>, centres: ArrayView2<'_, f32>) -> Vec<(u32, f64)> {
    (0..points.nrows())
        .into_par_iter()
        .with_min_len(TASK)
        .map(|i| {
            let mut best = (0, f64::INFINITY);
            for (c, centre) in centres.outer_iter().enumerate() {
                let d = square(points.row(i), centre);
                if d < best.1 {
                    best = (c as u32, d);
                }
            }
            best
        })
        .collect()
}

/// The middles of the clusters.
fn means(points: ArrayView2<'_, f32>, clusters: &[(u32, f64)], k: usize) -> Array2<f32> {
    let mut sums = Array2::<f64>::zeros((k, points.ncols()));
    let mut sizes = vec![0usize; k];
    for (point, &(c, _)) in points.outer_iter().zip(clusters) {
        sizes[c as usize] += 1;
        for (sum, &v) in sums.row_mut(c as usize).iter_mut().zip(point) {
            *sum += f64::from(v);
        }
    }
    let mut far: Vec<usize> = Vec::new();
    if sizes.contains(&0) {
        far = (0..clusters.len()).collect();
        far.sort_by(|&a, &b| clusters[b].1.total_cmp(&clusters[a].1));
    }
    let mut far = far.into_iter();
    let mut out = Array2::zeros(sums.dim());
    for (c, mut row) in out.rows_mut().into_iter().enumerate() {
        if sizes[c] > 0 {
            let size = sizes[c] as f64;
            let mean = sums.row(c);
            row.iter_mut()
                .zip(mean)
                .for_each(|(o, s)| *o = (s / size) as f32);
        } else if let Some(i) = far.next() {
            row.assign(&points.row(i));
        }
    }
    out
}

/// The variance of the coordinates, averaged over them.
fn mean_variance(points: ArrayView2<'_, f32>) -> f64 {
    let variances = points.columns().into_iter().map(|column| {
        let n = column.len() as f64;
        let mean = column.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        column
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n
    });
    variances.sum::<f64>() / points.ncols().max(1) as f64
}

fn square(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f64 {
    // In `f32`, eight at a time: points are not compared with others but with a handful of centres.
    match (a.as_slice(), b.as_slice()) {
        (Some(a), Some(b)) => {
            let mut sums = [0f32; 8];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
            for (a, b) in a.iter().zip(b) {
                for l in 0..8 {
                    sums[l] += (a[l] - b[l]) * (a[l] - b[l]);
                }
            }
            for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
                sums[l] += (a - b) * (a - b);
            }
            sums.iter().map(|&s| f64::from(s)).sum()
        }
        _ => a
            .iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a - b).powi(2))
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_neighbors::adjusted_rand_index;

    fn clouds(n: usize) -> (Array2<f32>, Vec<u32>) {
        let truth: Vec<u32> = (0..n).map(|i| (i * i % 7 % 4) as u32).collect();
        let x = Array2::from_shape_fn((n, 9), |(i, j)| {
            let noise = ((i * 31 + j * 17 + i * i) % 97) as f32 / 97.0;
            noise + if j as u32 == truth[i] { 6.0 } else { 0.0 }
        });
        (x, truth)
    }

    #[test]
    fn clouds_are_found() {
        let (x, truth) = clouds(900);
        let k = truth.iter().max().unwrap() + 1;
        let groups = truth
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        assert!(groups >= 3, "{k}");
        let found = kmeans(x.view(), groups, 3, 0).unwrap();
        assert_eq!(adjusted_rand_index(&found, &truth).unwrap(), 1.0);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| kmeans(x.view(), 10, 2, 5).unwrap())
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn odd_input() {
        let same = Array2::<f32>::ones((5, 2));
        assert_eq!(kmeans(same.view(), 2, 1, 0).unwrap().len(), 5);
        assert!(kmeans(same.view(), 0, 1, 0).is_err());
        assert!(kmeans(same.view(), 6, 1, 0).is_err());
        assert!(kmeans(same.view(), 2, 0, 0).is_err());
        assert!(kmeans(ndarray::array![[f32::NAN]].view(), 1, 1, 0).is_err());
        let apart = ndarray::array![[0.0f32], [1.0], [2.0]];
        let mut all = kmeans(apart.view(), 3, 1, 0).unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }
}
