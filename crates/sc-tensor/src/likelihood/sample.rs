//! Draws from the distributions.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson, StandardNormal};
use rayon::prelude::*;

use super::family::Family;
use crate::{Error, Result};

/// Rates above this are cut off, as in scvi-tools: larger counts are not exact in `f32` anyway.
const LARGEST_RATE: f64 = 1e8;

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
    match family {
        Family::Poisson => poisson(mu, rng),
        Family::NegativeBinomial => negative_binomial(mu, theta, rng),
        Family::ZeroInflatedNegativeBinomial => {
            // Both numbers are always drawn, so that the draws of other entries don't depend on this one's dropout.
            let uniform: f64 = rng.random();
            let count = negative_binomial(mu, theta, rng);
            if dropout.is_nan() {
                f32::NAN
            } else if uniform < dropout {
                0.0
            } else {
                count
            }
        }
        Family::Normal => {
            let z: f64 = StandardNormal.sample(rng);
            (mu + theta * z) as f32
        }
    }
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
    out.par_chunks_mut(g.max(1))
        .enumerate()
        .for_each(|(i, out)| {
            let mut rng = ChaCha8Rng::from_seed(seed);
            rng.set_stream(i as u64);
            for (j, x) in out.iter_mut().enumerate() {
                let k = i * g + j;
                let theta = theta.as_ref().map_or(1.0, |t| f64::from(t[k]));
                let logit = dropout.as_ref().map_or(0.0, |t| f64::from(t[k]));
                let pi = 1.0 / (1.0 + (-logit).exp());
                *x = sample_one(family, f64::from(mu[k]), theta, pi, &mut rng);
            }
        });
    Ok(Tensor::from_vec(out, (n, g), &Device::Cpu)?)
}
