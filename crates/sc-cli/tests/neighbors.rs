//! Neighbours, clusters, UMAP, label transfer and infusion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, Place, says, small};
use ndarray::{Array2, Axis};
use sc_data::{AnnData, Annotation, Column, Matrix, Uns};
use serde_json::Value;

/// The small data with the logarithms of its most variable genes as an embedding.
fn embedded() -> AnnData {
    let mut data = small();
    let x = data.x.as_ref().unwrap().to_dense().mapv(f32::ln_1p);
    let variance = x.var_axis(Axis(0), 0.0);
    let mut genes: Vec<usize> = (0..x.ncols()).collect();
    genes.sort_by(|&a, &b| variance[b].total_cmp(&variance[a]));
    let places: Array2<f32> = x.select(Axis(1), &genes[..8]);
    data.obsm.insert("X_scVI".into(), places.into());
    data
}

/// The embedded data, two thirds of it as a reference and the rest as a query.
fn place() -> Place {
    let data = embedded();
    let part = |keep: fn(usize) -> bool| {
        let rows: Vec<usize> = (0..CELLS).filter(|&i| keep(i)).collect();
        data.select_obs(&rows).unwrap()
    };
    let place = Place::with(&data);
    place.put("reference.h5ad", &part(|i| i % 3 > 0));
    place.put("query.h5ad", &part(|i| i % 3 == 0));
    place
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn matrix<'a>(data: &'a AnnData, key: &str) -> &'a Matrix {
    match data.obsm.get(key) {
        Some(Annotation::Matrix(m)) => m,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_graph_its_clusters_and_its_picture() {
    let place = place();
    let summary = json(&place.ok("neighbors cells.h5ad --out graph.h5ad --k 10 --json"));
    assert_eq!(summary["n_cells"], CELLS);
    assert_eq!(summary["exact"], true);
    let data = sc_io::read(place.path("graph.h5ad")).unwrap();
    let distances = data.obsp["distances"].to_csr();
    assert_eq!(distances.n_stored(), 9 * CELLS);
    let graph = data.obsp["connectivities"].to_csr();
    assert_eq!(graph, graph.transpose());
    assert_eq!(summary["n_connectivities"], graph.n_stored());
    let Some(Uns::Dict(about)) = data.uns.get("neighbors") else {
        panic!("uns has no neighbors")
    };
    let Some(Uns::Dict(params)) = about.get("params") else {
        panic!("no params")
    };
    assert_eq!(params["n_neighbors"], Uns::Int(10));
    assert_eq!(params["use_rep"], Uns::Str("X_scVI".into()));

    // Clusters of that graph, and of one made on the way, are the same.
    let clusters = json(&place.ok("leiden graph.h5ad --out a.h5ad --json"));
    let sizes = clusters["sizes"].as_array().unwrap();
    assert!(sizes.len() > 1);
    let sum: u64 = sizes.iter().map(|s| s.as_u64().unwrap()).sum();
    assert_eq!(sum, CELLS as u64);
    place.ok("leiden cells.h5ad --rep X_scVI --k 10 --out b.h5ad");
    let [a, b] = ["a.h5ad", "b.h5ad"].map(|f| sc_io::read(place.path(f)).unwrap());
    assert_eq!(a.obs.get("leiden"), b.obs.get("leiden"));
    assert!(matches!(a.obs.get("leiden"), Some(Column::Categorical(_))));

    place.ok("umap graph.h5ad --out u.h5ad --epochs 50 --plot u.svg --color cell.type");
    place.ok("umap cells.h5ad --rep X_scVI --k 10 --out v.h5ad --epochs 50 --threads 1");
    let [u, v] = ["u.h5ad", "v.h5ad"].map(|f| sc_io::read(place.path(f)).unwrap());
    assert_eq!(matrix(&u, "X_umap"), matrix(&v, "X_umap"));
    assert_eq!(matrix(&u, "X_umap").n_cols(), 2);
    let circles = place.text("u.svg").matches("<circle").count();
    assert!(circles > CELLS, "{circles}");
    place.ok("umap graph.h5ad --epochs 5 --plot numbers.svg --color n.umi");
    assert!(place.text("numbers.svg").contains("n.umi"));
}

#[test]
fn labels_pass_to_a_query() {
    let place = place();
    let summary = json(&place.ok(
        "transfer reference.h5ad query.h5ad --labels cell.type,batch --k 15 --out out.h5ad --json",
    ));
    assert_eq!(summary.as_array().unwrap().len(), 2);
    let first = &summary[0];
    assert_eq!(first["key"], "cell.type");
    assert_eq!(first["n_cells"], CELLS / 3);
    // Nine types of which three hold most cells; by chance about a fifth agree.
    assert!(first["agreement"].as_f64().unwrap() > 0.35, "{first}");
    let out = sc_io::read(place.path("out.h5ad")).unwrap();
    let before = sc_io::read(place.path("query.h5ad")).unwrap();
    assert_eq!(out.obs.get("cell.type"), before.obs.get("cell.type"));
    let uncertainty = out.obs.get("cell.type_uncertainty").unwrap();
    let uncertainty = uncertainty.to_f64("u").unwrap();
    let Some(Column::Categorical(found)) = out.obs.get("cell.type_transferred") else {
        panic!("no labels")
    };
    for (label, u) in found.iter().zip(&uncertainty) {
        assert_eq!(label == Some("Unknown"), *u > 0.2);
    }
    let unknown = found.iter().filter(|l| *l == Some("Unknown")).count();
    assert_eq!(first["n_unknown"], unknown);
    // With every label accepted none is unknown.
    let all = json(&place.ok(
        "transfer reference.h5ad query.h5ad --labels cell.type --threshold 1 --equal-votes --out all.h5ad --json",
    ));
    assert_eq!(all[0]["n_unknown"], 0);
}

#[test]
fn an_expert_teaches_the_reference() {
    let place = place();
    let infuse = "infuse reference.h5ad query.h5ad --labels cell.type --into finer --k 10";
    let summary = json(&place.ok(&format!(
        "{infuse} --old batch --within batch --out by_batch.h5ad --json"
    )));
    let out = sc_io::read(place.path("by_batch.h5ad")).unwrap();
    let labels = out
        .obs
        .get("finer")
        .unwrap()
        .to_categorical("finer")
        .unwrap();
    let old = out
        .obs
        .get("batch")
        .unwrap()
        .to_categorical("batch")
        .unwrap();
    let Some(Column::Bool(taken)) = out.obs.get("finer_taken") else {
        panic!("no column")
    };
    let n_taken = taken.iter().filter(|&&t| t).count();
    assert!(n_taken > 0 && n_taken < taken.len());
    assert_eq!(summary["n_taken"], n_taken);
    let Some(Column::Float(confidence)) = out.obs.get("finer_confidence") else {
        panic!("no column")
    };
    for i in 0..taken.len() {
        if taken[i] {
            assert!(confidence[i] >= 0.8);
            assert_ne!(labels.get(i), old.get(i));
        } else {
            assert_eq!(labels.get(i), old.get(i));
        }
    }
    // Only one batch may change.
    let name = old.get(0).unwrap();
    place.ok(&format!(
        "{infuse} --old batch --within batch={name} --out one.h5ad"
    ));
    let out = sc_io::read(place.path("one.h5ad")).unwrap();
    let Some(Column::Bool(taken)) = out.obs.get("finer_taken") else {
        panic!("no column")
    };
    for (i, &taken) in taken.iter().enumerate() {
        assert!(!taken || old.get(i) == Some(name));
    }
    let near = json(&place.ok(&format!("{infuse} --reach 0.01 --out near.h5ad --json")));
    let far = json(&place.ok(&format!("{infuse} --reach 100 --out far.h5ad --json")));
    assert!(near["n_taken"].as_u64() < far["n_taken"].as_u64());
}

#[test]
fn mistakes_are_explained() {
    let place = place();
    says(
        &place.error("neighbors cells.h5ad --out o.h5ad --rep X_pca"),
        &["cells.h5ad", "X_pca", "X_scVI", "sc embed"],
    );
    says(
        &place.error("neighbors cells.h5ad --out o.h5ad --k 301"),
        &["301", "300"],
    );
    says(
        &place.error("leiden cells.h5ad --out o.h5ad"),
        &["cells.h5ad", "--rep", "X_scVI"],
    );
    says(
        &place.error("umap cells.h5ad --rep X_scVI --plot p.svg --color kind"),
        &["kind", "cell.type"],
    );
    says(
        &place.error("umap cells.h5ad --rep X_scVI --plot p.png --color batch"),
        &["p.png", ".svg"],
    );
    let transfer = "transfer reference.h5ad query.h5ad --out o.h5ad";
    says(
        &place.error(&format!("{transfer} --labels kind")),
        &["reference.h5ad", "kind", "cell.type"],
    );
    says(
        &place.error(&format!(
            "{transfer} --labels cell.type --reference-rep X_latent"
        )),
        &["reference.h5ad", "X_latent", "X_scVI"],
    );
    let infuse = "infuse reference.h5ad query.h5ad --labels cell.type --out o.h5ad";
    says(
        &place.error(&format!("{infuse} --into batch")),
        &["reference.h5ad", "batch", "--into"],
    );
    says(
        &place.error(&format!("{infuse} --into finer --within batch=nowhere")),
        &["reference.h5ad", "nowhere", "batch"],
    );
    assert!(!place.path("o.h5ad").exists());

    let mut other = embedded();
    let places = matrix(&other, "X_scVI").to_dense();
    let mut broken = other.clone();
    other.obsm.insert(
        "X_scVI".into(),
        places.select(Axis(1), &[0, 1, 2, 3, 4]).into(),
    );
    place.put("other.h5ad", &other);
    says(
        &place.error("transfer reference.h5ad other.h5ad --labels cell.type --out o.h5ad"),
        &["other.h5ad", "reference.h5ad", "8", "5"],
    );
    let mut places = places;
    places[[7, 2]] = f32::NAN;
    broken.obsm.insert("X_scVI".into(), places.into());
    place.put("broken.h5ad", &broken);
    says(
        &place.error("neighbors broken.h5ad --out o.h5ad"),
        &["broken.h5ad", "X_scVI", "row 7", "NaN"],
    );
    says(
        &place.error("transfer reference.h5ad broken.h5ad --labels cell.type --out o.h5ad"),
        &["broken.h5ad", "row 7", "NaN"],
    );
}
