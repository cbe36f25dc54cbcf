//! Tables of all runs, and a plot of the sweep.

use std::path::PathBuf;

use sc_plot::{Point, lines};
use serde_json::Value;

use crate::Result;
use crate::runs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of results
    dir: PathBuf,
    /// Also draw accuracy by ratio into this SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// Methods in the order of the tables; what isn't here comes last.
const ORDER: [&str; 21] = [
    "ratio-2.5",
    "ratio-none",
    "isotropic",
    "ode",
    "prescient",
    "ot-cfm",
    "sf2m",
    "logistic",
    "neighbours",
    "frequencies",
    "nearest",
    "WOT",
    "PBA",
    "FateID",
    "simple",
    "ratio-0.5",
    "ratio-1",
    "ratio-5",
    "ratio-10",
    "ratio-20",
    "ratio-50",
];

/// scDiffEq's ratio. Others have a table of their own.
const PUBLISHED: f64 = 2.5;

/// All runs of a method.
struct Row {
    method: String,
    results: Vec<Value>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&args.dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            all.push(serde_json::from_slice::<Value>(&std::fs::read(&path)?)?);
        }
    }
    all.sort_by_key(|v| v["settings"]["seed"].as_u64());
    for cells in ["subset", "plane"] {
        let fate = rows(&all, "fate", cells);
        for test in ["day 4", "day 2"] {
            fates(&format!("{cells}, fates from {test}"), test, &fate);
        }
        correlations(cells, &fate);
        sweep(cells, &fate);
        days(cells, &rows(&all, "withheld", cells));
    }
    match &args.plot {
        Some(path) => plot(path, &all),
        None => Ok(()),
    }
}

fn rows(all: &[Value], experiment: &str, cells: &str) -> Vec<Row> {
    let mut found: Vec<Row> = Vec::new();
    for run in all {
        let s = &run["settings"];
        if s["experiment"] != experiment || s["cells"] != cells {
            continue;
        }
        let method = s["method"].as_str().unwrap_or_default().to_owned();
        let result = run["result"].clone();
        match found.iter_mut().find(|r| r.method == method) {
            Some(row) => row.results.push(result),
            None => found.push(Row {
                method,
                results: vec![result],
            }),
        }
    }
    let place = |r: &Row| {
        ORDER
            .iter()
            .position(|m| *m == r.method)
            .unwrap_or(ORDER.len())
    };
    found.sort_by_key(place);
    found
}

impl Row {
    fn values(&self, path: &[&str]) -> Vec<f64> {
        self.results.iter().map(|r| runs::number(r, path)).collect()
    }

    fn cell(&self, path: &[&str], digits: usize) -> String {
        runs::spread(&self.values(path), digits)
    }

    fn has(&self, path: &[&str]) -> bool {
        self.values(path).iter().any(|v| v.is_finite())
    }

    fn failed(&self) -> usize {
        self.results
            .iter()
            .filter(|r| r.get("failed").is_some())
            .count()
    }

    /// `3 of 5` where some failed.
    fn seeds(&self) -> String {
        match (self.results.len(), self.failed()) {
            (n, 0) => n.to_string(),
            (n, failed) => format!("{} of {n}", n - failed),
        }
    }

    /// The ratio on the paths of training, in the epoch whose weights were kept.
    fn ratio_in_training(&self) -> String {
        let of = |r: &Value| -> Option<f64> {
            let history = &r["history"]["training"];
            let losses = history["validation_loss"].as_array()?.iter();
            let losses = losses.filter_map(Value::as_f64).enumerate();
            let best = losses.min_by(|a, b| a.1.total_cmp(&b.1))?.0;
            history["velocity_ratio_train"].get(best)?.as_f64()
        };
        let all: Vec<f64> = self.results.iter().filter_map(of).collect();
        runs::spread(&all, 2)
    }

    /// The target of the ratio; 0 where there is none, nothing of other methods.
    fn target(&self) -> Option<f64> {
        match self.method.strip_prefix("ratio-")? {
            "none" => Some(0.0),
            target => target.parse().ok(),
        }
    }
}

fn heading(title: &str, of: &[&Row]) -> bool {
    if !of.is_empty() {
        println!("\n## {title}");
    }
    !of.is_empty()
}

fn fates(title: &str, test: &str, all: &[Row]) {
    let of: Vec<&Row> = all
        .iter()
        .filter(|r| r.has(&["tests", test, "accuracy"]))
        .filter(|r| r.target().is_none_or(|t| t == 0.0 || t == PUBLISHED))
        .collect();
    if !heading(title, &of) {
        return;
    }
    let head = [
        "method",
        "seeds",
        "accuracy",
        "cross-entropy",
        "AUROC",
        "entropy",
        "no fate",
        "validation",
        "seconds",
    ];
    let table = of.iter().map(|r| {
        let at = |key, digits| r.cell(&["tests", test, key], digits);
        vec![
            r.method.clone(),
            r.seeds(),
            at("accuracy", 3),
            at("cross_entropy", 2),
            at("auroc", 3),
            at("entropy", 2),
            at("without_fate", 3),
            r.cell(&["validation", "sum"], 2),
            r.cell(&["seconds"], 0),
        ]
    });
    runs::print(&head, &table.collect::<Vec<_>>());
    let of_first = |key| {
        of.first().map_or(f64::NAN, |r| {
            r.values(&["tests", test, key])
                .first()
                .copied()
                .unwrap_or(f64::NAN)
        })
    };
    println!(
        "{} cells; observed entropy {:.2}",
        of_first("cells"),
        of_first("observed_entropy")
    );
}

fn correlations(cells: &str, all: &[Row]) {
    let of: Vec<&Row> = all.iter().filter(|r| r.has(&["two", "smoothed"])).collect();
    if heading(&format!("{cells}, P(neutrophil) of held-out cells"), &of) {
        let table = of.iter().map(|r| {
            let at = |key| r.cell(&["two", key], 3);
            vec![r.method.clone(), r.seeds(), at("smoothed"), at("clonal")]
        });
        runs::print(
            &["method", "seeds", "smoothed truth", "clones"],
            &table.collect::<Vec<_>>(),
        );
    }
}

fn sweep(cells: &str, all: &[Row]) {
    let mut of: Vec<&Row> = all.iter().filter(|r| r.target().is_some()).collect();
    of.sort_by(|a, b| {
        a.target()
            .partial_cmp(&b.target())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    if of.len() < 3 || !heading(&format!("{cells}, ratio"), &of) {
        return;
    }
    let test = test_of(cells);
    let table = of.iter().map(|r| {
        let at = |key, digits| r.cell(&["tests", test, key], digits);
        vec![
            r.method.clone(),
            r.seeds(),
            r.ratio_in_training(),
            r.cell(&["ratio", "ratio"], 2),
            at("accuracy", 3),
            at("cross_entropy", 2),
            at("entropy", 2),
            r.cell(&["validation", "sum"], 2),
        ]
    });
    let head = [
        "asked for",
        "seeds",
        "on paths",
        "at all cells",
        "accuracy",
        "cross-entropy",
        "entropy",
        "validation",
    ];
    runs::print(&head, &table.collect::<Vec<_>>());
}

fn days(cells: &str, all: &[Row]) {
    let of: Vec<&Row> = all.iter().filter(|r| r.method != "simple").collect();
    if heading(&format!("{cells}, day 4 withheld"), &of) {
        let table = of.iter().map(|r| {
            let at = |path: &[&str]| r.cell(path, 2);
            vec![
                r.method.clone(),
                r.seeds(),
                at(&["day 4"]),
                at(&["day 6"]),
                at(&["validation", "sum"]),
            ]
        });
        let head = [
            "method",
            "seeds",
            "day 4",
            "day 6 (trained on)",
            "validation",
        ];
        runs::print(&head, &table.collect::<Vec<_>>());
    }
    for row in all.iter().filter(|r| r.method == "simple") {
        println!();
        for what in [
            "linear transport",
            "day 2",
            "day 6",
            "halves",
            "day 2 from day 6",
        ] {
            println!("{what}: {}", row.cell(&[what], 2));
        }
    }
}

/// The test that the sweep is judged by.
fn test_of(cells: &str) -> &'static str {
    match cells {
        "subset" => "day 4",
        _ => "day 2",
    }
}

fn plot(path: &std::path::Path, all: &[Value]) -> Result<()> {
    let mut series: Vec<(String, Vec<Point>)> = Vec::new();
    for cells in ["subset", "plane"] {
        let fate = rows(all, "fate", cells);
        let accuracy = ["tests", test_of(cells), "accuracy"];
        let point = |r: &Row, x: f64| {
            let of: Vec<f64> = r
                .values(&accuracy)
                .into_iter()
                .filter(|v| v.is_finite())
                .collect();
            let low = of.iter().copied().fold(f64::INFINITY, f64::min);
            let high = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            Point {
                x,
                y: runs::mean(&of),
                interval: Some((low, high)),
            }
        };
        let mut held: Vec<Point> = Vec::new();
        for r in &fate {
            if let Some(target) = r.target().filter(|t| *t > 0.0) {
                held.push(point(r, target.log2()));
            }
        }
        held.sort_by(|a, b| a.x.total_cmp(&b.x));
        if held.len() < 3 {
            continue;
        }
        let ends = held.first().zip(held.last()).map(|(a, b)| [a.x, b.x]);
        let free = fate.iter().find(|r| r.target() == Some(0.0));
        if let (Some(ends), Some(free)) = (ends, free) {
            let level = |x| Point {
                interval: None,
                ..point(free, x)
            };
            series.push((format!("{cells}, no ratio"), ends.map(level).to_vec()));
        }
        series.push((format!("{cells}, ratio held"), held));
    }
    let series: Vec<(&str, Vec<Point>)> = series
        .iter()
        .map(|(n, p)| (n.as_str(), p.clone()))
        .collect();
    let svg = lines(
        "Fates by the ratio of drift to diffusion",
        ("log2 of the ratio", "accuracy"),
        &series,
    )?;
    std::fs::write(path, svg)?;
    Ok(())
}
