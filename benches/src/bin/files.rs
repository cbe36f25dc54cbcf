//! Times what files are used for, in one process and as JSON:
//!
//! ```text
//! files make FILE CELLS GENES STORED [GZIP]   counts that are made up, packed or not
//! files read FILE TIMES                       everything into memory; the first time memory is fresh
//! files write FILE OUT GZIP TIMES             everything out again
//! files rows FILE ROWS TIMES                  random rows of a file that stays on the disk
//! files epoch FILE BLOCK BLOCKS               every cell once, in shuffled minibatches of 128
//! ```
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use sc_data::{AnnData, RowSource, Table};
use sc_io::h5ad::{self, WriteOptions};
use sc_tensor::rng::{Rng, Stream};
use serde_json::{Value, json};

// What `sc` uses.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MINIBATCH: usize = 128;

fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    let found = match words[..] {
        ["make", file, cells, genes, stored] => make(file, (cells, genes, stored), None)?,
        ["make", file, cells, genes, stored, gzip] => {
            make(file, (cells, genes, stored), Some(gzip.parse()?))?
        }
        ["read", file, times] => read(file, times.parse()?)?,
        ["write", file, out, gzip, times] => write(file, out, gzip.parse()?, times.parse()?)?,
        ["rows", file, n, times] => rows(file, n.parse()?, times.parse()?)?,
        ["epoch", file, block, blocks] => epoch(file, block.parse()?, blocks.parse()?)?,
        _ => return Err("files make | read | write | rows | epoch ...".into()),
    };
    println!("{found}");
    Ok(())
}

fn options(gzip: Option<u8>) -> WriteOptions {
    gzip.map_or_else(WriteOptions::default, WriteOptions::gzip)
}

fn make(file: &str, (cells, genes, stored): (&str, &str, &str), gzip: Option<u8>) -> Result<Value> {
    let counts = sc_benches::counts(cells.parse()?, genes.parse()?, stored.parse()?, 0);
    let names = |letter: char, n: usize| (0..n).map(|i| format!("{letter}{i}")).collect();
    let (obs, var) = (
        Table::new(names('c', counts.n_rows())),
        Table::new(names('g', counts.n_cols())),
    );
    let entries = counts.n_stored();
    let start = Instant::now();
    h5ad::write(file, &AnnData::new(counts, obs, var)?, &options(gzip))?;
    let bytes = std::fs::metadata(file)?.len();
    Ok(json!({"entries": entries, "bytes": bytes, "seconds": start.elapsed().as_secs_f64()}))
}

fn read(file: &str, times: usize) -> Result<Value> {
    timed(times, || Ok(h5ad::read(file)?.n_obs()))
}

fn write(file: &str, out: &str, gzip: u8, times: usize) -> Result<Value> {
    let cells = h5ad::read(file)?;
    let level = (gzip > 0).then_some(gzip);
    timed(times, || Ok(h5ad::write(out, &cells, &options(level))?))
}

fn rows(file: &str, rows: usize, times: usize) -> Result<Value> {
    let source = h5ad::read_backed(file, None)?;
    let mut stream = Rng::new(0).stream("rows");
    timed(times, || {
        let wanted: Vec<usize> = permutation(&mut stream, source.n_rows())
            .take(rows)
            .collect();
        Ok(source.read_rows(&wanted)?.n_stored())
    })
}

fn permutation(stream: &mut Stream, n: usize) -> impl Iterator<Item = usize> {
    stream.permutation(n).into_iter()
}

/// As training with `Shuffle::Blocks` reads.
fn epoch(file: &str, block: usize, blocks: usize) -> Result<Value> {
    let opening = Instant::now();
    let source = sc_io::ReadAhead::new(h5ad::read_backed(file, None)?);
    let opened = opening.elapsed().as_secs_f64();
    let start = Instant::now();
    let n = source.n_rows();
    let mut stream = Rng::new(0).stream("epoch");
    let order: Vec<usize> = permutation(&mut stream, n.div_ceil(block)).collect();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for runs in order.chunks(blocks) {
        let cells: Vec<usize> = runs
            .iter()
            .flat_map(|b| b * block..n.min((b + 1) * block))
            .collect();
        let shuffled = permutation(&mut stream, cells.len()).filter_map(|i| cells.get(i).copied());
        parts.push(shuffled.collect());
    }
    let (mut seen, mut entries) = (0, 0);
    for (k, cells) in parts.iter().enumerate() {
        if k == 0 {
            source.read_ahead(cells);
        }
        if let Some(next) = parts.get(k + 1) {
            source.read_ahead(next);
        }
        for minibatch in cells.chunks(MINIBATCH) {
            entries += source.read_rows(minibatch)?.n_stored();
            seen += minibatch.len();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({
        "cells": seen, "entries": entries, "opened": opened, "seconds": seconds,
        "cells_per_second": seen as f64 / seconds, "peak_mb": peak_mb(),
    }))
}

fn timed<T>(times: usize, mut run: impl FnMut() -> Result<T>) -> Result<Value> {
    let mut seconds = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        std::hint::black_box(run()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(json!({"seconds": seconds, "peak_mb": peak_mb()}))
}

/// The most memory that this process held.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kb = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kb.map_or(f64::NAN, |kb| kb * 1024.0 / 1e6)
}
