use std::sync::Arc;
use std::time::Instant;
use sc_data::Csr;
use super::super::*;
use crate::{DType, Device, Tensor, Var, math};

pub fn counts(n: usize, g: usize, density: f64, seed: u64) -> Arc<Csr> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || { s ^= s << 13; s ^= s >> 7; s ^= s << 17; (s >> 11) as f64 / (1u64 << 53) as f64 };
    let mut d = ndarray::Array2::<f32>::zeros((n, g));
    for v in d.iter_mut() { if next() < density { *v = (1.0 + (-next().max(1e-9).ln() * 1.5).powf(1.5)).floor() as f32; } }
    Arc::new(Csr::from_dense(&d))
}
fn best(reps: usize, mut f: impl FnMut()) -> f64 {
    let mut b = f64::INFINITY;
    let mut all = vec![];
    for _ in 0..reps { let t = Instant::now(); f(); let e = t.elapsed().as_secs_f64(); all.push(e); b = b.min(e); }
    all.sort_by(f64::total_cmp);
    println!("   best {:.3} ms median {:.3} ms", b*1e3, all[all.len()/2]*1e3);
    b
}
#[test]
#[ignore]
fn time_math() {
    let n = 4096;
    let base: Vec<f32> = (0..n).map(|i| (i as f32) / 200.0 + 0.01).collect();
    let base64: Vec<f64> = base.iter().map(|&v| f64::from(v)).collect();
    macro_rules! go { ($name:expr, $f:expr, $base:expr) => {{
        let mut v = $base.clone();
        let t = Instant::now();
        for _ in 0..2000 { v.copy_from_slice(&$base); $f(&mut v); std::hint::black_box(&v); }
        println!("{}: {:.3} ns", $name, t.elapsed().as_secs_f64() / 2000.0 / n as f64 * 1e9);
    }}; }
    go!("exp32", math::exp::<f32>, base); go!("ln32", math::ln::<f32>, base); go!("ln1p32", math::ln_1p::<f32>, base);
    go!("softplus32", math::softplus::<f32>, base); go!("sigmoid32", math::sigmoid::<f32>, base); go!("lgamma32", math::lgamma::<f32>, base);
    go!("exp64", math::exp::<f64>, base64); go!("ln64", math::ln::<f64>, base64); go!("lgamma64", math::lgamma::<f64>, base64); go!("digamma64", math::digamma::<f64>, base64);
}
#[test]
#[ignore]
fn time_likelihood() {
    for (n, g, density) in [(128, 2000, 0.35), (128, 16000, 0.12)] {
        let x = counts(n, g, density, 3);
        let f = |seed: u64, scale: f32| {
            let mut s = seed | 1;
            let v: Vec<f32> = (0..n * g).map(|_| { s ^= s << 13; s ^= s >> 7; s ^= s << 17; ((s >> 40) as f32 / 16777216.0 - 0.5) * scale }).collect();
            v
        };
        let logits = Var::from_vec(f(5, 6.0), (n, g), &Device::Cpu).unwrap();
        let p = Var::from_vec(f(7, 6.0), (n, g), &Device::Cpu).unwrap();
        let log_theta = Var::from_vec(f(9, 3.0)[..g].to_vec(), g, &Device::Cpu).unwrap();
        let lib: Vec<f32> = x.row_sums().iter().map(|&v| v.ln() as f32).collect();
        let lib = Tensor::from_vec(lib, n, &Device::Cpu).unwrap();
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                for (name, family) in [("zinb", Family::ZeroInflatedNegativeBinomial), ("nb", Family::NegativeBinomial), ("poisson", Family::Poisson)] {
                    let mean = Mean::Softmax { logits: &logits, log_library: &lib };
                    let d = Dispersion::shared(&log_theta);
                    let d = family.has_dispersion().then_some(&d);
                    let drop: Option<&Tensor> = if family.has_dropout() { Some(&p) } else { None };
                    println!("{name} {n}x{g} threads {threads}: forward with gradients");
                    best(40, || { std::hint::black_box(log_prob(family, &x, &mean, d, drop).unwrap()); });
                    println!("   + backward by candle");
                    best(40, || { let l = log_prob(family, &x, &mean, d, drop).unwrap().mean_all().unwrap(); std::hint::black_box(l.backward().unwrap()); });
                    let (ld, pd, td) = (logits.as_detached_tensor(), p.as_detached_tensor(), log_theta.as_detached_tensor());
                    let mean = Mean::Softmax { logits: &ld, log_library: &lib };
                    let dd = Dispersion::shared(&td);
                    let dd = family.has_dispersion().then_some(&dd);
                    println!("   forward only");
                    best(40, || { std::hint::black_box(log_prob(family, &x, &mean, dd, family.has_dropout().then_some(&pd)).unwrap()); });
                }
            });
        }
    }
    let _ = DType::F32;
}
