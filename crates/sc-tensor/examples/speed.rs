//! How long the operations of a training step take: `cargo run --release -p sc-tensor --example speed`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use rand::Rng as _;
use sc_data::Csr;
use sc_tensor::{DType, Device, Result, Rng, Tensor, Var, backward, ops};

// What a program that trains should do too: the system's allocator gives large blocks back and pays for each new page.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The shortest of several runs, in milliseconds.
fn best(mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

fn counts(n: usize, g: usize, density: f64) -> std::result::Result<Csr, sc_data::Error> {
    let mut stream = Rng::new(0).stream("counts");
    let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..n {
        for j in 0..g {
            if stream.random_bool(density) {
                indices.push(j as u32);
                data.push(stream.random_range(1..20) as f32);
            }
        }
        indptr.push(indices.len());
    }
    Csr::new(n, g, indptr, indices, data)
}

fn normal(name: &str, dims: (usize, usize)) -> Result<Tensor> {
    Rng::new(0)
        .stream(name)
        .normal(dims, DType::F32, &Device::Cpu)
}

fn sparse(g: usize, density: f64) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let csr = Arc::new(counts(128, g, density)?);
    let w = Var::from_tensor(&normal("w", (g, 128))?)?;
    let b = Var::from_tensor(&normal("b", (1, 128))?.squeeze(0)?)?;
    let prepare = best(|| {
        std::hint::black_box(ops::SparseInput::log1p(csr.clone()));
        Ok(())
    })?;
    let x = ops::SparseInput::log1p(csr.clone());
    let forward = best(|| ops::csr_linear(&x, &w, Some(&b), None).map(drop))?;
    let both = best(|| {
        let x = ops::SparseInput::log1p(csr.clone());
        let y = ops::csr_linear(&x, &w, Some(&b), None)?;
        backward(&y)?;
        Ok(())
    })?;
    println!(
        "csr_linear 128 x {g} ({:.0} %) x 128: log1p {prepare:.2} ms, forward {forward:.2} ms, with backward {both:.2} ms",
        100.0 * density
    );
    Ok(())
}

fn dense(n: usize, i: usize, o: usize) -> Result<()> {
    let x = Var::from_tensor(&normal("x", (n, i))?)?;
    let w = Var::from_tensor(&normal("w", (o, i))?)?;
    let b = Var::from_tensor(&normal("b", (1, o))?.squeeze(0)?)?;
    let flop = 2.0 * (n * i * o) as f64 / 1e6;
    let forward = best(|| ops::linear(&x, &w, Some(&b)).map(drop))?;
    let plain = best(|| Ok(x.matmul(&w.t()?).map(drop)?))?;
    let both = best(|| backward(&ops::linear(&x, &w, Some(&b))?).map(drop))?;
    println!(
        "linear {n} x {i} x {o}: matmul {plain:.2} ms ({:.0} GFLOP/s), forward {forward:.2} ms ({:.0}), with backward {both:.2} ms ({:.0})",
        flop / plain,
        flop / forward,
        3.0 * flop / both
    );
    Ok(())
}

fn rows(n: usize, h: usize) -> Result<()> {
    let x = Var::from_tensor(&normal("x", (n, h))?)?;
    let one = Tensor::ones(h, DType::F32, &Device::Cpu)?;
    let measure = |name: &str, f: &dyn Fn() -> Result<Tensor>| -> Result<()> {
        let forward = best(|| f().map(drop))?;
        let both = best(|| backward(&f()?).map(drop))?;
        println!("{name} {n} x {h}: forward {forward:.3} ms, with backward {both:.3} ms");
        Ok(())
    };
    measure("softmax", &|| ops::softmax(&x))?;
    measure("log_softmax", &|| ops::log_softmax(&x))?;
    measure("softplus", &|| ops::softplus(&x))?;
    measure("relu", &|| ops::relu(&x))?;
    measure("batch_norm", &|| {
        Ok(ops::batch_norm_train(&x, &one, &one, 1e-3)?.0)
    })?;
    measure("layer_norm", &|| {
        ops::layer_norm(&x, Some(&one), Some(&one), 1e-5)
    })?;
    measure("relu_dropout", &|| {
        ops::relu_dropout(&x, 0.1, &mut Rng::new(0).stream("d"))
    })?;
    measure("sum_rows", &|| ops::sum_rows(&x))?;
    measure("candle sum(0)", &|| Ok(x.sum(0)?))?;
    let draw = best(|| normal("n", (n, h)).map(drop))?;
    println!("normal {n} x {h}: {draw:.3} ms");
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    sparse(2000, 0.35)?;
    sparse(16000, 0.12)?;
    dense(128, 128, 128)?;
    dense(128, 128, 2000)?;
    dense(128, 128, 16000)?;
    rows(128, 128)?;
    rows(128, 16000)?;
    Ok(())
}
