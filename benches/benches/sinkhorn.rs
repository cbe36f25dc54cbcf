//! The Sinkhorn divergence with its gradient in 50 dimensions, at scDiffEq's and PRESCIENT's settings, and the passes that
//! it is made of.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sc_sde::transport::{Plan, Sinkhorn};
use sc_tensor::pairs::{Cost, Points, log_sums_both, log_sums_within};
use sc_tensor::{DType, Device, Rng, Tensor, Var, backward};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DIM: usize = 50;

fn cloud(name: &str, n: usize) -> Tensor {
    let mut stream = Rng::new(0).stream(name);
    let x = stream.normal((n, DIM), DType::F32, &Device::Cpu).unwrap();
    (x * 3.0).unwrap()
}

fn divergence(c: &mut Criterion) {
    let mut group = c.benchmark_group("sinkhorn divergence and gradient");
    group.sample_size(10);
    for n in [256, 1024, 2048] {
        let x = Var::from_tensor(&cloud("x", n)).unwrap();
        let y = cloud("y", n);
        for (name, params) in [
            ("0.05, 0.5", Sinkhorn::params()),
            ("0.1, 0.7", Sinkhorn::prescient()),
        ] {
            let sinkhorn = params.check().unwrap();
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| backward(&sinkhorn.loss(&x, &y).unwrap()).unwrap());
            });
        }
    }
}

fn passes(c: &mut Criterion) {
    let mut group = c.benchmark_group("one pass over the pairs");
    group.sample_size(20);
    for n in [1024, 4096] {
        let numbers = |name| {
            let x = cloud(name, n).flatten_all().unwrap();
            x.to_vec1::<f32>().unwrap()
        };
        let points = |name| Points::new(&numbers(name), DIM, &[0.0; DIM]).unwrap();
        let (x, y, terms) = (points("x"), points("y"), vec![0.0; n]);
        group.throughput(Throughput::Elements((n * n) as u64));
        group.bench_function(BenchmarkId::new("both sides", n), |b| {
            b.iter(|| log_sums_both(&x, &y, Cost::HalfSquared, 1.0, &terms, &terms).unwrap());
        });
        group.bench_function(BenchmarkId::new("within", n), |b| {
            b.iter(|| log_sums_within(&x, Cost::HalfSquared, 1.0, &terms).unwrap());
        });
    }
}

fn exact(c: &mut Criterion) {
    let mut group = c.benchmark_group("exact plan of even weights");
    group.sample_size(10);
    for n in [256, 512] {
        let mut cost = vec![0.0; n * n];
        Rng::new(0).stream("cost").fill_uniform(0.0, 1.0, &mut cost);
        let cost = ndarray::Array2::from_shape_vec((n, n), cost).unwrap();
        let even = vec![1.0 / n as f64; n];
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| Plan::optimal(cost.view(), &even, &even).unwrap());
        });
    }
}

criterion_group!(benches, divergence, passes, exact);
criterion_main!(benches);
