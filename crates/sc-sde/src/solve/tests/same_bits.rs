use super::*;

/// The bits of a path, for cells with these numbers.
fn path_of(cells: &[u64], starts: &[f64]) -> Vec<f64> {
    let sde = Wave::new(Calculus::Ito);
    let rng = sc_tensor::Rng::new(4);
    let path = BrownianPath::of_cells(&rng, cells.to_vec(), 2, 0.0, 0.1).unwrap();
    let schedule = Schedule::grid(&[0.0, 1.0], 0.1).unwrap();
    let start = matrix(cells.len(), 2, |i, j| starts[i] + 0.1 * j as f64);
    let solve = Solve::new(&sde, Scheme::Srk, &path, &schedule);
    flat(&solve.run(&start).unwrap()[1])
}

#[test]
fn a_path_does_not_depend_on_the_batch() {
    let cells: Vec<u64> = (0..500).collect();
    let starts: Vec<f64> = cells.iter().map(|&c| (c as f64 * 0.7).sin()).collect();
    let all = path_of(&cells, &starts);
    for (from, to) in [(0, 1), (17, 130), (499, 500)] {
        let some = path_of(&cells[from..to], &starts[from..to]);
        assert_eq!(some, all[2 * from..2 * to]);
    }
}

#[test]
fn nor_on_the_threads() {
    let cells: Vec<u64> = (0..20_000).collect();
    let starts = vec![0.3; cells.len()];
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| path_of(&cells, &starts))
    };
    assert_eq!(on(1), on(3));
}

/// A step within the last step ends where the solver would have been, and linear interpolation in between its ends.
#[test]
fn dense_output_is_on_the_path() {
    let sde = zoo::GeometricBrownian::new(0.4, 0.5);
    let path = BrownianPath::new(8, 100, 1, 0.0, 0.1).unwrap();
    let solver_at = |steps: &[f64]| {
        let mut solver = Solver::new(&sde, Scheme::Srk, &path, 0.0, filled(100, 1, 1.0)).unwrap();
        for &t in steps {
            solver.step_to(t).unwrap();
        }
        solver
    };
    let dense = solver_at(&[0.1, 0.2, 0.3]);
    let stopped = solver_at(&[0.1, 0.2, 0.263]);
    assert_eq!(flat(&dense.at(0.263).unwrap()), flat(&stopped.state().y));
    assert_eq!(flat(&dense.at(0.3).unwrap()), flat(&dense.state().y));
    // It is near the known path at that time.
    let step = Interval {
        index: 0,
        start: 0.0,
        end: 0.263,
    };
    let w = path
        .increment(step, false, DType::F64, &Device::Cpu)
        .unwrap()
        .w;
    let at = dense.at(0.263).unwrap();
    for (found, w) in flat(&at).into_iter().zip(flat(&w)) {
        assert!((found - sde.exact(1.0, 0.263, w)).abs() < 0.01);
    }
    let middle = flat(&dense.interpolate(0.25).unwrap());
    let (a, b) = (flat(&dense.before().unwrap().y), flat(&dense.state().y));
    for i in 0..middle.len() {
        assert!((middle[i] - 0.5 * (a[i] + b[i])).abs() < 1e-12);
    }
}
