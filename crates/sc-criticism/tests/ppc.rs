//! Posterior predictive checks of made-up models: what must hold whatever the numbers, and what bad input says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::ops::Range;

use ndarray::{Array2, Array3};
use sc_criticism::ppc::{Checked, DeTest, Drawn, Ppc, PpcOptions, Samples, Tables};
use sc_criticism::report::Report;
use sc_data::{Categorical, Csr, RowSource};
use sc_model::{ExpressionOptions, Generative};

/// Counts that look random, from nothing but the place and the seed: SplitMix64.
fn count(i: usize, g: usize, seed: u64) -> f32 {
    let mut x = (i as u64) << 32 | (g as u64) << 8 | seed;
    x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let uniform = ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    let rate = 0.8 + (g % 5) as f64 * 0.5 * (1.0 + (i % 3 * g % 4) as f64);
    (-(1.0 - uniform).ln() * rate).floor() as f32
}

/// A model that knows how the counts were made, and remembers the largest block that it was asked for.
struct Knowing {
    n_genes: usize,
    largest: Cell<usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the model refuses")]
struct Refused;

impl Generative<usize> for Knowing {
    type Error = Refused;

    fn n_cells(&self, data: &usize) -> usize {
        *data
    }

    fn posterior_predictive_rows(
        &self,
        data: &usize,
        cells: Range<usize>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>, Refused> {
        if cells.end > *data || seed == 666 {
            return Err(Refused);
        }
        self.largest.set(self.largest.get().max(cells.len()));
        let shape = (n_samples, cells.len(), self.n_genes);
        Ok(Array3::from_shape_fn(shape, |(s, i, g)| {
            count(cells.start + i, g, seed + 1 + s as u64)
        }))
    }

    fn expected_expression(
        &self,
        _: &usize,
        _: &ExpressionOptions,
    ) -> Result<Array2<f32>, Refused> {
        Err(Refused)
    }
}

fn knowing(n_genes: usize) -> Knowing {
    Knowing {
        n_genes,
        largest: Cell::new(0),
    }
}

fn raw(n_cells: usize, n_genes: usize) -> Array2<f32> {
    Array2::from_shape_fn((n_cells, n_genes), |(i, g)| count(i, g, 0))
}

fn types(n_cells: usize) -> Categorical {
    let names: Vec<&str> = (0..n_cells).map(|i| ["a", "b", "c"][i % 3]).collect();
    Categorical::from_labels(&names)
}

fn tables(samples: Vec<Array2<f32>>) -> Tables<'static> {
    let boxed = |s: Array2<f32>| Box::new(s) as Box<dyn RowSource>;
    Tables::new(samples.into_iter().map(boxed).collect()).unwrap()
}

fn check(raw: &Array2<f32>, samples: &dyn Samples, test: DeTest) -> Checked {
    let labels = types(raw.nrows());
    let mut options = PpcOptions::default();
    options.de.test = test;
    options.de.n_samples = 2;
    Ppc::new(raw)
        .groups(&labels)
        .options(options)
        .model("m", samples)
        .run(&mut |_, _| ())
        .unwrap()
}

#[test]
fn a_model_that_knows_is_found_good() {
    let (cells, genes) = (900, 30);
    let raw = raw(cells, genes);
    let model = knowing(genes);
    let found = check(&raw, &Drawn::new(&model, &cells, 40, 0), DeTest::TTest);
    let m = &found.models[0];
    assert!(m.cv_gene.agreement.r2 > 0.9, "{:?}", m.cv_gene.agreement);
    assert!(m.mean.agreement.r2 > 0.9 && m.zero_fraction.agreement.mae < 0.03);
    // What should hold 95 % holds about as much, zeros and ties aside.
    let c = m.calibration.as_ref().unwrap();
    assert!(c.observed[0] > 0.93 && c.expected[0] > 0.949);
    for g in &m.de {
        assert!(g.lfc_pearson > 0.8 && g.roc_auc > 0.8, "{g:?}");
        assert!(g.n_true < genes);
    }
}

#[test]
fn cells_stream_through_in_blocks_that_fit() {
    // 40 samples of 2,000 genes: 209 cells fit into 64 MB, so one company of 128.
    let (cells, genes) = (300, 2000);
    let raw = Csr::from_dense(&raw(cells, genes));
    let model = knowing(genes);
    let mut heard = Vec::new();
    let drawn = Drawn::new(&model, &cells, 40, 0);
    Ppc::new(&raw)
        .model("m", &drawn)
        .run(&mut |done, all| heard.push((done, all)))
        .unwrap();
    assert_eq!(model.largest.get(), 128);
    assert_eq!(heard.last(), Some(&(600, 600)));
    assert!(
        heard
            .windows(2)
            .all(|w| w[0].0 < w[1].0 && w[0].1 == w[1].1)
    );
}

#[test]
fn threads_and_kinds_of_samples_do_not_matter() {
    let (cells, genes) = (500, 25);
    let raw = raw(cells, genes);
    let model = knowing(genes);
    for test in [DeTest::TTest, DeTest::Wilcoxon] {
        let found = check(&raw, &Drawn::new(&model, &cells, 5, 3), test);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        // A cell is no place for several threads; each has a model of its own.
        let samples =
            (0..5u64).map(|s| Array2::from_shape_fn((cells, genes), |(i, g)| count(i, g, 4 + s)));
        let samples = samples.collect::<Vec<_>>();
        let again = pool.install(|| check(&raw, &tables(samples), test));
        assert_eq!(format!("{found:?}"), format!("{again:?}"));
    }
}

#[test]
fn a_gene_without_counts_is_left_out_and_counted() {
    let mut counts = raw(120, 20);
    counts.column_mut(4).fill(0.0);
    let mut generated = counts.clone();
    generated.column_mut(9).fill(0.0);
    let found = check(
        &counts,
        &tables(vec![generated.clone(), generated]),
        DeTest::TTest,
    );
    let m = &found.models[0];
    assert_eq!(m.cv_gene.agreement.left_out, 2);
    assert_eq!(m.cv_gene.agreement.n, 18);
    assert!(found.observed.cv_gene[4].is_nan() && m.cv_gene.values[9].is_nan());
    assert_eq!(found.observed.zero_fraction[4], 1.0);
    assert!(
        m.de.iter()
            .all(|g| g.lfc_pearson.is_finite() && g.roc_auc.is_finite())
    );
}

#[test]
fn one_sample_has_no_calibration() {
    let counts = raw(60, 20);
    let one = tables(vec![counts.clone()]);
    let found = Ppc::new(&counts)
        .model("m", &one)
        .run(&mut |_, _| ())
        .unwrap();
    assert!(found.models[0].calibration.is_none());
    let mut report = Report::new("t");
    found.add_to(&mut report).unwrap();
    assert!(report.html().contains("at least two samples"));
}

#[test]
fn the_report_has_every_model_and_group() {
    let counts = raw(120, 20);
    let (a, b) = (tables(vec![raw(120, 20); 3]), tables(vec![raw(120, 20); 3]));
    let mut labels: Vec<&str> = (0..120).map(|i| ["one", "two"][i % 2]).collect();
    labels[7] = "alone";
    let labels = Categorical::from_labels(&labels);
    let found = Ppc::new(&counts)
        .groups(&labels)
        .model("first <model>", &a)
        .cells("training cells", (0..100).collect())
        .model("second", &b)
        .run(&mut |_, _| ())
        .unwrap();
    assert_eq!(found.left_out[0].group, "alone");
    assert_eq!(found.models[0].cv_cell_by_set[0].1.n, 100);
    let mut report = Report::new("t");
    found.add_to(&mut report).unwrap();
    let (html, json) = (report.html(), report.json());
    for words in [
        "first &lt;model&gt;, training cells",
        "second",
        "alone (1)",
        "Groups, second",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    // Nothing is loaded: the only addresses are the names of XML's vocabularies.
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("<script"));
    let perfect = &json["sections"][0]["tables"][0]["rows"][0];
    assert_eq!(perfect["CV by gene, R²"], 1.0);
}

#[track_caller]
fn refused(
    counts: &Array2<f32>,
    labels: Option<&Categorical>,
    samples: Tables<'_>,
    words: &[&str],
) {
    let mut ppc = Ppc::new(counts).model("net", &samples);
    if let Some(labels) = labels {
        ppc = ppc.groups(labels);
    }
    let message = ppc.run(&mut |_, _| ()).unwrap_err().to_string();
    for word in words {
        assert!(
            message.contains(word),
            "\"{word}\" is missing in: {message}"
        );
    }
}

#[test]
fn bad_input_is_named() {
    let counts = raw(60, 20);
    let with = |at: (usize, usize), v: f32| {
        let mut m = counts.clone();
        m[at] = v;
        m
    };
    let good = || tables(vec![counts.clone(); 2]);
    let second = |m: Array2<f32>| tables(vec![counts.clone(), m]);

    refused(
        &Array2::zeros((0, 20)),
        None,
        tables(vec![]),
        &["no raw counts"],
    );
    refused(&counts, None, tables(vec![]), &["0 for net", "at least 1"]);
    refused(
        &counts,
        None,
        tables(vec![raw(59, 20)]),
        &["net", "59", "60"],
    );
    refused(
        &counts,
        None,
        tables(vec![raw(60, 19)]),
        &["sample 0 of net", "60 cells x 19", "60 x 20"],
    );
    refused(
        &counts,
        None,
        second(with((3, 5), f32::NAN)),
        &["sample 1 of net", "NaN at cell 3, gene 5", "diverged"],
    );
    refused(
        &counts,
        None,
        second(with((0, 0), f32::INFINITY)),
        &["inf at cell 0, gene 0"],
    );
    refused(
        &with((59, 19), f32::NAN),
        None,
        good(),
        &["the raw counts", "cell 59, gene 19"],
    );

    let short = types(59);
    refused(&counts, Some(&short), good(), &["labels has 59", "60"]);
    let alone: Vec<String> = (0..60).map(|i| format!("type {i}")).collect();
    refused(
        &counts,
        Some(&Categorical::from_labels(&alone)),
        good(),
        &["no group", "type 0 (1)"],
    );
    let one = Categorical::from_labels(&["a"; 60]);
    refused(&counts, Some(&one), good(), &["a (60)"]);
    refused(
        &with((2, 2), -1.0),
        Some(&types(60)),
        good(),
        &["-1 at cell 2, gene 2", "raw counts"],
    );

    let message = Tables::new(vec![
        Box::new(raw(60, 20)) as Box<dyn RowSource>,
        Box::new(raw(61, 20)),
    ]);
    let message = message.err().unwrap().to_string();
    assert!(message.contains("sample 1 has 61"), "{message}");

    let model = knowing(20);
    let drawn = Drawn::new(&model, &60, 2, 666);
    let failed = Ppc::new(&counts).model("m", &drawn).run(&mut |_, _| ());
    assert!(
        failed
            .unwrap_err()
            .to_string()
            .contains("the model refuses")
    );
    let twice = good();
    let failed = Ppc::new(&counts)
        .model("m", &twice)
        .model("m", &twice)
        .run(&mut |_, _| ());
    assert!(failed.unwrap_err().to_string().contains("\"m\" twice"));
}
