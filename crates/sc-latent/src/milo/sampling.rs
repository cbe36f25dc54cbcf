//! Cells drawn at random, without replacement.

use sc_tensor::Rng;

use super::python_random::PythonRandom;

/// Where the random start cells come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sampling {
    /// The generator of this workspace.
    #[default]
    Stream,
    /// Python's `random.seed(seed); random.sample(range(n), m)`: the cells that milopy (seed 42) and pertpy (seed 0) start
    /// from.
    Python,
}

impl Sampling {
    /// `m` of the numbers `0..n`, ascending.
    pub(super) fn draw(self, n: usize, m: usize, seed: u64) -> Vec<usize> {
        let m = m.min(n);
        let mut drawn = match self {
            Self::Stream => {
                let mut order = Rng::new(seed).stream("milo start cells").permutation(n);
                order.truncate(m);
                order
            }
            Self::Python => PythonRandom::new(seed).sample(n, m),
        };
        drawn.sort_unstable();
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_draws_are_sorted() {
        let drawn = Sampling::Python.draw(1000, 8, 0);
        assert_eq!(drawn, [41, 265, 394, 430, 776, 864, 911, 988]);
    }

    #[test]
    fn cells_are_distinct_and_ascend() {
        for sampling in [Sampling::Stream, Sampling::Python] {
            for (n, m) in [(500, 50), (30, 30), (5, 9), (1, 1)] {
                let drawn = sampling.draw(n, m, 3);
                assert_eq!(drawn.len(), m.min(n));
                assert!(drawn.windows(2).all(|w| w[0] < w[1]) && drawn.iter().all(|&i| i < n));
                assert_eq!(drawn, sampling.draw(n, m, 3));
            }
            assert_ne!(sampling.draw(500, 50, 1), sampling.draw(500, 50, 2));
        }
    }
}
