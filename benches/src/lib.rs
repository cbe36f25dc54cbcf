//! Made-up counts and points with the statistics of real ones, for benches.
#![allow(missing_docs)]

use ndarray::Array2;
use rayon::prelude::*;
use sc_data::Csr;
use sc_tensor::likelihood::{Family, sample_one};
use sc_tensor::rng::Rng;

/// Counts of `n` cells and `g` genes of which about `stored` are not zero: gene means are log-normal, library sizes
/// vary, counts are negative binomial with inverse dispersion 1.
pub fn counts(n: usize, g: usize, stored: f64, seed: u64) -> Csr {
    let rng = Rng::new(seed);
    let mut log_means = vec![0f64; g];
    rng.stream("genes").fill_normal(&mut log_means);
    let mut log_sizes = vec![0f64; n];
    rng.stream("cells").fill_normal(&mut log_sizes);
    // P(x > 0) = mu / (1 + mu) for theta = 1; find the level at which its mean over genes is what was asked for.
    let share = |level: f64| {
        log_means
            .iter()
            .map(|m| {
                let mu = (1.6 * m + level).exp();
                mu / (1.0 + mu)
            })
            .sum::<f64>()
            / g.max(1) as f64
    };
    let (mut low, mut high) = (-20.0, 20.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if share(middle) < stored {
            low = middle;
        } else {
            high = middle;
        }
    }
    let rows: Vec<(Vec<u32>, Vec<f32>)> = (0..n)
        .into_par_iter()
        .map(|i| {
            let mut stream = rng.stream("counts").at(&[i as u64]);
            let (mut columns, mut values) = (Vec::new(), Vec::new());
            for (j, m) in log_means.iter().enumerate() {
                let mu = (1.6 * m + low + 0.3 * log_sizes[i]).exp();
                let x = sample_one(Family::NegativeBinomial, mu, 1.0, 0.0, &mut stream);
                if x > 0.0 {
                    columns.push(j as u32);
                    values.push(x);
                }
            }
            (columns, values)
        })
        .collect();
    let mut indptr = vec![0];
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for (columns, values) in rows {
        indices.extend(columns);
        data.extend(values);
        indptr.push(indices.len());
    }
    // Built canonical above.
    Csr::new(n, g, indptr, indices, data).unwrap_or_else(|_| Csr::zeros(n, g))
}

/// `n` points in `groups` round clouds of standard deviation 1, whose centres are normal with standard deviation 3 in each
/// of `d` dimensions, as cell types lie in a latent space; one cloud is round about the origin.
pub fn clouds(n: usize, d: usize, groups: usize, seed: u64) -> Array2<f32> {
    let rng = Rng::new(seed);
    let mut points = vec![0f32; n * d];
    rng.stream("points").fill_normal(&mut points);
    let mut centres = vec![0f32; groups * d];
    if groups > 1 {
        rng.stream("centres").fill_normal(&mut centres);
    }
    for (i, v) in points.iter_mut().enumerate() {
        *v += 3.0 * centres[i / d % groups * d + i % d];
    }
    Array2::from_shape_vec((n, d), points).unwrap_or_default()
}
