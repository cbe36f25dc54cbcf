//! Generative pre-training.

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_tensor::ops::Segments;
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{Allow, CellPrompt, Confidence, GenerateOptions, Input, ScGpt};
use sc_transformer::tokens::TokenBatch;

use super::folder::{File, Golden, batch, unpack};
use super::variants::{batch_dsbn, nonzero};

/// Known and unknown tokens of each cell, padding left out.
struct Split {
    cells: TokenBatch,
    /// Which tokens of the padded known and unknown parts there are.
    known: Vec<bool>,
    unknown: Vec<bool>,
    /// The rows of known and of unknown tokens.
    rows: [Vec<u32>; 2],
}

fn split(file: &File, case: &str, with_padding: bool) -> Split {
    let get = |name: &str| file.u32s(&format!("{case}.{name}"));
    let value = |name: &str| file.f32s(&format!("{case}.{name}"));
    let keep =
        |name: &str| -> Vec<bool> { get(name).iter().map(|&m| with_padding || m == 0).collect() };
    let parts = [("pcpt_gene", "pcpt_expr"), ("gen_gene", "gen_expr_target")];
    let [p, g] = parts.map(|(ids, values)| (get(ids), value(values)));
    let (known, unknown) = (keep("pcpt_key_padding_mask"), keep("gen_key_padding_mask"));
    let (np, ng) = (p.0.len() / 5, g.0.len() / 5);
    let (mut ids, mut values, mut lengths) = (vec![], vec![], vec![]);
    let mut rows = [vec![], vec![]];
    for c in 0..5 {
        let start = ids.len();
        for i in (c * np..(c + 1) * np).filter(|&i| known[i]) {
            rows[0].push(ids.len() as u32);
            ids.push(p.0[i]);
            values.push(p.1[i]);
        }
        let keys = ids.len() - start;
        for i in (c * ng..(c + 1) * ng).filter(|&i| unknown[i]) {
            rows[1].push(ids.len() as u32);
            ids.push(g.0[i]);
            values.push(g.1[i]);
        }
        lengths.push((ids.len() - start, keys));
    }
    let mut cells = batch(ids, values, lengths);
    rows[1].iter().for_each(|&r| {
        cells.scored[r as usize] = true;
        // The target is not for the model to see.
        cells.values[r as usize] = -1.0;
    });
    Split {
        cells,
        known,
        unknown,
        rows,
    }
}

impl Split {
    /// All tokens of each cell, known ones first.
    fn valid(&self) -> Vec<bool> {
        let n = (self.known.len() / 5, self.unknown.len() / 5);
        let cells = self.known.chunks(n.0).zip(self.unknown.chunks(n.1));
        cells.flat_map(|(k, u)| [k, u].concat()).collect()
    }

    fn check_all(&self, file: &File, key: &str, t: &Tensor) {
        let valid = self.valid();
        file.near_values(key, &unpack(t, &valid), Some(&valid));
    }

    fn check(&self, file: &File, key: &str, name: [&str; 2], t: &Tensor) {
        for (i, valid) in [&self.known, &self.unknown].into_iter().enumerate() {
            let index = Tensor::new(self.rows[i].as_slice(), &Device::Cpu).unwrap();
            let part = t.index_select(&index, 0).unwrap();
            let key = format!("{key}{}", name[i]);
            file.near_values(&key, &unpack(&part, valid), Some(valid));
        }
    }
}

#[test]
fn known_and_unknown_genes() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("scgpt_generative/inputs.safetensors");
    let prompt = inputs.get("cell_prompt");
    let mode = Mode::eval();
    for (dtype, name) in [(DType::F32, "expected"), (DType::F64, "expected_f64")] {
        let file = golden.file(&format!("scgpt_generative/{name}.safetensors"));
        let checkpoint = golden.checkpoint("scgpt_flash");
        let (model, _) = checkpoint
            .load_with(&Device::Cpu, dtype, &Allow::default())
            .unwrap();
        let all = ["pcpt_preds", "gen_preds"];
        for case in ["r25", "r50", "r75"] {
            let s = split(&inputs, case, false);
            let e = model.encode_generative(&s.cells, None, &mode).unwrap();
            file.near(&format!("{case}.cell_emb"), e.cells());
            s.check(
                &file,
                &format!("{case}."),
                all,
                &model.decode(&e, &mode).unwrap().value,
            );
            let mvc = model.decode_from_cells(&e, &mode).unwrap().value;
            s.check_all(&file, &format!("{case}.mvc_output"), &mvc);
            let loss = model
                .generative_loss(&s.cells, Some(CellPrompt::WithGenes), &mode)
                .unwrap();
            file.near(&format!("{case}.loss.mse"), &loss.gep);
            file.near(&format!("{case}.loss.mvc"), loss.gepc.as_ref().unwrap());
            file.near(&format!("{case}.loss.gen"), loss.prompted.as_ref().unwrap());
            if dtype == DType::F64 {
                continue;
            }
            file.near(&format!("{case}.loss.total"), &loss.total);
            s.check(
                &file,
                &format!("{case}."),
                ["pcpt_output", "gen_output"],
                e.hidden(),
            );
            let p = model
                .encode_generative(&s.cells, Some(prompt), &mode)
                .unwrap();
            file.near(&format!("{case}.prompt.cell_emb"), p.cells());
            let made = model.decode(&p, &mode).unwrap().value;
            s.check(&file, &format!("{case}.prompt."), all, &made);
            let p = model
                .encode_generative(&s.cells, Some(e.cells()), &mode)
                .unwrap();
            file.near(&format!("{case}.second.cell_emb"), p.cells());
            let made = model.decode(&p, &mode).unwrap().value;
            s.check(&file, &format!("{case}.second."), all, &made);
        }
        if dtype == DType::F32 {
            // The known genes alone: they do not see the others anyway.
            let mut s = split(&inputs, "r50", false);
            s.cells = super::folder::packed(
                &s.cells,
                &s.cells.scored.iter().map(|s| !s).collect::<Vec<_>>(),
            );
            let e = model.encode_generative(&s.cells, None, &mode).unwrap();
            let made = unpack(&model.decode(&e, &mode).unwrap().value, &s.known);
            file.near_values("r50.pcpt_only.pcpt_preds", &made, Some(&s.known));
            let mvc = unpack(&model.decode_from_cells(&e, &mode).unwrap().value, &s.known);
            file.near_values("r50.pcpt_only.mvc_output", &mvc, Some(&s.known));
            let s = split(&inputs, "r50", true);
            let e = model.encode_generative(&s.cells, None, &mode).unwrap();
            s.check(
                &file,
                "r50.no_masks.",
                all,
                &model.decode(&e, &mode).unwrap().value,
            );
        }
    }
}

#[test]
fn gradients_of_pretraining() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("scgpt_generative/inputs.safetensors");
    let file = golden.file("scgpt_generative/expected.safetensors");
    let model = golden.checkpoint("scgpt_flash").load(&Device::Cpu).unwrap();
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).as_at_inference();
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let mut seen = 0;
    for case in ["r25", "r50", "r75"] {
        let s = split(&inputs, case, false);
        let loss = model
            .generative_loss(&s.cells, Some(CellPrompt::WithGenes), &mode)
            .unwrap();
        let grads = sc_tensor::backward(&loss.total).unwrap();
        let prefix = format!("{case}.grad.");
        for key in names.iter().filter(|n| n.starts_with(&prefix)) {
            let p = model.parameters().get(&key[prefix.len()..]).unwrap();
            file.near(key, grads.get(p.var().as_tensor()).unwrap());
            seen += 1;
        }
    }
    assert_eq!(seen, 20);
}

#[test]
fn with_batches_and_zeros() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("scgpt_generative/inputs.safetensors");
    let file = golden.file("scgpt_generative/variant_expected.safetensors");
    let overrides = "scgpt_generative/variant_overrides.safetensors";
    let model = golden.variant(DType::F32, Some(overrides), |c| {
        batch_dsbn(c);
        c.generative = true;
    });
    let (mode, s) = (Mode::eval(), split(&inputs, "r50", false));
    let input = Input::with_batches(&s.cells, &[1; 5]);
    let e = model.encode_generative(input, None, &mode).unwrap();
    file.near("cell_emb", e.cells());
    file.near(
        "dab_output",
        &model.batch_logits(e.cells(), 1.0, &mode).unwrap(),
    );
    let made = model.decode(&e, &mode).unwrap();
    s.check(&file, "", ["pcpt_preds", "gen_preds"], &made.value);
    s.check_all(&file, "zero_probs", &nonzero(&made));
    let mvc = model.decode_from_cells(&e, &mode).unwrap();
    s.check_all(&file, "mvc_output", &mvc.value);
    s.check_all(&file, "mvc_zero_probs", &nonzero(&mvc));
}

fn generated(
    model: &ScGpt,
    cells: &TokenBatch,
    rounds: usize,
    confidence: Confidence,
) -> (Vec<f32>, Vec<u32>) {
    let mut options = GenerateOptions::default();
    options.rounds = rounds;
    options.confidence = confidence;
    let g = model.generate(cells, None, &options).unwrap();
    (g.values, g.rounds)
}

#[test]
fn generation_in_rounds() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("scgpt_generative/inputs.safetensors");
    let model = golden.checkpoint("scgpt_flash").load(&Device::Cpu).unwrap();
    let s = split(&inputs, "r50", false);
    let mode = Mode::eval();
    // One round is one prediction, rounded to bins.
    let (values, rounds) = generated(&model, &s.cells, 1, Confidence::Magnitude);
    let e = model.encode_generative(&s.cells, None, &mode).unwrap();
    let made = model
        .decode(&e, &mode)
        .unwrap()
        .value
        .to_vec1::<f32>()
        .unwrap();
    for (i, scored) in s.cells.scored.iter().enumerate() {
        let expected = if *scored {
            made[i].round().clamp(0.0, 50.0)
        } else {
            s.cells.values[i]
        };
        assert_eq!((values[i], rounds[i]), (expected, u32::from(*scored)));
    }
    // Three rounds: the first third is the most confident of the first prediction, and each round has its share.
    for confidence in [Confidence::Magnitude, Confidence::Random] {
        let (values, rounds) = generated(&model, &s.cells, 3, confidence);
        assert_eq!(
            generated(&model, &s.cells, 3, confidence),
            (values.clone(), rounds.clone())
        );
        for c in s.cells.segments.iter() {
            let unknown = c.start + c.keys..c.start + c.rows;
            let n = unknown.len();
            for round in 1..=3 {
                let due = (n * round).div_ceil(3) - (n * (round - 1)).div_ceil(3);
                let of_round: Vec<usize> = unknown
                    .clone()
                    .filter(|&i| rounds[i] as usize == round)
                    .collect();
                assert_eq!(of_round.len(), due);
                if round == 1 && confidence == Confidence::Magnitude {
                    let least = of_round
                        .iter()
                        .map(|&i| made[i].abs())
                        .fold(f32::MAX, f32::min);
                    let rest = unknown.clone().filter(|i| !of_round.contains(i));
                    assert!(rest.map(|i| made[i].abs()).all(|v| v <= least));
                    assert!(
                        of_round
                            .iter()
                            .all(|&i| values[i] == made[i].round().clamp(0.0, 50.0))
                    );
                }
            }
        }
    }
    // Chunks change nothing, and keeping keys and values changes the first round not at all.
    let mut options = GenerateOptions::default();
    options.confidence = Confidence::Magnitude;
    let all = model.generate(&s.cells, None, &options).unwrap();
    options.chunk = 2;
    assert_eq!(all, model.generate(&s.cells, None, &options).unwrap());
    options.reread = false;
    let kept = model.generate(&s.cells, None, &options).unwrap();
    for i in 0..all.rounds.len() {
        if all.rounds[i] == 1 {
            assert_eq!(
                (all.values[i], all.rounds[i]),
                (kept.values[i], kept.rounds[i])
            );
        }
    }
    // The second round sees what the first made known.
    let mut second = s.cells.clone();
    let mut order = vec![];
    let mut lengths = vec![];
    for c in s.cells.segments.iter() {
        let rows = c.start..c.start + c.rows;
        let (known, rest): (Vec<usize>, Vec<usize>) = rows.partition(|&i| all.rounds[i] < 2);
        lengths.push((c.rows, known.len()));
        order.extend(known.into_iter().chain(rest));
    }
    second.ids = order.iter().map(|&i| s.cells.ids[i]).collect();
    second.values = order.iter().map(|&i| all.values[i]).collect();
    second.segments = Segments::with_keys(lengths).unwrap();
    let e = model.encode_generative(&second, None, &mode).unwrap();
    let made = model
        .decode(&e, &mode)
        .unwrap()
        .value
        .to_vec1::<f32>()
        .unwrap();
    for (place, &i) in order.iter().enumerate() {
        if all.rounds[i] == 2 {
            let expected = made[place].round().clamp(0.0, 50.0);
            assert!(
                (all.values[i] - expected).abs() < 1e-3,
                "{} {expected}",
                all.values[i]
            );
        }
    }
    options.rounds = 0;
    assert!(model.generate(&s.cells, None, &options).is_err());
}
