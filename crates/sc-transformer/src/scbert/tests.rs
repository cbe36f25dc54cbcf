use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, array};
use sc_data::{Categorical, Csr};
use sc_model::{Classify, Embed, Mode, Parity};
use sc_tensor::Rng;

use super::layout::layout;
use super::model::head_kind;
use super::*;
use crate::Error;

fn panel(n: usize) -> GenePanel {
    GenePanel::new((0..n).map(|i| format!("g{i}"))).unwrap()
}

/// A small model of `genes` genes.
fn small(genes: usize, dtype: DType) -> Scbert {
    let params = Scbert::params(panel(genes))
        .dim(12)
        .depth(3)
        .heads(2)
        .dim_head(6);
    let params = params.features(7).hidden(20).classifier_hidden([9, 5]);
    params
        .check()
        .unwrap()
        .init_with_dtype(&Device::Cpu, dtype, 7)
        .unwrap()
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

/// Random counts, a share of them zero.
fn counts(cells: usize, genes: usize, seed: u64) -> Csr {
    let mut values = vec![0f64; cells * genes];
    Rng::new(seed).stream("counts").fill_normal(&mut values);
    let values = values
        .iter()
        .map(|v| (v * 4.0).max(0.0).floor() as f32)
        .collect();
    Csr::from_dense(&Array2::from_shape_vec((cells, genes), values).unwrap())
}

fn names(n: usize) -> Vec<String> {
    panel(n).names().to_vec()
}

fn any_number() -> CellsConfig {
    CellsConfig {
        min_genes: 1,
        ..CellsConfig::default()
    }
}

#[test]
fn the_layout_is_that_of_the_parameters() {
    let plain = small(11, DType::F32);
    let classes = plain.with_classes(&labels(&["a", "b", "c"]), 0).unwrap();
    for model in [plain, classes] {
        let head = head_kind(model.labels());
        let expected = layout(model.config(), 12, head);
        let found: Vec<_> = model
            .parameters()
            .iter()
            .map(|p| (p.name().to_owned(), p.export_shape()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn random_features_are_orthogonal_in_blocks() {
    let (m, d) = (23, 8);
    let mut stream = Rng::new(3).stream("features");
    let p = projection::draw(m, d, &mut stream, DType::F64, &Device::Cpu).unwrap();
    let p = p.to_vec2::<f64>().unwrap();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    for i in 0..m {
        for j in 0..i {
            let cosine = dot(&p[i], &p[j]) / (dot(&p[i], &p[i]) * dot(&p[j], &p[j])).sqrt();
            assert_eq!(cosine.abs() < 1e-12, i / d == j / d, "{i} {j}: {cosine}");
        }
    }
    // Lengths are those of Gaussian vectors: their squares are chi-squared with d degrees of freedom.
    let mut stream = Rng::new(4).stream("features");
    let many = projection::draw(800, d, &mut stream, DType::F64, &Device::Cpu).unwrap();
    let squares: Vec<f64> = many
        .to_vec2::<f64>()
        .unwrap()
        .iter()
        .map(|r| dot(r, r))
        .collect();
    let mean = squares.iter().sum::<f64>() / 800.0;
    let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 800.0;
    // Four standard errors.
    assert!(
        (mean - 8.0).abs() < 0.6 && (variance - 16.0).abs() < 5.0,
        "{mean} {variance}"
    );
}

/// The attention that each position gets, by the full matrix of each head, one number at a time.
fn dense_importance(model: &Scbert, tokens: &[u32]) -> Vec<f64> {
    let (c, n, eval) = (model.config(), tokens.len(), Mode::eval());
    let (heads, d, m) = (c.heads, c.dim_head, c.n_features());
    let mut sum = vec![0.0; n];
    let segments = sc_tensor::ops::Segments::new([n]).unwrap();
    let mut x = model.nets.embed(tokens, &eval).unwrap();
    for block in &model.nets.blocks {
        let (q, k) = block.queries_and_keys(&x, &eval).unwrap();
        let (q, k) = (q.to_vec2::<f64>().unwrap(), k.to_vec2::<f64>().unwrap());
        let p = block.projection.value().to_vec2::<f64>().unwrap();
        let scale = (d as f64).powf(-0.25);
        let u = |row: &[f64], h: usize, f: usize| -> f64 {
            (0..d).map(|j| scale * row[h * d + j] * p[f][j]).sum()
        };
        let half = |row: &[f64], h: usize| -> f64 {
            (0..d)
                .map(|j| (scale * row[h * d + j]).powi(2))
                .sum::<f64>()
                / 2.0
        };
        let every = k
            .iter()
            .flat_map(|row| (0..heads).flat_map(move |h| (0..m).map(move |f| (row, h, f))));
        let top = every
            .map(|(row, h, f)| u(row, h, f))
            .fold(f64::NEG_INFINITY, f64::max);
        let phi = |row: &[f64], h: usize, max: f64| -> Vec<f64> {
            (0..m)
                .map(|f| (u(row, h, f) - half(row, h) - max).exp() + 1e-4)
                .collect()
        };
        for h in 0..heads {
            let keys: Vec<Vec<f64>> = k.iter().map(|row| phi(row, h, top)).collect();
            for row in &q {
                let max = (0..m)
                    .map(|f| u(row, h, f))
                    .fold(f64::NEG_INFINITY, f64::max);
                let query = phi(row, h, max);
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|key| key.iter().zip(&query).map(|(a, b)| a * b).sum())
                    .collect();
                let total: f64 = scores.iter().sum();
                sum.iter_mut()
                    .zip(&scores)
                    .for_each(|(s, v)| *s += v / total);
            }
        }
        x = block
            .attend(&x, heads, &segments, Stabiliser::PerSequence, &eval)
            .unwrap();
        x = block.feed(&x, &eval).unwrap();
    }
    let total: f64 = sum.iter().sum();
    sum.iter().map(|s| s / total).collect()
}

#[test]
fn importance_is_that_of_the_full_attention() {
    let model = small(30, DType::F64);
    let counts = counts(3, 30, 1);
    let cells = model.cells(&counts, &names(30), &any_number()).unwrap();
    for cell in 0..3 {
        let tokens = cells.tokens(&[cell]).unwrap();
        let found = model.position_importance(&tokens, Parity::Correct).unwrap();
        for (f, e) in found.iter().zip(dense_importance(&model, &tokens)) {
            assert!((f - e).abs() < 1e-13, "{f} {e}");
        }
    }
}

#[test]
fn a_cell_does_not_depend_on_others_or_on_threads() {
    let model = small(40, DType::F32)
        .with_classes(&labels(&["a", "b", "c"]), 1)
        .unwrap();
    let all = counts(9, 40, 2);
    let order = [4, 0, 8, 2, 7, 7, 1];
    let some = all.select_rows(&order).unwrap();
    let run = |threads: usize, counts: &Csr| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let cells = model.cells(counts, &names(40), &any_number()).unwrap();
            assert_eq!(cells.len(), counts.n_rows());
            let importance = model.gene_importance(&cells, Parity::Correct).unwrap();
            (
                model.classify(&cells).unwrap().values,
                model.embed(&cells).unwrap(),
                importance,
            )
        })
    };
    let one = run(1, &all);
    assert_eq!(one, run(3, &all));
    let others = run(2, &some);
    for (i, &cell) in order.iter().enumerate() {
        assert_eq!(others.0.row(i), one.0.row(cell));
        assert_eq!(others.1.row(i), one.1.row(cell));
        assert_eq!(others.2.row(i), one.2.row(cell));
    }
    // Upstream's stabiliser makes cells depend on each other.
    let cells = model.cells(&all, &names(40), &any_number()).unwrap();
    let (two, alone) = (cells.tokens(&[0, 1]).unwrap(), cells.tokens(&[0]).unwrap());
    let first = |tokens: &[u32], s| {
        model
            .encode(tokens, s)
            .unwrap()
            .narrow(0, 0, 41)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_ne!(
        first(&two, Stabiliser::Batch),
        first(&alone, Stabiliser::Batch)
    );
}

#[test]
fn types_below_the_threshold_are_unassigned() {
    let model = small(20, DType::F32)
        .with_classes(&labels(&["a", "b"]), 1)
        .unwrap();
    let counts = counts(6, 20, 3);
    let cells = model.cells(&counts, &names(20), &any_number()).unwrap();
    let all = model.annotate(&cells, None).unwrap();
    let best = all.probabilities.best().1;
    let mut sorted = best.clone();
    sorted.sort_by(f32::total_cmp);
    let threshold = sorted[3];
    let some = model.annotate(&cells, Some(threshold)).unwrap();
    for (cell, name) in some.names().iter().enumerate() {
        assert_eq!(*name == UNASSIGNED, best[cell] < threshold);
    }
    assert_eq!(some.names().iter().filter(|n| **n == UNASSIGNED).count(), 3);
    assert!(all.names().iter().all(|n| *n != UNASSIGNED));
    assert!(matches!(
        model.annotate(&cells, Some(1.5)),
        Err(Error::InvalidSetting { .. })
    ));
}

#[test]
fn data_that_cannot_be_used() {
    let model = small(3, DType::F32);
    let good = Csr::from_dense(&array![[1f32, 2.0, 0.0], [0.0, 0.0, 0.0]]);
    let of = |counts: &Csr, genes: &[&str], config: &CellsConfig| {
        model.cells(counts, genes, config).map(|c| c.len())
    };
    assert_eq!(of(&good, &["g2", "g0", "other"], &any_number()).unwrap(), 1);
    let error = of(&good, &["a", "b", "c"], &any_number()).unwrap_err();
    assert!(matches!(error, Error::NoGenesInCommon { .. }));
    assert!(
        error.to_string().contains("g0, g1, g2") && error.to_string().contains("a, b, c"),
        "{error}"
    );
    assert!(matches!(
        of(&good, &["g0", "g1"], &any_number()),
        Err(Error::Data(_))
    ));
    let error = of(&good, &["g0", "g1", "g2"], &CellsConfig::default()).unwrap_err();
    assert!(matches!(error, Error::NoCells { found: 2, .. }), "{error}");
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let bad = Csr::from_dense(&array![[1f32, 1.0, 1.0], [1.0, 0.0, value]]);
        let error = of(&bad, &["g0", "g1", "g2"], &any_number()).unwrap_err();
        assert!(
            matches!(&error, Error::BadCount { cell: 1, gene, .. } if gene == "g2"),
            "{error}"
        );
    }
    for tokens in [vec![], vec![0; 3], vec![0, 0, 9, 0]] {
        assert!(model.encode(&tokens, Stabiliser::PerSequence).is_err());
    }
    let cells = model
        .cells(&good, &["g0", "g1", "g2"], &any_number())
        .unwrap();
    assert!(matches!(cells.tokens(&[1]), Err(Error::Data(_))));
    assert!(matches!(
        model.classify(&cells),
        Err(Error::WrongHead { .. })
    ));
    let two = model.with_classes(&labels(&["a", "b"]), 0).unwrap();
    assert!(matches!(
        two.labelled(&cells, &Categorical::from_labels(&["a"])),
        Err(Error::Data(_))
    ));
    // The second cell was left out, and its label with it; one of a cell that stays must be known.
    assert!(
        two.labelled(&cells, &Categorical::from_labels(&["z", "a"]))
            .is_err()
    );
}

#[test]
fn panels() {
    assert!(matches!(
        GenePanel::new(Vec::<String>::new()),
        Err(Error::Panel { .. })
    ));
    assert!(
        GenePanel::new(["a", "b", "a"])
            .unwrap_err()
            .to_string()
            .contains("a is both gene 1 and gene 3")
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("genes.txt");
    std::fs::write(&path, "\u{feff}A1BG\r\nA1CF\r\n\r\nA2M \n").unwrap();
    let read = GenePanel::read(&path).unwrap();
    assert_eq!(read.names(), ["A1BG", "A1CF", "A2M"]);
    assert!(matches!(
        GenePanel::read(dir.path().join("none")),
        Err(Error::File { .. })
    ));
    let found = read.align(&["A2M", "x", "A1BG", "A2M"]).unwrap();
    assert_eq!((found.n_found(), found.n_extra()), (2, 1));
    assert_eq!(found.missing(), ["A1CF"]);
    assert_eq!(found.duplicated(), ["A2M"]);
    assert_eq!(found.positions, [Some(2), None, Some(0), None]);
}

#[test]
fn checkpoints_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    let model = small(5, DType::F32);
    model.save_scbert(&path).unwrap();
    let open = |panel, options: &UpstreamOptions| {
        Scbert::from_scbert(&path, panel, options, &Device::Cpu).map(|_| ())
    };
    open(panel(5), &UpstreamOptions::default()).unwrap();
    let error = open(panel(6), &UpstreamOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("6 genes") && error.contains("for 5"),
        "{error}"
    );

    // A file that lacks a tensor, has one too many and one of another shape.
    use sc_io::pytorch::{self, Dict, TorchTensor, Value};
    let root = pytorch::read(&path).unwrap();
    let state = root
        .get("model_state_dict")
        .unwrap()
        .as_dict()
        .unwrap()
        .clone();
    let mut pairs: Vec<(String, Value)> = state
        .iter_str()
        .map(|(n, v)| (format!("module.{n}"), v.clone()))
        .collect();
    let number = || Value::from(TorchTensor::from_f32(&[1], &[0.0]).unwrap());
    pairs.retain(|(n, _)| !n.ends_with("layers.2.0.norm.bias"));
    pairs.push(("module.extra".into(), number()));
    for (n, v) in &mut pairs {
        if n.ends_with("layers.1.1.fn.fn.w1.bias") {
            *v = number();
        }
    }
    pytorch::write(&path, &Dict::ordered(pairs).into()).unwrap();
    let Err(Error::OtherTensors {
        missing,
        unexpected,
        shapes,
        ..
    }) = open(panel(5), &UpstreamOptions::default())
    else {
        panic!("was read");
    };
    assert_eq!(missing, ["performer.net.layers.2.0.norm.bias"]);
    assert_eq!(unexpected, ["extra"]);
    assert_eq!(
        shapes,
        ["performer.net.layers.1.1.fn.fn.w1.bias is [1] instead of [20]"]
    );

    std::fs::write(&path, b"no checkpoint").unwrap();
    assert!(matches!(
        open(panel(5), &UpstreamOptions::default()),
        Err(Error::Checkpoint(_))
    ));
    pytorch::write(&path, &Value::Int(3)).unwrap();
    assert!(
        open(panel(5), &UpstreamOptions::default())
            .unwrap_err()
            .to_string()
            .contains("no checkpoint of scBERT")
    );
}

#[test]
fn numpy_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.npy");
    let file = |header: &str, data: &[u8]| {
        let mut all = b"\x93NUMPY\x01\x00".to_vec();
        all.extend((header.len() as u16).to_le_bytes());
        all.extend(header.as_bytes());
        all.extend(data);
        std::fs::write(&path, all).unwrap();
        GeneVectors::read_npy(&path)
    };
    let doubles = |v: &[f64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let rows = file(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n",
        &doubles(&six),
    )
    .unwrap();
    assert_eq!(rows.values(), array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let columns = file(
        "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2), }\n",
        &doubles(&six),
    )
    .unwrap();
    assert_eq!(columns.values(), array![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    let singles: Vec<u8> = [0.5f32, -2.0]
        .iter()
        .flat_map(|x| x.to_be_bytes())
        .collect();
    let big = file(
        "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}",
        &singles,
    )
    .unwrap();
    assert_eq!(big.values(), array![[0.5, -2.0]]);
    for (header, data) in [
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2)}",
            doubles(&six[..5]),
        ),
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (6,)}",
            doubles(&six),
        ),
        (
            "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 2)}",
            doubles(&six),
        ),
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 9999999999)}",
            doubles(&six),
        ),
        ("", vec![]),
        ("{'descr': '<f8', 'fortran_order': False}", vec![]),
    ] {
        assert!(
            matches!(file(header, &data), Err(Error::Npy { .. })),
            "{header}"
        );
    }
    assert!(
        file(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}",
            &doubles(&[f64::NAN])
        )
        .is_err()
    );
    std::fs::write(&path, b"\x93NUMPY\x01\x00\xff\xff{").unwrap();
    assert!(matches!(
        GeneVectors::read_npy(&path),
        Err(Error::Npy { .. })
    ));
    let wrong = Scbert::params(panel(4)).dim(2).gene_vectors(rows).check();
    assert!(matches!(wrong, Err(Error::InvalidSetting { .. })));
}

#[test]
fn gene_vectors_are_kept_as_they_were_given() {
    let vectors = array![[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]];
    let params = Scbert::params(panel(3))
        .dim(2)
        .depth(1)
        .heads(1)
        .dim_head(2)
        .features(3);
    let model = params
        .gene_vectors(GeneVectors::new(vectors.clone()).unwrap())
        .check()
        .unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let kept = model.parameters().get("pos_emb.emb.weight").unwrap();
    assert_eq!(kept.value().dtype(), DType::F64);
    let kept: Vec<Vec<f64>> = kept.value().to_vec2().unwrap();
    assert_eq!(
        kept[..3],
        vectors
            .rows()
            .into_iter()
            .map(|r| r.to_vec())
            .collect::<Vec<_>>()
    );
    assert_eq!(kept[3], [0.0, 0.0]);
}

#[test]
fn random_features_are_drawn_again_when_asked_for() {
    use sc_model::train::{Split, Step};
    let model = small(6, DType::F32);
    let (rng, split) = (Rng::new(0), Split::default());
    let step = Step {
        mode: Mode::train(&rng, 0),
        epoch: 0,
        step: 0,
        step_in_epoch: 0,
        batch_size: 1,
        split: &split,
        kl_weight: 1.0,
        rng: &rng,
    };
    let projections = || -> Vec<Tensor> {
        model
            .nets
            .blocks
            .iter()
            .map(|b| b.projection.value().copy().unwrap())
            .collect()
    };
    let same = |a: &[Tensor], b: &[Tensor]| -> Vec<bool> {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.to_vec2::<f32>().unwrap() == b.to_vec2::<f32>().unwrap())
            .collect()
    };
    let before = projections();
    for part in 0..2 {
        model.note_pass(Some(2), &step, part).unwrap();
    }
    assert_eq!(same(&before, &projections()), [true; 3]);
    model.note_pass(Some(2), &step, 2).unwrap();
    assert_eq!(same(&before, &projections()), [false; 3]);
    assert_eq!(model.nets.calls.value().to_scalar::<i64>().unwrap(), 0);
    let after = projections();
    for part in 3..20 {
        model.note_pass(None, &step, part).unwrap();
    }
    assert_eq!(same(&after, &projections()), [true; 3]);
}

/// Cells of two types: half of the genes are high in one, half in the other.
fn two_types(cells: usize, genes: usize) -> (Csr, Categorical) {
    let mut noise = vec![0f32; cells * genes];
    Rng::new(5)
        .stream("noise")
        .fill_uniform(0.0, 3.0, &mut noise);
    let counts = Array2::from_shape_fn((cells, genes), |(i, j)| {
        let high = (i % 3 == 0) == (j % 2 == 0);
        (noise[i * genes + j] * if high { 4.0 } else { 1.0 }).floor()
    });
    let types: Vec<&str> = (0..cells)
        .map(|i| if i % 3 == 0 { "rare" } else { "usual" })
        .collect();
    (Csr::from_dense(&counts), Categorical::from_labels(&types))
}

fn quick(train: &mut sc_model::train::TrainConfig, epochs: usize) {
    train.batch_size = 16;
    train.lr = 3e-3;
    train.lr_schedule = sc_model::LrSchedule::Constant;
    train.max_epochs = Some(epochs);
}

fn weights(model: &Scbert) -> Vec<(String, Vec<f64>)> {
    let of = |p: &sc_model::Param| {
        let v = p
            .value()
            .to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap();
        (p.name().to_owned(), v.to_vec1::<f64>().unwrap())
    };
    model.parameters().iter().map(of).collect()
}

#[test]
fn fine_tuning_learns_and_leaves_the_rest_alone() {
    let (counts, types) = two_types(60, 16);
    let params = Scbert::params(panel(16))
        .dim(12)
        .depth(3)
        .heads(2)
        .dim_head(6);
    let params = params.classifier_hidden([24, 12]).check().unwrap();
    let model = params.init(&Device::Cpu, 7).unwrap();
    let model = model.with_classes(types.categories(), 1).unwrap();
    // About the sum of the counts, so that tokens differ.
    let config = CellsConfig {
        target_sum: 50.0,
        ..any_number()
    };
    let cells = model.cells(&counts, &names(16), &config).unwrap();
    let labelled = model.labelled(&cells, &types).unwrap();
    assert_eq!(labelled.counts(), [20, 40]);
    let before = weights(&model);
    let mut config = FinetuneConfig::default();
    quick(&mut config.train, 40);
    config.class_weights = ClassWeights::Balanced;
    config.micro_batch = Some(4);
    let fitted = model.finetune(&labelled, &config, &mut ()).unwrap();
    // Each type is split on its own: 80 % of 20 and of 40.
    let rare = |cells: &[usize]| cells.iter().filter(|&&c| c % 3 == 0).count();
    assert_eq!(
        (fitted.split.train.len(), rare(&fitted.split.train)),
        (48, 16)
    );
    let best = fitted
        .history
        .values("accuracy_validation")
        .into_iter()
        .fold(0.0, f64::max);
    assert!(best > 0.9, "{best}");
    for ((name, before), (_, after)) in before.iter().zip(weights(&model)) {
        let trained = ["norm.", "to_out.", "performer.net.layers.1."]
            .iter()
            .any(|t| name.starts_with(t));
        let kept = !trained || name.ends_with("projection_matrix");
        assert_eq!(*before == after, kept, "{name}");
    }
}

#[test]
fn training_is_the_same_on_any_number_of_threads() {
    let (counts, _) = two_types(40, 16);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let model = small(16, DType::F32);
            let cells = model.cells(&counts, &names(16), &any_number()).unwrap();
            let mut config = PretrainConfig::default();
            quick(&mut config.train, 2);
            config.redraw_every = Some(30);
            model.pretrain(&cells, &config, &mut ()).unwrap();
            weights(&model)
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let fresh = weights(&small(16, DType::F32));
    for ((name, trained), (_, fresh)) in one.iter().zip(&fresh) {
        assert_eq!(trained == fresh, name == "pos_emb.emb.weight", "{name}");
    }
}

#[test]
fn weights_of_classes() {
    let (counts, types) = two_types(60, 16);
    let model = small(16, DType::F32)
        .with_classes(types.categories(), 1)
        .unwrap();
    let cells = model.cells(&counts, &names(16), &any_number()).unwrap();
    let labelled = model.labelled(&cells, &types).unwrap();
    use sc_model::train::{Split, Step};
    let (rng, split) = (Rng::new(0), Split::default());
    let step = Step {
        mode: Mode::eval(),
        epoch: 0,
        step: 0,
        step_in_epoch: 0,
        batch_size: 4,
        split: &split,
        kl_weight: 1.0,
        rng: &rng,
    };
    let tokens = cells.tokens(&[0, 1, 2, 3]).unwrap();
    let config = FinetuneConfig::default();
    let task = model.finetuning(&config).unwrap();
    let loss = |weights: &[f64]| -> f64 {
        let loss = task
            .loss_of(&tokens, &[0, 1, 1, 0], weights, &step)
            .unwrap()
            .loss;
        loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    };
    let logits = model
        .class_logits(&tokens, Stabiliser::PerSequence)
        .unwrap();
    let p = sc_tensor::ops::log_softmax(&logits)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let nll = [p[0][0], p[1][1], p[2][1], p[3][0]].map(|p| -f64::from(p));
    for (kind, rare, usual) in [
        (ClassWeights::None, 1.0, 1.0),
        (ClassWeights::Balanced, 1.5, 0.75),
        (ClassWeights::SquaredRarity, 4.0 / 9.0, 1.0 / 9.0),
    ] {
        let weights = labelled.weights(kind);
        assert!(
            (weights[0] - rare).abs() < 1e-12 && (weights[1] - usual).abs() < 1e-12,
            "{weights:?}"
        );
        let expected =
            (rare * (nll[0] + nll[3]) + usual * (nll[1] + nll[2])) / (2.0 * (rare + usual));
        assert!((loss(&weights) - expected).abs() < 1e-6, "{kind:?}");
    }
}
