use ndarray::{Array1, Array2, array};
use proptest::prelude::*;
use sc_tensor::Rng;

use super::*;

fn random(name: &str, n: usize, m: usize) -> Array2<f64> {
    let mut v = vec![0.0; n * m];
    Rng::new(9).stream(name).fill_uniform(0.0, 1.0, &mut v);
    Array2::from_shape_vec((n, m), v).unwrap()
}

/// The dual potentials are feasible, and reach the cost of the plan, whose sums are right: it is optimal.
fn is_optimal(plan: &Plan, cost: &Array2<f64>, a: &[f64], b: &[f64]) {
    let (u, v) = plan.potentials();
    for ((i, j), c) in cost.indexed_iter() {
        assert!(u[i] + v[j] <= c + 1e-9, "pair {i} {j}");
    }
    let dual: f64 = a.iter().zip(u).map(|(a, u)| a * u).sum::<f64>()
        + b.iter().zip(v).map(|(b, v)| b * v).sum::<f64>();
    assert!((dual - plan.cost()).abs() < 1e-9, "{dual} {}", plan.cost());
    let dense = plan.to_dense();
    for (i, a) in a.iter().enumerate() {
        assert!((dense.row(i).sum() - a).abs() < 1e-12);
    }
    for (j, b) in b.iter().enumerate() {
        assert!((dense.column(j).sum() - b).abs() < 1e-12);
    }
    assert!(dense.iter().all(|&v| v >= 0.0));
}

#[test]
fn all_assignments_of_five() {
    let cost = random("five", 5, 5);
    let found = assignment(cost.view()).unwrap();
    let total = |p: &[usize]| -> f64 { p.iter().enumerate().map(|(i, &j)| cost[(i, j)]).sum() };
    // All orders, by Heap's algorithm.
    let (mut p, mut c, mut least) = ([0, 1, 2, 3, 4], [0usize; 5], f64::INFINITY);
    least = least.min(total(&p));
    let mut i = 0;
    while i < 5 {
        if c[i] < i {
            p.swap(if i % 2 == 0 { 0 } else { c[i] }, i);
            least = least.min(total(&p));
            c[i] += 1;
            i = 0;
        } else {
            c[i] = 0;
            i += 1;
        }
    }
    assert!((total(&found) - least).abs() < 1e-12);
}

#[test]
fn more_columns_than_rows() {
    let cost = array![[1.0, 5.0, 0.5], [0.1, 5.0, 0.2]];
    assert_eq!(assignment(cost.view()).unwrap(), [2, 0]);
    assert!(assignment(cost.t()).is_err());
}

proptest! {
    #[test]
    fn plans_are_optimal(n in 1usize..14, m in 1usize..14, seed in 0u64..1000, ties in any::<bool>()) {
        let stream = Rng::new(seed).stream("plan");
        let draw = |k: u64, len: usize| {
            let mut v = vec![0.0f64; len];
            stream.at(&[k]).fill_uniform(0.0, 1.0, &mut v);
            v
        };
        let mut cost = Array2::from_shape_vec((n, m), draw(0, n * m)).unwrap();
        if ties {
            cost.mapv_inplace(|v| (v * 3.0).floor());
        }
        let normal = |v: Vec<f64>| {
            let s: f64 = v.iter().sum();
            v.iter().map(|x| x / s).collect::<Vec<f64>>()
        };
        let (mut a, b) = (draw(1, n), normal(draw(2, m)));
        if n > 1 {
            a[0] = 0.0;
        }
        let a = normal(a);
        let plan = Plan::optimal(cost.view(), &a, &b).unwrap();
        is_optimal(&plan, &cost, &a, &b);
    }
}

#[test]
fn uniform_weights_of_different_sizes() {
    let cost = random("uniform", 40, 56);
    let (a, b) = (vec![1.0 / 40.0; 40], vec![1.0 / 56.0; 56]);
    is_optimal(&Plan::optimal(cost.view(), &a, &b).unwrap(), &cost, &a, &b);
    let square = random("square", 60, 60);
    let a = vec![1.0 / 60.0; 60];
    let plan = Plan::optimal(square.view(), &a, &a).unwrap();
    is_optimal(&plan, &square, &a, &a);
    let columns: Vec<usize> = plan.entries().iter().map(|e| e.1).collect();
    assert_eq!(columns, assignment(square.view()).unwrap());
}

#[test]
fn hundreds_of_weighted_points() {
    for (n, m) in [(400, 300), (150, 900)] {
        let x = random("weighted x", n, 3);
        let y = random("weighted y", m, 3);
        let weights = |name: &str, n: usize| {
            let w = random(name, 1, n).mapv(|v| if v < 0.1 { 0.0 } else { v });
            (&w / w.sum()).into_raw_vec_and_offset().0
        };
        let (a, b) = (weights("a", n), weights("b", m));
        let cost = Array2::from_shape_fn((n, m), |(i, j)| {
            let difference = &x.row(i) - &y.row(j);
            difference.dot(&difference)
        });
        is_optimal(&Plan::optimal(cost.view(), &a, &b).unwrap(), &cost, &a, &b);
        // The same costs in another order of memory.
        let turned = Plan::optimal(cost.t(), &b, &a).unwrap();
        is_optimal(&turned, &cost.t().to_owned(), &b, &a);
    }
}

/// Thirds of a row's mass fill columns up to rounding, which must not take paths of its own.
#[test]
fn rounding_leaves_nothing_to_send() {
    let (n, m) = (200, 600);
    let cost = random("thirds", n, m);
    let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
    let plan = Plan::optimal(cost.view(), &a, &b).unwrap();
    is_optimal(&plan, &cost, &a, &b);
    // A plan at a corner of the polytope has so many entries at most.
    assert!(plan.entries().len() < n + m);
}

#[test]
fn on_a_line_sorted_points_are_matched() {
    let x = random("x", 30, 1);
    let y = random("y", 30, 1) + 0.3;
    let sorted = |v: &Array2<f64>| {
        let mut v: Vec<f64> = v.iter().copied().collect();
        v.sort_by(f64::total_cmp);
        Array1::from(v)
    };
    let difference = sorted(&x) - sorted(&y);
    let (cx, cy) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
    let w2 = difference.mapv(|d| d * d).mean().unwrap().sqrt();
    assert!((wasserstein(&cx, &cy, 2).unwrap() - w2).abs() < 1e-12);
    let w1 = difference.mapv(f64::abs).mean().unwrap();
    assert!((wasserstein(&cx, &cy, 1).unwrap() - w1).abs() < 1e-12);
    assert_eq!(wasserstein(&cx, &cx, 2).unwrap(), 0.0);
}

#[test]
fn bad_input() {
    let cost = random("bad", 2, 3);
    let (a, b) = ([0.5, 0.5], [0.2, 0.3, 0.5]);
    assert!(Plan::optimal(cost.view(), &a, &a).is_err());
    assert!(Plan::optimal(cost.view(), &[0.5, -0.5], &b).is_err());
    assert!(Plan::optimal(cost.view(), &[0.0, 0.0], &b).is_err());
    let e = Plan::optimal(cost.view(), &[0.5, 0.6], &b).unwrap_err();
    assert!(e.to_string().contains("equal masses"), "{e}");
    let nan = array![[0.0, f64::NAN]];
    assert!(assignment(nan.view()).is_err());
    assert!(assignment(Array2::zeros((0, 0)).view()).is_err());
    let x = array![[0.0, 1.0]];
    let y = array![[0.0]];
    let (x, y) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
    assert!(wasserstein(&x, &y, 2).is_err());
    assert!(wasserstein(&x, &x, 3).is_err());
}
