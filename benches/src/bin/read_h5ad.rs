//! Times reading a file: `read_h5ad FILE TIMES`. The first time memory is fresh, as in a program that reads one file.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

// What `sc` uses.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("give a file")?;
    let times = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(6);
    for _ in 0..times {
        let start = Instant::now();
        let cells = sc_io::read(path)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:.1} ms for {} x {}",
            seconds * 1e3,
            cells.n_obs(),
            cells.n_vars()
        );
    }
    Ok(())
}
