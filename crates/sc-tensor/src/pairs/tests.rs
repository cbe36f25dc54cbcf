use super::*;
use crate::Rng;

/// `n` points of `dim` coordinates, a few units from the origin.
fn cloud(name: &str, n: usize, dim: usize) -> Vec<f64> {
    let mut x = vec![0.0; n * dim];
    Rng::new(3).stream(name).fill_normal(&mut x);
    // What f32 can hold, so that both precisions see the same points.
    x.iter().map(|v| f64::from((v + 2.0) as f32)).collect()
}

fn terms(name: &str, n: usize) -> Vec<f64> {
    let mut t = vec![0.0; n];
    Rng::new(4).stream(name).fill_uniform(-3.0, 1.0, &mut t);
    t
}

fn distance(x: &[f64], y: &[f64], cost: Cost) -> f64 {
    let square: f64 = x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum();
    match cost {
        Cost::HalfSquared => square / 2.0,
        Cost::Distance => square.max(1e-8).sqrt(),
    }
}

fn plain(x: &[f64], y: &[f64], dim: usize, cost: Cost, epsilon: f64, terms: &[f64]) -> Vec<f64> {
    let one = |x: &[f64]| {
        let e: Vec<f64> = y
            .chunks(dim)
            .zip(terms)
            .map(|(y, t)| t - distance(x, y, cost) / epsilon)
            .collect();
        let top = e.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + e.iter().map(|e| (e - top).exp()).sum::<f64>().ln()
    };
    x.chunks(dim).map(one).collect()
}

fn close(found: &[f64], expected: &[f64], tol: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tol * e.abs().max(1.0),
            "{what}, {i}: {f} is not {e}"
        );
    }
}

/// In both precisions.
fn packed(x: &[f64], dim: usize) -> [Points; 2] {
    let origin = vec![1.5; dim];
    let single: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    [
        Points::new(x, dim, &origin).unwrap(),
        Points::new(&single, dim, &origin).unwrap(),
    ]
}

const SIZES: [(usize, usize, usize); 6] = [
    (1, 1, 1),
    (5, 4, 2),
    (48, 48, 3),
    (130, 97, 5),
    (49, 300, 50),
    (301, 20, 17),
];
/// What is allowed in both precisions, for numbers of order 1: squared lengths over epsilon are known to some units in the
/// last place.
fn tolerances(x: &[f64], y: &[f64], dim: usize, epsilon: f64) -> [f64; 2] {
    let squares = x.chunks(dim).chain(y.chunks(dim));
    let squares = squares.map(|p| p.iter().map(|v| (v - 1.5) * (v - 1.5)).sum::<f64>());
    let scale = 1.0 + squares.fold(0.0, f64::max) / epsilon;
    [4e-14 * scale, 2e-6 * scale]
}

#[test]
fn log_sums_are_those_of_plain_loops() {
    for (n, m, dim) in SIZES {
        let (x, y) = (cloud("x", n, dim), cloud("y", m, dim));
        let (of_x, of_y) = (terms("x", n), terms("y", m));
        for (cost, epsilon) in [
            (Cost::HalfSquared, 0.01),
            (Cost::HalfSquared, 30.0),
            (Cost::Distance, 0.05),
            (Cost::Distance, 4.0),
        ] {
            let rows = plain(&x, &y, dim, cost, epsilon, &of_y);
            let columns = plain(&y, &x, dim, cost, epsilon, &of_x);
            let within = plain(&x, &x, dim, cost, epsilon, &of_x);
            for (tol, (x, y)) in tolerances(&x, &y, dim, epsilon)
                .iter()
                .zip(packed(&x, dim).iter().zip(&packed(&y, dim)))
            {
                let what = format!("{n} {m} {dim} {cost:?} {epsilon} {tol}");
                let one = log_sums(x, y, cost, epsilon, &of_y).unwrap();
                close(&one, &rows, *tol, &what);
                let two = log_sums_both(x, y, cost, epsilon, &of_x, &of_y).unwrap();
                assert_eq!(two.0, one, "{what}");
                close(&two.1, &columns, *tol, &what);
                let own = log_sums_within(x, cost, epsilon, &of_x).unwrap();
                close(&own, &within, *tol, &what);
            }
        }
    }
}

#[test]
fn terms_of_minus_infinity_count_nothing() {
    let (x, y) = (cloud("x", 60, 4), cloud("y", 50, 4));
    let (mut of_y, mut left) = (terms("y", 50), y.clone());
    of_y[7] = f64::NEG_INFINITY;
    left.drain(28..32);
    let mut rest = of_y.clone();
    rest.remove(7);
    let expected = plain(&x, &left, 4, Cost::HalfSquared, 0.3, &rest);
    for (tol, (x, y)) in tolerances(&x, &y, 4, 0.3)
        .iter()
        .zip(packed(&x, 4).iter().zip(&packed(&y, 4)))
    {
        let sums = log_sums(x, y, Cost::HalfSquared, 0.3, &of_y).unwrap();
        close(&sums, &expected, *tol, "without point 7");
    }
}

#[test]
fn gradients_and_sums_of_costs() {
    for (n, m, dim) in SIZES {
        let (x, y) = (cloud("x", n, dim), cloud("y", m, dim));
        let of_y = terms("y", m);
        for (cost, epsilon) in [(Cost::HalfSquared, 0.5), (Cost::Distance, 0.4)] {
            let logs = plain(&x, &y, dim, cost, epsilon, &of_y);
            let (mut softmax, mut each, mut costs) = (vec![], vec![], vec![]);
            for (x, log) in x.chunks(dim).zip(&logs) {
                let (mut s, mut e, mut c) = (vec![0.0; dim], vec![0.0; dim], 0.0);
                for (y, t) in y.chunks(dim).zip(&of_y) {
                    let d = distance(x, y, cost);
                    let w = (t - d / epsilon - log).exp();
                    let slope = if cost == Cost::Distance { 1.0 / d } else { 1.0 };
                    for k in 0..dim {
                        s[k] += w * slope * (x[k] - y[k]);
                        e[k] += t * slope * (x[k] - y[k]);
                    }
                    c += t * d;
                }
                softmax.extend(s);
                each.extend(e);
                costs.push(c);
            }
            for (tol, (x, y)) in [1e-10, 1e-3]
                .iter()
                .zip(packed(&x, dim).iter().zip(&packed(&y, dim)))
            {
                let what = format!("{n} {m} {dim} {cost:?} {tol}");
                let log_sums = log_sums(x, y, cost, epsilon, &of_y).unwrap();
                let weights = Weights::Softmax {
                    epsilon,
                    terms: &of_y,
                    log_sums: &log_sums,
                };
                close(
                    &cost_gradients(x, y, cost, weights).unwrap(),
                    &softmax,
                    *tol,
                    &what,
                );
                let g = cost_gradients(x, y, cost, Weights::Each(&of_y)).unwrap();
                close(&g, &each, *tol * 10.0, &what);
                close(&cost_sums(x, y, cost, &of_y).unwrap(), &costs, *tol, &what);
            }
        }
    }
}

#[test]
fn points_do_not_move_because_of_themselves() {
    let x = cloud("x", 70, 6);
    for x in packed(&x, 6) {
        let lonely = Points::new(&[1e3f64, -1e3], 2, &[0.0; 2]).unwrap();
        let weights = Weights::Each(&[1.0]);
        let g = cost_gradients(&lonely, &lonely, Cost::Distance, weights).unwrap();
        assert_eq!(g, [0.0, 0.0]);
        assert_eq!(
            cost_sums(&lonely, &lonely, Cost::Distance, &[1.0]).unwrap(),
            [0.0]
        );
        let all = cost_gradients(&x, &x, Cost::Distance, Weights::Each(&[1.0; 70])).unwrap();
        assert!(all.iter().all(|v| v.is_finite() && v.abs() <= 70.0));
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (x, y) = (cloud("x", 700, 10), cloud("y", 900, 10));
    let (of_x, of_y) = (terms("x", 700), terms("y", 900));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let (x, y) = (packed(&x, 10), packed(&y, 10));
            let both = log_sums_both(&x[1], &y[1], Cost::HalfSquared, 0.2, &of_x, &of_y).unwrap();
            let within = log_sums_within(&x[1], Cost::HalfSquared, 0.2, &of_x).unwrap();
            let weights = Weights::Softmax {
                epsilon: 0.2,
                terms: &of_y,
                log_sums: &both.0,
            };
            let g = cost_gradients(&x[1], &y[1], Cost::HalfSquared, weights).unwrap();
            (both, within, g)
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert_eq!(run(threads), one);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(Points::new::<f64>(&[], 2, &[0.0; 2]).is_err());
    assert!(Points::new(&[1.0f64; 3], 2, &[0.0; 2]).is_err());
    assert!(Points::new(&[1.0f64; 4], 0, &[]).is_err());
    assert!(Points::new(&[1.0f64; 4], 2, &[0.0]).is_err());
    assert!(Points::new(&[f64::NAN, 0.0], 2, &[0.0; 2]).is_err());
    assert!(Points::new(&[1e30f32, 0.0], 2, &[0.0; 2]).is_err());
    let x = Points::new(&[0.0f64; 4], 2, &[0.0; 2]).unwrap();
    let single = Points::new(&[0.0f32; 4], 2, &[0.0; 2]).unwrap();
    let flat = Points::new(&[0.0f64; 4], 1, &[0.0]).unwrap();
    let cost = Cost::HalfSquared;
    assert!(log_sums(&x, &x, cost, 0.0, &[0.0; 2]).is_err());
    assert!(log_sums(&x, &x, cost, f64::NAN, &[0.0; 2]).is_err());
    assert!(log_sums(&x, &x, cost, 1.0, &[0.0; 3]).is_err());
    assert!(log_sums(&x, &x, cost, 1.0, &[0.0, f64::NAN]).is_err());
    assert!(log_sums(&x, &single, cost, 1.0, &[0.0; 2]).is_err());
    assert!(log_sums(&x, &flat, cost, 1.0, &[0.0; 4]).is_err());
    assert!(log_sums_both(&x, &x, cost, 1.0, &[0.0; 1], &[0.0; 2]).is_err());
    assert!(log_sums_within(&x, cost, -1.0, &[0.0; 2]).is_err());
    assert!(cost_gradients(&x, &x, cost, Weights::Each(&[0.0])).is_err());
    assert!(cost_sums(&x, &flat, cost, &[0.0; 4]).is_err());
}
