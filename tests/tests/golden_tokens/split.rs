use std::collections::HashMap;

use candle_core::Tensor;
use sc_tests::json;
use sc_transformer::tokens::{
    Binner, Binning, GenerativeOptions, GenerativeSplit, Generator, Ties, TokenBatch,
};

use crate::common::*;

#[test]
fn known_and_unknown_genes() {
    let Some(cells) = load("scgpt_generative/cells.safetensors") else {
        return;
    };
    let dir = golden().unwrap();
    let inputs = load("scgpt_generative/inputs.safetensors").unwrap();
    let about = json(&dir.join("scgpt_generative/collator.json"));
    let ids: Vec<Vec<u32>> = (0..5)
        .map(|i| {
            numbers(&cells[&format!("cell{i}.genes")])
                .into_iter()
                .map(|v| v as u32)
                .collect()
        })
        .collect();
    let binner = Binner::new(Binning {
        n_bins: 51,
        ties: Ties::Upper,
    })
    .unwrap();
    let values: Vec<Vec<f32>> = (0..5)
        .map(|i| {
            let raw: Vec<f32> = numbers(&cells[&format!("cell{i}.expressions")])
                .into_iter()
                .map(|v| v as f32)
                .collect();
            [vec![raw[0]], binner.bin(&[], &raw[1..])].concat()
        })
        .collect();
    for (name, case) in about.as_object().unwrap() {
        let options = GenerativeOptions {
            max_len: case["max_length"].as_u64().map(|n| n as usize),
            generator: Generator::Torch(case["torch_seed"].as_u64().unwrap() as u32),
            ..GenerativeOptions::default()
        };
        let split = GenerativeSplit::new(options).unwrap();
        let batch = split
            .split_at(
                &packed(&ids, &values, true),
                0,
                case["ratio"].as_f64().unwrap(),
            )
            .unwrap();
        batch.check().unwrap();
        check_split(name, &batch, &inputs);
    }
}

fn check_split(name: &str, batch: &TokenBatch, inputs: &HashMap<String, Tensor>) {
    let of = |key: &str| dense(&inputs[&format!("{name}.{key}")]);
    let (known_ids, known, unknown_ids, targets) = (
        of("pcpt_gene"),
        of("pcpt_expr"),
        of("gen_gene"),
        of("gen_expr_target"),
    );
    for (i, s) in batch.segments.iter().enumerate() {
        let split = s.start + s.keys;
        for (j, row) in (s.start..split).enumerate() {
            assert_eq!(batch.ids[row] as f32, known_ids[(i, j)], "{name}");
            assert_eq!(batch.values[row], known[(i, j)], "{name}");
            assert!(!batch.scored[row]);
        }
        assert!((s.keys..known_ids.ncols()).all(|j| known_ids[(i, j)] == 60.0));
        for (j, row) in (split..s.start + s.rows).enumerate() {
            assert_eq!(batch.ids[row] as f32, unknown_ids[(i, j)], "{name}");
            assert_eq!(batch.targets[row], targets[(i, j)], "{name}");
            assert!(batch.scored[row] && batch.values[row] == -1.0);
        }
        assert!((s.rows - s.keys..unknown_ids.ncols()).all(|j| unknown_ids[(i, j)] == 60.0));
    }
}
