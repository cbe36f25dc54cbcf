use crate::{CellQc, Error, GeneQc, Result};

/// Which cells [`CellFilter::keep`] keeps: those within all bounds that are given, which are included.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sc_preprocess::{CellFilter, qc_metrics};
/// let counts = ndarray::array![[1.0f32, 3.0], [0.0, 1.0]];
/// let (cells, _) = qc_metrics(&counts, &[], &[])?;
/// let filter = CellFilter { min_genes: Some(2), ..CellFilter::default() };
/// assert_eq!(filter.keep(&cells)?, [0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellFilter {
    /// At least so many counts.
    pub min_counts: Option<f64>,
    /// At most so many counts.
    pub max_counts: Option<f64>,
    /// At least so many genes with a count.
    pub min_genes: Option<u32>,
    /// At most so many genes with a count.
    pub max_genes: Option<u32>,
    /// At most so many percent of the counts in a set of genes of [`CellQc::sets`]. Cells without counts, which have no such
    /// share, are dropped.
    pub max_pct: Vec<(String, f64)>,
}

/// Which genes [`GeneFilter::keep`] keeps: those within all bounds that are given, which are included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeneFilter {
    /// At least so many counts.
    pub min_counts: Option<f64>,
    /// At most so many counts.
    pub max_counts: Option<f64>,
    /// At least so many cells with a count.
    pub min_cells: Option<u32>,
    /// At most so many cells with a count.
    pub max_cells: Option<u32>,
}

fn within<T: PartialOrd + Copy>(value: T, min: Option<T>, max: Option<T>) -> bool {
    min.is_none_or(|m| value >= m) && max.is_none_or(|m| value <= m)
}

impl CellFilter {
    /// The rows of the cells that stay.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if [`CellFilter::max_pct`] names a set that was not counted.
    pub fn keep(&self, qc: &CellQc) -> Result<Vec<usize>> {
        let mut limits = Vec::with_capacity(self.max_pct.len());
        for (name, limit) in &self.max_pct {
            match qc.sets.iter().find(|s| s.name == *name) {
                Some(set) => limits.push((&set.pct_counts, *limit)),
                None => {
                    let names: Vec<&str> = qc.sets.iter().map(|s| s.name.as_str()).collect();
                    return Err(Error::InvalidParameter {
                        name: "the set of genes to filter by",
                        found: name.clone(),
                        expected: format!("one that was counted: {}", names.join(", ")),
                    });
                }
            }
        }
        let stays = |i: usize| {
            within(qc.total_counts[i], self.min_counts, self.max_counts)
                && within(qc.n_genes_by_counts[i], self.min_genes, self.max_genes)
                && limits.iter().all(|(pct, limit)| pct[i] <= *limit)
        };
        let cells = qc.total_counts.len().min(qc.n_genes_by_counts.len());
        Ok((0..cells).filter(|&i| stays(i)).collect())
    }
}

impl GeneFilter {
    /// The columns of the genes that stay.
    pub fn keep(&self, qc: &GeneQc) -> Vec<usize> {
        let both = qc.total_counts.iter().zip(&qc.n_cells_by_counts);
        both.enumerate()
            .filter(|(_, (counts, cells))| {
                within(**counts, self.min_counts, self.max_counts)
                    && within(**cells, self.min_cells, self.max_cells)
            })
            .map(|(g, _)| g)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GeneSet, qc_metrics};

    #[test]
    fn bounds_are_included_and_empty_cells_have_no_share() {
        let m = ndarray::array![[1.0f32, 3.0, 0.0], [0.0; 3], [2.0, 2.0, 2.0]];
        let set = GeneSet {
            name: "mt".into(),
            mask: vec![true, false, false],
        };
        let (cells, genes) = qc_metrics(&m, &[set], &[]).unwrap();
        let mut filter = CellFilter {
            min_counts: Some(4.0),
            ..CellFilter::default()
        };
        assert_eq!(filter.keep(&cells).unwrap(), [0, 2]);
        filter.max_genes = Some(2);
        assert_eq!(filter.keep(&cells).unwrap(), [0]);
        let filter = CellFilter {
            max_pct: vec![("mt".into(), 25.0)],
            ..CellFilter::default()
        };
        assert_eq!(filter.keep(&cells).unwrap(), [0]);
        let unknown = CellFilter {
            max_pct: vec![("ribo".into(), 25.0)],
            ..CellFilter::default()
        };
        let message = unknown.keep(&cells).unwrap_err().to_string();
        assert!(message.contains("ribo") && message.contains("mt"));
        let filter = GeneFilter {
            min_cells: Some(2),
            max_counts: Some(4.0),
            ..GeneFilter::default()
        };
        assert_eq!(filter.keep(&genes), [0]);
        assert_eq!(GeneFilter::default().keep(&genes), [0, 1, 2]);
    }
}
