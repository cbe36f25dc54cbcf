//! Numbers that geomloss gave for clouds of sines and cosines, which need no file.

use ndarray::{Array1, array};
use sc_model::Parity;

use super::*;

/// geomloss' numbers: small (5 and 4 points in 2-D) or large (32 and 24 in 5-D), blur, scaling, p, even weights, debiased;
/// value, norm of the gradient, and its first two numbers.
type Row = (bool, f64, f64, u32, bool, bool, [f64; 4]);
#[rustfmt::skip]
const REFERENCE: [Row; 18] = [
    (true, 0.05, 0.5, 2, true, true, [0.298557770121, 0.379527401659, -0.299999999971, -0.011610356465]),
    (true, 0.05, 0.5, 2, true, false, [0.302302435463, 0.379527401659, -0.299999999971, -0.011610356465]),
    (true, 0.05, 0.5, 2, false, true, [0.388479073030, 0.499406473669, -0.418841558340, -0.016207128381]),
    (true, 0.1, 0.7, 2, true, true, [0.301584928593, 0.379064528519, -0.299480672152, -0.009694368415]),
    (true, 0.1, 0.7, 2, false, true, [0.394217132718, 0.494471458001, -0.413265494982, 0.004363815717]),
    (true, 0.1, 0.7, 2, false, false, [0.408573821018, 0.494471458778, -0.413265495134, 0.004363815730]),
    (true, 0.1, 0.9, 2, true, true, [0.312145433508, 0.375382134522, -0.294903157722, 0.007187612329]),
    (true, 1.0, 0.5, 2, true, true, [0.193558548505, 0.272330040735, -0.145448500251, 0.033467833826]),
    (true, 1.0, 0.5, 2, true, false, [0.594917134093, 0.381708146518, -0.235801571450, 0.108633118217]),
    (false, 0.05, 0.5, 2, true, true, [0.647449800918, 0.197544580995, -0.030855976874, -0.013096933074]),
    (false, 0.05, 0.5, 2, true, false, [0.654466198988, 0.197207680791, -0.031375890587, -0.013227410382]),
    (false, 0.05, 0.5, 2, false, true, [0.688510422018, 0.217362331782, -0.048193163012, -0.018644286636]),
    (false, 0.1, 0.7, 2, true, true, [0.649515272045, 0.196510965314, -0.031561558659, -0.013068622042]),
    (false, 0.1, 0.7, 2, false, true, [0.697915482099, 0.218667629373, -0.046673163206, -0.018403497295]),
    (false, 0.1, 0.9, 2, true, true, [0.653491445987, 0.198699404115, -0.026623364678, -0.011916881726]),
    (false, 1.0, 0.5, 2, true, true, [0.515791743229, 0.168608540054, -0.029460299379, -0.009768695619]),
    (true, 0.05, 0.5, 1, true, true, [0.674685324481, 0.432607917646, -0.198336595045, 0.002178083036]),
    (false, 0.05, 0.5, 1, true, true, [1.031659386328, 0.180658532628, -0.012901589583, -0.006208483556]),
];

#[test]
fn values_and_gradients_of_geomloss() {
    for (small, blur, scaling, p, even, debias, expected) in REFERENCE {
        let (x, y) = if small {
            reference(5, 4, 2)
        } else {
            reference(32, 24, 5)
        };
        let params = Sinkhorn::params()
            .blur(blur)
            .scaling(scaling)
            .p(p)
            .debias(debias);
        let what = format!("{small} {params:?} {even}");
        let s = solve(params.clone(), &x, &y, even);
        let g = s.gradient_x().unwrap();
        let found = [s.value(), norm(&g), g[(0, 0)], g[(0, 1)]];
        for (f, e) in found.iter().zip(expected) {
            near(*f, e, 2e-10, &what);
        }
        // In single precision.
        let (x, y) = (x.mapv(|v| v as f32), y.mapv(|v| v as f32));
        let (mut cx, mut cy) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
        if !even {
            cx = cx.with_weights(uneven(x.nrows()).view()).unwrap();
            cy = cy.with_weights(uneven(y.nrows()).view()).unwrap();
        }
        let s = params.check().unwrap().solve(&cx, &cy).unwrap();
        near(s.value(), expected[0], 2e-5 * expected[0].max(1.0), &what);
        near(norm(&s.gradient_x().unwrap()), expected[1], 2e-4, &what);
    }
}

#[test]
fn zero_weights_of_geomloss() {
    let (x, y) = reference(5, 4, 2);
    let a = array![0.0, 0.25, 0.25, 0.25, 0.25];
    let cx = Cloud::new(x.view())
        .unwrap()
        .with_weights(a.view())
        .unwrap();
    let cy = Cloud::new(y.view()).unwrap();
    let s = Sinkhorn::params().check().unwrap().solve(&cx, &cy).unwrap();
    near(s.value(), 0.168457025781, 1e-10, "value");
    let g = s.gradient_x().unwrap();
    near(norm(&g), 0.290221489379, 1e-10, "gradient");
    assert_eq!((g[(0, 0)], g[(0, 1)]), (0.0, 0.0));
}

#[test]
fn unbalanced_numbers_of_geomloss() {
    let (x, y) = reference(5, 4, 2);
    let cx = Cloud::new(x.view()).unwrap();
    let b = Array1::from_elem(4, 0.5);
    let cy = Cloud::new(y.view())
        .unwrap()
        .with_weights(b.view())
        .unwrap();
    for (reach, debiased, biased, gradient) in [
        (0.5, 0.278277118257, 0.281987752676, 0.202582329165),
        (1.0, 0.535563674230, 0.539299913995, 0.347940987848),
        (5.0, 2.922326289841, 2.926070619251, 0.420994262490),
    ] {
        let params = Sinkhorn::params().reach(reach).parity(Parity::Upstream);
        let s = params.clone().check().unwrap().solve(&cx, &cy).unwrap();
        near(s.value(), debiased, 1e-9, "debiased");
        near(norm(&s.gradient_x().unwrap()), gradient, 1e-9, "gradient");
        let s = params
            .debias(false)
            .check()
            .unwrap()
            .solve(&cx, &cy)
            .unwrap();
        near(s.value(), biased, 1e-9, "biased");
    }
}

#[test]
fn converged_values() {
    let (x, y) = reference(5, 4, 2);
    for (blur, both, value) in [
        (1.0, 0.594717430289, 0.193693104430),
        (0.5, 0.486450003334, 0.254769327871),
        (0.1, 0.345260335631, 0.330281718337),
    ] {
        let params = Sinkhorn::params().blur(blur).converged(1e-13);
        near(
            solve(params.clone(), &x, &y, true).value(),
            value,
            1e-10,
            "debiased",
        );
        let s = solve(params.debias(false), &x, &y, true);
        near(s.value(), both, 1e-10, "biased");
        // Both margins of the plan are right, and the gradient is that of the barycentres.
        let plan = s.plan();
        for row in plan.rows() {
            near(row.sum(), 0.2, 1e-9, "row");
        }
        for column in plan.columns() {
            near(column.sum(), 0.25, 1e-9, "column");
        }
        let g = s.gradient_x().unwrap();
        let (move_x, means) = (s.displacement().unwrap(), plan.dot(&y) * 5.0 - &x);
        for ((g, d), m) in g.iter().zip(&move_x).zip(&means) {
            near(g * 5.0, -d, 1e-12, "gradient");
            near(*d, *m, 1e-9, "displacement");
        }
    }
}

#[test]
fn a_batch_shares_its_diameter() {
    let (x, y) = reference(5, 4, 2);
    let (x3, y3) = (&x * 3.0, &y * 3.0);
    let cloud = |c: &'static str| {
        let view = match c {
            "x" => x.view(),
            "y" => y.view(),
            "x3" => x3.view(),
            _ => y3.view(),
        };
        Cloud::new(view).unwrap()
    };
    let pairs = [(cloud("x"), cloud("y")), (cloud("x3"), cloud("y3"))];
    let shared = Sinkhorn::params()
        .check()
        .unwrap()
        .solve_batch(&pairs)
        .unwrap();
    near(shared[0].value(), 0.297829140582876, 1e-11, "first");
    near(shared[1].value(), 2.6871634255747052, 1e-10, "second");
    let each = Sinkhorn::params().diameter(Diameter::Each).check().unwrap();
    let each = each.solve_batch(&pairs).unwrap();
    near(each[0].value(), 0.298557770121, 1e-11, "alone");
    near(each[1].value(), shared[1].value(), 1e-12, "the wider one");
}
