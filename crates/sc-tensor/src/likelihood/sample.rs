//! Draws from the distributions.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson, StandardNormal};
use rayon::prelude::*;

use super::family::Family;
use crate::{Error, Result, math};

/// Rates above this are cut off, as in scvi-tools: larger counts are not exact in `f32` anyway.
const LARGEST_RATE: f64 = 1e8;

/// Negative binomials with means up to this are drawn by inversion, which takes a step for each count.
const INVERTED: f64 = 12.0;

/// One draw. A negative binomial is a Poisson whose rate has a gamma distribution of shape `theta` and mean `mu`.
///
/// `theta` (for a normal the standard deviation) is ignored by a Poisson, `dropout` (the probability of an extra zero) by
/// all but the zero-inflated negative binomial. The result is NaN where a parameter is.
pub fn sample_one<R: RngCore + ?Sized>(
    family: Family,
    mu: f64,
    theta: f64,
    dropout: f64,
    rng: &mut R,
) -> f32 {
    let zero = (-theta * (mu / theta).ln_1p()).exp();
    draw(family, mu, theta, dropout, zero, rng)
}

/// The same, given the probability `zero` that a negative binomial is 0.
fn draw<R: RngCore + ?Sized>(
    family: Family,
    mu: f64,
    theta: f64,
    dropout: f64,
    zero: f64,
    rng: &mut R,
) -> f32 {
    let is_inverted = mu > 0.0 && mu <= INVERTED && theta > 0.0 && theta.is_finite();
    match family {
        Family::Poisson => poisson(mu, rng),
        Family::NegativeBinomial if is_inverted => invert(rng.random(), mu, theta, zero),
        Family::NegativeBinomial => negative_binomial(mu, theta, rng),
        Family::ZeroInflatedNegativeBinomial => {
            let uniform: f64 = rng.random();
            if dropout.is_nan() || mu.is_nan() || theta.is_nan() {
                return f32::NAN;
            }
            if is_inverted {
                // What is left of the uniform number beyond the dropout is uniform again.
                return match uniform < dropout {
                    true => 0.0,
                    false => invert((uniform - dropout) / (1.0 - dropout), mu, theta, zero),
                };
            }
            // Both numbers are always drawn, so that the draws of other entries don't depend on this one's dropout.
            let count = negative_binomial(mu, theta, rng);
            if uniform < dropout { 0.0 } else { count }
        }
        Family::Normal => {
            let z: f64 = StandardNormal.sample(rng);
            (mu + theta * z) as f32
        }
    }
}

/// The count at which the distribution function of a negative binomial passes `uniform`, from
/// `p(k + 1) = p(k) (theta + k) / (k + 1) mu / (mu + theta)`. Most counts of single cells are 0, which costs one comparison.
fn invert(uniform: f64, mu: f64, theta: f64, zero: f64) -> f32 {
    // No probability below this can be told from 0 beside a uniform number.
    const NOTHING: f64 = 1e-18;
    let (mut p, mut below, mut k) = (zero, zero, 0.0);
    let ratio = mu / (mu + theta);
    while uniform >= below && p > NOTHING {
        p *= (theta + k) / (k + 1.0) * ratio;
        k += 1.0;
        below += p;
    }
    k as f32
}

fn poisson<R: RngCore + ?Sized>(rate: f64, rng: &mut R) -> f32 {
    if rate.is_nan() || rate < 0.0 {
        return f32::NAN;
    }
    // Refused only for a rate of 0.
    Poisson::new(rate.min(LARGEST_RATE)).map_or(0.0, |d| d.sample(rng) as f32)
}

fn negative_binomial<R: RngCore + ?Sized>(mu: f64, theta: f64, rng: &mut R) -> f32 {
    if mu.is_nan() || theta.is_nan() || mu < 0.0 || theta < 0.0 {
        return f32::NAN;
    }
    // Refused for a mean or a shape of 0, for which the rate is 0, and for an infinite shape: then it is the mean.
    let rate = match Gamma::new(theta, mu / theta) {
        Ok(gamma) => gamma.sample(rng),
        Err(_) if theta.is_infinite() => mu,
        Err(_) => 0.0,
    };
    poisson(rate, rng)
}

/// Draws one number for each entry of `mu`, `[N, G]`; the result is `f32` on the CPU.
///
/// `theta` and `dropout_logits` are anything that broadcasts to `[N, G]`; see [`log_prob`](super::log_prob()) for what they
/// are. `rng` is asked for 32 bytes only, the seed of a stream for each row, so that the draws don't depend on the number
/// of threads.
///
/// ```
/// use rand::SeedableRng;
/// use sc_tensor::likelihood::{Family, sample};
/// use sc_tensor::{Device, Tensor};
/// let mu = Tensor::new(&[[0f32, 5.0, 1e4]], &Device::Cpu)?;
/// let theta = Tensor::new(&[2f32], &Device::Cpu)?;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let x = sample(Family::NegativeBinomial, &mu, Some(&theta), None, &mut rng)?.to_vec2::<f32>()?;
/// assert_eq!(x[0][0], 0.0);
/// # Ok::<(), sc_tensor::Error>(())
/// ```
///
/// # Errors
/// `mu` without exactly two dimensions, tensors that don't broadcast to it, or a parameter that is missing.
pub fn sample<R: RngCore + ?Sized>(
    family: Family,
    mu: &Tensor,
    theta: Option<&Tensor>,
    dropout_logits: Option<&Tensor>,
    rng: &mut R,
) -> Result<Tensor> {
    let missing = |what| Error::Shape {
        op: "sample",
        what,
        found: vec![],
        expected: format!("something that broadcasts to {:?}", mu.dims()),
    };
    if family.has_dispersion() && theta.is_none() {
        return Err(missing("theta"));
    }
    if family.has_dropout() && dropout_logits.is_none() {
        return Err(missing("dropout_logits"));
    }
    let (n, g) = mu.dims2()?;
    let numbers = |t: &Tensor| -> Result<Vec<f32>> {
        let t = t.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        Ok(t.broadcast_as((n, g))?.flatten_all()?.to_vec1()?)
    };
    let mu = numbers(mu)?;
    let theta = theta.map(numbers).transpose()?;
    let dropout = dropout_logits.map(numbers).transpose()?;
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let mut out = vec![0f32; n * g];
    let one_row = |(i, out): (usize, &mut [f32])| {
        let row = i * g..(i + 1) * g;
        let own = |values: &Option<Vec<f32>>, missing: f64| -> Vec<f64> {
            match values.as_ref().and_then(|v| v.get(row.clone())) {
                Some(v) => v.iter().map(|&v| f64::from(v)).collect(),
                None => vec![missing; out.len()],
            }
        };
        let mu: Vec<f64> = mu[row.clone()].iter().map(|&v| f64::from(v)).collect();
        let theta = own(&theta, 1.0);
        let mut dropout = own(&dropout, f64::NEG_INFINITY);
        math::sigmoid(&mut dropout);
        let zero = probabilities_of_zero(family, &mu, &theta);
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(i as u64);
        for (j, x) in out.iter_mut().enumerate() {
            *x = draw(family, mu[j], theta[j], dropout[j], zero[j], &mut rng);
        }
    };
    out.par_chunks_mut(g.max(1)).enumerate().for_each(one_row);
    Ok(Tensor::from_vec(out, (n, g), &Device::Cpu)?)
}

/// `(theta / (theta + mu))^theta = exp(-theta ln(1 + mu / theta))`, many at once.
fn probabilities_of_zero(family: Family, mu: &[f64], theta: &[f64]) -> Vec<f64> {
    if !matches!(
        family,
        Family::NegativeBinomial | Family::ZeroInflatedNegativeBinomial
    ) {
        return vec![0.0; mu.len()];
    }
    let mut zero: Vec<f64> = mu.iter().zip(theta).map(|(m, t)| m / t).collect();
    math::ln_1p(&mut zero);
    zero.iter_mut().zip(theta).for_each(|(z, t)| *z *= -t);
    math::exp(&mut zero);
    zero
}
