//! Queries as they are saved, loaded and trained.

use super::*;

#[test]
fn the_state_of_a_query_survives_saving() {
    let folder = tempfile::tempdir().unwrap();
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let mut options = QueryOptions::default();
        options.freeze_batchnorm_decoder = true;
        let model = load_query(&reference, &cells, &options, 1);
        let dir = folder.path().join(case.name);
        let theirs = folder.path().join(format!("{} upstream", case.name));
        match &model {
            AnyModel::Scanvi(m) => {
                m.save(&dir).unwrap();
                m.save_scvi_tools(&theirs).unwrap();
            }
            m => {
                m.scvi().save(&dir).unwrap();
                m.scvi().save_scvi_tools(&theirs).unwrap();
            }
        }
        let again = AnyModel::load(&dir, &Device::Cpu).unwrap();
        assert!(again.scvi().query().is_some());
        assert_eq!(again.scvi().query(), model.scvi().query());
        let state = |m: &AnyModel| -> Vec<(String, bool, Option<Vec<f64>>)> {
            let each = |p: &Param| {
                let mask = p.mask().map(|m| values(&m));
                (p.name().to_owned(), p.is_trainable(), mask)
            };
            params(m).iter().map(each).collect()
        };
        assert_eq!(state(&again), state(&model), "{}", case.name);
        // In scvi-tools' format the weights and categories survive.
        let again = AnyModel::load(&theirs, &Device::Cpu).unwrap();
        assert_eq!(again.registry(), model.registry());
        let latent = |m: &AnyModel| m.scvi().latent(&cells).unwrap().mean;
        assert_eq!(latent(&again), latent(&model), "{}", case.name);
    }
}

/// Classifies, freezes and trains a query whose labels are partly known.
#[test]
fn a_frozen_classifier_stays_as_it_was() {
    for case in Case::all() {
        let AnyModel::Scanvi(reference) = case.reference(DType::F32) else {
            continue;
        };
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        for (frozen, parity) in [
            (true, Parity::Correct),
            (false, Parity::Correct),
            (true, Parity::Upstream),
        ] {
            let mut options = QueryOptions::default();
            options.freeze_classifier = frozen;
            options.parity = parity;
            let mut query = reference.load_query(&cells, &options, 0).unwrap();
            let mut config = options.train_config();
            config.max_epochs = Some(3);
            let semi = SemiSupervised::default();
            query.fit(&cells, &config, &semi, &mut ()).unwrap();
            let changed = |m: &Scanvi| {
                let of = |m: &Scanvi| -> Vec<Vec<f64>> {
                    let all = m.scvi().parameters().iter();
                    let classifier = all.filter(|p| p.name().starts_with("classifier"));
                    classifier.map(|p| values(p.value())).collect()
                };
                of(m) != of(&reference)
            };
            // scvi-tools trains the batch norms of a frozen classifier.
            let has_batch_norm = case.name == "scanvi_bn";
            let expected = !frozen || (parity == Parity::Upstream && has_batch_norm);
            assert_eq!(changed(&query), expected, "{} {options:?}", case.name);
        }
    }
}

#[test]
fn a_real_query_is_loaded_as_upstream_loads_it() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, _) = Cells::for_query(&data, reference.registry()).unwrap();
    let query = reference.load_query(&cells, &upstream(), 0).unwrap();
    let e = Npz::read(&golden.join("expected/worm_query_ln.loaded_changed_tensors.npz"));
    for name in e.names() {
        let found = query.parameters().get(name).unwrap().export().unwrap();
        assert_eq!(found.dims(), e.shape(name), "{name}");
        let columns = found.dim(1).unwrap();
        let (found, expected) = (values(&found), e.get(name));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let random = i % columns == columns - 1;
            assert_eq!(f == e, !random, "{name} at {i}: {f} and {e}");
        }
    }
}

#[test]
fn the_trained_query_of_upstream_gives_the_same_numbers() {
    let Some(golden) = golden() else { return };
    let model = scvi(&golden, "models/worm_query_ln", DType::F32);
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, report) = Cells::for_query(&data, reference.registry()).unwrap();
    assert_eq!(report.genes.missing.len(), 25);
    assert_eq!(cells.registry(), model.registry());
    let e = Npz::read(&golden.join("expected/worm_query_ln.npz"));
    let latent = model.latent(&cells).unwrap();
    assert!(worst(&numbers(&latent.mean), e.get("qzm"), |_| 1.0) < 2e-5);
    assert!(worst_relative(&numbers(&latent.variance), e.get("qzv")) < 1e-4);
    let elbo = model.elbo(&cells, None).unwrap();
    assert!(worst_relative(&elbo.reconstruction, e.get("rec_zmean_percell")) < 2e-5);
}

#[test]
fn the_trained_scanvi_query_of_upstream_gives_the_same_numbers() {
    let Some(golden) = golden() else { return };
    let AnyModel::Scanvi(model) = load(&golden.join("models/worm_scanvi_query"), DType::F32) else {
        panic!("not SCANVI");
    };
    let reference = load(&golden.join("models/worm_scanvi_ref"), DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, report) = Cells::for_query(&data, reference.registry()).unwrap();
    assert_eq!(report.filled_labels, 220);
    assert_eq!(cells.registry(), model.registry());
    let e = Npz::read(&golden.join("expected/worm_scanvi_query.npz"));
    let latent = model.scvi().latent(&cells).unwrap();
    assert!(worst(&numbers(&latent.mean), e.get("qzm"), |_| 1.0) < 2e-5);
    let soft = model.predict(&cells, PredictAt::PosteriorMean).unwrap();
    assert!(worst(&numbers(&soft.values), e.get("predict_soft"), |_| 1.0) < 2e-5);
}

/// Bounds of all cells of the query under models of scvi-tools 1.4.2: mean and standard deviation, right after loading (of
/// 150 seeds) and after 20 epochs without weight decay (of 20 seeds).
struct Runs {
    query: &'static str,
    reference: &'static str,
    before: (f64, f64),
    after: (f64, f64),
}

const RUNS: [Runs; 2] = [
    Runs {
        query: "worm_query_ln",
        reference: "worm_ref_ln",
        before: (-316.72, 1.68),
        after: (-312.62, 1.36),
    },
    Runs {
        query: "worm_scanvi_query",
        reference: "worm_scanvi_ref",
        before: (-320.82, 2.69),
        after: (-316.45, 1.41),
    },
];

fn mean_and_sd(v: &[f64]) -> (f64, f64) {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    let squares = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (squares / v.len() as f64).sqrt())
}

#[test]
fn trained_queries_fit_as_well_as_those_of_upstream() {
    let Some(golden) = golden() else { return };
    let data = h5ad(&golden, "worm_query");
    for runs in RUNS {
        let reference = load(&golden.join("models").join(runs.reference), DType::F32);
        let (cells, _) = Cells::for_query(&data, reference.registry()).unwrap();
        let bound = |m: &AnyModel, seed: u64| match m {
            AnyModel::Scanvi(m) => m.elbo(&cells, Some(seed)).unwrap().elbo(),
            m => m.scvi().elbo(&cells, Some(seed)).unwrap().elbo(),
        };
        for parity in [Parity::Correct, Parity::Upstream] {
            let mut options = QueryOptions::default();
            options.parity = parity;
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for seed in 0..80 {
                let mut query = load_query(&reference, &cells, &options, seed);
                before.push(bound(&query, seed));
                if seed < 20 {
                    let mut config = options.train_config();
                    config.max_epochs = Some(20);
                    config.early_stopping = None;
                    config.seed = seed;
                    fit(&mut query, &cells, &config);
                    after.push(bound(&query, seed));
                }
            }
            let name = runs.query;
            let same = |what: &str, found: &[f64], (mean, sd): (f64, f64), n: f64| {
                let ours = mean_and_sd(found);
                eprintln!("{name} {parity:?} {what}: {ours:.2?}, scvi-tools {mean} {sd}");
                let error = (ours.1.powi(2) / found.len() as f64 + sd * sd / n).sqrt();
                assert!(
                    (ours.0 - mean).abs() < 4.0 * error,
                    "{name} {parity:?} {what}: {ours:?}"
                );
            };
            same("before", &before, runs.before, 150.0);
            if parity == Parity::Upstream {
                same("after", &after, runs.after, 20.0);
            }
            let gain = mean_and_sd(&after).0 - mean_and_sd(&before[..after.len()]).0;
            eprintln!("{name} {parity:?}: training gains {gain:.2}");
            assert!(gain > 0.5, "{name} {parity:?}: training gains {gain}");
        }
    }
}
