//! Neighbours and transferred labels of real cells, against scikit-learn and scArches; how many true neighbours the
//! approximate search finds.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use ndarray::Array2;
use sc_data::Categorical;
use sc_neighbors::{ApproxParams, LabelTransfer, knn, knn_approx, knn_query, recall};
use sc_tests::{Npz, golden as scvi, json, shared, worst, worst_relative};
use serde_json::Value;

struct Golden {
    numbers: Npz,
    about: Value,
}

fn golden() -> Option<Golden> {
    let dir = scvi()?.join("core");
    Some(Golden {
        numbers: Npz::read(&dir.join("label_transfer.npz")),
        about: json(&dir.join("label_transfer.json")),
    })
}

impl Golden {
    fn latent(&self, name: &str) -> Array2<f32> {
        let shape = self.numbers.shape(name);
        let values = self.numbers.get(name).iter().map(|&v| v as f32).collect();
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    }

    fn names(&self, level: &str) -> Vec<String> {
        let names = self.about[format!("{level}_labels")].as_array().unwrap();
        let names = names.iter().map(|n| n.as_str().unwrap().to_owned());
        names.collect()
    }

    fn labels(&self, array: &str, level: &str) -> Categorical {
        let codes = self.numbers.indices(array);
        let codes = codes.iter().map(|&c| Some(c as u32)).collect();
        Categorical::new(codes, self.names(level), false).unwrap()
    }
}

#[test]
fn neighbours_are_exact() {
    let Some(golden) = golden() else { return };
    let (reference, query) = (
        golden.latent("reference_latent"),
        golden.latent("query_latent"),
    );
    for k in [15, 50] {
        let found = knn_query(reference.view(), query.view(), k).unwrap();
        let expected = golden.numbers.indices(&format!("k{k}/neighbors"));
        let indices: Vec<usize> = found.indices.iter().map(|&j| j as usize).collect();
        assert_eq!(indices, expected, "k = {k}");
        let distances: Vec<f64> = found.distances.iter().map(|&d| f64::from(d)).collect();
        let expected = golden.numbers.get(&format!("k{k}/distances"));
        assert!(worst_relative(&distances, expected) < 1e-6);
    }
}

#[test]
fn labels_and_uncertainties_agree() {
    let Some(golden) = golden() else { return };
    let (reference, query) = (
        golden.latent("reference_latent"),
        golden.latent("query_latent"),
    );
    let levels = ["level_1", "level_2"];
    let known = levels.map(|l| golden.labels(&format!("reference_{l}"), l));
    let truth = golden.labels("query_truth_level_1", "level_1");
    for k in [15, 50] {
        let found = LabelTransfer::fit(reference.view(), &known[0])
            .unwrap()
            .and(&known[1])
            .unwrap()
            .k(k)
            .transfer_levels(query.view())
            .unwrap();
        for (level, found) in levels.iter().zip(&found) {
            let expected = |what: &str| golden.numbers.get(&format!("k{k}/{level}/{what}"));
            let codes: Vec<f64> = found
                .labels()
                .codes()
                .iter()
                .map(|c| f64::from(c.unwrap()))
                .collect();
            assert_eq!(codes, expected("label"), "k = {k}, {level}");
            let close = |found: &[f64], what| worst(found, expected(what), |_| 1.0) < 1e-6;
            assert!(
                close(found.uncertainty(), "uncertainty"),
                "k = {k}, {level}"
            );
            let scores: Vec<f64> = found.scores().iter().copied().collect();
            assert!(close(&scores, "scores"), "k = {k}, {level}");
            // How many cells are unknown at two thresholds.
            let counts = &golden.about[format!("k{k}")][format!("{level}_unknown_at")];
            for threshold in [0.2, 0.5] {
                let labels = found.labels_or_unknown(threshold).unwrap();
                let unknown = labels.iter().flatten().filter(|&l| l == "Unknown").count();
                assert_eq!(
                    unknown as u64,
                    counts[threshold.to_string()].as_u64().unwrap()
                );
            }
        }
        let accuracy = golden.about[format!("k{k}")]["accuracy_level_1"]
            .as_f64()
            .unwrap();
        assert!((found[0].accuracy(&truth).unwrap() - accuracy).abs() < 1e-12);
    }
}

/// 20,729 cells in 30 principal components.
#[test]
fn the_approximate_search_finds_most_neighbours() {
    let Some(dir) = shared() else { return };
    let data = dir.join("data/perturb/perturb_papalexi_eccite_lowmoi.h5ad");
    let counts = sc_io::read(data).unwrap().x.unwrap().to_csr();
    let logs = sc_preprocess::log1p(&sc_preprocess::normalize_total(&counts, None).unwrap());
    let cells = sc_preprocess::pca(&logs.unwrap(), 30, 0).unwrap().scores;
    let exact = knn(cells.view(), 14).unwrap();
    let params = ApproxParams::default();
    let found = knn_approx(cells.view(), 14, &params).unwrap();
    let share = recall(&found, &exact).unwrap();
    assert!(share > 0.95, "{share}");
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let again = one.install(|| knn_approx(cells.view(), 14, &params).unwrap());
    assert_eq!(found, again);
}
