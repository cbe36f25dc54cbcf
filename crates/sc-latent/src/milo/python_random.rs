//! The numbers of Python's `random` module.

/// CPython's `random.Random`: the Mersenne Twister, seeded from the 32-bit words of an integer.
pub(super) struct PythonRandom(Twister);

impl PythonRandom {
    pub(super) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = [low, high];
        Self(Twister::from_words(&words[..if high == 0 { 1 } else { 2 }]))
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

/// Words of state.
const N: usize = 624;
const M: usize = 397;

/// MT19937 (Matsumoto and Nishimura 1998), seeded with their `init_by_array`.
struct Twister {
    key: [u32; N],
    at: usize,
}

impl Twister {
    fn from_words(words: &[u32]) -> Self {
        let mut key = [0u32; N];
        let mut s = 19_650_218u32;
        for (i, slot) in key.iter_mut().enumerate() {
            *slot = s;
            s = (s ^ (s >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32 + 1);
        }
        // Twice around the words, from the second on; each takes in the one before it.
        let mut i = 1;
        let mut mix = |factor: u32, change: &dyn Fn(u32, usize) -> u32| {
            let before = key[i - 1];
            key[i] = change(key[i] ^ (before ^ (before >> 30)).wrapping_mul(factor), i);
            i += 1;
            if i == N {
                key[0] = key[N - 1];
                i = 1;
            }
        };
        for k in 0..N.max(words.len()) {
            let j = k % words.len().max(1);
            let word = words.get(j).copied().unwrap_or(0).wrapping_add(j as u32);
            mix(1_664_525, &|v, _| v.wrapping_add(word));
        }
        for _ in 1..N {
            mix(1_566_083_941, &|v, i| v.wrapping_sub(i as u32));
        }
        key[0] = 0x8000_0000;
        Self { key, at: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.at == N {
            for i in 0..N {
                let y = (self.key[i] & 0x8000_0000) | (self.key[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.key[i] = self.key[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.key[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
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

    /// Reference: `numpy.random.RandomState([1, 2, 3]).randint(0, 2**32, 3, dtype=numpy.uint32)`.
    #[test]
    fn words_seed_as_in_numpy() {
        let mut r = Twister::from_words(&[1, 2, 3]);
        let first = [r.next_u32(), r.next_u32(), r.next_u32()];
        assert_eq!(first, [2_619_334_238, 1_552_691_353, 3_808_334_787]);
    }
}
