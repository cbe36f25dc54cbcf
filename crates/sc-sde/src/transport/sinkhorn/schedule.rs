//! Which epsilons are gone through.

use sc_tensor::math::Float;

use super::params::SinkhornParams;
use crate::Result;
use crate::error::invalid;
use crate::transport::cloud::Cloud;

/// The diagonal of the box around all points of all clouds.
pub(super) fn diameter<T: Float>(pairs: &[(&Cloud<'_, T>, &Cloud<'_, T>)]) -> f64 {
    let dim = pairs.first().map_or(0, |(x, _)| x.dim());
    let mut bounds = vec![(f64::INFINITY, f64::NEG_INFINITY); dim];
    for (x, y) in pairs {
        for row in x.points().rows().into_iter().chain(y.points().rows()) {
            for ((low, high), v) in bounds.iter_mut().zip(row) {
                *low = low.min(v.wide());
                *high = high.max(v.wide());
            }
        }
    }
    let squares = bounds.iter().map(|(low, high)| (high - low).powi(2));
    squares.sum::<f64>().sqrt()
}

/// geomloss' schedule: the diameter, again the diameter and so on by powers of `scaling` down to `blur` (without it), and
/// `blur`, each to the power of p. The numbers between are those of numpy's `exp(arange(..))`.
pub(super) fn epsilons(params: &SinkhornParams, diameter: f64) -> Result<Vec<f64>> {
    let (p, last) = (f64::from(params.p), params.epsilon());
    // Far below the blur (or 0) there is nothing to come down from.
    if diameter <= 1e-9 * params.blur {
        return Ok(vec![last, last]);
    }
    let first = params.power(diameter);
    // Beyond, exponents could not be told from nothing, and in `f32` products of coordinates overflow before.
    let fits = first / last < 1e24;
    if !fits {
        return Err(invalid(
            "blur",
            params.blur,
            format!(
                "too small for clouds of diameter {diameter:e}; scale the coordinates or use a larger blur"
            ),
        ));
    }
    let (start, stop) = (p * diameter.ln(), p * params.blur.ln());
    let step = p * params.scaling.ln();
    let n = ((stop - start) / step).ceil().max(0.0) as usize;
    // numpy takes the difference of the first two numbers for the step.
    let step = (start + step) - start;
    let mut out = vec![first];
    out.extend((0..n).map(|k| (start + k as f64 * step).exp()));
    out.push(last);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Sinkhorn;

    #[test]
    fn the_schedule_of_the_original() {
        let d = 2.373_854_347_828_474;
        let found = epsilons(&Sinkhorn::params(), d).unwrap();
        let expected = [
            5.635184465,
            5.635184465,
            1.408796116,
            0.352199029,
            0.08804975726,
            0.02201243932,
            0.005503109829,
            0.0025,
        ];
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f / e - 1.0).abs() < 1e-9, "{f} {e}");
        }
        assert_eq!(epsilons(&Sinkhorn::prescient(), d).unwrap().len(), 11);
        assert_eq!(epsilons(&Sinkhorn::params().p(1), d).unwrap().len(), 8);
    }

    #[test]
    fn degenerate_diameters() {
        let params = Sinkhorn::params().blur(1.0);
        assert_eq!(epsilons(&params, 0.0).unwrap(), [1.0, 1.0]);
        assert_eq!(epsilons(&params, 0.5).unwrap(), [0.25, 1.0]);
        assert_eq!(epsilons(&params, 1.0).unwrap(), [1.0, 1.0]);
        assert!(epsilons(&params, 1e13).is_err());
        assert!(epsilons(&params, f64::INFINITY).is_err());
    }
}
