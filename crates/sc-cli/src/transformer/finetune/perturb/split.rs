//! Which perturbations train, which choose the best epoch, and which are held out.

use std::collections::BTreeSet;

use sc_model::train::SplitConfig;
use sc_transformer::perturb_metrics::{HeldOut, SplitOptions, split_by_genes};
use sc_transformer::tokens::{Perturbation, PerturbationTokens};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::transformer::screen::name;

/// Shares of training perturbations that train and do not choose the epoch, as the original takes them.
const TRAINS: f64 = 0.9;

#[derive(Debug, Serialize)]
pub(super) struct Split {
    /// To learn from.
    pub(super) train: Vec<Perturbation>,
    /// To choose the best epoch by; none if cells do.
    pub(super) validation: Vec<Perturbation>,
    /// To be tested by.
    pub(super) test: Vec<HeldOut>,
}

impl Split {
    /// Of the perturbations of cells that can be used.
    pub(super) fn new(
        tokens: &PerturbationTokens<'_>,
        options: &SplitOptions,
        by_cells: bool,
    ) -> Result<Self> {
        let of_cells = tokens.cells().iter();
        let all: BTreeSet<&Perturbation> = of_cells
            .filter_map(|&c| tokens.perturbation(c))
            .filter(|p| !p.is_control())
            .collect();
        let all: Vec<Perturbation> = all.into_iter().cloned().collect();
        let whole = split_by_genes(&all, options)?;
        let inner = SplitOptions {
            gene_share: TRAINS,
            combination_share: TRAINS,
            ..*options
        };
        let (mut train, mut validation) = (whole.train, Vec::new());
        // With few perturbations none may be left to learn from: then cells choose the epoch.
        if !by_cells && let Ok(found) = split_by_genes(&train, &inner) {
            train = found.train;
            validation = found.test.into_iter().map(|t| t.perturbation).collect();
        }
        Ok(Self {
            train,
            validation,
            test: whole.test,
        })
    }

    /// Training and validation cells, as places among those that can be used. Controls train.
    pub(super) fn cells(
        &self,
        tokens: &PerturbationTokens<'_>,
        (train_size, batch_size, seed): (Option<f64>, usize, u64),
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let (train, validation) = (set(&self.train), set(&self.validation));
        let (mut learn, mut judge) = (Vec::new(), Vec::new());
        for (place, &cell) in tokens.cells().iter().enumerate() {
            let Some(p) = tokens.perturbation(cell) else {
                continue;
            };
            if p.is_control() || train.contains(p) {
                learn.push(place);
            } else if validation.contains(p) {
                judge.push(place);
            }
        }
        if !judge.is_empty() {
            return Ok((learn, judge));
        }
        let config = SplitConfig {
            train_size: Some(train_size.unwrap_or(TRAINS)),
            ..SplitConfig::default()
        };
        let split = config.split(learn.len(), batch_size, seed)?;
        let pick = |at: &[usize]| at.iter().filter_map(|&i| learn.get(i).copied()).collect();
        Ok((pick(&split.train), pick(&split.validation)))
    }

    /// Those that the weights have seen, or that chose among them.
    pub(super) fn known(&self) -> impl Iterator<Item = &Perturbation> {
        self.train.iter().chain(&self.validation)
    }

    pub(super) fn names(of: &[Perturbation]) -> Vec<String> {
        of.iter().map(name).collect()
    }
}

fn set(of: &[Perturbation]) -> BTreeSet<&Perturbation> {
    of.iter().collect()
}

/// A share that may be all.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("not a share, from 0 to 1".into()),
    }
}

/// What to do if nothing is left to learn from.
pub(super) fn explained(error: Error) -> Error {
    error.with_hint(
        "--gene-share and --combination-share say how much is held out; 1 and 1 hold nothing out",
    )
}
