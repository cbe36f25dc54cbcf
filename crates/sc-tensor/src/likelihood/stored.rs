//! Stored entries: gathered by the size of the count, computed, and put back.

use std::sync::OnceLock;

use super::block::{BLOCK, Block, Entries};
use super::family::Family;
use super::stored_loops::{Form, SMALL_COUNT, Stored, TINY_COUNT};
use crate::math::{Float, dispatch, lgamma_of};

/// Three lists, one for each [`Form`].
pub(super) struct Lists<T> {
    lists: [(Form, Entries<T>); 3],
    log_factorial: LogFactorial,
}

impl<T: Float> Lists<T> {
    pub(super) fn new() -> Self {
        Self {
            lists: [Form::Tiny, Form::Small, Form::General].map(|form| (form, Entries::new())),
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
        for (_, list) in &mut self.lists {
            list.len = 0;
        }
        for (&gene, &count) in genes.iter().zip(counts) {
            if count != 0.0 {
                let j = gene as usize - start;
                self.push(family, block, j, count, &log_mu);
            }
        }
        let mut sum = 0.0;
        for (form, list) in &mut self.lists {
            if list.len > 0 {
                let form = *form;
                dispatch(Stored::<T, GRAD> {
                    family,
                    entries: list,
                    form,
                    chain,
                });
                sum += list.log_prob[..list.len].iter().sum::<f64>();
                put_back::<T, GRAD>(list, block);
            }
        }
        sum
    }

    fn push(
        &mut self,
        family: Family,
        b: &Block<T>,
        j: usize,
        count: f32,
        log_mu: &impl Fn(usize, T) -> f64,
    ) {
        let form = if family == Family::Poisson {
            Form::General
        } else {
            form_of(count, b.mu[j].wide(), b.theta[j].wide())
        };
        let (_, list) = &mut self.lists[form as usize];
        let k = list.len.min(BLOCK - 1);
        list.gene[k] = j as u16;
        list.x[k] = T::of_f32(count);
        list.mu[k] = b.mu[j];
        if family == Family::Poisson {
            list.log_mu[k] = log_mu(j, b.mu[j]);
        } else {
            list.theta[k] = b.theta[j];
            list.inverse[k] = b.inverse[j];
            list.decline[k] = b.decline[j];
            list.logit[k] = b.logit[j];
        }
        if form == Form::General {
            list.log_factorial[k] = self.log_factorial.of(count);
        }
        list.len = k + 1;
    }
}

/// The product form only where neither x is large nor anything could leave the range of `f64`.
fn form_of(count: f32, mu: f64, theta: f64) -> Form {
    let whole = count > 0.0 && count <= SMALL_COUNT as f32 && count.fract() == 0.0;
    if !(whole && mu < 1e30 && theta > 1e-200) {
        Form::General
    } else if count <= TINY_COUNT as f32 {
        Form::Tiny
    } else {
        Form::Small
    }
}

fn put_back<T: Float, const GRAD: bool>(list: &Entries<T>, block: &mut Block<T>) {
    for (k, &gene) in list.gene[..list.len].iter().enumerate() {
        let j = usize::from(gene);
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

    fn of(&self, x: f32) -> f64 {
        match self.0.get(x as usize) {
            Some(&value) if x.fract() == 0.0 && x >= 0.0 => value,
            // A negative number is no count.
            _ if x < 0.0 => f64::NAN,
            _ => lgamma_of(f64::from(x) + 1.0),
        }
    }
}
