use ndarray::Array2;
use sc_data::Categorical;
use sc_model::train::{Checkpoint, ResumeState};

use super::*;
use crate::{
    Alignment, ClueConfig, Compose, Fusion, Likelihood, Modality, PairingLoss, PredictOptions,
};

/// Two kinds of cells. RNA of the cells `rna`, proteins of `adt`, in two batches.
fn cells(
    rna: std::ops::Range<usize>,
    adt: std::ops::Range<usize>,
    likelihood: Likelihood,
) -> MultiCells<'static> {
    let value = |i: usize, f: usize| {
        let high = i % 2 == f % 2;
        ((i * 13 + f * 7) % 5 + if high { 7 } else { 0 }) as f32
    };
    let modality = |name: &str, cells: std::ops::Range<usize>, n: usize| {
        let first = cells.start;
        let x = Array2::from_shape_fn((cells.len(), n), |(i, f)| value(i + first, f));
        let batches: Vec<&str> = cells
            .clone()
            .map(|i| if i % 3 == 0 { "b" } else { "a" })
            .collect();
        let features = (0..n).map(|f| format!("{name}{f}")).collect();
        let names = cells.map(|i| format!("c{i}")).collect();
        Modality::new(name, x, names, features)
            .unwrap()
            .batches(&Categorical::from_labels(&batches))
            .unwrap()
    };
    MultiCells::new(vec![
        modality("rna", rna, 10),
        modality("adt", adt, 6).likelihood(likelihood),
    ])
    .unwrap()
}

fn small(cells: &MultiCells<'_>) -> crate::ClueParams {
    Clue::params(cells)
        .latent_dim(3)
        .encoder_dim(16)
        .decoder_dim(8)
        .adversary_dim(8)
}

fn config(epochs: usize) -> ClueTrainConfig {
    let mut config = ClueTrainConfig::for_cells(64);
    config.train.max_epochs = Some(epochs);
    config.train.batch_size = 16;
    config.align_burn_in = 2;
    config.plateau(epochs, epochs);
    config
}

fn weights(model: &Clue) -> Vec<Vec<u32>> {
    let of = |p: &sc_model::Param| -> Vec<u32> {
        let v: Vec<f64> = p
            .value()
            .to_dtype(candle_core::DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        v.into_iter().map(|v| (v as f32).to_bits()).collect()
    };
    model.params.iter().map(of).collect()
}

fn init(cells: &MultiCells<'_>) -> Clue {
    small(cells)
        .check()
        .unwrap()
        .init(&candle_core::Device::Cpu, 1)
        .unwrap()
}

#[test]
fn every_likelihood_and_option_trains() {
    for likelihood in Likelihood::ALL {
        if likelihood == Likelihood::Bernoulli {
            continue;
        }
        let cells = cells(0..40, 20..60, likelihood);
        let mut model = init(&cells);
        let fitted = model.fit(&cells, &config(3), &mut ()).unwrap();
        let losses = fitted.history.values("train_loss_epoch");
        assert!(
            losses.iter().all(|l| l.is_finite()),
            "{likelihood}: {losses:?}"
        );
    }
    let cells = cells(0..40, 20..60, Likelihood::Nb);
    let mut variants = vec![ClueConfig::default(); 7];
    variants[0].fusion = Fusion::Product;
    variants[1].pairing = PairingLoss::Mse;
    variants[2].normalize = false;
    variants[3].parity = Parity::Upstream;
    variants[4].pairing = PairingLoss::InfoNce;
    (variants[5].alignment, variants[5].weights.align) = (Alignment::Sinkhorn, 5.0);
    variants[5].adversary_sees_batch = true;
    variants[6].subspaces = false;
    for (i, mut c) in variants.into_iter().enumerate() {
        (c.latent_dim, c.encoder_dim, c.decoder_dim, c.adversary_dim) = (3, 16, 8, 8);
        let valid = Clue::with_config(&cells, c).check().unwrap();
        let mut model = valid.init(&candle_core::Device::Cpu, 1).unwrap();
        let mut config = config(3);
        if i == 1 {
            config.turns = Turns::Together;
        }
        let fitted = model.fit_best(&cells, &config, &mut ()).unwrap();
        let losses = fitted.history.values("validation_loss");
        assert!(
            losses.len() == 3 && losses.iter().all(|l| l.is_finite()),
            "{i}: {losses:?}"
        );
        let apart = fitted.history.values("transport_train");
        match i {
            5 => assert!(apart.last() < apart.first(), "{apart:?}"),
            _ => assert!(apart.is_empty()),
        }
    }
}

#[test]
fn training_lowers_the_loss_and_separates_the_kinds() {
    let cells = cells(0..80, 0..80, Likelihood::Nb);
    let mut model = init(&cells);
    let mut config = config(30);
    config.turns = Turns::Together;
    let fitted = model.fit(&cells, &config, &mut ()).unwrap();
    let nll = fitted.history.values("reconstruction_loss_train");
    assert!(nll[29] < 0.95 * nll[0], "{nll:?}");
    // The two kinds lie apart, seen from either modality.
    for modality in ["rna", "adt"] {
        let z = model.embed_modality(&cells, modality).unwrap().unit();
        let centre = |kind: usize| {
            let rows: Vec<usize> = (0..80).filter(|i| i % 2 == kind).collect();
            z.select(ndarray::Axis(0), &rows)
                .mean_axis(ndarray::Axis(0))
                .unwrap()
        };
        let apart = (centre(0) - centre(1)).mapv(|v| v * v).sum();
        assert!(apart > 0.1, "{modality}: {apart}");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let cells = cells(0..40, 20..60, Likelihood::NbMixture);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut model = init(&cells);
            model.fit(&cells, &config(2), &mut ()).unwrap();
            weights(&model)
        })
    };
    assert!(run(1) == run(2));
}

#[test]
fn a_resumed_run_is_an_undisturbed_one() {
    let cells = cells(0..40, 20..60, Likelihood::Nb);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut whole = init(&cells);
    whole.fit(&cells, &config(4), &mut ()).unwrap();

    let mut first = init(&cells);
    let mut short = config(4);
    short.train.max_epochs = Some(2);
    first
        .fit(
            &cells,
            &short,
            &mut Checkpoint::new(&path, std::time::Duration::ZERO),
        )
        .unwrap();
    let mut second = init(&cells);
    let state = ResumeState::load(&path).unwrap();
    second.resume(&cells, &config(4), &state, &mut ()).unwrap();
    assert!(weights(&second) == weights(&whole));

    let mut other = config(4);
    other.align_burn_in = 3;
    assert!(second.resume(&cells, &other, &state, &mut ()).is_err());
}

#[test]
fn saved_models_are_the_same() {
    let cells = cells(0..40, 20..60, Likelihood::Zinb);
    let mut model = init(&cells);
    model.fit(&cells, &config(2), &mut ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path()).unwrap();
    let loaded = Clue::load(dir.path(), &candle_core::Device::Cpu).unwrap();
    assert_eq!(loaded.registry(), model.registry());
    for compose in [
        Compose::Own,
        Compose::Mean,
        Compose::Product,
        Compose::ProductWithPrior,
    ] {
        let joint = |m: &Clue| m.embed_joint(&cells, compose).unwrap().values;
        let z = joint(&model);
        assert_eq!(z, joint(&loaded));
        assert!(z.iter().all(|v| v.is_finite()));
    }
    let options = PredictOptions::default();
    let predict = |m: &Clue| m.predict(&cells, "rna", "adt", &options).unwrap();
    let (a, b) = (predict(&model), predict(&loaded));
    assert_eq!(a.mean, b.mean);
    assert_eq!(a.mean.dim(), (40, 6));
    let stds = a.predictive_std.iter().zip(&a.latent_std);
    assert!(stds.clone().all(|(p, l)| p >= l && l.is_finite()));
}

#[test]
fn own_subspaces_come_from_their_modality() {
    let cells = cells(0..40, 20..60, Likelihood::Nb);
    let model = init(&cells);
    let joint = model.embed_joint(&cells, Compose::Own).unwrap();
    let rna = model.embed_modality(&cells, "rna").unwrap();
    let (z, of_rna) = (joint.subspace("rna").unwrap(), rna.unit());
    for (i, &c) in rna.cells.iter().enumerate() {
        for j in 0..3 {
            assert!((z[[c, j]] - of_rna[[i, j]]).abs() < 1e-6);
        }
    }
    assert!(joint.subspace("atac").is_err());
}

#[test]
fn new_batches_keep_what_is_known() {
    let all = cells(0..40, 20..60, Likelihood::Nb);
    let mut model = init(&all);
    model.fit(&all, &config(2), &mut ()).unwrap();
    let x = Array2::from_shape_fn((20, 10), |(i, f)| ((i + f) % 4) as f32);
    let y = Array2::from_shape_fn((20, 6), |(i, f)| ((i * f) % 4) as f32);
    let of = |name: &str, x: Array2<f32>, batch: &str| {
        let n = x.nrows();
        let features = (0..x.ncols()).map(|f| format!("{name}{f}")).collect();
        let cells = (0..n).map(|i| format!("{name}-{i}")).collect();
        Modality::new(name, x, cells, features)
            .unwrap()
            .batches(&Categorical::from_labels(&vec![batch; n]))
            .unwrap()
    };
    let fresh = MultiCells::new(vec![of("rna", x, "new"), of("adt", y, "a")]).unwrap();
    let extended = model.extended(&fresh, 7).unwrap();
    assert_eq!(extended.registry().batches, ["new", "a"]);
    for name in [
        "u2x.rna.bias",
        "u2x.rna.linear_0.weight",
        "u2x.rna.loc.weight",
    ] {
        let get = |m: &Clue| m.params.get(name).unwrap().export().unwrap();
        let (old, new) = (get(&model), get(&extended));
        let core = old.dim(1).unwrap() - 2;
        // "a" is the second batch of both; "b" came first.
        let old_a = model
            .registry()
            .batches
            .iter()
            .position(|b| b == "a")
            .unwrap();
        let column = |t: &candle_core::Tensor, i: usize| -> Vec<f32> {
            t.narrow(1, i, 1)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        };
        assert_eq!(column(&old, core + old_a), column(&new, core + 1), "{name}");
        for i in 0..core {
            assert_eq!(column(&old, i), column(&new, i), "{name}");
        }
    }
    let mut second = extended;
    let fitted = second.fit(&fresh, &config(2), &mut ()).unwrap();
    assert!(
        fitted
            .history
            .values("train_loss_epoch")
            .iter()
            .all(|l| l.is_finite())
    );
}

#[test]
fn bad_input_is_named() {
    let x = Array2::from_elem((4, 3), 0.5f32);
    let names = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>();
    let features = || (0..3).map(|i| format!("f{i}")).collect::<Vec<_>>();
    assert!(Modality::new("a", x.clone(), names(3), features()).is_err());
    let twice = vec!["c".to_owned(); 4];
    let m = Modality::new("a", x.clone(), twice, features()).unwrap();
    assert!(matches!(
        MultiCells::new(vec![m]),
        Err(Error::DuplicateCell { .. })
    ));
    let empty = Modality::new("a", Array2::zeros((0, 3)), vec![], features()).unwrap();
    assert!(matches!(
        MultiCells::new(vec![empty]),
        Err(Error::NoCells { .. })
    ));
    assert!(MultiCells::new(vec![]).is_err());
    let same = || Modality::new("a", x.clone(), names(4), features()).unwrap();
    assert!(MultiCells::new(vec![same(), same()]).is_err());

    // Fractions are no counts.
    let cells = MultiCells::new(vec![same()]).unwrap();
    let mut model = init(&cells);
    let error = model
        .fit(&cells, &config(1), &mut ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("modality \"a\"") && error.contains("whole numbers"),
        "{error}"
    );
    assert!(
        model
            .predict(&cells, "a", "b", &PredictOptions::default())
            .is_err()
    );
    assert!(small(&cells).latent_dim(0).check().is_err());
    assert!(small(&cells).dropout(1.0).check().is_err());
}

#[test]
fn one_pair_in_a_minibatch_and_none_at_all() {
    // One cell has both; then none has.
    for adt in [39..79, 40..80] {
        let cells = cells(0..40, adt, Likelihood::Nb);
        let mut model = init(&cells);
        let fitted = model.fit(&cells, &config(2), &mut ()).unwrap();
        assert!(
            fitted
                .history
                .values("train_loss_epoch")
                .iter()
                .all(|l| l.is_finite())
        );
        let p = model
            .predict(&cells, "rna", "adt", &PredictOptions::default())
            .unwrap();
        assert!(p.mean.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn a_modality_can_be_generated_and_labels_transferred() {
    use sc_model::{ExpressionOptions, Generative};

    let cells = cells(0..40, 20..60, Likelihood::NbMixture);
    let mut model = init(&cells);
    model.fit(&cells, &config(2), &mut ()).unwrap();
    for (from, to, features) in [("rna", "rna", 10), ("rna", "adt", 6), ("adt", "rna", 10)] {
        let one = model.across(from, to).unwrap();
        assert_eq!(one.n_cells(&cells), 40);
        let all = one.posterior_predictive(&cells, 3, 5).unwrap();
        assert_eq!(all.dim(), (3, 40, features));
        assert!(all.iter().all(|&v| v >= 0.0 && v.fract() == 0.0));
        // The same numbers, whichever cells are asked for.
        let some = one.posterior_predictive_rows(&cells, 7..19, 3, 5).unwrap();
        assert_eq!(some, all.slice_axis(ndarray::Axis(1), (7..19).into()));
        assert!(one.posterior_predictive_rows(&cells, 30..41, 1, 5).is_err());
        let mut options = ExpressionOptions::default();
        options.n_samples = 2;
        let expected = one.expected_expression(&cells, &options).unwrap();
        assert_eq!(expected.dim(), (40, features));
        if to == "rna" {
            assert!(
                expected
                    .rows()
                    .into_iter()
                    .all(|r| (r.sum() - 1.0).abs() < 1e-5)
            );
        }
        options.genes = Some(vec![features]);
        assert!(one.expected_expression(&cells, &options).is_err());
    }
    assert!(model.across("rna", "atac").is_err());

    let kinds: Vec<Option<&str>> = (0..60)
        .map(|i| (i < 30).then_some(if i % 2 == 0 { "even" } else { "odd" }))
        .collect();
    let kinds = Categorical::from_options(kinds.into_iter());
    let found = model
        .transfer_labels(&cells, "rna", "adt", &kinds, 5)
        .unwrap();
    assert_eq!(found.labels().len(), 40);
    let none = Categorical::from_options(std::iter::repeat_n(None, 60));
    assert!(
        model
            .transfer_labels(&cells, "rna", "adt", &none, 5)
            .is_err()
    );
    assert!(
        model
            .transfer_labels(&cells, "rna", "adt", &kinds.select(&[0]), 5)
            .is_err()
    );
}

#[test]
fn chances_of_an_untrained_adversary_are_near_equal() {
    let cells = cells(0..40, 20..60, Likelihood::Nb);
    let model = init(&cells);
    let z = model.embed_modality(&cells, "rna").unwrap().mean;
    let z = model.nets.tensor(&z).unwrap();
    let logits = model.guess_modality(&z, &[0; 40]).unwrap();
    assert_eq!(logits.dims(), [40, 2]);
    assert!(
        model
            .guess_modality(&z.narrow(1, 0, 2).unwrap(), &[0; 40])
            .is_err()
    );
}
