//! Perturbed cells of a screen.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::{Array2, Axis, Slice};
use sc_data::Csr;
use sc_transformer::tokens::Perturbation;

use crate::Result;
use crate::common::column;

/// Log-normalised cells, and what was done to each.
pub(crate) struct Screen {
    /// Cells x genes: those that were measured, then empty columns of perturbed genes that were not, so that a model can be
    /// told of them.
    pub(crate) values: Csr,
    pub(crate) genes: Vec<String>,
    /// How many of the genes were measured.
    pub(crate) measured: usize,
    pub(crate) of_cells: Vec<Perturbation>,
}

impl Screen {
    /// The cells of one data set among several, by the column `dataset` of obs; `ncounts` has the counts of all genes of a
    /// cell, `condition` what was done to it.
    pub(crate) fn read(path: &Path, dataset: &str) -> Result<Self> {
        let data = sc_io::h5ad::read(path)?;
        let of = column(&data, "dataset")?;
        let rows: Vec<usize> = (0..of.len())
            .filter(|&i| of.get(i) == Some(dataset))
            .collect();
        let data = data.select_obs(&rows)?;
        let totals = data.obs.column("obs", "ncounts")?.to_f64("ncounts")?;
        let conditions = column(&data, "condition")?;
        let of_cells: Vec<Perturbation> = conditions
            .iter()
            .map(|c| Perturbation::parse(c.unwrap_or("control"), "control"))
            .collect();
        let mut genes = data.var.index().to_vec();
        let measured = genes.len();
        let known: BTreeSet<&String> = genes.iter().collect();
        let perturbed: BTreeSet<&String> = of_cells.iter().flat_map(Perturbation::genes).collect();
        let added: Vec<String> = perturbed.difference(&known).map(|g| (*g).clone()).collect();
        genes.extend(added);
        let (indptr, indices, mut values) = data.matrix(None)?.to_csr().into_raw();
        for (span, total) in indptr.windows(2).zip(&totals) {
            for v in &mut values[span[0]..span[1]] {
                *v = (f64::from(*v) / total * 1e4).ln_1p() as f32;
            }
        }
        Ok(Self {
            values: Csr::new(of_cells.len(), genes.len(), indptr, indices, values)?,
            genes,
            measured,
            of_cells,
        })
    }

    /// The cells to which one of these was done.
    pub(crate) fn cells_of(&self, wanted: &BTreeSet<&Perturbation>) -> Vec<usize> {
        let all = self.of_cells.iter().enumerate();
        all.filter(|(_, p)| wanted.contains(p))
            .map(|(i, _)| i)
            .collect()
    }

    /// The control cells.
    pub(crate) fn controls(&self) -> Vec<usize> {
        let all = self.of_cells.iter().enumerate();
        all.filter(|(_, p)| p.is_control())
            .map(|(i, _)| i)
            .collect()
    }

    /// The measured genes of some cells.
    pub(crate) fn dense(&self, cells: &[usize]) -> Result<Array2<f32>> {
        let all = self.values.select_rows(cells)?.to_dense();
        Ok(all
            .slice_axis(Axis(1), Slice::from(..self.measured))
            .to_owned())
    }

    /// The columns of perturbed genes.
    pub(crate) fn columns(&self, p: &Perturbation) -> Vec<usize> {
        let place = |g: &String| self.genes.iter().position(|h| h == g);
        p.genes().iter().filter_map(place).collect()
    }

    /// The names of what was done to some cells.
    pub(crate) fn names(&self, cells: &[usize]) -> Vec<String> {
        let names = cells.iter().filter_map(|&c| self.of_cells.get(c));
        names.map(ToString::to_string).collect()
    }
}
