//! Fates against those of clone-mates.

use ndarray::Array2;
use sc_sde::downstream::{FateMatrix, HAS_FATE, bias_correlation, fate_scores};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::baselines::{Taught, nearest};
use crate::cells::{Cells, Published, TWO, Test, UNDECIDED};
use crate::common::Common;
use crate::methods::{Method, train};
use crate::moves::Movement;
use crate::runs;

/// All days are trained on.
const DAYS: [f64; 3] = [2.0, 4.0, 6.0];
/// Of held-out cells there are many, so that fewer paths of each do.
const FEWER: usize = 5;

pub(crate) fn run(c: &Common) -> Result<()> {
    let cells = Cells::read(&c.data, &DAYS)?;
    if let Some(p) = &cells.published {
        published(c, p)?;
    }
    for &seed in &c.seeds {
        for &method in &c.methods {
            let name = format!("fate-{}-{method}-s{seed}", cells.name);
            let settings = c.settings("fate", cells.name, method, seed);
            runs::run(&c.out, &name, &settings, || match method.is_trained() {
                true => learned(method, &cells, c, seed),
                false => unmoved(method, &cells, seed),
            })?;
        }
    }
    Ok(())
}

/// Trains as for fates, and stops before they are looked at.
pub(crate) fn validate(c: &Common) -> Result<()> {
    let cells = Cells::read(&c.data, &DAYS)?;
    for &seed in &c.seeds {
        let training = c.training(&cells, &DAYS, seed)?;
        for &method in &c.methods {
            let name = format!("validate-{}-{method}-s{seed}", cells.name);
            let settings = c.settings("validate", cells.name, method, seed);
            let found = runs::run(&c.out, &name, &settings, || {
                let trained = train(method, &training, c, seed)?;
                let movement = Movement::of(&trained, seed)?;
                Ok(json!({
                    "seconds": trained.seconds, "history": trained.history,
                    "validation": movement.validation(&training)?, "ratio": movement.ratio(&training)?,
                }))
            })?;
            println!("{name}: {} {}", found["validation"], found["ratio"]);
        }
    }
    Ok(())
}

fn learned(method: Method, cells: &Cells, c: &Common, seed: u64) -> Result<Value> {
    let training = c.training(cells, &DAYS, seed)?;
    let trained = match train(method, &training, c, seed) {
        Ok(trained) => trained,
        // A model that leaves the finite numbers is a result, too.
        Err(why) => return Ok(json!({"failed": why.to_string()})),
    };
    let movement = Movement::of(&trained, seed)?;
    let mut tests = Map::new();
    for test in &cells.tests {
        let ends = movement.fates(cells, test.from, cells.at(&test.rows).view(), c.copies)?;
        let predicted = ends.without(UNDECIDED).fractions();
        tests.insert(test.name.into(), judge(test, &predicted)?);
    }
    let two = match &cells.published {
        Some(p) => {
            let copies = c.copies.div_ceil(FEWER);
            let ends = movement.fates(cells, 2.0, cells.at(&p.rows).view(), copies)?;
            p.judge(&ends.fractions().bias(TWO[0], TWO[1])?)?
        }
        None => Value::Null,
    };
    Ok(json!({
        "seconds": trained.seconds, "validation": movement.validation(&training)?, "ratio": movement.ratio(&training)?,
        "tests": tests, "two": two, "history": trained.history,
    }))
}

fn unmoved(method: Method, cells: &Cells, seed: u64) -> Result<Value> {
    let mut tests = Map::new();
    for test in &cells.tests {
        let predicted = match method {
            Method::Nearest => nearest(cells, cells.at(&test.rows).view())?,
            _ => taught(test, cells).cross_validated(method, seed)?,
        };
        tests.insert(test.name.into(), judge(test, &predicted)?);
    }
    let two = match (&cells.published, cells.tests.first()) {
        (Some(p), Some(test)) => {
            let places = cells.at(&p.rows);
            let predicted = match method {
                Method::Nearest => nearest(cells, places.view())?,
                _ => taught(&test.without(&p.rows)?, cells).predict(method, places.view(), seed)?,
            };
            p.judge(&predicted.bias(TWO[0], TWO[1])?)?
        }
        _ => Value::Null,
    };
    Ok(json!({"tests": tests, "two": two}))
}

fn taught(test: &Test, cells: &Cells) -> Taught {
    Taught {
        places: cells.at(&test.rows),
        fates: test.observed.clone(),
        clones: test.clones.clone(),
    }
}

/// Scores of published predictions, as if each were a method.
fn published(c: &Common, p: &Published) -> Result<()> {
    for (method, predictions) in &p.predictions {
        let settings = json!({"experiment": "fate", "cells": "plane", "method": method, "seed": 0});
        let name = format!("fate-plane-{method}");
        runs::run(&c.out, &name, &settings, || {
            Ok(json!({"two": p.judge(predictions)?}))
        })?;
    }
    Ok(())
}

fn judge(test: &Test, predicted: &FateMatrix) -> Result<Value> {
    let scores = fate_scores(&test.observed, predicted, HAS_FATE)?;
    let sums = predicted.fractions().sum_axis(ndarray::Axis(1));
    let none = sums.iter().filter(|s| **s == 0.0).count() as f64 / sums.len() as f64;
    Ok(json!({
        "cells": scores.n_cells, "accuracy": scores.accuracy, "cross_entropy": scores.cross_entropy,
        "auroc": scores.auroc_macro, "without_fate": none,
        "entropy": runs::mean(&predicted.entropy()), "observed_entropy": runs::mean(&test.observed.entropy()),
        "fates": serde_json::to_value(&scores.fates)?,
    }))
}

impl Test {
    /// The same without some cells.
    fn without(&self, rows: &[usize]) -> Result<Self> {
        let kept: Vec<usize> = (0..self.rows.len())
            .filter(|i| rows.binary_search(&self.rows[*i]).is_err())
            .collect();
        let pick = |v: &[usize]| kept.iter().map(|i| v[*i]).collect();
        Ok(Self {
            name: self.name,
            from: self.from,
            rows: pick(&self.rows),
            observed: self.observed.select(&kept)?,
            clones: pick(&self.clones),
        })
    }
}

impl Published {
    /// Pearson's correlation of P(neutrophil) with that of clones, smoothed or not.
    fn judge(&self, p: &[f64]) -> Result<Value> {
        let known: Vec<f64> = self.clonal.iter().map(|(i, _)| p[*i]).collect();
        let clonal: Vec<f64> = self.clonal.iter().map(|(_, p)| *p).collect();
        Ok(json!({
            "cells": p.len(), "smoothed": correlation(p, &self.smoothed)?,
            "clonal_cells": clonal.len(), "clonal": correlation(&known, &clonal)?,
        }))
    }
}

fn correlation(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    let two = |p: &[f64]| -> Result<FateMatrix> {
        let both = Array2::from_shape_fn(
            (p.len(), 2),
            |(i, j)| if j == 0 { p[i] } else { 1.0 - p[i] },
        );
        Ok(FateMatrix::new(TWO.map(str::to_owned).to_vec(), both)?)
    };
    Ok(bias_correlation(&two(y)?, &two(x)?, TWO[0], TWO[1])?)
}
