//! Inputs that tests and `tests/make_de_fixtures.py` make up alike, and what Python made of them.

use std::path::Path;

use serde::de::DeserializeOwned;

/// About normal: sums of twelve uniforms of a linear congruential generator.
pub(super) fn bells(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let bell = |_| {
        let total: u64 = (0..12)
            .map(|_| {
                state = (1_103_515_245 * state + 12_345) % (1 << 31);
                state
            })
            .sum();
        total as f64 / f64::from(1u32 << 31) - 6.0
    };
    (0..n).map(bell).collect()
}

/// The sets of a file in `tests/data/de`.
pub(super) fn expected<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/de");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(all["sets"].clone()).unwrap()
}
