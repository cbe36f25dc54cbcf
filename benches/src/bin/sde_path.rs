//! Times a neural SDE: `sde_path forward|backward|step [CELLS] [DIMENSIONS] [STEPS] [REPEATS] [KEEP]`, paths alone, with
//! gradients, or a whole step of training against as many cells at two later times. Prints one line of JSON: the seconds of each repeat after a warm-up, the MB by which the process grows at most,
//! the speed of the products of the nets, and that of a plain product. Graphs are kept where steps times cells are no more
//! than `KEEP` (131,072). `benches/peers/sde.py` runs this beside torchsde.
//!
//! scDiffEq's default model: a potential of two layers of 512, a diffusion of two layers of 32, one Brownian motion.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_model::train::{Control, Observer, RunInfo, StepEvent};
use sc_sde::model::ScDiffEq;
use sc_sde::solve::{BrownianPath, Schedule, Scheme, Sde, Solve};
use sc_sde::train::{BatchSize, Keep, SdeTraining, Snapshots};
use sc_tensor::{Rng, ops};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Peak memory in MB, where the system says so.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024.0 / 1e6)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let mut args = args.map(|a| a.parse::<usize>());
    let mut next = |default: usize| args.next().unwrap_or(Ok(default));
    let (cells, d, steps) = (next(1024)?, next(50)?, next(40)?);
    let (repeats, keep) = (next(5)?, next(1 << 17)?);

    let model = ScDiffEq::params(d).check()?.init(&Device::Cpu, 0)?;
    let rng = Rng::new(0);
    let mut stream = rng.stream("start");
    let start = stream.normal((cells, d), DType::F32, &Device::Cpu)?;
    let schedule = Schedule::grid(&[0.0, steps as f64 * 0.1], 0.1)?;
    let path = BrownianPath::new(0, cells, 1, 0.0, 0.1)?;
    let forward = || -> Result<()> {
        let equation = model.equation(&Mode::eval())?;
        Solve::new(&equation, Scheme::Euler, &path, &schedule).run(&start)?;
        Ok(())
    };
    let backward = || -> Result<()> {
        let equation = model.equation(&Mode::train(&rng, 0))?;
        let solve = Solve::new(&equation, Scheme::Euler, &path, &schedule).keep_graphs_of(keep);
        let solution = solve.with_gradients(&start)?;
        let end = solution.states().last().ok_or("no states")?.clone();
        let gradients = solution.backward(&[None, Some(end)])?;
        if gradients.parameters.len() != equation.parameters().len() {
            return Err("a gradient is missing".into());
        }
        Ok(())
    };
    // Multiply-adds for a cell and a step: of the two sweeps of the potential's gradient, and of the diffusion. Nothing flows
    // back through the first sweep; each product of the second has one for its weights and one for its values.
    let potential = 2 * (d * 512 + 512 * 512);
    let diffusion = d * 32 + 32 * 32 + 32 * d;
    let (run, work): (&dyn Fn() -> Result<()>, usize) = match task.as_str() {
        "forward" => (&forward, potential + diffusion),
        "backward" | "step" => (&backward, 2 * potential + 3 * diffusion),
        _ => {
            return Err(
                "sde_path forward|backward|step [CELLS] [DIMENSIONS] [STEPS] [REPEATS]".into(),
            );
        }
    };
    let before = peak_mb();
    let mut seconds = Vec::new();
    if task == "step" {
        seconds = training(model, start, steps as f64 * 0.1, repeats)?;
    } else {
        for _ in 0..=repeats {
            let now = Instant::now();
            run()?;
            seconds.push(now.elapsed().as_secs_f64());
        }
    }
    let grown = peak_mb()
        .zip(before)
        .map_or(f64::NAN, |(after, b)| after - b);
    let best = seconds[1..].iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "{{\"seconds\": {:?}, \"peak_mb\": {grown:.1}, \"gflops\": {}, \"product_gflops\": {}}}",
        &seconds[1..],
        2.0 * (cells * steps * work) as f64 / best / 1e9,
        product_speed(cells, repeats)?,
    );
    Ok(())
}

/// The seconds of each step of training.
fn training(mut model: ScDiffEq, start: Tensor, end: f64, repeats: usize) -> Result<Vec<f64>> {
    struct Clock(Vec<Instant>);
    impl Observer for Clock {
        fn on_start(&mut self, _: &RunInfo) -> sc_model::Result<()> {
            self.0.push(Instant::now());
            Ok(())
        }
        fn on_step(&mut self, _: &StepEvent<'_>) -> sc_model::Result<Control> {
            self.0.push(Instant::now());
            Ok(Control::Continue)
        }
    }
    let mut stream = Rng::new(2).stream("observed");
    let mut moved = |by: f64| -> Result<Tensor> {
        let noise: Tensor = stream.normal(start.dims2()?, DType::F32, &Device::Cpu)?;
        Ok((noise + by)?)
    };
    let clouds = [(end / 2.0, moved(0.5)?), (end, moved(1.0)?)];
    let [(t1, x1), (t2, x2)] = clouds;
    let cells = start.dim(0)?;
    let data = Snapshots::from_clouds(&[(0.0, start), (t1, x1), (t2, x2)])?;
    let mut settings = SdeTraining::new(model.config()).epochs(repeats + 1);
    settings.validation.share = 0.0;
    settings.keep = Keep::Last;
    settings.batch = BatchSize::Cells(cells);
    let mut clock = Clock(Vec::new());
    model.fit(&data, &settings, &mut clock)?;
    let between = clock.0.windows(2).map(|w| w[1] - w[0]);
    Ok(between.map(|d| d.as_secs_f64()).collect())
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
