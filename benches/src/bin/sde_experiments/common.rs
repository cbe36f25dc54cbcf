//! Settings of all experiments, and the cells that train.

use std::path::PathBuf;

use ndarray::{Array2, Axis};
use sc_sde::train::Snapshots;
use sc_tensor::Rng;
use serde_json::{Value, json};

use crate::Result;
use crate::cells::Cells;
use crate::methods::Method;

/// Data, methods, seeds, and how much is trained: the same for all methods.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// The cells
    pub(crate) data: PathBuf,
    /// Folder of results
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// ratio-2.5 (or another number), ratio-none, isotropic, ode, prescient, ot-cfm, sf2m; of fates also logistic, neighbours,
    /// frequencies (taught), nearest (nothing moves); of the withheld day also simple
    #[arg(long, num_args = 1.., required = true)]
    pub(crate) methods: Vec<Method>,
    #[arg(long, num_args = 1.., default_values_t = [0, 1, 2, 3, 4])]
    pub(crate) seeds: Vec<u64>,
    /// Epochs of training by simulation
    #[arg(long, default_value_t = 200)]
    pub(crate) epochs: usize,
    /// Its learning rate (PRESCIENT has its own)
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) lr: f64,
    /// Epochs of flow matching before it
    #[arg(long, default_value_t = 0)]
    pub(crate) pretrain: usize,
    /// Epochs of the methods that are flow matching alone
    #[arg(long, default_value_t = 500)]
    pub(crate) flow_epochs: usize,
    /// Units of each hidden layer
    #[arg(long, default_value_t = 128)]
    pub(crate) width: usize,
    /// Softplus instead of leaky rectifiers
    #[arg(long)]
    pub(crate) smooth: bool,
    /// Noise where it isn't learned, per square root of a day
    #[arg(long, default_value_t = 0.5)]
    pub(crate) noise: f64,
    /// Blur of the divergence in training; distances between observed and simulated cells are measured with 0.05 all the same
    #[arg(long, default_value_t = 0.05)]
    pub(crate) blur: f64,
    /// What its blur shrinks by from step to step in training; 0.5 is measured with
    #[arg(long, default_value_t = 0.5)]
    pub(crate) scaling: f64,
    /// The weight of the ratio's term. scDiffEq's 100 is for divergences of some hundreds
    #[arg(long, default_value_t = 100.0)]
    pub(crate) enforce: f64,
    /// Cells of each day in a minibatch
    #[arg(long, default_value_t = 512)]
    pub(crate) batch: usize,
    /// Cells of each day that are trained on, drawn by the seed
    #[arg(long, default_value_t = 5000)]
    pub(crate) per_day: usize,
    /// The share of them that validates
    #[arg(long, default_value_t = 0.2)]
    pub(crate) validation: f64,
    /// Paths of each cell whose fate is asked for
    #[arg(long, default_value_t = 100)]
    pub(crate) copies: usize,
}

impl Common {
    /// What makes runs different.
    pub(crate) fn settings(
        &self,
        experiment: &str,
        cells: &str,
        method: Method,
        seed: u64,
    ) -> Value {
        let mut all = json!({
            "experiment": experiment, "cells": cells, "method": method.to_string(), "seed": seed,
        });
        if method.is_trained() {
            all["training"] = json!({
                "epochs": self.epochs, "lr": self.lr, "pretrain": self.pretrain, "flow_epochs": self.flow_epochs,
                "width": self.width, "smooth": self.smooth, "noise": self.noise, "batch": self.batch,
                "per_day": self.per_day, "validation": self.validation, "copies": self.copies,
                "blur": self.blur, "scaling": self.scaling, "enforce": self.enforce,
            });
        }
        all
    }

    /// Cells of these days, drawn by the seed, and which of them validate.
    pub(crate) fn training(&self, cells: &Cells, days: &[f64], seed: u64) -> Result<Training> {
        let mut stream = Rng::new(seed).stream("cells that train");
        let (mut rows, mut split) = (Vec::new(), (Vec::new(), Vec::new()));
        for day in days {
            let of_day = cells.of_day(*day);
            let order = stream.permutation(of_day.len()).into_iter();
            let drawn: Vec<usize> = order
                .filter_map(|i| of_day.get(i).copied())
                .take(self.per_day)
                .collect();
            let n_validation = (self.validation * drawn.len() as f64).round() as usize;
            for (k, row) in drawn.into_iter().enumerate() {
                match k < n_validation {
                    true => split.1.push(rows.len()),
                    false => split.0.push(rows.len()),
                }
                rows.push(row);
            }
        }
        let days: Vec<f64> = rows
            .iter()
            .filter_map(|r| cells.days.get(*r).copied())
            .collect();
        let places = cells.places.select(Axis(0), &rows);
        Ok(Training {
            snapshots: Snapshots::from_array(places.view(), &days)?,
            places,
            days,
            split,
        })
    }
}

/// Cells that are trained on.
pub(crate) struct Training {
    pub(crate) snapshots: Snapshots,
    pub(crate) places: Array2<f32>,
    pub(crate) days: Vec<f64>,
    /// The rows that train, and those that validate: the same for all methods of a seed.
    pub(crate) split: (Vec<usize>, Vec<usize>),
}

impl Training {
    /// The places of the cells of a day that validate.
    pub(crate) fn validating(&self, day: f64) -> Array2<f32> {
        let of_day = self
            .split
            .1
            .iter()
            .filter(|r| self.days.get(**r) == Some(&day));
        self.places
            .select(Axis(0), &of_day.copied().collect::<Vec<_>>())
    }
}
