use ndarray::Array2;
use sc_data::{Categorical, Csr};

use super::{FateCounts, FateMatrix};
use crate::{Error, Result};

/// What became of the clones of cells: the truth that fates are judged by.
///
/// A lineage barcode marks a cell and its descendants. For each cell of an early day the labels of later cells with the same
/// barcode are counted; those are its sisters' descendants, as the cell itself was destroyed when it was sequenced. A later cell
/// that shares several barcodes with it counts for each.
///
/// ```
/// use ndarray::array;
/// use sc_data::{Categorical, Csr};
/// use sc_sde::downstream::ClonalFates;
///
/// // Five cells, two barcodes.
/// let clones = Csr::from_dense(&array![[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]);
/// let days = [2.0, 4.0, 6.0, 2.0, 6.0];
/// let kinds = Categorical::from_labels(&["HSC", "Mono", "Neu", "HSC", "HSC"]);
/// let fates = ClonalFates::observe(&clones, &days, &kinds, 2.0, &[4.0, 6.0], &["HSC"])?;
/// assert_eq!(fates.cells(), [0]);                  // cell 3 has no differentiated relative
/// assert_eq!(fates.matrix().bias("Neu", "Mono")?, [0.5]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClonalFates {
    cells: Vec<usize>,
    counts: FateCounts,
}

impl ClonalFates {
    /// `clones` is `[cells, clones]`, not 0 where a cell has a barcode (`obsm["X_clone"]`); `days` and `labels` are of the same
    /// cells. The fates of the cells of day `from` are counted at the days `later`, those called `undifferentiated` left out.
    /// Cells of which no relative has another label are left out.
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers of cells differ; [`Error::Times`] if no cell is of one of the days, or a later day isn't
    /// later.
    pub fn observe(
        clones: &Csr,
        days: &[f64],
        labels: &Categorical,
        from: f64,
        later: &[f64],
        undifferentiated: &[&str],
    ) -> Result<Self> {
        let n = clones.n_rows();
        for (what, found) in [("the days", days.len()), ("the labels", labels.len())] {
            if found != n {
                return Err(Error::Shape {
                    what,
                    found: vec![found],
                    expected: format!("[{n}], one for each cell with barcodes"),
                });
            }
        }
        check_days(days, from, later)?;
        let names = labels.categories().to_vec();
        let mut of_clone = Array2::<u64>::zeros((clones.n_cols(), names.len()));
        for (row, (day, code)) in days.iter().zip(labels.codes()).enumerate() {
            let Some(code) = code.filter(|_| later.contains(day)) else {
                continue;
            };
            for clone in barcodes(clones, row) {
                if let Some(count) = of_clone.get_mut((clone, code as usize)) {
                    *count += 1;
                }
            }
        }
        let of_clone = FateCounts::new(names, of_clone)?.without(undifferentiated);
        let sums = of_clone.counts();
        let (mut cells, mut counts) = (Vec::new(), Vec::new());
        for row in (0..n).filter(|&row| days.get(row) == Some(&from)) {
            let mut sum = vec![0u64; sums.ncols()];
            for clone in barcodes(clones, row) {
                sum.iter_mut()
                    .zip(sums.row(clone))
                    .for_each(|(s, c)| *s += c);
            }
            if sum.iter().any(|&s| s > 0) {
                cells.push(row);
                counts.append(&mut sum);
            }
        }
        let counts = super::arrays::array((cells.len(), sums.ncols()), counts)?;
        let counts = FateCounts::new(of_clone.names().to_vec(), counts)?;
        Ok(Self { cells, counts })
    }

    /// The rows of the cells of the early day that have differentiated relatives.
    pub fn cells(&self) -> &[usize] {
        &self.cells
    }

    /// Their differentiated relatives by label.
    pub fn counts(&self) -> &FateCounts {
        &self.counts
    }

    /// The same as shares of each cell.
    pub fn matrix(&self) -> FateMatrix {
        self.counts.fractions()
    }
}

/// The clones that a cell is of.
fn barcodes(clones: &Csr, row: usize) -> impl Iterator<Item = usize> + '_ {
    let (indices, values) = clones.row(row);
    let marked = indices.iter().zip(values).filter(|(_, v)| **v != 0.0);
    marked.map(|(&i, _)| i as usize)
}

fn check_days(days: &[f64], from: f64, later: &[f64]) -> Result<()> {
    let refuse = |reason: String| Err(Error::Times { reason });
    if later.is_empty() {
        return refuse("no later day is given at which to look for relatives".into());
    }
    if let Some(bad) = later.iter().find(|d| d.is_nan() || **d <= from) {
        return refuse(format!("day {bad} is not later than day {from}"));
    }
    let mut known: Vec<f64> = days.to_vec();
    known.sort_unstable_by(f64::total_cmp);
    known.dedup();
    match std::iter::once(&from)
        .chain(later)
        .find(|d| !known.contains(d))
    {
        Some(none) => refuse(format!("no cell is of day {none}; the days are {known:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn cells_of_several_clones_have_the_relatives_of_all() {
        let clones = Csr::from_dense(&array![
            [1.0, 1.0, 0.0],
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, 0.0]
        ]);
        let days = [2.0, 4.0, 6.0, 2.0, 6.0];
        let kinds = ["u", "a", "b", "u", "a"];
        let kinds = Categorical::from_labels(&kinds);
        let see = |later: &[f64]| ClonalFates::observe(&clones, &days, &kinds, 2.0, later, &["u"]);
        let both = see(&[4.0, 6.0]).unwrap();
        assert_eq!(both.cells(), [0]);
        assert_eq!(both.counts().counts().row(0).to_vec(), [1, 1]);
        let late = see(&[6.0]).unwrap();
        assert_eq!(late.matrix().fractions().row(0).to_vec(), [0.0, 1.0]);
        let missing = see(&[5.0]).unwrap_err().to_string();
        assert!(missing.contains("[2.0, 4.0, 6.0]"), "{missing}");
        assert!(see(&[]).is_err() && see(&[2.0]).is_err());
        assert!(ClonalFates::observe(&clones, &[2.0], &kinds, 2.0, &[4.0], &[]).is_err());
    }
}
