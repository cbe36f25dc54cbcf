//! The numbers of Python's `random` module.

use sc_tensor::numpy::RandomState;

/// CPython's `random.Random`: the Mersenne Twister, seeded from the 32-bit words of an integer.
pub(super) struct PythonRandom(RandomState);

impl PythonRandom {
    pub(super) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = [low, high];
        Self(RandomState::from_words(
            &words[..if high == 0 { 1 } else { 2 }],
        ))
    }

    /// `_randbelow(n)`: as many bits as `n` has, until they are below it.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            // Words come lowest first, and of the last one its high bits are taken.
            let value = if bits <= 32 {
                u64::from(self.0.next_u32() >> (32 - bits.max(1)))
            } else {
                let low = u64::from(self.0.next_u32());
                low | u64::from(self.0.next_u32() >> (64 - bits)) << 32
            };
            if (value as usize) < n {
                return value as usize;
            }
        }
    }

    /// `sample(range(n), m)`, in the order drawn.
    pub(super) fn sample(&mut self, n: usize, m: usize) -> Vec<usize> {
        // Small populations are shuffled partly, large ones drawn from until a number is new.
        let mut size_of_set = 21;
        if m > 5 {
            let mut power = 1usize;
            while power < 3 * m {
                power *= 4;
            }
            size_of_set += power;
        }
        if n <= size_of_set {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..m)
                .map(|i| {
                    let j = self.below(n - i);
                    let drawn = pool[j];
                    pool[j] = pool[n - i - 1];
                    drawn
                })
                .collect();
        }
        let mut seen = std::collections::HashSet::with_capacity(m);
        (0..m)
            .map(|_| {
                loop {
                    let j = self.below(n);
                    if seen.insert(j) {
                        return j;
                    }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_draws_the_same() {
        let sample = |seed, n, m| PythonRandom::new(seed).sample(n, m);
        assert_eq!(sample(0, 1000, 8), [864, 394, 776, 911, 430, 41, 265, 988]);
        assert_eq!(sample(42, 1000, 8), [654, 114, 25, 759, 281, 250, 228, 142]);
        // From the pool.
        assert_eq!(sample(42, 64, 10), PYTHON_POOL);
        assert_eq!(sample(1 << 40, 10_000, 5), PYTHON_LONG_SEED);
    }
    const PYTHON_POOL: [usize; 10] = [14, 1, 47, 17, 15, 63, 8, 61, 6, 43];
    const PYTHON_LONG_SEED: [usize; 5] = [1698, 5787, 1075, 6990, 795];
}
