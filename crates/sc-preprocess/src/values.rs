//! Values that a method has no meaning for.

use rayon::prelude::*;
use sc_data::Csr;

use crate::columns::Block;
use crate::{Error, Result};

/// Values looked at by one thread at a time.
const AT_ONCE: usize = 1 << 16;

/// Which values are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// NaN and infinite ones.
    Finite,
    /// Negative ones too.
    NotNegative,
}

impl Check {
    fn is_good(self, v: f32) -> bool {
        // Both sides are evaluated, which lets several values be compared at once; NaN fails either.
        (v.abs() < f32::INFINITY) & ((v >= 0.0) | (self == Self::Finite))
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Finite => "a finite number",
            Self::NotNegative => "a finite number that is not negative",
        }
    }

    fn all_good(self, values: &[f32]) -> bool {
        values
            .par_chunks(AT_ONCE)
            .all(|values| values.iter().fold(true, |good, &v| good & self.is_good(v)))
    }

    /// Names the first bad value of a block.
    pub(crate) fn block(self, block: &Block<'_>) -> Result<()> {
        if self.all_good(block.data()) {
            return Ok(());
        }
        let rows = (0..block.n_rows()).map(|i| (block.first + i, block.row(i)));
        self.name_first(rows)
    }

    /// Names the first bad value of a matrix.
    pub(crate) fn matrix(self, matrix: &Csr) -> Result<()> {
        if self.all_good(matrix.data()) {
            return Ok(());
        }
        self.name_first((0..matrix.n_rows()).map(|i| (i, matrix.row(i))))
    }

    fn name_first<'a>(
        self,
        rows: impl Iterator<Item = (usize, (&'a [u32], &'a [f32]))>,
    ) -> Result<()> {
        for (row, (columns, values)) in rows {
            let bad = columns.iter().zip(values).find(|(_, v)| !self.is_good(**v));
            if let Some((&column, &value)) = bad {
                return Err(Error::InvalidValue {
                    row,
                    column: column as usize,
                    value,
                    expected: self.expected(),
                });
            }
        }
        Ok(())
    }
}
