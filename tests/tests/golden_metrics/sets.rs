//! Sets of points that formulas give.

use super::*;

/// Points that formulas give, which anyone can make again.
#[test]
fn sets_by_formula() {
    let Some(root) = shared() else { return };
    let all = json(&root.join("golden/integrate/integrate_golden_metrics.json"));
    let points = |v: &Value| {
        let rows: Vec<Vec<f32>> = serde_json::from_value(v.clone()).unwrap();
        let columns = rows[0].len();
        Array2::from_shape_vec((rows.len(), columns), rows.concat()).unwrap()
    };
    let codes = |v: &Value| -> Vec<u32> { serde_json::from_value(v.clone()).unwrap() };
    for name in ["set1", "set2", "set3"] {
        let set = &all[name];
        let (x, labels, batch) = (
            points(&set["x"]),
            codes(&set["labels"]),
            codes(&set["batch"]),
        );
        let check = |what: &str, found: f64| {
            if let Some(expected) = set[what].as_f64() {
                // Coordinates are rounded to single precision here.
                near(&format!("{name} {what}"), found, expected, 1e-6);
            }
        };
        check(
            "avg_silhouette_width",
            asw_label(x.view(), &labels).unwrap(),
        );
        let mixed = asw_batch(x.view(), &labels, &batch, AswBatch::Scglue).unwrap();
        check("avg_silhouette_width_batch", mixed);
        for share in [0.01, 0.2, 0.25] {
            let k = neighbours_of_share(x.nrows(), share).unwrap();
            let map = mean_average_precision(x.view(), &labels, k).unwrap();
            check(&format!("mean_average_precision_frac{share}"), map);
            let sas = seurat_alignment_score(x.view(), &batch, share, 4, 0).unwrap();
            check(&format!("seurat_alignment_score_frac{share}"), sas);
        }
        for k in [3, 5] {
            let near = neighbours(&x, k);
            let found = graph_connectivity(&near, &labels, Connection::Weak).unwrap();
            check(&format!("graph_connectivity_k{k}"), found);
        }
        if let Some(scaled) = set["lisi_k12"]["ilisi_scaled"].as_f64() {
            let near12 = neighbours(&x, 12);
            near("iLISI", ilisi(&near12, &batch).unwrap(), scaled, 1e-5);
            let scaled = set["lisi_k12"]["clisi_scaled"].as_f64().unwrap();
            near("cLISI", clisi(&near12, &labels).unwrap(), scaled, 1e-5);
            let test = kbet(&near12, &batch, 0.05).unwrap();
            let first: Vec<f64> =
                serde_json::from_value(set["kbet_k12"]["stats_first5"].clone()).unwrap();
            all_near("kBET", &test.statistics[..5], &first, (1e-9, 1e-9));
        }
        if set["y"].is_array() {
            let y = points(&set["y"]);
            let found = foscttm(x.view(), y.view()).unwrap();
            let expected = set["foscttm"]["mean"].as_f64().unwrap();
            near("foscttm", found.mean(), expected, 1e-12);
            let kept = neighbor_conservation(x.view(), y.view(), &batch, 6).unwrap();
            check("neighbor_conservation_frac0.25", kept);
            let moved = snn_label_transfer(x.view(), &labels, y.view(), 5).unwrap();
            let hits = moved
                .labels
                .iter()
                .zip(&labels)
                .filter(|(a, b)| a == b)
                .count();
            let expected = set["transfer_labels_k5"]["accuracy"].as_f64().unwrap();
            near(
                "transfer",
                hits as f64 / labels.len() as f64,
                expected,
                1e-12,
            );
        }
    }
}
