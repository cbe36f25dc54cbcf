//! From a model and groups of cells to a table.

use super::core::bayes_factors;
use super::fdr::fdr_calls;
use super::groups::{Against, Comparison, Groups, Population};
use super::members::Members;
use super::mode::Mode;
use super::options::DeOptions;
use super::raw::{raw_statistics, select};
use super::sampler::Sampler;
use super::samples::ScaleSamples;
use super::statistics::GeneStatistics;
use super::table::{DeComparison, DeTable};
use crate::minify::{GroupStatistics, StatisticsOrigin};
use crate::{Cells, Result, Scvi, Weights};

/// Compares populations of cells: scvi-tools' `differential_expression`.
///
/// For each comparison, expression is drawn from both populations (`n_samples` posterior draws of random cells, each cell
/// equally often; only those are encoded and decoded, so that a million cells cost what the draws cost) and compared gene by
/// gene as [`bayes_factors`] says. With batch correction all cells are decoded as if they came from the same batches, and
/// compared batch by batch.
///
/// The same seed gives the same bits on any number of threads, and a comparison is made of the same draws whatever else is
/// compared with it (its numbers may differ in the last digit). Memory holds the draws of the populations that are being compared, `n_samples` x genes in single
/// precision each, not those of all groups.
///
/// # Errors
/// If the cells do not fit the model, the groups are of other cells, a batch is unknown, or an option can't be.
pub fn differential_expression(
    model: &Scvi,
    cells: &Cells<'_>,
    groups: &Groups,
    options: &DeOptions,
) -> Result<DeTable> {
    differential_expression_observed(model, cells, groups, options, &mut |_, _| {})
}

/// The same; calls `progress(comparisons done, comparisons in all)` before the first and after each.
///
/// # Errors
/// As [`differential_expression`].
pub fn differential_expression_observed(
    model: &Scvi,
    cells: &Cells<'_>,
    groups: &Groups,
    options: &DeOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<DeTable> {
    options.check()?;
    model.fits(cells)?;
    if groups.n_cells != cells.n_cells() {
        return Err(sc_data::Error::LengthMismatch {
            what: "the labels of the groups".into(),
            found: groups.n_cells,
            expected: cells.n_cells(),
        }
        .into());
    }
    let n = groups.len();
    progress(0, n);
    let mut run = Run::new(model, cells, groups, options)?;
    let mut comparisons = Vec::with_capacity(n);
    for k in 0..n {
        comparisons.push(run.compare(k)?);
        progress(k + 1, n);
    }
    Ok(DeTable {
        comparisons,
        genes: model.registry().genes.clone(),
        fdr_target: options.fdr_target,
        named: groups.named,
    })
}

struct Run<'a, 'c> {
    cells: &'a Cells<'c>,
    groups: &'a Groups,
    members: Members<'a>,
    options: &'a DeOptions,
    sampler: Sampler<'a, 'c>,
    codes: (Vec<Option<u32>>, Vec<Option<u32>>),
    /// The statistics of counts of both sides of each comparison.
    raw: Option<Vec<Sides>>,
}

type Sides = (GroupStatistics, GroupStatistics);

impl<'a, 'c> Run<'a, 'c> {
    fn new(
        model: &'a Scvi,
        cells: &'a Cells<'c>,
        groups: &'a Groups,
        options: &'a DeOptions,
    ) -> Result<Self> {
        let mut sampler = Sampler::new(model, cells, options);
        let codes = (
            sampler.codes(&options.batches1)?,
            sampler.codes(&options.batches2)?,
        );
        let members = match options.filter_outliers {
            true => Members::without_outliers(model, cells, groups, options.seed)?,
            false => Members::all(groups),
        };
        let comparisons = groups.comparisons.iter();
        let with_rest = comparisons.filter(|c| c.second == Against::Rest);
        let lacking: Vec<&Population> = with_rest.map(|c| members.lacking(c.first)).collect();
        if lacking.len() > 1 && options.weights == Weights::Uniform {
            sampler.share(&lacking, &codes.1)?;
        }
        let mut run = Self {
            cells,
            groups,
            members,
            options,
            sampler,
            codes,
            raw: None,
        };
        if run.needs_counts() {
            run.raw = run.raw_of_all()?;
        }
        Ok(run)
    }

    /// Whether anything is asked of the counts.
    fn needs_counts(&self) -> bool {
        let estimates = match &self.options.mode {
            Mode::Change(c) => c.pseudocounts.is_none(),
            Mode::Vanilla => false,
        };
        self.options.all_stats || estimates
    }

    /// Statistics of all comparisons from one pass over the counts.
    fn raw_of_all(&self) -> Result<Option<Vec<Sides>>> {
        let (lists, lacking) = self.members.lists();
        let comparisons = &self.groups.comparisons;
        let rests = comparisons.iter().any(|c| c.second == Against::Rest);
        let Some(all) = raw_statistics(self.cells, &lists, rests)? else {
            warn_of_lost_counts();
            return Ok(None);
        };
        let sides = |c: &Comparison| {
            let first = &all[c.first].0;
            let second = match c.second {
                Against::Population(p) => &all[p].0,
                // It was asked for above.
                Against::Rest => all[lacking(c.first)].1.as_ref().unwrap_or(first),
            };
            (first.clone(), second.clone())
        };
        let sides: Vec<Sides> = comparisons.iter().map(sides).collect();
        let rough = sides
            .iter()
            .find(|(a, b)| !(a.origin.is_exact() && b.origin.is_exact()));
        if let Some((a, b)) = rough {
            warn_of_rough_counts(a.origin, b.origin);
        }
        Ok(Some(sides))
    }

    fn compare(&mut self, k: usize) -> Result<DeComparison> {
        let comparison = self.groups.comparisons[k];
        let (group1, group2) = self.groups.names_of(comparison);
        let names = (group1.to_owned(), group2.to_owned());
        let raw = self.raw.as_ref().map(|all| all[k].clone());
        let sizes = self.members.sizes(comparison);
        let samples = self.draw(k)?;
        self.assemble(&samples, raw, sizes, names)
    }

    /// Draws of both sides; those of a population that comes again are kept.
    fn draw(&mut self, k: usize) -> Result<(ScaleSamples, ScaleSamples)> {
        let Comparison { first, second } = self.groups.comparisons[k];
        let later = &self.groups.comparisons[k + 1..];
        let again = |p: usize| {
            later
                .iter()
                .any(|c| c.first == p || c.second == Against::Population(p))
        };
        let population = |p: usize| self.members.population(p);
        let one = self
            .sampler
            .population(population(first), &self.codes.0, again(first))?;
        let two = match second {
            Against::Population(p) => {
                self.sampler
                    .population(population(p), &self.codes.1, again(p))?
            }
            Against::Rest => {
                let lacking = self.members.lacking(first);
                self.sampler.rest(lacking, &self.codes.1)?
            }
        };
        Ok((one, two))
    }

    fn assemble(
        &self,
        (one, two): &(ScaleSamples, ScaleSamples),
        raw: Option<Sides>,
        (n_cells1, n_cells2): (usize, usize),
        (group1, group2): (String, String),
    ) -> Result<DeComparison> {
        let options = self.options;
        // Without counts every gene counts as not expressed, as in scvi-tools.
        let lost = match &raw {
            None if self.needs_counts() => vec![0.0; one.n_genes()],
            _ => Vec::new(),
        };
        let means = match &raw {
            Some((a, b)) => Some((a.mean.as_slice(), b.mean.as_slice())),
            None if self.needs_counts() => Some((lost.as_slice(), lost.as_slice())),
            None => None,
        };
        let found = bayes_factors(
            one,
            two,
            means,
            &options.mode,
            options.permutations,
            options.seed,
        )?;
        let rank = found.rank_by();
        let mut genes: Vec<usize> = (0..rank.len()).collect();
        // Not-a-number goes last.
        let key = |g: usize| {
            if rank[g].is_nan() {
                f64::NEG_INFINITY
            } else {
                rank[g]
            }
        };
        genes.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        let statistics = found.select(&genes);
        Ok(DeComparison {
            group1,
            group2,
            n_cells1,
            n_cells2,
            is_de: match &statistics {
                GeneStatistics::Change(c) => Some(fdr_calls(&c.proba_de, options.fdr_target)),
                GeneStatistics::Vanilla(_) => None,
            },
            raw: raw
                .filter(|_| options.all_stats)
                .map(|(a, b)| (select(&a, &genes), select(&b, &genes))),
            statistics,
            genes,
        })
    }
}

fn warn_of_lost_counts() {
    tracing::warn!(
        "these cells were minified without their counts or sums of them: the table has no statistics of counts, and the \
         pseudocount is estimated as if no gene were expressed, which changes log fold changes of weakly expressed genes. \
         Minify with statistics (sc minify keeps them), or set the pseudocount"
    );
}

fn warn_of_rough_counts(a: StatisticsOrigin, b: StatisticsOrigin) {
    tracing::warn!(
        first = ?a,
        second = ?b,
        "these cells were minified: statistics of counts are exact for whole categories that were summed then; here some \
         cells stand for the average of their category (`sc minify --statistics-by COLUMN` sums the groups of a column)"
    );
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
