//! `sc map`: new cells on a trained model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Place, says, small};
use sc_data::{AnnData, Annotation, Categorical, Column, Table};

/// The cells of all batches but one, and those of that one with other genes: some reversed, some missing, some unknown.
fn split() -> (AnnData, AnnData) {
    let all = small();
    let batches = all
        .obs
        .get("batch")
        .unwrap()
        .to_categorical("batch")
        .unwrap();
    let held_out = batches.categories().last().unwrap().clone();
    let is_query = |i: &usize| batches.get(*i) == Some(held_out.as_str());
    let of = |rows: Vec<usize>| {
        let mut part = all.select_obs(&rows).unwrap();
        let labels: Vec<String> = rows
            .iter()
            .map(|&r| batches.get(r).unwrap().to_owned())
            .collect();
        let column = Column::Categorical(Categorical::from_labels(&labels));
        part.obs.insert("batch", column).unwrap();
        part
    };
    let reference = of((0..all.n_obs()).filter(|i| !is_query(i)).collect());
    let query = of((0..all.n_obs()).filter(is_query).collect());
    let genes: Vec<usize> = (5..query.n_vars()).rev().collect();
    let mut query = query.select_vars(&genes).unwrap();
    let mut names = query.var.index().to_vec();
    names[0] = "a gene of its own".into();
    query.var = Table::new(names);
    (reference, query)
}

fn place() -> Place {
    let (reference, query) = split();
    let place = Place::with(&reference);
    place.put("query.h5ad", &query);
    place.train("model", "--max-epochs 2 --encode-covariates");
    place
}

fn latent(place: &Place, file: &str) -> ndarray::Array2<f32> {
    match sc_io::read(place.path(file)).unwrap().obsm.get("X_scVI") {
        Some(Annotation::Matrix(m)) => m.to_dense(),
        _ => panic!("{file}: no X_scVI"),
    }
}

#[test]
fn a_query_is_mapped_and_its_model_kept() {
    let place = place();
    let json = place.ok("map model query.h5ad --out mapped --max-epochs 3 --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["epochs"], 3);
    assert_eq!(json["genes"]["missing"].as_array().unwrap().len(), 6);
    assert_eq!(json["genes"]["extra"][0], "a gene of its own");
    assert_eq!(json["new_batches"].as_array().unwrap().len(), 1);
    let found = latent(&place, "mapped/query.h5ad");
    assert_eq!(found.dim(), (json["n_cells"].as_u64().unwrap() as usize, 4));
    // The folder is a model like any other; what the query lacks still counts as never seen.
    place.ok("embed mapped query.h5ad --out again.h5ad");
    assert_eq!(latent(&place, "again.h5ad"), found);
    // The same seed gives the same places; an .h5ad file alone will do; counts can stay in the file.
    place.ok("map model query.h5ad --out mapped.h5ad --max-epochs 3 --backed --threads 1");
    assert_eq!(latent(&place, "mapped.h5ad"), found);
    // The reference's cells have the places that they had.
    place.ok("embed model cells.h5ad --out before.h5ad");
    place.ok("embed mapped cells.h5ad --out after.h5ad");
    assert_eq!(latent(&place, "before.h5ad"), latent(&place, "after.h5ad"));
    // What is thawed trains.
    place.ok("map model query.h5ad --out thawed --max-epochs 3 --unfrozen");
    place.ok("embed thawed cells.h5ad --out other.h5ad");
    assert_ne!(latent(&place, "before.h5ad"), latent(&place, "other.h5ad"));
}

#[test]
fn a_reference_of_layer_norms_is_made_as_the_docs_say() {
    let place = place();
    let norms = "--layer-norm both --batch-norm none --n-layers 2 --dropout-rate 0.2";
    place.train(
        "layered",
        &format!("--max-epochs 1 --encode-covariates {norms}"),
    );
    let config = std::fs::read_to_string(place.path("layered/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let text = config.to_string();
    assert!(text.contains(r#""layer_norm":"both""#), "{text}");
    assert!(text.contains(r#""batch_norm":"none""#), "{text}");
    place.ok("map layered query.h5ad --out mapped.h5ad --max-epochs 1");
}

#[test]
fn queries_that_do_not_fit_say_why() {
    let place = place();
    let (_, query) = split();
    let mut without = query.clone();
    without.obs.remove("batch");
    place.put("without.h5ad", &without);
    let message = place.error("map model without.h5ad --out out.h5ad");
    says(&message, &["\"batch\"", "cell.type"]);

    let mut renamed = query.clone();
    let ids: Vec<String> = (0..query.n_vars())
        .map(|i| format!("WBGene{i:08}"))
        .collect();
    let mut var = Table::new(ids);
    var.insert("symbol", Column::Str(query.var.index().to_vec()))
        .unwrap();
    renamed.var = var;
    place.put("renamed.h5ad", &renamed);
    let message = place.error("map model renamed.h5ad --out out.h5ad");
    says(&message, &["WBGene00000000", "--gene-key symbol"]);
    assert!(!place.path("out.h5ad").exists());
    place.ok("map model renamed.h5ad --out out.h5ad --gene-key symbol --max-epochs 1");
    place.ok("map model query.h5ad --out same.h5ad --max-epochs 1");
    assert_eq!(latent(&place, "out.h5ad"), latent(&place, "same.h5ad"));
    says(
        &place.error("map model query.h5ad --out out.h5ad --gene-key nothing"),
        &["nothing"],
    );
}
