//! Times the Sinkhorn divergence and its gradient: `sinkhorn X.f32 Y.f32 DIM BLUR SCALING REPEATS`, with files of raw
//! little-endian numbers, points one after the other. Prints one line of JSON: the seconds of each repeat after a warm-up,
//! the value and the norm of the gradient by the first cloud, and the MB by which the process grows at most.
//! `benches/peers/sinkhorn.py` runs this beside geomloss.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use sc_sde::transport::Sinkhorn;
use sc_tensor::{Device, Tensor, Var, backward};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn points(path: &str, dim: usize) -> Result<Tensor> {
    let bytes = std::fs::read(path)?;
    let numbers: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let n = numbers.len() / dim;
    Ok(Tensor::from_vec(numbers, (n, dim), &Device::Cpu)?)
}

/// Peak memory in MB, where the system says so.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024.0 / 1e6)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [x, y, dim, blur, scaling, repeats] = &args[..] else {
        return Err("sinkhorn X.f32 Y.f32 DIM BLUR SCALING REPEATS".into());
    };
    let dim = dim.parse()?;
    let (x, y) = (Var::from_tensor(&points(x, dim)?)?, points(y, dim)?);
    let sinkhorn = Sinkhorn::params()
        .blur(blur.parse()?)
        .scaling(scaling.parse()?)
        .check()?;
    // What a process has once, whatever the clouds: its threads, the allocator's first pages.
    let small = Var::from_tensor(&x.narrow(0, 0, x.dim(0)?.min(8))?.contiguous()?)?;
    backward(&sinkhorn.loss(&small, &y.narrow(0, 0, y.dim(0)?.min(8))?.contiguous()?)?)?;
    let before = peak_mb();
    let mut seconds = Vec::new();
    let (mut value, mut norm) = (0.0, 0.0);
    for _ in 0..=repeats.parse::<usize>()? {
        let start = Instant::now();
        let loss = sinkhorn.loss(&x, &y)?;
        let grads = backward(&loss)?;
        seconds.push(start.elapsed().as_secs_f64());
        value = loss.to_scalar::<f32>()?;
        let gradient = grads.get(&x).ok_or("no gradient")?;
        norm = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
    }
    println!(
        "{{\"seconds\": {:?}, \"value\": {value}, \"gradient_norm\": {norm}, \"peak_mb\": {:.1}}}",
        &seconds[1..],
        peak_mb()
            .zip(before)
            .map_or(f64::NAN, |(after, before)| after - before),
    );
    Ok(())
}
