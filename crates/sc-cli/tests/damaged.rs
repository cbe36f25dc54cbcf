//! Damaged and foreign files: errors that name them, and never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Place, says};
use sc_io::pytorch::{self, Dict, Value};

#[test]
fn damaged_and_foreign_files() {
    let place = Place::new();
    let whole = std::fs::read(place.path("cells.h5ad")).unwrap();
    std::fs::write(place.path("half.h5ad"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(place.path("text.h5ad"), "gene,cell\n1,2\n").unwrap();
    std::fs::write(place.path("empty.h5ad"), "").unwrap();
    std::fs::create_dir(place.path("nothing")).unwrap();
    for name in [
        "half.h5ad",
        "text.h5ad",
        "empty.h5ad",
        "nothing",
        "missing.h5ad",
    ] {
        for command in [
            "inspect FILE",
            "convert FILE out.h5ad",
            "train scvi FILE --out model",
        ] {
            let message = place.error(&command.replace("FILE", name));
            says(&message, &[name]);
        }
    }
    assert!(!place.path("out.h5ad").exists());
    says(
        &place.error("convert cells.h5ad cells.loom"),
        &["loom", ".h5ad"],
    );
    says(
        &place.error("train scvi nothing --out model --backed"),
        &["nothing"],
    );
}

/// Whatever happens to a file of a model or of cells, the answer is an error or a result.
#[test]
fn damaged_bytes() {
    let place = Place::new();
    place.train("model", "--max-epochs 1 --labels-key cell.type");
    place.ok("minify model cells.h5ad --out atlas");
    std::fs::create_dir(place.path("hurt")).unwrap();
    std::fs::create_dir(place.path("bad")).unwrap();
    for (from, to, command) in [
        (
            "atlas/model.pt",
            "hurt/model.pt",
            "embed hurt atlas/adata.h5ad --out out.h5ad",
        ),
        (
            "model/model.safetensors",
            "bad/model.safetensors",
            "embed bad cells.h5ad --out out.h5ad",
        ),
        (
            "atlas/adata.h5ad",
            "hurt.h5ad",
            "embed atlas hurt.h5ad --out out.h5ad",
        ),
    ] {
        let whole = std::fs::read(place.path(from)).unwrap();
        let n = whole.len();
        for length in [0, 1, 8, 64, 512, n / 4, n / 2, n - 600, n - 30, n - 1] {
            std::fs::write(place.path(to), &whole[..length]).unwrap();
            says(&place.error(command), &[to]);
        }
        // A multiplicative sequence of places, most of them at the ends where the structure is.
        let mut random = 12345u64;
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize % below
        };
        for round in 0..40 {
            let mut bytes = whole.clone();
            let at = match round % 3 {
                0 => next(n.min(4096)),
                1 => n - 1 - next(n.min(4096)),
                _ => next(n),
            };
            bytes[at] ^= 1 << next(8);
            std::fs::write(place.path(to), bytes).unwrap();
            let output = place.sc(command);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                matches!(output.status.code(), Some(0 | 1)) && !text.contains("panicked"),
                "{to}, byte {at}: {text}"
            );
        }
    }
}

/// What `model.pt` says of itself is not believed, and errors name it.
#[test]
fn models_of_other_classes() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    place.ok("hub pack model theirs --data cells.h5ad");
    let path = place.path("theirs/model.pt");
    let whole = std::fs::read(&path).unwrap();
    let root = pytorch::read(&path).unwrap();
    let change = |from: &'static str, to: &'static str| {
        let changed = replace(&root, from, to);
        pytorch::write(&path, &changed).unwrap();
        place.error("embed theirs cells.h5ad --out out.h5ad")
    };
    says(
        &change("SCVI", "TOTALVI"),
        &["model.pt", "TOTALVI", "SCANVI"],
    );
    says(&change("zinb", "gamma"), &["model.pt", "gamma", "poisson"]);
    says(&change("init_params_", "x_"), &["model.pt", "init_params_"]);
    says(&change("attr_dict", "x"), &["model.pt", "attr_dict"]);
    std::fs::write(&path, whole).unwrap();
    place.ok("embed theirs cells.h5ad --out out.h5ad");
    says(
        &place.error("annotate theirs cells.h5ad --out out.h5ad"),
        &["no classifier", "sc train scanvi"],
    );
}

/// The same with one text for another, wherever it is.
fn replace(value: &Value, from: &str, to: &str) -> Value {
    match value {
        Value::Str(text) if &**text == from => to.into(),
        Value::Dict(dict) => {
            let mut dict = Dict::clone(dict);
            for (key, value) in &mut dict.entries {
                (*key, *value) = (replace(key, from, to), replace(value, from, to));
            }
            dict.into()
        }
        other => other.clone(),
    }
}

#[test]
fn damaged_models() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let embed = "embed model cells.h5ad --out out.h5ad";
    let file = place.path("model/model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for length in [whole.len() - 5, whole.len() / 2, 100, 3, 0] {
        std::fs::write(&file, &whole[..length]).unwrap();
        says(&place.error(embed), &["model.safetensors", "truncated"]);
    }
    std::fs::remove_file(&file).unwrap();
    says(&place.error(embed), &["model.safetensors", "model.pt"]);
    std::fs::write(place.path("model/model.pt"), &whole[..200]).unwrap();
    says(&place.error(embed), &["model.pt"]);
    says(
        &place.error("embed elsewhere cells.h5ad --out out.h5ad"),
        &["elsewhere", "no such folder"],
    );
    // The settings are also inside the weights, which alone are read.
    std::fs::write(&file, &whole).unwrap();
    std::fs::remove_file(place.path("model/config.json")).unwrap();
    place.ok(embed);
}
