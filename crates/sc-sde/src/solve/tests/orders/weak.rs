//! Weak orders: how far means are from known ones, to rounding. A step is taken for all values that its increment can have, on a
//! fine grid, and weighed by their probability; no random number is involved.
//!
//! The trapezoidal rule does that for normal numbers: for smooth functions it errs by about exp(-2 pi^2 / spacing^2), here e-35.
//!
//! Roessler's supporting values lie off by the root of the step, so that half powers of it are left in mean errors: his scheme for
//! noise that isn't additive is of the weak order 1.5, not 2.

use super::*;
use crate::solve::scheme::{Memory, Step};

/// `dX = -X dt + 0.7 dB`, whose noise is additive.
pub(super) struct Relaxing;

impl Sde for Relaxing {
    fn noise(&self) -> Noise {
        Noise::Additive
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(y.neg()?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(y.zeros_like()?.affine(0.0, 0.7)?.unsqueeze(2)?)
    }
}

const HALVINGS: RangeInclusive<u32> = 5..=10;

/// `X = arctan Y` of `dY = -k Y dt + s dB`: neither drift nor diffusion is linear, both repeat themselves every pi, and the law is
/// known. In Stratonovich's calculus `dX = -k sin X cos X dt + s cos^2 X o dB`; Ito's has the drift `-s^2 sin X cos^3 X` more.
pub(super) struct Wrapped {
    pub(super) k: f64,
    pub(super) s: f64,
    pub(super) calculus: Calculus,
}

impl Sde for Wrapped {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn calculus(&self) -> Calculus {
        self.calculus
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let (sin, cos) = (y.sin()?, y.cos()?);
        let ito = match self.calculus {
            Calculus::Ito => self.s * self.s,
            Calculus::Stratonovich => 0.0,
        };
        let rate = cos.sqr()?.affine(-ito, -self.k)?;
        Ok(((sin * cos)? * rate)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y.cos()?.sqr()? * self.s)?)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok(((y.cos()? * y.sin()?)? * (direction * (-2.0 * self.s))?)?)
    }
}

/// Standard normal numbers and their probabilities.
fn normal(spacing: f64) -> Vec<(f64, f64)> {
    let n = (9.0 / spacing) as i32;
    let root = std::f64::consts::TAU.sqrt();
    (-n..=n)
        .map(|k| spacing * f64::from(k))
        .map(|z| (z, spacing * (-0.5 * z * z).exp() / root))
        .collect()
}

/// All values of the increment and the area of a step, with their probabilities.
struct Increments {
    w: Vec<f64>,
    area: Vec<f64>,
    probability: Vec<f64>,
}

impl Increments {
    fn of(scheme: Scheme, h: f64) -> Self {
        let of_area = match scheme.needs_area() {
            true => normal(0.5),
            false => vec![(0.0, 1.0)],
        };
        let (mut w, mut area, mut probability) = (Vec::new(), Vec::new(), Vec::new());
        for (z, p) in normal(0.5) {
            for &(y, q) in &of_area {
                w.push(h.sqrt() * z);
                area.push(h * (0.5 * h.sqrt() * z + (h / 12.0).sqrt() * y));
                probability.push(p * q);
            }
        }
        Self {
            w,
            area,
            probability,
        }
    }
}

/// Where a step of `h` leads from each start with each increment: the states, and the second states of schemes that have them.
fn step(
    sde: &dyn Sde,
    scheme: Scheme,
    h: f64,
    starts: &[(f64, f64)],
    increments: &Increments,
) -> Vec<(f64, f64)> {
    let (n, m) = (starts.len(), increments.w.len());
    let interval = halved(0).steps()[0];
    let interval = Interval { end: h, ..interval };
    let every = |of: &[f64]| matrix(n * m, 1, |i, _| of[i % m]);
    let increment = Increment {
        w: every(&increments.w),
        area: Some(every(&increments.area)),
    };
    let at = At {
        t: 0.0,
        step: 0,
        stage: 0,
    };
    let z = matrix(n * m, 1, |i, _| starts[i / m].1);
    let state = State {
        memory: Some(Memory {
            f: sde.drift(at, &z).unwrap(),
            g: sde.diffusion(at, &z).unwrap(),
            z,
        }),
        ..State::start(0.0, matrix(n * m, 1, |i, _| starts[i / m].0))
    };
    let next = Step::new(sde, interval, &increment)
        .take(scheme, &state)
        .unwrap();
    let second = next.memory.map_or_else(|| next.y.clone(), |m| m.z);
    flat(&next.y).into_iter().zip(flat(&second)).collect()
}

/// Mean and mean square after a unit of time in steps of `h`, from 1, of a linear equation. A step maps the state, the second
/// state and 1 linearly, `s -> M s`; so `E s s^T -> E M (E s s^T) M^T`.
fn moments_of_linear(sde: &dyn Sde, scheme: Scheme, h: f64) -> (f64, f64) {
    let increments = Increments::of(scheme, h);
    let m = increments.w.len();
    let ends = step(
        sde,
        scheme,
        h,
        &[(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)],
        &increments,
    );
    let map = |q: usize| {
        let (y, z, rest) = (ends[q], ends[m + q], ends[2 * m + q]);
        [
            [y.0 - rest.0, z.0 - rest.0, rest.0],
            [y.1 - rest.1, z.1 - rest.1, rest.1],
            [0.0, 0.0, 1.0],
        ]
    };
    let mut squared = [[0.0; 9]; 9];
    for (q, p) in increments.probability.iter().enumerate() {
        let map = map(q);
        for (to, from) in (0..81).map(|k| (k / 9, k % 9)) {
            squared[to][from] += p * map[to / 3][from / 3] * map[to % 3][from % 3];
        }
    }
    let mut second = [1.0; 9];
    for _ in 0..(1.0 / h) as usize {
        second = squared.map(|row| row.iter().zip(second).map(|(a, b)| a * b).sum());
    }
    (second[2], second[0])
}

/// Points from 0 to pi on which functions that repeat themselves are held.
const GRID: usize = 64;
/// The one that paths start at, pi/8.
const START: usize = GRID / 8;

fn place(i: usize) -> f64 {
    std::f64::consts::PI * i as f64 / GRID as f64
}

/// What is averaged.
fn watched(x: f64) -> f64 {
    (2.0 * x).sin()
}

/// The mean of `watched` after a unit of time, from the end back: each step turns a function into its mean over where the step
/// leads, between the points of the grid by trigonometric interpolation.
fn mean_of_wrapped(sde: &Wrapped, scheme: Scheme, h: f64) -> f64 {
    let increments = Increments::of(scheme, h);
    let m = increments.w.len();
    let starts: Vec<(f64, f64)> = (0..GRID).map(|i| (place(i), place(i))).collect();
    let ends = step(sde, scheme, h, &starts, &increments);
    let mut back = vec![0.0; GRID * GRID];
    for (i, ends) in ends.chunks(m).enumerate() {
        for (end, p) in ends.iter().zip(&increments.probability) {
            for k in 0..GRID {
                back[i * GRID + k] += p * cardinal(end.0 - place(k));
            }
        }
    }
    let mut means: Vec<f64> = (0..GRID).map(|i| watched(place(i))).collect();
    for _ in 0..(1.0 / h) as usize {
        let row = |row: &[f64]| row.iter().zip(&means).map(|(a, b)| a * b).sum();
        means = back.chunks(GRID).map(row).collect();
    }
    means[START]
}

/// 1 at 0, 0 at the other points of the grid, and trigonometric between them.
fn cardinal(t: f64) -> f64 {
    let n = GRID as f64;
    match t.tan() {
        0.0 => 1.0,
        tan => (n * t).sin() / (n * tan),
    }
}

/// The same of the equation with k = 1: `tan X` is normal.
fn exact_of_wrapped(s: f64) -> f64 {
    let mean = place(START).tan() * (-1.0f64).exp();
    let sd = s * ((1.0 - (-2.0f64).exp()) / 2.0).sqrt();
    let all = normal(0.05);
    all.iter()
        .map(|(z, p)| p * watched((mean + sd * z).atan()))
        .sum()
}

fn order_of(scheme: Scheme, calculus: Calculus) -> Order {
    match scheme {
        Scheme::MilsteinGradFree if calculus == Calculus::Stratonovich => Order::AtLeast(0.5),
        // Terms of the order 2 are large in steps that aren't very small.
        Scheme::Srk => Order::AtLeast(1.5),
        _ => Order::Is(1.0, 0.15),
    }
}

/// Mean errors of the mean square of linear equations, and of a function of one that isn't linear.
pub(super) fn curves() -> Vec<Curve> {
    let mut all = Vec::new();
    let mut add = |scheme, equation, order, error: &dyn Fn(f64) -> f64| {
        let errors = HALVINGS.map(|k| error(0.5f64.powi(k as i32)).abs());
        all.push(Curve {
            scheme,
            equation,
            order,
            halvings: HALVINGS,
            errors: errors.collect(),
        });
    };
    let s = 0.6;
    let known = exact_of_wrapped(s);
    let geometric = zoo::GeometricBrownian::new(0.3, 0.6);
    for calculus in [Calculus::Ito, Calculus::Stratonovich] {
        // Ito's drift is larger by b^2 / 2.
        let (drift, sign) = match calculus {
            Calculus::Ito => (0.3, ["geometric", "wrapped"]),
            Calculus::Stratonovich => (0.3 + 0.18, ["o geometric", "o wrapped"]),
        };
        let square = (2.0 * drift + 0.36f64).exp();
        let sde = ReadAs(calculus, geometric);
        let wrapped = Wrapped {
            k: 1.0,
            s,
            calculus,
        };
        let fit = |scheme: &Scheme| scheme.check(Noise::Diagonal, calculus).is_ok();
        for scheme in Scheme::ALL.into_iter().filter(fit) {
            let error = |h| moments_of_linear(&sde, scheme, h).1 - square;
            add(scheme, sign[0], order_of(scheme, calculus), &error);
            if scheme != Scheme::ReversibleHeun {
                let error = |h| mean_of_wrapped(&wrapped, scheme, h) - known;
                add(scheme, sign[1], order_of(scheme, calculus), &error);
            }
        }
    }
    let decay = (-1.0f64).exp();
    let square = decay * decay + 0.49 * (1.0 - decay * decay) / 2.0;
    for scheme in Scheme::ALL {
        let order = match scheme {
            Scheme::Srk => Order::Is(2.0, 0.15),
            Scheme::Euler | Scheme::Milstein | Scheme::MilsteinGradFree => Order::Is(1.0, 0.15),
            _ => Order::AtLeast(1.0),
        };
        let error = |h| moments_of_linear(&Relaxing, scheme, h).1 - square;
        add(scheme, "additive", order, &error);
    }
    all
}

#[test]
fn the_weak_orders_are_those_of_theory() {
    curves().iter().for_each(Curve::check);
}

/// The means that orders are found from are right: Euler's are known.
#[test]
fn means_of_chains_are_exact() {
    let sde = zoo::GeometricBrownian::new(0.5, 0.4);
    for n in [8, 128] {
        let h = 1.0 / f64::from(n);
        let (mean, square) = moments_of_linear(&sde, Scheme::Euler, h);
        let known = sde.euler_moments(1.0, h, n);
        assert!((mean - known.0).abs() < 1e-12, "{mean} {known:?}");
        assert!((square - known.1).abs() < 1e-12, "{square} {known:?}");
    }
    let total: f64 = normal(0.5).iter().map(|(z, p)| p * z.powi(6)).sum();
    assert!((total - 15.0).abs() < 1e-12);
    // Between the points of the grid, a function that it can hold.
    let x = 0.7;
    let found: f64 = (0..GRID)
        .map(|k| watched(place(k)) * cardinal(x - place(k)))
        .sum();
    assert!((found - watched(x)).abs() < 1e-12);
}

/// Where steps are very small, the half power is what is left.
#[test]
fn roesslers_scheme_is_of_the_weak_order_three_halves() {
    let sde = zoo::GeometricBrownian::new(0.3, 0.6);
    let square = sde.moments(1.0, 1.0).1;
    let error = |k: i32| (moments_of_linear(&sde, Scheme::Srk, 0.5f64.powi(k)).1 - square).abs();
    let slope = (error(11) / error(14)).log2() / 3.0;
    assert!((slope - 1.5).abs() < 0.06, "{slope}");
}

/// Richardson's extrapolation takes the first term of Euler's mean error away.
#[test]
fn richardson_gains_an_order() {
    let sde = zoo::GeometricBrownian::new(0.5, 0.4);
    let mean = sde.moments(1.0, 1.0).0;
    let of = |n: i32| sde.euler_moments(1.0, 1.0 / f64::from(n), n).0;
    let off = |n: i32| (2.0 * of(2 * n) - of(n) - mean).abs();
    assert!(((off(16) / off(32)).log2() - 2.0).abs() < 0.06);
}
