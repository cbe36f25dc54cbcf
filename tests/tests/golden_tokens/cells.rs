use ndarray::Array2;
use sc_data::Csr;
use sc_model::Parity;
use sc_tests::json;
use sc_transformer::tokens::{
    BatchLimits, Generator, MaskOptions, Masker, Overflow, Tokenizer, TokenizerOptions,
};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS};
use serde_json::Value;

use crate::common::*;

#[test]
fn cells_as_tokens_for_finetuning() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/tokenize_and_pad.json"));
    let data = matrix(&about["data"]);
    let names: Vec<String> = u32s(&about["gene_ids"])
        .iter()
        .map(|i| format!("g{i}"))
        .collect();
    let vocab = numbered(60);
    assert_eq!(
        vocab.pad().unwrap() as u64,
        about["pad_id"].as_u64().unwrap()
    );
    let genes = vocab.match_genes(&names, GeneCase::Exact).unwrap();
    let modalities: Vec<&str> = u32s(&about["mod_type"])
        .iter()
        .map(|m| ["Protein", "RNA"][*m as usize])
        .collect();
    for case in about["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let args = &case["args"];
        let append_cls = args["append_cls"].as_bool().unwrap_or(true);
        let seed = case["numpy_seed"].as_u64().unwrap() as u32;
        let mut options = TokenizerOptions::finetune(
            args["max_len"].as_u64().map(|n| n as usize),
            Parity::Upstream,
        );
        options.binning = None;
        options.include_zeros = args["include_zero_gene"].as_bool().unwrap_or(false);
        options.overflow = Overflow::Sample(Generator::Numpy(seed));
        if !append_cls {
            options.cls = None;
        }
        let mut tokenizer = Tokenizer::new(&vocab, &genes, options).unwrap();
        if args.get("mod_type").is_some() {
            tokenizer = tokenizer.with_modalities(&modalities).unwrap();
            let expected: GeneVocab = GeneVocab::from_ids(
                about["vocab_mod"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(t, i)| (t.clone(), i.as_u64().unwrap() as u32)),
            )
            .unwrap();
            assert_eq!(tokenizer.modalities(), Some(&expected));
        }
        // The original gives a cell without genes and <cls> an empty row; here it is an error.
        let rows: Vec<usize> = (0..5).filter(|&i| append_cls || i != 3).collect();
        if !append_cls {
            let message = tokenizer.batch(&data, &[3], 0).unwrap_err().to_string();
            assert!(message.contains("cell 3"), "{message}");
        }
        let batch = tokenizer.batch(&data, &rows, 0).unwrap();
        batch.check().unwrap();
        let pick = |v: &Value| -> Vec<Vec<f32>> { rows.iter().map(|&i| f32s(&v[i])).collect() };
        let ids: Vec<f32> = batch.ids.iter().map(|&i| i as f32).collect();
        assert_eq!(padded(&batch, &ids, 60.0), pick(&case["genes"]), "{name}");
        assert_eq!(
            padded(&batch, &batch.values, -2.0),
            pick(&case["values"]),
            "{name}"
        );
        if let Some(modality) = &batch.modality {
            let modality: Vec<f32> = modality.iter().map(|&m| m as f32).collect();
            assert_eq!(
                padded(&batch, &modality, 2.0),
                pick(&case["mod_types"]),
                "{name}"
            );
        }
    }
}

#[test]
fn hidden_values() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/random_mask.json"));
    let values: Vec<Vec<f32>> = about["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(f32s)
        .collect();
    let values: Vec<Vec<f32>> = values
        .into_iter()
        .map(|v| v.into_iter().filter(|&x| x != -2.0).collect())
        .collect();
    let ids: Vec<Vec<u32>> = values
        .iter()
        .map(|v| (0..v.len() as u32).collect())
        .collect();
    for case in about["cases"].as_array().unwrap() {
        let mut batch = packed(&ids, &values, true);
        let share = case["mask_ratio"].as_f64().unwrap();
        let mut options = MaskOptions::share(share, 0, Parity::Upstream);
        options.generator = Generator::Numpy(case["numpy_seed"].as_u64().unwrap() as u32);
        Masker::new(options).unwrap().mask(&mut batch, 0);
        let expected: Vec<Vec<f32>> = case["masked"]
            .as_array()
            .unwrap()
            .iter()
            .map(f32s)
            .collect();
        assert_eq!(padded(&batch, &batch.values, -2.0), expected);
        assert_eq!(batch.targets, values.concat());
        let scored: Vec<bool> = batch.values.iter().map(|&v| v == -1.0).collect();
        assert_eq!(batch.scored, scored);

        // By default <cls> is never hidden.
        let mut batch = packed(&ids, &values, true);
        Masker::new(MaskOptions::share(share, 5, Parity::Correct))
            .unwrap()
            .mask(&mut batch, 0);
        for s in batch.segments.iter() {
            let hidden = batch.scored[s.start..s.start + s.rows]
                .iter()
                .filter(|h| **h)
                .count();
            assert!(!batch.scored[s.start]);
            assert_eq!(hidden, ((s.rows - 1) as f64 * share) as usize);
        }
    }
}

#[test]
fn cells_as_tokens_for_embedding() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/collator.json"));
    let vocab = numbered(60);
    for case in about["cases"].as_array().unwrap() {
        // All examples as rows of one matrix, a block of columns for each, so that their order stays.
        let examples = about["examples"].as_array().unwrap();
        let genes: Vec<Vec<u32>> = examples.iter().map(|e| u32s(&e["genes"])).collect();
        let names: Vec<String> = genes
            .iter()
            .flat_map(|g| g[1..].iter().map(|i| format!("g{i}")))
            .collect();
        let mut data = Array2::<f32>::zeros((examples.len(), names.len()));
        let mut column = 0;
        for (i, e) in examples.iter().enumerate() {
            for v in &f32s(&e["expressions"])[1..] {
                data[(i, column)] = *v;
                column += 1;
            }
        }
        let seed = case["torch_seed"].as_u64().unwrap() as u32;
        let options = TokenizerOptions {
            max_len: case["max_length"].as_u64().map(|n| n as usize),
            overflow: match case["sampling"].as_bool().unwrap() {
                true => Overflow::Sample(Generator::Torch(seed)),
                false => Overflow::First,
            },
            ..TokenizerOptions::default()
        };
        let matched = vocab.match_genes(&names, GeneCase::Exact).unwrap();
        let tokenizer = Tokenizer::new(&vocab, &matched, options).unwrap();
        let batch = tokenizer.batch(&data, &[0, 1, 2, 3], 0).unwrap();
        let of = |key: &str| -> Vec<Vec<f32>> {
            case[key].as_array().unwrap().iter().map(f32s).collect()
        };
        let ids: Vec<f32> = batch.ids.iter().map(|&i| i as f32).collect();
        assert_eq!(padded(&batch, &ids, 60.0), of("gene"), "{}", case["name"]);
        assert_eq!(
            padded(&batch, &batch.values, -2.0),
            of("expr"),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn tokens_of_a_file() {
    let Some(golden_tensors) = load("scgpt/embed_data.safetensors") else {
        return;
    };
    let dir = golden().unwrap().join("scgpt");
    let cells = sc_io::read(dir.join("embed_data.h5ad")).unwrap();
    let about = json(&dir.join("embed_data_genes.json"));
    let vocab = GeneVocab::read(dir.join("vocab.json")).unwrap();
    let genes = vocab
        .match_genes(&texts(&about["feature_name"]), GeneCase::Exact)
        .unwrap();
    let expected: Vec<f64> = f64s(&about["id_in_vocab"]);
    let found: Vec<f64> = genes
        .ids()
        .iter()
        .map(|id| id.map_or(-1.0, f64::from))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(genes.report().missing.len(), 5);
    let tokenizer = Tokenizer::new(&vocab, &genes, TokenizerOptions::default()).unwrap();
    let x: Csr = cells.x.unwrap().to_csr();
    let batch = tokenizer.batch(&x, &(0..8).collect::<Vec<_>>(), 0).unwrap();
    let of = |key: &str| -> Vec<Vec<f32>> {
        dense(&golden_tensors[key])
            .rows()
            .into_iter()
            .map(|r| r.to_vec())
            .collect()
    };
    let ids: Vec<f32> = batch.ids.iter().map(|&i| i as f32).collect();
    assert_eq!(padded(&batch, &ids, 60.0), of("token_ids"));
    assert_eq!(padded(&batch, &batch.values, -2.0), of("binned_values"));
}

/// Blood cells on disk and in memory, in minibatches and all at once, have the same tokens; and all fit the limits.
#[test]
fn cells_on_disk() {
    let Some(dir) = sc_tests::shared() else {
        return;
    };
    let path = dir.join("data/cells/pbmc3k_raw_celltypes.h5ad");
    let cells = sc_io::read(&path).unwrap();
    let in_memory = cells.x.unwrap().to_csr();
    let on_disk = sc_io::h5ad::read_backed(&path, None).unwrap();
    let vocab = GeneVocab::read(dir.join("data/vocab/default_census_vocab.json")).unwrap();
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    let genes = vocab
        .match_genes(cells.var.index(), GeneCase::Exact)
        .unwrap();
    let report = genes.report();
    assert_eq!((report.n_genes, report.matched), (13_714, 12_300));
    assert_eq!(report.matched + report.missing.len(), report.n_genes);
    let options = TokenizerOptions {
        max_len: Some(900),
        ..TokenizerOptions::default()
    };
    let tokenizer = Tokenizer::new(&vocab, &genes, options).unwrap();
    let all: Vec<usize> = (0..in_memory.n_rows()).collect();
    let expected = tokenizer.batch(&in_memory, &all, 0).unwrap();
    let start: Vec<usize> = expected.segments.iter().map(|s| s.start).collect();
    let limits = BatchLimits {
        max_tokens: 20_000,
        ..BatchLimits::default()
    };
    let mut cells = 0;
    for batch in tokenizer.batches(&on_disk, limits, 0).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.n_tokens() <= 20_000 && batch.longest() <= 900);
        for (s, &cell) in batch.segments.iter().zip(&batch.cells) {
            let same = start[cell]..start[cell] + s.rows;
            let own = s.start..s.start + s.rows;
            assert_eq!(batch.ids[own.clone()], expected.ids[same.clone()]);
            assert_eq!(batch.values[own], expected.values[same]);
        }
        cells += batch.n_cells();
    }
    assert_eq!(cells, all.len());
}
