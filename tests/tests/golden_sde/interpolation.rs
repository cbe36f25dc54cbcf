//! Distances of predicted cells from those of a withheld day, against geomloss' numbers and plain ones.

use ndarray::{Array2, ArrayView2};
use sc_sde::downstream::{Interpolation, to_array};
use sc_sde::transport::{Cloud, Kernel, Mmd, Sinkhorn, wasserstein};
use sc_tests::{json, shared};
use serde_json::Value;

use crate::golden::Golden;

fn near(found: f64, expected: &Value, relative: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    let apart = (found - expected).abs();
    assert!(
        apart <= relative * expected.abs(),
        "{what}: {found} {expected}"
    );
}

#[test]
fn distances_to_the_withheld_day() {
    let Some(golden) = Golden::open("interpolation.safetensors") else {
        return;
    };
    let known = json(&shared().unwrap().join("golden/sde/interpolation.json"));
    let real = to_array(&golden.get("real_d4")).unwrap();
    for name in ["pred_mccann", "pred_static"] {
        let cells = to_array(&golden.get(name)).unwrap();
        let known = &known[name];
        let ends: ArrayView2<'_, f32> = cells.view();
        let days = Interpolation::new((2.0, ends), (4.0, real.view()), (6.0, ends)).unwrap();
        let found = days.distance(cells.view()).unwrap();
        let key = "sinkhorn_blur0.05_sc0.5";
        near(found, &known[key]["f64"], 1e-9, key);
        let prescient = days.sinkhorn(Sinkhorn::prescient().check().unwrap());
        let found = prescient.distance(cells.view()).unwrap();
        let key = "sinkhorn_blur0.1_sc0.7";
        near(found, &known[key]["f64"], 1e-9, key);

        let wide = |m: &Array2<f32>| m.mapv(f64::from);
        let (x, y) = (wide(&cells), wide(&real));
        let (x, y) = (Cloud::new(x.view()).unwrap(), Cloud::new(y.view()).unwrap());
        for (p, key) in [(1, "w1"), (2, "w2")] {
            near(wasserstein(&x, &y, p).unwrap(), &known[key], 1e-9, key);
        }
        let energy = Mmd::new(Kernel::Energy).unwrap().squared(&x, &y).unwrap();
        near(
            energy,
            &known["energy_distance_2Exy_Exx_Eyy"],
            1e-6,
            "energy distance",
        );
        for sigma in [0.2, 1.0] {
            let mmd = Mmd::new(Kernel::Rbf(vec![sigma])).unwrap();
            let key = format!("mmd2_biased_sigma{sigma:.1}");
            near(mmd.squared(&x, &y).unwrap(), &known[&key], 1e-6, &key);
        }
    }
}
