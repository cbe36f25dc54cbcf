//! What can't be trained on, and what is said about it.

use super::*;
use crate::Error;
use crate::model::DiffusionKind;
use crate::nets::AutoencoderConfig;

fn cells() -> Snapshots {
    let (a, b) = (
        cloud(30, &[0.0, 0.0], 1.0, 1),
        cloud(30, &[1.0, 0.0], 1.0, 2),
    );
    Snapshots::from_clouds(&[(2.0, a), (4.0, b)]).unwrap()
}

fn why<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn data() {
    let states = cloud(4, &[0.0, 0.0], 1.0, 1);
    let of = |times: &[f64]| why(Snapshots::new(&states, times));
    assert!(of(&[2.0; 4]).contains("all 4 cells are of time 2"));
    assert!(of(&[2.0, f64::NAN, 4.0, 4.0]).contains("cell 1 has the time NaN"));
    assert!(of(&[2.0, 4.0]).contains("one for each cell"));
    let mut numbers = states.to_vec2::<f32>().unwrap();
    numbers[2][1] = f32::NAN;
    let bad = Tensor::new(numbers, &Device::Cpu).unwrap();
    let message = why(Snapshots::new(&bad, &[0.0, 0.0, 1.0, 1.0]));
    assert!(message.contains("row 2, column 1"), "{message}");
    let none = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap();
    let message = why(Snapshots::from_clouds(&[
        (0.0, states.clone()),
        (1.0, none.clone()),
    ]));
    assert!(
        message.contains("no cell was given for time 1"),
        "{message}"
    );
    assert!(why(Snapshots::new(&none, &[])).contains("empty"));
    let good = Snapshots::new(&states, &[4.0, 2.0, 4.0, 2.0]).unwrap();
    assert_eq!(
        (good.times(), good.cells_at(0)),
        (&[2.0, 4.0][..], &[1, 3][..])
    );
    assert!(why(good.clone().with_growth_rates(&[0.0; 3])).contains("one for each cell"));
    let message = why(good.with_growth_rates(&[0.0, f64::INFINITY, 0.0, 0.0]));
    assert!(message.contains("row 1"), "{message}");
}

#[test]
fn settings() {
    let cells = cells();
    let refused = |params: ScDiffEqParams, set: fn(&mut SdeTraining)| {
        let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
        let mut training = fast(&model, 1, 1e-3);
        set(&mut training);
        why(model.fit(&cells, &training, &mut ()))
    };
    let params = || small(ScDiffEq::params(2), 8);
    assert!(refused(params(), |t| t.dt = 0.0).contains("dt"));
    assert!(refused(params(), |t| t.dt = 1e-9).contains("steps"));
    assert!(refused(params(), |t| t.marginals.blur = 0.0).contains("blur"));
    assert!(refused(params(), |t| t.batch = BatchSize::Cells(0)).contains("batch"));
    assert!(refused(params(), |t| t.validation.share = 1.0).contains("share"));
    assert!(refused(params(), |t| t.scheme = Scheme::Heun).contains("Heun"));
    let message = refused(params(), |t| t.run.split.given = Some((vec![0, 1], vec![])));
    assert!(message.contains("no cell of time 4"), "{message}");
    let wide = refused(small(ScDiffEq::params(3), 8), |_| {});
    assert!(wide.contains("[cells, 3]"), "{wide}");
    let ode = params().diffusion(DiffusionKind::None);
    let message = refused(ode, |t| t.velocity_ratio = Some(Default::default()));
    assert!(message.contains("no diffusion"), "{message}");
    let mut model = params().check().unwrap().init(&Device::Cpu, 0).unwrap();
    let run = SdeTraining::pretraining();
    let message = why(model.pretrain_autoencoder(&cells, &run, &mut ()));
    assert!(message.contains("nothing to pretrain"), "{message}");
    let nets = params().autoencoder(Some(AutoencoderConfig::new(7)));
    assert!(refused(nets, |_| {}).contains("[cells, 7]"));
}

/// A path that explodes: where, when and how far away it was.
#[test]
fn divergence_is_located() {
    let mut model = small(ScDiffEq::params(2), 8)
        .drift(crate::model::DriftKind::Neural)
        .coef_drift(1e30)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    let training = fast(&model, 2, 1e-3);
    let error = model.fit(&cells(), &training, &mut ()).unwrap_err();
    let Error::InEpoch {
        epoch: 0, source, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, Error::Diverged { step: 1.., .. }),
        "{source:?}"
    );
    let text = error.to_string();
    for part in ["epoch 0", "step", "time 2", "norm"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
