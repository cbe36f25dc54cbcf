//! numpy's legacy generator, to repeat splits and shuffles that Python programs made.
//!
//! scvi-tools splits cells into training and validation sets with `numpy.random.RandomState(seed).permutation(n)`.
//! The generator is MT19937 (Matsumoto and Nishimura 1998); numpy has promised not to change its legacy streams
//! (NEP 19). Use [`Rng`](crate::Rng) for anything else.

const N: usize = 624;
const M: usize = 397;

/// The 32-bit Mersenne Twister, seeded as `numpy.random.RandomState(seed)` does.
///
/// ```
/// use sc_tensor::numpy::RandomState;
/// assert_eq!(RandomState::new(0).permutation(400)[..4], [132, 309, 341, 196]);
/// ```
#[derive(Debug, Clone)]
pub struct RandomState {
    key: [u32; N],
    pos: usize,
}

impl RandomState {
    /// `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut key = [0u32; N];
        let mut s = seed;
        for (i, slot) in key.iter_mut().enumerate() {
            *slot = s;
            s = 1_812_433_253u32
                .wrapping_mul(s ^ (s >> 30))
                .wrapping_add(i as u32 + 1);
        }
        Self { key, pos: N }
    }

    /// `numpy.random.RandomState([w0, w1, ...])`: the generator's `init_by_array`. Python's `random` module seeds itself so,
    /// with the words of an integer, lowest first. No words count as one 0.
    ///
    /// ```
    /// use sc_tensor::numpy::RandomState;
    /// // random.seed(0); random.random()
    /// assert_eq!(RandomState::from_words(&[0]).random_sample(), 0.844_421_851_525_048_1);
    /// ```
    pub fn from_words(words: &[u32]) -> Self {
        let mut key = Self::new(19_650_218).key;
        // Twice around the state, from the second word on; each word takes in the one before it.
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
        Self { key, pos: N }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.pos >= N {
            self.twist();
        }
        let mut y = self.key[self.pos % N];
        self.pos += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.key[i] & 0x8000_0000) | (self.key[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.key[i] = self.key[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.pos = 0;
    }

    /// A number in `[0, 1)` with 53 random bits: `random_sample()`.
    pub fn random_sample(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// A number in `0..=max`, by drawing as many bits as `max` has until one fits.
    fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let bits = if max <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
            };
            if bits & mask <= max {
                return bits & mask;
            }
        }
    }

    /// Shuffles in place: `shuffle(x)`.
    pub fn shuffle<T>(&mut self, x: &mut [T]) {
        for i in (1..x.len()).rev() {
            let j = self.interval(i as u64) as usize;
            x.swap(i, j);
        }
    }

    /// `permutation(n)`: the numbers `0..n` in random order.
    ///
    /// `choice(idx, len(idx), replace=False)` is `idx` at `permutation(len(idx))`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_is_numpys() {
        assert_eq!(
            RandomState::new(0).permutation(400)[..12],
            [132, 309, 341, 196, 246, 60, 155, 261, 141, 214, 37, 134]
        );
    }

    #[test]
    fn choice_without_replacement_is_numpys() {
        let picked: Vec<usize> = RandomState::new(0)
            .permutation(10)
            .iter()
            .map(|i| 100 + i)
            .collect();
        assert_eq!(picked, [102, 108, 104, 109, 101, 106, 107, 103, 100, 105]);
    }

    #[test]
    fn the_twister_is_the_published_one() {
        // The 10000th output of mt19937 with its default seed, fixed by the C++ standard.
        let mut r = RandomState::new(5489);
        for _ in 0..9999 {
            r.next_u32();
        }
        assert_eq!(r.next_u32(), 4_123_659_995);
    }

    /// Reference: `numpy.random.RandomState([1, 2, 3]).randint(0, 2**32, 3, dtype=numpy.uint32)`.
    #[test]
    fn words_seed_as_in_numpy() {
        let mut r = RandomState::from_words(&[1, 2, 3]);
        let first = [r.next_u32(), r.next_u32(), r.next_u32()];
        assert_eq!(first, [2_619_334_238, 1_552_691_353, 3_808_334_787]);
    }

    #[test]
    fn a_uniform_number_is_numpys() {
        // numpy.random.RandomState(0).random_sample()
        assert_eq!(RandomState::new(0).random_sample(), 0.548_813_503_927_324_8);
    }
}
