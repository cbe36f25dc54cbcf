//! How cells are gone through.

use std::ops::Range;

use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use super::de::{DeOptions, DeTest, GroupSums, Groups, RankSums, Ranked, log_normalised};
use crate::{Error, Result};

/// Cells and genes of the raw counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) n_cells: usize,
    pub(super) n_genes: usize,
}

/// The cells in blocks of as many as keep their samples within 64 MB, in multiples of the cells that models decode at once.
pub(super) fn blocks(size: Size, n_samples: usize) -> impl Iterator<Item = Range<usize>> {
    const ENTRIES: usize = 1 << 24;
    const COMPANY: usize = 128;
    let fit = ENTRIES / (n_samples.max(1) * size.n_genes.max(1));
    let rows = (fit / COMPANY).max(1) * COMPANY;
    let n = size.n_cells;
    (0..n)
        .step_by(rows)
        .map(move |start| start..(start + rows).min(n))
}

/// Reads raw counts and makes sure that they are numbers.
pub(super) fn read_raw(raw: &dyn RowSource, rows: &Range<usize>, size: Size) -> Result<Csr> {
    let part = raw.read_range(rows.clone())?;
    check(&part, "the raw counts", rows, size)?;
    Ok(part)
}

/// Refuses a block of another shape, and the first entry that is not a number.
pub(super) fn check(part: &Csr, what: &str, rows: &Range<usize>, size: Size) -> Result<()> {
    if (part.n_rows(), part.n_cols()) != (rows.len(), size.n_genes) {
        return Err(Error::Shape {
            what: what.to_owned(),
            rows: if part.n_rows() == rows.len() {
                size.n_cells
            } else {
                part.n_rows()
            },
            cols: part.n_cols(),
            expected_rows: size.n_cells,
            expected_cols: size.n_genes,
        });
    }
    let Some(at) = part.data().iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let row = part.indptr().partition_point(|&start| start <= at) - 1;
    Err(Error::NotFinite {
        what: what.to_owned(),
        value: part.data()[at],
        cell: rows.start + row,
        gene: part.indices()[at] as usize,
        hint: "",
    })
}

/// The genes of each pass that differential expression needs over the cells: ranks hold what is not 0.
pub(super) fn de_passes(options: &DeOptions, size: Size, n_samples: usize) -> Vec<Range<usize>> {
    // Entries that ranks may hold, were none of them 0.
    const HELD: usize = 1 << 27;
    let at_once = match options.test {
        DeTest::Wilcoxon => (HELD / (size.n_cells * n_samples)).clamp(1, size.n_genes),
        DeTest::TTest => size.n_genes,
    };
    let starts = (0..size.n_genes).step_by(at_once);
    starts.map(|g| g..(g + at_once).min(size.n_genes)).collect()
}

/// Differential expression of samples of one kind: the raw counts (one sample), or those of a model.
pub(super) struct DePass<'a> {
    groups: &'a Groups,
    target: f64,
    samples: Vec<SampleDe>,
    /// The genes of each pass over the cells.
    passes: Vec<Range<usize>>,
}

struct SampleDe {
    sums: GroupSums,
    ranks: Option<RankSums>,
}

impl<'a> DePass<'a> {
    pub(super) fn new(
        groups: &'a Groups,
        options: &DeOptions,
        size: Size,
        n_samples: usize,
    ) -> Self {
        let ranks = options.test == DeTest::Wilcoxon;
        let sample = || SampleDe {
            sums: GroupSums::new(groups, size.n_genes),
            ranks: ranks.then(|| RankSums::new(groups, size.n_genes)),
        };
        Self {
            groups,
            target: options.target_sum,
            samples: (0..n_samples).map(|_| sample()).collect(),
            passes: de_passes(options, size, n_samples),
        }
    }

    pub(super) fn begin(&mut self, pass: usize) {
        let genes = self.passes.get(pass).cloned().unwrap_or_default();
        for sample in &mut self.samples {
            if let Some(ranks) = &mut sample.ranks {
                ranks.begin(genes.clone());
            }
        }
    }

    /// Adds cells; `name` says what sample `k` is.
    pub(super) fn add(
        &mut self,
        pass: usize,
        samples: &[Csr],
        rows: &Range<usize>,
        name: impl Fn(usize) -> String + Sync,
    ) -> Result<()> {
        let of_cell = self.groups.of_cell.get(rows.clone()).unwrap_or_default();
        let target = self.target;
        let own = self.samples.par_iter_mut().zip(samples).enumerate();
        own.try_for_each(|(k, (sample, counts))| {
            let logs = log_normalised(counts, target, &name(k), rows.start)?;
            if pass == 0 {
                sample.sums.add(&logs, of_cell);
            }
            if let Some(ranks) = &mut sample.ranks {
                ranks.add(&logs, of_cell);
            }
            Ok(())
        })
    }

    pub(super) fn end(&mut self) {
        for sample in &mut self.samples {
            if let Some(ranks) = &mut sample.ranks {
                ranks.finish(self.groups);
            }
        }
    }

    /// All groups of each sample.
    pub(super) fn ranked(&self) -> impl Iterator<Item = Vec<Ranked>> {
        self.samples
            .iter()
            .map(|s| Ranked::all(self.groups, &s.sums, s.ranks.as_ref()))
    }
}
