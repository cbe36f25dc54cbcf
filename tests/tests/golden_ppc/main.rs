//! Posterior predictive checks of given samples, against the numbers of scvi.criticism.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod ties;

use std::path::Path;

use ndarray::{Array2, Array3};
use sc_criticism::ppc::{Checked, DeTest, GroupAgreement, ModelCheck, Ppc, PpcOptions, Tables};
use sc_data::{Categorical, RowSource};
use sc_model::Parity;
use sc_tests::{Npz, shared, worst, worst_relative};
use serde_json::Value;

const CELLS: usize = 150;
const GENES: usize = 200;
const MODELS: [&str; 2] = ["default", "nb_cov"];

struct Golden {
    arrays: Npz,
    json: Value,
    raw: Array2<f32>,
    labels: Categorical,
}

impl Golden {
    fn load(root: &Path) -> Self {
        let at = root.join("golden/scvi/core");
        let arrays = Npz::read(&at.join("criticism.npz"));
        let json: Value =
            serde_json::from_str(&std::fs::read_to_string(at.join("criticism.json")).unwrap())
                .unwrap();
        let groups: Vec<String> = serde_json::from_value(json["groups"].clone()).unwrap();
        let labels: Vec<&str> = arrays
            .indices("group_code")
            .into_iter()
            .map(|c| groups[c].as_str())
            .collect();
        let raw = arrays.get("raw").iter().map(|&v| v as f32).collect();
        Self {
            raw: Array2::from_shape_vec((CELLS, GENES), raw).unwrap(),
            labels: Categorical::from_labels(&labels),
            arrays,
            json,
        }
    }

    fn sample(&self, model: &str, s: usize) -> Array2<f32> {
        let all = self.arrays.get(&format!("samples/{model}"));
        let all = all.iter().map(|&v| v as f32).collect();
        let all = Array3::from_shape_vec((CELLS, GENES, 10), all).unwrap();
        all.index_axis(ndarray::Axis(2), s).to_owned()
    }

    /// The first samples of a model, each changed by `f`.
    fn samples(&self, model: &str, n: usize, f: fn(f32) -> f32) -> Tables<'static> {
        let boxed = |s: usize| Box::new(self.sample(model, s).mapv(f)) as Box<dyn RowSource>;
        Tables::new((0..n).map(boxed).collect()).unwrap()
    }

    fn check(&self, n: usize, groups: bool, change: impl FnOnce(&mut PpcOptions)) -> Checked {
        let models = MODELS.map(|m| self.samples(m, n, |v| v));
        let mut options = PpcOptions::default();
        change(&mut options);
        let mut ppc = Ppc::new(&self.raw).options(options);
        if groups {
            ppc = ppc.groups(&self.labels);
        }
        for (name, samples) in MODELS.iter().zip(&models) {
            ppc = ppc.model(*name, samples);
        }
        ppc.run(&mut |_, _| ()).unwrap()
    }
}

fn near(what: &str, error: f64, tolerance: f64) {
    eprintln!("{what}: {error:e}");
    assert!(
        error <= tolerance,
        "{what}: off by {error:e}, allowed {tolerance:e}"
    );
}

#[test]
fn coefficients_of_variation() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let checked = golden.check(10, false, |_| ());
    let get = |key: &str| golden.arrays.get(key);
    for (suffix, tolerance) in [("_f64", 1e-12), ("", 1e-5)] {
        let raw = &checked.observed;
        let (cell, gene) = (format!("cv_cell{suffix}"), format!("cv_gene{suffix}"));
        near(
            &format!("{cell}/Raw"),
            worst_relative(&raw.cv_cell, get(&format!("{cell}/Raw"))),
            tolerance,
        );
        near(
            &format!("{gene}/Raw"),
            worst_relative(&raw.cv_gene, get(&format!("{gene}/Raw"))),
            tolerance,
        );
        for m in &checked.models {
            let key = format!("{cell}/{}", m.name);
            near(
                &key,
                worst_relative(&m.cv_cell.values, get(&key)),
                tolerance,
            );
            let key = format!("{gene}/{}", m.name);
            near(
                &key,
                worst_relative(&m.cv_gene.values, get(&key)),
                tolerance,
            );
        }
    }
    for m in &checked.models {
        for (what, found) in [("cv_cell", &m.cv_cell), ("cv_gene", &m.cv_gene)] {
            let name = format!("{what}/{}", m.name);
            let expected = &golden.json["cv_summary"][&name];
            for (score, found) in [
                ("mae", found.agreement.mae),
                ("pearson", found.agreement.pearson),
                ("spearman", found.agreement.spearman),
                (
                    "r2_score(model,raw)_as_upstream_report",
                    found.agreement.r2_swapped,
                ),
                ("r2_score(raw,model)_as_paper_notebook", found.agreement.r2),
            ] {
                let expected = expected[score].as_f64().unwrap();
                // Ranks of nearly equal numbers may change places between precisions.
                let tolerance = if score == "spearman" { 1e-4 } else { 1e-5 };
                near(
                    &format!("{name} {score}"),
                    worst(&[found], &[expected], |e| e.abs().max(1.0)),
                    tolerance,
                );
            }
        }
    }
}

/// Half of every count: what scvi.criticism takes for floating-point data.
#[test]
fn counts_that_are_not_integers() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let samples = MODELS.map(|m| golden.samples(m, 10, |v| v * 0.5));
    let raw = golden.raw.mapv(|v| v * 0.5);
    let checked = Ppc::new(&raw)
        .model(MODELS[0], &samples[0])
        .model(MODELS[1], &samples[1])
        .run(&mut |_, _| ())
        .unwrap();
    // Coefficients of variation have no unit, so that any factor will do.
    let get = |key: String| golden.arrays.get(&key);
    for (m, name) in checked.models.iter().zip(MODELS) {
        for (what, found) in [("cv_cell", &m.cv_cell), ("cv_gene", &m.cv_gene)] {
            let expected = get(format!("float_branch/{what}/{name}"));
            near(
                &format!("float {what}/{name}"),
                worst_relative(&found.values, expected),
                1e-5,
            );
        }
    }
}

#[test]
fn zero_fractions() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let upstream = golden.check(10, false, |o| o.parity = Parity::Upstream);
    let correct = golden.check(10, false, |_| ());
    let compare = |name: &str, upstream: &[f64], correct: &[f64]| {
        let expected = golden.arrays.get(&format!("zero_fraction/{name}"));
        near(
            &format!("zero_fraction/{name}"),
            worst(upstream, expected, |_| 1.0),
            1e-12,
        );
        let zeros: Vec<f64> = expected.iter().map(|e| 1.0 - e).collect();
        near(
            &format!("zeros/{name}"),
            worst(correct, &zeros, |_| 1.0),
            1e-12,
        );
    };
    compare(
        "Raw",
        &upstream.observed.zero_fraction,
        &correct.observed.zero_fraction,
    );
    for (u, c) in upstream.models.iter().zip(&correct.models) {
        compare(&u.name, &u.zero_fraction.values, &c.zero_fraction.values);
    }
}

#[test]
fn calibration() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let expected = golden.json["calibration"].as_object().unwrap();
    assert_eq!(expected.len(), 8);
    for (key, expected) in expected {
        let mut parts = key.split('/');
        let model = parts.next().unwrap();
        let n = parts.next().unwrap().trim_start_matches("n_samples");
        let checked = golden.check(n.parse().unwrap(), false, |o| {
            if parts.next().is_some() {
                o.levels = vec![0.1, 0.3, 0.7, 0.9];
            }
        });
        let found = checked.models.iter().find(|m| m.name == model).unwrap();
        let found = found.calibration.as_ref().unwrap().error;
        near(
            &format!("calibration {key}"),
            (found - expected.as_f64().unwrap()).abs(),
            1e-9,
        );
    }
}

#[test]
fn differential_expression() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let expected = golden.json["de"].as_object().unwrap();
    assert_eq!(expected.len(), 12);
    for (key, expected) in expected {
        let parts: Vec<&str> = key.split('/').collect();
        let n = parts[2][1..].parse().unwrap();
        let n_top: usize = parts[4][3..].parse().unwrap();
        let settings = |o: &mut PpcOptions| {
            o.de.n_samples = n;
            o.de.p_value = parts[3][1..].parse().unwrap();
            o.de.n_top = n_top;
            if parts[1] == "wilcoxon" {
                o.de.test = DeTest::Wilcoxon;
            }
        };
        let upstream = golden.check(10, true, |o| {
            settings(o);
            o.parity = Parity::Upstream;
        });
        let correct = golden.check(10, true, settings);
        let of = |checked: &Checked| -> ModelCheck {
            let found = checked.models.iter().find(|m| m.name == parts[0]);
            found.unwrap().clone()
        };
        let (upstream, correct) = (of(&upstream), of(&correct));
        let groups: Vec<&str> = upstream.de.iter().map(|g| g.group.as_str()).collect();
        assert_eq!(Value::from(groups), expected["group"]);
        let n_top = n_top.min(GENES / 10);
        // The areas of one group depend on how the reference's sort left equal p-values: see `ties`.
        let open = (parts[1] == "wilcoxon").then_some(ties::GROUP);
        let compare_but = |column: &str, of: fn(&GroupAgreement) -> f64, tolerance, but| {
            let column_of = expected[column].as_array().unwrap();
            let (found, expected): (Vec<f64>, Vec<f64>) = upstream
                .de
                .iter()
                .zip(column_of)
                .filter(|(g, _)| Some(g.group.as_str()) != but)
                .map(|(g, e)| (of(g), e.as_f64().unwrap()))
                .unzip();
            near(
                &format!("{key} {column}"),
                worst(&found, &expected, |_| 1.0),
                tolerance,
            );
        };
        let compare = |column: &str, of: fn(&GroupAgreement) -> f64, tolerance: f64| {
            compare_but(column, of, tolerance, None);
        };
        compare("n_cells", |g| g.n_cells as f64, 0.0);
        compare("gene_f1", |g| g.gene_f1, 1.0 / n_top as f64 + 1e-9);
        compare("lfc_mae", |g| g.lfc_mae, 1e-4);
        compare("lfc_pearson", |g| g.lfc_pearson, 1e-4);
        compare("lfc_spearman", |g| g.lfc_spearman, 1e-4);
        compare_but("roc_auc", |g| g.roc_auc, 1e-9, open);
        compare_but("pr_auc", |g| g.pr_auc, 1e-9, open);
        // What we do by default differs in the areas under the curves alone.
        for (c, u) in correct.de.iter().zip(&upstream.de) {
            assert_eq!(
                (c.gene_f1, c.lfc_pearson, c.n_true),
                (u.gene_f1, u.lfc_pearson, u.n_true)
            );
            // One gene alone may lie anywhere.
            let name = format!("{key} {}", c.group);
            let few = c.n_true < 5;
            assert!(few || c.roc_auc > 0.5, "{name}: {}", c.roc_auc);
        }
    }
}

#[test]
fn log_fold_changes_of_genes() {
    let Some(root) = shared() else { return };
    let golden = Golden::load(&root);
    let checked = golden.check(10, true, |o| o.de.n_samples = 10);
    for m in &checked.models {
        for g in &m.de {
            for (what, found) in [("raw", &g.lfc_raw), ("approx", &g.lfc_model)] {
                let key = format!("lfc/{}/{}/{what}", m.name, g.group);
                near(
                    &key,
                    worst(found, golden.arrays.get(&key), |e| e.abs().max(1.0)),
                    1e-4,
                );
            }
        }
    }
}
