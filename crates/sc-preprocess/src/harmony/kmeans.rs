//! The first clusters: k-means++ and Lloyd's iteration.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand::Rng;
use rayon::prelude::*;

/// Rounds of Lloyd's iteration.
const ROUNDS: usize = 25;
/// Points whose distances one thread computes at a time. Fixed, because the order of sums depends on it.
const AT_ONCE: usize = 512;

/// The centres of `k` clusters of points (one after the other, `dims` numbers each), the best of `starts` attempts.
pub(super) fn kmeans(
    points: &[f64],
    dims: usize,
    k: usize,
    starts: usize,
    rng: &mut impl Rng,
) -> Vec<f64> {
    let mut best = (f64::INFINITY, Vec::new());
    for _ in 0..starts {
        let mut centres = plus_plus(points, dims, k, rng);
        let mut inertia = f64::INFINITY;
        for _ in 0..ROUNDS {
            let step = assign(points, dims, &centres);
            let settled = (inertia - step.inertia) <= 1e-6 * step.inertia;
            inertia = step.inertia;
            if settled {
                break;
            }
            move_centres(&mut centres, dims, &step);
        }
        if inertia < best.0 || best.1.is_empty() {
            best = (inertia, centres);
        }
    }
    best.1
}

/// Centres that lie apart: each next one a point, with a probability that grows with the squared distance to the nearest
/// centre so far. Arthur and Vassilvitskii 2007.
fn plus_plus(points: &[f64], dims: usize, k: usize, rng: &mut impl Rng) -> Vec<f64> {
    let n = points.len() / dims;
    let mut distance = vec![f64::INFINITY; n];
    let mut next = rng.random_range(0..n);
    let mut centres = Vec::with_capacity(k * dims);
    loop {
        let centre: Vec<f64> = points
            .iter()
            .skip(next * dims)
            .take(dims)
            .copied()
            .collect();
        distance
            .par_iter_mut()
            .zip(points.par_chunks_exact(dims))
            .with_min_len(AT_ONCE)
            .for_each(|(d, p)| {
                let own: f64 = p.iter().zip(&centre).map(|(a, b)| (a - b).powi(2)).sum();
                *d = d.min(own);
            });
        centres.extend(centre);
        if centres.len() >= k * dims {
            return centres;
        }
        let total: f64 = distance.iter().sum();
        if total <= 0.0 {
            next = rng.random_range(0..n);
            continue;
        }
        let mut left = rng.random::<f64>() * total;
        let chosen = distance.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        next = chosen.unwrap_or(n - 1);
    }
}

/// What the points nearest to each centre sum up to.
struct Step {
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// The sum of squared distances.
    inertia: f64,
}

fn assign(points: &[f64], dims: usize, centres: &[f64]) -> Step {
    let k = centres.len() / dims;
    let centre = MatRef::from_row_major_slice(centres, k, dims);
    let squares: Vec<f64> = centres
        .chunks_exact(dims)
        .map(|c| c.iter().map(|v| v * v).sum())
        .collect();
    let parts: Vec<Step> = points
        .par_chunks(AT_ONCE * dims)
        .map(|some| {
            let x = MatRef::from_row_major_slice(some, some.len() / dims, dims);
            let mut dots = Mat::zeros(k, x.nrows());
            let across = x.transpose();
            matmul(dots.as_mut(), Accum::Replace, centre, across, 1.0, Par::Seq);
            let mut step = Step::new(k, dims);
            for (i, point) in some.chunks_exact(dims).enumerate() {
                let (mut nearest, mut least) = (0, f64::INFINITY);
                for (c, square) in squares.iter().enumerate() {
                    let d = square - 2.0 * dots[(c, i)];
                    if d < least {
                        (nearest, least) = (c, d);
                    }
                }
                let own: f64 = point.iter().map(|v| v * v).sum();
                step.inertia += (least + own).max(0.0);
                step.counts[nearest] += 1.0;
                let sum = &mut step.sums[nearest * dims..(nearest + 1) * dims];
                sum.iter_mut().zip(point).for_each(|(s, v)| *s += v);
            }
            step
        })
        .collect();
    let mut all = Step::new(k, dims);
    for part in &parts {
        let sums = all.sums.iter_mut().zip(&part.sums);
        sums.for_each(|(a, b)| *a += b);
        let counts = all.counts.iter_mut().zip(&part.counts);
        counts.for_each(|(a, b)| *a += b);
        all.inertia += part.inertia;
    }
    all
}

impl Step {
    fn new(k: usize, dims: usize) -> Self {
        Self {
            sums: vec![0.0; k * dims],
            counts: vec![0.0; k],
            inertia: 0.0,
        }
    }
}

/// To the means of their points; a centre without any stays.
fn move_centres(centres: &mut [f64], dims: usize, step: &Step) {
    let sums = step.sums.chunks_exact(dims).zip(&step.counts);
    for (centre, (sum, &count)) in centres.chunks_exact_mut(dims).zip(sums) {
        if count > 0.0 {
            centre.iter_mut().zip(sum).for_each(|(c, s)| *c = s / count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn finds_groups_that_lie_apart() {
        let points: Vec<f64> = (0..2000)
            .flat_map(|i| {
                let group = f64::from(i % 4);
                let jitter = f64::from((i * 31) % 97) / 970.0;
                [10.0 * group + jitter, -5.0 * group + jitter]
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut centres = kmeans(&points, 2, 4, 10, &mut rng);
        assert_eq!(centres.len(), 8);
        let mut first: Vec<f64> = centres.chunks_exact_mut(2).map(|c| c[0]).collect();
        first.sort_by(f64::total_cmp);
        for (k, c) in first.iter().enumerate() {
            assert!((c - 10.0 * k as f64 - 0.05).abs() < 0.01, "{first:?}");
        }
        // More clusters than different points.
        assert_eq!(kmeans(&[1.0, 1.0, 1.0], 1, 2, 2, &mut rng), vec![1.0, 1.0]);
    }
}
