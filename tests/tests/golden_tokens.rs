//! Vocabulary, bins, tokens, hidden values and preprocessing, against scGPT.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Array4, Axis};
use sc_data::{Categorical, Csr, RowSource};
use sc_model::Parity;
use sc_tensor::numpy::RandomState;
use sc_tensor::ops::Segments;
use sc_tests::{json, shared};
use sc_transformer::network::{AttentionRanks, EnrichmentOptions, GeneSets, enrich};
use sc_transformer::perturb_metrics::{ChangedGenes, Correlations, GenesCompared, compare};
use sc_transformer::tokens::preprocess::{PreprocessOptions, Target, check_logged, preprocess};
use sc_transformer::tokens::{
    Binner, Binning, Draws, Edges, GenerativeOptions, GenerativeSplit, Generator, MaskOptions,
    Masker, Overflow, Ties, TokenBatch, Tokenizer, TokenizerOptions,
};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS, SpecialsAt};
use serde_json::Value;

fn golden() -> Option<PathBuf> {
    Some(shared()?.join("golden/transformer"))
}

fn f64s(v: &Value) -> Vec<f64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn f32s(v: &Value) -> Vec<f32> {
    f64s(v).into_iter().map(|x| x as f32).collect()
}

fn u32s(v: &Value) -> Vec<u32> {
    f64s(v).into_iter().map(|x| x as u32).collect()
}

fn usizes(v: &Value) -> Vec<usize> {
    f64s(v).into_iter().map(|x| x as usize).collect()
}

fn texts(v: &Value) -> Vec<String> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_str().unwrap().to_owned())
        .collect()
}

fn matrix(v: &Value) -> Array2<f32> {
    let rows: Vec<Vec<f32>> = v.as_array().unwrap().iter().map(f32s).collect();
    let shape = (rows.len(), rows[0].len());
    Array2::from_shape_vec(shape, rows.concat()).unwrap()
}

fn load(path: &str) -> Option<HashMap<String, Tensor>> {
    Some(candle_core::safetensors::load(golden()?.join(path), &Device::Cpu).unwrap())
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn dense(t: &Tensor) -> Array2<f32> {
    let values = numbers(t).into_iter().map(|v| v as f32).collect();
    Array2::from_shape_vec(t.dims2().unwrap(), values).unwrap()
}

/// Cells as the original pads them.
fn padded<T: Copy>(batch: &TokenBatch, of: &[T], pad: T) -> Vec<Vec<T>> {
    let longest = batch.longest();
    let cells = batch.segments.iter().map(|s| {
        let mut row = of[s.start..s.start + s.rows].to_vec();
        row.resize(longest, pad);
        row
    });
    cells.collect()
}

#[test]
fn vocabularies() {
    let Some(dir) = golden() else { return };
    let about = json(&dir.join("tokenizer/vocab.json"));
    let of_file = &about["from_file"];
    let vocab = GeneVocab::read(dir.join(of_file["file"].as_str().unwrap())).unwrap();
    assert_eq!(vocab.tokens(), texts(&of_file["tokens_in_id_order"]));
    assert_eq!(
        vocab.default_id().map(u64::from),
        of_file["default_index"].as_u64()
    );
    let found: Vec<u32> = texts(&of_file["query"])
        .iter()
        .map(|g| vocab.id_or_default(g).unwrap())
        .collect();
    assert_eq!(found, u32s(&of_file["ids"]));

    let appended = &about["specials_appended"];
    let entries = appended["vocab_without_specials"].as_object().unwrap();
    let entries = entries
        .iter()
        .map(|(t, id)| (t.clone(), id.as_u64().unwrap() as u32));
    let vocab = GeneVocab::from_ids(entries).unwrap();
    assert_eq!(vocab.default_id(), None);
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    for (token, id) in appended["appended"].as_object().unwrap() {
        assert_eq!(vocab.id(token).map(u64::from), id.as_u64());
    }
    assert_eq!(vocab.default_id(), None);

    let list = &about["from_list"];
    for (at, key) in [
        (SpecialsAt::First, "special_first"),
        (SpecialsAt::Last, "special_last"),
    ] {
        let vocab = GeneVocab::from_genes(&texts(&list["genes"]), &SPECIALS, at).unwrap();
        assert_eq!(vocab.tokens(), texts(&list[key]));
    }
}

#[test]
fn the_released_vocabulary() {
    let Some(dir) = shared() else { return };
    let vocab = GeneVocab::read(dir.join("data/vocab/default_census_vocab.json")).unwrap();
    let before = vocab.len();
    let vocab = vocab.with_specials(&SPECIALS).unwrap();
    assert_eq!((before, vocab.len()), (60_694, 60_697));
    for (gene, id) in [
        ("A1BG", 0),
        ("CD3D", 4377),
        ("GAPDH", 9833),
        ("MS4A1", 17_014),
        ("<pad>", 60_694),
    ] {
        assert_eq!(vocab.id(gene), Some(id));
    }
    // Case may be ignored: no two tokens differ in it alone.
    let found = vocab
        .match_genes(&["cd3d", "Gapdh"], GeneCase::Ignore)
        .unwrap();
    assert_eq!(found.ids(), [Some(4377), Some(9833)]);
}

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

/// A vocabulary of as many tokens as the golden data count, whose gene `i` is called `g<i>`.
fn numbered(n: usize) -> GeneVocab {
    GeneVocab::new(
        (0..n)
            .map(|i| format!("g{i}"))
            .chain(SPECIALS.map(str::to_owned)),
    )
    .unwrap()
}

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

/// A batch of these cells, padding left out.
fn packed(ids: &[Vec<u32>], values: &[Vec<f32>], has_cls: bool) -> TokenBatch {
    let segments = Segments::new(ids.iter().map(Vec::len)).unwrap();
    TokenBatch {
        cells: (0..ids.len()).collect(),
        ids: ids.concat(),
        values: values.concat(),
        targets: values.concat(),
        scored: vec![false; ids.iter().map(Vec::len).sum()],
        modality: None,
        flags: None,
        has_cls,
        segments,
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

#[test]
fn steps_before_tokens() {
    let Some(golden) = load("binning/preprocess.safetensors") else {
        return;
    };
    let about = json(&crate::golden().unwrap().join("binning/preprocess.json"));
    let x = dense(&golden["X"]);
    let kept = |key: &str| -> Vec<usize> {
        let mask = numbers(&golden[key]);
        (0..mask.len()).filter(|&i| mask[i] != 0.0).collect()
    };
    // Filters, totals and logarithms.
    let mut options = PreprocessOptions {
        min_gene_counts: Some(3.0),
        min_cell_counts: Some(40.0),
        target: Some(Target::Total(1e4)),
        log1p: true,
        ..PreprocessOptions::default()
    };
    let found = preprocess(&x, &options, None).unwrap();
    assert_eq!(
        (&found.cells, &found.genes),
        (&kept("keep_cells"), &kept("keep_genes"))
    );
    close(&found.source(&x).unwrap(), &golden["log1p"], 2e-5);
    // What the reference calls normalised was log-transformed in place later on: the totals are checked.
    options.log1p = false;
    let found = preprocess(&x, &options, None).unwrap();
    let totals = found
        .source(&x)
        .unwrap()
        .read_range(0..20)
        .unwrap()
        .row_sums();
    assert!(totals.iter().all(|t| (t - 1e4).abs() < 1e-2));
    let median = PreprocessOptions {
        target: Some(Target::Median),
        ..PreprocessOptions::default()
    };
    let found = preprocess(&x, &median, None).unwrap();
    close(&found.source(&x).unwrap(), &golden["normed_median"], 2e-4);

    // The whole recipe, with batches.
    let batch: Vec<String> = numbers(&golden["batch"])
        .iter()
        .map(|b| b.to_string())
        .collect();
    let batch = Categorical::from_labels(&batch);
    let recipe = PreprocessOptions::integration(32, true);
    let found = preprocess(&x, &recipe, Some(&batch)).unwrap();
    let all = texts(&about["gene_names"]);
    let names: Vec<&String> = found.genes.iter().map(|&g| &all[g]).collect();
    assert_eq!(
        names,
        texts(&about["pipeline"]["genes"])
            .iter()
            .collect::<Vec<_>>()
    );
    let source = found.source(&x).unwrap();
    let seed = about["pipeline"]["numpy_seed"].as_u64().unwrap() as u32;
    let binner = Binner::new(Binning {
        n_bins: 51,
        ties: Ties::NumpyGlobal { seed },
    })
    .unwrap();
    let expected = dense(&golden["pipeline.X_binned"]);
    let logs = source.read_range(0..x.nrows()).unwrap().to_dense();
    for (row, expected) in logs.rows().into_iter().zip(expected.rows()) {
        assert_eq!(binner.bin(&[], &row.to_vec()), expected.to_vec());
    }
    // Variable genes of logarithms.
    let ranger = &about["hvg"]["cell_ranger_log1p"];
    let mut recipe =
        PreprocessOptions::integration(ranger["n_top_genes"].as_u64().unwrap() as usize, false);
    recipe.log1p = true;
    let found = preprocess(&x, &recipe, None).unwrap();
    let names: Vec<&String> = found.genes.iter().map(|&g| &all[g]).collect();
    assert_eq!(
        names,
        texts(&ranger["selected_in_gene_order"])
            .iter()
            .collect::<Vec<_>>()
    );

    for case in about["check_logged"].as_array().unwrap() {
        let found = check_logged(&matrix(&case["matrix"])).unwrap();
        assert_eq!(found.logged, case["logged"].as_bool().unwrap(), "{found:?}");
    }
}

/// The first rows of a source.
fn close(source: &dyn RowSource, expected: &Tensor, tolerance: f32) {
    let expected = dense(expected);
    let found = source.read_range(0..expected.nrows()).unwrap().to_dense();
    assert_eq!(found.dim(), expected.dim());
    let off = (&found - &expected)
        .mapv(f32::abs)
        .fold(0.0f32, |m, v| m.max(*v));
    let scale = expected.fold(1.0f32, |m, v| m.max(v.abs()));
    assert!(off <= tolerance.max(1e-5 * scale), "{off}");
}

#[test]
fn attention_ranks() {
    let Some(golden) = load("attention/grn_ranks.safetensors") else {
        return;
    };
    let cells = |key: &str| -> Array4<f32> {
        let values = numbers(&golden[key])
            .into_iter()
            .map(|v| v as f32)
            .collect();
        Array4::from_shape_vec(golden[key].dims4().unwrap(), values).unwrap()
    };
    let (q, k) = (cells("q"), cells("k"));
    let condition: Vec<usize> = numbers(&golden["condition"])
        .into_iter()
        .map(|c| c as usize)
        .collect();
    let off = |found: &Array2<f32>, expected: &Tensor, scale: f32| {
        let expected = dense(expected) / scale;
        (found - &expected).fold(0.0f32, |m, v| m.max(v.abs()))
    };
    let run = |parity| {
        let mut ranks = AttentionRanks::new(12, 3, 2, parity);
        for (i, &c) in condition.iter().enumerate() {
            ranks
                .add(c, q.index_axis(Axis(0), i), k.index_axis(Axis(0), i))
                .unwrap();
        }
        ranks
    };
    let (ours, upstream) = (run(Parity::Correct), run(Parity::Upstream));
    for c in 0..2 {
        let of = |key: &str| golden[key].get(c).unwrap();
        assert!(off(&ours.mean(c).unwrap(), &of("condition_mean"), 1.0) < 2e-7);
        let cells = upstream.n_cells(c) as f32;
        assert!(
            off(
                &upstream.mean(c).unwrap(),
                &of("condition_sum_upstream"),
                cells
            ) < 1e-6
        );
    }
    for i in 0..condition.len() {
        let mut one = AttentionRanks::new(12, 3, 1, Parity::Correct);
        one.add(0, q.index_axis(Axis(0), i), k.index_axis(Axis(0), i))
            .unwrap();
        assert!(
            off(
                &one.mean(0).unwrap(),
                &golden["head_mean"].get(i).unwrap(),
                1.0
            ) < 2e-7
        );
    }
    for head in 0..3 {
        let mut one = AttentionRanks::new(12, 1, 1, Parity::Correct);
        let of = |x: &Array4<f32>| x.slice(ndarray::s![0, .., head..head + 1, ..]).to_owned();
        one.add(0, of(&q).view(), of(&k).view()).unwrap();
        let expected = golden["row_then_column_rank_stable_cell0"]
            .get(head)
            .unwrap();
        assert!(off(&one.mean(0).unwrap(), &expected, 1.0) < 2e-7);
    }
}

#[test]
fn perturbation_metrics() {
    let Some(golden) = load("perturbation/metrics_inputs.safetensors") else {
        return;
    };
    let about = json(&crate::golden().unwrap().join("perturbation/metrics.json"));
    let [truth, pred, control] = ["truth", "pred", "control"].map(|key| dense(&golden[key]));
    let conditions = texts(&about["pert_cat"]);
    let names = texts(&about["gene_names"]);
    let genes = |key: &str| {
        let lists = about[key].as_object().unwrap();
        ChangedGenes::new(lists.iter().map(|(name, list)| {
            // "cell_A+ctrl_1+1"
            let condition = name.split('_').nth(1).unwrap().to_owned();
            let places = texts(list)
                .iter()
                .take(20)
                .map(|g| names.iter().position(|n| n == g).unwrap())
                .collect();
            (condition, places)
        }))
    };
    let runs = [
        (
            "non_zero_genes=False",
            GenesCompared::All,
            genes("de_genes_ranked"),
        ),
        (
            "non_zero_genes=True",
            GenesCompared::NonZero,
            genes("top_non_dropout_de_20"),
        ),
    ];
    for (key, which, changed) in runs {
        let found = compare(
            truth.view(),
            pred.view(),
            &conditions,
            control.view(),
            &changed,
            which,
        )
        .unwrap();
        let listed: Vec<&String> = found.conditions.iter().map(|c| &c.0).collect();
        assert_eq!(
            listed,
            texts(&about["conditions_sorted"])
                .iter()
                .collect::<Vec<_>>()
        );
        let of: [(&str, fn(&Correlations) -> f64); 4] = [
            ("pearson", |c| c.pearson),
            ("pearson_de", |c| c.pearson_de),
            ("pearson_delta", |c| c.pearson_delta),
            ("pearson_de_delta", |c| c.pearson_de_delta),
        ];
        for (name, of) in of {
            let expected = &about["expected"][key];
            for (c, e) in found.conditions.iter().zip(f64s(&expected["raw"][name])) {
                assert!((of(&c.1) - e).abs() < 1e-5, "{key} {name} {}", c.0);
            }
            assert!(
                (of(&found.mean) - expected["mean"][name].as_f64().unwrap()).abs() < 1e-5,
                "{key} {name}"
            );
        }
    }
}

/// Pathways of KEGG: a list made of one of them finds it.
#[test]
fn pathways() {
    let Some(dir) = shared() else { return };
    let sets = GeneSets::read_gmt(dir.join("data/vocab/c2.cp.kegg.v7.5.1.symbols.gmt")).unwrap();
    assert_eq!(sets.len(), 186);
    let vocab = GeneVocab::read(dir.join("data/vocab/default_gene_vocab.json")).unwrap();
    let ribosome = sets.iter().find(|s| s.name == "KEGG_RIBOSOME").unwrap();
    let list: Vec<String> = ribosome.genes.iter().take(20).cloned().collect();
    let found = enrich(&list, vocab.tokens(), &sets, EnrichmentOptions::default()).unwrap();
    assert_eq!(found[0].set, "KEGG_RIBOSOME");
    assert!(found[0].bonferroni < 1e-30 && found[0].p > 0.0 && found[1].bonferroni > 0.05);
}
