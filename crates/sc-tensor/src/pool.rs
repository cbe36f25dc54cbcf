//! Large buffers that are used again in the next step of a training loop, so that the operating system need not hand out
//! fresh pages each time.

use std::sync::{Mutex, PoisonError};

use crate::kernel::Real;

/// Buffers that wait to be used again, at most. A training step of a transformer with 12 layers has the gradients of 48
/// weights.
const MOST: usize = 64;
/// As many wait in any case. A training step of scVI has five of the largest size: two of logits, and the gradients of three
/// weights.
const LEAST: usize = 8;
/// Beyond these, only as many as have so many elements together.
const TOGETHER: usize = 1 << 25;
/// Smaller buffers (in elements) are left to the allocator, which does not return them to the system either.
pub(crate) const SMALLEST: usize = 1 << 16;
/// Larger ones are not kept.
const LARGEST: usize = 1 << 26;

/// The types that have a pool.
pub(crate) trait Pooled: Real {
    fn pool() -> &'static Mutex<Vec<Vec<Self>>>;
}

impl Pooled for f32 {
    fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
        static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
        &POOL
    }
}

impl Pooled for f64 {
    fn pool() -> &'static Mutex<Vec<Vec<Self>>> {
        static POOL: Mutex<Vec<Vec<f64>>> = Mutex::new(Vec::new());
        &POOL
    }
}

/// `len` numbers, whatever they are.
pub(crate) fn take<T: Pooled>(len: usize) -> Vec<T> {
    if len < SMALLEST {
        return vec![T::ZERO; len];
    }
    let mut pool = T::pool().lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |b: &Vec<T>| b.capacity() >= len && b.capacity() / 2 <= len;
    let found = pool.iter().rposition(fits).map(|k| pool.remove(k));
    drop(pool);
    match found {
        Some(mut buffer) => {
            buffer.resize(len, T::ZERO);
            buffer
        }
        None => vec![T::ZERO; len],
    }
}

/// Gives a buffer back.
pub(crate) fn give<T: Pooled>(buffer: Vec<T>) {
    if !(SMALLEST..=LARGEST).contains(&buffer.capacity()) {
        return;
    }
    let mut pool = T::pool().lock().unwrap_or_else(PoisonError::into_inner);
    pool.push(buffer);
    let mut total: usize = pool.iter().map(Vec::capacity).sum();
    // Those that have waited longest have a size that is not asked for any more.
    let mut old = 0;
    while pool.len() - old > MOST || (pool.len() - old > LEAST && total > TOGETHER) {
        total -= pool.get(old).map_or(0, Vec::capacity);
        old += 1;
    }
    let old: Vec<Vec<T>> = pool.drain(..old).collect();
    drop(pool);
    drop(old);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_asked_for() {
        for len in [0, 10, SMALLEST, SMALLEST + 5, 3 * SMALLEST, SMALLEST + 1] {
            let buffer = take::<f64>(len);
            assert_eq!(buffer.len(), len);
            give(buffer);
        }
        for _ in 0..3 * MOST {
            give(vec![1.0f64; SMALLEST]);
        }
        assert!(f64::pool().lock().unwrap().len() <= MOST);
    }

    #[test]
    fn large_buffers_do_not_pile_up() {
        for _ in 0..3 * LEAST {
            give(vec![0f32; TOGETHER / 4]);
        }
        let pool = f32::pool().lock().unwrap();
        let total: usize = pool.iter().map(Vec::capacity).sum();
        assert!(pool.len() <= LEAST || total <= TOGETHER);
    }
}
