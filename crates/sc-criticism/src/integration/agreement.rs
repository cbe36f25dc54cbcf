use std::collections::BTreeMap;

use statrs::function::gamma::ln_gamma;

use crate::codes::{Codes, same_length};
use crate::{Error, Result};

/// How the entropies of two partitions are joined to one number that mutual information is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Average {
    /// Their mean: scikit-learn's default, and what scIB reports.
    #[default]
    Arithmetic,
    /// The root of their product.
    Geometric,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

impl Average {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Arithmetic => f64::midpoint(a, b),
            Self::Geometric => (a * b).sqrt(),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

/// How much two partitions of the same cells have in common, from the table of how many cells are in each pair of
/// groups.
///
/// ```
/// use sc_criticism::integration::{Agreement, Average};
///
/// let types = [0, 0, 1, 1, 2, 2];
/// let clusters = [5, 5, 5, 7, 9, 9];
/// let both = Agreement::new(&types, &clusters)?;
/// assert!((both.nmi(Average::Arithmetic) - 0.7397).abs() < 1e-4);
/// assert!((Agreement::new(&types, &types)?.ami(Average::Arithmetic) - 1.0).abs() < 1e-12);
/// # Ok::<(), sc_criticism::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Agreement {
    a: Codes,
    b: Codes,
    cells: f64,
    /// Cells in a group of both sides.
    table: BTreeMap<(u32, u32), usize>,
}

impl Agreement {
    /// Of two partitions, by convention the truth first.
    ///
    /// # Errors
    /// [`Error::Length`] if they are of different cells, [`Error::Undefined`] if there are none.
    pub fn new(a: &[u32], b: &[u32]) -> Result<Self> {
        same_length("the second partition", b.len(), "the first", a.len())?;
        if a.is_empty() {
            return Err(Error::Undefined("a partition of no cells".into()));
        }
        let (a, b) = (Codes::new(a), Codes::new(b));
        let mut table = BTreeMap::new();
        for (&i, &j) in a.of.iter().zip(&b.of) {
            *table.entry((i, j)).or_insert(0) += 1;
        }
        Ok(Self {
            cells: a.of.len() as f64,
            a,
            b,
            table,
        })
    }

    /// `I = sum_ij n_ij / n ln(n n_ij / (a_i b_j))`, in nats.
    pub fn mutual_information(&self) -> f64 {
        let n = self.cells;
        let terms = self.table.iter().map(|(&(i, j), &both)| {
            let (a, b) = (
                self.a.sizes[i as usize] as f64,
                self.b.sizes[j as usize] as f64,
            );
            let both = both as f64;
            both / n * (both.ln() + n.ln() - a.ln() - b.ln())
        });
        terms.sum::<f64>().max(0.0)
    }

    /// The entropies of both sides, in nats.
    fn entropies(&self) -> (f64, f64) {
        let entropy = |sizes: &[usize]| -> f64 {
            let shares = sizes.iter().map(|&s| s as f64 / self.cells);
            -shares.map(|p| p * p.ln()).sum::<f64>()
        };
        (entropy(&self.a.sizes), entropy(&self.b.sizes))
    }

    /// Normalised mutual information, 0..=1. 1 if both sides are a single group.
    pub fn nmi(&self, average: Average) -> f64 {
        if self.a.n() == 1 && self.b.n() == 1 {
            return 1.0;
        }
        let information = self.mutual_information();
        if information <= f64::EPSILON {
            return 0.0;
        }
        let (a, b) = self.entropies();
        information / average.of(a, b).max(f64::EPSILON)
    }

    /// Mutual information adjusted for chance: `(I - E) / (average(H_a, H_b) - E)`, where `E` is the mutual information
    /// expected of two partitions with groups of these sizes (Vinh, Epps and Bailey 2010). About 0 for partitions that
    /// have nothing to do with each other, 1 for the same.
    pub fn ami(&self, average: Average) -> f64 {
        let single = self.a.n() == 1 && self.b.n() == 1;
        let separate = self.a.n() == self.a.of.len() && self.b.n() == self.b.of.len();
        if single || separate {
            return 1.0;
        }
        let expected = self.expected_information();
        let (a, b) = self.entropies();
        let room = average.of(a, b) - expected;
        // Neither side rounds to zero.
        let room = if room < 0.0 {
            room.min(-f64::EPSILON)
        } else {
            room.max(f64::EPSILON)
        };
        (self.mutual_information() - expected) / room
    }

    /// The mutual information of random partitions with groups of these sizes.
    fn expected_information(&self) -> f64 {
        let n = self.a.of.len();
        // ln of factorials.
        let factorial: Vec<f64> = (0..=n).map(|i| ln_gamma(i as f64 + 1.0)).collect();
        let f = |i: usize| factorial[i];
        let mut sum = 0.0;
        for &a in &self.a.sizes {
            for &b in &self.b.sizes {
                let fixed = f(a) + f(b) + f(n - a) + f(n - b) - f(n);
                for both in (a + b).saturating_sub(n).max(1)..=a.min(b) {
                    let ln_p = fixed - f(both) - f(a - both) - f(b - both) - f(n - (a + b - both));
                    let (x, y) = (both as f64, n as f64);
                    let information = x / y * (y.ln() + x.ln() - (a as f64).ln() - (b as f64).ln());
                    sum += information * ln_p.exp();
                }
            }
        }
        sum
    }

    /// How far each group of the second side holds cells of one group of the first only: `I / H_first`, 0..=1; 1 if the
    /// first side is a single group.
    pub fn homogeneity(&self) -> f64 {
        match self.entropies().0 {
            h if h > 0.0 => self.mutual_information() / h,
            _ => 1.0,
        }
    }

    /// How far each group of the first side is within one group of the second only: `I / H_second`, 0..=1.
    pub fn completeness(&self) -> f64 {
        match self.entropies().1 {
            h if h > 0.0 => self.mutual_information() / h,
            _ => 1.0,
        }
    }

    /// For each group of the first side, by its number, the best F1 score that a group of the second has as a predictor of
    /// it: `2 n_ij / (a_i + b_j)`.
    pub fn best_f1(&self) -> Vec<(u32, f64)> {
        let mut best = vec![0.0f64; self.a.n()];
        for (&(i, j), &both) in &self.table {
            let size = self.a.sizes[i as usize] + self.b.sizes[j as usize];
            let f1 = 2.0 * both as f64 / size as f64;
            best[i as usize] = best[i as usize].max(f1);
        }
        self.a.labels.iter().copied().zip(best).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn agrees_with_scikit_learn() {
        let a = [0, 0, 1, 1, 2, 2, 2, 1];
        let b = [0, 0, 1, 2, 2, 2, 1, 1];
        let both = Agreement::new(&a, &b).unwrap();
        let (nmi, ami) = (0.558_873_038_217_032_3, 0.319_672_650_569_646_9);
        assert!((both.nmi(Average::Arithmetic) - nmi).abs() < 1e-12);
        assert!((both.ami(Average::Arithmetic) - ami).abs() < 1e-12);
    }

    #[test]
    fn extremes() {
        let (one, two) = ([1, 1, 1], [0, 1, 2]);
        let same = Agreement::new(&one, &one).unwrap();
        assert_eq!((same.nmi(Average::Max), same.ami(Average::Max)), (1.0, 1.0));
        assert_eq!(same.homogeneity(), 1.0);
        let nothing = Agreement::new(&one, &two).unwrap();
        assert_eq!(nothing.nmi(Average::Arithmetic), 0.0);
        assert_eq!(nothing.completeness(), 0.0);
        assert!(Agreement::new(&[], &[]).is_err());
        assert!(Agreement::new(&one, &[1]).is_err());
        assert_eq!(nothing.best_f1(), [(1, 0.5)]);
        let part = Agreement::new(&[4, 4, 4, 9], &[0, 0, 1, 1]).unwrap();
        assert_eq!(part.best_f1(), [(4, 0.8), (9, 2.0 / 3.0)]);
    }
}
