//! Numbers that other Python packages gave for made-up input.

use super::*;

/// What other programs made of small inputs; `tests/make_metrics_fixtures.py` wrote it.
fn peers() -> Value {
    json(&sc_tests::data().join("metrics_peers.json"))
}

fn list<T: serde::de::DeserializeOwned>(v: &Value) -> Vec<T> {
    serde_json::from_value(v.clone()).unwrap()
}

fn cloud(v: &Value) -> Array2<f32> {
    let rows: Vec<Vec<f32>> = list(v);
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

#[test]
fn classification_like_scikit_learn() {
    let p = &peers()["classification"];
    let (truth, found): (Vec<String>, Vec<String>) = (list(&p["truth"]), list(&p["found"]));
    let confusion = Confusion::new(
        &Categorical::from_labels(&truth),
        &Categorical::from_labels(&found),
    )
    .unwrap();
    let check = |name: &str, found: f64| near(name, found, p[name].as_f64().unwrap(), 1e-12);
    check("accuracy", confusion.accuracy());
    check("balanced_accuracy", confusion.balanced_accuracy());
    check("macro_f1", confusion.macro_f1());
    check("weighted_f1", confusion.weighted_f1());
    assert_eq!(confusion.classes(), list::<String>(&p["classes"]));
    let counts: Vec<Vec<u64>> = list(&p["confusion"]);
    assert_eq!(
        confusion.counts().iter().copied().collect::<Vec<_>>(),
        counts.concat()
    );
    let each = confusion.per_class();
    let f1: Vec<f64> = each.iter().map(|c| c.f1).collect();
    all_near("f1 by class", &f1, &list::<f64>(&p["f1"]), (1e-12, 0.0));
    let recall: Vec<f64> = each.iter().map(|c| c.recall.unwrap()).collect();
    all_near(
        "recall by class",
        &recall,
        &list::<f64>(&p["recall"]),
        (1e-12, 0.0),
    );

    let right: Vec<bool> = truth.iter().zip(&found).map(|(a, b)| a == b).collect();
    let table = calibration(&list::<f64>(&p["confidence"]), &right, 10).unwrap();
    check("ece_10", table.expected_error);
    let (score, unknown): (Vec<f64>, Vec<bool>) = (list(&p["score"]), list(&p["unknown"]));
    check("auroc", auroc(&score, &unknown).unwrap());
    check(
        "average_precision",
        average_precision(&score, &unknown).unwrap(),
    );
}

#[test]
fn distributions_like_scipy_and_pot() {
    let p = &peers()["distribution"];
    let (x, y) = (cloud(&p["x"]), cloud(&p["y"]));
    let check = |name: &str, found: f64| near(name, found, p[name].as_f64().unwrap(), 1e-9);
    let first = |points: &Array2<f32>| -> Vec<f64> {
        points.column(0).iter().map(|&v| f64::from(v)).collect()
    };
    let (a, b) = (first(&x), first(&y));
    check("wasserstein_1", wasserstein_1d(&a, &b, 1.0).unwrap());
    check("wasserstein_2_1d", wasserstein_1d(&a, &b, 2.0).unwrap());
    check(
        "wasserstein_2_same_size",
        wasserstein_1d(&a, &b[..40], 2.0).unwrap(),
    );
    let line = |points: &Array2<f32>| points.select(Axis(1), &[0]);
    check(
        "energy_1d",
        energy_distance(line(&x).view(), line(&y).view()).unwrap(),
    );
    check("energy", energy_distance(x.view(), y.view()).unwrap());
    let gamma = p["gamma"].as_f64().unwrap();
    let of = |estimator| mmd(x.view(), y.view(), gamma, estimator).unwrap();
    check("mmd_biased", of(Estimator::Biased));
    check("mmd_unbiased", of(Estimator::Unbiased));
    let same = y.slice_axis(Axis(0), Slice::from(..40));
    check("exact_1", wasserstein_exact(x.view(), same, 1.0).unwrap());
    check("exact_2", wasserstein_exact(x.view(), same, 2.0).unwrap());
}

#[test]
fn pseudotime_like_scanpy() {
    let p = &peers()["trajectory"];
    let x = cloud(&p["x"]);
    let graph = connectivities(&neighbours(&x, 15)).unwrap();
    let map = diffusion_map(&graph, 15, 1e-9, 0).unwrap();
    // scanpy's are in single precision.
    all_near(
        "eigenvalues",
        &map.values,
        &list::<f64>(&p["eigenvalues"]),
        (1e-5, 1e-6),
    );
    let times = map.pseudotime(0).unwrap();
    all_near(
        "pseudotime",
        &times,
        &list::<f64>(&p["pseudotime"]),
        (1e-4, 1e-4),
    );
}

#[test]
fn regression_on_numbers_like_scikit_learn() {
    let p = &peers()["regression"];
    let x = cloud(&p["x"]);
    let cycle = cloud_f64(&p["cycle"]);
    let share = |k| pc_regression(x.view(), Covariate::Numbers(cycle.view()), k).unwrap();
    near(
        "all components",
        share(None),
        p["all"].as_f64().unwrap(),
        1e-9,
    );
    near(
        "two components",
        share(Some(2)),
        p["first_2"].as_f64().unwrap(),
        1e-9,
    );
}

fn cloud_f64(v: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = list(v);
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

#[test]
fn isolated_f1_like_scikit_learn() {
    let p = &peers()["clusters"];
    let (labels, batches): (Vec<u32>, Vec<u32>) = (list(&p["labels"]), list(&p["batches"]));
    let sweep: Vec<Clustering> = list::<Vec<u32>>(&p["sweep"])
        .into_iter()
        .map(|clusters| Clustering {
            resolution: 1.0,
            clusters,
        })
        .collect();
    let found = isolated_f1(&sweep, &labels, &batches, None)
        .unwrap()
        .unwrap();
    near(
        "isolated F1",
        found,
        p["isolated_f1"].as_f64().unwrap(),
        1e-12,
    );
}
