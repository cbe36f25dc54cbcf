use sc_tensor::numpy::RandomState;
use sc_tests::json;
use sc_transformer::tokens::{Binner, Binning, Draws, Edges, Generator, Ties};
use serde_json::Value;

use crate::common::*;

#[test]
fn edges_and_bins_without_ties() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("binning/deterministic.json"));
    for case in about["cases"].as_array().unwrap() {
        let n_bins = case["n_bins"].as_u64().unwrap() as usize;
        let binning = |ties| Binner::new(Binning { n_bins, ties }).unwrap();
        check_edges(case, n_bins);
        let row = f32s(&case["row"]);
        if case["dtype"] == "float32" {
            for ties in [
                Ties::Lower,
                Ties::Upper,
                Ties::Expected,
                Ties::Random { seed: 3 },
            ] {
                assert_eq!(
                    binning(ties).bin(&[1], &row),
                    f32s(&case["bins"]),
                    "{}",
                    case["name"]
                );
            }
        }
    }
}

/// Edges, and how many of them lie at or below each value.
fn check_edges(case: &Value, n_bins: usize) {
    let name = &case["name"];
    let values: Vec<f64> = f64s(&case["row"])
        .into_iter()
        .filter(|&v| v != 0.0)
        .collect();
    let edges = match case["dtype"].as_str() {
        Some("float64") => Edges::of(&values, n_bins),
        _ => Edges::of(
            &values.iter().map(|&v| v as f32).collect::<Vec<_>>(),
            n_bins,
        ),
    };
    assert_eq!(edges.as_slice(), f64s(&case["edges"]), "{name}");
    let counts: Vec<(usize, usize)> = values.iter().map(|&v| edges.counts(v)).collect();
    let expected: Vec<_> = usizes(&case["L"])
        .into_iter()
        .zip(usizes(&case["R"]))
        .collect();
    assert_eq!(counts, expected, "{name}");
}

#[test]
fn bins_with_ties() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("binning/ties.json"));
    for case in about["cases"].as_array().unwrap() {
        let n_bins = case["n_bins"].as_u64().unwrap() as usize;
        check_edges(case, n_bins);
        let values: Vec<f64> = f64s(&case["row"])
            .into_iter()
            .filter(|&v| v != 0.0)
            .collect();
        let bins: Vec<f64> = f64s(&case["bins"])
            .into_iter()
            .filter(|&v| v != 0.0)
            .collect();
        let (l, r) = (f64s(&case["L"]), f64s(&case["R"]));
        let row = f32s(&case["row"]);
        let of = |ties| {
            Binner::new(Binning { n_bins, ties })
                .unwrap()
                .bin(&[0], &row)
        };
        let (lower, upper, random) = (
            of(Ties::Lower),
            of(Ties::Upper),
            of(Ties::Random { seed: 1 }),
        );
        assert!(
            row.iter()
                .zip(&random)
                .all(|(v, b)| (*v == 0.0) == (*b == 0.0))
        );
        for i in 0..row.len() {
            assert!((lower[i]..=upper[i]).contains(&random[i]));
        }
        // The original's bins, given its draws.
        for (i, u) in f64s(&case["u"]).into_iter().enumerate() {
            assert_eq!(
                (u * (r[i] - l[i]) + l[i]).ceil(),
                bins[i],
                "{}",
                case["name"]
            );
        }
        assert_eq!(values.len(), bins.len());
    }
}

#[test]
fn bins_of_a_matrix_after_numpys_seed_42() {
    let Some(golden) = load("binning/seed42_matrix.safetensors") else {
        return;
    };
    let expected = dense(&golden["X_binned"]);
    let edges = numbers(&golden["bin_edges"]);
    for layer in ["X", "X_cp10k", "X_log1p"] {
        let x = dense(&golden[layer]);
        let ties = Ties::NumpyGlobal { seed: 42 };
        let binner = Binner::new(Binning { n_bins: 51, ties }).unwrap();
        for (i, row) in x.rows().into_iter().enumerate() {
            let bins = binner.bin(&[], &row.to_vec());
            assert_eq!(bins, expected.row(i).to_vec(), "{layer}, cell {i}");
            if layer == "X" {
                let present: Vec<f32> = row.iter().copied().filter(|&v| v != 0.0).collect();
                let found = Edges::of(&present, 51);
                assert_eq!(found.as_slice(), &edges[i * 51 + 1..(i + 1) * 51]);
            }
        }
    }
    let draws = Draws::new(Generator::Numpy(42), "bins");
    assert_eq!(draws.uniform(&[], 441), numbers(&golden["u"]));
}

#[test]
fn random_streams_of_numpy_and_torch() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/rng.json"));
    for (seed, of) in about["numpy_legacy"].as_object().unwrap() {
        let seed: u32 = seed.parse().unwrap();
        let new = || Draws::new(Generator::Numpy(seed), "");
        assert_eq!(new().uniform(&[], 10), f64s(&of["rand10"]));
        assert_eq!(
            new().choose(&[], 50, 10),
            usizes(&of["choice_10_of_50_no_replacement"])
        );
        assert_eq!(
            RandomState::new(seed).permutation(20),
            usizes(&of["permutation_20"])
        );
    }
    for (seed, of) in about["torch"].as_object().unwrap() {
        let draws = Draws::new(Generator::Torch(seed.parse().unwrap()), "");
        assert_eq!(draws.permutation(&[], 10), usizes(&of["randperm10"]));
        assert_eq!(draws.permutation(&[], 50), usizes(&of["randperm50"]));
        assert_eq!(draws.uniform(&[], 6), f64s(&of["rand6_f32"]));
    }
}
