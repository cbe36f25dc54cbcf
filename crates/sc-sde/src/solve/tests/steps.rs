//! Two steps of each scheme, against numbers of torchsde (spec 11.C and 11.D).

use super::*;

/// The equation of `Wave`, one cell with two coordinates, two steps of 0.1 with given increments and areas.
fn two_steps(scheme: Scheme, calculus: Calculus) -> Vec<f64> {
    let h: f64 = 0.1;
    let (mut w, mut area) = (Vec::new(), Vec::new());
    for q in 0..2 {
        let i = [0.0, 0.9].map(|o| h.sqrt() * (0.3 * f64::from(q) + o).cos());
        let a = [0.2, 1.1].map(|o| (h / 12.0).sqrt() * (0.5 * f64::from(q) + o).sin());
        w.push(matrix(1, 2, |_, d| i[d]));
        area.push(matrix(1, 2, |_, d| h * (0.5 * i[d] + a[d])));
    }
    let motion = GivenIncrements::new(w).unwrap().with_area(area).unwrap();
    let schedule = Schedule::grid(&[0.0, 0.2], h).unwrap();
    let sde = Wave::new(calculus);
    let start = matrix(1, 2, |_, d| [0.3, -0.5][d]);
    let states = Solve::new(&sde, scheme, &motion, &schedule).run(&start);
    flat(&states.unwrap()[1])
}

fn assert_near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() < tolerance, "{name}: {found:?} {expected:?}");
    }
}

#[test]
fn diagonal_noise() {
    use Calculus::{Ito, Stratonovich};
    for (scheme, calculus, expected) in [
        (Scheme::Euler, Ito, [0.65752087826187, -0.47929110679045]),
        (Scheme::Milstein, Ito, [0.65713904077084, -0.48338545378967]),
        (
            Scheme::MilsteinGradFree,
            Ito,
            [0.65707477294714, -0.48185433156664],
        ),
        (Scheme::Srk, Ito, [0.66495643977097, -0.48108964199461]),
        (
            Scheme::Midpoint,
            Stratonovich,
            [0.67542704854344, -0.47861305027699],
        ),
        (
            Scheme::Heun,
            Stratonovich,
            [0.67279381017457, -0.47859258756649],
        ),
        (
            Scheme::EulerHeun,
            Stratonovich,
            [0.66598171854429, -0.47782631907546],
        ),
        (
            Scheme::Milstein,
            Stratonovich,
            [0.6662724473819, -0.47784659639263],
        ),
        (
            Scheme::ReversibleHeun,
            Stratonovich,
            [0.67242963750835, -0.47859362025436],
        ),
    ] {
        let found = two_steps(scheme, calculus);
        assert_near(&format!("{scheme:?}"), &found, &expected, 1e-13);
    }
}

/// Additive noise of two motions.
struct Additive;

impl Sde for Additive {
    fn noise(&self) -> Noise {
        Noise::Additive
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y - (y.sqr()? * y)?)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let g = Tensor::new(&[[0.3f64, 0.1], [0.0, 0.2]], y.device())?;
        Ok(g.broadcast_as((y.dim(0)?, 2, 2))?.contiguous()?)
    }
}

#[test]
fn additive_noise() {
    let h: f64 = 0.1;
    let (mut w, mut area) = (Vec::new(), Vec::new());
    for q in 0..2 {
        let i = [0.0, 0.9].map(|o| h.sqrt() * (0.3 * f64::from(q) + o).cos());
        let a = [0.2, 1.1].map(|o| (h / 12.0).sqrt() * (0.5 * f64::from(q) + o).sin());
        w.push(matrix(1, 2, |_, d| i[d]));
        area.push(matrix(1, 2, |_, d| h * (0.5 * i[d] + a[d])));
    }
    let motion = GivenIncrements::new(w).unwrap().with_area(area).unwrap();
    let schedule = Schedule::grid(&[0.0, 0.2], h).unwrap();
    let start = matrix(1, 2, |_, d| [0.3, -0.5][d]);
    for (scheme, expected) in [
        (Scheme::Euler, [0.57947297719983, -0.51272257235407]),
        (Scheme::Srk, [0.58654513050287, -0.51190616606608]),
    ] {
        let states = Solve::new(&Additive, scheme, &motion, &schedule).run(&start);
        assert_near("additive", &flat(&states.unwrap()[1]), &expected, 1e-13);
    }
}

/// `f = x - x^3`, a constant prior drift, one motion.
struct WithPrior;

impl Sde for WithPrior {
    fn noise(&self) -> Noise {
        Noise::General
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y - (y.sqr()? * y)?)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let first = y.narrow(1, 0, 1)?.sin()?.affine(0.2, 0.4)?;
        let second = first.affine(0.0, 0.3)?;
        Ok(Tensor::cat(&[first, second], 1)?.unsqueeze(2)?)
    }
}

impl PriorDrift for WithPrior {
    fn prior_drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(Tensor::new(&[0.1f64, -0.2], y.device())?
            .broadcast_as(y.shape())?
            .contiguous()?)
    }
}

#[test]
fn divergence_of_a_path() {
    let h: f64 = 0.1;
    let w = (0..4).map(|q| filled(1, 1, h.sqrt() * (0.3 * f64::from(q)).cos()));
    let motion = GivenIncrements::new(w.collect()).unwrap();
    let schedule = Schedule::grid(&[0.0, 0.2, 0.4], h).unwrap();
    let sde = PathKl(WithPrior);
    let start = PathKl::<WithPrior>::start(&matrix(1, 2, |_, d| [0.3, -0.5][d])).unwrap();
    let states = Solve::new(&sde, Scheme::Euler, &motion, &schedule)
        .run(&start)
        .unwrap();
    let (first, second) = (flat(&states[1]), flat(&states[2]));
    assert_near(
        "0.2",
        &first[..2],
        &[0.657520878261872, -0.3875914966709223],
        1e-14,
    );
    assert_near(
        "0.4",
        &second[..2],
        &[0.9645137586002213, -0.31347339778330524],
        1e-14,
    );
    let kl = [first[2], second[2] - first[2]];
    assert_near(
        "kl",
        &kl,
        &[0.0036443257979991146, 0.005108602565298636],
        1e-14,
    );
}
