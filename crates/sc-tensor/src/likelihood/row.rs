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
pub(super) struct Scratch<T> {
    block: Box<Block<T>>,
    lists: Box<Lists<T>>,
    exps: Vec<T>,
}

impl<T: Float> Scratch<T> {
    pub(super) fn new(problem: &Problem) -> Self {
        let softmax = problem.mean_kind == MeanKind::Softmax;
        Self {
            block: Box::new(Block::new()),
            lists: Box::new(Lists::new()),
            exps: vec![T::ZERO; if softmax { problem.g } else { 0 }],
        }
    }
}

/// Where the gradients of one cell go, each G long.
pub(super) struct RowGradients<'a, T> {
    pub(super) mean: Option<&'a mut [T]>,
    pub(super) dropout: Option<&'a mut [T]>,
    pub(super) log_theta: Option<&'a mut [T]>,
    /// `log_theta` is a sum over cells, to which this one is added with this weight.
    pub(super) weight: Option<T>,
}

/// The log-probability of cell `i`, and its derivative by the log-library.
pub(super) fn row<T: Float, const GRAD: bool>(
    plan: &Plan<'_, T>,
    scratch: &mut Scratch<T>,
    i: usize,
    out: &mut RowGradients<'_, T>,
) -> (f64, f64) {
    let (p, numbers) = (plan.problem, plan.numbers);
    let values = &numbers.mean[i * p.g..][..p.g];
    let log_library = numbers.log_library.map_or(0.0, |l| l[i].wide());
    let Scratch { block, lists, exps } = scratch;
    let (mut max, mut sum) = (T::ZERO, 1.0);
    if p.mean_kind == MeanKind::Softmax {
        dispatch(SoftmaxExps {
            logits: values,
            exps: &mut *exps,
            max: &mut max,
            sum: &mut sum,
        });
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
        let weight = out.weight;
        let log_theta = out.log_theta.as_deref_mut();
        dispatch(Finish::<T, GRAD> {
            block: &mut *block,
            n,
            softplus: p.mean_kind == MeanKind::Softplus,
            accumulate: log_theta
                .zip(weight)
                .map(|(sum, w)| (&mut sum[range.clone()], w)),
            totals: &mut totals,
        });
        if GRAD {
            copy(out.mean.as_deref_mut(), &block.by_mean, &range);
            copy(out.dropout.as_deref_mut(), &block.by_logit, &range);
            if weight.is_none() {
                copy(out.log_theta.as_deref_mut(), &block.by_log_theta, &range);
            }
        }
    }
    if p.mean_kind == MeanKind::Softmax
        && let Some(grad) = out.mean.as_deref_mut()
    {
        let factor = T::of(totals[1] / sum);
        dispatch(SoftmaxGradient { exps, factor, grad });
    }
    (totals[0], totals[1])
}

fn copy<T: Float>(out: Option<&mut [T]>, from: &[T; BLOCK], range: &std::ops::Range<usize>) {
    if let Some(out) = out {
        out[range.clone()].copy_from_slice(&from[..range.len()]);
    }
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
    if let Some(dropout) = numbers.dropout {
        block.logit[..n].copy_from_slice(&dropout[i * p.g + start..][..n]);
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

/// `exps = exp(logits - max)` and their sum.
struct SoftmaxExps<'a, T> {
    logits: &'a [T],
    exps: &'a mut [T],
    max: &'a mut T,
    sum: &'a mut f64,
}

impl<T: Float> Kernel for SoftmaxExps<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
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
        for (e, &l) in self.exps.iter_mut().zip(self.logits) {
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
}

impl<T: Float> Kernel for SoftmaxGradient<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let factor = -self.factor;
        for (g, &e) in self.grad.iter_mut().zip(self.exps) {
            *g = e.fma::<FMA>(factor, *g);
        }
    }
}

/// Sums over the block, and what remains of the chain rule.
struct Finish<'a, T, const GRAD: bool> {
    block: &'a mut Block<T>,
    n: usize,
    softplus: bool,
    accumulate: Option<(&'a mut [T], T)>,
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
        if let Some((out, weight)) = self.accumulate {
            for (o, &v) in out.iter_mut().zip(&b.by_log_theta[..n]) {
                *o = v.fma::<FMA>(weight, *o);
            }
        }
    }
}
