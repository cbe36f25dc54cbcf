use super::{Dropout, Keys, Segment, Segments};
use crate::kernel::Real;
use crate::tiles::Rows;

/// What is to be attended to, without the numbers.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) segments: Segments,
    pub(super) keys: Keys,
    pub(super) heads: usize,
    /// Numbers of a head.
    pub(super) head: usize,
    pub(super) dropout: Option<Dropout>,
}

impl Problem {
    /// `D`: the numbers of all heads.
    pub(super) fn width(&self) -> usize {
        self.heads * self.head
    }

    /// Scores are divided by the square root of a head's numbers.
    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.head as f64).sqrt()
    }

    /// Whether some rows of a sequence attend to themselves besides the keys.
    pub(super) fn asks_itself(&self, segment: &Segment) -> bool {
        self.keys == Keys::AndSelf && segment.rows > segment.keys
    }

    pub(super) fn sequences<'a, T>(
        &'a self,
        qkv: &'a [T],
    ) -> impl Iterator<Item = Sequence<'a, T>> {
        self.segments.iter().enumerate().map(|(index, segment)| {
            let stride = 3 * self.width();
            let data = &qkv[segment.start * stride..][..segment.rows * stride];
            Sequence {
                index,
                segment,
                data,
                width: self.width(),
                head: self.head,
            }
        })
    }
}

/// One sequence: its rows of queries, keys and values.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a, T> {
    /// Which one it is.
    pub(super) index: usize,
    pub(super) segment: Segment,
    data: &'a [T],
    width: usize,
    head: usize,
}

impl<'a, T: Real> Sequence<'a, T> {
    #[inline(always)]
    pub(super) fn queries(&self, head: usize) -> Rows<'a, T> {
        self.part(0, head)
    }

    #[inline(always)]
    pub(super) fn keys(&self, head: usize) -> Rows<'a, T> {
        self.part(1, head)
    }

    #[inline(always)]
    pub(super) fn values(&self, head: usize) -> Rows<'a, T> {
        self.part(2, head)
    }

    #[inline(always)]
    fn part(&self, which: usize, head: usize) -> Rows<'a, T> {
        let at = which * self.width + head * self.head;
        // Nothing begins past the end, not even if there are no rows.
        let data = self.data.get(at..).unwrap_or_default();
        Rows::new(data, 3 * self.width, self.segment.rows, self.head)
    }
}
