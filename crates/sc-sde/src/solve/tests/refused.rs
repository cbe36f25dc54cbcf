use super::*;
use crate::Error;

/// `dX = X^2 dt + dB`: explodes.
struct Explosive;

impl Sde for Explosive {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y.sqr()? * 50.0)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(y.zeros_like()?)
    }
}

#[test]
fn a_diverging_path_says_when_and_how_far() {
    let path = BrownianPath::new(0, 2, 1, 0.0, 0.1).unwrap();
    let schedule = Schedule::grid(&[0.0, 3.0], 0.1).unwrap();
    let solve = Solve::new(&Explosive, Scheme::Euler, &path, &schedule);
    let start = matrix(2, 1, |i, _| [0.0, 1.0][i]);
    let errors = [
        solve.run(&start).unwrap_err(),
        solve.with_gradients(&start).err().unwrap(),
    ];
    for error in errors {
        let text = error.to_string();
        let Error::Diverged {
            time,
            step,
            cell,
            norm,
        } = error
        else {
            panic!("{text}");
        };
        assert_eq!(cell, 1);
        assert!(norm.is_finite() && norm > 1e10, "{norm}");
        assert!((time - 0.1 * step as f64).abs() < 1e-9);
        assert!(text.contains("smaller dt"), "{text}");
    }
}

#[test]
fn starts_that_cannot_be_are_refused() {
    let sde = Wave::new(Calculus::Ito);
    let path = BrownianPath::new(0, 2, 2, 0.0, 0.1).unwrap();
    let schedule = Schedule::grid(&[0.0, 1.0], 0.1).unwrap();
    let solve = Solve::new(&sde, Scheme::Euler, &path, &schedule);
    let bad = matrix(2, 2, |i, j| if (i, j) == (1, 0) { f64::NAN } else { 0.0 });
    match solve.run(&bad).unwrap_err() {
        Error::NotFinite { row, column, .. } => assert_eq!((row, column), (1, 0)),
        other => panic!("{other}"),
    }
    let refused = |start: &Tensor, why: &str| {
        let error = solve.run(start).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&filled(3, 2, 0.0), "one row for each of the 3 cells");
    refused(&filled(0, 2, 0.0), "empty");
    refused(
        &filled(2, 2, 0.0).flatten_all().unwrap(),
        "[cells, dimensions]",
    );
    // One motion too few for diagonal noise.
    refused(&filled(2, 3, 0.0), "expected [2, 3]");
}

#[test]
fn schemes_that_do_not_fit_are_refused() {
    let says = |scheme: Scheme, noise: Noise, calculus: Calculus, why: &str| {
        let error = scheme.check(noise, calculus).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    says(Scheme::Heun, Noise::Diagonal, Calculus::Ito, "Stratonovich");
    says(Scheme::Euler, Noise::General, Calculus::Stratonovich, "Ito");
    says(Scheme::Srk, Noise::General, Calculus::Ito, "Euler");
    says(
        Scheme::Milstein,
        Noise::Coordinatewise,
        Calculus::Ito,
        "Euler",
    );
    for scheme in Scheme::ALL {
        scheme.check(Noise::Additive, Calculus::Ito).unwrap();
        scheme.check(Noise::Absent, Calculus::Stratonovich).unwrap();
    }
}

#[test]
fn what_is_not_there_is_named() {
    let sde = Wave::new(Calculus::Ito);
    let schedule = Schedule::grid(&[0.0, 1.0], 0.25).unwrap();
    let given = GivenIncrements::new(vec![filled(1, 2, 0.1); 2]).unwrap();
    let run = |scheme: Scheme| {
        let solve = Solve::new(&sde, scheme, &given, &schedule);
        solve.run(&filled(1, 2, 0.1)).unwrap_err().to_string()
    };
    assert!(run(Scheme::Euler).contains("step 2"));
    assert!(run(Scheme::Srk).contains("areas"));
    assert!(GivenIncrements::new(vec![filled(1, 2, 0.1), filled(2, 2, 0.1)]).is_err());
    let path = BrownianPath::new(0, 1, 1, 0.0, 0.1).unwrap();
    let milstein = Solve::new(&Explosive, Scheme::Milstein, &path, &schedule);
    let error = milstein.run(&filled(1, 1, 0.1)).unwrap_err().to_string();
    assert!(error.contains("MilsteinGradFree"), "{error}");
}

#[test]
fn a_solver_goes_forward_only() {
    let sde = Wave::new(Calculus::Ito);
    let path = BrownianPath::new(0, 1, 2, 0.0, 0.1).unwrap();
    let mut solver = Solver::new(&sde, Scheme::Euler, &path, 0.0, filled(1, 2, 0.1)).unwrap();
    assert!(solver.at(0.1).is_err());
    for h in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(solver.step(h).is_err());
    }
    solver.step(0.1).unwrap();
    assert!(solver.step_to(0.05).is_err());
    assert!(solver.at(0.2).is_err());
    assert!(solver.interpolate(-0.1).is_err());
}
