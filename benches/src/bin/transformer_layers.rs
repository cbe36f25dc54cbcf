//! Times the encoders of scGPT (12 layers, 512 wide, 8 heads, 1,200 tokens) and scBERT (6 layers of FAVOR+ attention, 200
//! wide, 10 heads of 64, 16,907 tokens), with random weights, in f32: `transformer_layers WHAT REPEATS [DROPOUT]`, with WHAT
//! one of `infer`, `train`, `mixed`, `mixed-train`, `favor`, `attention`, `linear`, `peak`, `shapes`. Prints one line of JSON: the seconds of
//! each repeat after a warm-up, and the GFLOP of one; `shapes` a table of the products of linear layers beside candle's. `benches/peers/transformer.py` runs this beside PyTorch.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use sc_tensor::ops::{self, Keys, Segments, Stabiliser};
use sc_tensor::{DType, Device, Rng, Stream, Tensor, Var, backward, recycle};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LENGTHS: [usize; 8] = [300, 1200, 450, 700, 250, 950, 600, 380];

/// A linear layer.
struct Linear(Var, Option<Var>);

impl Linear {
    fn new(stream: &mut Stream, i: usize, o: usize, bias: bool) -> Result<Self> {
        let scale = (1.0 / i as f64).sqrt();
        let w = stream.uniform(-scale, scale, (o, i), DType::F32, &Device::Cpu)?;
        let b = match bias {
            true => Some(Var::zeros(o, DType::F32, &Device::Cpu)?),
            false => None,
        };
        Ok(Self(Var::from_tensor(&w)?, b))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let w = get(&self.0, train);
        let b = self.1.as_ref().map(|b| get(b, train));
        Ok(ops::linear(x, &w, b.as_ref())?)
    }
}

fn get(v: &Var, train: bool) -> Tensor {
    if train {
        v.as_tensor().clone()
    } else {
        v.detach()
    }
}

struct Norm(Var, Var);

impl Norm {
    fn new(width: usize) -> Result<Self> {
        Ok(Self(
            Var::ones(width, DType::F32, &Device::Cpu)?,
            Var::zeros(width, DType::F32, &Device::Cpu)?,
        ))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (weight, bias) = (get(&self.0, train), get(&self.1, train));
        Ok(ops::layer_norm(x, Some(&weight), Some(&bias), 1e-5)?)
    }

    /// Of a residual sum.
    fn of_sum(
        &self,
        x: &Tensor,
        branch: &Tensor,
        dropout: Option<(f64, &mut Stream)>,
        train: bool,
    ) -> Result<Tensor> {
        let (weight, bias) = (get(&self.0, train), get(&self.1, train));
        Ok(ops::add_layer_norm(
            x,
            branch,
            dropout,
            Some(&weight),
            Some(&bias),
            1e-5,
        )?)
    }
}

/// A layer with the norm after the residual.
struct Layer {
    qkv: Linear,
    out: Linear,
    first: Linear,
    second: Linear,
    norms: [Norm; 2],
}

const WIDTH: usize = 512;
const HEADS: usize = 8;
const LAYERS: usize = 12;

impl Layer {
    fn new(stream: &mut Stream) -> Result<Self> {
        Ok(Self {
            qkv: Linear::new(stream, WIDTH, 3 * WIDTH, true)?,
            out: Linear::new(stream, WIDTH, WIDTH, true)?,
            first: Linear::new(stream, WIDTH, WIDTH, true)?,
            second: Linear::new(stream, WIDTH, WIDTH, true)?,
            norms: [Norm::new(WIDTH)?, Norm::new(WIDTH)?],
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        cells: &Segments,
        drop: Option<(f64, &Stream)>,
    ) -> Result<Tensor> {
        let train = drop.is_some();
        let p = drop.map_or(0.0, |(p, _)| p);
        let stream = |at: u64| drop.map(|(_, stream)| stream.at(&[at]));
        let (mut first, mut second, mut third) = (stream(1), stream(2), stream(3));
        let qkv = self.qkv.forward(x, train)?;
        let y = ops::attention(&qkv, HEADS, cells, Keys::Only, drop)?;
        let y = self.out.forward(&y, train)?;
        let x = self.norms[0].of_sum(x, &y, first.as_mut().map(|s| (p, s)), train)?;
        let (w, b) = (&self.first.0, self.first.1.as_ref());
        let b = b.map(|b| get(b, train));
        let dropout = second.as_mut().map(|s| (p, s));
        let h = ops::linear_relu(&x, &get(w, train), b.as_ref(), dropout)?;
        let y = self.second.forward(&h, train)?;
        self.norms[1].of_sum(&x, &y, third.as_mut().map(|s| (p, s)), train)
    }
}

/// A layer of scBERT's Performer.
struct Performer {
    qkv: [Linear; 3],
    out: Linear,
    first: Linear,
    second: Linear,
    norms: [Norm; 2],
    projection: Tensor,
}

impl Performer {
    fn new(stream: &mut Stream) -> Result<Self> {
        let mut qkv = || Linear::new(stream, 200, 640, false);
        let qkv = [qkv()?, qkv()?, qkv()?];
        Ok(Self {
            qkv,
            out: Linear::new(stream, 640, 200, true)?,
            first: Linear::new(stream, 200, 800, true)?,
            second: Linear::new(stream, 800, 200, true)?,
            norms: [Norm::new(200)?, Norm::new(200)?],
            projection: stream.normal((266, 64), DType::F32, &Device::Cpu)?,
        })
    }

    fn forward(&self, x: &Tensor, cells: &Segments) -> Result<Tensor> {
        let h = self.norms[0].forward(x, false)?;
        let [q, k, v] = [0, 1, 2].map(|i| self.qkv[i].forward(&h, false));
        let y = ops::favor_attention(
            &q?,
            &k?,
            &v?,
            &self.projection,
            10,
            cells,
            Stabiliser::PerSequence,
        )?;
        let x = (x + self.out.forward(&y, false)?)?;
        let h = self.norms[1].forward(&x, false)?;
        let h = ops::gelu(&self.first.forward(&h, false)?)?;
        Ok((&x + self.second.forward(&h, false)?)?)
    }
}

/// Seconds of `f` after one warm-up.
fn seconds(repeats: usize, mut f: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    f()?;
    (0..repeats)
        .map(|_| {
            let start = Instant::now();
            f()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

/// GFLOP of the forward pass of scGPT's encoder. A step of training is counted as three of these, as is usual; with the
/// scores of attention computed twice it is 3.2 of them for a cell of 1,200 tokens.
fn work(lengths: &[usize]) -> f64 {
    let layer = |n: f64| 2.0 * n * 512.0 * 512.0 * 6.0 + 4.0 * n * n * 512.0;
    lengths
        .iter()
        .map(|&n| LAYERS as f64 * layer(n as f64))
        .sum::<f64>()
        / 1e9
}

fn scgpt(lengths: &[usize], train: Option<f64>, repeats: usize) -> Result<(Vec<f64>, f64)> {
    let rng = Rng::new(0);
    let cells = Segments::new(lengths.iter().copied())?;
    let mut stream = rng.stream("weights");
    let layers = (0..LAYERS)
        .map(|_| Layer::new(&mut stream))
        .collect::<Result<Vec<_>>>()?;
    let x = rng
        .stream("x")
        .normal((cells.rows(), WIDTH), DType::F32, &Device::Cpu)?;
    let times = seconds(repeats, || {
        let mut y = x.clone();
        for (l, layer) in layers.iter().enumerate() {
            let stream = rng.stream("dropout").at(&[l as u64]);
            y = layer.forward(&y, &cells, train.map(|p| (p, &stream)))?;
        }
        if train.is_some() {
            recycle(backward(&y.sqr()?.mean_all()?)?);
        }
        Ok(())
    })?;
    Ok((
        times,
        work(lengths) * if train.is_some() { 3.0 } else { 1.0 },
    ))
}

fn favor(repeats: usize) -> Result<(Vec<f64>, f64)> {
    let rng = Rng::new(0);
    let cells = Segments::new([16_907])?;
    let mut stream = rng.stream("weights");
    let layers = (0..6)
        .map(|_| Performer::new(&mut stream))
        .collect::<Result<Vec<_>>>()?;
    let x = rng
        .stream("x")
        .normal((cells.rows(), 200), DType::F32, &Device::Cpu)?;
    let times = seconds(repeats, || {
        let mut y = x.clone();
        for layer in &layers {
            y = layer.forward(&y, &cells)?;
        }
        Ok(())
    })?;
    let per_token = 2.0 * (200.0 * 640.0 * 4.0 + 2.0 * 200.0 * 800.0) + 10.0 * 8.0 * 266.0 * 64.0;
    Ok((times, 6.0 * 16_907.0 * per_token / 1e9))
}

/// Attention alone, forward and, with dropout given, back.
fn attention(train: Option<f64>, repeats: usize) -> Result<(Vec<f64>, f64)> {
    let cells = Segments::new([1200])?;
    let stream = Rng::new(0).stream("dropout");
    let x = Rng::new(0)
        .stream("x")
        .normal((1200, 3 * WIDTH), DType::F32, &Device::Cpu)?;
    let x = Var::from_tensor(&x)?;
    let times = seconds(repeats, || {
        let y = ops::attention(
            &get(&x, train.is_some()),
            HEADS,
            &cells,
            Keys::Only,
            train.map(|p| (p, &stream)),
        )?;
        if train.is_some() {
            recycle(backward(&y.sum_all()?)?);
        }
        Ok(())
    })?;
    Ok((
        times,
        4.0 * 1200f64.powi(2) * 512.0 / 1e9 * if train.is_some() { 3.5 } else { 1.0 },
    ))
}

/// A large product: what the machine can do.
fn peak(repeats: usize) -> Result<(Vec<f64>, f64)> {
    const SIDE: usize = 2048;
    let layer = Linear::new(&mut Rng::new(0).stream("w"), SIDE, SIDE, false)?;
    let x = Rng::new(0)
        .stream("x")
        .normal((SIDE, SIDE), DType::F32, &Device::Cpu)?;
    let times = seconds(repeats, || layer.forward(&x, false).map(drop))?;
    Ok((times, 2.0 * (SIDE as f64).powi(3) / 1e9))
}

fn linear(train: bool, repeats: usize) -> Result<(Vec<f64>, f64)> {
    let layer = Linear::new(&mut Rng::new(0).stream("w"), WIDTH, 3 * WIDTH, true)?;
    let x = Rng::new(0)
        .stream("x")
        .normal((1200, WIDTH), DType::F32, &Device::Cpu)?;
    let x = Var::from_tensor(&x)?;
    let times = seconds(repeats, || {
        let y = layer.forward(&get(&x, train), train)?;
        if train {
            recycle(backward(&y.sum_all()?)?);
        }
        Ok(())
    })?;
    Ok((
        times,
        2.0 * 1200.0 * 512.0 * 1536.0 / 1e9 * if train { 3.0 } else { 1.0 },
    ))
}

/// GFLOP/s of `ops::linear` and of candle's product, and how long the gradients take, at some shapes.
fn shapes(repeats: usize) -> Result<()> {
    println!(
        "rows inputs outputs: GFLOP/s of ops::linear, of candle, and of ops::linear forward and backward"
    );
    let all = [
        (2048, 2048, 2048),
        (1200, 512, 1536),
        (1200, 512, 512),
        (16_907, 200, 640),
        (16_907, 640, 200),
        (16_907, 800, 200),
        (64, 512, 512),
        (1, 512, 512),
        (128, 128, 128),
        (128, 128, 2000),
        (128, 128, 16_000),
    ];
    for (n, i, o) in all {
        let layer = Linear::new(&mut Rng::new(0).stream("w"), i, o, false)?;
        let x = Rng::new(0)
            .stream("x")
            .normal((n, i), DType::F32, &Device::Cpu)?;
        let gflop = 2.0 * (n * i * o) as f64 / 1e9;
        // About a tenth of a second at a time.
        let inner = ((10.0 / gflop) as usize).clamp(1, 1000);
        let rate = |f: &dyn Fn() -> Result<()>| -> Result<f64> {
            let times = seconds(repeats, || (0..inner).try_for_each(|_| f()))?;
            Ok(gflop * inner as f64 / times.iter().copied().fold(f64::INFINITY, f64::min))
        };
        let ours = rate(&|| layer.forward(&x, false).map(drop))?;
        let w = layer.0.detach();
        let candles = rate(&|| {
            x.matmul(&w.t()?)?;
            Ok(())
        })?;
        let x = Var::from_tensor(&x)?;
        let both = rate(&|| {
            recycle(backward(&layer.forward(x.as_tensor(), true)?.sum_all()?)?);
            Ok(())
        })?;
        println!(
            "{n:6} {i:5} {o:6}: {ours:6.0} {candles:6.0} {:6.0}",
            3.0 * both
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let what = args.first().map_or("infer", String::as_str);
    let repeats = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let dropout = args.get(2).and_then(|a| a.parse().ok());
    if what == "shapes" {
        return shapes(repeats);
    }
    let (times, gflop) = match what {
        "infer" => scgpt(&[1200], None, repeats)?,
        "train" => scgpt(&[1200], Some(dropout.unwrap_or(0.0)), repeats)?,
        "mixed" => scgpt(&LENGTHS, None, repeats)?,
        "mixed-train" => scgpt(&LENGTHS, Some(dropout.unwrap_or(0.0)), repeats)?,
        "favor" => favor(repeats)?,
        "attention" => attention(dropout, repeats)?,
        "linear" => linear(dropout.is_some(), repeats)?,
        "peak" => peak(repeats)?,
        other => return Err(format!("{other} is not known").into()),
    };
    let best = times.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "{{\"what\": \"{what}\", \"seconds\": {times:?}, \"gflop\": {gflop:.1}, \"gflops\": {:.1}}}",
        gflop / best
    );
    Ok(())
}
