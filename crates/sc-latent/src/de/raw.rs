//! What the counts say of populations of cells.

use std::collections::HashMap;

use rayon::prelude::*;
use sc_data::Csr;

use crate::{Cells, Result};

/// Cells read at a time.
const AT_ONCE: usize = 4096;
/// What the counts of a cell are scaled to for `normalized_mean`.
const CELL_SIZE: f64 = 1e4;

/// Statistics of the counts of each gene in some cells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawStatistics {
    /// Mean count.
    pub mean: Vec<f64>,
    /// Share of the cells with a count above zero.
    pub non_zeros: Vec<f64>,
    /// Mean count after each cell was scaled to a sum of 10,000.
    pub normalized_mean: Vec<f64>,
}

impl RawStatistics {
    /// The same with the genes in another order, or some of them.
    pub(super) fn select(&self, genes: &[usize]) -> Self {
        let pick = |v: &[f64]| genes.iter().map(|&g| v[g]).collect();
        Self {
            mean: pick(&self.mean),
            non_zeros: pick(&self.non_zeros),
            normalized_mean: pick(&self.normalized_mean),
        }
    }
}

/// Sums over the cells of one part, `[genes]` each.
#[derive(Debug, Clone)]
struct Sums {
    counts: Vec<f64>,
    above_zero: Vec<f64>,
    normalized: Vec<f64>,
}

impl Sums {
    fn new(genes: usize) -> Self {
        Self {
            counts: vec![0.0; genes],
            above_zero: vec![0.0; genes],
            normalized: vec![0.0; genes],
        }
    }

    fn add_cell(&mut self, columns: &[u32], values: &[f32]) {
        let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
        // A cell without counts has nothing to scale.
        let factor = if total > 0.0 { CELL_SIZE / total } else { 0.0 };
        for (&g, &v) in columns.iter().zip(values) {
            let (g, v) = (g as usize, f64::from(v));
            self.counts[g] += v;
            self.above_zero[g] += f64::from(u8::from(v > 0.0));
            self.normalized[g] += v * factor;
        }
    }

    /// The means over `n` cells.
    fn over(self, n: usize) -> RawStatistics {
        let n = n.max(1) as f64;
        let mean = |v: Vec<f64>| v.into_iter().map(|v| v / n).collect();
        RawStatistics {
            mean: mean(self.counts),
            non_zeros: mean(self.above_zero),
            normalized_mean: mean(self.normalized),
        }
    }

    fn add(&mut self, other: &Self) {
        let both =
            |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        both(&mut self.counts, &other.counts);
        both(&mut self.above_zero, &other.above_zero);
        both(&mut self.normalized, &other.normalized);
    }
}

/// Of some cells, and where asked for of all others.
pub(super) type Both = (RawStatistics, Option<RawStatistics>);

/// The statistics of several populations, and with `rests` of all cells outside of each, from one pass over the counts, a
/// few thousand cells at a time.
///
/// Populations may overlap: cells are sorted into parts that lie in the same populations, and each stored count is added
/// once, to its part.
pub(super) fn raw_statistics(
    cells: &Cells<'_>,
    populations: &[&[usize]],
    rests: bool,
) -> Result<Vec<Both>> {
    let n_cells = cells.n_cells();
    let parts = Parts::new(n_cells, populations, rests);
    let mut sums = vec![Sums::new(cells.registry().n_genes()); parts.populations.len()];
    for start in (0..n_cells).step_by(AT_ONCE) {
        let end = (start + AT_ONCE).min(n_cells);
        let wanted: Vec<usize> = (start..end).filter(|&c| parts.of[c] != OUTSIDE).collect();
        let read = match wanted.len() {
            0 => continue,
            n if n == end - start => cells.counts().read_range(start..end)?,
            _ => cells.counts().read_rows(&wanted)?,
        };
        add_cells(&read, &wanted, &parts, &mut sums);
    }
    let of = |inside: bool, k: usize, n: usize| parts.total(&sums, inside, k).over(n);
    let both = |(k, population): (usize, &&[usize])| {
        let n = population.len();
        let rest = rests.then(|| of(false, k, n_cells.saturating_sub(n)));
        (of(true, k, n), rest)
    };
    Ok(populations.iter().enumerate().map(both).collect())
}

/// Adds the cells that were read to the sums of their parts: parts in parallel, the cells of each in their order.
fn add_cells(read: &Csr, wanted: &[usize], parts: &Parts, sums: &mut [Sums]) {
    let mut of_part: Vec<Vec<usize>> = vec![Vec::new(); sums.len()];
    for (row, &cell) in wanted.iter().enumerate() {
        of_part[parts.of[cell] as usize].push(row);
    }
    sums.par_iter_mut().zip(of_part).for_each(|(sums, rows)| {
        for row in rows {
            let (columns, values) = read.row(row);
            sums.add_cell(columns, values);
        }
    });
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

    /// The sums over the parts that lie in population `k`, or that do not.
    fn total(&self, sums: &[Sums], inside: bool, k: usize) -> Sums {
        let genes = sums.first().map_or(0, |s| s.counts.len());
        let mut total = Sums::new(genes);
        for (sums, populations) in sums.iter().zip(&self.populations) {
            if populations.contains(&k) == inside {
                total.add(sums);
            }
        }
        total
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
        let all = raw_statistics(&cells, &[&[0, 1, 2], &[2]], true).unwrap();
        assert_eq!(all[0].0.mean, [1.0, 1.0]);
        assert_eq!(all[0].0.non_zeros, [2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(all[0].0.normalized_mean, [12_500.0 / 3.0, 2500.0]);
        assert_eq!(all[1].0.normalized_mean, [10_000.0, 0.0]);
        let rest = all[1].1.as_ref().unwrap();
        assert_eq!(rest.mean, [0.5, 1.5]);
        assert_eq!(rest.non_zeros, [0.5, 0.5]);
    }

    #[test]
    fn overlapping_populations_are_as_if_alone() {
        let n = 9000;
        let counts = Array2::from_shape_fn((n, 3), |(i, g)| ((i * (g + 3)) % 7) as f32);
        let cells = Cells::plain(&counts);
        let a: Vec<usize> = (0..n).step_by(2).collect();
        let b: Vec<usize> = (0..n).step_by(3).collect();
        let rest: Vec<usize> = (0..n).filter(|i| i % 2 == 1).collect();
        let near = |x: &RawStatistics, y: &RawStatistics| {
            assert_eq!((&x.mean, &x.non_zeros), (&y.mean, &y.non_zeros));
            for (x, y) in x.normalized_mean.iter().zip(&y.normalized_mean) {
                assert!((x - y).abs() < 1e-9 * y);
            }
        };
        let together = raw_statistics(&cells, &[&a, &b, &rest, &a], true).unwrap();
        for (population, found) in [&a, &b, &rest, &a].into_iter().zip(&together) {
            let alone = raw_statistics(&cells, &[population], false).unwrap();
            near(&found.0, &alone[0].0);
            assert!(alone[0].1.is_none());
        }
        near(together[0].1.as_ref().unwrap(), &together[2].0);
        let parts = Parts::new(n, &[&a, &rest], true);
        assert_eq!(parts.populations, [vec![0], vec![1]]);
    }
}
