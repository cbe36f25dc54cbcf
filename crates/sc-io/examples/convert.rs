//! Converts between the formats that are read and written, and says how long each took.
//!
//! ```text
//! cargo run --release -p sc-io --example convert -- filtered_feature_bc_matrix.h5 cells.h5ad [--gzip]
//! ```
#![allow(clippy::print_stdout)]

use std::time::Instant;

use sc_io::h5ad::WriteOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, rest @ ..] = &arguments[..] else {
        return Err("give a file or folder to read, a name to write, and perhaps --gzip".into());
    };
    let options = match rest.first().map(String::as_str) {
        Some("--gzip") => WriteOptions::gzip(4),
        _ => WriteOptions::default(),
    };
    let start = Instant::now();
    let cells = sc_io::read(from)?;
    println!(
        "read {} x {} in {:.3?}",
        cells.n_obs(),
        cells.n_vars(),
        start.elapsed()
    );
    let start = Instant::now();
    sc_io::write(to, &cells, &options)?;
    println!("written in {:.3?}", start.elapsed());
    Ok(())
}
