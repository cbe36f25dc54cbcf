use candle_core::{DType, Device};

use super::*;
use crate::model::{DiffusionKind, ScDiffEq};
use crate::nets::NetConfig;
use crate::solve::zoo::{DoubleWell, OrnsteinUhlenbeck};

fn starts(n: usize, d: usize) -> Tensor {
    let mut stream = Rng::new(5).stream("starts");
    stream.normal((n, d), DType::F32, &Device::Cpu).unwrap()
}

/// All states of some cells of a model as wide as the default one, cells and copies being numbered as in a larger set.
fn bits(start: &Tensor, cells: Option<Vec<u64>>, copies: usize) -> Vec<f32> {
    let params = ScDiffEq::params(50).check().unwrap();
    let model = params.init(&Device::Cpu, 2).unwrap();
    let equation = model.equation(&sc_model::Mode::eval()).unwrap();
    let mut simulation = Simulation::new(&equation, &[2.0, 2.2, 2.5], 0.1).unwrap();
    simulation = simulation.copies(copies).seed(9);
    if let Some(cells) = cells {
        simulation = simulation.cells(cells);
    }
    let mut all = Vec::new();
    simulation
        .run(start, |batch| {
            for i in 0..batch.paths().len() {
                for k in 0..3 {
                    all.extend(batch.at(k)?.get(i)?.to_vec1::<f32>()?);
                }
            }
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn a_path_depends_on_its_cell_and_copy_only() {
    let start = starts(400, 50);
    let all = bits(&start, None, 3);
    for (from, to) in [(0, 1), (17, 100), (341, 400)] {
        let some = start.narrow(0, from, to - from).unwrap();
        let numbers = (from as u64..to as u64).collect();
        let found = bits(&some, Some(numbers), 3);
        let of = |cell: usize| cell * 3 * 3 * 50;
        assert!(found == all[of(from)..of(to)], "{from} to {to}");
    }
    // The first of three copies is the only one of one.
    let single = bits(&start.narrow(0, 0, 1).unwrap(), None, 1);
    assert!(single == all[..single.len()]);
}

#[test]
fn nor_on_the_threads() {
    let start = starts(700, 50);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| bits(&start, None, 2))
    };
    let one = on(1);
    assert!(one == on(2) && one == on(5));
}

#[test]
fn copies_are_numbered_and_differ() {
    let sde = OrnsteinUhlenbeck::new(1.0, 0.0, 0.5);
    let start = starts(3, 2).to_dtype(DType::F64).unwrap();
    let simulation = Simulation::new(&sde, &[0.0, 1.0], 0.1).unwrap().copies(4);
    let mut seen = Vec::new();
    simulation
        .run(&start, |b| {
            seen.extend((0..b.paths().len()).map(|i| b.path(i)));
            Ok(())
        })
        .unwrap();
    let expected: Vec<_> = (0..3).flat_map(|c| (0..4).map(move |k| (c, k))).collect();
    assert_eq!(seen, expected);
    let ends = simulation.ends(&start).unwrap();
    assert_eq!(ends.dim(), (12, 2));
    assert_ne!(ends.row(0), ends.row(1));
    let populations = simulation.populations(&start).unwrap();
    assert_eq!(populations[1], ends);
    assert_eq!(populations[0].row(5), populations[0].row(4));
}

/// Means and variances of many paths of Euler's chain are those that are known.
#[test]
fn the_population_has_the_known_moments() {
    let sde = OrnsteinUhlenbeck::new(0.8, 1.0, 0.6);
    let start = Tensor::full(3.0, (5000, 1), &Device::Cpu).unwrap();
    let simulation = Simulation::new(&sde, &[0.0, 1.0], 0.1).unwrap();
    let ends = simulation.copies(4).ends(&start).unwrap();
    let n = ends.len() as f64;
    let mean = ends.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = ends.iter().map(|&v| (f64::from(v) - mean).powi(2));
    let variance = variance.sum::<f64>() / (n - 1.0);
    let shrink = 0.92f64.powi(10);
    let exact = 0.036 * (1.0 - shrink * shrink) / (1.0 - 0.92 * 0.92);
    assert!((mean - 1.0 - 2.0 * shrink).abs() < 0.02, "{mean}");
    assert!((variance / exact - 1.0).abs() < 0.05, "{variance} {exact}");
}

#[test]
fn what_goes_wrong_names_the_cell() {
    let sde = DoubleWell::new(1.0, 0.1);
    let mut values = vec![0.5; 600];
    values[451] = 1e120;
    let start = Tensor::from_vec(values.clone(), (600, 1), &Device::Cpu).unwrap();
    let simulation = Simulation::new(&sde, &[0.0, 1.0], 0.1).unwrap().copies(5);
    match simulation.ends(&start).unwrap_err() {
        Error::Diverged {
            cell, step, norm, ..
        } => assert_eq!((cell, step, norm), (451, 0, 1e120)),
        e => panic!("{e}"),
    }
    values[451] = f64::NAN;
    let start = Tensor::from_vec(values, (600, 1), &Device::Cpu).unwrap();
    let e = simulation.ends(&start).unwrap_err().to_string();
    assert!(e.contains("row 451"), "{e}");
}

#[test]
fn bad_settings_are_refused() {
    let sde = DoubleWell::new(1.0, 0.5);
    let start = Tensor::zeros((2, 1), DType::F64, &Device::Cpu).unwrap();
    let simulation = Simulation::new(&sde, &[0.0, 1.0], 0.1).unwrap();
    assert!(simulation.clone().copies(0).ends(&start).is_err());
    assert!(simulation.clone().cells(vec![1]).ends(&start).is_err());
    assert!(
        simulation
            .clone()
            .cells(vec![1, 1 << 40])
            .ends(&start)
            .is_err()
    );
    let empty = Tensor::zeros((0, 1), DType::F64, &Device::Cpu).unwrap();
    assert!(simulation.ends(&empty).is_err());
    assert!(Simulation::new(&sde, &[0.0], 0.1).is_err());
}

/// General noise has as many Brownian motions as its diffusion has columns.
#[test]
fn any_noise_is_simulated() {
    let start = starts(10, 3);
    for diffusion in [
        DiffusionKind::None,
        DiffusionKind::Diagonal,
        DiffusionKind::General { brownian_dim: 2 },
        DiffusionKind::LowRank { rank: 2 },
        DiffusionKind::Isotropic { sigma: 0.3 },
    ] {
        let params = ScDiffEq::params(3).mu(NetConfig::new([8]));
        let params = params.diffusion(diffusion).check().unwrap();
        let model = params.init(&Device::Cpu, 0).unwrap();
        let equation = model.equation(&sc_model::Mode::eval()).unwrap();
        let simulation = Simulation::new(&equation, &[0.0, 0.5], 0.1).unwrap();
        assert_eq!(simulation.ends(&start).unwrap().dim(), (10, 3));
    }
}
