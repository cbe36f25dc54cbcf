//! Files that torch and scvi-tools wrote.

use std::path::{Path, PathBuf};

use super::shared;
use crate::pytorch::*;

/// All files below a folder with one of the given extensions.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Anything but a harmless class would be a value that a customer misses.
fn uninterpreted(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Opaque(object) if DataFrame::from_value(value).is_err() => {
            found.push(object.class.to_string());
        }
        Value::Dict(dict) => dict
            .entries
            .iter()
            .for_each(|(_, value)| uninterpreted(value, found)),
        other => other
            .as_slice()
            .unwrap_or(&[])
            .iter()
            .for_each(|value| uninterpreted(value, found)),
    }
}

#[test]
fn every_golden_checkpoint_reads_and_rewrites() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden");
    let paths = files(&golden, &["pt", "pth", "ckpt"]);
    assert!(paths.len() > 70, "found {} checkpoints", paths.len());
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let value = read(&path).unwrap();
        let mut found = Vec::new();
        uninterpreted(&value, &mut found);
        // One model stores which function its variances go through.
        found.retain(|class| class != "torch._C._nn.softplus");
        // Optimisers of Lightning checkpoints hold classes.
        if path
            .extension()
            .is_some_and(|extension| extension != "ckpt")
        {
            assert!(found.is_empty(), "{}: {found:?}", path.display());
            let copy = folder.path().join("model.pt");
            write(&copy, &value).unwrap();
            assert!(read(&copy).unwrap() == value, "{}", path.display());
        }
    }
}

#[test]
fn every_scvi_model_has_its_weights_and_names() {
    let Some(shared) = shared() else { return };
    for path in files(&shared.join("golden/scvi/expected_small"), &["json"]) {
        let expected: serde_json::Value =
            serde_json::from_reader(std::fs::File::open(&path).unwrap()).unwrap();
        let Some(shapes) = expected
            .get("state_dict")
            .and_then(serde_json::Value::as_object)
        else {
            continue;
        };
        let name = path.file_stem().unwrap();
        let model = shared
            .join("golden/scvi/small_models")
            .join(name)
            .join("model.pt");
        if !model.exists() {
            continue;
        }
        let value = read(&model).unwrap();
        let state = value.get("model_state_dict").unwrap().as_dict().unwrap();
        let found: Vec<(&str, Vec<u64>)> = state
            .iter_str()
            .filter_map(|(key, value)| {
                Some((
                    key,
                    value
                        .as_tensor()?
                        .shape()
                        .iter()
                        .map(|&extent| extent as u64)
                        .collect(),
                ))
            })
            .collect();
        let wanted: Vec<(&str, Vec<u64>)> = shapes
            .iter()
            .map(|(key, shape)| (key.as_str(), serde_json::from_value(shape.clone()).unwrap()))
            .collect();
        assert_eq!(found, wanted, "{}", model.display());
        assert!(
            !value
                .get("var_names")
                .unwrap()
                .as_array()
                .unwrap()
                .to_strings()
                .unwrap()
                .is_empty()
        );
        value
            .at(&[
                "attr_dict",
                "registry_",
                "field_registries",
                "X",
                "summary_stats",
                "n_vars",
            ])
            .unwrap()
            .as_usize()
            .unwrap();
        assert_eq!(
            value.at(&["attr_dict", "is_trained_"]).unwrap().as_bool(),
            Some(true)
        );
        for (key, frame) in value
            .at(&["attr_dict", "history_"])
            .unwrap()
            .as_dict()
            .unwrap()
            .iter_str()
        {
            let frame = DataFrame::from_value(frame).unwrap();
            assert_eq!(frame.columns, [key]);
            assert_eq!(frame.values[0].len(), frame.index.len());
        }
    }
}

#[test]
fn models_of_old_scvi_versions_have_the_published_numbers() {
    let Some(shared) = shared() else { return };
    let upstream = shared.join("golden/scvi/upstream_models");
    let value = read(upstream.join("0150_scvi_model.pt")).unwrap();
    let state = value.get("model_state_dict").unwrap().as_dict().unwrap();
    assert_eq!(state.len(), 36);
    let px_r = state.get("px_r").unwrap().as_tensor().unwrap().to_f32_vec();
    for (found, wanted) in px_r
        .iter()
        .zip([-1.1229, -1.1495, -0.2477, -0.4310, 0.8460])
    {
        assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
    }
    let tracked = state
        .get("z_encoder.encoder.fc_layers.Layer 0.1.num_batches_tracked")
        .unwrap();
    assert_eq!(tracked.as_tensor().unwrap().to_i64_vec().unwrap(), [3]);
    assert_eq!(
        value
            .at(&["attr_dict", "train_indices_"])
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        360
    );
    let names = value
        .get("var_names")
        .unwrap()
        .as_array()
        .unwrap()
        .to_strings()
        .unwrap();
    assert_eq!((names[0].as_str(), names[99].as_str()), ("0", "99"));

    // The three files of versions before 0.15 hold the same weights.
    let old = read(upstream.join("testing_models/080_scvi/model_params.pt")).unwrap();
    for (name, tensor) in old.as_dict().unwrap().iter_str() {
        assert_eq!(Some(tensor), state.get(name), "{name}");
    }
    let attributes = read_pickle(upstream.join("testing_models/080_scvi/attr.pkl")).unwrap();
    assert_eq!(
        attributes
            .at(&["init_params_", "dropout_rate"])
            .unwrap()
            .as_f64(),
        Some(0.1)
    );
    let setup = attributes.get("scvi_setup_dict_").unwrap();
    let mapping = setup
        .at(&["categorical_mappings", "_scvi_labels", "mapping"])
        .unwrap()
        .as_array()
        .unwrap();
    assert_eq!(
        mapping.to_strings().unwrap(),
        ["label_0", "label_1", "label_2"]
    );
    let proteins = setup
        .get("protein_names")
        .unwrap()
        .as_array()
        .unwrap()
        .to_strings()
        .unwrap();
    assert_eq!((proteins.len(), proteins[0].as_str()), (100, "0"));
    read_pickle(upstream.join("testing_models/080_totalvi/attr.pkl")).unwrap();
}

#[test]
fn tensors_equal_their_safetensors_copies() {
    let Some(shared) = shared() else { return };
    let mut compared = 0;
    for path in files(&shared.join("golden/sde"), &["pt"]) {
        let Ok(bytes) = std::fs::read(path.with_extension("safetensors")) else {
            continue;
        };
        let header =
            8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        let value = read(&path).unwrap();
        for (name, tensor) in value.as_dict().unwrap().iter_str() {
            let Some(range) = facts.get(name).and_then(|facts| facts.get("data_offsets")) else {
                continue;
            };
            let (start, end): (usize, usize) = serde_json::from_value(range.clone()).unwrap();
            assert_eq!(
                tensor.as_tensor().unwrap().bytes(),
                &bytes[header + start..header + end],
                "{name}"
            );
            compared += 1;
        }
    }
    assert!(compared > 40, "compared {compared} tensors");
}
