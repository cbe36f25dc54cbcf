//! Times what a trained model is used for: `downstream DATA.h5ad MODEL_DIR [GROUPBY] [REPEATS]`. Prints one line of JSON.
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
fn times<T>(repeats: usize, mut f: impl FnMut() -> Result<T>) -> Result<Vec<f64>> {
    let before = processor_seconds();
    let mut all = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(f()?);
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
        return Err("usage: downstream DATA.h5ad MODEL_DIR [GROUPBY] [REPEATS]".into());
    };
    let key = rest.first().map_or("batch", String::as_str);
    let repeats = rest.get(1).map_or(Ok(5), |r| r.parse())?;
    let data = sc_io::h5ad::read(path)?;
    let model = Scvi::from_scvi_tools(dir, &candle_core::Device::Cpu)?;
    let cells = Cells::for_model(&data, model.registry())?;
    let labels = data.obs.column("obs", key)?.to_categorical(key)?;

    let latent = times(repeats, || Ok(model.latent(&cells)?))?;
    let mut options = Expression::default();
    options.library_size = LibrarySize::Fixed(1e4);
    let expression = times(repeats, || {
        Ok(model.normalized_expression(&cells, &options)?)
    })?;

    let first: Vec<&str> = labels
        .categories()
        .iter()
        .take(1)
        .map(String::as_str)
        .collect();
    let one = Groups::one_vs_rest(&labels, &first)?;
    let all = Groups::one_vs_rest::<&str>(&labels, &[])?;
    let change = DeOptions::change();
    let mut corrected = DeOptions::change();
    corrected.batch_correction = true;
    let de = |groups: &Groups, options: &DeOptions| {
        times(repeats, || {
            Ok(differential_expression(&model, &cells, groups, options)?)
        })
    };
    let (de_one, de_all) = (de(&one, &change)?, de(&all, &change)?);
    let de_corrected = de(&one, &corrected)?;

    println!(
        "{{\"program\":\"sc\",\"threads\":{},\"n_groups\":{},\"latent\":{latent:?},\"expression\":{expression:?},\"de_one\":{de_one:?},\"de_all\":{de_all:?},\"de_corrected\":{de_corrected:?}}}",
        rayon::current_num_threads(),
        all.len(),
    );
    Ok(())
}
