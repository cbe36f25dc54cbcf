//! Hub folders on the command line: what is kept of a model of scvi-tools, and that nothing of another model stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use common::{Place, says, small};
use sc_io::pytorch::{self, Dict, NumpyArray, Value};

/// A folder `model` of `sc train` and one `theirs` with the same model as scvi-tools might have saved it: with attributes
/// that nobody here knows.
fn place() -> Place {
    let place = Place::new();
    place.train("model", "--max-epochs 2");
    place.ok("hub pack model theirs --data cells.h5ad");
    let path = place.path("theirs/model.pt");
    let root = pytorch::read(&path).unwrap();
    let mut root = root.as_dict().unwrap().clone();
    let attributes = root
        .entries
        .iter_mut()
        .find(|e| e.0.as_str() == Some("attr_dict"));
    let attributes = &mut attributes.unwrap().1;
    let mut changed = attributes.as_dict().unwrap().clone();
    let odd = Dict::from_pairs([("deep", Value::from(NumpyArray::from_i64(&[3, 1, 4])))]);
    changed
        .entries
        .push(("run_id_".into(), Value::from("4f2b")));
    changed.entries.push(("odd_".into(), odd.into()));
    *attributes = changed.into();
    pytorch::write(&path, &root.into()).unwrap();
    for name in ["README.md", "_scvi_required_metadata.json", "adata.h5ad"] {
        std::fs::remove_file(place.path("theirs").join(name)).unwrap();
    }
    place
}

fn attribute(place: &Place, file: &str, keys: &[&str]) -> Option<Value> {
    let root = pytorch::read(place.path(file)).unwrap();
    let keys: Vec<&str> = ["attr_dict"].iter().chain(keys).copied().collect();
    root.at(&keys).ok().cloned()
}

fn bytes(place: &Place, file: &str) -> Vec<u8> {
    std::fs::read(place.path(file)).unwrap()
}

/// What it says on standard error.
#[track_caller]
fn told(place: &Place, arguments: &str) -> String {
    let output = place.sc(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_model_of_scvi_tools_is_packed_as_it_is() {
    let place = place();
    let text = told(&place, "hub pack theirs folder --data cells.h5ad");
    says(&text, &["byte for byte"]);
    assert!(bytes(&place, "folder/model.pt") == bytes(&place, "theirs/model.pt"));

    // Minified cells are noted in it, and all else stays.
    let text = told(&place, "minify theirs cells.h5ad --out atlas");
    says(&text, &["as it was but for"]);
    let text = told(&place, "hub pack atlas hub");
    says(&text, &["byte for byte"]);
    assert!(bytes(&place, "hub/model.pt") == bytes(&place, "atlas/model.pt"));
    let noted = ["registry_", "field_registries", "latent_qzm"];
    assert!(attribute(&place, "theirs/model.pt", &noted).is_none());
    assert!(attribute(&place, "hub/model.pt", &noted).is_some());
    let fields = [
        "run_id_",
        "odd_",
        "history_",
        "init_params_",
        "train_indices_",
    ];
    for name in fields {
        let (before, after) = ("theirs/model.pt", "hub/model.pt");
        let of = |file| attribute(&place, file, &[name]).unwrap();
        assert_eq!(of(before), of(after), "{name}");
    }

    // And the note goes with the cells.
    let text = told(&place, "hub pack atlas whole --data cells.h5ad");
    says(&text, &["as it was but for"]);
    assert!(attribute(&place, "whole/model.pt", &noted).is_none());
    assert!(attribute(&place, "whole/model.pt", &["odd_", "deep"]).is_some());
    let x = |folder: &str| {
        place.ok(&format!(
            "expression {folder} {folder}/adata.h5ad --out x.h5ad --posterior-mean"
        ));
        sc_io::read(place.path("x.h5ad")).unwrap().x.unwrap()
    };
    assert_eq!(x("hub"), x("folder"));
    assert_eq!(x("whole"), x("folder"));
}

/// The folder of another model is no place for the cells of this one.
#[test]
fn nothing_of_another_model_stays() {
    let place = place();
    place.ok("hub pack theirs hub --data cells.h5ad --description old --license mit");
    std::fs::write(place.path("hub/metrics.json"), "{}").unwrap();
    place.train("other", "--max-epochs 1 --seed 1");
    let before = bytes(&place, "hub/model.pt");
    let message = place.error("hub pack other hub");
    says(&message, &["hub/adata.h5ad", "--data", "another folder"]);
    assert!(bytes(&place, "hub/model.pt") == before);

    let half = small().select_obs(&(0..100).collect::<Vec<_>>()).unwrap();
    place.put("half.h5ad", &half);
    place.ok("hub pack other hub --data half.h5ad --license cc0-1.0");
    assert!(bytes(&place, "hub/adata.h5ad") == bytes(&place, "half.h5ad"));
    assert!(bytes(&place, "hub/model.pt") != before);
    assert!(!place.path("hub/metrics.json").exists());
    let card = place.text("hub/README.md");
    assert!(card.contains("cc0-1.0") && !card.contains("old"), "{card}");

    // Itself again, with its cells and metrics; then the cells of several modalities.
    std::fs::write(place.path("hub/metrics.json"), "{\"cell_wise_cv\": 1}").unwrap();
    let message = place.error("hub pack hub hub");
    says(&message, &["metrics.json", "cell_wise_cv"]);
    std::fs::remove_file(place.path("hub/metrics.json")).unwrap();
    place.ok("hub pack hub hub --license mit");
    place.ok("hub inspect hub");
    std::fs::write(place.path("hub/mdata.h5mu"), "").unwrap();
    says(&place.error("hub pack hub hub"), &["mdata.h5mu", "remove"]);

    // A folder of `sc train`, which would be read before model.pt.
    let message = place.error("hub pack theirs other --data cells.h5ad");
    says(&message, &["model.safetensors", "another folder"]);
    let message = place.error("minify theirs cells.h5ad --out other");
    says(&message, &["model.safetensors", "another folder"]);
    std::fs::remove_file(place.path("hub/mdata.h5mu")).unwrap();
    let message = place.error("minify theirs cells.h5ad --out hub");
    says(&message, &["hub folder", "another folder"]);
}

/// Cells that don't fit leave everything as it was.
#[test]
fn a_pack_that_fails_changes_nothing() {
    let place = place();
    place.ok("hub pack theirs hub --data cells.h5ad");
    let state = |dir: &Path| {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .map(|p| {
                let name = p.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read(&p).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = state(&place.path("hub"));
    let few = small().select_vars(&[0, 1, 2]).unwrap();
    place.put("few.h5ad", &few);
    says(
        &place.error("hub pack theirs hub --data few.h5ad"),
        &["lacks 117", "sc map"],
    );
    // Minified by a model of another size.
    place.ok(
        "train scvi cells.h5ad --out wide --batch-key batch --n-hidden 16 --n-latent 7 --max-epochs 1",
    );
    place.ok("minify wide cells.h5ad --out wide.h5ad");
    let message = place.error("hub pack theirs hub --data wide.h5ad");
    says(&message, &["7 dimensions", "has 4"]);
    std::fs::write(place.path("broken.json"), "{").unwrap();
    let message = place.error("hub pack theirs hub --data cells.h5ad --metrics broken.json");
    says(&message, &["broken.json"]);
    assert!(state(&place.path("hub")) == before);
}
