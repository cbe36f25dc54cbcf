//! Perturbations that were not seen in training.

use std::collections::BTreeSet;

use candle_core::Device;
use ndarray::{Array1, ArrayView2, Axis, Slice};
use sc_model::train::{SplitConfig, fit};
use sc_transformer::perturb_metrics::{
    Baselines, ConditionSplit, Effects, SplitOptions, split_by_genes,
};
use sc_transformer::scgpt::{
    KeepBest, PerturbConfig, PerturbTask, PredictOptions, Recipe, ScGptPerturb,
};
use sc_transformer::tokens::{Perturbation, PerturbationOptions, PerturbationTokens};
use sc_transformer::vocab::GeneCase;
use serde_json::{Value, json};

use crate::Result;
use crate::common::{Common, vocab};
use crate::effects::{Judge, Means};
use crate::runs;
use crate::screen::Screen;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// The cells whose column `dataset` has this value
    #[arg(long, default_value = "norman19")]
    dataset: String,
    /// Genes of a cell that a training step reads
    #[arg(long, default_value_t = 160)]
    max_genes: usize,
    /// Perturbed genes may be left out of a step, as in the original
    #[arg(long)]
    lose_perturbed: bool,
    /// Holds conditions out of the training conditions, to choose settings by
    #[arg(long)]
    validate: bool,
}

/// Methods in the order of tables.
const METHODS: [&str; 5] = [
    "no change",
    "mean",
    "additive",
    "scGPT",
    "other half of the cells",
];

/// Groups of held-out conditions: genes, and how many of them were perturbed in training.
const GROUPS: [(&str, Option<(usize, usize)>); 5] = [
    ("single, unseen", Some((1, 0))),
    ("pair, none seen", Some((2, 0))),
    ("pair, one seen", Some((2, 1))),
    ("pair, both seen", Some((2, 2))),
    ("all", None),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let screen = Screen::read(&args.common.data, &args.dataset)?;
    let mut results = Vec::new();
    for &seed in &args.common.seeds {
        let mut settings = args.common.settings(seed);
        settings["max_genes"] = json!(args.max_genes);
        settings["lose_perturbed"] = json!(args.lose_perturbed);
        settings["validate"] = json!(args.validate);
        let kind = match (args.validate, args.lose_perturbed) {
            (true, _) => "validate",
            (false, true) => "lose",
            (false, false) => "test",
        };
        let name = format!("perturb-{kind}-{}-s{seed}", args.common.name());
        let compute = || one(args, &screen, seed);
        results.push(runs::run(&args.common.out, &name, &settings, compute)?);
    }
    table(&results);
    Ok(())
}

fn one(args: &Args, screen: &Screen, seed: u64) -> Result<Value> {
    let options = |seed| SplitOptions {
        seed,
        ..SplitOptions::default()
    };
    let conditions: BTreeSet<&Perturbation> = screen.of_cells.iter().collect();
    let conditions: Vec<Perturbation> = conditions.into_iter().cloned().collect();
    let mut split = split_by_genes(&conditions, &options(seed))?;
    if args.validate {
        split = split_by_genes(&split.train, &options(seed + 1000))?;
    }
    let (model, history) = train(args, screen, &split, seed)?;
    let mut found = judge(screen, &split, &model)?;
    found["history"] = history;
    found["train"] = json!(names(&split.train));
    found["test"] = json!(split.test);
    Ok(found)
}

fn names(conditions: &[Perturbation]) -> Vec<String> {
    conditions.iter().map(ToString::to_string).collect()
}

/// Trains on control cells and those of training conditions. To choose settings, held-out conditions are the validation, and
/// the best epoch is kept; otherwise they are not even read.
fn train(
    args: &Args,
    screen: &Screen,
    split: &ConditionSplit,
    seed: u64,
) -> Result<(ScGptPerturb, Value)> {
    let held: BTreeSet<&Perturbation> = split.test.iter().map(|h| &h.perturbation).collect();
    let control = Perturbation::new::<String>([]);
    let mut used: BTreeSet<&Perturbation> = split.train.iter().chain([&control]).collect();
    if args.validate {
        used.extend(&held);
    }
    let rows = screen.cells_of(&used);
    let values = screen.values.select_rows(&rows)?;
    let of_cells: Vec<Perturbation> = rows
        .iter()
        .filter_map(|&r| screen.of_cells.get(r).cloned())
        .collect();
    let vocab = vocab(&screen.genes)?;
    let genes = vocab.match_genes(&screen.genes, GeneCase::Exact)?;
    let options = PerturbationOptions {
        max_genes: Some(args.max_genes),
        keep_perturbed: !args.lose_perturbed,
        seed,
        ..PerturbationOptions::default()
    };
    let pairs = PerturbationTokens::new(&values, &genes, &vocab, &of_cells, options)?;

    let mut config = PerturbConfig::default();
    args.common.size(&mut config.base, &vocab)?;
    let model = ScGptPerturb::init(vocab, config, &Device::Cpu, seed)?;
    let mut config = args.common.train(Recipe::perturbation(seed));
    let place = 0..pairs.cells().len();
    let (validation, train) = place.partition(|&i| {
        pairs
            .cells()
            .get(i)
            .is_some_and(|&c| held.contains(&of_cells[c]))
    });
    config.split = SplitConfig {
        given: Some((train, validation)),
        ..SplitConfig::default()
    };
    config.validate_every = args.validate.then_some(1);
    let mut best = KeepBest::new(model.parameters());
    let fitted = fit(&PerturbTask::new(&model), &pairs, &config, &mut best)?;
    best.restore()?;
    Ok((model, runs::history(&fitted.history)))
}

/// All methods on held-out conditions, and the model on those it was trained on.
fn judge(screen: &Screen, split: &ConditionSplit, model: &ScGptPerturb) -> Result<Value> {
    let effects = |cells: &[usize]| -> Result<Effects> {
        let control = screen.dense(&screen.controls())?;
        let names = screen.names(cells);
        Ok(Effects::new(
            screen.dense(cells)?.view(),
            &names,
            control.view(),
        )?)
    };
    let train: BTreeSet<&Perturbation> = split.train.iter().collect();
    let test: BTreeSet<&Perturbation> = split.test.iter().map(|h| &h.perturbation).collect();
    let training = effects(&screen.cells_of(&train))?;
    let baselines = Baselines::new(&training, "ctrl")?;
    let cells = screen.cells_of(&test);
    let truth = effects(&cells)?;
    let judge = Judge {
        truth: &truth,
        mean: baselines.mean(),
    };
    let each = |of: &dyn Fn(&Perturbation) -> Array1<f64>| -> Means {
        test.iter().map(|p| (p.to_string(), of(p))).collect()
    };
    let controls = screen.values.select_rows(&screen.controls())?.to_dense();
    let predicted = predict(screen, model, controls.view(), &test)?;
    let mut found = json!({
        "no change": judge.judge(&each(&|_| baselines.no_change()))?,
        "mean": judge.judge(&each(&|_| baselines.mean()))?,
        "additive": judge.judge(&each(&|p| baselines.additive(p)))?,
        "scGPT": judge.judge(&predicted)?,
        "other half of the cells": halves(&cells, &effects, baselines.mean())?,
    });
    // Training conditions are many: fewer control cells will do.
    let few = controls.slice_axis(Axis(0), Slice::from(..20.min(controls.nrows())));
    let judge = Judge {
        truth: &training,
        mean: baselines.mean(),
    };
    found["scGPT, training"] = judge.judge(&predict(screen, model, few, &train)?)?;
    Ok(found)
}

/// What another half of a condition's cells says of a half: more can hardly be reached with so few cells.
fn halves(
    cells: &[usize],
    effects: &dyn Fn(&[usize]) -> Result<Effects>,
    mean: Array1<f64>,
) -> Result<Value> {
    let half = |odd: usize| -> Vec<usize> { cells.iter().copied().skip(odd).step_by(2).collect() };
    let (truth, other) = (effects(&half(0))?, effects(&half(1))?);
    let other: Means = other
        .conditions()
        .filter_map(|c| Some((c.clone(), other.mean(c)?.to_owned())))
        .collect();
    Judge {
        truth: &truth,
        mean,
    }
    .judge(&other)
}

/// The mean of what a model makes of control cells.
fn predict(
    screen: &Screen,
    model: &ScGptPerturb,
    controls: ArrayView2<'_, f32>,
    conditions: &BTreeSet<&Perturbation>,
) -> Result<Means> {
    let ids: Vec<u32> = (0..screen.genes.len() as u32).collect();
    let options = PredictOptions::default();
    let of = |p: &&Perturbation| -> Result<(String, Array1<f64>)> {
        let hit = vec![screen.columns(p); controls.nrows()];
        let made = model.predict(controls, &ids, &hit, &options)?;
        let mean = made.mapv(f64::from).mean_axis(Axis(0)).unwrap_or_default();
        Ok((
            p.to_string(),
            mean.slice_axis(Axis(0), Slice::from(..screen.measured))
                .to_owned(),
        ))
    };
    conditions.iter().map(of).collect()
}

/// Means over conditions, and their spread over seeds.
fn table(results: &[Value]) {
    let head = [
        "held out",
        "conditions",
        "method",
        "Pearson",
        "of differences",
        "top 20",
        "beyond the mean",
        "MSE x 1000",
    ];
    let mut rows = Vec::new();
    for (group, of) in GROUPS {
        let held: Vec<Vec<String>> = results.iter().map(|r| members(r, of)).collect();
        let counts: Vec<String> = held.iter().map(|h| h.len().to_string()).collect();
        if held.iter().all(Vec::is_empty) {
            continue;
        }
        for method in METHODS {
            let value = |key: &str, scale: f64| -> Vec<f64> {
                let of_seed = |(r, held): (&Value, &Vec<String>)| {
                    let all = held.iter().map(|c| runs::number(r, &[method, c, key]));
                    runs::mean(&all.collect::<Vec<_>>()) * scale
                };
                results.iter().zip(&held).map(of_seed).collect()
            };
            let mut row = vec![group.to_owned(), counts.join(", "), method.to_owned()];
            row.push(runs::spread(&value("pearson", 1.0), 3));
            row.push(runs::spread(&value("delta", 1.0), 3));
            row.push(runs::spread(&value("delta_de", 1.0), 3));
            row.push(runs::spread(&value("special", 1.0), 3));
            row.push(runs::spread(&value("mse", 1e3), 2));
            rows.push(row);
        }
    }
    runs::print(&head, &rows);
    for key in ["delta", "special"] {
        let of = |r: &Value| {
            let all = r["scGPT, training"].as_object().into_iter().flatten();
            runs::mean(
                &all.map(|(_, c)| runs::number(c, &[key]))
                    .collect::<Vec<_>>(),
            )
        };
        let all: Vec<f64> = results.iter().map(of).collect();
        println!(
            "scGPT on training conditions, {key}: {}",
            runs::spread(&all, 3)
        );
    }
}

/// The names of the held-out conditions of a group.
fn members(result: &Value, group: Option<(usize, usize)>) -> Vec<String> {
    let train = result["train"].as_array().into_iter().flatten();
    let train = train.filter_map(Value::as_str);
    let trained: BTreeSet<String> = train
        .flat_map(|name| Perturbation::parse(name, "ctrl").genes().to_vec())
        .collect();
    let test = result["test"].as_array().into_iter().flatten();
    let held = test.filter_map(|h| {
        let genes = h["perturbation"]["genes"].as_array()?;
        let genes = genes.iter().filter_map(Value::as_str);
        Some(Perturbation::new(genes))
    });
    let of = |p: &Perturbation| {
        let seen = p.genes().iter().filter(|g| trained.contains(*g)).count();
        (p.genes().len(), seen)
    };
    held.filter(|p| group.is_none_or(|g| g == of(p)))
        .map(|p| p.to_string())
        .collect()
}
