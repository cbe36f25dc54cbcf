//! Times what a trained model is used for: `downstream DATA.h5ad MODEL_DIR [GROUPBY] [REPEATS] [OPERATION]`. Prints one
//! line of JSON; with an operation (`latent`, `expression`, `de_one`, ...) only that one runs, for a profiler.
//!
//! `benches/peers/downstream.py` runs this and scvi-tools in one go, on the same file and the same model.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use sc_latent::de::{DeOptions, Groups, differential_expression};
use sc_latent::{Cells, Expression, LibrarySize, Scvi};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The seconds of each of several runs, and then the processor seconds of all threads in a run, on average.
fn times(repeats: usize, f: &mut dyn FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let before = processor_seconds();
    let mut all = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            f()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect::<Result<Vec<f64>>>()?;
    all.push((processor_seconds() - before) / repeats as f64);
    Ok(all)
}

/// What this process has used of its processors so far (Linux; 0 elsewhere). Other programs hardly change it.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: user and system time are fields 14 and 15, in hundredths.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, dir, rest @ ..] = args.as_slice() else {
        return Err("usage: downstream DATA.h5ad MODEL_DIR [GROUPBY] [REPEATS] [OPERATION]".into());
    };
    let key = rest.first().map_or("batch", String::as_str);
    let repeats = rest.get(1).map_or(Ok(5), |r| r.parse())?;
    let data = sc_io::h5ad::read(path)?;
    let model = Scvi::from_scvi_tools(dir, &candle_core::Device::Cpu)?;
    let cells = Cells::for_model(&data, model.registry())?;
    let labels = data.obs.column("obs", key)?.to_categorical(key)?;

    let mut options = Expression::default();
    options.library_size = LibrarySize::Fixed(1e4);
    let names = labels.categories().iter().map(String::as_str);
    let first: Vec<&str> = names.take(1).collect();
    let one = Groups::one_vs_rest(&labels, &first)?;
    let all = Groups::one_vs_rest::<&str>(&labels, &[])?;
    let change = DeOptions::change();
    let mut corrected = DeOptions::change();
    corrected.batch_correction = true;

    let only = rest.get(2).map(String::as_str);
    let mut report = String::new();
    let mut time = |name: &str, f: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        if only.is_none_or(|o| o == name) {
            let times = times(repeats, f)?;
            report.push_str(&format!(",\"{name}\":{times:?}"));
        }
        Ok(())
    };
    time("latent", &mut || {
        std::hint::black_box(model.latent(&cells)?);
        Ok(())
    })?;
    time("expression", &mut || {
        std::hint::black_box(model.normalized_expression(&cells, &options)?);
        Ok(())
    })?;
    for (name, groups, options) in [
        ("de_one", &one, &change),
        ("de_all", &all, &change),
        ("de_corrected", &one, &corrected),
    ] {
        time(name, &mut || {
            let table = differential_expression(&model, &cells, groups, options)?;
            std::hint::black_box(table);
            Ok(())
        })?;
    }

    println!(
        "{{\"program\":\"sc\",\"threads\":{},\"n_groups\":{}{report}}}",
        rayon::current_num_threads(),
        all.len(),
    );
    Ok(())
}
