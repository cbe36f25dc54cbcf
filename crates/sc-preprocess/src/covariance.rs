use rayon::prelude::*;
use sc_data::RowSource;

use crate::Result;
use crate::columns::{Block, blocks};
use crate::simd::{Kernel, dispatch, multiply_add};

/// Columns that are multiplied at once: two of the widest registers.
const PANEL: usize = 16;
/// Columns that stand together in memory, a row of a [`Panels`].
type Lanes = [f64; PANEL];
/// Rows that one thread projects at a time.
const ROWS: usize = 64;
/// What all accumulators of a product may take, in numbers (64 MB).
const MOST: usize = 8 << 20;

/// The covariance matrix `C = (X - 1 mean^T)^T (X - 1 mean^T) / (n - 1)` of a source, known only by its products: neither
/// `C` nor the centred `X` is ever made.
pub(crate) struct Covariance<'a> {
    pub(crate) source: &'a dyn RowSource,
    /// What is subtracted from each column: its mean, or zeros.
    pub(crate) mean: &'a [f64],
}

impl Covariance<'_> {
    /// `C w`, where `w` has one column of genes after the other; the result likewise. The source is read once: each row is
    /// multiplied with `w`, and what comes out is added up by genes while the row is at hand.
    pub(crate) fn apply(&self, w: &[f64]) -> Result<Vec<f64>> {
        let w = Panels::new(w, self.mean.len());
        let shift = w.along(self.mean);
        let mut sums: Vec<Accumulator> = (0..parts(w.lanes.len()))
            .map(|_| Accumulator::new(&w))
            .collect();
        for block in blocks(self.source) {
            let block = block?;
            // The same shares of a block on any number of threads, so that sums have one order.
            let share = block.n_rows().div_ceil(sums.len()).max(1);
            sums.par_iter_mut().enumerate().for_each(|(part, to)| {
                let start = (part * share).min(block.n_rows());
                dispatch(Square {
                    block: &block,
                    rows: start..(start + share).min(block.n_rows()),
                    w: &w,
                    shift: &shift,
                    to,
                });
            });
        }
        let mut sums = sums.into_iter();
        let mut all = sums.next().unwrap_or_else(|| Accumulator::new(&w));
        sums.for_each(|other| all.add(&other));
        let scale = 1.0 / (self.source.n_rows() as f64 - 1.0);
        for (panel, total) in all.product.chunks_exact_mut(w.rows.max(1)).zip(&all.total) {
            for (out, &mean) in panel.iter_mut().zip(self.mean) {
                for l in 0..PANEL {
                    out[l] = (out[l] - mean * total[l]) * scale;
                }
            }
        }
        let product = Panels {
            lanes: all.product,
            ..w
        };
        Ok(product.columns())
    }

    /// `(X - 1 mean^T) w`, row after row; `w` as in [`Covariance::apply`].
    pub(crate) fn scores(&self, w: &[f64]) -> Result<Vec<f64>> {
        let w = Panels::new(w, self.mean.len());
        let shift = w.along(self.mean);
        let mut scores = Vec::with_capacity(self.source.n_rows() * w.width);
        for block in blocks(self.source) {
            scores.extend(project(&block?, &w, &shift));
        }
        Ok(scores)
    }
}

/// Between how many accumulators of so many rows of lanes the rows of a block are divided.
fn parts(lanes: usize) -> usize {
    (MOST / (lanes * PANEL).max(1)).clamp(2, 16)
}

/// `block w - 1 shift^T`, row after row.
pub(crate) fn project(block: &Block<'_>, w: &Panels, shift: &[Lanes]) -> Vec<f64> {
    let width = w.width;
    let mut scores = vec![0.0; block.n_rows() * width];
    if width == 0 {
        return scores;
    }
    scores
        .par_chunks_mut(ROWS * width)
        .enumerate()
        .for_each(|(chunk, out)| {
            dispatch(Project {
                block,
                first: chunk * ROWS,
                w,
                shift,
                out,
            });
        });
    scores
}

/// A matrix of few columns, [`PANEL`] of them together in memory: `[n_panels, rows]` lanes, zeros beyond the last column.
pub(crate) struct Panels {
    rows: usize,
    width: usize,
    lanes: Vec<Lanes>,
}

impl Panels {
    /// Of a matrix with columns of `rows` entries, one after the other.
    pub(crate) fn new(columns: &[f64], rows: usize) -> Self {
        let width = columns.len().checked_div(rows).unwrap_or(0);
        let mut lanes = vec![[0.0; PANEL]; width.div_ceil(PANEL) * rows];
        if rows > 0 {
            let panels = lanes.par_chunks_exact_mut(rows);
            panels
                .zip(columns.par_chunks(rows * PANEL))
                .for_each(|(panel, columns)| {
                    for (l, column) in columns.chunks_exact(rows).enumerate() {
                        for (lanes, v) in panel.iter_mut().zip(column) {
                            lanes[l] = *v;
                        }
                    }
                });
        }
        Self { rows, width, lanes }
    }

    /// The columns, one after the other.
    pub(crate) fn columns(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.rows * self.width];
        if self.rows > 0 {
            out.par_chunks_exact_mut(self.rows)
                .enumerate()
                .for_each(|(column, out)| {
                    let panel = self.panel(column / PANEL);
                    for (o, lanes) in out.iter_mut().zip(panel) {
                        *o = lanes[column % PANEL];
                    }
                });
        }
        out
    }

    fn n(&self) -> usize {
        self.width.div_ceil(PANEL)
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> &[Lanes] {
        let start = p * self.rows;
        self.lanes.get(start..start + self.rows).unwrap_or_default()
    }

    /// The products of all columns with a vector.
    pub(crate) fn along(&self, vector: &[f64]) -> Vec<Lanes> {
        (0..self.n())
            .map(|p| {
                let mut sum = [0.0; PANEL];
                for (lanes, v) in self.panel(p).iter().zip(vector) {
                    for l in 0..PANEL {
                        sum[l] += lanes[l] * v;
                    }
                }
                sum
            })
            .collect()
    }
}

/// `X^T (X w)` of some rows, and the sums of the rows of `X w`.
struct Accumulator {
    product: Vec<Lanes>,
    total: Vec<Lanes>,
}

impl Accumulator {
    fn new(w: &Panels) -> Self {
        Self {
            product: vec![[0.0; PANEL]; w.lanes.len()],
            total: vec![[0.0; PANEL]; w.n()],
        }
    }

    fn add(&mut self, other: &Self) {
        let product = self.product.par_iter_mut().zip(&other.product);
        product.with_min_len(1024).for_each(|(a, b)| add(a, b));
        let total = self.total.iter_mut().zip(&other.total);
        total.for_each(|(a, b)| add(a, b));
    }
}

#[inline(always)]
fn add(a: &mut Lanes, b: &Lanes) {
    for l in 0..PANEL {
        a[l] += b[l];
    }
}

/// A row times a panel, minus the shift.
#[inline(always)]
fn row_times<const FMA: bool>(
    (genes, values): (&[u32], &[f32]),
    panel: &[Lanes],
    shift: &Lanes,
) -> Lanes {
    // Two sums, because each addition waits for the one before.
    let (mut even, mut odd) = (*shift, [0.0; PANEL]);
    even.iter_mut().for_each(|s| *s = -*s);
    let (pairs, last) = genes.as_chunks::<2>();
    let (values, last_value) = values.as_chunks::<2>();
    for (&[g, h], &[u, v]) in pairs.iter().zip(values) {
        let (a, b) = (&panel[g as usize], &panel[h as usize]);
        let (u, v) = (f64::from(u), f64::from(v));
        for l in 0..PANEL {
            even[l] = multiply_add::<FMA>(u, a[l], even[l]);
            odd[l] = multiply_add::<FMA>(v, b[l], odd[l]);
        }
    }
    for (&g, &v) in last.iter().zip(last_value) {
        let (a, v) = (&panel[g as usize], f64::from(v));
        for l in 0..PANEL {
            even[l] = multiply_add::<FMA>(v, a[l], even[l]);
        }
    }
    add(&mut even, &odd);
    even
}

/// See [`Covariance::apply`]: some rows of a block.
struct Square<'a> {
    block: &'a Block<'a>,
    rows: std::ops::Range<usize>,
    w: &'a Panels,
    shift: &'a [Lanes],
    to: &'a mut Accumulator,
}

impl Kernel for Square<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let products = self.to.product.chunks_exact_mut(self.w.rows.max(1));
        let each = products.zip(&mut self.to.total).zip(self.shift);
        for (p, ((product, total), shift)) in each.enumerate() {
            let panel = self.w.panel(p);
            for i in self.rows.clone() {
                let row = self.block.row(i);
                let scores = row_times::<FMA>(row, panel, shift);
                add(total, &scores);
                for (&g, &v) in row.0.iter().zip(row.1) {
                    let (to, v) = (&mut product[g as usize], f64::from(v));
                    for l in 0..PANEL {
                        to[l] = multiply_add::<FMA>(v, scores[l], to[l]);
                    }
                }
            }
        }
    }
}

/// See [`project`]: the rows of which `out` holds the scores.
struct Project<'a> {
    block: &'a Block<'a>,
    first: usize,
    w: &'a Panels,
    shift: &'a [Lanes],
    out: &'a mut [f64],
}

impl Kernel for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (p, shift) in self.shift.iter().enumerate() {
            let panel = self.w.panel(p);
            for (i, out) in self.out.chunks_exact_mut(self.w.width).enumerate() {
                let row = self.block.row(self.first + i);
                let scores = row_times::<FMA>(row, panel, shift);
                let to = out.iter_mut().skip(p * PANEL);
                to.zip(scores).for_each(|(o, s)| *o = s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use sc_data::Csr;

    /// More columns than a panel, more rows than a block, an odd number of entries in some rows.
    #[test]
    fn products_are_those_of_the_centred_matrix() {
        let x = Array2::from_shape_fn((5000, 37), |(i, j)| {
            (((i * 31 + j * 17 + i * j) % 7) as f32 - 3.0).max(0.0)
        });
        let wide = x.mapv(f64::from);
        let mean = wide.mean_axis(ndarray::Axis(0)).unwrap();
        let centred = &wide - &mean;
        let w = Array2::from_shape_fn((37, 19), |(i, j)| ((i * 5 + j * 3) % 11) as f64 - 5.0);
        let scores = centred.dot(&w);
        let product = centred.t().dot(&scores) / 4999.0;
        let columns: Vec<f64> = w.t().iter().copied().collect();
        let sparse = Csr::from_dense(&x);
        let sources: [&dyn RowSource; 2] = [&x, &sparse];
        for source in sources {
            let mean = mean.to_vec();
            let c = Covariance {
                source,
                mean: &mean,
            };
            let close = |found: &[f64], expected: Vec<f64>| {
                assert_eq!(found.len(), expected.len());
                let pairs = found.iter().zip(&expected);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-9));
            };
            close(
                &c.scores(&columns).unwrap(),
                scores.iter().copied().collect(),
            );
            close(
                &c.apply(&columns).unwrap(),
                product.t().iter().copied().collect(),
            );
        }
    }
}
