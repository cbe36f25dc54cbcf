//! Systems that are known: what is learned from snapshots of them.

use super::*;
use crate::flow::FlowTraining;
use crate::model::{DiffusionKind, DriftKind};
use crate::solve::zoo::{Bifurcation, DoubleWell, OrnsteinUhlenbeck};

/// Mean and spread of an Ornstein-Uhlenbeck process at a time that was never seen, from three that were; drift and noise are
/// both learned.
#[test]
fn marginals_of_an_ornstein_uhlenbeck_process() {
    let truth = OrnsteinUhlenbeck::new(1.0, 0.0, 0.6);
    let start = cloud(400, &[2.0, -1.0], 0.2, 1);
    let cells = observed(&truth, &start, 2, &[0.0, 0.4, 1.2, 2.0]);
    let params = small(ScDiffEq::params(2), 24).diffusion(DiffusionKind::Diagonal);
    let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    let training = fast(&model, 120, 1e-2);
    let fitted = model.fit(&cells, &training, &mut ()).unwrap();
    let losses = fitted.history.values("validation_loss");
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(best < 0.1 * losses[0], "{best} of {}", losses[0]);

    let start = cloud(4000, &[2.0, -1.0], 0.2, 2);
    let rows = moved(&model, &start, 0.0, 0.8);
    for (column, x0) in [(0, 2.0), (1, -1.0)] {
        let (mean, variance) = truth.moments(x0, 0.8);
        let sd = (variance + (0.2 * (-0.8f64).exp()).powi(2)).sqrt();
        let found = mean_and_sd(&rows, column);
        assert!((found.0 - mean).abs() < 0.1, "{found:?}, not {mean}");
        assert!((found.1 - sd).abs() < 0.1, "{found:?}, not {sd}");
    }
}

/// Fates in a double well: the probability of ending on the right from places around the ridge, where the noise is known.
#[test]
fn fates_in_a_double_well() {
    let truth = DoubleWell::new(0.5, 0.5);
    let start = cloud(500, &[0.0], 0.5, 3);
    let cells = observed(&truth, &start, 1, &[0.0, 0.5, 1.0, 2.0]);
    let params = small(ScDiffEq::params(1), 24).drift(DriftKind::Potential);
    let params = params.diffusion(DiffusionKind::Isotropic { sigma: 0.5 });
    let mut model = params.check().unwrap().init(&Device::Cpu, 1).unwrap();
    let training = fast(&model, 120, 1e-2);
    model.fit(&cells, &training, &mut ()).unwrap();

    let n = 2000;
    for x0 in [-0.6, -0.2, 0.0, 0.3, 0.7] {
        let start = Tensor::full(x0 as f32, (n, 1), &Device::Cpu).unwrap();
        let right =
            |rows: Vec<Vec<f32>>| rows.iter().filter(|r| r[0] > 0.0).count() as f64 / n as f64;
        let path = BrownianPath::new(11, n, 1, 0.0, 0.01).unwrap();
        let schedule = Schedule::grid(&[0.0, 2.0], 0.01).unwrap();
        let states = Solve::new(&truth, Scheme::Euler, &path, &schedule).run(&start);
        let expected = right(states.unwrap()[1].to_vec2().unwrap());
        let found = right(moved(&model, &start, 0.0, 2.0));
        assert!(
            (found - expected).abs() < 0.12,
            "from {x0}: {found}, not {expected}"
        );
    }
}

/// A valley that splits: both branches are found, as often as they are taken.
#[test]
fn branches_of_a_valley() {
    let truth = Bifurcation {
        tilt: 0.05,
        ..Bifurcation::default()
    };
    let start = cloud(400, &[0.0, 0.0], 0.1, 5);
    let cells = observed(&truth, &start, 2, &[0.0, 1.0, 2.0, 3.0]);
    let params = small(ScDiffEq::params(2), 32).drift(DriftKind::Neural);
    let params = params.diffusion(DiffusionKind::Diagonal);
    let mut model = params.check().unwrap().init(&Device::Cpu, 2).unwrap();
    // The way there first, without simulation.
    let mut along = FlowTraining {
        batch: BatchSize::Cells(64),
        ..FlowTraining::default()
    };
    (along.run.max_epochs, along.run.lr) = (Some(60), 5e-3);
    model.pretrain_drift(&cells, &along, &mut ()).unwrap();
    let mut training = fast(&model, 200, 1e-2);
    training.batch = BatchSize::Cells(128);
    model.fit(&cells, &training, &mut ()).unwrap();

    let last = cells.rows(cells.cells_at(3), DType::F32, &Device::Cpu);
    let upper =
        |rows: &[Vec<f32>]| rows.iter().filter(|r| r[1] > 0.0).count() as f64 / rows.len() as f64;
    let last = last.unwrap().to_vec2::<f32>().unwrap();
    let expected = upper(&last);
    let rows = moved(&model, &cloud(2000, &[0.0, 0.0], 0.1, 6), 0.0, 3.0);
    let found = upper(&rows);
    assert!((found - expected).abs() < 0.12, "{found}, not {expected}");
    // Between the branches, on the ridge, there are few.
    let ridge = |rows: &[Vec<f32>]| {
        rows.iter().filter(|r| r[1].abs() < 0.5).count() as f64 / rows.len() as f64
    };
    let (found, expected) = (ridge(&rows), ridge(&last));
    assert!((found - expected).abs() < 0.12, "{found}, not {expected}");
    assert!((mean_and_sd(&rows, 0).0 - 3.0).abs() < 0.2);
}

/// Cells of one kind multiply: with their rates, the drift needn't explain why they become many.
#[test]
fn growth_is_not_taken_for_movement() {
    let rest = OrnsteinUhlenbeck::new(0.0, 0.0, 0.2);
    let groups = |left: usize, right: usize, seed| {
        let (a, b) = (
            cloud(left, &[-2.0], 0.2, seed),
            cloud(right, &[2.0], 0.2, seed + 1),
        );
        Tensor::cat(&[&a, &b], 0).unwrap()
    };
    let (early, late) = (groups(200, 200, 1), groups(100, 300, 3));
    let path = BrownianPath::new(5, 400, 1, 0.0, 0.05).unwrap();
    let schedule = Schedule::grid(&[0.0, 1.0], 0.05).unwrap();
    let late = Solve::new(&rest, Scheme::Euler, &path, &schedule).run(&late);
    let late = late.unwrap()[1].clone();
    let cells = Snapshots::from_clouds(&[(0.0, early), (1.0, late)]).unwrap();
    let rates: Vec<f64> = (0..800)
        .map(|i| {
            if (200..400).contains(&i) {
                3f64.ln()
            } else {
                0.0
            }
        })
        .collect();
    // Without drift, and with the true noise.
    let params = small(ScDiffEq::params(1), 16);
    let params = params.diffusion(DiffusionKind::Isotropic { sigma: 0.2 });
    let valid = params.check().unwrap();
    let first = |cells: &Snapshots| {
        let mut model = valid.init(&Device::Cpu, 3).unwrap();
        model.start_without_drift().unwrap();
        let mut training = fast(&model, 1, 1e-9);
        training.validation.share = 0.5;
        let fitted = model.fit(cells, &training, &mut ()).unwrap();
        fitted.history.values("validation_loss")[0]
    };
    let (without, with) = (
        first(&cells),
        first(&cells.clone().with_growth_rates(&rates).unwrap()),
    );
    // A quarter of the cells would have to cross four units.
    assert!((0.5..3.0).contains(&without), "{without}");
    assert!(with < 0.3 * without, "{with}, without rates {without}");
}
