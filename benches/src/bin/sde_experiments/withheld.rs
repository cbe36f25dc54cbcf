//! Day 4, when only days 2 and 6 are trained on.

use ndarray::Array2;
use sc_sde::downstream::Interpolation;
use sc_tensor::Rng;
use serde_json::{Value, json};

use crate::Result;
use crate::cells::Cells;
use crate::common::Common;
use crate::methods::{Method, train};
use crate::moves::{Movement, divergence};
use crate::runs;

const SEEN: [f64; 2] = [2.0, 6.0];
const DAYS: [f64; 3] = [2.0, 4.0, 6.0];
/// Cells of a day that distances are measured of, drawn by the seed where there are more.
const MOST: usize = 2000;

pub(crate) fn run(c: &Common) -> Result<()> {
    let cells = Cells::read(&c.data, &SEEN)?;
    for &seed in &c.seeds {
        let real = DAYS.map(|day| some(&cells, day, seed));
        for &method in &c.methods {
            let name = format!("withheld-{}-{method}-s{seed}", cells.name);
            let settings = c.settings("withheld", cells.name, method, seed);
            runs::run(&c.out, &name, &settings, || match method {
                Method::Simple => simple(&real, seed),
                _ => learned(method, &cells, &real, c, seed),
            })?;
        }
    }
    Ok(())
}

fn learned(
    method: Method,
    cells: &Cells,
    real: &[Array2<f32>; 3],
    c: &Common,
    seed: u64,
) -> Result<Value> {
    let training = c.training(cells, &SEEN, seed)?;
    let trained = match train(method, &training, c, seed) {
        Ok(trained) => trained,
        Err(why) => return Ok(json!({"failed": why.to_string()})),
    };
    let movement = Movement::of(&trained, seed)?;
    let moved = movement.populations(real[0].view(), &DAYS)?;
    let at = |k: usize| divergence(moved[k].view(), real[k].view());
    Ok(json!({
        "seconds": trained.seconds, "validation": movement.validation(&training)?, "ratio": movement.ratio(&training)?,
        "day 4": at(1)?, "day 6": at(2)?, "history": trained.history,
    }))
}

/// Guesses that need no training, and how far real cells are from one another.
fn simple(real: &[Array2<f32>; 3], seed: u64) -> Result<Value> {
    let [early, between, late] = real;
    let days = Interpolation::new(
        (2.0, early.view()),
        (4.0, between.view()),
        (6.0, late.view()),
    )?;
    let scores = days.seed(seed).scores(early.view())?;
    Ok(json!({
        "linear transport": scores.linear_transport, "day 2": scores.early, "day 6": scores.late, "halves": scores.halves,
        "day 2 from day 6": divergence(early.view(), late.view())?,
    }))
}

/// Some cells of a day.
fn some(cells: &Cells, day: f64, seed: u64) -> Array2<f32> {
    let rows = cells.of_day(day);
    let order = Rng::new(seed)
        .stream(&format!("cells of day {day}"))
        .permutation(rows.len());
    let drawn: Vec<usize> = order
        .into_iter()
        .filter_map(|i| rows.get(i).copied())
        .take(MOST)
        .collect();
    cells.at(&drawn)
}
