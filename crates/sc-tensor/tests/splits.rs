//! The splits that scvi-tools made, reproduced.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

use std::path::Path;

use sc_tensor::numpy::RandomState;

#[test]
fn training_and_validation_cells_are_those_of_scvi_tools() {
    let Ok(shared) = std::env::var("SC_SHARED") else {
        eprintln!("skipped: SC_SHARED is not set");
        return;
    };
    let file = Path::new(&shared).join("golden/scvi/core/splits.json");
    let splits: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let splits = splits.as_object().unwrap();
    let mut checked = 0;
    for (name, split) in splits {
        let Some(seed) = name.strip_prefix("scvi_seed") else {
            continue;
        };
        let list = |key: &str| -> Vec<usize> {
            let list = split[key].as_array().unwrap();
            list.iter().map(|v| v.as_u64().unwrap() as usize).collect()
        };
        if let Some(seed) = seed.strip_suffix("_.8_.1") {
            // 1200 cells: 120 for validation, then 960 for training, the rest for testing.
            let order = RandomState::new(seed.parse().unwrap()).permutation(1200);
            assert_eq!(order[..20], list("val_head"), "{name}");
            assert_eq!(order[120..140], list("train_head"), "{name}");
            assert_eq!(order[1080..], list("test_idx"), "{name}");
        } else {
            let (train, val) = (list("train_idx"), list("val_idx"));
            let order =
                RandomState::new(seed.parse().unwrap()).permutation(train.len() + val.len());
            assert_eq!(order[..val.len()], val, "{name}");
            assert_eq!(order[val.len()..], train, "{name}");
        }
        checked += 1;
    }
    assert_eq!(checked, 6);
}
