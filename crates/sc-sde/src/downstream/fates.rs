use candle_core::Tensor;
use ndarray::{Array2, ArrayView1};
use sc_model::Parity;

use super::arrays::array;
use super::labels::number;
use super::{Simulation, StateLabels};
use crate::{Error, Result};

/// End states that are labelled together.
const LABELLED_AT_ONCE: usize = 1 << 15;

/// How many of something, for example of a cell's simulated ends, have each label.
#[derive(Debug, Clone, PartialEq)]
pub struct FateCounts {
    names: Vec<String>,
    counts: Array2<u64>,
}

impl FateCounts {
    /// `counts` is `[cells, labels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a name for each column.
    pub fn new(names: Vec<String>, counts: Array2<u64>) -> Result<Self> {
        match names.len() == counts.ncols() {
            true => Ok(Self { names, counts }),
            false => Err(columns("the counts", counts.shape(), names.len())),
        }
    }

    /// Simulates all copies of each start cell (`[cells, D]`), and counts the labels of their last states.
    ///
    /// # Errors
    /// As [`Simulation::run`] and [`StateLabels::label`].
    pub fn predict(
        simulation: &Simulation<'_>,
        start: &Tensor,
        states: &StateLabels,
    ) -> Result<Self> {
        Self::predict_with(simulation, start, states, |_, _| {})
    }

    /// The same; `watch` is told how many paths are done, of how many.
    ///
    /// # Errors
    /// As [`FateCounts::predict`].
    pub fn predict_with(
        simulation: &Simulation<'_>,
        start: &Tensor,
        states: &StateLabels,
        mut watch: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let (n, d) = (start.dims().first().copied().unwrap_or(0), states.dim());
        let mut counts = Array2::zeros((n, states.names().len()));
        let mut ends: Vec<f32> = Vec::new();
        let mut first = 0;
        let mut count = |ends: &mut Vec<f32>| -> Result<()> {
            let rows = ends.len() / d;
            let places = array((rows, d), std::mem::take(ends))?;
            for (i, label) in states.label(places.view())?.into_iter().enumerate() {
                let cell = (first + i) / simulation.n_copies();
                if let Some(c) = counts.get_mut((cell, label)) {
                    *c += 1;
                }
            }
            first += rows;
            Ok(())
        };
        simulation.run(start, |batch| {
            let found = batch.ends()?;
            if found.ncols() != d {
                return Err(Error::Shape {
                    what: "the simulated cells",
                    found: found.shape().to_vec(),
                    expected: format!("[paths, {d}], as the labelled cells"),
                });
            }
            ends.extend(found);
            watch(batch.paths().end, n * simulation.n_copies());
            match ends.len() >= LABELLED_AT_ONCE * d {
                true => count(&mut ends),
                false => Ok(()),
            }
        })?;
        if !ends.is_empty() {
            count(&mut ends)?;
        }
        Self::new(states.names().to_vec(), counts)
    }

    /// The labels.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `[cells, labels]`.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// The same without some labels, usually those of cells that are not differentiated yet. Labels that aren't there are
    /// ignored.
    #[must_use]
    pub fn without(&self, labels: &[&str]) -> Self {
        let kept: Vec<usize> = (0..self.names.len())
            .filter(|&j| {
                self.names
                    .get(j)
                    .is_some_and(|n| !labels.contains(&n.as_str()))
            })
            .collect();
        Self {
            names: kept
                .iter()
                .filter_map(|&j| self.names.get(j).cloned())
                .collect(),
            counts: self.counts.select(ndarray::Axis(1), &kept),
        }
    }

    /// As shares of the sum of each cell. A cell without counts has zeros.
    pub fn fractions(&self) -> FateMatrix {
        let mut fractions = self.counts.mapv(|c| c as f64);
        for mut row in fractions.rows_mut() {
            let sum = row.sum();
            if sum > 0.0 {
                row.mapv_inplace(|v| v / sum);
            }
        }
        FateMatrix {
            fates: self.names.clone(),
            fractions,
        }
    }
}

/// The share of each fate of each cell, observed or predicted: the `F` of the literature.
#[derive(Debug, Clone, PartialEq)]
pub struct FateMatrix {
    fates: Vec<String>,
    fractions: Array2<f64>,
}

impl FateMatrix {
    /// `fractions` is `[cells, fates]`, not negative; rows sum to 1, or to 0 where nothing is known.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a name for each column, [`Error::NotFinite`] if a number is NaN or infinite,
    /// [`Error::Weights`] if one is negative.
    pub fn new(fates: Vec<String>, fractions: Array2<f64>) -> Result<Self> {
        if fates.len() != fractions.ncols() {
            return Err(columns("the fractions", fractions.shape(), fates.len()));
        }
        for ((row, column), &value) in fractions.indexed_iter() {
            if !value.is_finite() {
                return Err(Error::NotFinite {
                    what: "the fate fractions",
                    row,
                    column,
                    value,
                });
            }
            if value < 0.0 {
                return Err(Error::Weights {
                    what: "the fate fractions",
                    reason: format!("row {row} has {value}; fractions are not negative"),
                });
            }
        }
        Ok(Self { fates, fractions })
    }

    /// The fates.
    pub fn fates(&self) -> &[String] {
        &self.fates
    }

    /// `[cells, fates]`.
    pub fn fractions(&self) -> &Array2<f64> {
        &self.fractions
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.fractions.nrows()
    }

    /// Some of the cells, in the order given.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no such row.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        let n = self.n_cells();
        if let Some(&bad) = rows.iter().find(|&&r| r >= n) {
            return Err(Error::Shape {
                what: "the row of a cell",
                found: vec![bad],
                expected: format!("below {n}"),
            });
        }
        Ok(Self {
            fates: self.fates.clone(),
            fractions: self.fractions.select(ndarray::Axis(0), rows),
        })
    }

    /// The largest fraction of each cell (the first of equal ones), as a number of a fate. Cells without any have none; the
    /// original takes their first fate (`Parity::Upstream`).
    pub fn dominant(&self, parity: Parity) -> Vec<Option<usize>> {
        let largest = |row: ArrayView1<'_, f64>| {
            let start = match parity {
                Parity::Correct => (None, 0.0),
                Parity::Upstream => (Some(0), 0.0),
            };
            let all = row.iter().enumerate();
            all.fold(
                start,
                |best, (j, &v)| if v > best.1 { (Some(j), v) } else { best },
            )
            .0
        };
        self.fractions.rows().into_iter().map(largest).collect()
    }

    /// `a / (a + b)` of each cell, 0.5 where it has neither: for example Neutrophil against Monocyte.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such fate.
    pub fn bias(&self, a: &str, b: &str) -> Result<Vec<f64>> {
        let (a, b) = (number(&self.fates, a)?, number(&self.fates, b)?);
        let share = |(a, b): (&f64, &f64)| match a + b {
            sum if sum > 0.0 => a / sum,
            _ => 0.5,
        };
        let both = self.fractions.column(a).into_iter();
        Ok(both.zip(self.fractions.column(b)).map(share).collect())
    }

    /// The entropy of the fates of each cell, `-sum p ln p`: 0 if there is but one.
    pub fn entropy(&self) -> Vec<f64> {
        let term = |&p: &f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        let rows = self.fractions.rows().into_iter();
        rows.map(|row| row.iter().map(term).sum()).collect()
    }

    /// How many fates of each cell have at least this fraction.
    pub fn n_fates(&self, at_least: f64) -> Vec<usize> {
        let rows = self.fractions.rows().into_iter();
        rows.map(|row| row.iter().filter(|v| **v > 0.0 && **v >= at_least).count())
            .collect()
    }

    /// The columns of these fates; zeros for those that aren't there.
    pub(super) fn columns_of(&self, fates: &[String]) -> Array2<f64> {
        let mut out = Array2::zeros((self.n_cells(), fates.len()));
        for (j, fate) in fates.iter().enumerate() {
            if let Some(found) = self.fates.iter().position(|f| f == fate) {
                out.column_mut(j).assign(&self.fractions.column(found));
            }
        }
        out
    }
}

fn columns(what: &'static str, found: &[usize], names: usize) -> Error {
    Error::Shape {
        what,
        found: found.to_vec(),
        expected: format!("[cells, {names}], a column for each name"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use ndarray::array;
    use sc_data::Categorical;

    use super::*;
    use crate::solve::zoo::DoubleWell;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_a_fate_matrix_says() {
        let counts = array![[3, 1, 6], [0, 0, 10], [2, 2, 0]];
        let counts = FateCounts::new(names(&["Neu", "Mono", "HSC"]), counts).unwrap();
        let fates = counts.without(&["HSC", "other"]).fractions();
        assert_eq!(fates.fates(), ["Neu", "Mono"]);
        assert_eq!(fates.fractions().row(1).to_vec(), [0.0, 0.0]);
        assert_eq!(fates.bias("Neu", "Mono").unwrap(), [0.75, 0.5, 0.5]);
        assert_eq!(fates.dominant(Parity::Correct), [Some(0), None, Some(0)]);
        assert_eq!(fates.dominant(Parity::Upstream), [Some(0); 3]);
        assert!((fates.entropy()[2] - 2f64.ln()).abs() < 1e-12);
        assert_eq!(fates.n_fates(0.3), [1, 0, 2]);
        assert!(fates.bias("Neu", "Baso").is_err());
        assert!(fates.select(&[3]).is_err());
        assert!(FateMatrix::new(names(&["a"]), array![[-0.1]]).is_err());
        assert!(FateMatrix::new(names(&["a"]), array![[f64::NAN]]).is_err());
        assert!(FateMatrix::new(names(&["a", "b"]), array![[0.1]]).is_err());
    }

    /// Nearly all paths from within a well stay there, those from the ridge go half and half.
    #[test]
    fn fates_in_the_double_well() {
        let sde = DoubleWell::new(1.0, 0.5);
        let start = Tensor::new(&[[-0.7], [0.0], [0.7]], &Device::Cpu).unwrap();
        let simulation = Simulation::new(&sde, &[0.0, 3.0], 0.05)
            .unwrap()
            .copies(400);
        let places = array![[-1.1f32], [-1.0], [-0.9], [0.9], [1.0], [1.1]];
        let wells = Categorical::from_labels(&["left", "left", "left", "right", "right", "right"]);
        let states = StateLabels::new(places.view(), &wells).unwrap().k(3);
        let fates = FateCounts::predict(&simulation, &start, &states).unwrap();
        assert_eq!(fates.counts().row(1).sum(), 400);
        let right = fates.fractions().bias("right", "left").unwrap();
        assert!(right[0] < 0.05 && right[2] > 0.95, "{right:?}");
        assert!((right[1] - 0.5).abs() < 0.1, "{right:?}");
        let flat = Tensor::new(&[[0.0, 0.0]], &Device::Cpu).unwrap();
        assert!(FateCounts::predict(&simulation, &flat, &states).is_err());
    }
}
