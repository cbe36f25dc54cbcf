//! Compares gradients with finite differences.

use candle_core::{DType, Tensor, Var};

use crate::{Result, Rng};

/// Where a gradient and finite differences disagree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradcheckFailure {
    /// The function or its gradient could not be computed.
    #[error(transparent)]
    Tensor(#[from] crate::Error),
    /// An input is not `f64`, in which alone finite differences are exact enough.
    #[error("input {input} is {found:?}, expected F64")]
    NotF64 {
        /// Which input.
        input: usize,
        /// Its type.
        found: DType,
    },
    /// No gradient came back for an input.
    #[error("input {input} has no gradient")]
    NoGradient {
        /// Which input.
        input: usize,
    },
    /// An element of a gradient is wrong.
    #[error(
        "input {input}, element {element}: the gradient is {analytic}, finite differences give {numeric}"
    )]
    Differs {
        /// Which input.
        input: usize,
        /// Which of its elements, counted row-major.
        element: usize,
        /// What `backward` says.
        analytic: f64,
        /// What central differences say.
        numeric: f64,
    },
}

impl From<candle_core::Error> for GradcheckFailure {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(e.into())
    }
}

/// Checks the gradient of `f` at `inputs` against central differences.
///
/// The output of `f` is reduced to a number `s = sum(c * f(inputs))` with fixed random weights `c`, so that no error
/// cancels. Then for every element `x` of every input, `|ds/dx - (s(x + eps) - s(x - eps)) / (2 eps)|` must be at most
/// `tol * max(1, |numeric|)`. `eps` of 1e-6 and `tol` of 1e-7 suit functions of order 1 with smooth derivatives; keep
/// inputs away from kinks by more than `eps`.
///
/// `f` is called twice per element and must be a function: one that draws random numbers has to start from the same
/// stream each time.
///
/// ```
/// use sc_tensor::{Device, Tensor, gradcheck, ops};
/// let x = Tensor::new(&[[0.5f64, -1.0], [2.0, 0.1]], &Device::Cpu)?;
/// gradcheck(|x| ops::log_softmax(&x[0]), &[x], 1e-6, 1e-7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first failure found.
pub fn gradcheck(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    eps: f64,
    tol: f64,
) -> std::result::Result<(), GradcheckFailure> {
    for (input, t) in inputs.iter().enumerate() {
        if t.dtype() != DType::F64 {
            return Err(GradcheckFailure::NotF64 {
                input,
                found: t.dtype(),
            });
        }
    }
    let vars = inputs
        .iter()
        .map(|t| Var::from_tensor(&t.copy()?))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked)?;
    let weights = Rng::new(0x6772_6164).stream("gradcheck").uniform(
        0.5,
        1.5,
        y.shape().clone(),
        DType::F64,
        y.device(),
    )?;
    let grads = (&y * &weights)?.sum_all()?.backward()?;

    let mut points: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    for (input, var) in vars.iter().enumerate() {
        let analytic = grads
            .get(var)
            .ok_or(GradcheckFailure::NoGradient { input })?
            .flatten_all()?
            .to_vec1::<f64>()?;
        let at = inputs[input].flatten_all()?.to_vec1::<f64>()?;
        for (element, &analytic) in analytic.iter().enumerate() {
            let mut score = |x: f64| -> std::result::Result<f64, GradcheckFailure> {
                let mut moved = at.clone();
                moved[element] = x;
                points[input] = Tensor::from_vec(moved, inputs[input].shape(), y.device())?;
                Ok((f(&points)? * &weights)?.sum_all()?.to_scalar::<f64>()?)
            };
            let numeric = (score(at[element] + eps)? - score(at[element] - eps)?) / (2.0 * eps);
            // Written so that a NaN fails.
            let close = (analytic - numeric).abs() <= tol * numeric.abs().max(1.0);
            if !close {
                return Err(GradcheckFailure::Differs {
                    input,
                    element,
                    analytic,
                    numeric,
                });
            }
        }
        points[input] = inputs[input].detach();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn x() -> Tensor {
        Tensor::new(&[0.5f64, -1.0, 2.0], &Device::Cpu).unwrap()
    }

    #[test]
    fn a_right_gradient_passes() {
        gradcheck(|x| Ok(x[0].sqr()?.mul(&x[1])?), &[x(), x()], 1e-6, 1e-7).unwrap();
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        // Half of the value is a constant to the graph: the gradient is half of what it should be.
        let r = gradcheck(
            |x| Ok((x[0].sqr()? + x[0].detach().sqr()?)?),
            &[x()],
            1e-6,
            1e-7,
        );
        assert!(matches!(
            r,
            Err(GradcheckFailure::Differs {
                input: 0,
                element: 0,
                ..
            })
        ));
        let r = gradcheck(|x| Ok(x[0].detach()), &[x()], 1e-6, 1e-7);
        assert!(matches!(r, Err(GradcheckFailure::NoGradient { input: 0 })));
    }

    #[test]
    fn single_precision_is_refused() {
        let single = x().to_dtype(DType::F32).unwrap();
        let r = gradcheck(|x| Ok(x[0].sqr()?), &[single], 1e-6, 1e-7);
        assert!(matches!(r, Err(GradcheckFailure::NotF64 { input: 0, .. })));
    }
}
