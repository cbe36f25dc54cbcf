use std::collections::HashSet;

use rayon::prelude::*;
use serde::Serialize;
use statrs::function::factorial::ln_binomial;

use super::gmt::{GeneSet, GeneSets};
use crate::{Error, Result};

/// Which sets [`enrich`] tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrichmentOptions {
    /// Sets have at least so many genes of the background.
    pub min_size: usize,
    /// Sets have at most so many genes of the background.
    pub max_size: usize,
}

impl Default for EnrichmentOptions {
    /// Every set with a gene of the background.
    fn default() -> Self {
        Self {
            min_size: 1,
            max_size: usize::MAX,
        }
    }
}

/// How a list of genes meets a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Enriched {
    /// The set's name.
    pub set: String,
    /// Genes of the list that are in the set, in the order of the list.
    pub overlap: Vec<String>,
    /// Genes of the set that are in the background.
    pub size: usize,
    /// How many times as many genes overlap as chance would have it.
    pub fold: f64,
    /// The probability that as many genes or more overlap by chance.
    pub p: f64,
    /// The false discovery rate (Benjamini and Hochberg 1995) over all sets tested.
    pub fdr: f64,
    /// `p` times the number of sets tested, at most 1 (Bonferroni).
    pub bonferroni: f64,
}

/// Sets that a list of genes has more of than chance explains: over-representation by the hypergeometric test (one-sided
/// Fisher's exact test). Sorted by `p`, then by name; all sets tested are there.
///
/// `background` are all genes that could have been in the list: those measured and known to the model. Genes of the list and of
/// sets that are not among them don't count. With `N` genes in the background, `K` of them in the set, and `n` in the list,
/// `P(overlap >= k) = sum_{i >= k} C(K, i) C(N - K, n - i) / C(N, n)`.
///
/// # Errors
/// [`Error::InvalidSetting`] if no gene of the list is in the background.
pub fn enrich<S: AsRef<str> + Sync>(
    genes: &[S],
    background: &[S],
    sets: &GeneSets,
    options: EnrichmentOptions,
) -> Result<Vec<Enriched>> {
    let all: HashSet<&str> = background.iter().map(AsRef::as_ref).collect();
    let mut listed = HashSet::new();
    let list: Vec<&str> = genes
        .iter()
        .map(AsRef::as_ref)
        .filter(|g| all.contains(g) && listed.insert(*g))
        .collect();
    if list.is_empty() {
        return Err(Error::InvalidSetting {
            name: "genes",
            value: format!("{} genes", genes.len()),
            reason: format!(
                "none of them is among the {} genes of the background",
                all.len()
            ),
        });
    }
    let sizes = options.min_size.max(1)..=options.max_size;
    let test = |set: &GeneSet| {
        let own: HashSet<&str> = set
            .genes
            .iter()
            .map(String::as_str)
            .filter(|g| all.contains(g))
            .collect();
        sizes.contains(&own.len()).then(|| {
            let overlap = list.iter().filter(|g| own.contains(*g));
            tested(set, &own, overlap.copied().collect(), all.len(), list.len())
        })
    };
    let sets: Vec<&GeneSet> = sets.iter().collect();
    let mut found: Vec<Enriched> = sets.into_par_iter().filter_map(test).collect();
    found.sort_by(|a, b| a.p.total_cmp(&b.p).then_with(|| a.set.cmp(&b.set)));
    let tests = found.len() as f64;
    let p: Vec<f64> = found.iter().map(|e| e.p).collect();
    for (e, fdr) in found.iter_mut().zip(benjamini_hochberg(&p)) {
        e.fdr = fdr;
        e.bonferroni = (e.p * tests).min(1.0);
    }
    Ok(found)
}

fn tested(
    set: &GeneSet,
    own: &HashSet<&str>,
    overlap: Vec<&str>,
    background: usize,
    listed: usize,
) -> Enriched {
    let expected = own.len() as f64 * listed as f64 / background as f64;
    Enriched {
        set: set.name.clone(),
        size: own.len(),
        fold: overlap.len() as f64 / expected,
        p: at_least(overlap.len(), background, own.len(), listed),
        fdr: 1.0,
        bonferroni: 1.0,
        overlap: overlap.into_iter().map(str::to_owned).collect(),
    }
}

/// `P(X >= k)` if `n` of `total` things are drawn, `marked` of which are marked, and `X` of those drawn are.
fn at_least(k: usize, total: usize, marked: usize, n: usize) -> f64 {
    let most = marked.min(n);
    let least = (marked + n).saturating_sub(total);
    if k <= least {
        return 1.0;
    }
    if k > most {
        return 0.0;
    }
    let choose = |n: usize, k: usize| ln_binomial(n as u64, k as u64);
    let first = choose(marked, k) + choose(total - marked, n - k) - choose(total, n);
    // Each term from the one before it, relative to the first.
    let (mut sum, mut term) = (1.0, 1.0);
    for i in k..most {
        let up = (marked - i) as f64 * (n - i) as f64;
        let down = (i + 1) as f64 * (total + i + 1 - marked - n) as f64;
        term *= up / down;
        sum += term;
    }
    (first.exp() * sum).min(1.0)
}

/// The false discovery rate of each of some p-values (Benjamini and Hochberg, "Controlling the false discovery rate", J R
/// Stat Soc B 1995).
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    let value = |i: usize| p.get(i).copied().unwrap_or(f64::NAN);
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    let mut out = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (rank, i) in (1..=p.len()).rev().zip(order) {
        least = least.min(value(i) * p.len() as f64 / rank as f64);
        if let Some(slot) = out.get_mut(i) {
            *slot = least;
        }
    }
    out
}
