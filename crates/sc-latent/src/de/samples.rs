use std::sync::Arc;

use ndarray::ArrayView2;
use sc_tensor::rng::Stream;

use super::blocks::Blocks;
use crate::{Error, Result};

/// Draws of the expression of one population.
///
/// ```
/// use sc_latent::de::ScaleSamples;
/// // Three draws of two genes.
/// let draws = ndarray::array![[0.1f32, 0.9], [0.2, 0.8], [0.3, 0.7]];
/// let samples = ScaleSamples::new(draws.view());
/// assert_eq!((samples.n_draws(), samples.n_genes()), (3, 2));
/// ```
#[derive(Debug, Clone)]
pub struct ScaleSamples {
    /// A draw of these may be taken more than once.
    values: Arc<Blocks>,
    /// The number of each draw in `values`.
    draws: Vec<u32>,
    /// The batch that each draw was decoded with, where draws are to be compared within batches.
    batch: Option<Vec<u32>>,
}

impl ScaleSamples {
    /// Of draws `[draws, genes]`.
    pub fn new(draws: ArrayView2<'_, f32>) -> Self {
        let mut values = Blocks::new(draws.ncols());
        values.push(draws.t().iter().copied().collect());
        Self {
            draws: (0..draws.nrows() as u32).collect(),
            values: Arc::new(values),
            batch: None,
        }
    }

    /// The same, with the batch that each draw was decoded with. Draws of two populations with the same batches are
    /// compared within each batch.
    ///
    /// # Errors
    /// Unless there is a batch for each draw.
    pub fn with_batches(draws: ArrayView2<'_, f32>, batch: Vec<u32>) -> Result<Self> {
        if batch.len() != draws.nrows() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the batches of the draws".into(),
                found: batch.len(),
                expected: draws.nrows(),
            }
            .into());
        }
        Ok(Self {
            batch: Some(batch),
            ..Self::new(draws)
        })
    }

    /// Of what was decoded already; every draw must be the number of one of these.
    pub(super) fn of_blocks(values: Arc<Blocks>, draws: Vec<u32>, batch: Option<Vec<u32>>) -> Self {
        Self {
            values,
            draws,
            batch,
        }
    }

    /// Number of draws.
    pub fn n_draws(&self) -> usize {
        self.draws.len()
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.values.n_genes()
    }

    /// Memory of the expression.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// The number of each draw.
    pub(super) fn draws(&self) -> &[u32] {
        &self.draws
    }

    pub(super) fn values(&self) -> &Blocks {
        &self.values
    }

    /// The batches that occur, sorted.
    fn batches(&self) -> Option<Vec<u32>> {
        let mut batches = self.batch.clone()?;
        batches.sort_unstable();
        batches.dedup();
        Some(batches)
    }

    /// The numbers of the draws of a batch.
    fn of_batch(&self, batch: u32) -> Vec<u32> {
        let all = self.batch.iter().flatten().zip(&self.draws);
        all.filter(|(b, _)| **b == batch).map(|(_, &d)| d).collect()
    }
}

/// Which draws of two populations are compared with each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pairs {
    pub(super) first: Vec<u32>,
    pub(super) second: Vec<u32>,
}

impl Pairs {
    /// Draw `i` with draw `i` (both are in random order already), within each batch if both populations have the same
    /// batches; or with `permutations` so many random pairs in all, shared among the batches.
    ///
    /// Where the populations have different batches, all draws of each are brought into one random order first: draws lie
    /// batch by batch, and would meet those of one other batch only. Of unequally many draws all are used: the fewer come
    /// again from their beginning.
    pub(super) fn new(
        a: &ScaleSamples,
        b: &ScaleSamples,
        permutations: Option<usize>,
        mut stream: Stream,
    ) -> Result<Self> {
        if a.n_draws() == 0 || b.n_draws() == 0 {
            return Err(Error::InvalidSetting {
                name: "draws",
                value: "none".into(),
                reason: "both populations need at least one".into(),
            });
        }
        let strata: Vec<(Vec<u32>, Vec<u32>)> = match (a.batches(), b.batches()) {
            (Some(of_a), Some(of_b)) if of_a == of_b => {
                let both = of_a.iter().map(|&c| (a.of_batch(c), b.of_batch(c)));
                both.collect()
            }
            (None, None) => vec![(a.draws.clone(), b.draws.clone())],
            _ => vec![(
                shuffled(&a.draws, &mut stream),
                shuffled(&b.draws, &mut stream),
            )],
        };
        let n_strata = strata.len();
        let mut pairs = Self {
            first: Vec::new(),
            second: Vec::new(),
        };
        for (k, (a, b)) in strata.iter().enumerate() {
            match permutations {
                Some(m) => {
                    let m = m / n_strata + usize::from(k < m % n_strata);
                    pairs.first.extend(random(a, m, &mut stream));
                    pairs.second.extend(random(b, m, &mut stream));
                }
                None => {
                    let n = a.len().max(b.len());
                    pairs.first.extend(a.iter().cycle().take(n));
                    pairs.second.extend(b.iter().cycle().take(n));
                }
            }
        }
        Ok(pairs)
    }

    pub(super) fn len(&self) -> usize {
        self.first.len()
    }
}

/// Draws in a random order.
fn shuffled(draws: &[u32], stream: &mut Stream) -> Vec<u32> {
    let order = stream.permutation(draws.len()).into_iter();
    order.map(|i| draws[i]).collect()
}

/// `n` of some draws with replacement.
fn random(draws: &[u32], n: usize, stream: &mut Stream) -> Vec<u32> {
    use rand_distr::{Distribution, Uniform};
    // There is at least one.
    Uniform::new(0, draws.len()).map_or_else(
        |_| Vec::new(),
        |u| (0..n).map(|_| draws[u.sample(stream)]).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use sc_tensor::rng::Rng;

    fn stream() -> Stream {
        Rng::new(0).stream("pairs")
    }

    #[test]
    fn pairs_stay_within_batches() {
        let draws = array![[0.0f32], [1.0], [2.0], [3.0]];
        let a = ScaleSamples::with_batches(draws.view(), vec![0, 1, 0, 1]).unwrap();
        let b = ScaleSamples::with_batches(draws.view(), vec![1, 1, 0, 0]).unwrap();
        let pairs = Pairs::new(&a, &b, None, stream()).unwrap();
        assert_eq!(
            (pairs.first.as_slice(), pairs.second.as_slice()),
            (&[0, 2, 1, 3][..], &[2, 3, 0, 1][..])
        );
        let random = Pairs::new(&a, &b, Some(101), stream()).unwrap();
        assert_eq!(random.len(), 101);
        let of = |batch: &ScaleSamples, d: u32| batch.batch.as_ref().unwrap()[d as usize];
        let both = random.first.iter().zip(&random.second);
        assert!(both.clone().all(|(&x, &y)| of(&a, x) == of(&b, y)));
        assert!(both.clone().any(|(&x, _)| x != random.first[0]));
    }

    #[test]
    fn other_batches_are_pooled() {
        let draws = Array2::from_shape_fn((300, 1), |(i, _)| i as f32);
        let of = |batches: u32| {
            let batch = (0..300).map(|i| i * batches / 300 + 10 * batches).collect();
            ScaleSamples::with_batches(draws.view(), batch).unwrap()
        };
        let (a, b) = (of(2), of(3));
        let pairs = Pairs::new(&a, &b, None, stream()).unwrap();
        assert_eq!(pairs.len(), 300);
        let sorted = |mut v: Vec<u32>| {
            v.sort_unstable();
            v
        };
        assert!(sorted(pairs.first.clone()).into_iter().eq(0..300));
        assert!(sorted(pairs.second.clone()).into_iter().eq(0..300));
        // A draw of the first of two batches meets all of three batches equally often: 50 times, standard deviation 5.
        let both = pairs.first.iter().zip(&pairs.second);
        let met = |batch: u32| {
            let of_batch = |(x, y): &(&u32, &u32)| **x < 150 && **y / 100 == batch;
            both.clone().filter(of_batch).count()
        };
        assert!([0, 1, 2].iter().all(|&k| met(k).abs_diff(50) < 20));
    }

    #[test]
    fn no_draw_is_left_out() {
        let draws = array![[0.0f32], [1.0], [2.0]];
        let a = ScaleSamples::new(draws.view());
        let b = ScaleSamples::new(draws.select(ndarray::Axis(0), &[0, 1]).view());
        let pairs = Pairs::new(&a, &b, None, stream()).unwrap();
        assert_eq!(pairs.first, [0, 1, 2]);
        assert_eq!(pairs.second, [0, 1, 0]);
        let back = Pairs::new(&b, &a, None, stream()).unwrap();
        assert_eq!((back.first, back.second), (pairs.second, pairs.first));
        assert!(ScaleSamples::with_batches(draws.view(), vec![0]).is_err());
        let none = ScaleSamples::new(draws.select(ndarray::Axis(0), &[]).view());
        assert!(Pairs::new(&a, &none, None, stream()).is_err());
    }
}
