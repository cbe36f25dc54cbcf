//! Pairs of genes, by the attention of one to the other.

use std::collections::HashSet;
use std::fmt::Write as _;

use ndarray::{Array2, ArrayView2};
use sc_transformer::network::AttentionRanks;
use serde::Serialize;

use super::Args;
use crate::error::Result;

/// Pairs of a type and source, and of a type without sources.
const TOP_OF_SOURCE: usize = 20;
const TOP: usize = 100;
/// A gene that informs another.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Pair<'a> {
    pub(super) source: &'a str,
    pub(super) target: &'a str,
    /// The mean rank among all pairs with this source, from 0 to 1.
    rank: f32,
    /// Less that of the other types, or of the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_others: Option<f32>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfType<'a> {
    pub(super) name: &'a str,
    pub(super) n_cells: u64,
    pub(super) pairs: Vec<Pair<'a>>,
}

/// The cells that are compared.
pub(super) struct Cells<'a> {
    pub(super) rows: Vec<usize>,
    /// The type of each of these.
    pub(super) of_type: Vec<usize>,
    pub(super) types: Vec<&'a str>,
    /// The type that others are compared with.
    pub(super) baseline: Option<usize>,
}

/// The pairs of each type that are ahead of the others.
pub(super) fn compare<'a>(
    args: &Args,
    cells: &Cells<'a>,
    ranks: &AttentionRanks,
    first: usize,
    names: &'a [String],
    sources: &[usize],
) -> Result<Vec<OfType<'a>>> {
    let n = cells.types.len();
    let means: Vec<Array2<f32>> = (0..n).map(|t| ranks.mean(t)).collect::<Result<_, _>>()?;
    let mut types = Vec::new();
    for (t, &name) in cells.types.iter().enumerate() {
        let Some(own) = means.get(t) else { continue };
        let against = match cells.baseline {
            Some(b) if b == t => None,
            Some(b) => means.get(b).map(|m| own - m),
            None if n < 2 => None,
            None => {
                let mut sum = Array2::<f32>::zeros(own.dim());
                let others = means.iter().enumerate().filter(|(o, _)| *o != t);
                others.for_each(|(_, m)| sum += m);
                Some(own - &(sum / (n - 1) as f32))
            }
        };
        let found = Found {
            ranks: own.view(),
            against: against.as_ref().map(|a| a.view()),
            first,
            names,
        };
        let pairs = match sources.is_empty() {
            true => found.best(None, args.top.unwrap_or(TOP)),
            false => {
                let of = |&s: &usize| found.best(Some(s), args.top.unwrap_or(TOP_OF_SOURCE));
                sources.iter().flat_map(of).collect()
            }
        };
        types.push(OfType {
            name,
            n_cells: ranks.n_cells(t),
            pairs,
        });
    }
    Ok(types)
}

/// The ranks of a type, and its differences to others.
struct Found<'a, 'r> {
    ranks: ArrayView2<'r, f32>,
    against: Option<ArrayView2<'r, f32>>,
    /// The first tokens are no genes.
    first: usize,
    names: &'a [String],
}

impl<'a> Found<'a, '_> {
    /// The pairs with this source, or with any, those first that are ahead of the others.
    fn best(&self, source: Option<usize>, n: usize) -> Vec<Pair<'a>> {
        let by = self.against.as_ref().unwrap_or(&self.ranks);
        let genes = self.names.len();
        let sources = source.map_or(0..genes, |s| s..s + 1);
        let mut all: Vec<(f32, usize, usize)> = Vec::new();
        for s in sources {
            let targets = (0..genes).filter(|&t| t != s);
            let value = |t: usize| by.get((t + self.first, s + self.first)).copied();
            all.extend(targets.filter_map(|t| Some((value(t)?, s, t))));
            // Of all pairs of a large network only the best are kept.
            if all.len() > 2 * n.max(1 << 16) {
                keep(&mut all, n);
            }
        }
        keep(&mut all, n);
        let pair = |(_, s, t): (f32, usize, usize)| {
            let at = (t + self.first, s + self.first);
            Some(Pair {
                source: self.names.get(s)?,
                target: self.names.get(t)?,
                rank: self.ranks.get(at).copied()?,
                against_others: self.against.as_ref().and_then(|a| a.get(at).copied()),
            })
        };
        all.into_iter().filter_map(pair).collect()
    }
}

/// The highest; of equal ones the first.
fn keep(all: &mut Vec<(f32, usize, usize)>, n: usize) {
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all.truncate(n);
}

pub(super) fn table(types: &[OfType<'_>]) -> String {
    let mut text = "type\tsource\ttarget\trank\tagainst_others\n".to_owned();
    for t in types {
        for p in &t.pairs {
            let against = p.against_others.map(|v| v.to_string());
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{}",
                t.name,
                p.source,
                p.target,
                p.rank,
                against.unwrap_or_default()
            );
        }
    }
    text
}

/// Targets to compare with gene sets: of each type, or of each type and source. As in the original, a source is one of its
/// targets.
pub(super) fn lists<'a>(types: &[OfType<'a>], by_source: bool) -> Vec<(String, Vec<&'a str>)> {
    let mut lists: Vec<(String, Vec<&'a str>)> = Vec::new();
    for t in types {
        let mut seen: HashSet<(String, &str)> = HashSet::new();
        for p in &t.pairs {
            let name = match by_source {
                true => format!("{} {}", t.name, p.source),
                false => t.name.to_owned(),
            };
            let at = match lists.iter().position(|l| l.0 == name) {
                Some(at) => at,
                None => {
                    lists.push((name.clone(), Vec::new()));
                    lists.len() - 1
                }
            };
            let Some((_, genes)) = lists.get_mut(at) else {
                continue;
            };
            for gene in [p.source, p.target] {
                if seen.insert((name.clone(), gene)) {
                    genes.push(gene);
                }
            }
        }
    }
    lists
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_best_pairs_come_first_without_cls() {
        let names = ["A", "B"].map(str::to_owned);
        // Rows are targets, columns are sources; the first of both is <cls>.
        let ranks = array![[9.0f32, 9.0, 9.0], [9.0, 8.0, 0.2], [9.0, 0.5, 8.0]];
        let against = array![[9.0f32, 9.0, 9.0], [9.0, 8.0, 0.3], [9.0, 0.1, 8.0]];
        let found = Found {
            ranks: ranks.view(),
            against: Some(against.view()),
            first: 1,
            names: &names,
        };
        let best = found.best(None, 5);
        assert_eq!(best.len(), 2);
        assert_eq!(
            (best[0].source, best[0].target, best[0].rank),
            ("B", "A", 0.2)
        );
        assert_eq!(best[0].against_others, Some(0.3));
        let of_a = found.best(Some(0), 5);
        assert_eq!((of_a.len(), of_a[0].target), (1, "B"));
    }
}
