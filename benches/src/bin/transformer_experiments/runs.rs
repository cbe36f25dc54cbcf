//! Results on disk, and tables of them.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use sc_model::train::History;
use serde_json::{Map, Value, json};

use crate::Result;

/// The result of a run: read if its file is there, computed and written otherwise.
pub(crate) fn run(
    dir: &Path,
    name: &str,
    settings: &Value,
    compute: impl FnOnce() -> Result<Value>,
) -> Result<Value> {
    let path = dir.join(format!("{name}.json"));
    if path.exists() {
        let old: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        if old.get("settings") != Some(settings) {
            let path = path.display();
            return Err(format!("{path} is of other settings: choose another --out").into());
        }
        return Ok(old.get("result").cloned().unwrap_or_default());
    }
    println!("{name} ...");
    let start = Instant::now();
    let result = compute()?;
    let seconds = start.elapsed().as_secs_f64();
    let whole = json!({"settings": settings, "seconds": seconds, "result": result});
    let text = serde_json::to_vec_pretty(&whole)?;
    sc_model::files::write_atomic(&path, |w| w.write_all(&text))?;
    println!("{name}: {seconds:.0} s");
    Ok(result)
}

/// The metrics of all epochs.
pub(crate) fn history(h: &History) -> Value {
    let all = h.names().map(|n| (n.to_owned(), json!(h.values(n))));
    Value::Object(all.collect::<Map<_, _>>())
}

/// The number at `path`; NaN without one.
pub(crate) fn number(v: &Value, path: &[&str]) -> f64 {
    let found = path.iter().try_fold(v, |v, key| v.get(key));
    found.and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// `mean (lowest .. highest)` of what is a number.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let (Some(low), Some(high)) = (
        known.iter().copied().reduce(f64::min),
        known.iter().copied().reduce(f64::max),
    ) else {
        return "-".into();
    };
    let mean = mean(&known);
    match low == high {
        true => format!("{mean:.digits$}"),
        false => format!("{mean:.digits$} ({low:.digits$} .. {high:.digits$})"),
    }
}

/// The mean of what is a number.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

/// Prints a table in Markdown.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |", head.join(" | "));
    println!("|{}", "---|".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
