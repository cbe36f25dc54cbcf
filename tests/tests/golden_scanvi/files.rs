//! Files of scvi-tools, those that are written for it, and training from scratch.

use super::*;

/// Also those that the tests above have no numbers for: references and queries of scArches.
#[test]
fn every_scanvi_checkpoint_opens() {
    let Some(golden) = golden() else { return };
    let mut opened = 0;
    for folder in ["models", "small_models", "hub"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap() {
            let dir = entry.unwrap().path();
            let model = AnyModel::load(&dir, &Device::Cpu)
                .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            if let Some(model) = model.scanvi() {
                assert_eq!(model.labels().len() + 1, model.registry().labels.len());
                opened += 1;
                let message = Scvi::from_scvi_tools(&dir, &Device::Cpu).unwrap_err();
                assert!(message.to_string().contains("class SCANVI"), "{message}");
            }
        }
    }
    assert_eq!(opened, 12);
    let other = Scanvi::from_scvi_tools(golden.join("models/kang_default"), &Device::Cpu);
    let message = other.unwrap_err().to_string();
    assert!(message.contains("class SCVI"), "{message}");
}

#[test]
fn a_query_model_as_it_is_loaded() {
    let Some(golden) = golden() else { return };
    let data = sc_io::h5ad::read(golden.join("data/small_query.h5ad")).unwrap();
    for name in ["arches_scanvi_bn", "arches_scanvi_ln2"] {
        let e = Npz::read(&golden.join(format!("expected_small/{name}.npz")));
        let dir = golden.join(format!("small_models/{name}_loaded"));
        let model = Scanvi::from_scvi_tools(&dir, &Device::Cpu).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let latent = model.scvi().latent(&cells).unwrap();
        let off = worst(&numbers(&latent.mean), e.get("loaded_qzm"), |_| 1.0);
        assert!(off < 2e-5, "{name}: {off:e}");
    }
}

#[test]
fn what_is_written_reads_back() {
    for_each_model(|case| {
        let model = &case.single;
        let dir = tempfile::tempdir().unwrap();
        model.save_scvi_tools(dir.path()).unwrap();
        let again = Scanvi::from_scvi_tools(dir.path(), &Device::Cpu).unwrap();
        let native = tempfile::tempdir().unwrap();
        model.save(native.path()).unwrap();
        let loaded = AnyModel::load(native.path(), &Device::Cpu).unwrap();
        for other in [&again, loaded.scanvi().unwrap()] {
            assert_eq!(other.config(), model.config(), "{}", case.name);
            assert_eq!(other.registry(), model.registry(), "{}", case.name);
            assert_eq!(other.training(), model.training(), "{}", case.name);
            let (a, b) = (model.scvi().parameters(), other.scvi().parameters());
            assert_eq!(a.iter().len(), b.iter().len());
            for (a, b) in a.iter().zip(b.iter()) {
                assert_eq!(a.name(), b.name());
                assert_eq!(values(a.value()), values(b.value()), "{}", a.name());
            }
        }
        // Neither is opened as another model.
        let message = Scvi::load(native.path(), &Device::Cpu).unwrap_err();
        assert!(message.to_string().contains("scanvi"), "{message}");
    });
}

#[test]
fn the_order_of_parameters_is_torchs() {
    for_each_model(|case| {
        let Some(shapes) = case.json.get("state_dict").and_then(|s| s.as_object()) else {
            return;
        };
        // serde_json sorts the names, so only the set and the shapes are compared here.
        for p in case.single.scvi().parameters().iter() {
            let shape: Vec<usize> = serde_json::from_value(shapes[p.name()].clone()).unwrap();
            assert_eq!(p.export_shape(), shape, "{}", p.name());
        }
        let tensors = shapes.keys().filter(|k| *k != "pyro_param_store").count();
        assert_eq!(tensors, case.single.scvi().parameters().iter().len());
    });
}

#[test]
fn the_split_is_scvi_tools() {
    let Some(golden) = golden() else { return };
    let splits = json(&golden.join("core/splits.json"));
    let data = sc_io::h5ad::read(golden.join("data/kang.h5ad")).unwrap();
    let labels = data.obs.get("cell_type_partial").unwrap();
    let labels = labels.to_categorical("cell_type_partial").unwrap();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (i, label) in labels.iter().enumerate() {
        if label == Some("Unknown") {
            unknown.push(i);
        } else {
            known.push(i);
        }
    }
    for seed in [0, 1, 42] {
        let expected = &splits[format!("scanvi_seed{seed}")];
        let of =
            |key: &str| -> Vec<usize> { serde_json::from_value(expected[key].clone()).unwrap() };
        let found = sc_model::train::SplitConfig::default()
            .split_groups(&[known.clone(), unknown.clone()], 128, seed)
            .unwrap();
        assert_eq!(found.train, of("train_idx"), "seed {seed}");
        assert_eq!(found.validation, of("val_idx"), "seed {seed}");
        assert!(found.test.is_empty());
    }
}

/// The same course of training as scvi-tools' three runs, from the same scVI model on the same split.
#[test]
fn training_ends_where_it_ends_in_scvi_tools() {
    let Some(golden) = golden() else { return };
    let runs = json(&golden.join("expected/kang_scanvi.history.json"));
    let data = sc_io::h5ad::read(golden.join("data/kang.h5ad")).unwrap();
    let scvi = Scvi::from_scvi_tools(golden.join("models/kang_nb_cov"), &Device::Cpu).unwrap();
    let labels = Labels {
        key: Some("cell_type_partial".into()),
        unlabeled_category: "Unknown".into(),
    };
    let column = |key: &str| data.obs.get(key).unwrap().to_categorical(key).unwrap();
    let (partial, truth) = (column("cell_type_partial"), column("cell_type"));
    for (seed, run) in runs["final"].as_array().unwrap().iter().enumerate() {
        let seed = seed as u64;
        let classifier = ClassifierConfig::default();
        let mut model = Scanvi::from_scvi(&scvi, &data.obs, &labels, classifier, seed).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let mut config = TrainConfig::default();
        config.max_epochs = Some(20);
        config.seed = seed;
        let mut semi = SemiSupervised::default();
        semi.n_samples_per_label = Some(100);
        let fitted = model.fit(&cells, &config, &semi, &mut ()).unwrap();
        let bound = model.elbo(&cells, Some(seed)).unwrap();
        let found = model.classify(&cells).unwrap();
        let hidden = found
            .hard()
            .into_iter()
            .zip(truth.iter())
            .zip(partial.iter());
        let hidden: Vec<bool> = hidden
            .filter(|(_, partial)| *partial == Some("Unknown"))
            .map(|((found, truth), _)| Some(found) == truth)
            .collect();
        let right = hidden.iter().filter(|&&r| r).count() as f64 / hidden.len() as f64;
        let near = |key: &str, found: f64, allowed: f64| {
            let expected = run[key].as_f64().unwrap();
            eprintln!("seed {seed}: {key} {found:.3}, in scvi-tools {expected:.3}");
            assert!(
                (found - expected).abs() <= allowed,
                "{key}: {found} {expected}"
            );
        };
        let train = bound.select(&fitted.split.train).unwrap().elbo();
        let validation = bound.select(&fitted.split.validation).unwrap().elbo();
        near("elbo_train_full_kl", train, 0.015 * train.abs());
        near(
            "elbo_validation_full_kl",
            validation,
            0.03 * validation.abs(),
        );
        near("accuracy_hidden_cells", right, 0.06);
    }
}
