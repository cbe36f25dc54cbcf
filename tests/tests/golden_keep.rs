//! Models that scvi-tools saved, saved again: what was not changed stays, down to the bytes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};

use candle_core::Device;
use sc_io::pytorch::{self, Value};
use sc_latent::minify::MinifiedKeys;
use sc_latent::{AnyModel, Kept};
use sc_tests::shared;

/// Every folder with a `model.pt` below one.
fn models(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.join("model.pt").is_file() {
        found.push(dir.to_owned());
    }
    let mut inside: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    inside.sort();
    inside.iter().for_each(|d| models(d, found));
}

fn root(dir: &Path) -> Value {
    pytorch::read(dir.join("model.pt")).unwrap()
}

fn attributes(root: &Value) -> Vec<(String, Value)> {
    let dict = root.at(&["attr_dict"]).unwrap().as_dict().unwrap();
    let all = dict.iter_str().map(|(k, v)| (k.to_owned(), v.clone()));
    all.collect()
}

/// Everything but the fields of minified data.
fn same_but_the_note(before: &Value, after: &Value) {
    // As text, in which a number that is none equals itself.
    let text = |value: &Value| format!("{value:?}");
    for key in ["model_state_dict", "var_names"] {
        let (one, two) = (before.at(&[key]).unwrap(), after.at(&[key]).unwrap());
        assert!(text(one) == text(two), "{key}");
    }
    let (before, after) = (attributes(before), attributes(after));
    for ((name, one), (other, two)) in before.iter().zip(&after) {
        assert_eq!(name, other);
        if name != "registry_" {
            assert!(text(one) == text(two), "{name}");
        }
    }
    assert_eq!(before.len(), after.len());
}

#[test]
fn what_was_not_changed_stays() {
    let Some(shared) = shared() else {
        return;
    };
    let mut dirs = Vec::new();
    models(&shared.join("golden/scvi"), &mut dirs);
    assert!(dirs.len() > 20);
    let (mut copied, mut noted) = (0, 0);
    for dir in dirs {
        let Ok(mut model) = AnyModel::from_scvi_tools(&dir, &Device::Cpu) else {
            continue;
        };
        let out = tempfile::tempdir().unwrap();
        let kept = model.save_scvi_tools_like(&dir, out.path()).unwrap();
        assert_eq!(kept, Kept::Copied, "{}", dir.display());
        let bytes = |dir: &Path| std::fs::read(dir.join("model.pt")).unwrap();
        assert!(bytes(&dir) == bytes(out.path()), "{}", dir.display());
        copied += 1;

        let keys = match model.registry().minified {
            Some(_) => None,
            None => Some(MinifiedKeys::of_class("scvi")),
        };
        model.set_minified(keys);
        let kept = model.save_scvi_tools_like(&dir, out.path()).unwrap();
        assert_eq!(kept, Kept::Noted, "{}", dir.display());
        same_but_the_note(&root(&dir), &root(out.path()));
        let again = AnyModel::from_scvi_tools(out.path(), &Device::Cpu).unwrap();
        assert_eq!(again.registry(), model.registry());
        // What the setup of SCANVI says must go with it, or scvi-tools encodes empty counts.
        let arguments = root(out.path());
        let arguments = arguments
            .at(&["attr_dict", "registry_", "setup_args"])
            .unwrap();
        if let Some(told) = arguments.get("use_minified") {
            let is_minified = model.registry().minified.is_some();
            assert_eq!(told.as_bool(), Some(is_minified), "{}", dir.display());
        }
        noted += 1;
    }
    eprintln!("{copied} models copied, {noted} noted");
    assert!(copied > 20);
}

/// A model that was changed, and one of before 0.15, are written anew; what that loses is named.
#[test]
fn what_was_changed_is_written_anew() {
    let Some(shared) = shared() else {
        return;
    };
    let golden = shared.join("golden/scvi");
    let out = tempfile::tempdir().unwrap();
    let device = Device::Cpu;
    let other = AnyModel::from_scvi_tools(golden.join("models/kang_nb_cov"), &device).unwrap();
    let source = golden.join("models/kang_scanvi");
    let Kept::Anew { lost } = other.save_scvi_tools_like(&source, out.path()).unwrap() else {
        panic!("another model's file was kept");
    };
    assert!(
        lost.iter().any(|name| name.contains("classifier")),
        "{lost:?}"
    );
    let legacy = golden.join("upstream_models/testing_models/080_scvi");
    let model = AnyModel::from_scvi_tools(&legacy, &device).unwrap();
    let kept = model.save_scvi_tools_like(&legacy, out.path()).unwrap();
    assert!(matches!(kept, Kept::Anew { .. }), "{kept:?}");
    eprintln!("lost of a model of 0.8: {kept:?}");
    AnyModel::from_scvi_tools(out.path(), &device).unwrap();
}
