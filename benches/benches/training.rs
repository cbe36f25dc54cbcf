//! An epoch of scVI with its default settings, and the optimiser's step on its own.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sc_latent::{Cells, Scvi};
use sc_model::train::TrainConfig;
use sc_model::{Init, Optimizer, OptimizerKind, build_params};
use sc_tensor::rng::Rng;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn epoch(c: &mut Criterion) {
    let mut group = c.benchmark_group("scvi, one epoch of ten steps of 128 cells");
    group.sample_size(10);
    for (genes, stored) in [(2_000, 0.35), (16_000, 0.12)] {
        let cells = Cells::plain(sc_benches::counts(1280, genes, stored, 0));
        let mut model = Scvi::params(&cells)
            .check()
            .unwrap()
            .init(&Device::Cpu, 0)
            .unwrap();
        let mut config = TrainConfig::default();
        config.max_epochs = Some(1);
        config.split.train_size = Some(1.0);
        group.throughput(Throughput::Elements(1280));
        group.bench_function(BenchmarkId::from_parameter(genes), |b| {
            b.iter(|| model.fit(&cells, &config, &mut ()).unwrap());
        });
    }
    group.finish();
}

fn adam(c: &mut Criterion) {
    let n = 128 * 16_000;
    let (p, params) =
        build_params::<_, sc_model::Error>(&Device::Cpu, DType::F32, &Rng::new(0), |b| {
            b.param("w", n, Init::Normal(1.0))
        })
        .unwrap();
    let grads = p
        .var()
        .as_tensor()
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let mut optimizer = Optimizer::new(OptimizerKind::default(), &params);
    let mut group = c.benchmark_group("adam");
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function(BenchmarkId::from_parameter(n), |b| {
        b.iter(|| optimizer.step(&params, &grads, 1e-3, None).unwrap());
    });
    group.finish();
}

criterion_group!(training, epoch, adam);
criterion_main!(training);
