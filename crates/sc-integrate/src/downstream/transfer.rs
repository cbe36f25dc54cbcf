//! Labels from cells of one modality to cells of another.

use ndarray::Axis;
use sc_data::Categorical;
use sc_neighbors::{LabelTransfer, Transferred, Votes};

use super::embed::unit_rows;
use crate::cells::MultiCells;
use crate::model::Clue;
use crate::{Error, Result};

impl Clue {
    /// Gives the cells that have modality `to` the labels of their `k` nearest cells that have modality `from` and a label,
    /// by cosine in the embedding; one vote each. `labels` has one, or a missing one, for each of `cells`. The result is in
    /// the order of [`MultiCells::with_modality`] of `to`; of paired cells each side is embedded on its own, so that a cell
    /// does not simply find itself unless the model puts it there.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality, [`Error::NoCells`] without cells, and those of
    /// [`LabelTransfer::transfer`].
    pub fn transfer_labels(
        &self,
        cells: &MultiCells<'_>,
        from: &str,
        to: &str,
        labels: &Categorical,
        k: usize,
    ) -> Result<Transferred> {
        if labels.len() != cells.n_cells() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the labels".into(),
                found: labels.len(),
                expected: cells.n_cells(),
            }
            .into());
        }
        let reference = self.embed_modality(cells, from)?;
        let known: Vec<usize> = (0..reference.cells.len())
            .filter(|&i| labels.get(reference.cells[i]).is_some())
            .collect();
        if known.is_empty() {
            return Err(Error::NoCells {
                what: format!("modality \"{from}\""),
                reason: "none of its cells has a label".into(),
            });
        }
        let rows: Vec<usize> = known.iter().map(|&i| reference.cells[i]).collect();
        let places = unit_rows(&reference.mean.select(Axis(0), &known));
        let labels = labels.select(&rows);
        let query = self.embed_modality(cells, to)?.unit();
        let transfer = LabelTransfer::fit(places.view(), &labels)?.k(k);
        Ok(transfer.votes(Votes::Equal).transfer(query.view())?)
    }
}
