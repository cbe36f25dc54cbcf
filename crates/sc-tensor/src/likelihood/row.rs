//! One cell: its means, the blocks of its genes, and the gradient of the softmax.

use super::block::{BLOCK, Block};
use super::dense::{Dense, MeanSource};
use super::family::Family;
use super::problem::{MeanKind, Numbers, Problem};
use super::stored::Lists;
use crate::math::{Float, Kernel, LANES, dispatch};

/// What does not change from cell to cell.
pub(super) struct Plan<'a, T> {
    pub(super) problem: &'a Problem,
    pub(super) numbers: &'a Numbers<'a, T>,
    /// theta and 1 / (theta + eps), where many cells share them.
    pub(super) theta: Option<(Vec<T>, Vec<T>)>,
}

/// The memory that one thread works in.
pub(super) struct RowScratch<T> {
    block: Box<Block<T>>,
    lists: Box<Lists<T>>,
    exps: Vec<T>,
}

impl<T: Float> RowScratch<T> {
    pub(super) fn new(problem: &Problem) -> Self {
        let softmax = problem.mean_kind == MeanKind::Softmax;
        Self {
            block: Box::new(Block::new()),
            lists: Box::new(Lists::new()),
            exps: vec![T::ZERO; if softmax { problem.g } else { 0 }],
        }
    }
}

/// One cell, each array G long.
pub(super) struct Row<'a, T> {
    /// The mean or its logits (to which the bias is still to be added), overwritten by the gradient.
    pub(super) mean: &'a mut [T],
    /// The dropout logits, in the same way.
    pub(super) dropout: Option<&'a mut [T]>,
    /// Where the gradient by `log_theta` goes.
    pub(super) log_theta: Option<&'a mut [T]>,
    /// `log_theta` is a sum over cells.
    pub(super) theta_is_sum: bool,
    /// With which this cell enters sums over cells.
    pub(super) weight: T,
    /// Sums over cells of the gradients by mean and dropout logits.
    pub(super) mean_bias: Option<&'a mut [T]>,
    pub(super) dropout_bias: Option<&'a mut [T]>,
}

/// The log-probability of cell `i`, and its derivative by the log-library.
pub(super) fn row<T: Float, const GRAD: bool>(
    plan: &Plan<'_, T>,
    scratch: &mut RowScratch<T>,
    i: usize,
    out: &mut Row<'_, T>,
) -> (f64, f64) {
    let (p, numbers) = (plan.problem, plan.numbers);
    let log_library = numbers.log_library.map_or(0.0, |l| l[i].wide());
    let RowScratch { block, lists, exps } = scratch;
    let (mut max, mut sum) = (T::ZERO, 1.0);
    if p.mean_kind == MeanKind::Softmax {
        dispatch(SoftmaxExps {
            logits: &mut *out.mean,
            bias: numbers.mean_bias,
            exps: &mut *exps,
            max: &mut max,
            sum: &mut sum,
        });
    } else if let Some(bias) = numbers.mean_bias {
        for (m, &b) in out.mean.iter_mut().zip(bias) {
            *m += b;
        }
    }
    let scale = log_library.exp() / sum;
    let log_scale = log_library - max.wide() - sum.ln();
    let (genes, counts) = p.x.row(i % p.x.n_rows());
    let (mut seen, mut totals) = (0, [0.0; 2]);
    for start in (0..p.g).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(p.g);
        let n = range.len();
        let first = seen;
        seen += genes[first..]
            .iter()
            .take_while(|&&gene| (gene as usize) < range.end)
            .count();
        let stored = (&genes[first..seen], &counts[first..seen]);
        fill(plan, block, i, start, n, stored);
        if let Some(dropout) = out.dropout.as_deref() {
            block.logit[..n].copy_from_slice(&dropout[range.clone()]);
            if let Some(bias) = numbers.dropout_bias {
                for (l, &b) in block.logit[..n].iter_mut().zip(&bias[range.clone()]) {
                    *l += b;
                }
            }
        }
        let values = &*out.mean;
        let source = if p.mean_kind == MeanKind::Softmax {
            &*exps
        } else {
            values
        };
        dispatch(Dense::<T, GRAD> {
            family: p.family,
            block: &mut *block,
            mean: MeanSource {
                kind: p.mean_kind,
                values: &source[range.clone()],
                scale: T::of(scale),
            },
            theta_is_log: plan.theta.is_none(),
        });
        if p.family != Family::Normal && !stored.0.is_empty() {
            let chain = p.mean_kind != MeanKind::Rate;
            let log_mu = |j: usize, mu: T| match p.mean_kind {
                MeanKind::Softmax => log_scale + values[start + j].wide(),
                MeanKind::Softplus => log_library + log_softplus(values[start + j].wide()),
                MeanKind::Rate => mu.wide().ln(),
            };
            totals[0] += lists.apply::<GRAD>(p.family, block, start, stored, chain, log_mu);
        }
        let softmax = p.mean_kind == MeanKind::Softmax;
        dispatch(Finish::<T, GRAD> {
            block: &mut *block,
            n,
            softplus: p.mean_kind == MeanKind::Softplus,
            theta_is_sum: out.theta_is_sum,
            weight: out.weight,
            mean: &mut out.mean[range.clone()],
            dropout: out.dropout.as_deref_mut().map(|t| &mut t[range.clone()]),
            log_theta: out.log_theta.as_deref_mut().map(|t| &mut t[range.clone()]),
            // The gradient of a softmax is not finished yet.
            mean_bias: (out.mean_bias.as_deref_mut().filter(|_| !softmax))
                .map(|t| &mut t[range.clone()]),
            dropout_bias: (out.dropout_bias.as_deref_mut()).map(|t| &mut t[range.clone()]),
            totals: &mut totals,
        });
    }
    if GRAD && p.mean_kind == MeanKind::Softmax {
        dispatch(SoftmaxGradient {
            exps,
            factor: T::of(totals[1] / sum),
            grad: &mut *out.mean,
            weight: out.weight,
            bias: out.mean_bias.as_deref_mut(),
        });
    }
    (totals[0], totals[1])
}

/// ln(softplus(l)), where softplus(l) = e^l (1 - e^l / 2 + ...) for small l.
fn log_softplus(l: f64) -> f64 {
    if l < -38.0 {
        l
    } else {
        (l.max(0.0) + (-l.abs()).exp().ln_1p()).ln()
    }
}

/// Copies into the block what the dense loops read, apart from the mean.
fn fill<T: Float>(
    plan: &Plan<'_, T>,
    block: &mut Block<T>,
    i: usize,
    start: usize,
    n: usize,
    (genes, counts): (&[u32], &[f32]),
) {
    let (p, numbers) = (plan.problem, plan.numbers);
    if let Some(log_theta) = numbers.log_theta {
        let at = p.theta_row(i) * p.g + start;
        match &plan.theta {
            Some((theta, inverse)) => {
                block.theta[..n].copy_from_slice(&theta[at..][..n]);
                block.inverse[..n].copy_from_slice(&inverse[at..][..n]);
            }
            None => block.theta[..n].copy_from_slice(&log_theta[at..][..n]),
        }
        if p.family == Family::Normal {
            block.logit[..n].copy_from_slice(&log_theta[at..][..n]);
            block.decline[..n].fill(T::ZERO);
            for (&gene, &count) in genes.iter().zip(counts) {
                block.decline[gene as usize - start] = T::of_f32(count);
            }
        }
    }
}

/// The sum, in `f64` from blocks of 256 on, with a fixed order whatever the instruction set.
#[inline(always)]
pub(super) fn sum<T: Float>(values: &[T]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let mut lanes = [T::ZERO; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for k in 0..LANES {
                lanes[k] += chunk[k];
            }
        }
        for (lane, &v) in lanes.iter_mut().zip(rest) {
            *lane += v;
        }
        for lane in lanes {
            total += lane.wide();
        }
    }
    total
}

/// `logits += bias`, `exps = exp(logits - max)` and their sum.
struct SoftmaxExps<'a, T> {
    logits: &'a mut [T],
    bias: Option<&'a [T]>,
    exps: &'a mut [T],
    max: &'a mut T,
    sum: &'a mut f64,
}

impl<T: Float> Kernel for SoftmaxExps<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        if let Some(bias) = self.bias {
            for (l, &b) in self.logits.iter_mut().zip(bias) {
                *l += b;
            }
        }
        let mut lanes = [T::NEG_INFINITY; LANES];
        let (whole, rest) = self.logits.as_chunks::<LANES>();
        for chunk in whole {
            for k in 0..LANES {
                lanes[k] = if chunk[k] > lanes[k] {
                    chunk[k]
                } else {
                    lanes[k]
                };
            }
        }
        for (lane, &v) in lanes.iter_mut().zip(rest) {
            *lane = if v > *lane { v } else { *lane };
        }
        let mut max = T::NEG_INFINITY;
        for lane in lanes {
            max = if lane > max { lane } else { max };
        }
        for (e, &l) in self.exps.iter_mut().zip(&*self.logits) {
            *e = (l - max).exp_lane::<FMA>();
        }
        *self.max = max;
        *self.sum = sum(self.exps);
    }
}

/// With h_j = mu_j d ll/d mu_j, the gradient by logit j is h_j - softmax_j * sum(h); `factor` is sum(h) / sum(exps).
struct SoftmaxGradient<'a, T> {
    exps: &'a [T],
    factor: T,
    grad: &'a mut [T],
    weight: T,
    /// Sum over cells.
    bias: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for SoftmaxGradient<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let factor = -self.factor;
        for (g, &e) in self.grad.iter_mut().zip(self.exps) {
            *g = flushed(e.fma::<FMA>(factor, *g));
        }
        if let Some(bias) = self.bias {
            accumulate::<T, FMA>(bias, self.grad, self.weight);
        }
    }
}

/// What is too small to matter becomes 0: products with it would be subnormal, which is slow.
#[inline(always)]
fn flushed<T: Float>(v: T) -> T {
    if v.absolute() < T::TINY { T::ZERO } else { v }
}

/// `sum += weight * values`
#[inline(always)]
fn accumulate<T: Float, const FMA: bool>(sum: &mut [T], values: &[T], weight: T) {
    for (s, &v) in sum.iter_mut().zip(values) {
        *s = v.fma::<FMA>(weight, *s);
    }
}

/// Sums over the block, and what remains of the chain rule.
struct Finish<'a, T, const GRAD: bool> {
    block: &'a mut Block<T>,
    n: usize,
    softplus: bool,
    theta_is_sum: bool,
    weight: T,
    mean: &'a mut [T],
    dropout: Option<&'a mut [T]>,
    log_theta: Option<&'a mut [T]>,
    mean_bias: Option<&'a mut [T]>,
    dropout_bias: Option<&'a mut [T]>,
    totals: &'a mut [f64; 2],
}

impl<T: Float, const GRAD: bool> Kernel for Finish<'_, T, GRAD> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (b, n) = (self.block, self.n.min(BLOCK));
        self.totals[0] += sum(&b.log_prob[..n]);
        if !GRAD {
            return;
        }
        self.totals[1] += sum(&b.by_mean[..n]);
        if self.softplus {
            for i in 0..n {
                b.by_mean[i] *= b.chain[i];
            }
        }
        for (out, &v) in self.mean.iter_mut().zip(&b.by_mean[..n]) {
            *out = flushed(v);
        }
        if let Some(bias) = self.mean_bias {
            accumulate::<T, FMA>(bias, self.mean, self.weight);
        }
        if let Some(out) = self.dropout {
            for (out, &v) in out.iter_mut().zip(&b.by_logit[..n]) {
                *out = flushed(v);
            }
        }
        if let Some(bias) = self.dropout_bias {
            accumulate::<T, FMA>(bias, &b.by_logit[..n], self.weight);
        }
        match self.log_theta {
            Some(sum) if self.theta_is_sum => {
                accumulate::<T, FMA>(sum, &b.by_log_theta[..n], self.weight);
            }
            Some(out) => out.copy_from_slice(&b.by_log_theta[..n]),
            None => {}
        }
    }
}
