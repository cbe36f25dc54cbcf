use super::Stabiliser;
use crate::ops::Segments;
use crate::ops::attention::Segment;
use crate::tiles::{
    GROUP, Lanes, Rows, WIDEST, groups_of_columns, groups_of_rows, pad_to, panel_of_rows, widths,
};

/// What is added to every feature.
pub(super) const EPS: f64 = 1e-4;
/// Rows that are summed up by one task; so partial sums don't depend on the number of threads.
pub(super) const CHUNK: usize = 1024;
/// Rows of a task that writes rows; a multiple of every panel's width.
pub(super) const ROWS: usize = 96;

/// The sizes of a problem.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) segments: Segments,
    pub(super) heads: usize,
    /// Numbers of a head.
    pub(super) d: usize,
    /// Features.
    pub(super) m: usize,
    pub(super) stabiliser: Stabiliser,
}

impl Sizes {
    pub(super) fn width(&self) -> usize {
        self.heads * self.d
    }

    /// `d^(-1/4)`, by which queries and keys are multiplied.
    pub(super) fn scale(&self) -> f64 {
        (self.d as f64).powf(-0.25)
    }

    /// A head's numbers in the rows of one sequence.
    #[inline(always)]
    pub(super) fn rows<'a, T: Lanes>(
        &self,
        x: &'a [T],
        segment: &Segment,
        head: usize,
    ) -> Rows<'a, T> {
        let at = segment.start * self.width() + head * self.d;
        Rows::new(
            x.get(at..).unwrap_or_default(),
            self.width(),
            segment.rows,
            self.d,
        )
    }

    /// The parts of at most [`CHUNK`] of `n` rows, as ranges.
    pub(super) fn chunks(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..n)
            .step_by(CHUNK)
            .map(move |from| from..n.min(from + CHUNK))
    }
}

/// The projection, times `d^(-1/4)`, in the orders that products need.
pub(super) struct Features<T> {
    pub(super) heads: usize,
    pub(super) d: usize,
    pub(super) m: usize,
    /// Groups of features: the inner dimension is a head's numbers.
    pub(super) by_feature: Vec<T>,
    /// Groups of numbers: the inner dimension is the features.
    pub(super) by_number: Vec<T>,
    /// Panels of features: the inner dimension is a head's numbers.
    pub(super) panels: Vec<T>,
    /// `1 / (2 sqrt(d))`: half of the squared scale.
    pub(super) half: T,
}

impl<T: Lanes> Features<T> {
    pub(super) fn new(sizes: &Sizes, projection: &[T]) -> Self {
        let (m, d) = (sizes.m, sizes.d);
        let scale = T::of(sizes.scale());
        let scaled: Vec<T> = projection.iter().map(|&p| p * scale).collect();
        let rows = Rows::new(&scaled, d, m, d);
        let (mut by_feature, mut by_number) = (
            vec![T::ZERO; pad_to(m, GROUP) * d],
            vec![T::ZERO; pad_to(d, GROUP) * m],
        );
        groups_of_rows(rows, &mut by_feature);
        groups_of_columns(rows, &mut by_number);
        let lanes = widths::<T>().0;
        let mut panels = vec![T::ZERO; pad_to(m, lanes) * d];
        for (k, panel) in panels.chunks_exact_mut(lanes * d).enumerate() {
            panel_of_rows(rows, k * lanes, lanes, T::ONE, panel);
        }
        let half = T::of(0.5 * sizes.scale() * sizes.scale());
        Self {
            heads: sizes.heads,
            d,
            m,
            by_feature,
            by_number,
            panels,
            half,
        }
    }

    /// `|x|^2 / (2 sqrt(d))` of each column of a panel of `[d, lanes]`.
    #[inline(always)]
    pub(super) fn norms(&self, x: &[T], lanes: usize) -> [T; WIDEST] {
        let mut sums = [T::ZERO; WIDEST];
        for row in x.chunks_exact(lanes) {
            for j in 0..lanes {
                sums[j] += row[j] * row[j];
            }
        }
        for sum in &mut sums {
            *sum *= self.half;
        }
        sums
    }
}

/// What is summed up over the keys of a head: with `b = exp(u - |k|^2 / (2 sqrt d) - M)` for each key and feature.
#[derive(Debug, Clone)]
pub(super) struct Sums<T> {
    /// `sum b v`, `[m, d]`
    pub(super) products: Vec<T>,
    /// `sum b`, `[m]`
    pub(super) weights: Vec<T>,
    /// `sum v`, `[d]`
    pub(super) values: Vec<T>,
    pub(super) keys: usize,
}

impl<T: Lanes> Sums<T> {
    /// `S`, the sums of feature times value, `[m, d]`.
    pub(super) fn feature_values(&self) -> Vec<T> {
        let eps = T::of(EPS);
        let mut s = self.products.clone();
        for row in s.chunks_exact_mut(self.values.len().max(1)) {
            for (s, &v) in row.iter_mut().zip(&self.values) {
                *s += eps * v;
            }
        }
        s
    }

    /// `z`, the sums of features, `[m]`.
    pub(super) fn features(&self) -> Vec<T> {
        let floor = T::of(EPS * self.keys as f64);
        self.weights.iter().map(|&w| w + floor).collect()
    }
}

/// The maximum that is subtracted from the exponents of the keys of a sequence, and how many of these reach it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Largest<T> {
    pub(super) value: T,
    pub(super) ties: f64,
}
