//! All cells, in parallel.

use rayon::prelude::*;

use super::dense::dispersion;
use super::family::{DispersionRows, Family};
use super::problem::{Numbers, Problem};
use super::row::{Plan, Row, RowScratch, row};
use crate::math::{Float, Kernel, dispatch};
use crate::pool::{self, Pooled};

/// Which gradients to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mean: bool,
    pub(super) log_library: bool,
    pub(super) log_theta: bool,
    pub(super) dropout: bool,
    pub(super) mean_bias: bool,
    pub(super) dropout_bias: bool,
}

impl Wanted {
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Gradients of each cell's log-probability; those by a `log_theta` that cells share are summed over cells.
#[derive(Debug)]
pub(super) struct Gradients<T> {
    pub(super) mean: Option<Vec<T>>,
    pub(super) log_library: Option<Vec<T>>,
    pub(super) log_theta: Option<Vec<T>>,
    pub(super) dropout: Option<Vec<T>>,
    /// Sums over cells of `mean` and `dropout`, `[G]`.
    pub(super) mean_bias: Option<Vec<T>>,
    pub(super) dropout_bias: Option<Vec<T>>,
}

/// Buffers of `[N, G]` that hold the mean and the dropout logits, to be overwritten by the gradients.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) mean: Option<Vec<T>>,
    pub(super) dropout: Option<Vec<T>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            mean: None,
            dropout: None,
        }
    }
}

/// The cells of one task, and where their results go.
struct Task<'a, T> {
    first: usize,
    log_prob: &'a mut [T],
    mean: Option<&'a mut [T]>,
    log_library: Option<&'a mut [T]>,
    /// Only if each cell has its own row.
    log_theta: Option<&'a mut [T]>,
    dropout: Option<&'a mut [T]>,
}

/// The memory that one thread works in.
struct Scratch<T> {
    /// A row of the mean and of the dropout logits, if they have no other place.
    mean: Vec<T>,
    dropout: Vec<T>,
    inner: RowScratch<T>,
}

/// Sums of the gradients by shared rows of `log_theta` over the cells of one task.
struct Partial<'a, T> {
    /// The rows of `log_theta` that occur in the task.
    rows: Vec<usize>,
    /// G numbers for each of them.
    sums: Vec<T>,
    mean_bias: Option<&'a mut [T]>,
    dropout_bias: Option<&'a mut [T]>,
}

/// Log-probabilities of all cells and the gradients wanted. `weights` (one per cell, otherwise all 1) enter the sums over
/// cells.
pub(super) fn evaluate<T: Pooled>(
    problem: &Problem,
    numbers: &Numbers<'_, T>,
    held: Held<T>,
    wanted: Wanted,
    weights: Option<&[T]>,
) -> (Vec<T>, Gradients<T>) {
    let (n, g) = (problem.n, problem.g);
    let buffer = |yes: bool, len: usize| yes.then(|| vec![T::ZERO; len]);
    let per_cell = matches!(problem.rows, DispersionRows::PerCell);
    let mut log_prob = vec![T::ZERO; n];
    let mut grads = Gradients {
        mean: held.mean.or_else(|| buffer(wanted.mean, n * g)),
        log_library: buffer(wanted.log_library, n),
        log_theta: buffer(wanted.log_theta && per_cell, n * g),
        dropout: held.dropout.or_else(|| buffer(wanted.dropout, n * g)),
        mean_bias: None,
        dropout_bias: None,
    };
    let plan = Plan {
        problem,
        numbers,
        theta: theta_table(problem, numbers),
    };
    let tasks = tasks(&mut log_prob, &mut grads, g);
    let sums = wanted.log_theta && !per_cell;
    let room = |yes: bool| yes.then(|| pool::take::<T>(tasks.len() * g));
    let mut mean_biases = room(wanted.mean_bias);
    let mut dropout_biases = room(wanted.dropout_bias);
    let mut mean_bias = pieces(&mut mean_biases, g);
    let mut dropout_bias = pieces(&mut dropout_biases, g);
    let tasks: Vec<_> = (tasks.into_iter())
        .map(|task| (task, mean_bias(), dropout_bias()))
        .collect();
    let partials: Vec<Partial<'_, T>> = tasks
        .into_par_iter()
        .map_init(
            || Scratch {
                mean: Vec::new(),
                dropout: Vec::new(),
                inner: RowScratch::new(problem),
            },
            |scratch, (task, mut mean_bias, mut dropout_bias)| {
                for sums in [&mut mean_bias, &mut dropout_bias].into_iter().flatten() {
                    sums.fill(T::ZERO);
                }
                let mut partial = Partial {
                    rows: Vec::new(),
                    sums: Vec::new(),
                    mean_bias,
                    dropout_bias,
                };
                if wanted.any() {
                    run::<T, true>(&plan, scratch, task, &mut partial, sums, weights);
                } else {
                    run::<T, false>(&plan, scratch, task, &mut partial, false, None);
                }
                partial
            },
        )
        .collect();
    if sums {
        grads.log_theta = Some(combine(problem, &partials));
    }
    drop(partials);
    drop((mean_bias, dropout_bias));
    let sum = |all: Vec<T>| {
        let parts: Vec<&[T]> = all.chunks(g.max(1)).collect();
        let mut out = vec![T::ZERO; g];
        add_parts(&mut out, &parts);
        pool::give(all);
        out
    };
    grads.mean_bias = mean_biases.map(sum);
    grads.dropout_bias = dropout_biases.map(sum);
    (log_prob, grads)
}

/// Deals the cells out. The size of a task is a function of the number of cells alone, and with it the order of all sums.
fn tasks<'a, T>(log_prob: &'a mut [T], grads: &'a mut Gradients<T>, g: usize) -> Vec<Task<'a, T>> {
    let n = log_prob.len();
    let per_task = n.div_ceil(64).max(8);
    let mut mean = pieces(&mut grads.mean, per_task * g);
    let mut log_library = pieces(&mut grads.log_library, per_task);
    let mut log_theta = pieces(&mut grads.log_theta, per_task * g);
    let mut dropout = pieces(&mut grads.dropout, per_task * g);
    let mut tasks = Vec::with_capacity(n.div_ceil(per_task));
    for (k, log_prob) in log_prob.chunks_mut(per_task).enumerate() {
        tasks.push(Task {
            first: k * per_task,
            log_prob,
            mean: mean(),
            log_library: log_library(),
            log_theta: log_theta(),
            dropout: dropout(),
        });
    }
    tasks
}

/// Cuts a buffer into pieces of `len`, handed out one per call; a buffer that is not there gives `None`s.
fn pieces<'a, T>(
    buffer: &'a mut Option<Vec<T>>,
    len: usize,
) -> impl FnMut() -> Option<&'a mut [T]> + use<'a, T> {
    let mut chunks = buffer.as_mut().map(|b| b.chunks_mut(len.max(1)));
    move || chunks.as_mut().map(|c| c.next().unwrap_or_default())
}

fn run<T: Float, const GRAD: bool>(
    plan: &Plan<'_, T>,
    scratch: &mut Scratch<T>,
    mut task: Task<'_, T>,
    partial: &mut Partial<'_, T>,
    sums: bool,
    weights: Option<&[T]>,
) {
    let (numbers, g) = (plan.numbers, plan.problem.g);
    for k in 0..task.log_prob.len() {
        let i = task.first + k;
        let range = k * g..(k + 1) * g;
        let Partial {
            rows,
            sums: theta_sums,
            mean_bias,
            dropout_bias,
        } = &mut *partial;
        let log_theta = if sums {
            Some(slot(rows, theta_sums, plan.problem.theta_row(i), g))
        } else {
            task.log_theta.as_deref_mut().map(|t| &mut t[range.clone()])
        };
        let Scratch {
            mean,
            dropout,
            inner,
        } = scratch;
        let of_row = i * g..(i + 1) * g;
        let mut out = Row {
            mean: place(
                task.mean.as_deref_mut().map(|t| &mut t[range.clone()]),
                mean,
                numbers.mean.map(|v| &v[of_row.clone()]),
            ),
            dropout: plan.problem.family.has_dropout().then(|| {
                place(
                    task.dropout.as_deref_mut().map(|t| &mut t[range.clone()]),
                    dropout,
                    numbers.dropout.map(|v| &v[of_row.clone()]),
                )
            }),
            log_theta,
            theta_is_sum: sums,
            weight: weights.map_or(T::ONE, |w| w[i]),
            mean_bias: mean_bias.as_deref_mut(),
            dropout_bias: dropout_bias.as_deref_mut(),
        };
        let (log_prob, by_log_library) = row::<T, GRAD>(plan, inner, i, &mut out);
        task.log_prob[k] = T::of(log_prob);
        if let Some(l) = task.log_library.as_deref_mut() {
            l[k] = T::of(by_log_library);
        }
    }
}

/// Where the numbers of a row stand that [`row`] reads and overwrites: in its own row of a buffer if there is one, else in
/// `scratch`; copied there from `source` unless they are there already.
fn place<'a, T: Float>(
    own: Option<&'a mut [T]>,
    scratch: &'a mut Vec<T>,
    source: Option<&[T]>,
) -> &'a mut [T] {
    match (own, source) {
        (Some(own), Some(source)) => {
            own.copy_from_slice(source);
            own
        }
        (Some(own), None) => own,
        (None, source) => {
            scratch.clear();
            scratch.extend_from_slice(source.unwrap_or_default());
            scratch
        }
    }
}

/// The sums for row `row` of `log_theta`, which start at 0.
fn slot<'a, T: Float>(
    rows: &mut Vec<usize>,
    sums: &'a mut Vec<T>,
    row: usize,
    g: usize,
) -> &'a mut [T] {
    let slot = match rows.iter().position(|&r| r == row) {
        Some(slot) => slot,
        None => {
            rows.push(row);
            sums.resize(rows.len() * g, T::ZERO);
            rows.len() - 1
        }
    };
    &mut sums[slot * g..][..g]
}

/// Adds up the sums of the tasks, in the order of the tasks.
fn combine<T: Float>(problem: &Problem, partials: &[Partial<'_, T>]) -> Vec<T> {
    let g = problem.g;
    let mut out = vec![T::ZERO; problem.n_theta() * g];
    if g == 0 {
        return out;
    }
    let mut parts: Vec<Vec<&[T]>> = vec![Vec::new(); problem.n_theta()];
    for partial in partials {
        for (&row, sums) in partial.rows.iter().zip(partial.sums.chunks(g)) {
            parts[row].push(sums);
        }
    }
    out.par_chunks_mut(g)
        .zip(&parts)
        .for_each(|(out, parts)| add_parts(out, parts));
    out
}

/// Adds all `parts` to `out`, one after the other.
fn add_parts<T: Float>(out: &mut [T], parts: &[&[T]]) {
    const COLUMNS: usize = 4096;
    out.par_chunks_mut(COLUMNS)
        .enumerate()
        .for_each(|(k, out)| {
            for part in parts {
                for (o, &v) in out.iter_mut().zip(&part[k * COLUMNS..]) {
                    *o += v;
                }
            }
        });
}

/// theta and its inverse for all genes, unless most rows would be used only once.
fn theta_table<T: Float>(problem: &Problem, numbers: &Numbers<'_, T>) -> Option<(Vec<T>, Vec<T>)> {
    const CHUNK: usize = 4096;
    let log_theta = numbers.log_theta?;
    if matches!(problem.rows, DispersionRows::PerCell) || problem.n_theta() > problem.n {
        return None;
    }
    let mut theta = log_theta.to_vec();
    let mut inverse = vec![T::ZERO; theta.len()];
    let eps = if problem.family == Family::Normal {
        T::ZERO
    } else {
        T::EPS
    };
    theta
        .par_chunks_mut(CHUNK)
        .zip(inverse.par_chunks_mut(CHUNK))
        .for_each(|(theta, inverse)| {
            dispatch(Table {
                theta,
                inverse,
                eps,
            });
        });
    Some((theta, inverse))
}

struct Table<'a, T> {
    theta: &'a mut [T],
    inverse: &'a mut [T],
    eps: T,
}

impl<T: Float> Kernel for Table<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = self.theta.len();
        dispersion::<T, FMA>(self.theta, self.inverse, self.eps, n);
    }
}
