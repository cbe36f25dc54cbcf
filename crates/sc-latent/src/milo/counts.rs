use ndarray::Array2;
use rayon::prelude::*;
use sc_data::Categorical;

use super::Neighbourhoods;
use super::neighbourhoods::same_length;
use crate::{Error, Result};

/// How many cells of each sample each neighbourhood holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// The samples, in the order of their categories; samples without any cell are left out.
    pub samples: Vec<String>,
    /// Cells, `[neighbourhoods, samples]`.
    pub counts: Array2<f64>,
    /// Cells of each sample in all, whether or not they are in a neighbourhood.
    pub cells_of_sample: Vec<usize>,
}

impl Counts {
    /// Counts the members of each neighbourhood by sample.
    ///
    /// # Errors
    /// [`Error::Data`] if the labels are not one a cell, or some are missing; [`Error::TooFewSamples`] with one sample.
    pub fn new(neighbourhoods: &Neighbourhoods, samples: &Categorical, key: &str) -> Result<Self> {
        same_length("the sample labels", samples.len(), neighbourhoods.n_cells())?;
        let codes = samples.complete_codes(key)?;
        let totals = samples.counts();
        let kept: Vec<usize> = (0..totals.len()).filter(|&s| totals[s] > 0).collect();
        if kept.len() < 2 {
            return Err(Error::TooFewSamples {
                samples: kept.len(),
                columns: 1,
                names: key.to_owned(),
            });
        }
        let mut column = vec![usize::MAX; totals.len()];
        kept.iter()
            .enumerate()
            .for_each(|(new, &old)| column[old] = new);
        let members = neighbourhoods.members();
        let mut counts = Array2::zeros((neighbourhoods.len(), kept.len()));
        counts
            .outer_iter_mut()
            .into_par_iter()
            .enumerate()
            .for_each(|(j, mut row)| {
                for &cell in members.row(j).0 {
                    row[column[codes[cell as usize] as usize]] += 1.0;
                }
            });
        Ok(Self {
            samples: kept
                .iter()
                .map(|&s| samples.categories()[s].clone())
                .collect(),
            counts,
            cells_of_sample: kept.iter().map(|&s| totals[s]).collect(),
        })
    }

    /// The sums over neighbourhoods: what Milo takes for the size of a sample. A cell in several neighbourhoods counts
    /// several times.
    pub fn column_sums(&self) -> Vec<f64> {
        self.counts.columns().into_iter().map(|c| c.sum()).collect()
    }
}
