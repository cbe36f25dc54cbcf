//! The core of differential expression, on draws that are given, against the numbers of scvi-tools.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::path::Path;

use ndarray::{Array2, ArrayView2};
use sc_latent::de::{
    Change, ChangeOptions, GeneStatistics, Mode, ScaleSamples, TestMode, Vanilla, bayes_factors,
    estimate_delta, fdr_calls,
};
use sc_tests::{Npz, golden, json, near, worst, worst_relative};
use serde_json::Value;

/// Of the core: draws and mean counts that are given.
struct Core {
    arrays: Npz,
    runs: Value,
}

impl Core {
    fn load(golden: &Path) -> Self {
        let at = golden.join("core");
        Self {
            arrays: Npz::read(&at.join("de_core.npz")),
            runs: json(&at.join("de_core.json"))["runs"].clone(),
        }
    }

    fn samples(&self, which: usize, batches: bool) -> ScaleSamples {
        let values: Vec<f32> = self
            .arrays
            .get(&format!("s{which}"))
            .iter()
            .map(|&v| v as f32)
            .collect();
        let values = ArrayView2::from_shape((300, 60), &values).unwrap();
        if batches {
            let batch = self.arrays.get(&format!("batch{which}"));
            let batch = batch.iter().map(|&b| b as u32).collect();
            ScaleSamples::with_batches(values, batch).unwrap()
        } else {
            ScaleSamples::new(values)
        }
    }

    fn run(&self, name: &str) -> GeneStatistics {
        let run = &self.runs[name];
        // What scvi-tools is told here is whether every draw has its cell's own batch.
        let batches = run["use_observed_batches"] == false;
        let kwargs = &run["kwargs"];
        let number = |key: &str| kwargs[key].as_str().map(|s| s.parse::<f64>().unwrap());
        let mode = if kwargs["mode"] == "vanilla" {
            Mode::Vanilla
        } else {
            let mut options = ChangeOptions::default();
            options.delta = number("delta");
            options.pseudocounts = number("pseudocounts");
            options.threshold_counts = number("threshold_counts").unwrap_or(0.01);
            if kwargs["test_mode"] == "two" {
                options.test = TestMode::Two;
            }
            if let Some(levels) = kwargs["cred_interval_lvls"].as_str() {
                options.cred_intervals = serde_json::from_str(levels).unwrap();
            }
            Mode::Change(options)
        };
        let means = (self.arrays.get("raw_mean1"), self.arrays.get("raw_mean2"));
        let (one, two) = (self.samples(1, batches), self.samples(2, batches));
        bayes_factors(&one, &two, Some(means), &mode, None, 0).unwrap()
    }

    fn near(&self, run: &str, column: &str, found: &[f64], tolerance: f64) {
        let expected = self.arrays.get(&format!("{run}/{column}"));
        near(run, column, worst(found, expected, |_| 1.0), tolerance);
    }

    fn vanilla(&self, run: &str, v: &Vanilla) {
        self.near(run, "proba_m1", &v.proba_m1, 1e-7);
        self.near(run, "proba_m2", &v.proba_m2, 1e-7);
        self.near(run, "bayes_factor", &v.bayes_factor, 1e-5);
        self.near(run, "scale1", &v.scale1, 1e-8);
        self.near(run, "scale2", &v.scale2, 1e-8);
    }

    fn change(&self, run: &str, c: &Change) {
        let pseudocounts = self.arrays.get(&format!("{run}/pseudocounts"));
        near(
            run,
            "pseudocounts",
            worst_relative(&[c.pseudocounts], pseudocounts),
            1e-6,
        );
        self.near(run, "delta", &[c.delta], 0.0);
        self.near(run, "scale1", &c.scale1, 1e-8);
        self.near(run, "scale2", &c.scale2, 1e-8);
        // Multiples of 1/300; one draw may fall on the other side of a tie.
        self.near(run, "proba_de", &c.proba_de, 1.0 / 300.0 + 1e-9);
        let expected = self.arrays.get(&format!("{run}/proba_de"));
        let ties = c
            .proba_de
            .iter()
            .zip(expected)
            .filter(|(a, b)| (*a - *b).abs() > 1e-9);
        assert!(ties.count() <= 1, "{run}: too many ties");
        self.near(run, "lfc_mean", &c.lfc_mean, 2e-5);
        self.near(run, "lfc_median", &c.lfc_median, 2e-5);
        self.near(run, "lfc_std", &c.lfc_std, 2e-5);
        self.near(run, "lfc_min", &c.lfc_min, 2e-5);
        self.near(run, "lfc_max", &c.lfc_max, 2e-5);
        for (level, low, high) in &c.lfc_intervals {
            let name = format!("lfc_confidence_interval_{level}");
            self.near(run, &format!("{name}_min"), low, 1e-4);
            self.near(run, &format!("{name}_max"), high, 1e-4);
        }
        for target in [0.05, 0.2] {
            let key = format!("{run}/is_de_fdr_{target}");
            if self.arrays.has(&key) {
                let expected: Vec<bool> = self.arrays.get(&key).iter().map(|v| *v != 0.0).collect();
                assert_eq!(fdr_calls(&c.proba_de, target), expected, "{key}");
            }
        }
    }
}

#[test]
fn core_on_given_draws() {
    let Some(golden) = golden() else { return };
    let core = Core::load(&golden);
    let mut n = 0;
    for (name, run) in core.runs.as_object().unwrap() {
        if !run.is_object() {
            continue;
        }
        n += 1;
        match core.run(name) {
            GeneStatistics::Vanilla(v) => core.vanilla(name, &v),
            GeneStatistics::Change(c) => core.change(name, &c),
            _ => panic!("{name}: unknown statistics"),
        }
    }
    assert_eq!(n, 8);
    // Their threshold comes from a random start; ours lies among theirs.
    let delta = estimate_delta(core.arrays.get("s1_f64_mean_lfc"));
    let theirs: Vec<f64> =
        serde_json::from_value(core.runs["estimate_delta_10_runs"].clone()).unwrap();
    let (low, high) = theirs
        .iter()
        .fold((f64::MAX, 0f64), |(l, h), &d| (l.min(d), h.max(d)));
    assert!(
        (low..=high).contains(&delta),
        "{delta} outside of {low} to {high}"
    );
}

#[test]
fn core_on_a_hand_made_example() {
    let Some(golden) = golden() else { return };
    let expected = json(&golden.join("scvi_golden.json"))["de"].clone();
    let list = |keys: &[&str]| -> Vec<f64> {
        let found = keys.iter().fold(&expected, |v, k| &v[k]);
        serde_json::from_value(found.clone()).unwrap()
    };
    let matrix = |f: fn(usize, usize) -> usize| {
        ScaleSamples::new(Array2::from_shape_fn((8, 6), |(i, j)| f(i, j) as f32 / 1000.0).view())
    };
    let a = matrix(|i, j| (i * 13 + j * 7) % 17 + 1);
    let b = matrix(|i, j| (i * 5 + j * 11) % 19 + 1);
    // A gene that counts as not expressed has a mean of 0.
    let mean = |key: &str| list(&[key]).iter().map(|z| 1.0 - z).collect::<Vec<f64>>();
    let means = (mean("zeroA"), mean("zeroB"));
    let mut options = ChangeOptions::default();
    options.cred_intervals = vec![0.5];
    let mode = Mode::Change(options);
    let found = bayes_factors(&a, &b, Some((&means.0, &means.1)), &mode, None, 0).unwrap();
    let c = found.change().unwrap();
    let pseudocount = expected["pseudocount"].as_f64().unwrap();
    assert!((c.pseudocounts / pseudocount - 1.0).abs() < 1e-6);
    let check = |what: &str, found: &[f64], keys: &[&str], tolerance| {
        near(
            "example",
            what,
            worst(found, &list(keys), |_| 1.0),
            tolerance,
        );
    };
    check("proba_de", &c.proba_de, &["proba_de"], 1e-9);
    check("bayes_factor", &c.bayes_factor, &["bayes_factor"], 1e-6);
    check("mean", &c.lfc_mean, &["lfc", "mean"], 2e-5);
    check("median", &c.lfc_median, &["lfc", "median"], 2e-5);
    check("std", &c.lfc_std, &["lfc", "std"], 2e-5);
    check("min", &c.lfc_min, &["lfc", "min"], 2e-5);
    check("max", &c.lfc_max, &["lfc", "max"], 2e-5);
    let (_, low, high) = &c.lfc_intervals[0];
    check("low", low, &["lfc", "confidence_interval_0.5_min"], 1e-4);
    check("high", high, &["lfc", "confidence_interval_0.5_max"], 1e-4);
    let vanilla = bayes_factors(&a, &b, None, &Mode::Vanilla, None, 0).unwrap();
    check(
        "p1",
        &vanilla.vanilla().unwrap().proba_m1,
        &["vanilla_p1"],
        1e-9,
    );
    let calls: Vec<bool> = serde_json::from_value(expected["fdr_05"].clone()).unwrap();
    assert_eq!(fdr_calls(&list(&["fdr_in"]), 0.05), calls);
}
