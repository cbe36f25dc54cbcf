//! Random draws of single cells.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sc_tensor::numpy::RandomState;
use sc_tensor::{Rng, Stream};
use serde::{Deserialize, Serialize};

/// Where random numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generator {
    /// A stream of its own for each cell, found by the seed and the cell's content: the same numbers for the same cell
    /// wherever and whenever it comes.
    Seeded(u64),
    /// numpy's global generator after `numpy.random.seed`: one stream for all cells, in the order in which they come.
    Numpy(u32),
    /// PyTorch's generator on the CPU after `torch.manual_seed`: one stream for all cells, in the order in which they come.
    Torch(u32),
}

impl Default for Generator {
    fn default() -> Self {
        Self::Seeded(0)
    }
}

/// A [`Generator`] at work.
#[derive(Debug)]
pub struct Draws(Source);

#[derive(Debug)]
enum Source {
    Seeded(Stream),
    Numpy(Mutex<RandomState>),
    Torch(Mutex<RandomState>),
}

impl Draws {
    /// From the start. `name` keeps seeded draws for different purposes apart.
    pub fn new(generator: Generator, name: &str) -> Self {
        Self(match generator {
            Generator::Seeded(seed) => Source::Seeded(Rng::new(seed).stream(name)),
            Generator::Numpy(seed) => Source::Numpy(Mutex::new(RandomState::new(seed))),
            // PyTorch runs the same generator, seeded in the same way.
            Generator::Torch(seed) => Source::Torch(Mutex::new(RandomState::new(seed))),
        })
    }

    /// Whether the numbers depend on what was drawn before, so that cells must come in order.
    pub fn is_sequential(&self) -> bool {
        !matches!(self.0, Source::Seeded(_))
    }

    /// `n` numbers in `[0, 1)`. `key` says for which cell, and anything else that the numbers should depend on.
    pub fn uniform(&self, key: &[u64], n: usize) -> Vec<f64> {
        let mut out = vec![0.0; n];
        match &self.0 {
            Source::Seeded(stream) => stream.at(key).fill_uniform(0.0, 1.0, &mut out),
            Source::Numpy(state) => {
                let mut state = lock(state);
                out.fill_with(|| state.random_sample());
            }
            Source::Torch(state) => {
                let mut state = lock(state);
                // 24 bits: what `torch.rand` gives in single precision.
                out.fill_with(|| f64::from(state.next_u32() & 0x00ff_ffff) / 16_777_216.0);
            }
        }
        out
    }

    /// The numbers `0..n` in random order.
    pub fn permutation(&self, key: &[u64], n: usize) -> Vec<usize> {
        match &self.0 {
            Source::Seeded(stream) => stream.at(key).permutation(n),
            Source::Numpy(state) => lock(state).permutation(n),
            Source::Torch(state) => torch_randperm(&mut lock(state), n),
        }
    }

    /// `k` different numbers of `0..n`; all of them if they are fewer. numpy and PyTorch give them in the order in which
    /// they were drawn, seeded draws in ascending order.
    pub fn choose(&self, key: &[u64], n: usize, k: usize) -> Vec<usize> {
        let mut chosen = self.permutation(key, n);
        chosen.truncate(k);
        if !self.is_sequential() {
            chosen.sort_unstable();
        }
        chosen
    }
}

fn lock(state: &Mutex<RandomState>) -> MutexGuard<'_, RandomState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `torch.randperm(n)` on the CPU, for `n` below 2^32.
fn torch_randperm(state: &mut RandomState, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        let other = i + state.next_u32() as usize % (n - i);
        order.swap(i, other);
    }
    order
}

/// A number for the content of a cell, by which its draws are found: equal cells have equal numbers.
pub(crate) fn content_key(ids: &[u32], values: &[f32]) -> u64 {
    // FNV-1a over whole words, finished so that all bits count.
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ ids.len() as u64;
    for (&id, v) in ids.iter().zip(values) {
        let word = (u64::from(id) << 32) | u64::from(v.to_bits());
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash
}
