//! Which genes differ between two populations, given draws of their expression. No model is needed.

use rayon::prelude::*;
use sc_tensor::math;
use sc_tensor::rng::Rng;

use super::blocks::{Blocks, Order};
use super::change_fn::{ChangeDomain, ChangeFn};
use super::mixture::estimate_delta;
use super::mode::{ChangeOptions, LEAST_PSEUDOCOUNT, Mode, TestMode};
use super::samples::{Pairs, ScaleSamples};
use super::statistics::{Change, GeneStatistics, Vanilla};
use super::summary;
use crate::{Error, Result};

/// Inside of logarithms of probabilities.
const EPS: f64 = 1e-8;
/// Summaries of the log fold change use this share of the pseudocount.
const SUMMARY_SHARE: f64 = 1e-3;

/// Compares draws of two populations gene by gene (Lopez et al., Nature Methods 2018; Boyeau et al. 2019).
///
/// With draws `s1`, `s2` of expression, paired at random (within batches if both have the same batches; with `permutations`
/// so many random pairs in all; of unequally many draws the fewer come again):
///
/// ```text
/// vanilla   p1 = mean(s1 > s2), p2 = 1 - p1
/// change    lfc = log2(s1 + c) - log2(s2 + c)
///           up = mean(lfc >= delta), down = mean(lfc < -delta), p = max(up, down) or up + down
///           bayes_factor = ln(p + 1e-8) - ln(1 - p + 1e-8)
/// ```
///
/// `raw_means`, the mean counts of each gene in both populations, are needed to estimate the pseudocount `c`: it is
/// `max(1e-10, q / G)` with `G` genes and `q` the larger, over the two populations, of the 0.9 quantile of the largest draw
/// of each gene whose mean count is below the threshold (1e-10 if there is none). The division by `G` is scvi-tools'.
/// Other changes than log fold changes can be measured ([`ChangeFn`]), and other ones counted ([`ChangeDomain`]).
///
/// The work is shared by threads gene by gene; the numbers don't depend on how many there are.
///
/// ```
/// use sc_latent::de::{bayes_factors, GeneStatistics, Mode, ScaleSamples};
/// let a = ndarray::array![[0.1f32, 0.9], [0.2, 0.8], [0.1, 0.9]];
/// let b = ndarray::array![[0.3f32, 0.7], [0.4, 0.6], [0.3, 0.7]];
/// let (a, b) = (ScaleSamples::new(a.view()), ScaleSamples::new(b.view()));
/// let GeneStatistics::Vanilla(v) = bayes_factors(&a, &b, None, &Mode::Vanilla, None, 0)? else { panic!() };
/// assert_eq!(v.proba_m1, [0.0, 1.0]);
/// # Ok::<(), sc_latent::Error>(())
/// ```
///
/// # Errors
/// If the populations have different genes or no draws, an option can't be, or `raw_means` are needed and missing.
pub fn bayes_factors(
    s1: &ScaleSamples,
    s2: &ScaleSamples,
    raw_means: Option<(&[f64], &[f64])>,
    mode: &Mode,
    permutations: Option<usize>,
    seed: u64,
) -> Result<GeneStatistics> {
    if s1.n_genes() != s2.n_genes() {
        return Err(sc_data::Error::LengthMismatch {
            what: "the genes of the second population".into(),
            found: s2.n_genes(),
            expected: s1.n_genes(),
        }
        .into());
    }
    if permutations == Some(0) {
        return Err(Error::InvalidSetting {
            name: "permutations",
            value: "0".into(),
            reason: "it must be at least 1; leave it out to pair the draws as they come".into(),
        });
    }
    let pairs = Pairs::new(s1, s2, permutations, Rng::new(seed).stream("de/pairs"))?;
    let work = Work {
        n_pairs: pairs.len(),
        n_genes: s1.n_genes(),
        s1: Side::new(s1, &pairs.first),
        s2: Side::new(s2, &pairs.second),
    };
    Ok(match mode {
        Mode::Vanilla => GeneStatistics::Vanilla(work.vanilla()),
        Mode::Change(options) => {
            options.check()?;
            GeneStatistics::Change(work.change(options, raw_means)?)
        }
    })
}

struct Work<'a> {
    s1: Side<'a>,
    s2: Side<'a>,
    n_pairs: usize,
    n_genes: usize,
}

/// Draws of a population and in which orders they are read.
struct Side<'a> {
    values: &'a Blocks,
    /// One of each pair.
    paired: Order,
    /// All, where these are not the paired ones.
    all: Option<Order>,
}

impl<'a> Side<'a> {
    fn new(of: &'a ScaleSamples, paired: &[u32]) -> Self {
        let values = of.values();
        let other = of.draws() != paired;
        Self {
            values,
            paired: values.order(paired),
            all: other.then(|| values.order(of.draws())),
        }
    }

    fn all(&self) -> &Order {
        self.all.as_ref().unwrap_or(&self.paired)
    }

    /// The mean of a gene over all draws; `paired` holds the paired ones.
    fn mean(&self, gene: usize, paired: &[f32], room: &mut Vec<f32>) -> f64 {
        match &self.all {
            Some(all) => {
                self.values.gather(gene, all, room);
                summary::mean(room)
            }
            None => summary::mean(paired),
        }
    }
}

/// The paired draws of a gene, and room to compute with them.
#[derive(Default)]
struct Draws {
    a: Vec<f32>,
    b: Vec<f32>,
    lfc: Vec<f32>,
}

impl Draws {
    /// Writes the changes between paired draws into `lfc`, and gives what they are to be multiplied by: logarithms are
    /// natural ones.
    fn measure(&mut self, change: &ChangeFn, c: f64) -> f64 {
        match change {
            ChangeFn::LogFoldChange => {
                log_ratios(&self.a, &self.b, c as f32, &mut self.lfc);
                std::f64::consts::LOG2_E
            }
            ChangeFn::Custom(f) => {
                let both = self.a.iter().zip(&self.b);
                let change = both.map(|(&a, &b)| f(f64::from(a), f64::from(b), c) as f32);
                self.lfc.clear();
                self.lfc.extend(change);
                1.0
            }
        }
    }
}

/// What [`Work::change`] finds of a gene.
struct Row {
    scales: [f64; 2],
    proba: f64,
    mean: f64,
    median: f64,
    std: f64,
    range: (f64, f64),
    intervals: Vec<(f64, f64)>,
}

fn log_odds(p: f64, q: f64) -> f64 {
    (p + EPS).ln() - (q + EPS).ln()
}

fn share(n: usize, of: usize) -> f64 {
    n as f64 / of.max(1) as f64
}

impl Work<'_> {
    /// Calls `f` for each gene with its paired draws.
    fn each_gene<T: Send>(&self, f: impl Fn(usize, &mut Draws) -> T + Sync) -> Vec<T> {
        (0..self.n_genes)
            .into_par_iter()
            .map_init(Draws::default, |draws, g| {
                let Draws { a, b, .. } = draws;
                self.s1.values.gather(g, &self.s1.paired, a);
                self.s2.values.gather(g, &self.s2.paired, b);
                f(g, draws)
            })
            .collect()
    }

    /// Mean expression of a gene in both populations, over all draws.
    fn scales(&self, g: usize, d: &mut Draws) -> [f64; 2] {
        let Draws { a, b, lfc: room } = d;
        [self.s1.mean(g, a, room), self.s2.mean(g, b, room)]
    }

    fn vanilla(&self) -> Vanilla {
        let rows = self.each_gene(|g, d| {
            let larger = d.a.iter().zip(&d.b).filter(|(a, b)| a > b).count();
            (share(larger, self.n_pairs), self.scales(g, d))
        });
        let proba_m1: Vec<f64> = rows.iter().map(|r| r.0).collect();
        let proba_m2: Vec<f64> = proba_m1.iter().map(|p| 1.0 - p).collect();
        let both = proba_m1.iter().zip(&proba_m2);
        Vanilla {
            bayes_factor: both.map(|(&p, &q)| log_odds(p, q)).collect(),
            scale1: rows.iter().map(|r| r.1[0]).collect(),
            scale2: rows.iter().map(|r| r.1[1]).collect(),
            proba_m1,
            proba_m2,
        }
    }

    fn change(
        &self,
        options: &ChangeOptions,
        raw_means: Option<(&[f64], &[f64])>,
    ) -> Result<Change> {
        let pseudocounts = match (options.pseudocounts, raw_means) {
            (Some(c), _) => c,
            (None, Some(means)) => self.pseudocounts(means, options.threshold_counts)?,
            (None, None) => {
                return Err(Error::InvalidSetting {
                    name: "pseudocounts",
                    value: "none".into(),
                    reason: "without the mean counts of the genes it can't be estimated; set it"
                        .into(),
                });
            }
        };
        let delta = options.delta.unwrap_or_else(|| {
            estimate_delta(&self.each_gene(|_, d| {
                let unit = d.measure(&options.change_fn, pseudocounts);
                summary::mean(&d.lfc) * unit
            }))
        });
        let rows = self.each_gene(|g, d| self.row(g, d, options, pseudocounts, delta));
        Ok(columns(&rows, options, pseudocounts, delta))
    }

    fn row(&self, g: usize, d: &mut Draws, options: &ChangeOptions, c: f64, delta: f64) -> Row {
        let scales = self.scales(g, d);
        let proba = self.proba(d, options, c, delta);
        let base = d.measure(&options.change_fn, c * SUMMARY_SHARE);
        let mean = summary::mean(&d.lfc);
        let std = summary::standard_deviation(&d.lfc, mean);
        let (low, high) = summary::range(&d.lfc);
        let median = summary::median(&mut d.lfc);
        let intervals = if options.cred_intervals.is_empty() {
            Vec::new()
        } else {
            d.lfc.sort_unstable_by(f32::total_cmp);
            let ends = |&level: &f64| {
                let (low, high) = summary::shortest_interval(&d.lfc, level);
                (low * base, high * base)
            };
            options.cred_intervals.iter().map(ends).collect()
        };
        Row {
            scales,
            proba,
            mean: mean * base,
            median: median * base,
            std: std * base,
            range: (f64::from(low) * base, f64::from(high) * base),
            intervals,
        }
    }

    /// The probability that a gene changes.
    fn proba(&self, d: &mut Draws, options: &ChangeOptions, c: f64, delta: f64) -> f64 {
        let (mut rises, mut falls) = (0u32, 0u32);
        match (&options.change_fn, &options.domain) {
            (ChangeFn::LogFoldChange, ChangeDomain::Threshold) => {
                // log2(s1 + c) - log2(s2 + c) >= delta without a logarithm.
                let (up, down) = (delta.exp2() as f32, (-delta).exp2() as f32);
                let c = c as f32;
                for (&a, &b) in d.a.iter().zip(&d.b) {
                    let (a, b) = (a + c, b + c);
                    rises += u32::from(a >= up * b);
                    falls += u32::from(a < down * b);
                }
            }
            (change_fn, domain) => {
                let unit = d.measure(change_fn, c);
                for &change in &d.lfc {
                    let (rise, fall) = domain.contains(f64::from(change) * unit, delta);
                    rises += u32::from(rise);
                    falls += u32::from(fall);
                }
            }
        }
        let n = self.n_pairs;
        let (rises, falls) = (share(rises as usize, n), share(falls as usize, n));
        match options.test {
            TestMode::Three => rises.max(falls),
            // A change that a function calls both a rise and a fall is still one change.
            TestMode::Two => (rises + falls).min(1.0),
        }
    }

    /// From the genes that are not expressed; see [`bayes_factors`].
    fn pseudocounts(&self, raw_means: (&[f64], &[f64]), threshold: f64) -> Result<f64> {
        let genes = self.n_genes;
        let upper = |side: &Side<'_>, means: &[f64]| -> Result<f64> {
            if means.len() != genes {
                return Err(sc_data::Error::LengthMismatch {
                    what: "the mean counts of the genes".into(),
                    found: means.len(),
                    expected: genes,
                }
                .into());
            }
            let largest: Vec<f64> = (0..genes)
                .into_par_iter()
                .filter(|&g| means[g] < threshold)
                .map_init(Vec::new, |room, g| {
                    side.values.gather(g, side.all(), room);
                    f64::from(summary::range(room).1)
                })
                .collect();
            Ok(summary::quantile(largest, 0.9).unwrap_or(LEAST_PSEUDOCOUNT))
        };
        let q = upper(&self.s1, raw_means.0)?.max(upper(&self.s2, raw_means.1)?);
        Ok((q / genes.max(1) as f64).max(LEAST_PSEUDOCOUNT))
    }
}

/// `ln((a + c) / (b + c))`: one logarithm, and more exact than the difference of two.
fn log_ratios(a: &[f32], b: &[f32], c: f32, out: &mut Vec<f32>) {
    out.clear();
    out.extend(a.iter().zip(b).map(|(a, b)| (a + c) / (b + c)));
    math::ln(out);
}

fn columns(rows: &[Row], options: &ChangeOptions, pseudocounts: f64, delta: f64) -> Change {
    let column = |f: fn(&Row) -> f64| rows.iter().map(f).collect::<Vec<f64>>();
    let levels = options.cred_intervals.iter().enumerate();
    Change {
        proba_de: column(|r| r.proba),
        proba_not_de: column(|r| 1.0 - r.proba),
        bayes_factor: column(|r| log_odds(r.proba, 1.0 - r.proba)),
        scale1: column(|r| r.scales[0]),
        scale2: column(|r| r.scales[1]),
        pseudocounts,
        delta,
        lfc_mean: column(|r| r.mean),
        lfc_median: column(|r| r.median),
        lfc_std: column(|r| r.std),
        lfc_min: column(|r| r.range.0),
        lfc_max: column(|r| r.range.1),
        lfc_intervals: levels
            .map(|(k, &level)| {
                let ends = rows.iter().map(|r| r.intervals[k]);
                let (low, high) = ends.unzip();
                (level, low, high)
            })
            .collect(),
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
