//! A cell of the published model's size, 16,907 positions, in little memory. A program of its own, because it looks at the
//! most that the whole process ever took.
#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::time::Instant;

use candle_core::Device;
use ndarray::Array2;
use sc_data::Csr;
use sc_model::{Embed, Parity};
use sc_tensor::rng::Rng;
use sc_transformer::scbert::{CellsConfig, GenePanel, Scbert, Work};

const GENES: usize = 16_906;

/// The most memory that this process took, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn a_whole_cell_takes_little_memory() {
    let names: Vec<String> = (0..GENES).map(|i| format!("g{i}")).collect();
    let panel = GenePanel::new(names.clone()).unwrap();
    let model = Scbert::params(panel)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    let mut noise = vec![0f32; GENES];
    Rng::new(0)
        .stream("counts")
        .fill_uniform(-9.0, 3.0, &mut noise);
    let counts = noise.iter().map(|v| v.max(0.0).ceil()).collect();
    let counts = Csr::from_dense(&Array2::from_shape_vec((1, GENES), counts).unwrap());
    let cells = model
        .cells(&counts, &names, &CellsConfig::default())
        .unwrap();
    let before = peak();
    let start = Instant::now();
    model.embed(&cells).unwrap();
    eprintln!(
        "one cell: {:.2} s, {} MiB before, {} MiB with it",
        start.elapsed().as_secs_f64(),
        before >> 20,
        peak() >> 20
    );
    let start = Instant::now();
    model.gene_importance(&cells, Parity::Correct).unwrap();
    eprintln!(
        "importance: {:.2} s, {} MiB",
        start.elapsed().as_secs_f64(),
        peak() >> 20
    );
    let estimate = model.memory(Work::Inference, 1);
    eprintln!("estimate: {} MiB", estimate.total() >> 20);
    assert!(peak() < 1 << 30);
    assert!(
        peak() - before < estimate.cells,
        "{} more, {estimate:?}",
        peak() - before
    );
}
