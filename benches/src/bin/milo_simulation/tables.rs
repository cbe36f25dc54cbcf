//! Power and false discoveries of many experiments.

use sc_latent::milo::{Normalisation, SampleSize};

use crate::score::{Ready, Score, Sizes};
use crate::world::{Experiment, Shape};
use crate::{ALPHA, CELLS, Failure, NEAREST};

const SHAPES: [(&str, Shape); 2] = [
    ("trajectory", Shape::Trajectory),
    ("clusters", Shape::Clusters),
];

/// Ways to make samples comparable, and the truth.
const METHODS: [(&str, Sizes); 6] = [
    (
        "centred",
        Sizes::Of(SampleSize::CountSum, Normalisation::Centred),
    ),
    ("TMM", Sizes::Of(SampleSize::CountSum, Normalisation::Tmm)),
    ("RLE", Sizes::Of(SampleSize::CountSum, Normalisation::Rle)),
    (
        "sums",
        Sizes::Of(SampleSize::CountSum, Normalisation::Sizes),
    ),
    ("cells", Sizes::Of(SampleSize::Cells, Normalisation::Sizes)),
    ("truth", Sizes::Truth),
];

/// What is said of an experiment: numbers for each method.
#[derive(Default, Clone, Copy)]
struct Line {
    power: [f64; METHODS.len()],
    wrong: [f64; METHODS.len()],
    wrong_rises: [f64; METHODS.len()],
    /// The mean log2 fold change where there is none.
    off: [f64; METHODS.len()],
}

impl Line {
    /// Means over repetitions. Without any change there are twice as many of them, and what is wrong is any call.
    fn new(experiment: Experiment, repetitions: u64) -> Result<Self, Failure> {
        let none = experiment.fold == 1.0;
        let repetitions = repetitions * if none { 2 } else { 1 };
        let mut line = Self::default();
        for seed in 0..repetitions {
            let ready = Ready::new(Experiment { seed, ..experiment })?;
            for (m, (_, sizes)) in METHODS.iter().enumerate() {
                line.add(m, &ready.score(*sizes)?, 1.0 / repetitions as f64);
            }
        }
        Ok(line)
    }

    fn add(&mut self, method: usize, score: &Score, weight: f64) {
        self.power[method] += weight * score.power();
        self.wrong[method] += weight * score.wrong();
        self.wrong_rises[method] += weight * score.wrong_rises();
        self.off[method] += weight * score.off;
    }
}

fn header(title: &str, first: &str) {
    let names: Vec<&str> = METHODS.iter().map(|m| m.0).collect();
    println!("\n{title}\n\n| {first} | {} |", names.join(" | "));
    let columns = first.split('|').count() + METHODS.len();
    println!("|{}", "---|".repeat(columns));
}

fn row(first: &str, numbers: &[f64], digits: usize) {
    let numbers: Vec<String> = numbers.iter().map(|v| format!("{v:.digits$}")).collect();
    println!("| {first} | {} |", numbers.join(" | "));
}

/// Four tables of some experiments, each called by its cells in the first columns.
fn of(
    columns: &str,
    experiments: &[(String, Experiment)],
    repetitions: u64,
) -> Result<(), Failure> {
    let lines: Vec<Line> = experiments
        .iter()
        .map(|(_, e)| Line::new(*e, repetitions))
        .collect::<Result<_, Failure>>()?;
    let all = || experiments.iter().zip(&lines);
    let changed = || all().filter(|((_, e), _)| e.fold != 1.0);
    header("Power", columns);
    changed().for_each(|((first, _), l)| row(first, &l.power, 2));
    header("Wrong calls", columns);
    all().for_each(|((first, _), l)| row(first, &l.wrong, 3));
    header("Wrong rises", columns);
    all().for_each(|((first, _), l)| row(first, &l.wrong_rises, 3));
    header("Mean log2 fold change where there is none", columns);
    changed().for_each(|((first, _), l)| row(first, &l.off, 2));
    Ok(())
}

pub(crate) fn print(repetitions: u64) -> Result<(), Failure> {
    println!(
        "Spatial FDR {ALPHA}, {repetitions} repetitions ({} without a change), {CELLS} cells a sample on average, k = {NEAREST}.",
        2 * repetitions
    );
    let mut experiments = Vec::new();
    for (name, shape) in SHAPES {
        for replicates in [3, 5, 10] {
            for fold in [1.0, 1.5, 2.0, 3.0, 4.0, 0.25] {
                let e = Experiment {
                    shape,
                    replicates,
                    fold,
                    cells: 2 * replicates * CELLS,
                    ..Experiment::base()
                };
                experiments.push((format!("{name} | {replicates} | {fold}"), e));
            }
        }
    }
    of(
        "cells | samples a condition | fold change",
        &experiments,
        repetitions,
    )?;
    println!(
        "\nFive samples a condition, the second batch has 3 times as many cells at another place:"
    );
    // Six samples a condition would be balanced; with five, batch and condition are partly confounded.
    let mut experiments = Vec::new();
    for (name, shape) in SHAPES {
        for formula in ["~ condition", "~ batch + condition"] {
            for fold in [1.0, 3.0] {
                let e = Experiment {
                    shape,
                    replicates: 5,
                    fold,
                    batch_fold: 3.0,
                    formula,
                    cells: 10 * CELLS,
                    ..Experiment::base()
                };
                experiments.push((format!("{name} | `{formula}` | {fold}"), e));
            }
        }
    }
    of("cells | design | fold change", &experiments, repetitions)
}
