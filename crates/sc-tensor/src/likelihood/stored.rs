//! Stored entries: gathered by the size of the count, computed, and put back.

use std::sync::OnceLock;

use candle_core::DType;

use super::block::{BLOCK, Block, Entries};
use super::family::Family;
use super::stored_loops::{Form, SMALL_COUNT, Stored, TINY_COUNT};
use crate::math::{Float, dispatch, lgamma_of};

const FORMS: [Form; 3] = [Form::Tiny, Form::Small, Form::General];

/// Three lists, one for each [`Form`].
pub(super) struct Lists<T> {
    lists: [Entries<T>; 3],
    log_factorial: LogFactorial,
}

impl<T: Float> Lists<T> {
    pub(super) fn new() -> Self {
        Self {
            lists: FORMS.map(|_| Entries::new()),
            log_factorial: LogFactorial::new(),
        }
    }

    /// Replaces the zero forms in `block` by the right values for the stored entries (`genes` counted from `start`).
    ///
    /// Returns the sum of their log-probabilities, whose places in `block` become 0.
    pub(super) fn apply<const GRAD: bool>(
        &mut self,
        family: Family,
        block: &mut Block<T>,
        start: usize,
        (genes, counts): (&[u32], &[f32]),
        chain: bool,
        log_mu: impl Fn(usize, T) -> f64,
    ) -> f64 {
        self.partition(block, start, genes, counts);
        let mut sum = 0.0;
        for (form, list) in FORMS.into_iter().zip(&mut self.lists) {
            if list.len > 0 {
                gather(family, block, list);
                if family == Family::Poisson {
                    for k in 0..list.len {
                        list.log_mu[k] = log_mu(usize::from(list.gene[k]), list.mu[k]);
                    }
                }
                dispatch(Stored::<T, GRAD> {
                    family,
                    entries: list,
                    form,
                    chain,
                    sum: &mut sum,
                });
                put_back::<T, GRAD>(list, block);
            }
        }
        sum
    }

    /// Deals the entries out to the lists, without a branch that depends on the counts: those can't be predicted.
    fn partition(&mut self, block: &Block<T>, start: usize, genes: &[u32], counts: &[f32]) {
        for list in &mut self.lists {
            list.len = 0;
        }
        for (&gene, &count) in genes.iter().zip(counts) {
            if count == 0.0 {
                continue;
            }
            let gene = (gene as usize - start) % BLOCK;
            let whole = count as u32 as f32 == count;
            let small = whole & (count <= SMALL_COUNT as f32);
            // The product form leaves the range of f64 for such a mean.
            let small = small & (T::DTYPE == DType::F32 || block.mu[gene].wide() < 1e30);
            let tiny = small & (count <= TINY_COUNT as f32);
            let form = usize::from(!small) + usize::from(!tiny);
            let list = &mut self.lists[form];
            let k = list.len % BLOCK;
            list.gene[k] = gene as u16;
            list.x[k] = T::of_f32(count);
            list.log_factorial[k] = self.log_factorial.of(count);
            list.len = k + 1;
        }
    }
}

/// Copies what belongs to the entries of a list from the block.
fn gather<T: Float>(family: Family, b: &Block<T>, list: &mut Entries<T>) {
    let n = list.len.min(BLOCK);
    for k in 0..n {
        list.mu[k] = b.mu[usize::from(list.gene[k]) % BLOCK];
    }
    if family == Family::Poisson {
        return;
    }
    for k in 0..n {
        let j = usize::from(list.gene[k]) % BLOCK;
        list.theta[k] = b.theta[j];
        list.inverse[k] = b.inverse[j];
        list.decline[k] = b.decline[j];
        list.logit[k] = b.logit[j];
    }
}

fn put_back<T: Float, const GRAD: bool>(list: &Entries<T>, block: &mut Block<T>) {
    for (k, &gene) in list.gene[..list.len].iter().enumerate() {
        let j = usize::from(gene) % BLOCK;
        block.log_prob[j] = T::ZERO;
        if GRAD {
            block.by_mean[j] = list.by_mean[k];
            block.by_log_theta[j] = list.by_log_theta[k];
            block.by_logit[j] = list.by_logit[k];
        }
    }
}

/// lgamma(x + 1): a table for whole numbers below 1024.
pub(super) struct LogFactorial(&'static [f64]);

impl LogFactorial {
    fn new() -> Self {
        static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
        Self(TABLE.get_or_init(|| (0..1024).map(|x| lgamma_of(f64::from(x) + 1.0)).collect()))
    }

    #[inline]
    fn of(&self, x: f32) -> f64 {
        let whole = x as u32;
        match self.0.get(whole as usize) {
            Some(&value) if whole as f32 == x => value,
            // A negative number is no count.
            _ if x < 0.0 => f64::NAN,
            _ => lgamma_of(f64::from(x) + 1.0),
        }
    }
}
