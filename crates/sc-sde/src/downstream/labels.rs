use ndarray::{Array2, ArrayView2, Axis};
use sc_data::Categorical;
use sc_model::Parity;
use sc_neighbors::{Neighbors, knn_query};

use super::arrays::check_places;
use crate::error::invalid;
use crate::{Error, Result};

/// Neighbours that vote, as in the original.
const NEIGHBOURS: usize = 20;

/// What kind of cell a place is: the label of most of its nearest observed cells.
///
/// Of labels with as many votes that of the nearest cell among them wins. The original asks for one neighbour more and drops
/// the nearest whether or not that is the query itself; `Parity::Upstream` repeats it. Simulated cells are not among the
/// observed ones, so nothing is dropped by default.
///
/// ```
/// use ndarray::array;
/// use sc_data::Categorical;
/// use sc_sde::downstream::StateLabels;
///
/// let places = array![[0.0f32], [0.1], [0.2], [5.0], [5.1], [5.2]];
/// let kinds = Categorical::from_labels(&["HSC", "HSC", "HSC", "Mono", "Mono", "Mono"]);
/// let states = StateLabels::new(places.view(), &kinds)?.k(3);
/// let found = states.label(array![[4.0f32], [0.3]].view())?;
/// assert_eq!(states.names()[found[0]], "Mono");
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StateLabels {
    places: Array2<f32>,
    codes: Vec<usize>,
    names: Vec<String>,
    k: usize,
    parity: Parity,
}

impl StateLabels {
    /// From observed cells, `[cells, D]`, and their labels. Cells without a label don't vote.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a label, or a missing one, for each cell, [`Error::Empty`] if all are missing or there
    /// are no coordinates, [`Error::NotFinite`].
    pub fn new(places: ArrayView2<'_, f32>, labels: &Categorical) -> Result<Self> {
        check_places("the labelled cells", places)?;
        if labels.len() != places.nrows() {
            return Err(Error::Shape {
                what: "the labels",
                found: vec![labels.len()],
                expected: format!("[{}], one for each cell", places.nrows()),
            });
        }
        let labelled = labels.codes().iter().enumerate();
        let (rows, codes): (Vec<usize>, Vec<usize>) = labelled
            .filter_map(|(row, code)| code.map(|c| (row, c as usize)))
            .unzip();
        if rows.is_empty() {
            return Err(Error::Empty {
                what: "the set of cells with a label",
                found: vec![0, places.ncols()],
            });
        }
        Ok(Self {
            places: places.select(Axis(0), &rows),
            codes,
            names: labels.categories().to_vec(),
            k: NEIGHBOURS,
            parity: Parity::Correct,
        })
    }

    /// Neighbours that vote; 20 unless set. If there are fewer cells all of them vote.
    #[must_use]
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Whether the nearest cell is dropped, as the original does.
    #[must_use]
    pub fn parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// The labels, which results are numbers of.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Coordinates of a cell.
    pub fn dim(&self) -> usize {
        self.places.ncols()
    }

    /// The number of a label.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such label.
    pub fn number(&self, name: &str) -> Result<usize> {
        number(&self.names, name)
    }

    /// The label of each row of `query`, as its number.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if `k` is 0, those of the search if the coordinates don't fit or aren't finite.
    pub fn label(&self, query: ArrayView2<'_, f32>) -> Result<Vec<usize>> {
        let near = self.neighbors(query)?;
        let mut votes = vec![0u32; self.names.len()];
        let winner = |row| {
            votes.fill(0);
            self.vote(&near, row, &mut votes);
            let most = votes.iter().copied().max().unwrap_or(0);
            let mut voters = self.voters(&near, row);
            voters.find(|&c| votes.get(c) == Some(&most)).unwrap_or(0)
        };
        Ok((0..query.nrows()).map(winner).collect())
    }

    /// How many neighbours of each row of `query` have each label, `[rows, labels]`.
    ///
    /// # Errors
    /// As [`StateLabels::label`].
    pub fn votes(&self, query: ArrayView2<'_, f32>) -> Result<Array2<u32>> {
        let near = self.neighbors(query)?;
        let n = self.names.len();
        let mut all = Vec::with_capacity(query.nrows() * n);
        for row in 0..query.nrows() {
            let mut votes = vec![0u32; n];
            self.vote(&near, row, &mut votes);
            all.append(&mut votes);
        }
        super::arrays::array((query.nrows(), n), all)
    }

    fn neighbors(&self, query: ArrayView2<'_, f32>) -> Result<Neighbors> {
        if self.k == 0 {
            return Err(invalid("k", 0, "at least one neighbour must vote"));
        }
        let k = (self.k + self.dropped()).min(self.codes.len());
        Ok(knn_query(self.places.view(), query, k)?)
    }

    /// Neighbours that are dropped.
    fn dropped(&self) -> usize {
        match self.parity {
            Parity::Correct => 0,
            Parity::Upstream => 1,
        }
    }

    /// The labels of the neighbours that vote, nearest first.
    fn voters<'a>(&'a self, near: &'a Neighbors, row: usize) -> impl Iterator<Item = usize> + 'a {
        let found = near.indices.row(row);
        let skip = self.dropped();
        (skip..found.len())
            .filter_map(move |j| found.get(j).copied())
            .filter_map(|i| self.codes.get(i as usize).copied())
    }

    fn vote(&self, near: &Neighbors, row: usize, votes: &mut [u32]) {
        for code in self.voters(near, row) {
            if let Some(count) = votes.get_mut(code) {
                *count += 1;
            }
        }
    }
}

/// The number of a name in a list.
pub(super) fn number(names: &[String], name: &str) -> Result<usize> {
    names.iter().position(|n| n == name).ok_or_else(|| {
        invalid(
            "label",
            format!("\"{name}\""),
            format!("the labels are {}", names.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn kinds() -> Categorical {
        Categorical::from_options([Some("b"), Some("a"), None, Some("a"), Some("b")].into_iter())
    }

    #[test]
    fn most_neighbours_win_and_of_equals_the_nearest() {
        let places = array![[0.0f32], [1.0], [1.1], [2.0], [3.0]];
        let states = StateLabels::new(places.view(), &kinds()).unwrap();
        let query = array![[0.4f32], [2.6], [1.2]];
        let named = |s: &StateLabels| -> Vec<String> {
            let found = s.label(query.view()).unwrap();
            found.iter().map(|&c| s.names()[c].clone()).collect()
        };
        // The unlabelled cell has no vote.
        assert_eq!(named(&states.clone().k(2)), ["b", "b", "a"]);
        assert_eq!(named(&states.clone().k(3)), ["a", "a", "a"]);
        // Two against two.
        assert_eq!(named(&states), ["b", "b", "a"]);
        let dropped = states.clone().k(2).parity(Parity::Upstream);
        assert_eq!(named(&dropped), ["a", "a", "a"]);
        let a = states.number("a").unwrap();
        let votes = states.k(3).votes(query.view()).unwrap();
        assert_eq!(votes.column(a).to_vec(), [2, 2, 2]);
    }

    #[test]
    fn bad_input_is_refused() {
        let places = array![[0.0f32], [1.0]];
        let two = Categorical::from_labels(&["a", "b"]);
        assert!(StateLabels::new(places.view(), &kinds()).is_err());
        let none = Categorical::from_options([None::<&str>, None].into_iter());
        assert!(StateLabels::new(places.view(), &none).is_err());
        assert!(StateLabels::new(array![[0.0f32], [f32::NAN]].view(), &two).is_err());
        let states = StateLabels::new(places.view(), &two).unwrap();
        assert!(states.clone().k(0).label(places.view()).is_err());
        assert!(states.label(array![[0.0f32, 1.0]].view()).is_err());
        let e = states.number("c").unwrap_err().to_string();
        assert!(e.contains("a, b"), "{e}");
    }
}
