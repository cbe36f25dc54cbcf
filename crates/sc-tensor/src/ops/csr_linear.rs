use candle_core::{CpuStorage, Shape, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::composed;
use super::reduce::sum_rows_kernel;
use super::sparse_input::{BLOCK, SparseInput, Stored};
use crate::kernel::{self, Arg, Kernel, View, by_dtype};
use crate::pool;
use crate::simd::GatherAxpy;
use crate::{Error, Result};

/// A linear layer on sparse counts: `y = x w_t[..G] + extra w_t[G..] + b`.
///
/// `x` is `[N, G]`, `b` is `[O]`, the result `[N, O]`. The weight `w_t` is **input-major**, `[I, O]` with `I >= G`: the
/// transpose of a PyTorch weight, so that each stored count meets one contiguous row. `extra` is `[N, I - G]`, the dense
/// inputs (covariates, embeddings) that follow the genes; without it the rows of the weight after the first `G` take no
/// part and get a zero gradient.
///
/// Time and memory grow with the stored entries, except for the gradient of the weight, which is dense. Additions are
/// in the order of genes forward and of cells backward, so the bits don't depend on the number of threads.
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit, [`Error::Candle`] if element types or devices differ.
pub fn csr_linear(
    x: &SparseInput,
    w_t: &Tensor,
    b: Option<&Tensor>,
    extra: Option<&Tensor>,
) -> Result<Tensor> {
    check(x, w_t, b, extra)?;
    if !composed::fusible(&[w_t]) {
        return composed::csr_linear(x, w_t, b, extra);
    }
    let op = CsrLinear {
        x: x.clone(),
        bias: b.is_some(),
    };
    let mut args = vec![w_t];
    args.extend(b);
    args.extend(extra);
    Ok(kernel::apply(op, &args)?)
}

fn check(x: &SparseInput, w_t: &Tensor, b: Option<&Tensor>, extra: Option<&Tensor>) -> Result<()> {
    let wrong = |what, t: &Tensor, expected| Error::Shape {
        op: "csr_linear",
        what,
        found: t.dims().to_vec(),
        expected,
    };
    let (n, g) = (x.n_rows(), x.n_cols());
    let &[i, o] = w_t.dims() else {
        return Err(wrong("the weight", w_t, "[inputs, outputs]".into()));
    };
    if i < g {
        let expected = format!("[{g} or more, {o}], one row per gene (the transpose of torch's)");
        return Err(wrong("the weight", w_t, expected));
    }
    if let Some(b) = b
        && b.dims() != [o]
    {
        return Err(wrong("the bias", b, format!("[{o}]")));
    }
    if let Some(extra) = extra
        && extra.dims() != [n, i - g]
    {
        return Err(wrong("extra", extra, format!("[{n}, {}]", i - g)));
    }
    Ok(())
}

struct CsrLinear {
    x: SparseInput,
    /// Whether the second argument is a bias.
    bias: bool,
}

impl Kernel for CsrLinear {
    fn name(&self) -> &'static str {
        "csr_linear"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Stored>(
            op: &CsrLinear,
            args: &[Arg<'_>],
        ) -> candle_core::Result<(CpuStorage, Shape)> {
            let o = args[0].dims()[1];
            let bias = match op.bias {
                true => Some(args[1].slice::<T>()?),
                false => None,
            };
            let extra = match args.get(op.at_extra()) {
                Some(extra) => Some((extra.slice::<T>()?, extra.dims()[1])),
                None => None,
            };
            let y = forward(&op.x, args[0].slice::<T>()?, o, bias, extra);
            Ok((T::to_cpu_storage_owned(y), (op.x.n_rows(), o).into()))
        }
        by_dtype!("csr_linear", args[0].dtype(), run(self, args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let w_t = &args[0];
        let extra = args.get(self.at_extra());
        let mut grads = vec![None; args.len()];
        if needs[0] {
            grads[0] = Some(by_dtype!(
                "csr_linear",
                w_t.dtype(),
                weight_gradient(&self.x, w_t, extra, grad)
            )?);
        }
        if self.bias && needs[1] {
            grads[1] = Some(by_dtype!(
                "csr_linear",
                grad.dtype(),
                sum_rows_kernel(grad)
            )?);
        }
        if let Some(extra) = extra
            && needs[self.at_extra()]
        {
            let tail = w_t.narrow(0, self.x.n_cols(), extra.dim(1)?)?;
            grads[self.at_extra()] = Some(grad.matmul(&tail.t()?)?);
        }
        Ok(grads)
    }
}

impl CsrLinear {
    fn at_extra(&self) -> usize {
        1 + usize::from(self.bias)
    }
}

/// How many genes' rows of the weight are worked on at a time: few enough to stay in a near cache while all cells of a
/// share pass, and so many that a cell has some 24 counts among them, since its output is loaded and stored for each block.
fn genes_at_a_time(x: &SparseInput) -> usize {
    let cells_and_genes = x.n_rows().saturating_mul(x.n_cols());
    let sparsity = cells_and_genes / x.csr().n_stored().max(1);
    (24 * sparsity).clamp(64, BLOCK)
}

/// Rows in parallel; within a share of rows block by block of genes, so that a block of the weight is read from memory
/// once for all of them.
fn forward<T: Stored>(
    x: &SparseInput,
    w_t: &[T],
    o: usize,
    bias: Option<&[T]>,
    extra: Option<(&[T], usize)>,
) -> Vec<T> {
    let (n, g) = (x.n_rows(), x.n_cols());
    let mut y = vec![T::ZERO; n * o];
    if o == 0 {
        return y;
    }
    let (indptr, indices, values) = (x.csr().indptr(), x.csr().indices(), T::stored(x));
    let genes = genes_at_a_time(x);
    let arch = Arch::new();
    let share = |first: usize, y: &mut [T]| {
        if let Some(bias) = bias {
            for row in y.chunks_exact_mut(o) {
                row.copy_from_slice(bias);
            }
        }
        let mut at: Vec<usize> = (0..y.len() / o).map(|i| indptr[first + i]).collect();
        for start in (0..g).step_by(genes) {
            for ((i, out), at) in y.chunks_exact_mut(o).enumerate().zip(&mut at) {
                // A gene is stored once, so the entries of a block are among the next `genes`.
                let next = &indices[*at..indptr[first + i + 1].min(*at + genes)];
                let n = next
                    .iter()
                    .filter(|&&c| (c as usize) < start + genes)
                    .count();
                let entries = *at..*at + n;
                *at += n;
                let values = &values[entries.clone()];
                arch.dispatch(GatherAxpy {
                    out,
                    values: |e: usize| values[e],
                    ids: indices[entries].iter().map(|&c| c as usize),
                    rows: w_t,
                });
            }
        }
        let Some((extra, width)) = extra else { return };
        for (i, out) in y.chunks_exact_mut(o).enumerate() {
            let values = &extra[(first + i) * width..][..width];
            arch.dispatch(GatherAxpy {
                out,
                values: |e: usize| values[e],
                ids: g..g + width,
                rows: w_t,
            });
        }
    };
    // Each row is computed on its own, so how many share a task does not show in the result.
    let per_task = n.div_ceil(rayon::current_num_threads()).max(1);
    if x.csr().n_stored() * o < 4 * kernel::PARALLEL_FROM {
        share(0, &mut y);
    } else {
        y.par_chunks_mut(per_task * o)
            .enumerate()
            .for_each(|(k, y)| share(k * per_task, y));
    }
    y
}

/// Blocks of genes in parallel; each row of the gradient is written once, its cells added in ascending order.
fn weight_gradient<T: Stored>(
    x: &SparseInput,
    w_t: &Tensor,
    extra: Option<&Tensor>,
    grad: &Tensor,
) -> candle_core::Result<Tensor> {
    let (_, o) = w_t.dims2()?;
    let (n, g) = (x.n_rows(), x.n_cols());
    let view = View::new(grad);
    let grad = view.slice::<T>()?;
    let mut dw = pool::take::<T>(w_t.elem_count());
    if o == 0 {
        return kernel::tensor(dw, w_t.shape());
    }
    let arch = Arch::new();
    let (genes, rest) = dw.split_at_mut(g * o);
    let block = |columns: &mut Columns<T>, (k, dw): (usize, &mut [T])| {
        columns.load(x, k);
        for (j, out) in dw.chunks_exact_mut(o).enumerate() {
            let (cells, values) = columns.get(j);
            out.fill(T::ZERO);
            arch.dispatch(GatherAxpy {
                out,
                values: |e: usize| values[e],
                ids: cells.iter().map(|&i| i as usize),
                rows: grad,
            });
        }
    };
    if x.csr().n_stored() * o < 4 * kernel::PARALLEL_FROM {
        let mut columns = Columns::new();
        for item in genes.chunks_mut(BLOCK * o).enumerate() {
            block(&mut columns, item);
        }
    } else {
        genes
            .par_chunks_mut(BLOCK * o)
            .enumerate()
            .for_each_init(Columns::new, block);
    }
    if let Some(extra) = extra {
        let width = extra.dim(1)?;
        let view = View::new(extra);
        let extra = view.slice::<T>()?;
        kernel::for_rows(rest, o, |e, out| {
            out.fill(T::ZERO);
            arch.dispatch(GatherAxpy {
                out,
                values: |i: usize| extra[i * width + e],
                ids: 0..n,
                rows: grad,
            });
        });
    } else {
        // The memory may have been used before.
        rest.fill(T::ZERO);
    }
    kernel::tensor(dw, w_t.shape())
}

/// One block of genes of a minibatch by columns: which cells hold a gene, and how much of it.
struct Columns<T> {
    /// Where each column starts; one more than there are columns.
    starts: Vec<usize>,
    cells: Vec<u32>,
    values: Vec<T>,
}

impl<T: Stored> Columns<T> {
    fn new() -> Self {
        Self {
            starts: Vec::new(),
            cells: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Transposes block `k` by counting; cells stay in ascending order.
    fn load(&mut self, x: &SparseInput, k: usize) {
        let (indices, values) = (x.csr().indices(), T::stored(x));
        let first = k * BLOCK;
        // One place further than needed: `next[c + 1]` ends up as the start of column `c + 1`.
        self.starts.clear();
        self.starts.resize(BLOCK + 2, 0);
        for i in 0..x.n_rows() {
            for &c in &indices[x.block(i, k)] {
                self.starts[c as usize - first + 2] += 1;
            }
        }
        for c in 2..self.starts.len() {
            self.starts[c] += self.starts[c - 1];
        }
        let total = self.starts[BLOCK + 1];
        self.cells.resize(total, 0);
        self.values.resize(total, T::ZERO);
        for i in 0..x.n_rows() {
            let entries = x.block(i, k);
            for (&c, &v) in indices[entries.clone()].iter().zip(&values[entries]) {
                let next = &mut self.starts[c as usize - first + 1];
                self.cells[*next] = i as u32;
                self.values[*next] = v;
                *next += 1;
            }
        }
    }

    fn get(&self, column: usize) -> (&[u32], &[T]) {
        let entries = self.starts[column]..self.starts[column + 1];
        (&self.cells[entries.clone()], &self.values[entries])
    }
}

#[cfg(test)]
#[path = "csr_linear_tests.rs"]
mod tests;
