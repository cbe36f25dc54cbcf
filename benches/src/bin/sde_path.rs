//! Times paths of a neural SDE, there and back: `sde_path [CELLS] [DIMENSIONS] [STEPS] [REPEATS] [KEEP]`. Prints one line of
//! JSON: the seconds of each repeat forward, and forward and backward together, and what share of a plain product's speed
//! the products of the nets reach. Graphs are kept where steps times cells are no more than `KEEP` (131,072).
//!
//! scDiffEq's default model: a potential of two layers of 512, a diffusion of two layers of 32, one Brownian motion.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_sde::model::ScDiffEq;
use sc_sde::solve::{BrownianPath, Schedule, Scheme, Sde, Solve};
use sc_tensor::{Rng, ops};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let mut next = |default: usize| args.next().unwrap_or(Ok(default));
    let (cells, d, steps) = (next(1024)?, next(50)?, next(41)?);
    let (repeats, keep) = (next(5)?, next(1 << 17)?);

    let model = ScDiffEq::params(d).check()?.init(&Device::Cpu, 0)?;
    let rng = Rng::new(0);
    let start = rng
        .stream("start")
        .normal((cells, d), DType::F32, &Device::Cpu)?;
    let schedule = Schedule::grid(&[0.0, steps as f64 * 0.1], 0.1)?;
    let path = BrownianPath::new(0, cells, 1, 0.0, 0.1)?;
    let (mut forward, mut both) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let now = Instant::now();
        let equation = model.equation(&Mode::eval())?;
        Solve::new(&equation, Scheme::Euler, &path, &schedule).run(&start)?;
        forward.push(now.elapsed().as_secs_f64());

        let now = Instant::now();
        let equation = model.equation(&Mode::train(&rng, 0))?;
        let solve = Solve::new(&equation, Scheme::Euler, &path, &schedule).keep_graphs_of(keep);
        let solution = solve.with_gradients(&start)?;
        let end = solution.states().last().ok_or("no states")?.clone();
        let gradients = solution.backward(&[None, Some(end)])?;
        both.push(now.elapsed().as_secs_f64());
        if gradients.parameters.len() != equation.parameters().len() {
            return Err("a gradient is missing".into());
        }
    }
    let peak = product_speed(cells, repeats)?;
    // Multiply-adds for a cell and a step: of the two sweeps of the potential's gradient, and of the diffusion. Nothing flows
    // back through the first sweep; each product of the second has one for its weights and one for its values.
    let potential = 2 * (d * 512 + 512 * 512);
    let diffusion = d * 32 + 32 * 32 + 32 * d;
    let work = |times_potential: usize, times_diffusion: usize| {
        let per_step = times_potential * potential + times_diffusion * diffusion;
        2.0 * (cells * steps * per_step) as f64 / 1e9
    };
    let best = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    let speeds = [work(1, 1) / best(&forward), work(2, 3) / best(&both)];
    println!(
        "{{\"cells\": {cells}, \"dimensions\": {d}, \"steps\": {steps}, \"threads\": {}, \"forward\": {forward:?}, \"forward_and_backward\": {both:?}, \"gflops\": {speeds:?}, \"product_gflops\": {peak}}}",
        rayon::current_num_threads(),
    );
    Ok(())
}

/// The speed of a product of 512 by 512 weights with as many rows as there are cells, in 10^9 operations a second.
fn product_speed(cells: usize, repeats: usize) -> Result<f64> {
    let mut stream = Rng::new(1).stream("product");
    let x = stream.normal((cells, 512), DType::F32, &Device::Cpu)?;
    let w: Tensor = stream.normal((512, 512), DType::F32, &Device::Cpu)?;
    let mut best = f64::INFINITY;
    for _ in 0..repeats.max(1) {
        let now = Instant::now();
        for _ in 0..10 {
            ops::linear(&x, &w, None)?;
        }
        best = best.min(now.elapsed().as_secs_f64() / 10.0);
    }
    Ok(2.0 * (cells * 512 * 512) as f64 / best / 1e9)
}
