//! Equations in closed form, all schemes, in both precisions.

use candle_core::{DType, Device, Tensor};
use sc_sde::Result;
use sc_sde::solve::zoo::{Arctan, GeometricBrownian};
use sc_sde::solve::{
    At, Calculus, ClockPrecision, GivenIncrements, Noise, Schedule, Scheme, Sde, Solve,
};

use crate::golden::{Golden, cast};

fn row(values: &[f64], y: &Tensor) -> Result<Tensor> {
    let row = Tensor::new(values, y.device())?.to_dtype(y.dtype())?;
    Ok(row.broadcast_as(y.shape())?.contiguous()?)
}

fn f32s<const N: usize>(values: [f64; N]) -> [f64; N] {
    values.map(|v| f64::from(v as f32))
}

enum System {
    OuAdditive,
    OuDiagonal,
    Gbm,
    Linear,
    DoubleWell,
    /// With the coefficients `[3, 2, 3]`.
    Trig(Tensor),
}

struct Read(System, Calculus);

impl Sde for Read {
    fn noise(&self) -> Noise {
        match self.0 {
            System::OuAdditive => Noise::Additive,
            System::Linear => Noise::Scalar,
            System::Trig(_) => Noise::General,
            _ => Noise::Diagonal,
        }
    }

    fn calculus(&self) -> Calculus {
        self.1
    }

    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(match &self.0 {
            System::OuAdditive | System::OuDiagonal => ((row(&[0.5, -1.0, 0.25], y)? - y)? * 0.8)?,
            System::Gbm => (y * row(&f32s([0.6, -0.4, 0.2]), y)?)?,
            System::Linear => {
                let a = f32s([-0.5, 1.0, 0.0, -1.0, -0.5, 0.2, 0.0, -0.1, 0.3]);
                times(&a, y)?
            }
            System::DoubleWell => (y - (y.sqr()? * y)?)?,
            System::Trig(_) => {
                let rolled = Tensor::cat(&[y.narrow(1, 2, 1)?, y.narrow(1, 0, 2)?], 1)?;
                (rolled.sin()? - y)?
            }
        })
    }

    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let n = y.dim(0)?;
        Ok(match &self.0 {
            System::OuAdditive => {
                let g = f32s([0.4, 0.1, 0.0, 0.3, -0.2, 0.25]);
                let g = Tensor::new(&g, y.device())?.reshape((1, 3, 2))?;
                g.to_dtype(y.dtype())?
                    .broadcast_as((n, 3, 2))?
                    .contiguous()?
            }
            System::OuDiagonal => row(&f32s([0.5, 0.3, 0.7]), y)?,
            System::Gbm => (y * row(&f32s([0.3, 0.5, 0.2]), y)?)?,
            System::Linear => times(&noise(), y)?.unsqueeze(2)?,
            System::DoubleWell => y.sin()?.affine(0.2, 0.4)?,
            System::Trig(g2) => {
                let cos = (y.cos()? * 0.3)?.reshape((n, 3, 1, 1))?;
                let tanh = y.tanh()?.reshape((n, 1, 1, 3))?;
                let sum = g2
                    .to_dtype(y.dtype())?
                    .unsqueeze(0)?
                    .broadcast_mul(&tanh)?
                    .sum_keepdim(3)?;
                sum.broadcast_add(&cos)?.squeeze(3)?
            }
        })
    }

    fn diffusion_jvp(&self, _: At, y: &Tensor, v: &Tensor) -> Result<Tensor> {
        Ok(match &self.0 {
            System::OuDiagonal => y.zeros_like()?,
            System::Gbm => (v * row(&f32s([0.3, 0.5, 0.2]), y)?)?,
            System::Linear => times(&noise(), v)?.unsqueeze(2)?,
            System::DoubleWell => ((y.cos()? * v)? * 0.2)?,
            _ => unreachable!("no derivative is asked for"),
        })
    }
}

fn noise() -> [f64; 9] {
    f32s([0.3, 0.0, 0.1, 0.0, 0.2, 0.0, 0.05, 0.0, -0.25])
}

fn times(m: &[f64; 9], y: &Tensor) -> Result<Tensor> {
    let m = Tensor::new(m, y.device())?
        .reshape((3, 3))?
        .to_dtype(y.dtype())?;
    Ok(y.matmul(&m.t()?)?)
}

/// The scheme of a name, and in which calculus.
pub(crate) fn method(calculus: &str, name: &str) -> Option<(Scheme, Calculus)> {
    let scheme = match name {
        "euler" => Scheme::Euler,
        "milstein" => Scheme::Milstein,
        "milstein_gf" => Scheme::MilsteinGradFree,
        "srk" => Scheme::Srk,
        "midpoint" => Scheme::Midpoint,
        "heun" => Scheme::Heun,
        "euler_heun" => Scheme::EulerHeun,
        "reversible_heun" => Scheme::ReversibleHeun,
        // Needs Levy areas between motions, which we don't have; and torchsde's own mistake.
        "log_ode" | "milstein_torchsde_vjp" => return None,
        other => panic!("unknown method {other}"),
    };
    let calculus = match calculus {
        "ito" => Calculus::Ito,
        _ => Calculus::Stratonovich,
    };
    Some((scheme, calculus))
}

/// Increments of steps of `h` from standard normal numbers `[steps, cells, m]`.
pub(crate) fn increments(
    xi: &Tensor,
    eta: Option<&Tensor>,
    h: f64,
    dtype: DType,
) -> GivenIncrements {
    let n = xi.dim(0).unwrap();
    let step = |t: &Tensor, k: usize| cast(&t.get(k).unwrap(), dtype);
    let w: Vec<Tensor> = (0..n).map(|k| (step(xi, k) * h.sqrt()).unwrap()).collect();
    let given = GivenIncrements::new(w.clone()).unwrap();
    let Some(eta) = eta else { return given };
    let area = |k: usize| {
        let levy = (step(eta, k) * (h / 12.0).sqrt()).unwrap();
        (((&w[k] * 0.5).unwrap() + levy).unwrap() * h).unwrap()
    };
    given.with_area((0..n).map(area).collect()).unwrap()
}

#[test]
fn analytic_systems() {
    let Some(golden) = Golden::open("solvers_analytic.safetensors") else {
        return;
    };
    let schedule = Schedule::grid(&[0.0, 0.5, 1.0, 1.5], 0.125).unwrap();
    let mut seen = 0;
    for name in golden.names() {
        let parts: Vec<&str> = name.split('.').collect();
        let &[system, calculus @ ("ito" | "stratonovich"), scheme] = parts.as_slice() else {
            continue;
        };
        let Some((scheme, calculus)) = method(calculus, scheme) else {
            continue;
        };
        for dtype in [DType::F64, DType::F32] {
            let of = match system {
                "ou_additive" => System::OuAdditive,
                "ou_diagonal" => System::OuDiagonal,
                "gbm_diagonal" => System::Gbm,
                "linear_scalar" => System::Linear,
                "doublewell_diagonal" => System::DoubleWell,
                "trig_general" => System::Trig(golden.get("G2")),
                other => panic!("unknown system {other}"),
            };
            let part = |what: &str| golden.get(&format!("{system}.{what}"));
            let eta = scheme.needs_area().then(|| part("eta"));
            let motion = increments(&part("xi"), eta.as_ref(), 0.125, dtype);
            let start = cast(&part("y0"), dtype);
            let sde = Read(of, calculus);
            let states = Solve::new(&sde, scheme, &motion, &schedule).run(&start);
            golden.check(&name, &Tensor::stack(&states.unwrap(), 0).unwrap());
        }
        seen += 1;
    }
    assert_eq!(seen, 53, "every scheme of every system");
}

/// 64 paths on one Brownian motion seen at five step sizes, and the known solution.
#[test]
fn strong_errors() {
    let Some(golden) = Golden::open("solvers_analytic.safetensors") else {
        return;
    };
    let growth = GeometricBrownian::new(0.5, 0.8);
    let arctan = Arctan::new(0.7);
    let systems: [(&str, &dyn Sde, f64); 2] = [("gbm", &growth, 1.0), ("arctan", &arctan, 1.0)];
    // 256 increments over a unit of time, for 64 paths.
    let fine = (cast(&golden.get("strong.xi_fine"), DType::F64) / 16.0).unwrap();
    for k in 4..=8 {
        let steps = 1usize << k;
        let sums = fine.reshape((steps, 256 / steps, 64)).unwrap().sum(1);
        let sums = sums.unwrap();
        let w = (0..steps).map(|i| sums.get(i).unwrap().unsqueeze(1).unwrap());
        let motion = GivenIncrements::new(w.collect()).unwrap();
        let schedule = Schedule::grid(&[0.0, 1.0], 1.0 / steps as f64).unwrap();
        for (scheme, method) in [(Scheme::Euler, "euler"), (Scheme::Milstein, "milstein")] {
            for (system, sde, start) in systems {
                let start = Tensor::full(start, (64, 1), &Device::Cpu).unwrap();
                let states = Solve::new(sde, scheme, &motion, &schedule).run(&start);
                let name = format!("strong.{system}.{method}.h2^-{k}");
                golden.check(&name, &states.unwrap()[1].squeeze(1).unwrap());
            }
        }
    }
    let end = fine.sum((0, 2)).unwrap();
    let exact = |of: &dyn Fn(f64) -> f64| {
        let w = end.to_vec1::<f64>().unwrap();
        Tensor::from_iter(w.into_iter().map(of), &Device::Cpu).unwrap()
    };
    golden.check(
        "strong.gbm.exact_at_1",
        &exact(&|w| growth.exact(1.0, 1.0, w)),
    );
    golden.check(
        "strong.arctan.exact_at_1",
        &exact(&|w| arctan.exact(1.0, w)),
    );
}

/// The steps that torchsde's clock was seen to take.
#[test]
fn the_clock() {
    let Some(golden) = Golden::open("solver_clock.safetensors") else {
        return;
    };
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect()
    };
    for (key, precision) in [("f32", ClockPrecision::F32), ("f64", ClockPrecision::F64)] {
        for times in ["coarse", "fine"] {
            let at = match times {
                "coarse" => numbers(&golden.meta()["ts_coarse"]),
                _ => numbers(&golden.meta()[format!("ts_fine.{key}")]),
            };
            let schedule = Schedule::torchsde(&at, 0.1, precision).unwrap();
            let log = &golden.meta()[format!("neural_m1.{times}.{key}.log")];
            let log: Vec<Vec<f64>> = log.as_array().unwrap().iter().map(numbers).collect();
            let found: Vec<Vec<f64>> = schedule
                .steps()
                .iter()
                .map(|s| vec![s.start, s.end])
                .collect();
            assert_eq!(found, log, "{times} {key}");
        }
    }
}
