//! The Sinkhorn divergence that the reference gradients are of, written down plainly for two small clouds.

use candle_core::{Device, Tensor};

const BLUR: f64 = 0.05;
const SCALING: f64 = 0.5;

fn rows(t: &Tensor) -> Vec<Vec<f64>> {
    t.to_vec2().unwrap()
}

fn cost(x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let half = |a: &[f64], b: &[f64]| {
        let square = |(a, b): (&f64, &f64)| (a - b) * (a - b);
        0.5 * a.iter().zip(b).map(square).sum::<f64>()
    };
    x.iter()
        .map(|a| y.iter().map(|b| half(a, b)).collect())
        .collect()
}

fn transposed(c: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let column = |j: usize| c.iter().map(|row| row[j]).collect();
    (0..c[0].len()).map(column).collect()
}

/// `-eps log sum_j exp(h_j - C_ij / eps)` with `h = -log n + potential / eps`.
fn softmin(eps: f64, c: &[Vec<f64>], potential: Option<&[f64]>) -> Vec<f64> {
    let of_row = |row: &Vec<f64>| {
        let log_weight = -(row.len() as f64).ln();
        let term = |j: usize| log_weight + (potential.map_or(0.0, |p| p[j]) - row[j]) / eps;
        let largest = (0..row.len()).map(term).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..row.len()).map(|j| (term(j) - largest).exp()).sum();
        -eps * (largest + sum.ln())
    };
    c.iter().map(of_row).collect()
}

fn schedule(x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<f64> {
    let spread = |k: usize| {
        let all = || x.iter().chain(y).map(|p| p[k]);
        all().fold(f64::NEG_INFINITY, f64::max) - all().fold(f64::INFINITY, f64::min)
    };
    let diameter = (0..x[0].len())
        .map(|k| spread(k).powi(2))
        .sum::<f64>()
        .sqrt();
    let (from, to, by) = (2.0 * diameter.ln(), 2.0 * BLUR.ln(), 2.0 * SCALING.ln());
    let n = ((to - from) / by).ceil() as usize;
    let between = (0..n).map(|k| (from + by * k as f64).exp());
    std::iter::once(diameter.powi(2))
        .chain(between)
        .chain([BLUR * BLUR])
        .collect()
}

fn average(a: &mut [f64], b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = 0.5 * (*a + b);
    }
}

/// The sum of weights of a row's partners times the way to them.
fn pull(eps: f64, c: &[f64], own: f64, other: &[f64], x: &[f64], y: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; x.len()];
    for ((c, g), y) in c.iter().zip(other).zip(y) {
        let plan = ((own + g - c) / eps).exp() / y_count(other);
        for (t, (x, y)) in total.iter_mut().zip(x.iter().zip(y)) {
            *t += plan * (x - y);
        }
    }
    total
}

fn y_count(other: &[f64]) -> f64 {
    other.len() as f64
}

/// The divergence of two clouds with uniform weights, and its gradient in the first.
pub(crate) fn divergence(x: &Tensor, y: &Tensor) -> (f64, Tensor) {
    let (x, y) = (rows(x), rows(y));
    let (c_xy, c_xx, c_yy) = (cost(&x, &y), cost(&x, &x), cost(&y, &y));
    let c_yx = transposed(&c_xy);
    let eps = schedule(&x, &y);
    let mut f_ba = softmin(eps[0], &c_xy, None);
    let mut g_ab = softmin(eps[0], &c_yx, None);
    let mut f_aa = softmin(eps[0], &c_xx, None);
    let mut g_bb = softmin(eps[0], &c_yy, None);
    for &e in &eps {
        let next = [
            softmin(e, &c_xy, Some(&g_ab)),
            softmin(e, &c_yx, Some(&f_ba)),
            softmin(e, &c_xx, Some(&f_aa)),
            softmin(e, &c_yy, Some(&g_bb)),
        ];
        for (old, new) in [&mut f_ba, &mut g_ab, &mut f_aa, &mut g_bb]
            .into_iter()
            .zip(&next)
        {
            average(old, new);
        }
    }
    let e = BLUR * BLUR;
    let f = softmin(e, &c_xy, Some(&g_ab));
    let g = softmin(e, &c_yx, Some(&f_ba));
    let faa = softmin(e, &c_xx, Some(&f_aa));
    let gbb = softmin(e, &c_yy, Some(&g_bb));
    let mean_of =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).sum::<f64>() / a.len() as f64;
    let n = x.len() as f64;
    let mut gradient = Vec::new();
    for i in 0..x.len() {
        let to_y = pull(e, &c_xy[i], f[i], &g_ab, &x[i], &y);
        let to_x = pull(e, &c_xx[i], faa[i], &f_aa, &x[i], &x);
        gradient.extend(to_y.iter().zip(&to_x).map(|(a, b)| (a - b) / n));
    }
    let shape = (x.len(), x[0].len());
    let gradient = Tensor::from_vec(gradient, shape, &Device::Cpu).unwrap();
    (mean_of(&f, &faa) + mean_of(&g, &gbb), gradient)
}
