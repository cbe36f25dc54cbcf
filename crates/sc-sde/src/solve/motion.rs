use candle_core::{DType, Device, Tensor};

use super::Interval;
use crate::{Error, Result};

/// What a Brownian motion did over one step.
#[derive(Debug, Clone)]
pub struct Increment {
    /// `B(end) - B(start)`, `[cells, m]`.
    pub w: Tensor,
    /// `U`, the integral of `B(u) - B(start)` over the step, `[cells, m]`; the stochastic Runge-Kutta schemes need it.
    pub area: Option<Tensor>,
}

/// A source of Brownian increments.
pub trait Motion {
    /// Cells, and Brownian motions of each.
    fn dims(&self) -> (usize, usize);

    /// The increment over a step; with its area where `area` says so. The same step must give the same increment again.
    ///
    /// # Errors
    /// If the step isn't known, or the area.
    fn increment(
        &self,
        step: Interval,
        area: bool,
        dtype: DType,
        device: &Device,
    ) -> Result<Increment>;
}

/// Increments that were computed elsewhere, one for each step.
#[derive(Debug, Clone)]
pub struct GivenIncrements {
    w: Vec<Tensor>,
    area: Vec<Tensor>,
    dims: (usize, usize),
}

impl GivenIncrements {
    /// `w[k]` is the increment of step `k`, `[cells, m]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless all have the same two dimensions.
    pub fn new(w: Vec<Tensor>) -> Result<Self> {
        let dims = match w.first() {
            Some(first) => first.dims2()?,
            None => (0, 0),
        };
        check(&w, dims)?;
        Ok(Self {
            w,
            area: Vec::new(),
            dims,
        })
    }

    /// The same with the area of each step.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there are as many and of the same shape.
    pub fn with_area(mut self, area: Vec<Tensor>) -> Result<Self> {
        check(&area, self.dims)?;
        if area.len() != self.w.len() {
            return Err(Error::Shape {
                what: "the list of areas",
                found: vec![area.len()],
                expected: format!("[{}], one for each increment", self.w.len()),
            });
        }
        self.area = area;
        Ok(self)
    }
}

fn check(all: &[Tensor], (n, m): (usize, usize)) -> Result<()> {
    match all.iter().find(|t| t.dims() != [n, m]) {
        Some(t) => Err(Error::Shape {
            what: "a Brownian increment",
            found: t.dims().to_vec(),
            expected: format!("[{n}, {m}], as the first"),
        }),
        None => Ok(()),
    }
}

impl Motion for GivenIncrements {
    fn dims(&self) -> (usize, usize) {
        self.dims
    }

    fn increment(
        &self,
        step: Interval,
        area: bool,
        dtype: DType,
        device: &Device,
    ) -> Result<Increment> {
        let missing = |what: &str, found: usize| Error::InvalidSetting {
            name: "increments",
            value: format!("{found} {what}"),
            reason: format!("step {} needs one", step.index),
        };
        let of = |all: &[Tensor], what: &str| {
            let t = all
                .get(step.index)
                .ok_or_else(|| missing(what, all.len()))?;
            Ok::<_, Error>(t.to_dtype(dtype)?.to_device(device)?)
        };
        let w = of(&self.w, "increments")?;
        let area = match area {
            true => Some(of(&self.area, "areas")?),
            false => None,
        };
        Ok(Increment { w, area })
    }
}
