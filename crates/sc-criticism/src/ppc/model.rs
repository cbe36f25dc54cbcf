use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use super::block::{DePass, Size, blocks, check, de_passes, read_raw};
use super::calibration::{Counter, Intervals};
use super::check::{Entry, PpcOptions};
use super::de::{Groups, Judge, Truth};
use super::moments::{GeneMoments, of_cell};
use super::observed::zeros;
use super::{Agreement, Calibration, GroupAgreement, Observed};
use crate::{Error, Result};

/// What was found of one model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelCheck {
    /// Its name.
    pub name: String,
    /// Samples of each cell.
    pub n_samples: usize,
    /// Coefficients of variation of cells: the mean over samples.
    pub cv_cell: Compared,
    /// The same of some cells only, as of those that trained and of those that did not.
    pub cv_cell_by_set: Vec<(String, Agreement)>,
    /// Coefficients of variation of genes: the mean over samples.
    pub cv_gene: Compared,
    /// The share of cells without each gene, as [`Observed::zero_fraction`].
    pub zero_fraction: Compared,
    /// Means of genes; agreement is that of `ln(1 + mean)`.
    pub mean: Compared,
    /// Variances of genes, the mean over samples; agreement is that of `ln(1 + variance)`.
    pub variance: Compared,
    /// Counts of each cell, the mean over samples.
    pub library_size: Compared,
    /// Of single counts; `None` with a single sample.
    pub calibration: Option<Calibration>,
    /// Of the counts of whole cells; `None` with a single sample.
    pub library_calibration: Option<Calibration>,
    /// Differential expression of each group against the rest; empty without groups.
    pub de: Vec<GroupAgreement>,
}

/// A statistic of generated counts beside that of the raw ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Of each cell or gene.
    pub values: Vec<f64>,
    /// With the raw one.
    pub agreement: Agreement,
}

impl Compared {
    fn new(raw: &[f64], values: Vec<f64>) -> Self {
        Self {
            agreement: Agreement::between(raw, &values),
            values,
        }
    }

    fn by_logarithm(raw: &[f64], values: Vec<f64>) -> Self {
        let logs = |v: &[f64]| v.iter().map(|v| v.ln_1p()).collect::<Vec<f64>>();
        Self {
            agreement: Agreement::between(&logs(raw), &logs(&values)),
            values,
        }
    }
}

/// What the statistics of samples are compared with.
pub(super) struct Against<'a> {
    pub(super) raw: &'a dyn RowSource,
    pub(super) size: Size,
    pub(super) observed: &'a Observed,
    pub(super) groups: Option<&'a Groups>,
    pub(super) truths: &'a [Truth],
    pub(super) options: &'a PpcOptions,
}

/// What is kept of the cells and genes that went through.
struct Seen {
    genes: Vec<GeneMoments>,
    cv_cell: Vec<f64>,
    library_size: Vec<f64>,
    counts: Option<(Counter, Counter)>,
}

impl Against<'_> {
    /// How often the cells of a model are gone through.
    pub(super) fn n_passes(options: &PpcOptions, size: Size, has_groups: bool) -> usize {
        match has_groups {
            true => de_passes(&options.de, size, options.de.n_samples).len(),
            false => 1,
        }
    }

    /// Goes through the samples of a model. `watch` hears of each block.
    pub(super) fn check(
        &self,
        entry: &Entry<'_>,
        watch: &mut dyn FnMut(usize),
    ) -> Result<ModelCheck> {
        let n_samples = entry.samples.n_samples();
        let model = entry.name.as_str();
        let name = |k: usize| format!("sample {k} of {model}");
        let intervals = match n_samples {
            1 => None,
            n => Some(Intervals::new(&self.options.levels, n)?),
        };
        let mut seen = Seen::new(self.size, n_samples, intervals);
        let tested = self.options.de.n_samples;
        let passes = Self::n_passes(self.options, self.size, self.groups.is_some());
        let mut de = self
            .groups
            .map(|g| DePass::new(g, &self.options.de, self.size, tested));
        for pass in 0..passes {
            if let Some(de) = &mut de {
                de.begin(pass);
            }
            for rows in blocks(self.size, n_samples) {
                let samples = entry.samples.read(rows.clone())?;
                if samples.len() != n_samples {
                    return Err(Error::Length {
                        what: format!("the samples of {}", entry.name),
                        found: samples.len(),
                        like: "the samples it says it has".into(),
                        expected: n_samples,
                    });
                }
                for (k, sample) in samples.iter().enumerate() {
                    check(sample, &name(k), &rows, self.size).map_err(hinted)?;
                }
                if pass == 0 {
                    let raw = read_raw(self.raw, &rows, self.size)?;
                    let sizes = &self.observed.library_size[rows.clone()];
                    seen.add(&raw, sizes, &samples);
                }
                if let Some(de) = &mut de {
                    de.add(pass, &samples, &rows, name)?;
                }
                watch(rows.len());
            }
            if let Some(de) = &mut de {
                de.end();
            }
        }
        let de = match (&de, self.groups) {
            (Some(de), Some(groups)) => {
                let mut judge = Judge::new(self.truths, self.options.parity);
                de.ranked().for_each(|sample| judge.add(&sample));
                judge.finish(groups)
            }
            _ => Vec::new(),
        };
        Ok(self.compare(entry, seen, de))
    }

    fn compare(&self, entry: &Entry<'_>, seen: Seen, de: Vec<GroupAgreement>) -> ModelCheck {
        let raw = self.observed;
        let over_samples = |of: &dyn Fn(&GeneMoments) -> Vec<f64>| {
            let all: Vec<Vec<f64>> = seen.genes.iter().map(of).collect();
            let of_gene = |g: usize| mean_defined(all.iter().map(|s| s[g]));
            (0..self.size.n_genes).map(of_gene).collect::<Vec<f64>>()
        };
        let zero_fraction = over_samples(&GeneMoments::zero_fractions);
        let zero_fraction = zeros(zero_fraction, self.options.parity);
        let by_set = |(set, cells): &(String, Vec<usize>)| {
            let own = Agreement::among(&raw.cv_cell, &seen.cv_cell, cells);
            (set.clone(), own)
        };
        let (calibration, library_calibration) = match seen.counts {
            Some((a, b)) => (Some(a.finish()), Some(b.finish())),
            None => (None, None),
        };
        ModelCheck {
            name: entry.name.clone(),
            n_samples: entry.samples.n_samples(),
            cv_cell_by_set: entry.sets.iter().map(by_set).collect(),
            cv_gene: Compared::new(&raw.cv_gene, over_samples(&GeneMoments::cv)),
            zero_fraction: Compared::new(&raw.zero_fraction, zero_fraction),
            mean: Compared::by_logarithm(&raw.mean, over_samples(&|m| m.means().to_vec())),
            variance: Compared::by_logarithm(&raw.variance, over_samples(&GeneMoments::variances)),
            library_size: Compared::new(&raw.library_size, seen.library_size),
            cv_cell: Compared::new(&raw.cv_cell, seen.cv_cell),
            calibration,
            library_calibration,
            de,
        }
    }
}

impl Seen {
    fn new(size: Size, n_samples: usize, intervals: Option<Intervals>) -> Self {
        Self {
            genes: vec![GeneMoments::new(size.n_genes); n_samples],
            cv_cell: Vec::with_capacity(size.n_cells),
            library_size: Vec::with_capacity(size.n_cells),
            counts: intervals.map(|i| (Counter::new(i.clone()), Counter::new(i))),
        }
    }

    fn add(&mut self, raw: &Csr, raw_sizes: &[f64], samples: &[Csr]) {
        self.genes
            .par_iter_mut()
            .zip(samples)
            .for_each(|(genes, sample)| genes.add(sample));
        let n_genes = raw.n_cols();
        let cells: Vec<(Vec<f64>, f64)> = (0..raw.n_rows())
            .into_par_iter()
            .map(|i| {
                let (sums, cvs): (Vec<f64>, Vec<f64>) =
                    samples.iter().map(|s| of_cell(s.row(i).1, n_genes)).unzip();
                (sums, mean_defined(cvs.into_iter()))
            })
            .collect();
        if let Some((counts, sizes)) = &mut self.counts {
            counts.add(raw, samples);
            for (&size, (sums, _)) in raw_sizes.iter().zip(&cells) {
                sizes.add_one(size, sums);
            }
        }
        for (sums, cv) in cells {
            self.cv_cell.push(cv);
            self.library_size.push(mean_defined(sums.into_iter()));
        }
    }
}

/// The mean of what is defined; NaN if nothing is.
fn mean_defined(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values
        .filter(|v| !v.is_nan())
        .fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
    sum / n
}

fn hinted(e: Error) -> Error {
    match e {
        Error::NotFinite {
            what,
            value,
            cell,
            gene,
            ..
        } => Error::NotFinite {
            what,
            value,
            cell,
            gene,
            hint: ", and a model that gives something else has diverged",
        },
        e => e,
    }
}
