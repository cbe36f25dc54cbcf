//! Do the two modalities of held-out cells find each other, and are kinds of cells kept.

use std::path::PathBuf;

use ndarray::{Array2, ArrayView2};
use sc_criticism::integration::{Agreement, Average, asw_label, kmeans};
use sc_criticism::matching::{foscttm, mean_match_score, snn_label_transfer};
use sc_integrate::matching::{shared_neighbours, within_batches};
use sc_neighbors::{adjusted_rand_index, knn};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::data::{Files, Pair};
use crate::methods::{Embedded, Method, Training};
use crate::runs::{number, print, run as run_once, spread};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    training: Training,
    /// Folder of results
    #[arg(long)]
    out: PathBuf,
    #[arg(long, num_args = 1.., value_enum)]
    methods: Vec<Method>,
    #[arg(long, num_args = 1.., default_values_t = [0, 1, 2, 3, 4])]
    seeds: Vec<u64>,
}

const COLUMNS: [(&str, &str); 9] = [
    ("foscttm", "FOSCTTM"),
    ("match", "match score"),
    ("match_by_batch", "by batch"),
    ("transfer", "labels, RNA to other"),
    ("nmi", "NMI"),
    ("ari", "ARI"),
    ("asw", "ASW"),
    ("same", "neighbours of the same kind"),
    ("same_t", "the same, T cells"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.out)?;
    let pair = args.files.read()?;
    let mut rows = Vec::new();
    for &method in &args.methods {
        let mut found = Vec::new();
        let seeds: &[u64] = match method.is_random() {
            true => &args.seeds,
            false => &args.seeds[..args.seeds.len().min(1)],
        };
        for &seed in seeds {
            let settings = json!({
                "experiment": "pairs", "cells": args.files.name(), "method": method, "seed": seed,
                "training": [json!(args.training.settings), json!(args.training.epochs)],
            });
            let method_name = settings["method"].as_str().unwrap_or_default();
            let name = format!("{}-{method_name}-{seed}", args.files.name());
            found.push(run_once(&args.out, &name, &settings, || {
                scores(&pair, &method.embed(&pair, &args.training, seed)?, seed)
            })?);
        }
        let of = |key: &str| -> Vec<f64> { found.iter().map(|v| number(v, &[key])).collect() };
        let name = json!(method).as_str().unwrap_or_default().to_owned();
        let mut row = vec![name, found.len().to_string()];
        row.extend(COLUMNS.iter().map(|(key, _)| spread(&of(key), 3)));
        rows.push(row);
    }
    let mut head = vec!["method", "seeds"];
    head.extend(COLUMNS.iter().map(|c| c.1));
    println!(
        "{} cells train, {} are held out",
        pair.train.len(),
        pair.test.len()
    );
    print(&head, &rows);
    Ok(())
}

fn scores(pair: &Pair, e: &Embedded, seed: u64) -> Result<Value> {
    let (x, y) = (e.test[0].view(), e.test[1].view());
    let truth: Vec<u32> = (0..x.nrows() as u32).collect();
    let snn = |x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>| shared_neighbours(x, y, 1);
    let mut out = Map::new();
    out.insert("history".into(), e.history.clone());
    out.insert("foscttm".into(), json!(foscttm(x, y)?.mean()));
    out.insert(
        "match".into(),
        json!(mean_match_score(&snn(x, y)?, &truth)?),
    );
    if let Some(batches) = &pair.batches {
        let batches = batches.select(&pair.test);
        let blocked = within_batches(x, &batches, y, &batches, snn)?;
        out.insert(
            "match_by_batch".into(),
            json!(mean_match_score(&blocked, &truth)?),
        );
    }
    let (Some(known), Some(true_kinds)) = (pair.codes(&pair.train), pair.codes(&pair.test)) else {
        return Ok(Value::Object(out));
    };
    let k = 30.min(x.nrows() / 4).max(2);
    let found = snn_label_transfer(e.train[0].view(), &known, y, k)?.labels;
    let right = found
        .iter()
        .zip(&true_kinds)
        .filter(|(a, b)| a == b)
        .count();
    out.insert("transfer".into(), json!(right as f64 / found.len() as f64));
    let mut kinds = true_kinds.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let clusters = kmeans(e.joint.view(), kinds.len(), 10, seed)?;
    let agreement = Agreement::new(&clusters, &true_kinds)?;
    out.insert("nmi".into(), json!(agreement.nmi(Average::Arithmetic)));
    out.insert(
        "ari".into(),
        json!(adjusted_rand_index(&true_kinds, &clusters)?),
    );
    out.insert("asw".into(), json!(asw_label(e.joint.view(), &true_kinds)?));
    let name = |i: usize| pair.labels.as_ref().and_then(|l| l.get(*pair.test.get(i)?));
    let t_cell = |i: usize| name(i).is_some_and(|n| n.contains("+ T ") || n.starts_with("gdT"));
    out.insert(
        "same".into(),
        json!(same_kind(&e.joint, &true_kinds, |_| true)?),
    );
    out.insert(
        "same_t".into(),
        json!(same_kind(&e.joint, &true_kinds, t_cell)?),
    );
    for (side, places) in &e.own {
        out.insert(
            format!("same_t_{side}"),
            json!(same_kind(places, &true_kinds, t_cell)?),
        );
    }
    Ok(Value::Object(out))
}

/// The share of the five nearest neighbours of some cells that are of their kind; none without such cells.
fn same_kind(
    points: &Array2<f32>,
    kinds: &[u32],
    among: impl Fn(usize) -> bool,
) -> Result<Option<f64>> {
    let near = knn(points.view(), 5)?.indices;
    let (mut same, mut n) = (0, 0);
    for (i, row) in near
        .rows()
        .into_iter()
        .enumerate()
        .filter(|(i, _)| among(*i))
    {
        same += row
            .iter()
            .filter(|&&j| kinds.get(j as usize) == kinds.get(i))
            .count();
        n += row.len();
    }
    Ok((n > 0).then(|| same as f64 / n as f64))
}
