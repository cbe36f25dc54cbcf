//! Times the search for nearest neighbours beside the matrix products that a search of all pairs can't do without:
//! `knn_floor POINTS DIMENSIONS K [CLOUDS]`.
//!
//! The products are made tile by tile, each thread over its own buffer, in the best of a few shapes; nothing is done with
//! them. Points are one round cloud (the worst case: no block is far from another) or several.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use sc_neighbors::{ApproxParams, knn, knn_approx, recall};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (n, d, k) = (number(0, 100_000), number(1, 30), number(2, 15));
    let points = sc_benches::clouds(n, d, number(3, 1), 0);
    println!(
        "{n} points, {d} dimensions, k = {k}, {} threads",
        rayon::current_num_threads()
    );

    let flat: Vec<f32> = points.iter().copied().collect();
    let shapes = [
        (64, 2048),
        (128, 512),
        (128, 1024),
        (256, 256),
        (256, 1024),
        (512, 512),
    ];
    let part = (n / 10).max(1);
    let mut best = (f64::INFINITY, shapes[0]);
    for shape in shapes {
        let seconds = products(&flat, d, part, shape);
        if seconds < best.0 {
            best = (seconds, shape);
        }
    }
    let floor = products(&flat, d, n, best.1);
    let rate = 2.0 * (n as f64).powi(2) * d as f64 / floor / 1e9;
    println!(
        "products alone {floor:.2} s, {rate:.0} GFLOP/s in tiles of {:?}",
        best.1
    );

    let start = Instant::now();
    let exact = knn(points.view(), k)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "exact search   {seconds:.2} s, {:.2} of the products",
        seconds / floor
    );
    let start = Instant::now();
    let found = knn_approx(points.view(), k, &ApproxParams::default())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "approximate    {seconds:.2} s, recall {:.4}",
        recall(&found, &exact)?
    );
    Ok(())
}

/// Seconds for the products of the first `rows` points with all points.
fn products(points: &[f32], d: usize, rows: usize, (m, n): (usize, usize)) -> f64 {
    let start = Instant::now();
    points[..rows * d].par_chunks(m * d).for_each(|left| {
        let left = MatRef::from_row_major_slice(left, left.len() / d, d);
        let mut buffer = vec![0f32; m * n];
        for right in points.chunks(n * d) {
            let right = MatRef::from_row_major_slice(right, right.len() / d, d);
            let (r, c) = (left.nrows(), right.nrows());
            let out = MatMut::from_row_major_slice_mut(&mut buffer[..r * c], r, c);
            matmul(out, Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
        }
        std::hint::black_box(&buffer);
    });
    start.elapsed().as_secs_f64()
}
