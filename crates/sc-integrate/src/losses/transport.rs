//! Modalities brought together by optimal transport instead of an adversary.

use candle_core::{DType, Tensor};
use ndarray::Array2;

use super::add;
use super::forward::{Forward, Noise, rows_of, unit};
use crate::Result;
use crate::cells::Minibatch;
use crate::matching::{Plan, SinkhornOptions, plan};
use crate::model::Clue;

impl Clue {
    /// The Sinkhorn divergence between the embeddings of two modalities in the minibatch, averaged over all pairs of these. Cells
    /// of one batch are compared with cells of the same batch if the adversary would be told the batch.
    pub(super) fn transport(
        &self,
        f: &Forward,
        batch: &Minibatch,
        noise: &Noise,
    ) -> Result<Option<Tensor>> {
        let mut clouds = Vec::new();
        for (k, part) in batch.parts.iter().enumerate() {
            if let (Some(part), Some(u)) = (part, self.seen(f, noise, k)?) {
                clouds.push((part, unit(&u)?));
            }
        }
        let groups = match self.config.adversary_sees_batch {
            true => self.registry.batches.len().max(1),
            false => 1,
        };
        let rows_in = |part: &crate::cells::Part, group: usize| -> Vec<u32> {
            let batches = (0u32..).zip(&part.batch);
            batches
                .filter_map(|(i, &b)| (groups == 1 || b as usize == group).then_some(i))
                .collect()
        };
        let (mut sum, mut n) = (None, 0.0);
        for (i, (a, x)) in clouds.iter().enumerate() {
            for (b, y) in &clouds[i + 1..] {
                for group in 0..groups {
                    let (of_a, of_b) = (rows_in(a, group), rows_in(b, group));
                    // One cell is no population.
                    if of_a.len() < 2 || of_b.len() < 2 {
                        continue;
                    }
                    let term = divergence(&rows_of(x, &of_a)?, &rows_of(y, &of_b)?, &options())?;
                    let weight = (of_a.len() + of_b.len()) as f64;
                    add(&mut sum, (term * weight)?)?;
                    n += weight;
                }
            }
        }
        Ok(match sum {
            Some(sum) => Some((sum / n)?),
            None => None,
        })
    }
}

/// Softer than a matching, whose plan would jump from step to step.
fn options() -> SinkhornOptions {
    SinkhornOptions {
        epsilon: 0.05,
        max_iterations: 200,
        tolerance: 1e-3,
        keep: None,
    }
}

/// `OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2` with costs `1 - cos` (Feydy et al., "Interpolating between optimal transport and MMD using
/// Sinkhorn divergences", AISTATS 2019), of rows of length 1. At its optimum a plan does not change to first order, so that the
/// gradient goes through the costs alone.
fn divergence(x: &Tensor, y: &Tensor, options: &SinkhornOptions) -> Result<Tensor> {
    let between = cost(x, y, options)?;
    let within = (cost(x, x, options)? + cost(y, y, options)?)?;
    Ok((between - (within * 0.5)?)?)
}

fn cost(x: &Tensor, y: &Tensor, options: &SinkhornOptions) -> Result<Tensor> {
    let costs = (1.0 - x.matmul(&y.t()?.contiguous()?)?)?;
    let (n, m) = costs.dims2()?;
    let host = costs
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let at = |(i, j): (usize, usize)| host.get(i * m + j).map_or(0.0, |c| -c / options.epsilon);
    let scores = Array2::from_shape_fn((n, m), at);
    let Plan { masses, entropy } = plan(scores, options);
    let masses = Tensor::from_iter(masses.iter().copied(), x.device())?;
    let masses = masses.reshape((n, m))?.to_dtype(x.dtype())?;
    Ok(((masses * costs)?.sum_all()? + options.epsilon * entropy)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use sc_tensor::Rng;

    use super::*;

    fn cloud(name: &str, n: usize, shift: f64) -> Tensor {
        let noise = Rng::new(3)
            .stream(name)
            .normal((n, 4), DType::F64, &Device::Cpu);
        (noise.unwrap() + shift).unwrap()
    }

    fn tight() -> SinkhornOptions {
        SinkhornOptions {
            epsilon: 0.1,
            max_iterations: 100_000,
            tolerance: 1e-13,
            keep: None,
        }
    }

    fn value(x: &Tensor, y: &Tensor) -> Tensor {
        divergence(&unit(x).unwrap(), &unit(y).unwrap(), &tight()).unwrap()
    }

    #[test]
    fn equal_clouds_are_no_distance_apart() {
        let (x, y) = (cloud("x", 7, 0.0), cloud("y", 5, 1.0));
        let number = |t: Tensor| t.to_scalar::<f64>().unwrap();
        assert!(number(value(&x, &x)).abs() < 1e-12);
        let apart = number(value(&x, &y));
        assert!(apart > 0.05, "{apart}");
        assert!((apart - number(value(&y, &x))).abs() < 1e-10);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (x, y) = (cloud("x", 5, 0.0), cloud("y", 6, 0.5));
        let x = Var::from_tensor(&x).unwrap();
        let grads = value(x.as_tensor(), &y).backward().unwrap();
        let found = grads.get(&x).unwrap().to_vec2::<f64>().unwrap();
        let at = x.to_vec2::<f64>().unwrap();
        let h = 1e-5;
        for (i, row) in at.iter().enumerate() {
            for j in 0..row.len() {
                let moved = |by: f64| {
                    let mut at = at.clone();
                    at[i][j] += by;
                    let flat: Vec<f64> = at.concat();
                    let x = Tensor::from_vec(flat, (5, 4), &Device::Cpu).unwrap();
                    value(&x, &y).to_scalar::<f64>().unwrap()
                };
                let expected = (moved(h) - moved(-h)) / (2.0 * h);
                assert!(
                    (found[i][j] - expected).abs() < 1e-7,
                    "{i} {j}: {} {expected}",
                    found[i][j]
                );
            }
        }
    }
}
