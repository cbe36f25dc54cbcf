//! Orders of convergence, strong ones on one Brownian path seen at several step sizes.
//!
//! Bounds: over five halvings the slope of 4,000 paths' mean error has a standard error near 0.02; the schemes' own higher
//! terms bend it by up to 0.1.

use std::sync::OnceLock;

use super::*;

const PATHS: usize = 4000;
const COARSEST: u32 = 3;
const FINEST: u32 = 8;

/// The same paths over a unit of time in 2^3 to 2^8 steps: increments and areas of the finest from a [`BrownianPath`], those
/// of the others put together from their halves.
fn levels() -> &'static [GivenIncrements] {
    static LEVELS: OnceLock<Vec<GivenIncrements>> = OnceLock::new();
    LEVELS.get_or_init(|| {
        let schedule = Schedule::grid(&[0.0, 1.0], 0.5f64.powi(FINEST as i32)).unwrap();
        let path = BrownianPath::new(2026, PATHS, 1, 0.0, 0.5f64.powi(FINEST as i32)).unwrap();
        let mut steps: Vec<(Tensor, Tensor)> = schedule
            .steps()
            .iter()
            .map(|&s| path.increment(s, true, DType::F64, &Device::Cpu).unwrap())
            .map(|i| (i.w, i.area.unwrap()))
            .collect();
        let mut levels = Vec::new();
        for k in (COARSEST..=FINEST).rev() {
            let (w, area) = steps.iter().cloned().unzip();
            levels.push(GivenIncrements::new(w).unwrap().with_area(area).unwrap());
            let h = 0.5f64.powi(k as i32);
            let join = |pair: &[(Tensor, Tensor)]| {
                let ((w1, u1), (w2, u2)) = (&pair[0], &pair[1]);
                let u = (((u1 + u2).unwrap()) + (w1 * h).unwrap()).unwrap();
                ((w1 + w2).unwrap(), u)
            };
            steps = steps.chunks_exact(2).map(join).collect();
        }
        levels.reverse();
        levels
    })
}

/// The slope of `log error` over `log h` for `h` of 2^-3 to 2^-8, and the smallest error.
fn strong_slope(
    sde: &dyn Sde,
    scheme: Scheme,
    start: f64,
    exact: impl Fn(f64) -> f64,
) -> (f64, f64) {
    let whole = |motion: &GivenIncrements| {
        let mut w = vec![0.0; PATHS];
        for index in 0..1 << COARSEST {
            let step = Interval {
                index,
                start: 0.0,
                end: 0.0,
            };
            let i = motion.increment(step, false, DType::F64, &Device::Cpu);
            for (w, i) in w.iter_mut().zip(flat(&i.unwrap().w)) {
                *w += i;
            }
        }
        w
    };
    let exact: Vec<f64> = whole(&levels()[0]).into_iter().map(exact).collect();
    let error = |k: u32| {
        let schedule = Schedule::grid(&[0.0, 1.0], 0.5f64.powi(k as i32)).unwrap();
        let motion = &levels()[(k - COARSEST) as usize];
        let solve = Solve::new(sde, scheme, motion, &schedule);
        let end = solve.run(&filled(PATHS, 1, start)).unwrap();
        let off = flat(&end[1])
            .into_iter()
            .zip(&exact)
            .map(|(f, e)| (f - e).abs());
        off.sum::<f64>() / PATHS as f64
    };
    let points: Vec<(f64, f64)> = (COARSEST..=FINEST)
        .map(|k| (-f64::from(k), error(k).log2()))
        .collect();
    let n = points.len() as f64;
    let (mx, my) = points
        .iter()
        .fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let cross: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let square: f64 = points.iter().map(|(x, _)| (x - mx).powi(2)).sum();
    (cross / square, points.last().unwrap().1.exp2())
}

#[allow(
    clippy::print_stdout,
    reason = "the slopes that docs show: cargo test -- --nocapture"
)]
fn assert_order(name: &str, (slope, error): (f64, f64), order: f64, margin: f64) {
    println!("{name}: slope {slope:.3}, error {error:.2e} in steps of 2^-{FINEST}");
    assert!(
        (slope - order).abs() < margin,
        "{name}: {slope}, not {order}"
    );
}

#[test]
fn strong_orders_for_ito_equations() {
    let arctan = zoo::Arctan::new(0.8);
    let brownian = zoo::GeometricBrownian::new(0.5, 0.6);
    for (scheme, order, margin) in [
        (Scheme::Euler, 0.5, 0.12),
        (Scheme::Milstein, 1.0, 0.12),
        (Scheme::MilsteinGradFree, 1.0, 0.12),
        (Scheme::Srk, 1.5, 0.2),
    ] {
        let found = strong_slope(&arctan, scheme, 0.4, |w| arctan.exact(0.4, w));
        assert_order(&format!("arctan {scheme:?}"), found, order, margin);
        let found = strong_slope(&brownian, scheme, 1.0, |w| brownian.exact(1.0, 1.0, w));
        assert_order(&format!("brownian {scheme:?}"), found, order, margin);
    }
}

/// Read in Stratonovich's way, `dX = a X dt + b X o dB` is `x0 exp(a t + b W)`.
#[test]
fn strong_orders_for_stratonovich_equations() {
    let sde = ReadAs(
        Calculus::Stratonovich,
        zoo::GeometricBrownian::new(0.3, 0.6),
    );
    let exact = |w: f64| (0.3 + 0.6 * w).exp();
    for scheme in [
        Scheme::EulerHeun,
        Scheme::Heun,
        Scheme::Midpoint,
        Scheme::Milstein,
        Scheme::MilsteinGradFree,
    ] {
        let found = strong_slope(&sde, scheme, 1.0, exact);
        assert_order(&format!("{scheme:?}"), found, 1.0, 0.12);
    }
    // Its order is at least 1/2.
    let (slope, error) = strong_slope(&sde, Scheme::ReversibleHeun, 1.0, exact);
    assert!(slope > 0.4 && error < 0.05, "{slope} {error}");
}

/// With additive noise Euler's scheme has the strong order 1. The solution of `dX = -X dt + s dB` isn't a function of `B(1)`
/// alone, so the finest path stands for it.
#[test]
fn euler_is_of_order_one_for_additive_noise() {
    let sde = zoo::OrnsteinUhlenbeck::new(1.0, 0.0, 0.7);
    let width = 0.5f64.powi(9);
    let path = BrownianPath::new(5, 1000, 1, 0.0, width).unwrap();
    let at = |scheme: Scheme, k: i32| {
        let schedule = Schedule::grid(&[0.0, 1.0], 0.5f64.powi(k)).unwrap();
        let solve = Solve::new(&sde, scheme, &path, &schedule);
        flat(&solve.run(&filled(1000, 1, 1.0)).unwrap()[1])
    };
    let exact = at(Scheme::Srk, 9);
    let error = |k: i32| {
        let off = at(Scheme::Euler, k)
            .into_iter()
            .zip(&exact)
            .map(|(f, e)| (f - e).abs());
        off.sum::<f64>() / 1000.0
    };
    let slope = (error(3) / error(7)).log2() / 4.0;
    assert!((slope - 1.0).abs() < 0.1, "{slope}");
}

/// Weak order 1: the moments of Euler's chain are known exactly, and approach those of the equation by half for half the
/// step. No random number is involved.
#[test]
fn the_weak_order_of_euler_is_one() {
    let sde = zoo::GeometricBrownian::new(0.5, 0.4);
    let (mean, second) = sde.moments(1.0, 1.0);
    let off = |n: i32| {
        let (m, s) = sde.euler_moments(1.0, 1.0 / f64::from(n), n);
        ((m - mean).abs(), (s - second).abs())
    };
    for n in [32, 64, 128] {
        let (coarse, fine) = (off(n), off(2 * n));
        assert!(((coarse.0 / fine.0).log2() - 1.0).abs() < 0.02);
        assert!(((coarse.1 / fine.1).log2() - 1.0).abs() < 0.04);
    }
    // Richardson's extrapolation takes the first term away.
    let of = |n: i32| sde.euler_moments(1.0, 1.0 / f64::from(n), n).0;
    let off = |n: i32| (2.0 * of(2 * n) - of(n) - mean).abs();
    assert!(((off(16) / off(32)).log2() - 2.0).abs() < 0.06);
}
