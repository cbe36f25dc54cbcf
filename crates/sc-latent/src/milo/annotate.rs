use ndarray::{Array2, ArrayView2};
use sc_data::Categorical;

use super::Neighbourhoods;
use super::neighbourhoods::same_length;
use crate::Result;

/// The label of a neighbourhood whose cells have several.
pub const MIXED: &str = "Mixed";
/// The share of the cells that must have the most frequent label, by convention.
pub const MIXED_BELOW: f64 = 0.6;

/// The most frequent label of each neighbourhood.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotations {
    /// The label; of equally frequent ones the first category. `None` if no cell has a label.
    pub labels: Vec<Option<String>>,
    /// The share of the cells with that label; cells without a label count among all.
    pub fractions: Vec<f64>,
}

impl Annotations {
    /// The labels, `"Mixed"` where the share is below `cut`; 0.6 is usual.
    pub fn or_mixed(&self, cut: f64) -> Vec<Option<&str>> {
        let each = self.labels.iter().zip(&self.fractions);
        each.map(|(label, &f)| label.as_deref().map(|l| if f < cut { MIXED } else { l }))
            .collect()
    }
}

impl Neighbourhoods {
    /// The most frequent label of each neighbourhood's cells.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) unless there is a label, or a missing one, for each cell.
    pub fn annotate(&self, labels: &Categorical) -> Result<Annotations> {
        same_length("the labels", labels.len(), self.n_cells())?;
        let mut counts = vec![0usize; labels.categories().len()];
        let mut found = Annotations {
            labels: Vec::with_capacity(self.len()),
            fractions: Vec::with_capacity(self.len()),
        };
        for j in 0..self.len() {
            let cells = self.members().row(j).0;
            counts.fill(0);
            for &c in cells {
                if let Some(code) = labels.codes().get(c as usize).copied().flatten() {
                    counts[code as usize] += 1;
                }
            }
            let mut best = (0, None);
            for (label, &n) in labels.categories().iter().zip(&counts) {
                if n > best.0 {
                    best = (n, Some(label.clone()));
                }
            }
            found.labels.push(best.1);
            found
                .fractions
                .push(best.0 as f64 / cells.len().max(1) as f64);
        }
        Ok(found)
    }

    /// The mean of a number over the cells of each neighbourhood, e.g. a score or an age.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) unless there is one number a cell.
    pub fn mean_of(&self, values: &[f64]) -> Result<Vec<f64>> {
        same_length("the values", values.len(), self.n_cells())?;
        let mean = |j| {
            let cells = self.members().row(j).0;
            cells.iter().map(|&c| values[c as usize]).sum::<f64>() / cells.len() as f64
        };
        Ok((0..self.len()).map(mean).collect())
    }

    /// Where to draw each neighbourhood: the places of the index cells in a picture of the cells, e.g. their UMAP.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if the picture has another number of cells.
    pub fn positions(&self, picture: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        same_length("the rows of the picture", picture.nrows(), self.n_cells())?;
        Ok(picture.select(ndarray::Axis(0), self.index_cells()))
    }
}
