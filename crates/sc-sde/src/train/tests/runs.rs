//! The loop: the same bits again, and after an interruption.

use sc_model::train::{Checkpoint, ResumeState, StopReason};

use super::*;
use crate::nets::AutoencoderConfig;

fn cells() -> Snapshots {
    let clouds = [
        (0.0, cloud(50, &[0.0, 0.0], 0.5, 1)),
        (0.5, cloud(40, &[1.0, 0.0], 0.5, 2)),
        (1.0, cloud(60, &[2.0, 1.0], 0.5, 3)),
    ];
    Snapshots::from_clouds(&clouds).unwrap()
}

fn model() -> ScDiffEq {
    let mu = NetConfig::new([16, 16]).dropout(0.1);
    let params = ScDiffEq::params(2).mu(mu).sigma(NetConfig::new([8]));
    params.check().unwrap().init(&Device::Cpu, 0).unwrap()
}

fn training(keep: Keep) -> SdeTraining {
    let mut training = fast(&model(), 4, 1e-2);
    training.velocity_ratio = Some(Default::default());
    training.batch = BatchSize::Cells(20);
    training.keep = keep;
    training
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    for (keep, redraw) in [
        (Keep::Best, false),
        (Keep::Average, false),
        (Keep::Last, true),
    ] {
        let mut training = training(keep);
        training.validation.redraw = redraw;
        let mut whole = model();
        let fitted = whole.fit(&cells(), &training, &mut ()).unwrap();
        for stop in [2, 3, 7] {
            let mut killed = model();
            let saver = Checkpoint::new(&file, std::time::Duration::ZERO);
            let stopped = killed
                .fit(&cells(), &training, &mut (StopAfter(stop), saver))
                .unwrap();
            assert_eq!(stopped.stop, StopReason::Interrupted);
            let mut resumed = model();
            let state = ResumeState::load(&file).unwrap();
            let again = resumed
                .resume(&cells(), &training, &state, &mut ())
                .unwrap();
            assert_eq!(
                weights(resumed.parameters()),
                weights(whole.parameters()),
                "{keep:?}, {stop}"
            );
            assert_eq!(again.history, fitted.history, "{keep:?}, {stop}");
        }
    }
}

#[test]
fn other_settings_are_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    let saver = Checkpoint::new(&file, std::time::Duration::ZERO);
    let mut killed = model();
    let mut training = training(Keep::Best);
    killed
        .fit(&cells(), &training, &mut (StopAfter(4), saver))
        .unwrap();
    training.marginals.blur = 0.1;
    let state = ResumeState::load(&file).unwrap();
    let error = model().resume(&cells(), &training, &state, &mut ());
    let message = error.unwrap_err().to_string();
    assert!(message.contains("other settings"), "{message}");
}

#[test]
fn threads_do_not_matter() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut model = model();
            model.fit(&cells(), &training(Keep::Best), &mut ()).unwrap();
            weights(model.parameters())
        })
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn the_average_is_that_of_the_epochs() {
    let mut last = model();
    let mut one = training(Keep::Last);
    one.run.max_epochs = Some(1);
    last.fit(&cells(), &one, &mut ()).unwrap();
    let mut average = model();
    one.keep = Keep::Average;
    average.fit(&cells(), &one, &mut ()).unwrap();
    assert_eq!(weights(average.parameters()), weights(last.parameters()));

    let mut two = training(Keep::Last);
    two.run.max_epochs = Some(2);
    let mut second = model();
    second.fit(&cells(), &two, &mut ()).unwrap();
    two.keep = Keep::Average;
    let mut average = model();
    average.fit(&cells(), &two, &mut ()).unwrap();
    let ends = weights(last.parameters())
        .into_iter()
        .zip(weights(second.parameters()));
    for (found, (a, b)) in weights(average.parameters()).iter().zip(ends) {
        assert!((found - 0.5 * (a + b)).abs() < 1e-6);
    }
}

#[test]
fn prescient_improves() {
    let params = ScDiffEq::prescient(2).mu(NetConfig::new([32]).activation(Activation::Softplus));
    let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    model.start_without_drift().unwrap();
    let mut training = SdeTraining::prescient(model.config());
    training.contrast = Some(Contrast {
        steps: 10,
        ..Contrast::default()
    });
    training.batch = BatchSize::Share(0.5);
    training.run.max_epochs = Some(60);
    let fitted = model.fit(&cells(), &training, &mut ()).unwrap();
    let losses = fitted.history.values("validation_loss");
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 0.5 * losses[0], "{best} of {}", losses[0]);
    assert!(!fitted.history.values("regularisers_train").is_empty());
}

/// Cells on a plane in ten dimensions: the autoencoder is pretrained, then everything together.
#[test]
fn with_an_autoencoder() {
    let flat = cells();
    let mix: Vec<f32> = (0..20).map(|i| (i as f32 * 1.3).cos()).collect();
    let mix = Tensor::from_vec(mix, (2, 10), &Device::Cpu).unwrap();
    let times: Vec<f64> = (0..150)
        .map(|i| [0.0, 0.5, 1.0][usize::from(i >= 50) + usize::from(i >= 90)])
        .collect();
    let wide = Snapshots::new(&flat.states().matmul(&mix).unwrap(), &times).unwrap();
    let mut nets = AutoencoderConfig::new(10);
    (nets.n_hidden, nets.dropout) = (1, 0.0);
    let params = small(ScDiffEq::params(2), 16).autoencoder(Some(nets));
    let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    let mut run = SdeTraining::pretraining();
    (run.max_epochs, run.lr) = (Some(150), 1e-2);
    let before = model
        .pretrain_autoencoder(&wide, &run, &mut ())
        .unwrap()
        .history;
    let losses = before.values("train_loss_epoch");
    assert!(losses[149] < 0.1 * losses[0], "{losses:?}");
    let training = fast(&model, 40, 5e-3);
    let fitted = model.fit(&wide, &training, &mut ()).unwrap();
    let losses = fitted.history.values("validation_loss");
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 0.4 * losses[0], "{best} of {}", losses[0]);
}

/// A minibatch of paths of 10,000 steps in a small stack.
#[test]
fn long_paths_need_little_stack() {
    let run = || {
        let (a, b) = (cloud(6, &[0.0], 0.5, 1), cloud(6, &[0.5], 0.5, 2));
        let cells = Snapshots::from_clouds(&[(0.0, a), (1.0, b)]).unwrap();
        let net = NetConfig::new([4]);
        let params = ScDiffEq::params(1).mu(net.clone()).sigma(net);
        let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
        let mut training = fast(&model, 1, 1e-3);
        (training.dt, training.validation.share) = (1e-4, 0.0);
        let fitted = model.fit(&cells, &training, &mut ()).unwrap();
        fitted.history.values("sinkhorn_train").len()
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    assert_eq!(thread.unwrap().join().unwrap(), 1);
}
