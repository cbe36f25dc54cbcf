//! Times the simulation of many cells: `sde_simulate [CELLS] [DIMENSIONS] [HIDDEN]`, from day 2 to 6 in steps of 0.1, and the fates of all
//! by 20 neighbours among 10,000 labelled cells. Prints one line of JSON: seconds without and with labels, and the MB of memory
//! held at most. The states of a million cells of 50 dimensions are 200 MB themselves.
//!
//! scDiffEq's default model (512 hidden units): a potential of two layers, a diffusion of two layers of 32.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use candle_core::{DType, Device};
use sc_data::Categorical;
use sc_model::Mode;
use sc_sde::downstream::{FateCounts, Simulation, StateLabels, to_array};
use sc_sde::model::ScDiffEq;
use sc_sde::nets::NetConfig;
use sc_tensor::Rng;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LABELLED: usize = 10_000;

/// Peak memory in MB, where the system says so.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024.0 / 1e6)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let mut next = |default: usize| args.next().unwrap_or(Ok(default));
    let (cells, d, hidden) = (next(10_000)?, next(50)?, next(512)?);

    let params = ScDiffEq::params(d).mu(NetConfig::new([hidden, hidden]));
    let model = params.check()?.init(&Device::Cpu, 0)?;
    let equation = model.equation(&Mode::eval())?;
    let rng = Rng::new(0);
    let normal = |name: &str, n| rng.stream(name).normal((n, d), DType::F32, &Device::Cpu);
    let start = normal("start", cells)?;
    let simulation = Simulation::new(&equation, &[2.0, 6.0], 0.1)?;
    let since = Instant::now();
    let mut paths = 0;
    simulation.run(&start, |batch| {
        paths += batch.paths().len();
        Ok(())
    })?;
    let simulated = since.elapsed().as_secs_f64();
    let peak = peak_mb();

    let places = to_array(&normal("labelled", LABELLED)?)?;
    let kinds: Vec<String> = (0..LABELLED).map(|i| format!("kind {}", i % 10)).collect();
    let states = StateLabels::new(places.view(), &Categorical::from_labels(&kinds))?;
    let since = Instant::now();
    let fates = FateCounts::predict(&simulation, &start, &states)?;
    let record = serde_json::json!({
        "cells": cells,
        "dimensions": d,
        "hidden": hidden,
        "threads": rayon::current_num_threads(),
        "simulated_s": simulated,
        "cells_per_s": paths as f64 / simulated,
        "with_labels_s": since.elapsed().as_secs_f64(),
        "labelled": fates.counts().sum(),
        "peak_mb_simulated": peak,
        "peak_mb": peak_mb(),
    });
    println!("{record}");
    Ok(())
}
