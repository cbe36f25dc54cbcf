//! What the counts say of populations of cells.

use std::collections::HashMap;

use super::groups::others;
use crate::minify::{GeneSums, GroupStatistics, StatisticsOrigin};
use crate::{Cells, Result};

/// Sums of counts are kept for as many parts of the cells as need no more memory than this.
const MOST_BYTES: usize = 256 << 20;

/// Of some cells, and where asked for of all others.
pub(super) type Both = (GroupStatistics, Option<GroupStatistics>);

/// The statistics of several populations, and with `rests` of all cells outside of each; `None` if there are neither counts
/// nor sums of them.
///
/// With counts it takes one pass over them, a few thousand cells at a time. Populations may overlap: cells are sorted into
/// parts that lie in the same populations, and each stored count is added once, to its part. Where so many parts come
/// together that their sums would not fit [`MOST_BYTES`], it takes a second pass, and so on.
pub(super) fn raw_statistics(
    cells: &Cells<'_>,
    populations: &[&[usize]],
    rests: bool,
) -> Result<Option<Vec<Both>>> {
    statistics_within(cells, populations, rests, MOST_BYTES)
}

fn statistics_within(
    cells: &Cells<'_>,
    populations: &[&[usize]],
    rests: bool,
    most_bytes: usize,
) -> Result<Option<Vec<Both>>> {
    let n_cells = cells.n_cells();
    if !cells.has_counts() {
        return kept_statistics(cells, populations, rests);
    }
    let parts = Parts::new(n_cells, populations, rests);
    let bytes = parts.populations.len() * cells.registry().n_genes() * 3 * size_of::<f64>();
    if bytes > most_bytes && populations.len() > 1 {
        let (one, two) = populations.split_at(populations.len() / 2);
        let within = |half| statistics_within(cells, half, rests, most_bytes);
        let both = within(one)?.zip(within(two)?);
        return Ok(both.map(|(one, two)| one.into_iter().chain(two).collect()));
    }
    let codes: Vec<Option<u32>> = parts
        .of
        .iter()
        .map(|&p| (p != OUTSIDE).then_some(p))
        .collect();
    let sums = cells.gene_sums(&codes, parts.populations.len())?;
    let of = |inside: bool, k: usize, n: usize| parts.total(&sums, inside, k, n);
    let both = |(k, population): (usize, &&[usize])| {
        let n = population.len();
        let rest = rests.then(|| of(false, k, n_cells.saturating_sub(n)));
        (of(true, k, n), rest)
    };
    Ok(Some(populations.iter().enumerate().map(both).collect()))
}

/// From what minified cells kept.
fn kept_statistics(
    cells: &Cells<'_>,
    populations: &[&[usize]],
    rests: bool,
) -> Result<Option<Vec<Both>>> {
    let mut out = Vec::with_capacity(populations.len());
    for population in populations {
        let Some(mine) = cells.gene_statistics(population)? else {
            return Ok(None);
        };
        let rest = match rests {
            true => cells.gene_statistics(&others(population, cells.n_cells()))?,
            false => None,
        };
        out.push((mine, rest));
    }
    Ok(Some(out))
}

/// The same with the genes in another order, or some of them.
pub(super) fn select(statistics: &GroupStatistics, genes: &[usize]) -> GroupStatistics {
    let pick = |v: &[f64]| genes.iter().map(|&g| v[g]).collect();
    GroupStatistics {
        n_cells: statistics.n_cells,
        mean: pick(&statistics.mean),
        nonzero: pick(&statistics.nonzero),
        scaled_mean: pick(&statistics.scaled_mean),
        origin: statistics.origin,
    }
}

/// The part of a cell that nobody asks for.
const OUTSIDE: u32 = u32::MAX;

/// Cells that lie in the same populations.
struct Parts {
    /// The part of each cell.
    of: Vec<u32>,
    /// The populations that each part lies in.
    populations: Vec<Vec<usize>>,
}

impl Parts {
    /// With `rests`, the cells in no population are a part too.
    fn new(n_cells: usize, populations: &[&[usize]], rests: bool) -> Self {
        let (mut of, mut within) = match rests {
            true => (vec![0; n_cells], vec![Vec::new()]),
            false => (vec![OUTSIDE; n_cells], Vec::new()),
        };
        for (k, population) in populations.iter().enumerate() {
            // What this population takes out of each part becomes a part of its own.
            let mut taken: HashMap<u32, u32> = HashMap::new();
            for &cell in *population {
                let Some(part) = of.get_mut(cell) else {
                    continue;
                };
                let old = *part;
                *part = *taken.entry(old).or_insert_with(|| {
                    let inherited: Option<&Vec<usize>> = within.get(old as usize);
                    let mut inherited = inherited.cloned().unwrap_or_default();
                    inherited.push(k);
                    within.push(inherited);
                    within.len() as u32 - 1
                });
            }
        }
        let mut out = Self {
            of,
            populations: within,
        };
        out.drop_empty();
        out
    }

    /// The means over the `n` cells of the parts that lie in population `k`, or that do not.
    fn total(&self, sums: &GeneSums, inside: bool, k: usize, n_cells: usize) -> GroupStatistics {
        let n = n_cells.max(1) as f64;
        let wanted = |part: &usize| self.populations[*part].contains(&k) == inside;
        let parts: Vec<usize> = (0..self.populations.len()).filter(wanted).collect();
        let mean = |of: &ndarray::Array2<f64>| -> Vec<f64> {
            let mut total = vec![0.0; sums.n_genes()];
            for &part in &parts {
                let sums = total.iter_mut().zip(of.row(part));
                sums.for_each(|(t, v)| *t += v);
            }
            total.into_iter().map(|t| t / n).collect()
        };
        GroupStatistics {
            n_cells,
            mean: mean(&sums.sum),
            nonzero: mean(&sums.nonzero),
            scaled_mean: mean(&sums.scaled),
            origin: StatisticsOrigin::Counts,
        }
    }

    /// Parts of which everything was taken hold no cells, and need no sums.
    fn drop_empty(&mut self) {
        let mut used = vec![false; self.populations.len()];
        let inside = self.of.iter().filter(|&&part| part != OUTSIDE);
        inside.for_each(|&part| used[part as usize] = true);
        let mut new = vec![OUTSIDE; used.len()];
        let mut kept = Vec::new();
        for (old, populations) in self.populations.drain(..).enumerate() {
            if used[old] {
                new[old] = kept.len() as u32;
                kept.push(populations);
            }
        }
        self.populations = kept;
        for part in self.of.iter_mut().filter(|part| **part != OUTSIDE) {
            *part = new[*part as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn means_shares_and_normalised_means() {
        let counts = array![[1.0f32, 3.0], [0.0, 0.0], [2.0, 0.0]];
        let cells = Cells::plain(&counts);
        let all = raw_statistics(&cells, &[&[0, 1, 2], &[2]], true)
            .unwrap()
            .unwrap();
        assert_eq!(all[0].0.mean, [1.0, 1.0]);
        assert_eq!(all[0].0.nonzero, [2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(all[0].0.scaled_mean, [12_500.0 / 3.0, 2500.0]);
        assert_eq!(all[1].0.scaled_mean, [10_000.0, 0.0]);
        let rest = all[1].1.as_ref().unwrap();
        assert_eq!(rest.mean, [0.5, 1.5]);
        assert_eq!(rest.nonzero, [0.5, 0.5]);
    }

    #[test]
    fn overlapping_populations_are_as_if_alone() {
        let n = 9000;
        let counts = Array2::from_shape_fn((n, 3), |(i, g)| ((i * (g + 3)) % 7) as f32);
        let cells = Cells::plain(&counts);
        let a: Vec<usize> = (0..n).step_by(2).collect();
        let b: Vec<usize> = (0..n).step_by(3).collect();
        let rest: Vec<usize> = (0..n).filter(|i| i % 2 == 1).collect();
        let near = |x: &GroupStatistics, y: &GroupStatistics| {
            assert_eq!((&x.mean, &x.nonzero), (&y.mean, &y.nonzero));
            for (x, y) in x.scaled_mean.iter().zip(&y.scaled_mean) {
                assert!((x - y).abs() < 1e-9 * y);
            }
        };
        let four: [&[usize]; 4] = [&a, &b, &rest, &a];
        let together = raw_statistics(&cells, &four, true).unwrap().unwrap();
        // In as many passes as there are populations.
        let split = statistics_within(&cells, &four, true, 0).unwrap().unwrap();
        for (one, other) in together.iter().zip(&split) {
            near(&one.0, &other.0);
            near(one.1.as_ref().unwrap(), other.1.as_ref().unwrap());
        }
        for (population, found) in [&a, &b, &rest, &a].into_iter().zip(&together) {
            let alone = raw_statistics(&cells, &[population], false)
                .unwrap()
                .unwrap();
            near(&found.0, &alone[0].0);
            assert!(alone[0].1.is_none());
        }
        near(together[0].1.as_ref().unwrap(), &together[2].0);
        let parts = Parts::new(n, &[&a, &rest], true);
        assert_eq!(parts.populations, [vec![0], vec![1]]);
    }
}
