use std::ops::{Deref, DerefMut};

use crate::pool::{self, Pooled};

/// Bytes of the widest register, and of a line of the caches.
const LINE: usize = 64;

/// Numbers that begin with a line of the caches, so that no register full lies in two of them. It has no influence on the
/// bits.
pub(crate) struct Aligned<T> {
    data: Vec<T>,
    from: usize,
    len: usize,
}

impl<T: Pooled> Aligned<T> {
    /// `len` numbers, whatever they are.
    pub(crate) fn take(len: usize) -> Self {
        let data: Vec<T> = pool::take(len + LINE / size_of::<T>());
        // In elements; what cannot be aligned stays as it is.
        let from = data.as_ptr().align_offset(LINE);
        let fits = from.saturating_add(len) <= data.len();
        let from = if fits { from } else { 0 };
        Self { data, from, len }
    }

    pub(crate) fn zeros(len: usize) -> Self {
        let mut aligned = Self::take(len);
        aligned.fill(T::ZERO);
        aligned
    }

    pub(crate) fn recycle(self) {
        pool::give(self.data);
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.data[self.from..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.from..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_with_a_line() {
        for len in [0, 1, 48, 1000, 70_000] {
            let mut x = Aligned::<f32>::zeros(len);
            assert_eq!((x.len(), x.as_ptr() as usize % LINE), (len, 0));
            x.fill(1.0);
            assert!(x.iter().all(|&v| v == 1.0));
            x.recycle();
        }
    }
}
