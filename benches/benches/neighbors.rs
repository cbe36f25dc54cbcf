//! Nearest neighbours, their graph, clusters and layout.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sc_benches::clouds;
use sc_neighbors::{
    ApproxParams, UmapParams, connectivities, knn, knn_approx, knn_query, leiden, principal_axes,
    umap,
};

fn neighbours(c: &mut Criterion) {
    let mut group = c.benchmark_group("neighbours of 20,000 points");
    group.sample_size(10);
    for (d, groups) in [(10, 20), (30, 20), (30, 1)] {
        let points = clouds(20_000, d, groups, 0);
        let name = format!("{d} dimensions, {groups} clouds");
        group.bench_with_input(BenchmarkId::new("exact", &name), &points, |b, p| {
            b.iter(|| knn(p.view(), 15).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("approximate", &name), &points, |b, p| {
            b.iter(|| knn_approx(p.view(), 15, &ApproxParams::default()).unwrap());
        });
        let (query, _) = points.view().split_at(ndarray::Axis(0), 2000);
        group.bench_with_input(BenchmarkId::new("2,000 queries", &name), &points, |b, p| {
            b.iter(|| knn_query(p.view(), query, 50).unwrap());
        });
    }
    group.finish();
}

fn graphs(c: &mut Criterion) {
    let mut group = c.benchmark_group("graph of 10,000 points");
    group.sample_size(10);
    let points = clouds(10_000, 10, 20, 0);
    let near = knn(points.view(), 14).unwrap();
    group.bench_function("connectivities", |b| {
        b.iter(|| connectivities(&near).unwrap());
    });
    let graph = connectivities(&near).unwrap();
    group.bench_function("leiden", |b| b.iter(|| leiden(&graph, 1.0, 0).unwrap()));
    let start = principal_axes(points.view(), 2).unwrap();
    let params = UmapParams {
        n_epochs: Some(100),
        ..UmapParams::default()
    };
    group.bench_function("umap, 100 epochs", |b| {
        b.iter(|| umap(&graph, start.view(), &params).unwrap());
    });
    group.finish();
}

criterion_group!(benches, neighbours, graphs);
criterion_main!(benches);
