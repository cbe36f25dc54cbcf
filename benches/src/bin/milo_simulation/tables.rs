//! Power and false discoveries of many experiments.

use sc_latent::milo::{Normalisation, SampleSize};

use crate::score::{Ready, Sizes};
use crate::world::{Experiment, Shape};
use crate::{ALPHA, CELLS, Failure, NEAREST};

const SHAPES: [(&str, Shape); 2] = [
    ("trajectory", Shape::Trajectory),
    ("clusters", Shape::Clusters),
];

type Method = (&'static str, Sizes);

/// Ways to make samples comparable: the default, the published one, and the simulation's own knowledge.
const MAIN: [Method; 3] = [
    (
        "centred",
        Sizes::Of(SampleSize::CountSum, Normalisation::Centred),
    ),
    ("TMM", Sizes::Of(SampleSize::CountSum, Normalisation::Tmm)),
    ("truth", Sizes::Truth),
];
/// All of them.
const ALL: [Method; 6] = [
    MAIN[0],
    MAIN[1],
    ("RLE", Sizes::Of(SampleSize::CountSum, Normalisation::Rle)),
    (
        "sums",
        Sizes::Of(SampleSize::CountSum, Normalisation::Sizes),
    ),
    ("cells", Sizes::Of(SampleSize::Cells, Normalisation::Sizes)),
    MAIN[2],
];
const FOLDS: [f64; 6] = [1.0, 1.5, 2.0, 4.0, 8.0, 0.25];

/// Means of what is said of an experiment.
#[derive(Default, Clone, Copy)]
struct Means {
    power: f64,
    wrong: f64,
    wrong_rises: f64,
    off: f64,
}

/// Means over repetitions for each method. Without any change there are twice as many of them, and what is wrong is any
/// call.
fn means(
    experiment: Experiment,
    methods: &[Method],
    repetitions: u64,
) -> Result<Vec<Means>, Failure> {
    let none = experiment.fold == 1.0;
    let repetitions = repetitions * if none { 2 } else { 1 };
    let mut means = vec![Means::default(); methods.len()];
    for seed in 0..repetitions {
        let ready = Ready::new(Experiment { seed, ..experiment })?;
        for (mean, (_, sizes)) in means.iter_mut().zip(methods) {
            let score = ready.score(*sizes)?;
            let weight = 1.0 / repetitions as f64;
            mean.power += weight * score.power();
            mean.wrong += weight * score.wrong();
            mean.wrong_rises += weight * score.wrong_rises();
            mean.off += weight * score.off;
        }
    }
    Ok(means)
}

/// One table: a number of each method for each experiment.
fn table(
    (title, columns): (&str, &str),
    methods: &[Method],
    lines: &[(String, f64, Vec<Means>)],
    digits: usize,
    number: fn(&Means) -> f64,
) {
    let names: Vec<&str> = methods.iter().map(|m| m.0).collect();
    println!("\n{title}\n\n| {columns} | {} |", names.join(" | "));
    let n = columns.split('|').count() + methods.len();
    println!("|{}", "---|".repeat(n));
    for (first, _, means) in lines {
        let numbers: Vec<String> = means
            .iter()
            .map(|m| format!("{:.digits$}", number(m)))
            .collect();
        println!("| {first} | {} |", numbers.join(" | "));
    }
}

/// Four tables of some experiments, each called by its cells in the first columns.
fn tables(
    columns: &str,
    experiments: &[(String, Experiment)],
    methods: &[Method],
    repetitions: u64,
) -> Result<(), Failure> {
    let all: Vec<(String, f64, Vec<Means>)> = experiments
        .iter()
        .map(|(first, e)| Ok((first.clone(), e.fold, means(*e, methods, repetitions)?)))
        .collect::<Result<_, Failure>>()?;
    let changed: Vec<_> = all.iter().filter(|l| l.1 != 1.0).cloned().collect();
    table(("Power", columns), methods, &changed, 2, |m| m.power);
    table(("Wrong calls", columns), methods, &all, 3, |m| m.wrong);
    table(("Wrong rises", columns), methods, &all, 3, |m| {
        m.wrong_rises
    });
    let off = "Mean log2 fold change where there is none";
    table((off, columns), methods, &changed, 2, |m| m.off);
    Ok(())
}

pub(crate) fn print(repetitions: u64) -> Result<(), Failure> {
    println!(
        "Spatial FDR {ALPHA}, {repetitions} repetitions ({} without a change), {CELLS} cells a sample on average, k = {NEAREST}.",
        2 * repetitions
    );
    for (replicates, methods) in [(3, &MAIN[..]), (5, &ALL[..]), (10, &MAIN[..])] {
        println!("\n{replicates} samples a condition");
        let mut experiments = Vec::new();
        for (name, shape) in SHAPES {
            for fold in FOLDS {
                let e = Experiment {
                    shape,
                    replicates,
                    fold,
                    cells: 2 * replicates * CELLS,
                    ..Experiment::base()
                };
                experiments.push((format!("{name} | {fold}"), e));
            }
        }
        tables("cells | fold change", &experiments, methods, repetitions)?;
    }
    println!(
        "\nFive samples a condition, the second batch has 3 times as many cells at another place"
    );
    // Six samples a condition would be balanced; with five, batch and condition are partly confounded.
    let mut experiments = Vec::new();
    for (name, shape) in SHAPES {
        for formula in ["~ condition", "~ batch + condition"] {
            for fold in [1.0, 4.0] {
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
    let columns = "cells | design | fold change";
    tables(columns, &experiments, &MAIN, repetitions)
}
