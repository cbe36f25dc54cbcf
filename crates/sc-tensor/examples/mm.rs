#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::time::Instant;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn time(what: &str, flop: f64, mut f: impl FnMut()) {
    f();
    let mut best = f64::INFINITY;
    for _ in 0..30 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("{what:40} {:7.3} ms {:6.1} GFLOP/s", best * 1e3, flop / best * 1e-9);
}

fn main() {
    let g: usize = std::env::args().nth(1).map_or(16000, |a| a.parse().unwrap());
    let (n, h) = (128usize, 128usize);
    let threads = rayon::current_num_threads();
    println!("{g} genes, {threads} threads");
    let r = |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 7919 % 1001) as f32 - 500.0) / 500.0).collect() };
    let (hid, w, mut s) = (r(n * h), r(g * h), r(n * g));
    let (mut dw, mut dh) = (vec![0f32; g * h], vec![0f32; n * h]);
    let flop = 2.0 * (n * h * g) as f64;
    let dev = candle_core::Device::Cpu;
    let t = |v: &[f32], a: usize, b: usize| candle_core::Tensor::from_slice(v, (a, b), &dev).unwrap();
    let (th, tw, ts) = (t(&hid, n, h), t(&w, g, h), t(&s, n, g));
    time("candle fwd", flop, || drop(th.matmul(&tw.t().unwrap()).unwrap()));
    time("candle dw", flop, || drop(ts.t().unwrap().matmul(&th).unwrap()));
    time("candle dh", flop, || drop(ts.matmul(&tw).unwrap()));
    for par in [Par::Seq] {
        println!("{par:?}");
        time("faer fwd", flop, || {
            matmul(MatMut::from_row_major_slice_mut(&mut s, n, g), Accum::Replace, MatRef::from_row_major_slice(&hid, n, h), MatRef::from_row_major_slice(&w, g, h).transpose(), 1.0, par);
        });
        time("faer dw", flop, || {
            matmul(MatMut::from_row_major_slice_mut(&mut dw, g, h), Accum::Replace, MatRef::from_row_major_slice(&s, n, g).transpose(), MatRef::from_row_major_slice(&hid, n, h), 1.0, par);
        });
        time("faer dh", flop, || {
            matmul(MatMut::from_row_major_slice_mut(&mut dh, n, h), Accum::Replace, MatRef::from_row_major_slice(&s, n, g), MatRef::from_row_major_slice(&w, g, h), 1.0, par);
        });
    }
    for rows in [8usize, 16, 32, 64, 128] {
        println!("row tiles {rows}");
        time("faer fwd tiles", flop, || {
            s.par_chunks_mut(rows * g).enumerate().for_each(|(k, s)| {
                matmul(MatMut::from_row_major_slice_mut(s, rows, g), Accum::Replace, MatRef::from_row_major_slice(&hid[k * rows * h..][..rows * h], rows, h), MatRef::from_row_major_slice(&w, g, h).transpose(), 1.0, Par::Seq);
            });
        });
        time("faer dh tiles", flop, || {
            dh.par_chunks_mut(rows * h).enumerate().for_each(|(k, dh)| {
                matmul(MatMut::from_row_major_slice_mut(dh, rows, h), Accum::Replace, MatRef::from_row_major_slice(&s[k * rows * g..][..rows * g], rows, g), MatRef::from_row_major_slice(&w, g, h), 1.0, Par::Seq);
            });
        });
    }
    for cols in [512usize, 1024, 2048, 4096, 8000] {
        println!("gene tiles {cols}");
        time("faer dw tiles", flop, || {
            dw.par_chunks_mut(cols * h).enumerate().for_each(|(k, dw)| {
                let m = dw.len() / h;
                let s = MatRef::from_row_major_slice(&s, n, g).subcols(k * cols, m);
                matmul(MatMut::from_row_major_slice_mut(dw, m, h), Accum::Replace, s.transpose(), MatRef::from_row_major_slice(&hid, n, h), 1.0, Par::Seq);
            });
        });
    }
}
