//! Expression values as bins of equal numbers of genes, cell by cell.
//!
//! scGPT (Cui et al., "scGPT: toward building a foundation model for single-cell multi-omics using generative AI", Nat Methods
//! 2024) replaces the values of a cell by the numbers of their quantiles among its non-zero values: a zero stays 0, the others
//! get `1 ..= n_bins - 1`. Only the order of the values matters, so that raw counts and their logarithms give the same bins.
//!
//! Counts have few different values, so that many quantiles are equal, and most values could be in any of several bins.
//! [`Ties`] says which one they get.

use serde::{Deserialize, Serialize};

use super::draws::{Draws, Generator};
use crate::{Error, Result};

/// The bin of a value that several bins could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// Any of them, drawn for each value. The draws belong to the cell: they are the same wherever it comes.
    Random {
        /// Other seeds give other bins.
        seed: u64,
    },
    /// Any of them, drawn as scGPT does: from numpy's global generator, for one cell after the other in the order in
    /// which they are binned.
    NumpyGlobal {
        /// What `numpy.random.seed` was given.
        seed: u32,
    },
    /// The lowest.
    Lower,
    /// The highest.
    Upper,
    /// Their mean, which may have a fraction: without noise, and what `Random` gives on average. For models that take values
    /// as numbers.
    Expected,
}

impl Default for Ties {
    fn default() -> Self {
        Self::Random { seed: 0 }
    }
}

/// How values are binned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binning {
    /// Number of bins, that of zero included; 51 for all released models.
    pub n_bins: usize,
    /// Which bin a value gets that several could hold.
    pub ties: Ties,
}

impl Default for Binning {
    fn default() -> Self {
        Self {
            n_bins: 51,
            ties: Ties::default(),
        }
    }
}

/// The quantiles of a cell's non-zero values that separate its bins: `n_bins - 1` numbers, ascending, some of them equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Edges(Vec<f64>);

/// A number that can be binned.
pub trait BinValue: Copy + Into<f64> + std::ops::Sub<Output = Self> {
    /// An order of all numbers.
    fn order(&self, other: &Self) -> std::cmp::Ordering;
}

impl BinValue for f32 {
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.total_cmp(other)
    }
}

impl BinValue for f64 {
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.total_cmp(other)
    }
}

impl Edges {
    /// Of the non-zero values of a cell; none if there is no such value. `n_bins` as in [`Binning`].
    ///
    /// These are numpy's quantiles (method `linear`) at `linspace(0, 1, n_bins - 1)`, to the last bit: the order of the
    /// operations decides on which side of a value an edge lies that should be equal to it.
    pub fn of<T: BinValue>(values: &[T], n_bins: usize) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(T::order);
        let count = n_bins.saturating_sub(1);
        let step = 1.0 / count.saturating_sub(1).max(1) as f64;
        let place = |j: usize| match j {
            0 => 0.0,
            j if j + 1 == count => 1.0,
            j => j as f64 * step,
        };
        let edge = |j| quantile(&sorted, place(j));
        Self((0..count).filter_map(edge).collect())
    }

    /// The edges.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// How many edges lie at or below a value, and how many below it. The value may be in any of the bins from one more than
    /// the second number to the first; if both are equal, in that of this number.
    pub fn counts(&self, value: f64) -> (usize, usize) {
        let below = self.0.partition_point(|&e| e < value);
        let equal = self.0.get(below..).unwrap_or_default();
        (below + equal.partition_point(|&e| e <= value), below)
    }
}

/// The quantile `q` of ascending values.
fn quantile<T: BinValue>(sorted: &[T], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * q;
    let below = (position.floor() as usize).min(last);
    let share = position - below as f64;
    let a = *sorted.get(below)?;
    let b = *sorted.get((below + 1).min(last))?;
    let gap: f64 = (b - a).into();
    Some(if share < 0.5 {
        a.into() + gap * share
    } else {
        b.into() - gap * (1.0 - share)
    })
}

/// [`Binning`] at work.
#[derive(Debug)]
pub struct Binner {
    n_bins: usize,
    ties: Ties,
    draws: Option<Draws>,
}

impl Binner {
    /// From the start of the random numbers.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] with fewer than 2 bins, or more than `f32` can count.
    pub fn new(binning: Binning) -> Result<Self> {
        let n_bins = binning.n_bins;
        if !(2..=1 << 24).contains(&n_bins) {
            return Err(Error::InvalidSetting {
                name: "n_bins",
                value: n_bins.to_string(),
                reason: "at least 2 bins are needed, one for zeros and one for all else, at most 16777216; usually 51".into(),
            });
        }
        let generator = match binning.ties {
            Ties::Random { seed } => Some(Generator::Seeded(seed)),
            Ties::NumpyGlobal { seed } => Some(Generator::Numpy(seed)),
            _ => None,
        };
        Ok(Self {
            n_bins,
            ties: binning.ties,
            draws: generator.map(|g| Draws::new(g, "bins")),
        })
    }

    /// The number of bins, that of zero included.
    pub fn n_bins(&self) -> usize {
        self.n_bins
    }

    /// Whether bins depend on the cells that were binned before.
    pub fn is_sequential(&self) -> bool {
        self.draws.as_ref().is_some_and(Draws::is_sequential)
    }

    /// The bins of the values of one cell, zeros included or not: 0 for zeros. Random draws depend on `key`, usually the
    /// content of the cell and the pass over the data.
    ///
    /// Values should be finite and not negative.
    pub fn bin(&self, key: &[u64], values: &[f32]) -> Vec<f32> {
        let present: Vec<f32> = values.iter().copied().filter(|&v| v != 0.0).collect();
        let edges = Edges::of(&present, self.n_bins);
        let draws = self.draws.as_ref().map(|d| d.uniform(key, present.len()));
        let mut draws = draws.unwrap_or_default().into_iter();
        let bin = |&v: &f32| {
            if v == 0.0 {
                return 0.0;
            }
            self.of(&edges, v, draws.next().unwrap_or(0.0))
        };
        values.iter().map(bin).collect()
    }

    /// The bin of a value other than zero, `u` in `[0, 1)`.
    fn of(&self, edges: &Edges, value: f32, u: f64) -> f32 {
        let (upto, below) = edges.counts(value.into());
        let lowest = upto.min(below + 1);
        match self.ties {
            Ties::Lower => lowest as f32,
            Ties::Upper => upto as f32,
            Ties::Expected => (upto + lowest) as f32 / 2.0,
            Ties::Random { .. } | Ties::NumpyGlobal { .. } => {
                // A draw of 0 gives the highest bin.
                let (upto, below) = (upto as f64, below as f64);
                (u * (below - upto) + upto).ceil() as f32
            }
        }
    }
}
