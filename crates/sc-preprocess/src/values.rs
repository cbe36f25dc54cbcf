//! Values that a method has no meaning for.

use rayon::prelude::*;
use sc_data::Csr;

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

    /// Names the first bad value of a block whose first row has the number `first_row`.
    pub(crate) fn block(self, block: &Csr, first_row: usize) -> Result<()> {
        let all_good = block
            .data()
            .par_chunks(AT_ONCE)
            .all(|values| values.iter().fold(true, |good, &v| good & self.is_good(v)));
        if all_good {
            return Ok(());
        }
        match block.data().iter().position(|&v| !self.is_good(v)) {
            None => Ok(()),
            Some(k) => Err(Error::InvalidValue {
                row: first_row
                    + block
                        .indptr()
                        .partition_point(|&p| p <= k)
                        .saturating_sub(1),
                column: block.indices().get(k).map_or(0, |&c| c as usize),
                value: block.data().get(k).copied().unwrap_or(f32::NAN),
                expected: self.expected(),
            }),
        }
    }
}
