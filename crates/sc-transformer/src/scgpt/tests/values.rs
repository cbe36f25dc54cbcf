//! How a new model reads values.

use super::*;
use sc_model::{Mode, Parity};

/// The cosines between the vectors of two values, a mean over some seeds.
fn cosine(parity: Parity, a: f32, b: f32) -> f64 {
    let one = |seed: u64| -> f64 {
        let vocab = vocab();
        let params = small(&vocab).d_model(64).parity(parity);
        let model = params.check().unwrap().init(&Device::Cpu, seed).unwrap();
        let v = model.value_vectors(&[a, b], &Mode::eval()).unwrap();
        let v = v.to_vec2::<f32>().unwrap();
        let dot =
            |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum() };
        dot(&v[0], &v[1]) / (dot(&v[0], &v[0]) * dot(&v[1], &v[1])).sqrt()
    };
    (0..10).map(one).sum::<f64>() / 10.0
}

#[test]
fn a_new_model_tells_values_apart() {
    let new = |a, b| cosine(Parity::Correct, a, b);
    assert!(new(10.0, 50.0) < 0.8, "{}", new(10.0, 50.0));
    assert!(new(5.0, 25.0) < 0.8, "{}", new(5.0, 25.0));
    // Hidden, zero, and one.
    assert!(new(-1.0, 0.0) < 0.95 && new(0.0, 1.0) < 0.95);
    // Values that are near stay near.
    assert!(new(24.0, 25.0) > 0.98);
    let original = cosine(Parity::Upstream, 10.0, 50.0);
    assert!(original > 0.98, "{original}");
}
