//! Highly variable genes.

mod combine;
mod dispersion;
mod loess;
mod pearson;
mod v3;

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

use sc_data::{Categorical, RowSource};

use crate::groups::Groups;
use crate::{Error, Result};

/// How [`highly_variable_genes`] scores genes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HvgFlavor {
    /// For data that are normalised and log1p-transformed. Satija et al., "Spatial reconstruction of single-cell gene
    /// expression data", Nat Biotechnol 2015; scanpy's default.
    ///
    /// On `expm1(x)`: dispersion `d = ln(variance / mean)`, and `m = ln(1 + mean)` cut into 20 bins of equal width; the
    /// score is `(d - mean of d in the bin) / standard deviation of d in the bin`, and 1 where the bin has one gene.
    #[default]
    Seurat,
    /// For data that are normalised and log1p-transformed. Zheng et al., "Massively parallel digital transcriptional
    /// profiling of single cells", Nat Commun 2017.
    ///
    /// On the logarithms themselves: dispersion `d = variance / mean`, and the mean cut into 20 bins at its 10th, 15th, ... 100th
    /// percentile; the score is `(d - median of d in the bin) / median absolute deviation of d in the bin` (scaled to
    /// estimate a standard deviation).
    CellRanger,
    /// For raw counts. Stuart et al., "Comprehensive integration of single-cell data", Cell 2019.
    ///
    /// A loess curve (degree 2, span 0.3) of `log10(variance)` on `log10(mean)` gives each gene its expected standard
    /// deviation `s`; the score is the variance of `(x - mean) / s`, where `x` is cut off at `mean + s sqrt(n_cells)`. With
    /// batches, genes are ordered by their median rank, then by the number of batches in which they are among the best.
    SeuratV3,
    /// The same scores; with batches, genes are ordered by the number of batches first and then by their median rank, as the
    /// paper says.
    SeuratV3Paper,
    /// For raw counts. Lause, Berens and Kobak, "Analytic Pearson residuals for normalization of single-cell RNA-seq UMI
    /// data", Genome Biol 2021.
    ///
    /// With `mu = gene total * cell total / total`, the score is the variance (`1/n`) of
    /// `(x - mu) / sqrt(mu + mu^2 / theta)`, cut off at `± sqrt(n_cells)`.
    PearsonResiduals,
}

impl HvgFlavor {
    /// Whether it wants raw counts; the others want normalised logarithms.
    pub fn wants_counts(self) -> bool {
        matches!(
            self,
            Self::SeuratV3 | Self::SeuratV3Paper | Self::PearsonResiduals
        )
    }
}

/// How many genes [`highly_variable_genes_with`] chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HvgSelection {
    /// So many with the highest scores.
    Top(usize),
    /// Those whose mean ([`HighlyVariable::means`]) and score lie between bounds; not for the flavours that rank genes.
    Between {
        /// Smallest and largest mean, both excluded.
        mean: (f64, f64),
        /// Smallest and largest score, both excluded.
        score: (f64, f64),
    },
}

impl HvgSelection {
    /// scanpy's default bounds: means from 0.0125 to 3, scores from 0.5.
    pub const USUAL_BOUNDS: Self = Self::Between {
        mean: (0.0125, 3.0),
        score: (0.5, f64::INFINITY),
    };
}

/// Options of [`highly_variable_genes_with`].
///
/// ```
/// use sc_preprocess::{HvgFlavor, HvgOptions};
/// let mut options = HvgOptions::new(HvgFlavor::PearsonResiduals, 2000);
/// options.theta = 100.0;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HvgOptions {
    /// How genes are scored.
    pub flavor: HvgFlavor,
    /// Which are chosen.
    pub select: HvgSelection,
    /// Bins of the mean, 20 ([`HvgFlavor::Seurat`]).
    pub n_bins: usize,
    /// Share of the genes in a neighbourhood of the loess curve, 0.3 ([`HvgFlavor::SeuratV3`]).
    pub span: f64,
    /// Inverse overdispersion, 100; infinity for Poisson ([`HvgFlavor::PearsonResiduals`]).
    pub theta: f64,
    /// Where residuals are cut off; `None` is the square root of the number of cells ([`HvgFlavor::PearsonResiduals`]).
    pub clip: Option<f64>,
}

impl HvgOptions {
    /// The `n_top` genes that score highest, everything else as usual.
    pub fn new(flavor: HvgFlavor, n_top: usize) -> Self {
        Self {
            flavor,
            select: HvgSelection::Top(n_top),
            n_bins: 20,
            span: 0.3,
            theta: 100.0,
            clip: None,
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |name, found: String, expected: &str| {
            Err(Error::InvalidParameter {
                name,
                found,
                expected: expected.into(),
            })
        };
        match self.select {
            HvgSelection::Top(0) => {
                return wrong("n_top", "0".into(), "at least 1, usually 2000");
            }
            HvgSelection::Between { .. } if self.flavor.wants_counts() => {
                let found = format!("bounds of mean and score for {:?}", self.flavor);
                return wrong("the selection", found, "a number of genes: it ranks them");
            }
            HvgSelection::Between { mean, score } if !(mean.0 < mean.1 && score.0 < score.1) => {
                let found = format!("means {mean:?} and scores {score:?}");
                return wrong("the selection", found, "lower bounds below the upper ones");
            }
            _ => {}
        }
        if self.n_bins == 0 {
            return wrong("n_bins", "0".into(), "at least 1, usually 20");
        }
        if !(self.span > 0.0 && self.span <= 1.0) {
            return wrong("span", self.span.to_string(), "more than 0, up to 1");
        }
        if self.theta.is_nan() || self.theta <= 0.0 {
            return wrong("theta", self.theta.to_string(), "more than 0, usually 100");
        }
        match self.clip {
            Some(c) if c.is_nan() || c < 0.0 => wrong("clip", c.to_string(), "0 or more"),
            _ => Ok(()),
        }
    }
}

/// Which genes vary more than genes of their mean usually do.
#[derive(Debug, Clone)]
pub struct HighlyVariable {
    /// Mean of each gene: `ln(1 + mean)` of `expm1(x)` for [`HvgFlavor::Seurat`], the mean of the values for
    /// the others.
    pub means: Vec<f64>,
    /// The spread of each gene: `ln(variance / mean)` (NaN if the gene is constant) for [`HvgFlavor::Seurat`],
    /// `variance / mean` for [`HvgFlavor::CellRanger`], and the variance for the others.
    pub dispersions: Vec<f64>,
    /// The score of each gene, its mean over the batches if there are any; NaN where there is none, infinite in a bin whose
    /// other genes are all alike (as without any counts: filter such genes first). Flavours for logarithms
    /// don't score a gene in batches without it; with batches it counts as 0 there, and so do its mean and spread.
    pub scores: Vec<f64>,
    /// For flavours that rank genes: the median of its rank (from 0) over the batches in which the gene is among the best
    /// `n_top`; NaN if it is in none.
    pub ranks: Option<Vec<f64>>,
    /// In how many batches the gene is chosen; `None` without batches.
    pub n_batches: Option<Vec<usize>>,
    /// How many batches there are; 1 without a batch key.
    pub batches: usize,
    /// The genes chosen, in ascending order.
    pub genes: Vec<usize>,
}

impl HighlyVariable {
    /// For each gene whether it was chosen.
    pub fn mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.scores.len()];
        for &g in &self.genes {
            if let Some(m) = mask.get_mut(g) {
                *m = true;
            }
        }
        mask
    }

    /// The chosen genes in the form that [`sc_data::Csr::select_columns`] takes.
    pub fn columns(&self) -> Vec<Option<usize>> {
        self.genes.iter().map(|&g| Some(g)).collect()
    }
}

/// The `n_top` genes with the highest score; all that have one if they are fewer. Of equal scores the gene that comes
/// first wins, so that never more than `n_top` are chosen.
///
/// The source is read once or twice (flavours for counts), a few thousand rows at a time.
///
/// # Errors
/// As [`highly_variable_genes_with`].
pub fn highly_variable_genes(
    source: &dyn RowSource,
    n_top: usize,
    flavor: HvgFlavor,
) -> Result<HighlyVariable> {
    highly_variable_genes_with(source, &HvgOptions::new(flavor, n_top), None)
}

/// The genes that vary more than genes of their mean usually do, with options; with `batch`, those that do so within
/// batches, so that differences between batches are no reason to choose a gene.
///
/// # Errors
/// Those of the source; [`Error::TooSmall`] or [`Error::SmallBatch`] with fewer than two cells (in a batch),
/// [`Error::InvalidParameter`] if an option is out of range, [`Error::InvalidValue`] if a value is negative or not finite,
/// [`Error::Data`] if a cell has no batch.
pub fn highly_variable_genes_with(
    source: &dyn RowSource,
    options: &HvgOptions,
    batch: Option<&Categorical>,
) -> Result<HighlyVariable> {
    options.check()?;
    let groups = Groups::maybe(batch, source.n_rows())?;
    groups.at_least(2)?;
    let has_batches = batch.is_some();
    match options.flavor {
        HvgFlavor::Seurat | HvgFlavor::CellRanger => {
            dispersion::choose(source, options, &groups, has_batches)
        }
        HvgFlavor::SeuratV3 | HvgFlavor::SeuratV3Paper => {
            let scored = v3::scores(source, options, &groups)?;
            combine::by_ranks(scored, options, has_batches)
        }
        HvgFlavor::PearsonResiduals => {
            let scored = pearson::scores(source, options, &groups)?;
            combine::by_ranks(scored, options, has_batches)
        }
    }
}
