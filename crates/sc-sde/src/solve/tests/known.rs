//! The laws of the zoo, against simulations with fixed seeds; bounds are four standard errors and more.

use super::*;

fn end_of(sde: &dyn Sde, scheme: Scheme, start: &Tensor, m: usize, time: f64, dt: f64) -> Vec<f64> {
    let cells = start.dims()[0];
    let path = BrownianPath::new(11, cells, m, 0.0, dt).unwrap();
    let schedule = Schedule::grid(&[0.0, time], dt).unwrap();
    flat(
        &Solve::new(sde, scheme, &path, &schedule)
            .run(start)
            .unwrap()[1],
    )
}

fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
}

#[test]
fn ornstein_uhlenbeck() {
    let sde = zoo::OrnsteinUhlenbeck::new(1.2, 0.5, 0.8);
    let x = end_of(&sde, Scheme::Euler, &filled(20_000, 1, 2.0), 1, 1.0, 0.1);
    let (mean, variance) = mean_and_variance(&x);
    let chain = sde.euler_moments(2.0, 0.1, 10);
    assert!((mean - chain.0).abs() < 4.0 * (chain.1 / 2e4).sqrt());
    assert!((variance / chain.1 - 1.0).abs() < 0.04);
    // The chain's moments approach those of the equation.
    let (fine, exact) = (sde.euler_moments(2.0, 1e-4, 10_000), sde.moments(2.0, 1.0));
    assert!((fine.0 - exact.0).abs() < 1e-4 && (fine.1 - exact.1).abs() < 1e-4);
}

#[test]
fn one_motion_for_all_coordinates() {
    let sde = zoo::RankOneLinear::new(&[-0.5, 1.0, -1.0, -0.5], &[0.3, 0.0, 0.1, 0.2], 2).unwrap();
    let start = matrix(20_000, 2, |_, j| [1.0, 0.5][j]);
    let x = end_of(&sde, Scheme::Euler, &start, 1, 1.0, 0.1);
    let (mean, second) = sde.euler_moments(&[1.0, 0.5], 0.1, 10).unwrap();
    for i in 0..2 {
        let of = |k: usize| x.iter().skip(k).step_by(2).copied().collect::<Vec<_>>();
        let (m, v) = mean_and_variance(&of(i));
        let expected = second[3 * i] - mean[i] * mean[i];
        assert!((m - mean[i]).abs() < 4.0 * (expected / 2e4).sqrt());
        assert!((v / expected - 1.0).abs() < 0.05, "{v} {expected}");
    }
    assert!(zoo::RankOneLinear::new(&[1.0], &[1.0, 2.0], 1).is_err());
}

#[test]
fn double_well() {
    let sde = zoo::DoubleWell::new(1.0, 0.9);
    assert!((sde.committor(0.0, -1.0, 1.0) - 0.5).abs() < 1e-9);
    assert_eq!(
        (
            sde.committor(-1.5, -1.0, 1.0),
            sde.committor(2.0, -1.0, 1.0)
        ),
        (0.0, 1.0)
    );
    // From 0.2 the paths that reach 1 before -1, watched in small steps.
    let path = BrownianPath::new(1, 2000, 1, 0.0, 0.008).unwrap();
    let mut solver = Solver::new(&sde, Scheme::Euler, &path, 0.0, filled(2000, 1, 0.2)).unwrap();
    let mut fate = vec![0.0; 2000];
    for _ in 0..1250 {
        let x = flat(&solver.step(0.008).unwrap().y);
        for (fate, x) in fate.iter_mut().zip(x) {
            if *fate == 0.0 && x.abs() >= 1.0 {
                *fate = x.signum();
            }
        }
    }
    let undecided = fate.iter().filter(|&&f| f == 0.0).count();
    let up = fate.iter().filter(|&&f| f > 0.0).count() as f64 / 2000.0;
    assert!(undecided < 10, "{undecided}");
    // Steps overshoot the ends, on both sides alike.
    assert!((up - sde.committor(0.2, -1.0, 1.0)).abs() < 0.05, "{up}");
    // After a long time the law is the stationary one.
    let starts = matrix(2000, 1, |i, _| if i % 2 == 0 { 1.0 } else { -1.0 });
    let x = end_of(&sde, Scheme::Srk, &starts, 1, 8.0, 0.02);
    let square = x.iter().map(|v| v * v).sum::<f64>() / 2000.0;
    let expected = sde.stationary_mean(|x| x * x);
    assert!((square - expected).abs() < 0.06, "{square} {expected}");
    assert!(sde.kramers_rate() > 0.0);
}

#[test]
fn a_valley_splits_evenly() {
    let sde = zoo::Bifurcation::default();
    let x = end_of(&sde, Scheme::Euler, &filled(4000, 2, 0.0), 2, 5.0, 0.02);
    let side: Vec<f64> = x.iter().skip(1).step_by(2).copied().collect();
    let up = side.iter().filter(|&&v| v > 0.0).count() as f64 / 4000.0;
    assert!((up - 0.5).abs() < 4.0 * (0.25f64 / 4000.0).sqrt(), "{up}");
    let branch = sde.branches(5.0)[2];
    let far = side.iter().map(|v| v.abs()).sum::<f64>() / 4000.0;
    // The branch moves on while the path follows it, so it lags a little.
    assert!((far / branch - 1.0).abs() < 0.06, "{far} {branch}");
    let tilted = zoo::Bifurcation { tilt: 0.3, ..sde };
    let x = end_of(&tilted, Scheme::Euler, &filled(1000, 2, 0.0), 2, 5.0, 0.02);
    assert!(x.iter().skip(1).step_by(2).filter(|&&v| v > 0.0).count() > 900);
}

#[test]
fn toggle_switch_and_lorenz() {
    let at = At {
        t: 0.0,
        step: 0,
        stage: 0,
    };
    let sde = zoo::ToggleSwitch::new(4.0, 0.1);
    let (on, off) = sde.stable_levels().unwrap();
    assert!((on - 3.732).abs() < 1e-3 && (off - 0.268).abs() < 1e-3);
    let saddle = sde.saddle_level();
    let rest = matrix(3, 2, |i, j| [[on, off], [off, on], [saddle, saddle]][i][j]);
    let drift = flat(&sde.drift(at, &rest).unwrap());
    assert!(drift.iter().all(|f| f.abs() < 1e-12), "{drift:?}");
    assert_eq!(zoo::ToggleSwitch::new(1.5, 0.1).stable_levels(), None);
    // With little noise a cell stays with the gene that was ahead.
    let start = matrix(200, 2, |i, j| if (i + j) % 2 == 0 { 2.0 } else { 1.0 });
    let x = end_of(&sde, Scheme::Milstein, &start, 2, 10.0, 0.05);
    for (i, state) in x.chunks(2).enumerate() {
        assert!((state[i % 2] - on).abs() < 1.2, "{state:?}");
    }
    assert!(sde.drift(at, &filled(1, 3, 0.0)).is_err());

    // Lorenz: the trace of the Jacobian, by differences; and without noise the Stratonovich schemes agree.
    let lorenz = zoo::Lorenz::new(0.0);
    let y = [1.0, 2.0, 20.0];
    let trace: f64 = (0..3)
        .map(|i| {
            let moved = |by: f64| {
                let mut y = y;
                y[i] += by;
                flat(&lorenz.drift(at, &matrix(1, 3, |_, j| y[j])).unwrap())[i]
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        })
        .sum();
    assert!((trace - lorenz.divergence()).abs() < 1e-6);
    let start = matrix(1, 3, |_, j| y[j]);
    let read = ReadAs(Calculus::Stratonovich, lorenz);
    let heun = end_of(&read, Scheme::Heun, &start, 3, 0.5, 1e-3);
    let midpoint = end_of(&read, Scheme::Midpoint, &start, 3, 0.5, 1e-3);
    for (h, m) in heun.iter().zip(&midpoint) {
        assert!((h - m).abs() < 1e-3, "{heun:?} {midpoint:?}");
    }
}
