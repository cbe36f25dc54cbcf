use candle_core::Tensor;

use crate::{Error, Result};

/// Where in a path drift and diffusion are evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At {
    /// The time, in the units of the data.
    pub t: f64,
    /// The step of the solver, from 0.
    pub step: usize,
    /// Which evaluation within the step, from 0. Step and stage together name the units that dropout drops.
    pub stage: usize,
}

/// How the noise enters, which decides the schemes that apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Each coordinate has its own Brownian motion and a diffusion that depends on this coordinate alone.
    /// Diffusion `[cells, D]`.
    Diagonal,
    /// Each coordinate has its own Brownian motion, but its diffusion depends on other coordinates too. Diffusion
    /// `[cells, D]`.
    Coordinatewise,
    /// One Brownian motion for all coordinates. Diffusion `[cells, D, 1]`.
    Scalar,
    /// The diffusion doesn't depend on the state. Diffusion `[cells, D, m]`.
    Additive,
    /// Anything else. Diffusion `[cells, D, m]`.
    General,
    /// None: an ordinary differential equation. The diffusion isn't asked for.
    Absent,
}

impl Noise {
    /// Whether the diffusion has one column for each coordinate, of which only its own entry isn't 0.
    pub(super) fn is_by_coordinate(self) -> bool {
        matches!(self, Self::Diagonal | Self::Coordinatewise)
    }

    /// Whether the diffusion doesn't depend on the state, so that both calculi are the same.
    pub(super) fn is_additive(self) -> bool {
        matches!(self, Self::Additive | Self::Absent)
    }
}

/// What `g dB` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Calculus {
    /// The integrand is taken at the start of each small step.
    Ito,
    /// The integrand is taken midway: the chain rule of ordinary calculus holds.
    Stratonovich,
}

/// A stochastic differential equation `dy = f(t, y) dt + g(t, y) dB` for many cells at a time.
///
/// `y` is `[cells, D]`. Every row must be computed from this row alone for the paths of a cell not to depend on the others.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use sc_sde::solve::{At, BrownianPath, Noise, Schedule, Scheme, Sde, Solve};
///
/// /// dy = -y dt + 0.5 dB in each coordinate.
/// struct Relax;
///
/// impl Sde for Relax {
///     fn noise(&self) -> Noise { Noise::Diagonal }
///     fn drift(&self, _: At, y: &Tensor) -> sc_sde::Result<Tensor> { Ok(y.neg()?) }
///     fn diffusion(&self, _: At, y: &Tensor) -> sc_sde::Result<Tensor> { Ok((y.ones_like()? * 0.5)?) }
/// }
///
/// let start = Tensor::ones((100, 2), sc_tensor::DType::F64, &Device::Cpu)?;
/// let path = BrownianPath::new(7, 100, 2, 0.0, 0.01)?;
/// let schedule = Schedule::grid(&[0.0, 1.0, 2.0], 0.01)?;
/// let states = Solve::new(&Relax, Scheme::Euler, &path, &schedule).run(&start)?;
/// assert_eq!(states.len(), 3);
/// assert_eq!(states[2].dims(), [100, 2]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
pub trait Sde {
    /// How the noise enters.
    fn noise(&self) -> Noise;

    /// What `g dB` means.
    fn calculus(&self) -> Calculus {
        Calculus::Ito
    }

    /// `f(t, y)`, `[cells, D]`.
    ///
    /// # Errors
    /// If it can't be computed.
    fn drift(&self, at: At, y: &Tensor) -> Result<Tensor>;

    /// `g(t, y)`: `[cells, D]` if each coordinate has its own Brownian motion, else `[cells, D, m]`.
    ///
    /// # Errors
    /// If it can't be computed.
    fn diffusion(&self, at: At, y: &Tensor) -> Result<Tensor>;

    /// The derivative of the diffusion along `direction` (`[cells, D]`), in the shape of the diffusion. The Milstein
    /// scheme and the stochastic adjoint of an Ito equation need it.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless it is implemented.
    fn diffusion_jvp(&self, _at: At, _y: &Tensor, _direction: &Tensor) -> Result<Tensor> {
        Err(Error::InvalidSetting {
            name: "scheme",
            value: "one with derivatives".into(),
            reason:
                "the equation has no diffusion_jvp; use Scheme::MilsteinGradFree, or implement it"
                    .into(),
        })
    }

    /// The variables that gradients are wanted for, in a fixed order.
    fn parameters(&self) -> Vec<Tensor> {
        Vec::new()
    }
}

/// The same drift and diffusion read in the other calculus: another equation.
#[derive(Debug, Clone, Copy)]
pub struct ReadAs<S>(pub Calculus, pub S);

impl<S: Sde> Sde for ReadAs<S> {
    fn noise(&self) -> Noise {
        self.1.noise()
    }
    fn calculus(&self) -> Calculus {
        self.0
    }
    fn drift(&self, at: At, y: &Tensor) -> Result<Tensor> {
        self.1.drift(at, y)
    }
    fn diffusion(&self, at: At, y: &Tensor) -> Result<Tensor> {
        self.1.diffusion(at, y)
    }
    fn diffusion_jvp(&self, at: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        self.1.diffusion_jvp(at, y, direction)
    }
    fn parameters(&self) -> Vec<Tensor> {
        self.1.parameters()
    }
}

impl<S: Sde + ?Sized> Sde for &S {
    fn noise(&self) -> Noise {
        (**self).noise()
    }
    fn calculus(&self) -> Calculus {
        (**self).calculus()
    }
    fn drift(&self, at: At, y: &Tensor) -> Result<Tensor> {
        (**self).drift(at, y)
    }
    fn diffusion(&self, at: At, y: &Tensor) -> Result<Tensor> {
        (**self).diffusion(at, y)
    }
    fn diffusion_jvp(&self, at: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        (**self).diffusion_jvp(at, y, direction)
    }
    fn parameters(&self) -> Vec<Tensor> {
        (**self).parameters()
    }
}

/// `g v` for each cell: `v` is `[cells, D]` if each coordinate has its own motion, else `[cells, m]`.
pub(super) fn noise_product(noise: Noise, g: &Tensor, v: &Tensor) -> Result<Tensor> {
    if noise == Noise::Absent {
        return Ok(g.clone());
    }
    if noise.is_by_coordinate() {
        return match g.dims() == v.dims() {
            true => Ok((g * v)?),
            false => Err(Error::Shape {
                what: "the increments of the Brownian motion",
                found: v.dims().to_vec(),
                expected: format!("{:?}, as the diffusion", g.dims()),
            }),
        };
    }
    let (n, d, m) = g.dims3()?;
    if v.dims() != [n, m] {
        return Err(Error::Shape {
            what: "the increments of the Brownian motion",
            found: v.dims().to_vec(),
            expected: format!("[{n}, {m}], as the diffusion has shape [{n}, {d}, {m}]"),
        });
    }
    if m == 1 {
        return Ok(g.reshape((n, d))?.broadcast_mul(v)?);
    }
    Ok(g.broadcast_mul(&v.reshape((n, 1, m))?)?.sum(2)?)
}

/// The change of drift that turns an Ito equation into the Stratonovich equation with the same paths, negated:
/// `1/2 sum_j (dg_j/dy) g_j`.
pub(super) fn half_correction(sde: &dyn Sde, at: At, y: &Tensor, g: &Tensor) -> Result<Tensor> {
    let sum = match sde.noise() {
        Noise::Additive | Noise::Absent => y.zeros_like()?,
        Noise::Diagonal => sde.diffusion_jvp(at, y, g)?,
        Noise::Coordinatewise => {
            let (n, d) = g.dims2()?;
            let mut columns = Vec::with_capacity(d);
            for j in 0..d {
                let own = g.narrow(1, j, 1)?;
                let before = Tensor::zeros((n, j), g.dtype(), g.device())?;
                let behind = Tensor::zeros((n, d - j - 1), g.dtype(), g.device())?;
                let direction = Tensor::cat(&[&before, &own, &behind], 1)?;
                columns.push(sde.diffusion_jvp(at, y, &direction)?.narrow(1, j, 1)?);
            }
            Tensor::cat(&columns, 1)?
        }
        Noise::Scalar | Noise::General => {
            let (n, d, m) = g.dims3()?;
            let column = |t: &Tensor, j: usize| t.narrow(2, j, 1)?.reshape((n, d));
            let mut sum = y.zeros_like()?;
            for j in 0..m {
                let moved = sde.diffusion_jvp(at, y, &column(g, j)?.contiguous()?)?;
                sum = (sum + column(&moved, j)?)?;
            }
            sum
        }
    };
    Ok((sum * 0.5)?)
}
