//! The metrics of sc-criticism against the numbers of scglue, scib-metrics, scikit-learn and the competition's scripts. With
//! `-- --nocapture` the measured differences are printed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod peers;
mod sets;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Axis, Slice};
use sc_criticism::classification::{Confusion, auroc, average_precision, calibration};
use sc_criticism::distribution::{
    Estimator, energy_distance, mmd, wasserstein_1d, wasserstein_exact,
};
use sc_criticism::integration::{
    Agreement, AswBatch, Average, Clustering, Connection, Covariate, Others, asw_batch, asw_label,
    bras, clisi, glue_overall, graph_connectivity, ilisi, isolated_asw, isolated_f1, kbet,
    kbet_per_label, pc_regression, pcr_comparison, total,
};
use sc_criticism::matching::{
    foscttm, match_scores, mean_average_precision, mean_match_score, neighbor_conservation,
    neighbours_of_share, recall_at, seurat_alignment_score, snn_label_transfer, true_columns,
};
use sc_data::{Categorical, Csr};
use sc_neighbors::{
    Neighbors, adjusted_rand_index, connectivities, diffusion_map, knn, lisi, silhouette_samples,
};
use sc_tests::shared;
use serde_json::Value;

/// The numbers of `golden/integrate`.
struct Golden {
    tensors: HashMap<String, Tensor>,
    scalars: Value,
}

impl Golden {
    fn load() -> Option<Self> {
        let at = shared()?.join("golden/integrate");
        Some(Self {
            tensors: candle_core::safetensors::load(at.join("metrics.safetensors"), &Device::Cpu)
                .unwrap(),
            scalars: json(&at.join("metrics.json")),
        })
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let t = self.tensors[name].to_dtype(DType::F64).unwrap();
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn codes(&self, name: &str) -> Vec<u32> {
        self.numbers(name).iter().map(|&v| v as u32).collect()
    }

    fn matrix(&self, name: &str) -> Array2<f32> {
        let (rows, columns) = self.tensors[name].dims2().unwrap();
        let values = self.numbers(name).iter().map(|&v| v as f32).collect();
        Array2::from_shape_vec((rows, columns), values).unwrap()
    }

    fn scalar(&self, name: &str) -> f64 {
        let v = &self.scalars[name];
        v.as_f64().or_else(|| v["value"].as_f64()).unwrap()
    }

    /// Holds a scalar against the reference: relative tolerance 1e-9, as its manifest says.
    fn check(&self, name: &str, found: f64) {
        near(name, found, self.scalar(name), 1e-9);
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn near(name: &str, found: f64, expected: f64, relative: f64) {
    let error = (found - expected).abs();
    eprintln!("{name:40} {found:.12} off by {error:.1e}");
    assert!(
        error <= relative * expected.abs().max(1e-3),
        "{name}: {found} instead of {expected}"
    );
}

/// Elementwise, by the manifest's rule.
fn all_near(name: &str, found: &[f64], expected: &[f64], (relative, absolute): (f64, f64)) {
    assert_eq!(found.len(), expected.len());
    let mut worst = 0.0f64;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f - e).abs();
        worst = worst.max(error);
        assert!(
            error <= absolute + relative * e.abs(),
            "{name}[{i}]: {f} instead of {e}"
        );
    }
    eprintln!(
        "{name:40} {} numbers, off by at most {worst:.1e}",
        found.len()
    );
}

/// `k` neighbours, the point itself counted.
fn neighbours(points: &Array2<f32>, k: usize) -> Neighbors {
    knn(points.view(), k - 1).unwrap()
}

#[test]
fn silhouettes() {
    let Some(g) = Golden::load() else { return };
    let (x, label, batch) = (g.matrix("x"), g.codes("label"), g.codes("batch"));
    let widths = silhouette_samples(x.view(), &label).unwrap();
    let expected = g.numbers("silhouette_label_per_cell");
    all_near(
        "silhouette_label_per_cell",
        &widths,
        &expected,
        (1e-9, 5.7e-11),
    );
    g.check("asw_label", asw_label(x.view(), &label).unwrap());
    g.check("asw_label_scib", asw_label(x.view(), &label).unwrap());
    let of = |without| asw_batch(x.view(), &label, &batch, without).unwrap();
    g.check("asw_batch_scglue", of(AswBatch::Scglue));
    g.check("asw_batch_scib", of(AswBatch::Scib));
    let of = |others| bras(x.view(), &label, &batch, others).unwrap();
    g.check("bras_cosine_mean_other", of(Others::All));
    g.check("bras_cosine_furthest", of(Others::Furthest));
    let isolated = isolated_asw(x.view(), &label, &batch, None).unwrap();
    g.check("isolated_labels", isolated);
}

#[test]
fn neighbourhoods() {
    let Some(g) = Golden::load() else { return };
    let (x, label, batch) = (g.matrix("x"), g.codes("label"), g.codes("batch"));
    let near = neighbours(&x, 16);
    let expected = g.codes("knn_idx16");
    for (i, row) in near.indices.outer_iter().enumerate() {
        assert_eq!(expected[i * 16] as usize, i);
        assert_eq!(row.to_vec(), expected[i * 16 + 1..(i + 1) * 16]);
    }
    for (k, tolerance) in [(30, 10.0), (60, 20.0)] {
        let near = neighbours(&x, k);
        for (name, codes) in [("batch", &batch), ("label", &label)] {
            let name = format!("lisi_{name}_k{k}");
            let found = lisi(&near, codes, Some(tolerance)).unwrap();
            // Distances are kept in single precision.
            let single = if name.contains("batch") {
                5.2e-5
            } else {
                1.1e-5
            };
            all_near(&name, &found, &g.numbers(&name), (1e-4, single));
        }
        // The reference of these is itself computed in single precision.
        let name = format!("ilisi_k{k}");
        near_single(&g, &name, ilisi(&near, &batch).unwrap());
        let name = format!("clisi_k{k}");
        near_single(&g, &name, clisi(&near, &label).unwrap());
        let test = kbet(&near, &batch, 0.05).unwrap();
        let of = |what: &str| g.numbers(&format!("kbet_{what}_k{k}"));
        all_near(
            "kbet statistics",
            &test.statistics,
            &of("stat"),
            (1e-9, 8.3e-10),
        );
        all_near("kbet p-values", &test.p_values, &of("p"), (1e-9, 9.8e-11));
        g.check(&format!("kbet_acceptance_k{k}"), test.acceptance);
    }
    for k in [3, 5, 15] {
        let found = graph_connectivity(&neighbours(&x, k), &label, Connection::Weak).unwrap();
        g.check(&format!("graph_connectivity_scglue_k{k}"), found);
    }
    for k in [6, 15] {
        let found = graph_connectivity(&neighbours(&x, k), &label, Connection::Strong).unwrap();
        g.check(&format!("graph_connectivity_scib_k{k}"), found);
    }
    // Theirs is approximate, and has no tolerance.
    let (found, each) = kbet_per_label(&neighbours(&x, 50), &label, &batch, 0.05).unwrap();
    let theirs = g.scalar("informative_kbet_per_label_scib_k50");
    eprintln!("kbet per label {found} ({each:?}), theirs {theirs}");
    assert!((found - theirs).abs() < 0.1);
}

/// Against the double-precision value with the tolerance of single precision.
fn near_single(g: &Golden, name: &str, found: f64) {
    near(name, found, g.scalar(name), 1e-5);
}

#[test]
fn clusters() {
    let Some(g) = Golden::load() else { return };
    let label = g.codes("label");
    for which in ["a", "b"] {
        let cluster = g.codes(&format!("cluster_{which}"));
        let both = Agreement::new(&label, &cluster).unwrap();
        for (name, average) in [
            ("arithmetic", Average::Arithmetic),
            ("geometric", Average::Geometric),
            ("min", Average::Min),
            ("max", Average::Max),
        ] {
            g.check(&format!("nmi_{which}_{name}"), both.nmi(average));
        }
        g.check(&format!("ami_{which}"), both.ami(Average::Arithmetic));
        g.check(&format!("homogeneity_{which}"), both.homogeneity());
        let ari = adjusted_rand_index(&label, &cluster).unwrap();
        g.check(&format!("ari_{which}"), ari);
    }
}

#[test]
fn regression_and_totals() {
    let Some(g) = Golden::load() else { return };
    let (x, before, batch) = (g.matrix("x"), g.matrix("x_pre"), g.codes("batch"));
    let batches = Covariate::Labels(&batch);
    let pcr = |points: &Array2<f32>, k| pc_regression(points.view(), batches, k).unwrap();
    g.check("pcr_pre", pcr(&before, None));
    g.check("pcr_post", pcr(&x, None));
    g.check("pcr_pre_3pcs", pcr(&before, Some(3)));
    let comparison = pcr_comparison(before.view(), x.view(), batches).unwrap();
    g.check("pcr_comparison", comparison);

    let inputs = &g.scalars["scib_aggregate"];
    let mean = |key: &str| {
        let values: Vec<f64> = serde_json::from_value(inputs[key].clone()).unwrap();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let expected = |key: &str| inputs[key].as_f64().unwrap();
    let (bio, batch) = (mean("bio_inputs"), mean("batch_inputs"));
    near("scib total", total(bio, batch), expected("total"), 1e-9);

    let glue = &g.scalars["glue_overall"];
    let rows: Vec<Vec<f64>> = serde_json::from_value(glue["methods_x_metrics"].clone()).unwrap();
    let all = Array2::from_shape_vec((rows.len(), 6), rows.concat()).unwrap();
    let part = |from, to| all.slice_axis(Axis(1), Slice::from(from..to));
    let scores = glue_overall(part(0, 3), part(3, 6)).unwrap();
    for (i, s) in scores.iter().enumerate() {
        let expected = |key: &str| glue[key][i].as_f64().unwrap();
        near("glue bio", s.bio, expected("bio"), 1e-9);
        near("glue mixing", s.mixing, expected("omics_mixing"), 1e-9);
        near("glue overall", s.overall, expected("overall"), 1e-9);
    }
}

#[test]
fn scglues_metrics() {
    let Some(g) = Golden::load() else { return };
    let (x, before) = (g.matrix("x"), g.matrix("x_pre"));
    let (label, batch) = (g.codes("label"), g.codes("batch"));
    let n = x.nrows();
    for share in [0.01, 0.05, 0.2] {
        let k = neighbours_of_share(n, share).unwrap();
        let found = mean_average_precision(x.view(), &label, k).unwrap();
        g.check(&format!("map_frac{share}"), found);
    }
    for share in [0.05, 0.1] {
        let k = neighbours_of_share(n, share).unwrap();
        let found = neighbor_conservation(before.view(), x.view(), &batch, k).unwrap();
        g.check(&format!("neighbor_conservation_frac{share}"), found);
    }
    let subset: Vec<usize> = g.codes("sas_subset").iter().map(|&i| i as usize).collect();
    let part = x.select(Axis(0), &subset);
    let batches: Vec<u32> = subset.iter().map(|&i| batch[i]).collect();
    for share in [0.05, 0.2] {
        let found = seurat_alignment_score(part.view(), &batches, share, 4, 0).unwrap();
        g.check(&format!("sas_frac{share}"), found);
    }
}

#[test]
fn matching() {
    let Some(g) = Golden::load() else { return };
    let (x, y, label) = (g.matrix("x"), g.matrix("y"), g.codes("label"));
    let found = foscttm(x.view(), y.view()).unwrap();
    all_near(
        "foscttm_x",
        &found.first,
        &g.numbers("foscttm_x"),
        (1e-12, 8.5e-12),
    );
    all_near(
        "foscttm_y",
        &found.second,
        &g.numbers("foscttm_y"),
        (1e-12, 1.7e-11),
    );
    g.check("foscttm_mean", found.mean());

    let (mx, my) = (g.matrix("match.x"), g.matrix("match.y"));
    for k in [1, 5, 10] {
        let there = recall_at(mx.view(), my.view(), k).unwrap();
        g.check(&format!("recall_x2y_at{k}"), there);
        let back = recall_at(my.view(), mx.view(), k).unwrap();
        g.check(&format!("recall_y2x_at{k}"), back);
    }
    let diagonal: Vec<u32> = (0..60).collect();
    for name in ["snn_k1", "snn_k5", "knn_k5", "mnn_k5"] {
        let matching = Csr::from_dense(&g.matrix(&format!("match.{name}")));
        let found = mean_match_score(&matching, &diagonal).unwrap();
        // The matrix is stored in single precision.
        near(name, found, g.scalar(&format!("match_score_{name}")), 1e-6);
    }
    let mut prediction = Array2::<f32>::zeros((40, 40));
    let (rows, columns) = (g.codes("score.row"), g.codes("score.col"));
    for ((&r, &c), &v) in rows.iter().zip(&columns).zip(&g.numbers("score.val")) {
        prediction[[r as usize, c as usize]] += v as f32;
    }
    let truth = true_columns(&g.codes("score.pairing_ix")).unwrap();
    let scores = match_scores(&Csr::from_dense(&prediction), &truth).unwrap();
    all_near(
        "score.per_cell",
        &scores,
        &g.numbers("score.per_cell"),
        (1e-9, 8.2e-11),
    );
    let mean = scores.iter().sum::<f64>() / 40.0;
    g.check("match_probability_zero_row_as_0", mean);

    for k in [5, 30] {
        let found = snn_label_transfer(x.view(), &label, y.view(), k).unwrap();
        assert_eq!(found.labels, g.codes(&format!("transfer.pred_k{k}")));
        let confidence = g.numbers(&format!("transfer.conf_k{k}"));
        all_near(
            "transfer confidence",
            &found.confidence,
            &confidence,
            (1e-8, 1e-10),
        );
        let names = |codes: &[u32]| {
            let names: Vec<String> = codes.iter().map(u32::to_string).collect();
            Categorical::from_labels(&names)
        };
        let confusion = Confusion::new(&names(&label), &names(&found.labels)).unwrap();
        g.check(&format!("transfer_accuracy_k{k}"), confusion.accuracy());
        g.check(&format!("transfer_macro_f1_k{k}"), confusion.macro_f1());
    }
}
