//! Which weights of the softmax are dropped: a function of the place, so that nothing has to be kept for the way back.

use rand::RngCore;

use crate::math::Float;
use crate::rng::{self, Stream};

/// Dropout of attention weights. The weight of a column in a row is kept or not whatever order they are asked for in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    key: u64,
    /// A weight is kept if its 32 random bits are below this.
    limit: u64,
    /// What is kept is multiplied by `1 / (1 - p)`.
    scale: f64,
}

/// The increment of SplitMix64 (Steele, Lea, Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dropout {
    /// Each weight is dropped with probability `p`; `None` if none ever is.
    pub(crate) fn new(p: f64, stream: &Stream) -> Option<Self> {
        (p > 0.0).then(|| Self {
            key: stream.clone().next_u64(),
            limit: ((1.0 - p) * 4_294_967_296.0).round() as u64,
            scale: 1.0 / (1.0 - p),
        })
    }

    /// Where the numbers of a row begin.
    #[inline(always)]
    pub(crate) fn row(&self, sequence: usize, head: usize, row: usize) -> u64 {
        [sequence, head, row].iter().fold(self.key, |key, &c| {
            rng::mix(key.wrapping_add(STEP).wrapping_add(c as u64))
        })
    }

    /// The random bits of columns `2 pair` (the lower half) and `2 pair + 1` of a row: SplitMix64 from its beginning.
    #[inline(always)]
    pub(crate) fn bits(row: u64, pair: usize) -> u64 {
        rng::mix(row.wrapping_add((pair as u64).wrapping_add(1).wrapping_mul(STEP)))
    }

    /// What the weight of an even column is multiplied by.
    #[inline(always)]
    pub(crate) fn even<T: Float>(&self, bits: u64) -> T {
        self.factor(bits & 0xffff_ffff)
    }

    /// What the weight of an odd column is multiplied by.
    #[inline(always)]
    pub(crate) fn odd<T: Float>(&self, bits: u64) -> T {
        self.factor(bits >> 32)
    }

    #[inline(always)]
    fn factor<T: Float>(&self, bits: u64) -> T {
        if bits < self.limit {
            T::of(self.scale)
        } else {
            T::ZERO
        }
    }

    /// What the weight of one column is multiplied by.
    #[inline(always)]
    pub(crate) fn column<T: Float>(&self, row: u64, column: usize) -> T {
        let bits = Self::bits(row, column / 2);
        if column.is_multiple_of(2) {
            self.even(bits)
        } else {
            self.odd(bits)
        }
    }
}
