//! Seeded random numbers with names.
//!
//! candle's generator on the CPU can't be seeded. Here one [`Rng`] stands for a run; each use draws from a
//! [`Stream`] of its own, named by a string and by counters such as the epoch and the step. A stream is computed from
//! the seed and the names alone: nothing has to be saved for a run to resume, adding a draw in one place doesn't shift
//! the numbers of another, and the numbers don't depend on the number of threads.
//!
//! ```
//! use sc_tensor::{DType, Device, Rng};
//!
//! let rng = Rng::new(42);
//! let (epoch, step) = (3, 17);
//! let mut noise = rng.stream("reparameterise").at(&[epoch, step]);
//! let eps = noise.normal((128, 10), DType::F32, &Device::Cpu)?;
//! let again = rng.stream("reparameterise").at(&[3, 17]).normal((128, 10), DType::F32, &Device::Cpu)?;
//! assert_eq!(eps.to_vec2::<f32>()?, again.to_vec2::<f32>()?);
//! # Ok::<(), sc_tensor::Error>(())
//! ```

use candle_core::{DType, Device, Shape, Tensor};
use rand::{Rng as _, RngCore, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::math::Float;
use crate::{Error, Result};

/// The numbers of one task; each task has a ChaCha stream of its own.
const CHUNK: usize = 1 << 14;

/// All the randomness of a run, as a function of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    seed: u64,
    key: Key,
}

impl Rng {
    /// The randomness that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let key = Key([
            0x6a09_e667_f3bc_c908,
            0xbb67_ae85_84ca_a73b,
            0x3c6e_f372_fe94_f82b,
            0xa54f_f53a_5f1d_36f1,
        ]);
        Self {
            seed,
            key: key.absorb(seed),
        }
    }

    /// The seed that [`Rng::new`] was given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream with this name.
    pub fn stream(&self, name: &str) -> Stream {
        Stream::new(self.key.absorb_str(name))
    }

    /// The randomness of a part, e.g. of a layer that draws from streams of its own.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            seed: self.seed,
            // A different first word keeps a child apart from a stream of the same name.
            key: self.key.absorb(1).absorb_str(name),
        }
    }
}

/// A sequence of random numbers. Each draw moves it on; [`Stream::at`] starts a fresh one.
///
/// It is a [`RngCore`], so the distributions of `rand_distr` sample from it.
#[derive(Debug, Clone)]
pub struct Stream {
    key: Key,
    rng: ChaCha8Rng,
}

impl Stream {
    fn new(key: Key) -> Self {
        Self {
            key,
            rng: ChaCha8Rng::from_seed(key.to_bytes()),
        }
    }

    /// The stream of the same name at these counters, e.g. `&[epoch, step]`, at its beginning.
    ///
    /// It depends on the name and the counters only, not on what was drawn before.
    #[must_use]
    pub fn at(&self, counters: &[u64]) -> Self {
        let length = self.key.absorb(counters.len() as u64);
        Self::new(counters.iter().fold(length, |key, &c| key.absorb(c)))
    }

    /// `out[i] ~ N(0, 1)`.
    pub fn fill_normal<T: Float>(&mut self, out: &mut [T]) {
        self.fill(out, |rng| {
            let v: f64 = StandardNormal.sample(rng);
            T::of(v)
        });
    }

    /// `out[i] ~ U[lo, hi)`.
    pub fn fill_uniform<T: Float>(&mut self, lo: f64, hi: f64, out: &mut [T]) {
        self.fill(out, |rng| T::of(lo + (hi - lo) * rng.random::<f64>()));
    }

    /// `out[i]` is 1 with probability `p`, else 0.
    pub fn fill_bernoulli(&mut self, p: f64, out: &mut [u8]) {
        // 32 bits per number: p is met to 2e-10.
        let limit = (p.clamp(0.0, 1.0) * 4_294_967_296.0).round() as u64;
        self.fill_by_chunk(out, |rng, chunk| {
            let mut bytes = [0u8; 1024];
            for part in chunk.chunks_mut(bytes.len() / 4) {
                rng.fill_bytes(&mut bytes);
                for (o, b) in part.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *o = u8::from(u64::from(u32::from_le_bytes(*b)) < limit);
                }
            }
        });
    }

    /// A tensor of independent standard normal numbers. `dtype` is `f32` or `f64`; both get the same numbers, rounded.
    ///
    /// # Errors
    /// [`Error::DType`] for any other type.
    pub fn normal(
        &mut self,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.tensor(shape.into(), dtype, device, &mut Fill::Normal)
    }

    /// A tensor of independent numbers, uniform in `[lo, hi)`.
    ///
    /// # Errors
    /// [`Error::DType`] if `dtype` is neither `f32` nor `f64`.
    pub fn uniform(
        &mut self,
        lo: f64,
        hi: f64,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.tensor(shape.into(), dtype, device, &mut Fill::Uniform(lo, hi))
    }

    /// A tensor of 0 and 1 that is 1 with probability `p`.
    ///
    /// # Errors
    /// [`Error::Value`] if `p` is not a probability, [`Error::DType`] if `dtype` is none of `f32`, `f64`, `u8`.
    pub fn bernoulli(
        &mut self,
        p: f64,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::Value {
                op: "bernoulli",
                what: "p",
                found: p,
                expected: "a probability",
            });
        }
        let shape = shape.into();
        let mut mask = vec![0u8; shape.elem_count()];
        self.fill_bernoulli(p, &mut mask);
        match dtype {
            DType::U8 | DType::F32 | DType::F64 => {
                Ok(Tensor::from_vec(mask, shape, device)?.to_dtype(dtype)?)
            }
            found => Err(Error::DType {
                op: "bernoulli",
                found,
            }),
        }
    }

    /// The numbers `0..n` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut self.rng);
        order
    }

    fn tensor(
        &mut self,
        shape: Shape,
        dtype: DType,
        device: &Device,
        fill: &mut Fill,
    ) -> Result<Tensor> {
        let n = shape.elem_count();
        match dtype {
            DType::F32 => {
                let mut out = vec![0f32; n];
                fill.run(self, &mut out);
                Ok(Tensor::from_vec(out, shape, device)?)
            }
            DType::F64 => {
                let mut out = vec![0f64; n];
                fill.run(self, &mut out);
                Ok(Tensor::from_vec(out, shape, device)?)
            }
            found => Err(Error::DType {
                op: "random tensor",
                found,
            }),
        }
    }

    fn fill<T: Send>(&mut self, out: &mut [T], draw: impl Fn(&mut ChaCha8Rng) -> T + Sync) {
        self.fill_by_chunk(out, |rng, chunk| {
            for v in chunk {
                *v = draw(rng);
            }
        });
    }

    /// Fills in chunks of a fixed size. Each has a generator of its own, so that threads can share the work.
    fn fill_by_chunk<T: Send>(
        &mut self,
        out: &mut [T],
        fill: impl Fn(&mut ChaCha8Rng, &mut [T]) + Sync,
    ) {
        let mut seed = [0u8; 32];
        self.rng.fill_bytes(&mut seed);
        let chunk = |(k, chunk): (usize, &mut [T])| {
            let mut rng = ChaCha8Rng::from_seed(seed);
            rng.set_stream(k as u64);
            fill(&mut rng, chunk);
        };
        if out.len() <= CHUNK {
            chunk((0, out));
        } else {
            out.par_chunks_mut(CHUNK).enumerate().for_each(chunk);
        }
    }
}

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn fill_bytes(&mut self, dst: &mut [u8]) {
        self.rng.fill_bytes(dst);
    }
}

enum Fill {
    Normal,
    Uniform(f64, f64),
}

impl Fill {
    fn run<T: Float>(&self, stream: &mut Stream, out: &mut [T]) {
        match *self {
            Self::Normal => stream.fill_normal(out),
            Self::Uniform(lo, hi) => stream.fill_uniform(lo, hi, out),
        }
    }
}

/// A 256-bit key into which words are mixed one after the other. Well spread, not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u64; 4]);

impl Key {
    fn absorb(self, word: u64) -> Self {
        let [a, b, c, d] = self.0;
        // Each lane sees the word and its neighbour, under constants of its own.
        let mixed = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
        Self([
            mix(a ^ mixed ^ d.rotate_left(17)),
            mix(b.wrapping_add(mixed) ^ a.rotate_left(29)),
            mix(c ^ mixed.rotate_left(32) ^ b.rotate_left(41)),
            mix(d.wrapping_add(mixed.rotate_left(13)) ^ c.rotate_left(53)),
        ])
    }

    fn absorb_str(self, name: &str) -> Self {
        let start = self.absorb(name.len() as u64);
        name.as_bytes().chunks(8).fold(start, |key, bytes| {
            let mut word = [0u8; 8];
            for (slot, &byte) in word.iter_mut().zip(bytes) {
                *slot = byte;
            }
            key.absorb(u64::from_le_bytes(word))
        })
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0u8; 32];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which every bit of the input moves half of
/// the output.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
