//! Exact plans, converged values, schedules, plans for flow matching.

use candle_core::DType;
use ndarray::{Array1, Array2};
use sc_sde::transport::{Cloud, Plan, Sinkhorn, assignment, exact_plan, wasserstein};
use serde_json::Value;

use crate::{Golden, SIZES, close, number, scalars, weights};

/// Weights brought to sum 1, as POT wants them.
fn normalised(golden: &Golden, key: &str) -> (Array1<f64>, Array1<f64>) {
    let (a, b) = weights(
        golden,
        &serde_json::json!({"weights": key, "mass_scale": [1.0, 1.0]}),
    );
    let normal = |w: Vec<f64>| {
        let w = Array1::from(w);
        &w / w.sum()
    };
    (normal(a), normal(b))
}

#[test]
fn exact_and_converged_values() {
    let Some(cases) = scalars() else {
        return;
    };
    for size in SIZES {
        let golden = Golden::open(&format!("sinkhorn_{size}.safetensors")).unwrap();
        let about = cases
            .iter()
            .find(|c| c["size"] == size && c["case"] == "references")
            .unwrap();
        let (x, y) = (golden.matrix("x"), golden.matrix("y"));
        for key in ["u", "w"] {
            let (a, b) = normalised(&golden, key);
            let cx = Cloud::new(x.view())
                .unwrap()
                .with_weights(a.view())
                .unwrap();
            let cy = Cloud::new(y.view())
                .unwrap()
                .with_weights(b.view())
                .unwrap();
            let pot = &about["pot"][key];
            let plan = exact_plan(&cx, &cy, 2).unwrap();
            let check = |name: &str, found: f64, expected: &Value| {
                close(
                    &format!("{size} {key} {name}"),
                    &[found],
                    &[number(expected)],
                    1e-9,
                    1e-9,
                )
            };
            check("emd2", plan.cost(), &pot["emd2_sqeuclid"]);
            check("emd2/2", plan.cost() / 2.0, &pot["emd2_half_sqeuclid"]);
            check("w2", wasserstein(&cx, &cy, 2).unwrap(), &pot["w2"]);
            check(
                "w1",
                wasserstein(&cx, &cy, 1).unwrap(),
                &pot["emd_euclid_w1"],
            );
            if let (true, Some(_)) = (key == "w", golden.tensors.get("emd_plan_w")) {
                let theirs = golden.get("emd_plan_w");
                let ours = plan.to_dense().into_raw_vec_and_offset().0;
                close(&format!("{size} plan"), &ours, &theirs, 0.0, 1e-7);
            }
            for (blur, expected) in pot["entropic"].as_object().unwrap() {
                let blur: f64 = blur.parse().unwrap();
                let params = Sinkhorn::params().blur(blur).scaling(0.8).converged(1e-10);
                let debiased = params.clone().check().unwrap().solve(&cx, &cy).unwrap();
                check(
                    "divergence",
                    debiased.value(),
                    &expected["sinkhorn_divergence"],
                );
                let biased = params.debias(false).check().unwrap();
                let both = biased.solve(&cx, &cy).unwrap();
                check("OT_ab", both.value(), &expected["OT_ab"]);
                check(
                    "OT_aa",
                    biased.divergence(&cx, &cx).unwrap(),
                    &expected["OT_aa"],
                );
                check(
                    "OT_bb",
                    biased.divergence(&cy, &cy).unwrap(),
                    &expected["OT_bb"],
                );
                let plan = both.plan();
                let sharp: f64 = plan
                    .indexed_iter()
                    .map(|((i, j), p)| {
                        let d = &x.row(i) - &y.row(j);
                        p * 0.5 * d.mapv(|v| v * v).sum()
                    })
                    .sum();
                check("sharp cost", sharp, &expected["sharp_cost"]);
                if blur == 1.0 {
                    let found = plan.into_raw_vec_and_offset().0;
                    golden.check(&format!("entropic_plan_blur1_{key}"), DType::F64, &found);
                }
            }
            let own = Sinkhorn::params()
                .check()
                .unwrap()
                .divergence(&cx, &cx)
                .unwrap();
            assert!(own.abs() < 1e-9, "{own}");
        }
    }
}

#[test]
fn schedules() {
    let Some(cases) = scalars() else {
        return;
    };
    for about in cases.iter().filter(|c| c["case"] == "references") {
        let size = about["size"].as_str().unwrap();
        let golden = Golden::open(&format!("sinkhorn_{size}.safetensors")).unwrap();
        let (x, y) = (golden.matrix("x"), golden.matrix("y"));
        let (x, y) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
        for (name, expected) in about["eps_schedules"].as_object().unwrap() {
            // p2_blur0.05_sc0.5
            let part = |tag: &str| -> f64 {
                let found = name.split('_').find_map(|s| s.strip_prefix(tag));
                found.unwrap().parse().unwrap()
            };
            let sinkhorn = Sinkhorn::params()
                .p(part("p") as u32)
                .blur(part("blur"))
                .scaling(part("sc"))
                .check()
                .unwrap();
            let found = sinkhorn.epsilons(&x, &y).unwrap();
            let expected: Vec<f64> = expected.as_array().unwrap().iter().map(number).collect();
            close(&format!("{size} {name}"), &found, &expected, 1e-12, 0.0);
            // The first one is the diameter.
            let diameter = found[0].powf(1.0 / part("p"));
            close(size, &[diameter], &[number(&about["diameter"])], 1e-12, 0.0);
        }
    }
}

#[test]
fn plans_of_flow_matching() {
    let Some(golden) = Golden::open("flow_matching.safetensors") else {
        return;
    };
    let (x0, x1) = (golden.matrix("x0"), golden.matrix("x1"));
    let rect = golden.matrix("x1_rect");
    let [c0, c1, cr] = [&x0, &x1, &rect].map(|m| Cloud::new(m.view()).unwrap());
    let plan = exact_plan(&c0, &c1, 2).unwrap();
    golden.check("ot.cost_exact", DType::F64, &[plan.cost()]);
    let expected = golden.tensors["ot.plan_exact_perm"]
        .to_vec1::<i64>()
        .unwrap();
    let ours: Vec<i64> = plan.entries().iter().map(|e| e.1 as i64).collect();
    assert_eq!(ours, expected);
    let cost = Array2::from_shape_fn((32, 32), |(i, j)| {
        (&x0.row(i) - &x1.row(j)).mapv(|v| v * v).sum()
    });
    let columns = assignment(cost.view()).unwrap();
    assert!(columns.iter().zip(&expected).all(|(c, e)| *c as i64 == *e));
    let uneven = Plan::optimal(
        cost.view(),
        &[1.0 / 32.0; 32],
        &golden.get("ot.b_nonuniform"),
    );
    golden.check(
        "ot.cost_exact_nonuniform",
        DType::F64,
        &[uneven.unwrap().cost()],
    );
    let other = exact_plan(&c0, &cr, 2).unwrap();
    golden.check("ot.cost_exact_rect", DType::F64, &[other.cost()]);
    for sigma in [0.5, 1.0] {
        // Squared distances and reg = 2 sigma^2 are half of them and epsilon = sigma^2.
        let params = Sinkhorn::params()
            .blur(sigma)
            .debias(false)
            .converged(1e-12);
        let plan = params.check().unwrap().solve(&c0, &c1).unwrap().plan();
        let found = plan.into_raw_vec_and_offset().0;
        let name = format!("ot.plan_entropic_sigma{sigma:.1}");
        assert_eq!(golden.check(&name, DType::F64, &found), 32 * 32);
    }
}
