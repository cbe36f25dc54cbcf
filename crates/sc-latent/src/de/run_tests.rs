use super::*;
use crate::de::{ChangeOptions, DeTable};
use crate::{DrawOptions, Expression, Importance, Setup};
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Csr, RowSource, Table};
use std::sync::atomic::{AtomicUsize, Ordering};

const N: usize = 90;
const GENES: usize = 11;

fn data() -> AnnData {
    let counts = Array2::from_shape_fn((N, GENES), |(i, g)| {
        let kind = i % 3;
        if g == GENES - 1 {
            0.0
        } else {
            ((i * 5 + g * 7 + i * i * (g + 1)) % 13 + if g % 3 == kind { 9 } else { 0 }) as f32
        }
    });
    let names = |what: &str, n: usize| (0..n).map(|i| format!("{what} {i}")).collect();
    let mut obs = Table::new(names("cell", N));
    let batch: Vec<&str> = (0..N).map(|i| if i % 2 == 0 { "x" } else { "y" }).collect();
    let batch = Categorical::from_labels(&batch);
    obs.insert("batch", Column::Categorical(batch)).unwrap();
    AnnData::new(
        Csr::from_dense(&counts),
        obs,
        Table::new(names("gene", GENES)),
    )
    .unwrap()
}

fn labels() -> Categorical {
    Categorical::from_labels(&(0..N).map(|i| ["a", "b", "c"][i % 3]).collect::<Vec<_>>())
}

fn setup() -> Setup {
    Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    }
}

fn with_model(f: impl FnOnce(&Scvi, &Cells<'_>)) {
    let data = data();
    let cells = Cells::new(&data, &setup()).unwrap();
    let valid = Scvi::params(&cells)
        .n_latent(3)
        .n_hidden(16)
        .check()
        .unwrap();
    f(&valid.init(&candle_core::Device::Cpu, 0).unwrap(), &cells);
}

fn few() -> DeOptions {
    DeOptions {
        n_samples: 400,
        ..DeOptions::change()
    }
}

fn run(model: &Scvi, cells: &Cells<'_>, groups: &Groups, options: &DeOptions) -> DeTable {
    differential_expression(model, cells, groups, options).unwrap()
}

fn all() -> Groups {
    Groups::one_vs_rest::<&str>(&labels(), &[]).unwrap()
}

/// The same draws: numbers that differ by the rounding of a product of matrices of other shapes.
fn same(a: &DeComparison, b: &DeComparison) {
    let (x, y) = (
        a.statistics.change().unwrap(),
        b.statistics.change().unwrap(),
    );
    let (mut a, mut b) = (a.genes.clone(), b.genes.clone());
    let (by_gene_x, by_gene_y) = (order(&a), order(&b));
    for (&i, &j) in by_gene_x.iter().zip(&by_gene_y) {
        assert!((x.lfc_mean[i] - y.lfc_mean[j]).abs() < 1e-5);
        assert!((x.lfc_max[i] - y.lfc_max[j]).abs() < 1e-4);
        assert!((x.proba_de[i] - y.proba_de[j]).abs() < 0.006);
        assert!((x.scale2[i] - y.scale2[j]).abs() < 1e-6);
    }
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!(a, b);
}

/// The row of each gene.
fn order(genes: &[usize]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..genes.len()).collect();
    rows.sort_by_key(|&row| genes[row]);
    rows
}

#[test]
fn a_comparison_is_the_same_alone_and_among_others() {
    with_model(|model, cells| {
        for batch_correction in [false, true] {
            let options = DeOptions {
                batch_correction,
                ..few()
            };
            let together = run(model, cells, &all(), &options);
            for (k, name) in ["a", "b", "c"].into_iter().enumerate() {
                let groups = Groups::one_vs_rest(&labels(), &[name]).unwrap();
                let alone = run(model, cells, &groups, &options);
                same(&alone.comparisons[0], &together.comparisons[k]);
            }
            let pairs = Groups::pairwise::<&str>(&labels(), &[]).unwrap();
            let together = run(model, cells, &pairs, &options);
            let groups = Groups::against(&labels(), &["b"], "c").unwrap();
            let alone = run(model, cells, &groups, &options);
            same(&alone.comparisons[0], &together.comparisons[2]);
        }
    });
}

#[test]
fn the_same_bits_on_one_thread_and_many() {
    with_model(|model, cells| {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let options = DeOptions {
                filter_outliers: true,
                ..few()
            };
            pool.install(|| {
                (
                    run(model, cells, &all(), &few()),
                    run(model, cells, &all(), &options),
                )
            })
        };
        assert_eq!(on(1), on(3));
    });
}

#[test]
fn statistics_of_counts_and_order() {
    with_model(|model, cells| {
        let table = run(model, cells, &all(), &few());
        for (k, c) in table.comparisons.iter().enumerate() {
            let (mine, rest) = c.raw.as_ref().unwrap();
            let change = c.statistics.change().unwrap();
            assert!(change.proba_de.is_sorted_by(|a, b| a >= b));
            assert_eq!((c.n_cells1, c.n_cells2), (30, 60));
            let mut genes = c.genes.clone();
            genes.sort_unstable();
            assert_eq!(genes, (0..GENES).collect::<Vec<_>>());
            for (row, &g) in c.genes.iter().enumerate() {
                if g == GENES - 1 {
                    assert_eq!((mine.mean[row], rest.nonzero[row]), (0.0, 0.0));
                } else if g % 3 == k {
                    assert!(mine.mean[row] > rest.mean[row] + 2.0);
                    assert!(mine.scaled_mean[row] > rest.scaled_mean[row]);
                }
            }
        }
        let mut options = few();
        options.all_stats = false;
        let without = run(model, cells, &all(), &options);
        assert!(without.comparisons[0].raw.is_none());
        assert_eq!(
            without.comparisons[0].statistics,
            table.comparisons[0].statistics
        );
    });
}

#[test]
fn batches_are_paired_or_named() {
    with_model(|model, cells| {
        let groups = Groups::against(&labels(), &["a"], "b").unwrap();
        let mut options = few();
        options.batches1 = vec!["x".into()];
        let refused = |o: &DeOptions| {
            differential_expression(model, cells, &groups, o)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&options).contains("batch_correction"));
        options.batch_correction = true;
        run(model, cells, &groups, &options);
        options.batches1 = vec!["z".into()];
        let message = refused(&options);
        assert!(
            message.contains("\"z\"") && message.contains("x, y"),
            "{message}"
        );
        let other = Groups::sets(5, &[0], None).unwrap();
        let message = differential_expression(model, cells, &other, &few()).unwrap_err();
        assert!(message.to_string().contains("90"), "{message}");
    });
}

#[test]
fn draws_have_the_mean_of_their_cells() {
    with_model(|model, cells| {
        let among: Vec<usize> = (0..N).filter(|i| i % 3 == 1).collect();
        let options = DrawOptions {
            n_draws: 20_000,
            among: Some(among.clone()),
            ..DrawOptions::default()
        };
        let draws = model.expression_draws(cells, &options).unwrap();
        assert_eq!(draws.values.dim(), (20_000, GENES));
        assert!(draws.cells.iter().all(|c| among.contains(c)));
        let expression = Expression {
            n_samples: 200,
            ..Expression::default()
        };
        let every = model.normalized_expression(cells, &expression).unwrap();
        let samples = model.expression_samples(cells, &expression).unwrap();
        let from_samples = samples.mean_axis(ndarray::Axis(0)).unwrap();
        assert!((&every - &from_samples).iter().all(|d| d.abs() < 1e-5));
        let expected = every
            .select(ndarray::Axis(0), &among)
            .mean_axis(ndarray::Axis(0))
            .unwrap();
        let found = draws.values.mean_axis(ndarray::Axis(0)).unwrap();
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e).abs() < 0.02 * e, "{f} for {e}");
        }
    });
}

#[test]
fn draws_of_several_batches_are_means() {
    with_model(|model, cells| {
        let mut options = DrawOptions {
            n_draws: 50,
            transform_batch: vec!["x".into(), "y".into()],
            genes: Some(vec![4, 0]),
            ..DrawOptions::default()
        };
        let draws = model.expression_draws(cells, &options).unwrap();
        assert_eq!(draws.values.dim(), (50, 2));
        options.weights = Weights::Importance(Importance::default());
        assert!(model.expression_draws(cells, &options).is_err());
    });
}

#[test]
fn importance_and_outliers() {
    with_model(|model, cells| {
        let weights = Weights::Importance(Importance {
            anchors: 20,
            n_samples: 16,
            truncate: true,
        });
        let options = DeOptions { weights, ..few() };
        let table = run(model, cells, &all(), &options);
        assert_eq!(table, run(model, cells, &all(), &options));
        let options = DeOptions {
            filter_outliers: true,
            ..few()
        };
        let table = run(model, cells, &all(), &options);
        for c in &table.comparisons {
            // Nine tenths; more where cells are equally far away.
            assert!((27..30).contains(&c.n_cells1), "{}", c.n_cells1);
            assert!((54..60).contains(&c.n_cells2), "{}", c.n_cells2);
        }
    });
}

/// Counts that know how often they were read.
struct Counted {
    counts: Csr,
    rows: AtomicUsize,
    passes: AtomicUsize,
}

impl RowSource for Counted {
    fn n_rows(&self) -> usize {
        self.counts.n_rows()
    }

    fn n_cols(&self) -> usize {
        self.counts.n_cols()
    }

    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        self.rows.fetch_add(rows.len(), Ordering::Relaxed);
        self.counts.select_rows(rows)
    }

    fn read_range(&self, rows: std::ops::Range<usize>) -> sc_data::Result<Csr> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.counts.read_range(rows)
    }
}

#[test]
fn outliers_are_looked_for_once() {
    with_model(|model, in_memory| {
        let data = data();
        let counted = Counted {
            counts: in_memory.counts().read_range(0..N).unwrap(),
            rows: AtomicUsize::new(0),
            passes: AtomicUsize::new(0),
        };
        let cells = Cells::from_source_for_model(&counted, &data, model.registry()).unwrap();
        let options = DeOptions {
            filter_outliers: true,
            ..few()
        };
        let read = |groups: &Groups| {
            counted.rows.store(0, Ordering::Relaxed);
            counted.passes.store(0, Ordering::Relaxed);
            let table = run(model, &cells, groups, &options);
            assert_eq!(table, run(model, in_memory, groups, &options));
            let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
            (count(&counted.rows), count(&counted.passes), table)
        };
        // To find outliers, to draw from the groups and to draw from the rests: each cell three times at most.
        let (rows, passes, rests) = read(&all());
        assert!(rows <= 3 * N, "{rows}");
        assert_eq!(passes, 1);
        let pairs = Groups::pairwise::<&str>(&labels(), &[]).unwrap();
        let (rows, passes, pairs) = read(&pairs);
        assert!(rows <= 2 * N, "{rows}");
        assert_eq!(passes, 1);
        // The same cells of a group whatever it is compared with, and statistics of those.
        let (a_rest, a_b) = (&rests.comparisons[0], &pairs.comparisons[0]);
        assert_eq!(a_rest.n_cells1, a_b.n_cells1);
        let sorted = |c: &DeComparison| {
            let by_gene = order(&c.genes);
            let (one, _) = c.raw.as_ref().unwrap();
            by_gene.iter().map(|&row| one.mean[row]).collect::<Vec<_>>()
        };
        assert_eq!(sorted(a_rest), sorted(a_b));
        // Of the cells that were kept, not of all.
        let unfiltered = run(model, &cells, &all(), &few());
        assert_ne!(sorted(&unfiltered.comparisons[0]), sorted(a_rest));
    });
}

#[test]
fn sets_have_no_names_and_delta_is_estimated() {
    with_model(|model, cells| {
        let groups = Groups::sets(N, &(0..40).collect::<Vec<_>>(), None).unwrap();
        let change = ChangeOptions {
            delta: None,
            cred_intervals: vec![0.9],
            ..ChangeOptions::default()
        };
        let options = DeOptions {
            mode: Mode::Change(change),
            permutations: Some(1000),
            ..few()
        };
        let table = run(model, cells, &groups, &options);
        let found = table.comparisons[0].statistics.change().unwrap();
        assert!(found.delta >= 0.1);
        let table = table.to_table().unwrap();
        assert!(table.get("comparison").is_none());
        assert!(table.get("lfc_confidence_interval_0.9_max").is_some());
        assert!(table.get("is_de_fdr_0.05").is_some());
    });
}

#[test]
fn latent_draws_scatter_around_the_mean() {
    with_model(|model, cells| {
        let latent = model.latent(cells).unwrap();
        let samples = model.latent_samples(cells, 2000, 1).unwrap();
        assert_eq!(samples.dim(), (2000, N, 3));
        let mean = samples.mean_axis(ndarray::Axis(0)).unwrap();
        for ((m, e), v) in mean.iter().zip(&latent.mean).zip(&latent.variance) {
            assert!((m - e).abs() < 6.0 * (v / 2000.0).sqrt());
        }
        let one = model.likelihood_parameters(cells, Some(3)).unwrap();
        let several = model.likelihood_samples(cells, 2, 3).unwrap();
        assert_eq!(several.mean.index_axis(ndarray::Axis(0), 0), one.mean);
        assert!(several.mean.index_axis(ndarray::Axis(0), 1) != one.mean);
    });
}
