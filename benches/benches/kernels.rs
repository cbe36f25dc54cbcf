//! The hot kernels at the shapes of a scVI step: minibatches of 128 cells, 128 hidden units, 2,000 genes of which 35 % are
//! stored and 16,000 of which 12 % are.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use candle_core::{DType, Device, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sc_data::Csr;
use sc_tensor::likelihood::{Dispersion, Family, Mean, log_prob};
use sc_tensor::rng::Rng;
use sc_tensor::{Tensor, backward, math, ops};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CELLS: usize = 128;
const HIDDEN: usize = 128;
const SHAPES: [(usize, f64); 2] = [(2_000, 0.35), (16_000, 0.12)];

fn normal(name: &str, shape: (usize, usize)) -> Var {
    let t = Rng::new(0)
        .stream(name)
        .normal(shape, DType::F32, &Device::Cpu)
        .unwrap();
    Var::from_tensor(&(t * 0.1).unwrap()).unwrap()
}

fn minibatch(genes: usize, stored: f64) -> Arc<Csr> {
    Arc::new(sc_benches::counts(CELLS, genes, stored, 0))
}

fn library(x: &Csr) -> Tensor {
    let logs: Vec<f32> = x
        .row_sums()
        .iter()
        .map(|s| s.max(1.0).ln() as f32)
        .collect();
    Tensor::from_vec(logs, x.n_rows(), &Device::Cpu).unwrap()
}

fn sparse_layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("csr_linear, forward and backward");
    for (genes, stored) in SHAPES {
        let x = minibatch(genes, stored);
        let w = normal("w", (genes, HIDDEN));
        group.throughput(Throughput::Elements(x.n_stored() as u64));
        group.bench_function(BenchmarkId::from_parameter(genes), |b| {
            b.iter(|| {
                let input = ops::SparseInput::log1p(x.clone());
                backward(
                    &ops::csr_linear(&input, &w, None, None)
                        .unwrap()
                        .sum_all()
                        .unwrap(),
                )
                .unwrap()
            });
        });
    }
    group.finish();
}

fn dense_layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear, forward and backward");
    for (genes, _) in SHAPES {
        let (h, w) = (normal("h", (CELLS, HIDDEN)), normal("w", (genes, HIDDEN)));
        group.throughput(Throughput::Elements((6 * CELLS * HIDDEN * genes) as u64));
        group.bench_function(BenchmarkId::from_parameter(genes), |b| {
            b.iter(|| backward(&ops::linear(&h, &w, None).unwrap().sum_all().unwrap()).unwrap());
        });
    }
    group.finish();
}

fn likelihoods(c: &mut Criterion) {
    for (name, family) in [
        ("zinb", Family::ZeroInflatedNegativeBinomial),
        ("nb", Family::NegativeBinomial),
        ("poisson", Family::Poisson),
        ("normal", Family::Normal),
    ] {
        let mut group = c.benchmark_group(format!("{name} log_prob, forward and backward"));
        for (genes, stored) in SHAPES {
            let x = minibatch(genes, stored);
            let log_library = library(&x);
            let (logits, dropout) = (
                normal("scale", (CELLS, genes)),
                normal("dropout", (CELLS, genes)),
            );
            let log_theta = normal("theta", (1, genes));
            group.throughput(Throughput::Elements((CELLS * genes) as u64));
            group.bench_function(BenchmarkId::from_parameter(genes), |b| {
                b.iter(|| {
                    let mean = Mean::Softmax {
                        logits: &logits,
                        log_library: &log_library,
                    };
                    let dispersion = Dispersion::shared(&log_theta);
                    let dispersion = family.has_dispersion().then_some(&dispersion);
                    let dropout = family.has_dropout().then_some(dropout.as_tensor());
                    let each = log_prob(family, &x, &mean, dispersion, dropout).unwrap();
                    backward(&each.mean_all().unwrap()).unwrap()
                });
            });
        }
        group.finish();
    }
}

fn functions(c: &mut Criterion) {
    let mut group = c.benchmark_group("f32 functions");
    let values: Vec<f32> = (0..1 << 16).map(|i| 0.01 + i as f32 * 1e-3).collect();
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut time = |name: &str, f: fn(&mut [f32])| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || values.clone(),
                |v| f(v),
                criterion::BatchSize::LargeInput,
            );
        });
    };
    time("exp", math::exp);
    time("ln", math::ln);
    time("ln_1p", math::ln_1p);
    time("softplus", math::softplus);
    time("lgamma", math::lgamma);
    time("digamma", math::digamma);
    group.finish();
}

criterion_group!(kernels, sparse_layer, dense_layer, likelihoods, functions);
criterion_main!(kernels);
