use candle_core::DType;
use ndarray::Array2;
use sc_data::Categorical;
use sc_model::Parity;

use super::nets::Attended;
use super::{GenePanel, Scbert, ScbertCells};
use crate::{Error, Result};

/// How much attention genes get, on average over the cells of each type.
#[derive(Debug, Clone)]
pub struct GeneImportance {
    panel: GenePanel,
    measured: Vec<bool>,
    /// The types, in the order of the rows.
    pub labels: Vec<String>,
    /// Cells of each type.
    pub n_cells: Vec<usize>,
    /// The mean share of the attention, `[types, genes of the panel]`. What is missing to 1 goes to the cell's own position.
    pub values: Array2<f64>,
}

impl Scbert {
    /// How much attention each position of one cell gets: averaged over queries, heads and blocks, so that it sums to 1. Exact,
    /// without a matrix of positions by positions: the attention that key `j` gets is `phi(k_j) . w` with `w` the mean over
    /// queries of `phi(q_i) / (phi(q_i) . sum_j phi(k_j))`.
    ///
    /// [`Parity::Upstream`] reads it from a second attention, of what the attention layer returned, instead of the one that the
    /// network uses.
    ///
    /// # Errors
    /// If the tokens are not those of one cell.
    pub fn position_importance(&self, tokens: &[u32], parity: Parity) -> Result<Vec<f64>> {
        let attended = match parity {
            Parity::Correct => Attended::Forward,
            Parity::Upstream => Attended::AfterResidual,
        };
        let positions = self.panel.positions();
        if tokens.len() != positions {
            return Err(Error::InvalidSetting {
                name: "tokens",
                value: format!("{} of them", tokens.len()),
                reason: format!("one cell has {positions}"),
            });
        }
        let mut sum = vec![0f64; positions];
        for block in self.nets.importance(tokens, attended)? {
            let block = block.to_dtype(DType::F64)?.to_vec2::<f64>()?;
            for (s, heads) in sum.iter_mut().zip(&block) {
                *s += heads.iter().sum::<f64>();
            }
        }
        let total: f64 = sum.iter().sum();
        sum.iter_mut().for_each(|s| *s /= total);
        Ok(sum)
    }

    /// How much attention each gene gets in each cell, `[cells, genes of the panel]`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn gene_importance(&self, cells: &ScbertCells<'_>, parity: Parity) -> Result<Array2<f32>> {
        let all = self.each_cell(cells, |tokens| self.position_importance(tokens, parity))?;
        let mut matrix = Array2::zeros((all.len(), self.panel.len()));
        for (mut row, values) in matrix.rows_mut().into_iter().zip(&all) {
            row.iter_mut().zip(values).for_each(|(r, &v)| *r = v as f32);
        }
        Ok(matrix)
    }

    /// The mean over the cells of each type; `labels` has one for each row of the source that the cells came from. Cells without
    /// a label are left out, and so are types without cells.
    ///
    /// # Errors
    /// If the number of labels differs from that of the rows, and those of the source.
    pub fn gene_importance_by_type(
        &self,
        cells: &ScbertCells<'_>,
        labels: &Categorical,
        parity: Parity,
    ) -> Result<GeneImportance> {
        if labels.len() != cells.n_rows() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the labels".into(),
                found: labels.len(),
                expected: cells.n_rows(),
            }
            .into());
        }
        let labels = labels.select(cells.kept());
        let mut result = GeneImportance {
            panel: self.panel.clone(),
            measured: cells.alignment().found(self.panel.len()),
            labels: Vec::new(),
            n_cells: Vec::new(),
            values: Array2::zeros((0, self.panel.len())),
        };
        for (code, name) in labels.categories().iter().enumerate() {
            let members = labels.codes().iter().enumerate();
            let members = members.filter(|(_, c)| c.is_some_and(|c| c as usize == code));
            let members: Vec<usize> = members.map(|(cell, _)| cell).collect();
            if !members.is_empty() {
                result.push(
                    name,
                    members.len(),
                    &self.mean_importance(cells, &members, parity)?,
                )?;
            }
        }
        Ok(result)
    }

    /// The mean over some cells, added up in their order.
    fn mean_importance(
        &self,
        cells: &ScbertCells<'_>,
        members: &[usize],
        parity: Parity,
    ) -> Result<Vec<f64>> {
        let mut sum = vec![0f64; self.panel.len()];
        self.each_of(
            cells,
            members,
            |tokens| self.position_importance(tokens, parity),
            |cell| sum.iter_mut().zip(cell).for_each(|(s, v)| *s += v),
        )?;
        sum.iter_mut().for_each(|s| *s /= members.len() as f64);
        Ok(sum)
    }
}

impl GeneImportance {
    fn push(&mut self, name: &str, n_cells: usize, values: &[f64]) -> Result<()> {
        self.labels.push(name.to_owned());
        self.n_cells.push(n_cells);
        let row = ndarray::ArrayView1::from(values);
        self.values
            .push_row(row)
            .map_err(candle_core::Error::wrap)?;
        Ok(())
    }

    /// The genes of the panel that the data has: what a gene-set test takes as its background, next to the first genes of
    /// [`GeneImportance::ranked`] or [`GeneImportance::ranked_against_others`].
    pub fn universe(&self) -> Vec<&str> {
        self.genes().map(|(_, name)| name).collect()
    }

    fn genes(&self) -> impl Iterator<Item = (usize, &str)> {
        let names = self.panel.names().iter().zip(&self.measured).enumerate();
        names
            .filter(|(_, (_, measured))| **measured)
            .map(|(i, (name, _))| (i, name.as_str()))
    }

    fn row(&self, label: &str) -> Result<usize> {
        let found = self.labels.iter().position(|l| l == label);
        found.ok_or_else(|| {
            sc_data::Error::NotFound {
                container: "the importance of genes".into(),
                kind: "type",
                name: label.to_owned(),
                available: self.labels.join(", "),
            }
            .into()
        })
    }

    /// All genes that the data has, those with the most attention in cells of this type first.
    ///
    /// # Errors
    /// If there is no such type.
    pub fn ranked(&self, label: &str) -> Result<Vec<(&str, f64)>> {
        let row = self.row(label)?;
        Ok(self.sorted(|gene| self.values[(row, gene)]))
    }

    /// All genes that the data has, by how much more attention they get in cells of this type than, on average, in those of each
    /// other type: genes that every cell attends to rank low.
    ///
    /// # Errors
    /// If there is no such type, or no other.
    pub fn ranked_against_others(&self, label: &str) -> Result<Vec<(&str, f64)>> {
        let row = self.row(label)?;
        let others = self.labels.len().saturating_sub(1);
        if others == 0 {
            return Err(Error::InvalidSetting {
                name: "label",
                value: label.to_owned(),
                reason: "there is no other type to compare with".into(),
            });
        }
        let sums = self.values.sum_axis(ndarray::Axis(0));
        Ok(self.sorted(|gene| {
            let own = self.values[(row, gene)];
            own - (sums[gene] - own) / others as f64
        }))
    }

    /// Genes by falling score; ties stay in the panel's order.
    fn sorted(&self, score: impl Fn(usize) -> f64) -> Vec<(&str, f64)> {
        let mut all: Vec<(&str, f64)> = self.genes().map(|(i, n)| (n, score(i))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }
}
