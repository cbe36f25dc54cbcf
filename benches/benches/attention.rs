//! Attention and its relatives at the shapes of scGPT and scBERT.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Device, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sc_tensor::ops::{self, Keys, Segments, Stabiliser};
use sc_tensor::rng::Rng;
use sc_tensor::{Tensor, backward};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn normal(name: &str, shape: (usize, usize)) -> Tensor {
    Rng::new(0)
        .stream(name)
        .normal(shape, DType::F32, &Device::Cpu)
        .unwrap()
}

/// One cell of 1,200 tokens; eight of 150; and half of the genes unknown.
fn exact(c: &mut Criterion) {
    let shapes = [
        ("1 x 1200", Segments::new([1200]).unwrap(), Keys::Only),
        ("8 x 150", Segments::new([150; 8]).unwrap(), Keys::Only),
        (
            "600 of 1200",
            Segments::with_keys([(1200, 600)]).unwrap(),
            Keys::AndSelf,
        ),
    ];
    for (name, segments, keys) in shapes {
        let x = Var::from_tensor(&normal("qkv", (1200, 3 * 512))).unwrap();
        let flop: usize = segments.iter().map(|s| 4 * s.rows * s.keys * 512).sum();
        let mut group = c.benchmark_group("attention");
        group
            .sample_size(20)
            .throughput(Throughput::Elements(flop as u64));
        let data = x.detach();
        group.bench_function(BenchmarkId::new("forward", name), |b| {
            b.iter(|| ops::attention(&data, 8, &segments, keys, None).unwrap());
        });
        group.bench_function(BenchmarkId::new("forward and backward", name), |b| {
            b.iter(|| {
                backward(
                    &ops::attention(&x, 8, &segments, keys, None)
                        .unwrap()
                        .sum_all()
                        .unwrap(),
                )
                .unwrap()
            });
        });
        group.finish();
    }
}

fn linear_time(c: &mut Criterion) {
    let segments = Segments::new([4096]).unwrap();
    let [q, k, v] =
        ["q", "k", "v"].map(|name| Var::from_tensor(&normal(name, (4096, 640))).unwrap());
    let p = normal("p", (266, 64));
    let mut group = c.benchmark_group("favor_attention, 4096 tokens");
    group.sample_size(20).throughput(Throughput::Elements(4096));
    let run = |q: &Tensor, k: &Tensor, v: &Tensor| {
        ops::favor_attention(q, k, v, &p, 10, &segments, Stabiliser::PerSequence).unwrap()
    };
    group.bench_function("forward", |b| {
        b.iter(|| run(&q.detach(), &k.detach(), &v.detach()));
    });
    group.bench_function("forward and backward", |b| {
        b.iter(|| backward(&run(&q, &k, &v).sum_all().unwrap()).unwrap());
    });
    group.bench_function("key importance", |b| {
        b.iter(|| {
            ops::favor_key_importance(&q, &k, &p, 10, &segments, Stabiliser::PerSequence).unwrap()
        });
    });
    group.finish();
}

fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear, 1200 rows");
    group.sample_size(20);
    for (i, o) in [(512, 1536), (512, 512), (200, 640), (800, 200)] {
        let (x, w) = (
            normal("x", (1200, i)),
            Var::from_tensor(&normal("w", (o, i))).unwrap(),
        );
        let x = Var::from_tensor(&x).unwrap();
        group.throughput(Throughput::Elements((2 * 1200 * i * o) as u64));
        let shape = format!("{i} -> {o}");
        group.bench_function(BenchmarkId::new("forward", &shape), |b| {
            b.iter(|| ops::linear(&x.detach(), &w.detach(), None).unwrap());
        });
        group.bench_function(BenchmarkId::new("forward and backward", &shape), |b| {
            b.iter(|| backward(&ops::linear(&x, &w, None).unwrap().sum_all().unwrap()).unwrap());
        });
    }
    group.finish();
}

/// What follows the products in a layer of a transformer.
fn fused(c: &mut Criterion) {
    let mut group = c.benchmark_group("1200 rows of 512, forward and backward");
    let var = |name, shape| Var::from_tensor(&normal(name, shape)).unwrap();
    let (x, branch, w) = (
        var("x", (1200, 512)),
        var("branch", (1200, 512)),
        var("w", (512, 512)),
    );
    let scale = Var::from_tensor(&Tensor::ones(512, DType::F32, &Device::Cpu).unwrap()).unwrap();
    group.bench_function("add_layer_norm", |b| {
        b.iter(|| {
            let (w, b) = (Some(scale.as_tensor()), Some(scale.as_tensor()));
            let y = ops::add_layer_norm(&x, &branch, None, w, b, 1e-5).unwrap();
            backward(&y.sum_all().unwrap()).unwrap()
        });
    });
    group.bench_function("linear_relu", |b| {
        b.iter(|| {
            let y = ops::linear_relu(&x, &w, None, None).unwrap();
            backward(&y.sum_all().unwrap()).unwrap()
        });
    });
    group.finish();
}

criterion_group!(attention, exact, linear_time, layers, fused);
criterion_main!(attention);
