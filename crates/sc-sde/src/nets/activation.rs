//! Activation functions with their first and second derivatives.

use std::fmt;
use std::str::FromStr;

use sc_tensor::math::{self, Float};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What stands between two layers. Names are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// `x` above 0, `0.01 x` elsewhere: scDiffEq's default. The gradient of a potential made of it is piecewise constant.
    LeakyReLU,
    /// `max(x, 0)`.
    ReLU,
    /// `ln(1 + e^x)`: PRESCIENT's.
    Softplus,
    /// `x / (1 + e^-x)`.
    SiLU,
    /// `tanh x`.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x` above 0, `e^x - 1` elsewhere.
    ELU,
    /// [`Activation::ELU`] with the constants that keep mean and variance (Klambauer et al. 2017).
    SELU,
}

/// PyTorch's slope of the leaky rectifier.
pub(super) const LEAK: f64 = 0.01;
/// The two constants of SELU.
pub(super) const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
pub(super) const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

impl Activation {
    const ALL: [Self; 8] = [
        Self::LeakyReLU,
        Self::ReLU,
        Self::Softplus,
        Self::SiLU,
        Self::Tanh,
        Self::Sigmoid,
        Self::ELU,
        Self::SELU,
    ];

    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeakyReLU => "LeakyReLU",
            Self::ReLU => "ReLU",
            Self::Softplus => "Softplus",
            Self::SiLU => "SiLU",
            Self::Tanh => "Tanh",
            Self::Sigmoid => "Sigmoid",
            Self::ELU => "ELU",
            Self::SELU => "SELU",
        }
    }

    /// Whether its second derivative is 0 wherever it exists.
    pub fn is_piecewise_linear(self) -> bool {
        matches!(self, Self::LeakyReLU | Self::ReLU)
    }

    /// `out[i] = phi(x[i])`.
    pub(super) fn values<T: Float>(self, x: &[T], out: &mut [T]) {
        match self {
            Self::LeakyReLU => {
                let leak = T::of(LEAK);
                map(x, out, |v| if v > T::ZERO { v } else { leak * v });
            }
            // A NaN stays one.
            Self::ReLU => map(x, out, |v| if v <= T::ZERO { T::ZERO } else { v }),
            Self::Softplus => {
                out.copy_from_slice(x);
                math::softplus(out);
            }
            Self::SiLU => {
                sigmoid_of(x, out);
                combine(x, out, |v, s| v * s);
            }
            Self::Sigmoid => sigmoid_of(x, out),
            Self::Tanh => map(x, out, |v| T::of(v.wide().tanh())),
            Self::ELU => map(x, out, |v| if v > T::ZERO { v } else { expm1(v) }),
            Self::SELU => {
                let (scale, alpha) = (T::of(SELU_SCALE), T::of(SELU_SCALE * SELU_ALPHA));
                map(x, out, |v| {
                    if v > T::ZERO {
                        scale * v
                    } else {
                        alpha * expm1(v)
                    }
                });
            }
        }
    }

    /// `out[i] = phi'(x[i])`. At the corner of a rectifier it is the slope on the left, as in PyTorch.
    pub(super) fn slopes<T: Float>(self, x: &[T], out: &mut [T]) {
        match self {
            Self::LeakyReLU => {
                let leak = T::of(LEAK);
                map(x, out, |v| if v > T::ZERO { T::ONE } else { leak });
            }
            Self::ReLU => map(x, out, |v| if v > T::ZERO { T::ONE } else { T::ZERO }),
            Self::Softplus => sigmoid_of(x, out),
            Self::SiLU => {
                sigmoid_of(x, out);
                combine(x, out, |v, s| s * (T::ONE + v * (T::ONE - s)));
            }
            Self::Sigmoid => {
                sigmoid_of(x, out);
                combine(x, out, |_, s| s * (T::ONE - s));
            }
            Self::Tanh => map(x, out, |v| {
                let t = v.wide().tanh();
                T::of(1.0 - t * t)
            }),
            Self::ELU => map(x, out, |v| if v > T::ZERO { T::ONE } else { exp(v) }),
            Self::SELU => {
                let (scale, alpha) = (T::of(SELU_SCALE), T::of(SELU_SCALE * SELU_ALPHA));
                map(x, out, |v| if v > T::ZERO { scale } else { alpha * exp(v) });
            }
        }
    }

    /// `out[i] = phi''(x[i])`.
    pub(super) fn curvatures<T: Float>(self, x: &[T], out: &mut [T]) {
        match self {
            Self::LeakyReLU | Self::ReLU => out.fill(T::ZERO),
            Self::Softplus => {
                sigmoid_of(x, out);
                combine(x, out, |_, s| s * (T::ONE - s));
            }
            Self::SiLU => {
                let two = T::ONE + T::ONE;
                sigmoid_of(x, out);
                combine(x, out, |v, s| {
                    s * (T::ONE - s) * (two + v * (T::ONE - two * s))
                });
            }
            Self::Sigmoid => {
                let two = T::ONE + T::ONE;
                sigmoid_of(x, out);
                combine(x, out, |_, s| s * (T::ONE - s) * (T::ONE - two * s));
            }
            Self::Tanh => map(x, out, |v| {
                let t = v.wide().tanh();
                T::of(-2.0 * t * (1.0 - t * t))
            }),
            Self::ELU => map(x, out, |v| if v > T::ZERO { T::ZERO } else { exp(v) }),
            Self::SELU => {
                let alpha = T::of(SELU_SCALE * SELU_ALPHA);
                map(
                    x,
                    out,
                    |v| {
                        if v > T::ZERO { T::ZERO } else { alpha * exp(v) }
                    },
                );
            }
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// Reads PyTorch's name of an activation, with or without the dots and brackets around it.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim_end_matches("'>").trim_end_matches("()");
        let name = name.rsplit('.').next().unwrap_or(name);
        let found = |a: &Self| a.name().eq_ignore_ascii_case(name);
        Self::ALL
            .into_iter()
            .find(found)
            .ok_or_else(|| Error::InvalidSetting {
                name: "activation",
                value: text.into(),
                reason: format!("known are {}", Self::ALL.map(Self::name).join(", ")),
            })
    }
}

fn sigmoid_of<T: Float>(x: &[T], out: &mut [T]) {
    out.copy_from_slice(x);
    math::sigmoid(out);
}

fn exp<T: Float>(v: T) -> T {
    T::of(v.wide().exp())
}

fn expm1<T: Float>(v: T) -> T {
    T::of(v.wide().exp_m1())
}

fn map<T: Float>(x: &[T], out: &mut [T], f: impl Fn(T) -> T) {
    for (o, &v) in out.iter_mut().zip(x) {
        *o = f(v);
    }
}

fn combine<T: Float>(x: &[T], out: &mut [T], f: impl Fn(T, T) -> T) {
    for (o, &v) in out.iter_mut().zip(x) {
        *o = f(v, *o);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Away from the corners of the rectifiers.
    const X: [f64; 7] = [-3.1, -1.0, -0.4, 0.3, 0.9, 2.0, 5.5];

    fn of(f: impl Fn(&[f64], &mut [f64]), x: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        f(x, &mut out);
        out
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        let h = 1e-5;
        let shifted = |by: f64| X.map(|v| v + by);
        for a in Activation::ALL {
            let difference = |f: &dyn Fn(&[f64], &mut [f64])| {
                let (up, down) = (of(f, &shifted(h)), of(f, &shifted(-h)));
                let slope = |(u, d): (&f64, &f64)| (u - d) / (2.0 * h);
                up.iter().zip(&down).map(slope).collect::<Vec<_>>()
            };
            let slopes = difference(&|x, out| a.values(x, out));
            let curvatures = difference(&|x, out| a.slopes(x, out));
            for i in 0..X.len() {
                let found = (
                    of(|x, out| a.slopes(x, out), &X)[i],
                    of(|x, out| a.curvatures(x, out), &X)[i],
                );
                assert!((found.0 - slopes[i]).abs() < 1e-9, "{a} at {}", X[i]);
                assert!((found.1 - curvatures[i]).abs() < 1e-9, "{a} at {}", X[i]);
            }
        }
    }

    #[test]
    fn names_are_read_as_the_original_wrote_them() {
        for text in [
            "LeakyReLU",
            "leakyrelu",
            "<class 'torch.nn.modules.activation.LeakyReLU'>",
            "LeakyReLU()",
        ] {
            assert_eq!(text.parse::<Activation>().unwrap(), Activation::LeakyReLU);
        }
        let error = "Mish".parse::<Activation>().unwrap_err().to_string();
        assert!(
            error.contains("Mish") && error.contains("Softplus"),
            "{error}"
        );
    }
}
