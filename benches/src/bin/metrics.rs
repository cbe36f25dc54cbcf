//! Times the metrics of integration: `metrics DATA.h5ad EMBEDDING BEFORE BATCH_KEY LABEL_KEY [leiden] [REPEATS]`, or
//! `metrics simulate CELLS` for made-up cells of which memory is watched. Prints one line of JSON.
//!
//! `benches/peers/metrics.py` runs this and scib-metrics in one go, on the same file.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use ndarray::Array2;
use sc_criticism::integration::{Scores, Suite};
use sc_data::{AnnData, Annotation, Categorical};
use sc_tensor::rng::Rng;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["simulate", cells] => simulate(cells.parse()?),
        [path, embedding, before, batch, label, ref rest @ ..] => {
            let data = sc_io::h5ad::read_annotations(path)?;
            let column = |key: &str| -> Result<Categorical> {
                Ok(data.obs.column("obs", key)?.to_categorical(key)?)
            };
            let (points, before) = (places(&data, embedding)?, places(&data, before)?);
            let suite = Suite::new(&column(label)?, &column(batch)?)?.before(before.view())?;
            let (leiden, repeats) = match *rest {
                ["leiden", repeats] => (true, repeats.parse()?),
                [repeats] => (false, repeats.parse()?),
                _ => (rest.contains(&"leiden"), 1),
            };
            let suite = if leiden {
                suite
            } else {
                suite.resolutions(Vec::new())
            };
            run(&suite, &points, repeats)
        }
        _ => Err(
            "usage: metrics DATA.h5ad EMBEDDING BEFORE BATCH_KEY LABEL_KEY [leiden] [REPEATS]"
                .into(),
        ),
    }
}

fn places(data: &AnnData, key: &str) -> Result<Array2<f32>> {
    match data.obsm.get(key) {
        Some(Annotation::Matrix(m)) => Ok(m.to_dense()),
        _ => Err(format!("obsm has no matrix {key}").into()),
    }
}

/// Twelve kinds of cells of very different sizes in eight batches that are moved against each other.
fn simulate(cells: usize) -> Result<()> {
    let mut noise = vec![0f64; cells * 30];
    Rng::new(1).stream("cells").fill_normal(&mut noise);
    let mut centres = vec![0f64; 20 * 30];
    Rng::new(1).stream("centres").fill_normal(&mut centres);
    // Kind k has a share of about 1 / (k + 2).
    let kind = |i: usize| ((i * 7919 % 10_007) as f64 / 10_007.0 * 3.2).exp() as usize % 12;
    let batch = |i: usize| i * 104_729 % 8;
    let points = Array2::from_shape_fn((cells, 30), |(i, j)| {
        let place = 1.5 * centres[kind(i) * 30 + j] + 0.3 * centres[(12 + batch(i)) * 30 + j];
        (place + noise[i * 30 + j]) as f32
    });
    let names = |of: &dyn Fn(usize) -> usize| {
        let names: Vec<String> = (0..cells).map(|i| of(i).to_string()).collect();
        Categorical::from_labels(&names)
    };
    let suite = Suite::new(&names(&kind), &names(&batch))?.before(points.view())?;
    run(&suite, &points, 1)
}

/// The seconds of a run, when its stages began, and what came out.
type Timed = (f64, Vec<(&'static str, f64)>, Scores);

/// Prints the seconds of each stage in the fastest of several runs, the memory at its highest, and the values.
fn run(suite: &Suite<'_>, points: &Array2<f32>, repeats: usize) -> Result<()> {
    let before = kib("VmRSS:");
    let (mut totals, mut busy): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut best: Option<Timed> = None;
    for _ in 0..repeats {
        let (start, before) = (Instant::now(), processor_seconds());
        let mut marks: Vec<(&'static str, f64)> = Vec::new();
        let scores = suite.score_with(points.view(), &mut |stage| {
            marks.push((stage, start.elapsed().as_secs_f64()));
        })?;
        let total = start.elapsed().as_secs_f64();
        totals.push(total);
        busy.push(processor_seconds() - before);
        if best.as_ref().is_none_or(|b| total < b.0) {
            best = Some((total, marks, scores));
        }
    }
    let (total, marks, scores) = best.ok_or("no repeats")?;
    let ends = marks.iter().skip(1).map(|m| m.1).chain([total]);
    let stages: Vec<String> = marks
        .iter()
        .zip(ends)
        .map(|(m, end)| format!("\"{}\":{:.4}", m.0, end - m.1))
        .collect();
    let values: Vec<String> = scores
        .iter()
        .map(|(m, v)| match v {
            Ok(v) => format!("\"{}\":{v:.6}", m.name()),
            Err(e) => format!("\"{}\":\"{e}\"", m.name()),
        })
        .collect();
    println!(
        "{{\"program\":\"sc\",\"threads\":{},\"cells\":{},\"seconds\":{totals:?},\"processor_seconds\":{busy:.2?},\"stages\":{{{}}},\"mib_before\":{},\"mib_peak\":{},\"values\":{{{}}}}}",
        rayon::current_num_threads(),
        points.nrows(),
        stages.join(","),
        before / 1024,
        kib("VmHWM:") / 1024,
        values.join(",")
    );
    Ok(())
}

/// What this process has used of its processors so far (Linux; 0 elsewhere). Other programs hardly change it.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: user and system time are fields 14 and 15, in hundredths.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What the system says of this process's memory (Linux; 0 elsewhere).
fn kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key));
    let number = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok());
    number.unwrap_or(0)
}
