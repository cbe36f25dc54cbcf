//! Data for the tests of this crate.

use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// `n` points in `groups` round clouds of standard deviation 1 whose centres are about 10 apart; and the cloud of each point.
pub(crate) fn blobs(n: usize, groups: usize, dimensions: usize) -> (Array2<f32>, Vec<u32>) {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
    let centres = Array2::from_shape_fn((groups, dimensions), |_| 7.0 * normal());
    let points = Array2::from_shape_fn((n, dimensions), |(i, j)| {
        centres[[i % groups, j]] + normal()
    });
    (points, (0..n).map(|i| (i % groups) as u32).collect())
}

/// Twelve points in three dimensions that any language can make again.
pub(crate) fn lattice() -> Array2<f32> {
    Array2::from_shape_fn((12, 3), |(i, j)| {
        ((i * 37 + j * 17 + i * i * j) % 101) as f32 / 10.0
    })
}

/// Runs `f` on a pool of that many threads.
pub(crate) fn with_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}
