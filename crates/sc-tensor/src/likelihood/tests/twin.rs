//! The fused kernel against its composed twin and against finite differences.

use super::*;

fn row_modes() -> [DispersionRows; 3] {
    let index: Arc<[u32]> = vec![1, 0, 1].into();
    [
        DispersionRows::Shared,
        DispersionRows::PerCell,
        DispersionRows::Index(index),
    ]
}

fn all_cases(mut f: impl FnMut(&Case)) {
    let mut seed = 0;
    for family in FAMILIES {
        for mean in 0..3 {
            for rows in row_modes() {
                for (copies, g) in [(1, 1), (2, 37), (1, 300)] {
                    seed += 1;
                    f(&Case::new(family, mean, rows.clone(), copies, g, seed));
                }
            }
        }
    }
}

fn describe(case: &Case) -> String {
    format!(
        "{:?} mean {} {:?} {}x{}",
        case.family, case.mean, case.rows, case.n, case.g
    )
}

fn compare(case: &Case, weights: &[f64]) {
    let what = describe(case);
    let (ll, grads) = case.run::<f64>(true, weights);
    let (ll_twin, grads_twin) = case.run::<f64>(false, weights);
    assert_close(&ll, &ll_twin, 1e-11, 1e-9, &what);
    for (k, used) in case.used().into_iter().enumerate() {
        assert_eq!(grads[k].is_some(), used, "{what} gradient {k}");
        if let (Some(a), Some(b)) = (&grads[k], &grads_twin[k]) {
            assert_close(a, b, 1e-9, 1e-8, &format!("{what} gradient {k}"));
        }
    }
    // f32 against f64: inputs differ by the rounding to f32, so the scale is that of the terms.
    let (ll32, grads32) = case.run::<f32>(true, weights);
    assert_close(&ll32, &ll, 3e-5, 1e-3, &format!("{what} f32"));
    for k in 0..4 {
        if let (Some(a), Some(b)) = (&grads32[k], &grads[k]) {
            let scale = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            assert_close(
                a,
                b,
                1e-4,
                2e-5 * scale,
                &format!("{what} f32 gradient {k}"),
            );
        }
    }
}

#[test]
fn fused_is_composed() {
    all_cases(|case| compare(case, &vec![-0.25; case.n]));
}

#[test]
fn weights_may_differ_between_cells() {
    all_cases(|case| {
        let weights: Vec<f64> = (0..case.n).map(|i| 1.5 - i as f64).collect();
        compare(case, &weights);
    });
}

#[test]
fn gradients_are_finite_differences() {
    for family in FAMILIES {
        for mean in 0..3 {
            for rows in row_modes() {
                let mut case = Case::new(family, mean, rows, 2, 5, 77);
                // Finite differences of thousands have too few digits.
                case.x = Arc::new(case.x.map(|v| v.min(12.0)));
                case.log_library.iter_mut().for_each(|l| *l *= 0.4);
                if family == Family::Normal {
                    case.log_theta
                        .iter_mut()
                        .for_each(|t| *t = 0.5 + 0.2 * t.abs());
                }
                let t: Vec<Tensor> = case
                    .tensors::<f64>()
                    .iter()
                    .map(Var::as_detached_tensor)
                    .collect();
                let used: Vec<usize> = (0..4).filter(|&k| case.used()[k]).collect();
                let inputs: Vec<Tensor> = used.iter().map(|&k| t[k].clone()).collect();
                let f = |x: &[Tensor]| {
                    let mut all = t.clone();
                    for (&k, x) in used.iter().zip(x) {
                        all[k] = x.clone();
                    }
                    case.log_prob(&all, true)
                };
                crate::gradcheck(f, &inputs, 1e-6, 1e-6)
                    .unwrap_or_else(|e| panic!("{}: {e}", describe(&case)));
            }
        }
    }
}

#[test]
fn extreme_logits() {
    for (family, mean) in FAMILIES.into_iter().flat_map(|f| [(f, 1), (f, 2)]) {
        let mut case = Case::new(family, mean, DispersionRows::Shared, 1, 40, 5);
        case.logits.iter_mut().step_by(3).for_each(|l| *l *= 30.0);
        case.dropout.iter_mut().step_by(5).for_each(|l| *l *= 60.0);
        case.log_theta.iter_mut().step_by(7).for_each(|l| *l *= 3.0);
        let weights = vec![1.0; 3];
        let (ll, grads) = case.run::<f64>(true, &weights);
        let (twin, _) = case.run::<f64>(false, &weights);
        assert_close(&ll, &twin, 1e-9, 1e-5, &format!("{family:?} {mean}"));
        let (ll32, grads32) = case.run::<f32>(true, &weights);
        for v in [&ll, &ll32] {
            assert!(v.iter().all(|v| v.is_finite()), "{family:?} {mean}: {v:?}");
        }
        for (grads, least) in [(&grads, 1e-200), (&grads32, 9.9e-21)] {
            for g in grads.iter().flatten().flatten() {
                assert!(g.is_finite(), "{family:?} {mean}");
                assert!(
                    *g == 0.0 || g.abs() >= least,
                    "a gradient is almost subnormal: {g}"
                );
            }
        }
    }
}

#[test]
fn a_large_dispersion_costs_no_digits_in_f32() {
    let mut case = Case::new(
        Family::NegativeBinomial,
        0,
        DispersionRows::Shared,
        1,
        64,
        9,
    );
    case.x = Arc::new(case.x.map(|v| v.floor().min(50.0)));
    case.log_theta.fill(14.0);
    for v in &mut case.logits {
        *v = f64::from(*v as f32);
    }
    let (exact, _) = case.run::<f64>(true, &[1.0; 3]);
    let (single, _) = case.run::<f32>(true, &[1.0; 3]);
    assert_close(&single, &exact, 1e-6, 1e-5, "theta 1.2e6");
    let mut poisson = Case::new(Family::Poisson, 0, DispersionRows::Shared, 1, 64, 9);
    poisson.x = Arc::clone(&case.x);
    poisson.logits.clone_from(&case.logits);
    case.log_theta.fill(60.0);
    let (limit, _) = poisson.run::<f32>(true, &[1.0; 3]);
    let (single, _) = case.run::<f32>(true, &[1.0; 3]);
    assert_close(&single, &limit, 1e-6, 1e-5, "theta 1e26");
}
