//! What training changes, and what not.

use super::*;

#[test]
fn random_features_are_drawn_again_when_asked_for() {
    use sc_model::train::{Split, Step};
    let model = small(6, DType::F32);
    let (rng, split) = (Rng::new(0), Split::default());
    let step = Step {
        mode: Mode::train(&rng, 0),
        epoch: 0,
        step: 0,
        step_in_epoch: 0,
        batch_size: 1,
        split: &split,
        kl_weight: 1.0,
        rng: &rng,
    };
    let projections = || -> Vec<Tensor> {
        model
            .nets
            .blocks
            .iter()
            .map(|b| b.projection.value().copy().unwrap())
            .collect()
    };
    let same = |a: &[Tensor], b: &[Tensor]| -> Vec<bool> {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.to_vec2::<f32>().unwrap() == b.to_vec2::<f32>().unwrap())
            .collect()
    };
    let before = projections();
    for part in 0..2 {
        model.note_pass(Some(2), &step, part).unwrap();
    }
    assert_eq!(same(&before, &projections()), [true; 3]);
    model.note_pass(Some(2), &step, 2).unwrap();
    assert_eq!(same(&before, &projections()), [false; 3]);
    assert_eq!(model.nets.calls.value().to_scalar::<i64>().unwrap(), 0);
    let after = projections();
    for part in 3..20 {
        model.note_pass(None, &step, part).unwrap();
    }
    assert_eq!(same(&after, &projections()), [true; 3]);
}

/// Cells of two types: half of the genes are high in one, half in the other.
fn two_types(cells: usize, genes: usize) -> (Csr, Categorical) {
    let mut noise = vec![0f32; cells * genes];
    Rng::new(5)
        .stream("noise")
        .fill_uniform(0.0, 3.0, &mut noise);
    let counts = Array2::from_shape_fn((cells, genes), |(i, j)| {
        let high = (i % 3 == 0) == (j % 2 == 0);
        (noise[i * genes + j] * if high { 4.0 } else { 1.0 }).floor()
    });
    let types: Vec<&str> = (0..cells)
        .map(|i| if i % 3 == 0 { "rare" } else { "usual" })
        .collect();
    (Csr::from_dense(&counts), Categorical::from_labels(&types))
}

fn quick(train: &mut sc_model::train::TrainConfig, epochs: usize) {
    train.batch_size = 16;
    train.lr = 3e-3;
    train.lr_schedule = sc_model::LrSchedule::Constant;
    train.max_epochs = Some(epochs);
}

fn weights(model: &Scbert) -> Vec<(String, Vec<f64>)> {
    let of = |p: &sc_model::Param| {
        let v = p
            .value()
            .to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap();
        (p.name().to_owned(), v.to_vec1::<f64>().unwrap())
    };
    model.parameters().iter().map(of).collect()
}

#[test]
fn fine_tuning_learns_and_leaves_the_rest_alone() {
    let (counts, types) = two_types(60, 16);
    let params = Scbert::params(panel(16))
        .dim(12)
        .depth(3)
        .heads(2)
        .dim_head(6);
    let params = params.classifier_hidden([24, 12]).check().unwrap();
    let model = params.init(&Device::Cpu, 7).unwrap();
    let model = model.with_classes(types.categories(), 1).unwrap();
    // About the sum of the counts, so that tokens differ.
    let config = CellsConfig {
        target_sum: 50.0,
        ..any_number()
    };
    let cells = model.cells(&counts, &names(16), &config).unwrap();
    let labelled = model.labelled(&cells, &types).unwrap();
    assert_eq!(labelled.counts(), [20, 40]);
    let before = weights(&model);
    let mut config = FinetuneConfig::default();
    quick(&mut config.train, 40);
    config.class_weights = ClassWeights::Balanced;
    config.micro_batch = Some(4);
    let fitted = model.finetune(&labelled, &config, &mut ()).unwrap();
    // Each type is split on its own: 80 % of 20 and of 40.
    let rare = |cells: &[usize]| cells.iter().filter(|&&c| c % 3 == 0).count();
    assert_eq!(
        (fitted.split.train.len(), rare(&fitted.split.train)),
        (48, 16)
    );
    let best = fitted
        .history
        .values("accuracy_validation")
        .into_iter()
        .fold(0.0, f64::max);
    assert!(best > 0.9, "{best}");
    for ((name, before), (_, after)) in before.iter().zip(weights(&model)) {
        let trained = ["norm.", "to_out.", "performer.net.layers.1."]
            .iter()
            .any(|t| name.starts_with(t));
        let kept = !trained || name.ends_with("projection_matrix");
        assert_eq!(*before == after, kept, "{name}");
    }
}

/// Saves after some epochs, and stops there.
struct StopAfter(usize, std::path::PathBuf);

impl sc_model::train::Observer for StopAfter {
    fn on_epoch(
        &mut self,
        event: &sc_model::train::EpochEvent<'_>,
    ) -> sc_model::Result<sc_model::train::Control> {
        use sc_model::train::Control;
        if event.epoch + 1 < self.0 {
            return Ok(Control::Continue);
        }
        event.state.save(&self.1)?;
        Ok(Control::Stop)
    }
}

#[test]
fn fine_tuning_goes_on_bit_for_bit_and_remembers_the_best_epoch() {
    let (counts, types) = two_types(40, 16);
    let model = || {
        let model = small(16, DType::F32);
        model.with_classes(types.categories(), 1).unwrap()
    };
    let whole = model();
    let cells = whole.cells(&counts, &names(16), &any_number()).unwrap();
    let labelled = whole.labelled(&cells, &types).unwrap();
    let mut config = FinetuneConfig::default();
    quick(&mut config.train, 6);
    config.train.lr = 0.1;
    config.redraw_every = Some(30);
    let fitted = whole.finetune(&labelled, &config, &mut ()).unwrap();
    let all = fitted.history.values("accuracy_validation");
    let best = (0..all.len()).reduce(|b, i| if all[i] > all[b] { i } else { b });
    let best = best.unwrap();
    assert!(best < 3, "{all:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for epochs in [best + 1, 4] {
        let mut stop = StopAfter(epochs, path.clone());
        model().finetune(&labelled, &config, &mut stop).unwrap();
        let state = sc_model::train::ResumeState::load(&path).unwrap();
        let second = model();
        second
            .resume_finetuning(&labelled, &config, &state, &mut ())
            .unwrap();
        assert!(weights(&second) == weights(&whole), "after {epochs} epochs");
    }
}

#[test]
fn everything_is_trained_if_asked_for() {
    let (counts, types) = two_types(20, 16);
    let model = small(16, DType::F32);
    let model = model.with_classes(types.categories(), 1).unwrap();
    let cells = model.cells(&counts, &names(16), &any_number()).unwrap();
    let labelled = model.labelled(&cells, &types).unwrap();
    let before = weights(&model);
    let mut config = FinetuneConfig::default();
    quick(&mut config.train, 2);
    let memory = |c: &FinetuneConfig| model.memory(model.finetuning_work(c), 1).total();
    let one_block = memory(&config);
    config.everything = true;
    assert!(memory(&config) > one_block);
    model.finetune(&labelled, &config, &mut ()).unwrap();
    for ((name, before), (_, after)) in before.iter().zip(weights(&model)) {
        let buffer = model.parameters().get(name).unwrap().is_buffer();
        assert_eq!(*before == after, buffer, "{name}");
    }
}

#[test]
fn training_is_the_same_on_any_number_of_threads() {
    let (counts, _) = two_types(40, 16);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let model = small(16, DType::F32);
            let cells = model.cells(&counts, &names(16), &any_number()).unwrap();
            let mut config = PretrainConfig::default();
            quick(&mut config.train, 2);
            config.redraw_every = Some(30);
            model.pretrain(&cells, &config, &mut ()).unwrap();
            weights(&model)
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let fresh = weights(&small(16, DType::F32));
    for ((name, trained), (_, fresh)) in one.iter().zip(&fresh) {
        assert_eq!(trained == fresh, name == "pos_emb.emb.weight", "{name}");
    }
}

#[test]
fn weights_of_classes() {
    let (counts, types) = two_types(60, 16);
    let model = small(16, DType::F32)
        .with_classes(types.categories(), 1)
        .unwrap();
    let cells = model.cells(&counts, &names(16), &any_number()).unwrap();
    let labelled = model.labelled(&cells, &types).unwrap();
    use sc_model::train::{Split, Step};
    let (rng, split) = (Rng::new(0), Split::default());
    let step = Step {
        mode: Mode::eval(),
        epoch: 0,
        step: 0,
        step_in_epoch: 0,
        batch_size: 4,
        split: &split,
        kl_weight: 1.0,
        rng: &rng,
    };
    let tokens = cells.tokens(&[0, 1, 2, 3]).unwrap();
    let config = FinetuneConfig::default();
    let task = model.finetuning(&config).unwrap();
    let loss = |weights: &[f64]| -> f64 {
        let loss = task
            .loss_of(&tokens, &[0, 1, 1, 0], weights, &step)
            .unwrap()
            .loss;
        loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    };
    let logits = model
        .class_logits(&tokens, Stabiliser::PerSequence)
        .unwrap();
    let p = sc_tensor::ops::log_softmax(&logits)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let nll = [p[0][0], p[1][1], p[2][1], p[3][0]].map(|p| -f64::from(p));
    for (kind, rare, usual) in [
        (ClassWeights::None, 1.0, 1.0),
        (ClassWeights::Balanced, 1.5, 0.75),
        (ClassWeights::SquaredRarity, 4.0 / 9.0, 1.0 / 9.0),
    ] {
        let weights = labelled.weights(kind);
        assert!(
            (weights[0] - rare).abs() < 1e-12 && (weights[1] - usual).abs() < 1e-12,
            "{weights:?}"
        );
        let expected =
            (rare * (nll[0] + nll[3]) + usual * (nll[1] + nll[2])) / (2.0 * (rare + usual));
        assert!((loss(&weights) - expected).abs() < 1e-6, "{kind:?}");
    }
}
