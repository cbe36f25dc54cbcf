use candle_core::DType;

use crate::math::Float;
use crate::tiles::{GROUP, Lanes, Rows, groups_of_rows, pad_to, panel_of_rows, widths};
use crate::{Error, Result};

/// Rows of a strip: a multiple of a group, of every width that a panel can have, and of what `by_rows` takes.
pub(super) const ROWS: usize = 48;

/// A cloud of points, packed for sums over all pairs with another one.
///
/// Computes in the precision that it was made with. Two clouds of a pair must have the same dimension, precision and
/// origin.
pub struct Points(pub(super) Packed);

pub(super) enum Packed {
    Single(Cloud<f32>),
    Double(Cloud<f64>),
}

impl Points {
    /// Points of `dim` coordinates each, one after the other, relative to `origin`: distances don't depend on it, but
    /// they keep more digits the nearer it is to the points.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no point, or the numbers don't divide into points of `dim`, or `origin` has another
    /// dimension; [`Error::Value`] if a number isn't finite.
    pub fn new<F: Float>(coordinates: &[F], dim: usize, origin: &[f64]) -> Result<Self> {
        let shape = |what, found: &[usize], expected: String| Error::Shape {
            op: "points",
            what,
            found: found.to_vec(),
            expected,
        };
        if dim == 0 || coordinates.is_empty() || !coordinates.len().is_multiple_of(dim) {
            return Err(shape(
                "the coordinates",
                &[coordinates.len()],
                format!("whole points of {dim} coordinates, at least one"),
            ));
        }
        if origin.len() != dim {
            return Err(shape("the origin", &[origin.len()], format!("[{dim}]")));
        }
        Ok(Self(match F::DTYPE {
            DType::F32 => Packed::Single(Cloud::new(coordinates, dim, origin)?),
            _ => Packed::Double(Cloud::new(coordinates, dim, origin)?),
        }))
    }

    /// How many points there are.
    #[must_use]
    pub fn n_points(&self) -> usize {
        match &self.0 {
            Packed::Single(c) => c.len,
            Packed::Double(c) => c.len,
        }
    }

    /// How many coordinates each has.
    #[must_use]
    pub fn dim(&self) -> usize {
        match &self.0 {
            Packed::Single(c) => c.dim,
            Packed::Double(c) => c.dim,
        }
    }

    /// The coordinates relative to the origin, one point after the other.
    #[must_use]
    pub fn coordinates(&self) -> Vec<f64> {
        match &self.0 {
            Packed::Single(c) => c.coordinates(),
            Packed::Double(c) => c.coordinates(),
        }
    }
}

/// Points in one precision.
pub(super) struct Cloud<T> {
    pub(super) len: usize,
    pub(super) dim: usize,
    /// `len`, and as many as make whole strips: coordinates there are 0.
    pub(super) padded: usize,
    /// The squared lengths, `[padded]`.
    pub(super) squares: Vec<f64>,
    /// The same, as the tiles want them.
    pub(super) squares_rounded: Vec<T>,
    /// As rows of a product: `[group][coordinate][GROUP]`.
    pub(super) groups: Vec<T>,
    /// As columns of a product: `[panel][coordinate][width]`.
    pub(super) panels: Vec<T>,
}

impl<T: Lanes> Cloud<T> {
    fn new<F: Float>(coordinates: &[F], dim: usize, origin: &[f64]) -> Result<Self> {
        let len = coordinates.len() / dim;
        let (padded, width) = (pad_to(len, ROWS), widths::<T>().0);
        let mut moved = Vec::with_capacity(coordinates.len());
        let mut squares = vec![0.0; padded];
        for (row, square) in coordinates.chunks_exact(dim).zip(&mut squares) {
            for (&v, &o) in row.iter().zip(origin) {
                let v = T::of(v.wide() - o);
                *square += v.wide() * v.wide();
                moved.push(v);
            }
            if !T::of(*square).wide().is_finite() {
                return Err(Error::Value {
                    op: "points",
                    what: "the squared length of a point",
                    found: *square,
                    expected: "a finite number",
                });
            }
        }
        let rows = Rows::new(&moved, dim, len, dim);
        let mut groups = vec![T::ZERO; padded * dim];
        groups_of_rows(rows, &mut groups);
        let mut panels = vec![T::ZERO; padded * dim];
        for (k, panel) in panels.chunks_exact_mut(width * dim).enumerate() {
            panel_of_rows(rows, k * width, width, T::ONE, panel);
        }
        Ok(Self {
            len,
            dim,
            padded,
            squares_rounded: squares.iter().map(|&v| T::of(v)).collect(),
            squares,
            groups,
            panels,
        })
    }

    fn coordinates(&self) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.len * self.dim);
        for row in 0..self.len {
            let group = &self.groups[(row / GROUP) * GROUP * self.dim..];
            let column = group[row % GROUP..].iter().step_by(GROUP);
            out.extend(column.take(self.dim).map(|v| v.wide()));
        }
        out
    }
}
