//! Paths of a neural SDE, there and back: 1,024 cells in 50 dimensions, 41 steps, scDiffEq's default nets.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sc_model::Mode;
use sc_sde::model::ScDiffEq;
use sc_sde::solve::{BrownianPath, Schedule, Scheme, Solve};
use sc_tensor::rng::Rng;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn paths(c: &mut Criterion) {
    let (cells, d, steps) = (1024, 50, 41);
    let model = ScDiffEq::params(d).check().unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let rng = Rng::new(0);
    let mut stream = rng.stream("start");
    let start = stream.normal((cells, d), DType::F32, &Device::Cpu).unwrap();
    let schedule = Schedule::grid(&[0.0, f64::from(steps) * 0.1], 0.1).unwrap();
    let path = BrownianPath::new(0, cells, 1, 0.0, 0.1).unwrap();
    let mut group = c.benchmark_group("scdiffeq, 41 steps of 1,024 cells");
    group.sample_size(10);
    group.throughput(Throughput::Elements(cells as u64));
    group.bench_function("forward", |b| {
        let equation = model.equation(&Mode::eval()).unwrap();
        let solve = Solve::new(&equation, Scheme::Euler, &path, &schedule);
        b.iter(|| solve.run(&start).unwrap());
    });
    for (name, keep) in [("graphs kept", 1 << 17), ("solved again", 0)] {
        let id = BenchmarkId::new("forward and backward", name);
        group.bench_function(id, |b| {
            let equation = model.equation(&Mode::train(&rng, 0)).unwrap();
            let solve = Solve::new(&equation, Scheme::Euler, &path, &schedule).keep_graphs_of(keep);
            b.iter(|| {
                let solution = solve.with_gradients(&start).unwrap();
                let end = solution.states().last().cloned();
                solution.backward(&[None, end]).unwrap()
            });
        });
    }
    group.finish();
}

/// Brownian increments alone: on the grid of the path, and at odd times within.
fn increments(c: &mut Criterion) {
    let schedule = Schedule::grid(&[0.0, 4.1], 0.1).unwrap();
    let odd = Schedule::grid(&[0.0, 4.1], 0.0837).unwrap();
    let path = BrownianPath::new(0, 1024, 1, 0.0, 0.1).unwrap();
    let mut group = c.benchmark_group("brownian increments of 1,024 cells");
    for (name, schedule) in [("on the grid", schedule), ("between", odd)] {
        group.bench_function(name, |b| {
            use sc_sde::solve::Motion;
            b.iter(|| {
                for &step in schedule.steps() {
                    path.increment(step, false, DType::F32, &Device::Cpu)
                        .unwrap();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(sde, paths, increments);
criterion_main!(sde);
