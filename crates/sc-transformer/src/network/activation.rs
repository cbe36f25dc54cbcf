use std::collections::BTreeSet;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use sc_data::{Categorical, RowSource};
use sc_tensor::Rng;

use crate::{Error, Result};

/// Cells that are read at once.
const ROWS_AT_ONCE: usize = 4096;

/// How the genes are chosen that a program is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreOptions {
    /// Groups of genes of about the same mean expression.
    pub n_bins: usize,
    /// Genes that are drawn from the group of each gene of a program.
    pub control_size: usize,
    /// Other seeds draw other genes.
    pub seed: u64,
}

impl Default for ScoreOptions {
    /// As scanpy does: 25 groups, 50 genes.
    fn default() -> Self {
        Self {
            n_bins: 25,
            control_size: 50,
            seed: 0,
        }
    }
}

/// How active each program is in each cell, `[cells, programs]`: the mean expression of its genes minus that of other genes that
/// are expressed about as much on average (Satija et al., Nat Biotechnol 2015; scanpy's `score_genes`).
///
/// Programs are lists of columns. Reads the source twice, some rows at a time; values are usually log-normalised.
///
/// # Errors
/// Those of the source; [`Error::Data`] if a column does not exist; [`Error::InvalidSetting`] if a program is empty, there is
/// no gene to compare it with, or an option is 0.
pub fn score_programs<P: AsRef<[usize]>>(
    source: &dyn RowSource,
    programs: &[P],
    options: &ScoreOptions,
) -> Result<Array2<f64>> {
    check(programs, source.n_cols(), options)?;
    let group = expression_groups(&means(source)?, options.n_bins);
    let rng = Rng::new(options.seed);
    // For each gene what it adds to which programs.
    let mut shares: Vec<Vec<(usize, f64)>> = vec![Vec::new(); source.n_cols()];
    for (p, program) in programs.iter().enumerate() {
        let genes: BTreeSet<usize> = program.as_ref().iter().copied().collect();
        let controls = controls(&genes, &group, options, &rng, p as u64)?;
        let mut add = |genes: &BTreeSet<usize>, sign: f64| {
            for &g in genes {
                if let Some(share) = shares.get_mut(g) {
                    share.push((p, sign / genes.len() as f64));
                }
            }
        };
        add(&genes, 1.0);
        add(&controls, -1.0);
    }
    let mut scores = Array2::zeros((source.n_rows(), programs.len()));
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let end = (start + ROWS_AT_ONCE).min(source.n_rows());
        let block = source.read_range(start..end)?;
        let mut out = scores.slice_axis_mut(Axis(0), (start..end).into());
        out.axis_iter_mut(Axis(0))
            .into_par_iter()
            .enumerate()
            .for_each(|(i, mut score)| {
                let (columns, values) = block.row(i);
                for (&c, &v) in columns.iter().zip(values) {
                    for &(p, share) in shares.get(c as usize).into_iter().flatten() {
                        if let Some(s) = score.get_mut(p) {
                            *s += share * f64::from(v);
                        }
                    }
                }
            });
    }
    Ok(scores)
}

fn check<P: AsRef<[usize]>>(programs: &[P], n_genes: usize, options: &ScoreOptions) -> Result<()> {
    let wrong = |name, value: String, reason: &str| {
        Err(Error::InvalidSetting {
            name,
            value,
            reason: reason.into(),
        })
    };
    if options.n_bins < 2 {
        return wrong(
            "n_bins",
            options.n_bins.to_string(),
            "at least 2 are needed; usually 25",
        );
    }
    if options.control_size == 0 {
        return wrong("control_size", "0".into(), "at least 1; usually 50");
    }
    for (p, program) in programs.iter().map(AsRef::as_ref).enumerate() {
        if program.is_empty() {
            return wrong(
                "programs",
                format!("program {p} without genes"),
                "leave it out",
            );
        }
        if let Some(&index) = program.iter().find(|&&g| g >= n_genes) {
            let (what, len) = ("gene", n_genes);
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        }
    }
    Ok(())
}

/// The mean of each column.
fn means(source: &dyn RowSource) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; source.n_cols()];
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let block = source.read_range(start..(start + ROWS_AT_ONCE).min(source.n_rows()))?;
        for (&c, &v) in block.indices().iter().zip(block.data()) {
            if let Some(sum) = sums.get_mut(c as usize) {
                *sum += f64::from(v);
            }
        }
    }
    let n = source.n_rows().max(1) as f64;
    Ok(sums.into_iter().map(|s| s / n).collect())
}

/// The group of each gene: its rank by mean expression (the lowest of equal ones) over the size of a group.
fn expression_groups(means: &[f64], n_bins: usize) -> Vec<usize> {
    let size = (means.len() as f64 / (n_bins - 1) as f64)
        .round_ties_even()
        .max(1.0) as usize;
    let mut sorted = means.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = |m: &f64| sorted.partition_point(|s| s < m) + 1;
    means.iter().map(|m| rank(m) / size).collect()
}

/// Genes that are expressed about as much as those of a program, and don't belong to it.
fn controls(
    genes: &BTreeSet<usize>,
    group: &[usize],
    options: &ScoreOptions,
    rng: &Rng,
    program: u64,
) -> Result<BTreeSet<usize>> {
    let groups: BTreeSet<usize> = genes
        .iter()
        .filter_map(|&g| group.get(g).copied())
        .collect();
    let mut chosen = BTreeSet::new();
    for wanted in groups {
        let members = group.iter().enumerate();
        let others: Vec<usize> = members
            .filter(|(g, of)| **of == wanted && !genes.contains(g))
            .map(|(g, _)| g)
            .collect();
        let mut draws = rng.stream("controls").at(&[program, wanted as u64]);
        let order = draws.permutation(others.len()).into_iter();
        chosen.extend(
            order
                .take(options.control_size)
                .filter_map(|i| others.get(i)),
        );
    }
    if chosen.is_empty() {
        return Err(Error::InvalidSetting {
            name: "programs",
            value: format!("program {program} of {} genes", genes.len()),
            reason: "there is no gene of about the same expression outside of it to compare it with; give all genes of the \
                     data, not those of the programs alone"
                .into(),
        });
    }
    Ok(chosen)
}

/// How active each program is in each cell type, `[programs, types]`: scores of cells `[cells, programs]`, each program's scaled
/// to go from 0 to 1, and averaged over the cells of a type. Cells without a type don't count; a type without cells gets
/// NaN, a program with the same score everywhere 0.
///
/// # Errors
/// [`Error::Length`] unless there is a type, or a missing one, for each cell.
pub fn activation(scores: ArrayView2<'_, f64>, types: &Categorical) -> Result<Array2<f64>> {
    if scores.nrows() != types.len() {
        return Err(Error::Length {
            what: "the cell types",
            found: types.len(),
            expected: scores.nrows(),
        });
    }
    let counts = types.counts();
    let mut out = Array2::zeros((scores.ncols(), counts.len()));
    for (score, mut means) in scores.columns().into_iter().zip(out.rows_mut()) {
        let low = score.iter().copied().fold(f64::INFINITY, f64::min);
        let high = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let width = if high > low { high - low } else { 1.0 };
        for (v, code) in score.iter().zip(types.codes()) {
            if let Some(mean) = code.and_then(|c| means.get_mut(c as usize)) {
                *mean += (v - low) / width;
            }
        }
        for (mean, &n) in means.iter_mut().zip(&counts) {
            *mean /= n as f64;
        }
    }
    Ok(out)
}
