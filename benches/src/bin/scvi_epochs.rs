//! Times epochs of scVI on made-up counts: `scvi_epochs CELLS GENES STORED EPOCHS`. For profilers.
#![allow(clippy::print_stdout, reason = "a program for people")]

use sc_latent::{Cells, Scvi};
use sc_model::train::TrainConfig;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: f64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let counts = sc_benches::counts(
        number(0, 2560.0) as usize,
        number(1, 2000.0) as usize,
        number(2, 0.35),
        0,
    );
    println!("{counts:?}");
    let cells = Cells::plain(counts);
    let mut model = Scvi::params(&cells)
        .check()?
        .init(&candle_core::Device::Cpu, 0)?;
    let mut config = TrainConfig::default();
    config.max_epochs = Some(number(3, 5.0) as usize);
    config.split.train_size = Some(1.0);
    let fitted = model.fit(&cells, &config, &mut ())?;
    let steps = cells.n_cells().div_ceil(config.batch_size) as f64;
    for (seconds, elbo) in fitted
        .epoch_seconds
        .iter()
        .zip(fitted.history.values("elbo_train"))
    {
        println!("{:.2} ms a step, -ELBO {elbo:.2}", seconds / steps * 1e3);
    }
    Ok(())
}
