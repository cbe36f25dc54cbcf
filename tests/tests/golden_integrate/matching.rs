//! Matchings against those of the competition's utilities.

use ndarray::Array2;
use sc_data::Csr;
use sc_integrate::matching::{
    SinkhornOptions, bipartite, ensemble_shared_neighbours, mutual_neighbours, nearest_neighbours,
    shared_neighbours, sinkhorn,
};
use sc_tests::{json, shared};

use crate::golden::Golden;

fn dense(m: &Csr) -> Vec<f64> {
    m.to_dense().iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn matchings() {
    let Some(g) = Golden::open("metrics.safetensors") else {
        return;
    };
    let (x, y) = (g.matrix("match.x"), g.matrix("match.y"));
    let (x1, y1) = (g.matrix("match.ens_x1"), g.matrix("match.ens_y1"));
    let (x, y) = (x.view(), y.view());
    for (name, found) in [
        ("match.snn_k1", shared_neighbours(x, y, 1)),
        ("match.snn_k5", shared_neighbours(x, y, 5)),
        ("match.knn_k5", nearest_neighbours(x, y, 5)),
        ("match.mnn_k5", mutual_neighbours(x, y, 5)),
        (
            "match.ensemble_snn_k1",
            ensemble_shared_neighbours(&[(x, y), (x1.view(), y1.view())], 1),
        ),
    ] {
        g.compare(name, "t64", &dense(&found.unwrap()));
    }
    let partners = bipartite(x, y).unwrap();
    let partners: Vec<u32> = partners.into_iter().map(Option::unwrap).collect();
    assert_eq!(partners, g.codes("match.hungarian_cosine"));
}

#[test]
fn optimal_transport() {
    let (Some(g), Some(dir)) = (Golden::open("metrics.safetensors"), shared()) else {
        return;
    };
    let scores = json(&dir.join("golden/integrate/metrics.json"));
    let expected = scores["sinkhorn_match_score"]["value"].as_f64().unwrap();
    let (x, y) = (g.matrix("match.x"), g.matrix("match.y"));
    let mut options = SinkhornOptions::default();
    options.keep = None;
    let plan: Array2<f32> = sinkhorn(x.view(), y.view(), &options).unwrap().to_dense();
    let n = plan.nrows();
    let found = (0..n).map(|i| f64::from(plan[[i, i]])).sum::<f64>() / n as f64;
    assert!(
        (found - expected).abs() <= 1e-5 * expected,
        "{found} instead of {expected}"
    );
}
