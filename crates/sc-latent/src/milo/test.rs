use ndarray::{Array2, ArrayView2, CowArray, Ix2};

use super::normalise::{Normalisation, normalise_and_test};
use super::quasi::Problem;
use super::spatial_fdr::{fdr, weighted_fdr};
use super::table::{DaTable, Row};
use super::{Counts, Design, Neighbourhoods, Weighting};
use crate::{Error, Result};

/// What the size of a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SampleSize {
    /// The sum of its counts over neighbourhoods, in which a cell of several counts several times (milopy, miloR).
    #[default]
    CountSum,
    /// The number of its cells.
    Cells,
}

/// How neighbourhoods are tested.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TestOptions {
    /// How the sizes of samples are made comparable.
    pub normalisation: Normalisation,
    /// What the size of a sample is.
    pub size: SampleSize,
    /// Whether neighbourhoods with outlying variances are told apart. True by default, as in Milo.
    pub robust: bool,
    /// What neighbourhoods weigh in the spatial false discovery rate.
    pub weighting: Weighting,
    /// What a neighbourhood weighs there whose distance is 0, so that 1 / distance is infinite: 0 by default, as in milopy and
    /// pertpy, 1 in miloR.
    pub weight_at_zero: f64,
}

impl Default for TestOptions {
    fn default() -> Self {
        Self {
            normalisation: Normalisation::Centred,
            size: SampleSize::CountSum,
            robust: true,
            weighting: Weighting::KthDistance,
            weight_at_zero: 0.0,
        }
    }
}

impl TestOptions {
    /// The choices of milopy: trimmed means of M values, without centring.
    pub fn milopy() -> Self {
        Self {
            normalisation: Normalisation::Tmm,
            ..Self::default()
        }
    }

    /// The choices of miloR: as [`TestOptions::milopy`], and neighbourhoods at distance 0 weigh 1.
    pub fn milo_r() -> Self {
        Self {
            weight_at_zero: 1.0,
            ..Self::milopy()
        }
    }
}

/// Tests each neighbourhood for a change in abundance between samples: [`Milo's method`](crate::milo). `embedding` is needed for
/// weights by distance only.
///
/// Samples without any cell in a neighbourhood, and neighbourhoods without any cell of the samples that remain, are left
/// out of the test.
///
/// # Errors
/// [`Error::Data`] if the parts do not fit together; [`Error::Formula`] if a level is tested instead of a difference;
/// [`Error::TooFewSamples`] or [`Error::NotEstimable`] if the samples that have cells do not suffice;
/// [`Error::InvalidSetting`] if no neighbourhood has enough cells for a test.
pub fn differential_abundance(
    neighbourhoods: &Neighbourhoods,
    embedding: ArrayView2<'_, f32>,
    counts: &Counts,
    design: &Design,
    options: &TestOptions,
) -> Result<DaTable> {
    check(neighbourhoods, counts, design)?;
    design.check_difference()?;
    let weights = options
        .weighting
        .weights(neighbourhoods, embedding, options.weight_at_zero)?;
    let sums = counts.column_sums();
    let samples: Vec<usize> = (0..sums.len()).filter(|&s| sums[s] > 0.0).collect();
    let rows: Vec<usize> = (0..neighbourhoods.len())
        .filter(|&g| samples.iter().any(|&s| counts.counts[[g, s]] > 0.0))
        .collect();
    let design = design.of_samples(&samples)?;
    let all = rows.len() == neighbourhoods.len() && samples.len() == sums.len();
    // Usually nothing is left out, and nothing need be copied.
    let kept: CowArray<'_, f64, Ix2> = if all {
        counts.counts.view().into()
    } else {
        let part = (rows.len(), samples.len());
        Array2::from_shape_fn(part, |(g, s)| counts.counts[[rows[g], samples[s]]]).into()
    };
    let sizes: Vec<f64> = samples
        .iter()
        .map(|&s| match options.size {
            SampleSize::CountSum => sums[s],
            SampleSize::Cells => counts.cells_of_sample[s] as f64,
        })
        .collect();
    let problem = Problem {
        counts: kept.view(),
        sizes: &sizes,
        design: design.matrix().view(),
        contrast: design.contrast(),
        robust: options.robust,
    };
    let (normalisation, tested) = normalise_and_test(&problem, options.normalisation)
    .ok_or_else(|| Error::InvalidSetting {
        name: "the neighbourhoods",
        value: format!("{} with {} cells on average", rows.len(), mean(&neighbourhoods.sizes())),
        reason: "too few of them have five cells and more to estimate a dispersion; take more nearest neighbours".into(),
    })?;
    if tested.not_converged > 0 {
        tracing::warn!(
            "the models of {} neighbourhoods did not converge",
            tested.not_converged
        );
    }
    let mut p_values = vec![f64::NAN; neighbourhoods.len()];
    rows.iter()
        .zip(&tested.rows)
        .for_each(|(&g, t)| p_values[g] = t.p_value);
    let (plain, spatial) = (fdr(&p_values), weighted_fdr(&p_values, &weights));
    let sizes = neighbourhoods.sizes();
    let mut table: Vec<Row> = (0..neighbourhoods.len())
        .map(|g| Row {
            index_cell: neighbourhoods.index_cells()[g],
            name: None,
            size: sizes[g],
            kth_distance: neighbourhoods.kth_distance()[g],
            log_fc: f64::NAN,
            log_cpm: f64::NAN,
            f: f64::NAN,
            p_value: p_values[g],
            fdr: plain[g],
            spatial_fdr: spatial[g],
            annotation: None,
            fraction: None,
        })
        .collect();
    for (&g, t) in rows.iter().zip(&tested.rows) {
        (table[g].log_fc, table[g].log_cpm, table[g].f) = (t.log_fc, t.log_cpm, t.f);
    }
    Ok(DaTable {
        tested: design.tested().to_owned(),
        samples: design.samples().to_vec(),
        normalisation,
        common_dispersion: tested.common_dispersion,
        prior_df: tested.prior_df,
        rows: table,
    })
}

fn mean(sizes: &[usize]) -> usize {
    sizes.iter().sum::<usize>() / sizes.len().max(1)
}

fn check(neighbourhoods: &Neighbourhoods, counts: &Counts, design: &Design) -> Result<()> {
    use super::neighbourhoods::same_length;
    same_length(
        "the rows of the counts",
        counts.counts.nrows(),
        neighbourhoods.len(),
    )?;
    same_length(
        "the columns of the counts",
        counts.counts.ncols(),
        counts.samples.len(),
    )?;
    if let Some(s) = counts
        .samples
        .iter()
        .find(|s| !design.samples().contains(s))
    {
        return Err(Error::Data(sc_data::Error::NotFound {
            container: "the design".into(),
            kind: "sample",
            name: s.clone(),
            available: design.samples().join(", "),
        }));
    }
    same_length(
        "the samples of the design",
        design.samples().len(),
        counts.samples.len(),
    )?;
    if design.samples() != counts.samples {
        return Err(Error::InvalidSetting {
            name: "the samples",
            value: design.samples().join(", "),
            reason: format!(
                "the counts have them in another order: {}",
                counts.samples.join(", ")
            ),
        });
    }
    Ok(())
}
