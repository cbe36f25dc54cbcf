use super::*;

const STARTS: [f64; 4] = [0.3, -0.5, 1.1, -0.9];

fn start() -> Tensor {
    matrix(2, 2, |i, j| STARTS[2 * i + j])
}

/// The loss `sum cos(z(0.5)) + sum z(1)^2`, and its gradient in both states.
fn loss(states: &[Tensor]) -> (f64, Vec<Option<Tensor>>) {
    let value = flat(&states[1]).iter().map(|v| v.cos()).sum::<f64>()
        + flat(&states[2]).iter().map(|v| v * v).sum::<f64>();
    let grads = vec![
        None,
        Some(states[1].sin().unwrap().neg().unwrap()),
        Some((&states[2] * 2.0).unwrap()),
    ];
    (value, grads)
}

fn calculi(scheme: Scheme) -> Vec<Calculus> {
    let both = [Calculus::Ito, Calculus::Stratonovich];
    both.into_iter()
        .filter(|&c| scheme.check(Noise::Diagonal, c).is_ok())
        .collect()
}

/// Every scheme: kept graphs, solved again piece by piece (with the same bits), and central differences.
#[test]
fn every_scheme_goes_back_exactly() -> Result<()> {
    let schedule = Schedule::grid(&[0.0, 0.5, 1.0], 0.05)?;
    let path = BrownianPath::new(3, 2, 2, 0.0, 0.05)?;
    for scheme in Scheme::ALL {
        for calculus in calculi(scheme) {
            let sde = Wave::new(calculus);
            let value = |start: &Tensor| {
                let solve = Solve::new(&sde, scheme, &path, &schedule);
                loss(&solve.run(start).unwrap()).0
            };
            let gradients = |keep: usize, segment: usize| -> Result<Gradients> {
                let solve = Solve::new(&sde, scheme, &path, &schedule)
                    .keep_graphs_of(keep)
                    .segment(segment);
                let solution = solve.with_gradients(&start())?;
                let (_, of_states) = loss(solution.states());
                solution.backward(&of_states)
            };
            let (kept, again) = (gradients(1000, 3)?, gradients(0, 3)?);
            assert_eq!(flat(&kept.start), flat(&again.start));
            let whole = gradients(1000, 1000)?;
            for (i, (&found, whole)) in flat(&kept.start).iter().zip(flat(&whole.start)).enumerate()
            {
                assert!((found - whole).abs() < 1e-12);
                let at = |by: f64| {
                    let mut moved = STARTS;
                    moved[i] += by;
                    value(&matrix(2, 2, |r, c| moved[2 * r + c]))
                };
                let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!(
                    (found - numeric).abs() < 1e-7,
                    "{scheme:?} {found} {numeric}"
                );
            }
            for (k, var) in [&sde.a, &sde.b].into_iter().enumerate() {
                assert_eq!(flat(&kept.parameters[k]), flat(&again.parameters[k]));
                let found = flat(&kept.parameters[k])[0];
                let before = var.to_scalar::<f64>()?;
                let at = |by: f64| {
                    var.set(&Tensor::new(before + by, &Device::Cpu).unwrap())
                        .unwrap();
                    value(&start())
                };
                let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
                at(0.0);
                assert!(
                    (found - numeric).abs() < 1e-7,
                    "{scheme:?} {found} {numeric}"
                );
            }
        }
    }
    Ok(())
}

/// The adjoint's gradient is that of the equation: it comes nearer to the scheme's as the step shrinks.
#[test]
fn the_stochastic_adjoint_converges_to_it() -> Result<()> {
    for (scheme, calculus) in [
        (Scheme::Milstein, Calculus::Ito),
        (Scheme::Heun, Calculus::Stratonovich),
    ] {
        let sde = Wave::new(calculus);
        let path = BrownianPath::new(3, 2, 2, 0.0, 0.5f64.powi(10))?;
        let off = |k: i32| -> Result<f64> {
            let schedule = Schedule::grid(&[0.0, 0.5, 1.0], 0.5f64.powi(k))?;
            let solve = Solve::new(&sde, scheme, &path, &schedule);
            let states = solve.run(&start())?;
            let (_, of_states) = loss(&states);
            let adjoint = stochastic_adjoint(&solve, &states, &of_states)?;
            let exact = solve.with_gradients(&start())?.backward(&of_states)?;
            let all = |g: &Gradients| {
                let parts = std::iter::once(&g.start).chain(&g.parameters);
                parts.flat_map(flat).collect::<Vec<_>>()
            };
            let (a, e) = (all(&adjoint), all(&exact));
            let size = e.iter().map(|v| v * v).sum::<f64>().sqrt();
            let off = a.iter().zip(&e).map(|(a, e)| (a - e).powi(2)).sum::<f64>();
            Ok(off.sqrt() / size)
        };
        let (coarse, fine) = (off(4)?, off(9)?);
        // Half the order would be a factor of 5.7 over five halvings.
        assert!(
            fine < 0.01 && fine < coarse / 5.0,
            "{scheme:?} {coarse} {fine}"
        );
    }
    Ok(())
}

/// 10,000 steps and their gradient in a stack of 2 MiB, for the deepest graph of a step too.
#[test]
fn long_paths_need_no_deep_stack() {
    let run = || -> Result<()> {
        for (scheme, keep) in [
            (Scheme::Euler, 0),
            (Scheme::Euler, usize::MAX),
            (Scheme::Srk, 0),
            (Scheme::Srk, usize::MAX),
        ] {
            let sde = Wave::new(Calculus::Ito);
            let path = BrownianPath::new(3, 1, 2, 0.0, 0.01)?;
            let schedule = Schedule::grid(&[0.0, 100.0], 0.01)?;
            assert_eq!(schedule.steps().len(), 10_000);
            let solve = Solve::new(&sde, scheme, &path, &schedule).keep_graphs_of(keep);
            let solution = solve.with_gradients(&filled(1, 2, 0.5))?;
            let by = vec![None, Some(filled(1, 2, 1.0))];
            let found = solution.backward(&by)?;
            let all = std::iter::once(&found.start).chain(&found.parameters);
            assert!(all.flat_map(flat).all(f64::is_finite));
            assert!(flat(&found.parameters[0])[0] != 0.0);
        }
        Ok(())
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(run).unwrap().join().unwrap().unwrap();
}

#[test]
fn gradients_of_states_must_fit() -> Result<()> {
    let sde = Wave::new(Calculus::Ito);
    let path = BrownianPath::new(3, 2, 2, 0.0, 0.1)?;
    let schedule = Schedule::grid(&[0.0, 1.0], 0.1)?;
    let solve = Solve::new(&sde, Scheme::Euler, &path, &schedule);
    let solution = || solve.with_gradients(&start());
    assert!(solution()?.backward(&[None]).is_err());
    assert!(
        solution()?
            .backward(&[None, Some(filled(1, 2, 1.0))])
            .is_err()
    );
    let none = solution()?.backward(&[None, None])?;
    assert_eq!(flat(&none.start), [0.0; 4]);
    assert_eq!(flat(&none.parameters[0]), [0.0]);
    let first = solution()?.backward(&[Some(start()), None])?;
    assert_eq!(flat(&first.start), STARTS);
    Ok(())
}

/// A training loop is given a loss whose gradient is the one computed.
#[test]
fn a_loss_carries_the_gradients() -> Result<()> {
    let sde = Wave::new(Calculus::Ito);
    let path = BrownianPath::new(3, 2, 2, 0.0, 0.1)?;
    let schedule = Schedule::grid(&[0.0, 0.5, 1.0], 0.1)?;
    let solution = Solve::new(&sde, Scheme::Euler, &path, &schedule).with_gradients(&start())?;
    let (value, of_states) = loss(solution.states());
    let gradients = solution.backward(&of_states)?;
    let total = gradients.as_loss(value, &sde.parameters())?;
    assert_eq!(total.to_scalar::<f64>()?, value);
    let grads = sc_tensor::backward(&total)?;
    for (p, expected) in sde.parameters().iter().zip(&gradients.parameters) {
        assert_eq!(flat(grads.get(p).unwrap()), flat(expected));
    }
    Ok(())
}
