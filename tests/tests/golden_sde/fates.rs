//! Labels, clonal fates, smoothing and scores against scDiffEq's and scikit-learn's numbers, on real lineage-traced cells.

use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_data::{Categorical, Csr};
use sc_model::Parity;
use sc_neighbors::{knn, knn_query};
use sc_sde::downstream::{
    ClonalFates, CrossEntropy, FateCounts, FateMatrix, HAS_FATE, StateLabels, accuracy,
    bias_correlation, cross_entropy, divergences, fate_scores, landscape, smooth, to_array,
};
use sc_tests::{json, shared, values};

use crate::golden::Golden;

fn integers(t: &Tensor) -> Vec<i64> {
    t.to_dtype(DType::I64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn matrix<T>(t: &Tensor, values: Vec<T>) -> Array2<T> {
    Array2::from_shape_vec(t.dims2().unwrap(), values).unwrap()
}

fn names(golden: &Golden, key: &str) -> Vec<String> {
    let all = golden.meta()[key].as_array().unwrap();
    all.iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// The labels of some cells, as numbers of all states.
fn kinds(golden: &Golden, rows: impl Iterator<Item = usize>) -> Categorical {
    let codes = integers(&golden.get("state_code"));
    let codes = rows.map(|r| Some(codes[r] as u32)).collect();
    Categorical::new(codes, names(golden, "states"), false).unwrap()
}

#[test]
fn labels_of_the_nearest_cells() {
    let Some(golden) = Golden::open("fate_larry.safetensors") else {
        return;
    };
    let cells = to_array(&golden.get("X_pca")).unwrap();
    let rows: Vec<usize> = integers(&golden.get("knn.train_rows"))
        .iter()
        .map(|r| *r as usize)
        .collect();
    let index = cells.select(ndarray::Axis(0), &rows);
    let query = to_array(&golden.get("knn.query")).unwrap();
    let near = knn_query(index.view(), query.view(), 21).unwrap();
    let found: Vec<i64> = near.indices.iter().map(|i| i64::from(*i)).collect();
    assert_eq!(found, integers(&golden.get("knn.neighbors21")));

    let states = StateLabels::new(index.view(), &kinds(&golden, rows.iter().copied())).unwrap();
    let mut compared = 0;
    for (parity, key) in [
        (Parity::Upstream, "drop_first"),
        (Parity::Correct, "keep_first"),
    ] {
        let states = states.clone().parity(parity);
        let votes = states.votes(query.view()).unwrap();
        let votes: Vec<i64> = votes.iter().map(|v| i64::from(*v)).collect();
        assert_eq!(votes, integers(&golden.get(&format!("knn.counts_{key}"))));
        let labels = states.label(query.view()).unwrap();
        let expected = integers(&golden.get(&format!("knn.label_{key}")));
        let tied = integers(&golden.get(&format!("knn.tie_{key}")));
        for ((label, expected), tied) in labels.iter().zip(expected).zip(tied) {
            if tied == 0 {
                assert_eq!(*label as i64, expected, "{key}");
                compared += 1;
            }
        }
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn fates_of_clones() {
    let Some(golden) = Golden::open("fate_larry.safetensors") else {
        return;
    };
    let of_cell = integers(&golden.get("clone"));
    let n_clones = *of_cell.iter().max().unwrap() as usize + 1;
    let mut dense = Array2::<f32>::zeros((of_cell.len(), n_clones));
    for (row, clone) in of_cell.iter().enumerate() {
        dense[[row, *clone as usize]] = 1.0;
    }
    let clones = Csr::from_dense(&dense);
    let days = values(&golden.get("time"));
    let kinds = kinds(&golden, 0..days.len());
    for (day, later, key) in [
        (2.0, vec![4.0, 6.0], "F_obs_d2"),
        (4.0, vec![6.0], "F_obs_d4"),
    ] {
        let found = ClonalFates::observe(&clones, &days, &kinds, day, &later, &["undiff"]);
        let found = found.unwrap();
        let rows: Vec<i64> = found.cells().iter().map(|r| *r as i64).collect();
        assert_eq!(rows, integers(&golden.get(&format!("{key}_rows"))));
        assert_eq!(found.matrix().fates(), names(&golden, "fates"));
        let counts: Vec<i64> = found.counts().counts().iter().map(|c| *c as i64).collect();
        assert_eq!(counts, integers(&golden.get(&format!("{key}_counts"))));
        let matrix = found.matrix();
        let (n, f) = matrix.fractions().dim();
        let fractions: Vec<f64> = matrix.fractions().iter().copied().collect();
        let fractions = Tensor::from_vec(fractions, (n, f), &candle_core::Device::Cpu).unwrap();
        golden.check(key, &fractions);
    }
}

#[test]
fn smoothing_and_landscape() {
    let Some(golden) = Golden::open("fate_larry.safetensors") else {
        return;
    };
    let cells = to_array(&golden.get("X_pca")).unwrap();
    let near = knn(cells.view(), 20).unwrap();
    let score = values(&golden.get("smooth.score"));
    let check = |key: &str, found: Vec<f64>| {
        golden.check(key, &Tensor::new(found, &candle_core::Device::Cpu).unwrap());
    };
    check("smooth.exact_3iter_k20", smooth(&score, &near, 3).unwrap());
    check(
        "smooth.potential_normalised_exact",
        landscape(&score, &near, Parity::Upstream).unwrap(),
    );
    let ours = landscape(&score, &near, Parity::Correct).unwrap();
    assert!(ours.iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn scores_of_fates() {
    let Some(golden) = Golden::open("fate_metrics.safetensors") else {
        return;
    };
    let known = json(&shared().unwrap().join("golden/sde/fate_metrics.json"));
    let number = |found: f64, key: &str| {
        let expected = known[key].as_f64().unwrap();
        let apart = (found - expected).abs();
        assert!(apart <= 1e-9 * expected.abs(), "{key}: {found} {expected}");
    };
    let fates = names(&golden, "fates");
    let of = |key: &str| {
        let t = golden.get(key);
        FateMatrix::new(fates.clone(), matrix(&t, values(&t))).unwrap()
    };
    let (observed, predicted) = (of("F_obs"), of("F_hat"));

    let upstream = accuracy(&observed, &predicted, Parity::Upstream).unwrap();
    number(upstream, "accuracy_callback_zeros_argmax_first");
    let correct = accuracy(&observed, &predicted, Parity::Correct).unwrap();
    number(correct, "accuracy_undiff_always_wrong");
    let cross = |kind| cross_entropy(&observed, &predicted, kind).unwrap();
    number(
        cross(CrossEntropy::Sum { epsilon: 1e-7 }),
        "neg_cross_entropy_sum_clip1e7",
    );
    number(cross(CrossEntropy::default()), "ce_mean_eps1e_8");
    let kl = divergences(&observed, &predicted).unwrap();
    number(kl.iter().sum::<f64>() / kl.len() as f64, "kl_mean");
    let bias = bias_correlation(&observed, &predicted, "Neutrophil", "Monocyte");
    number(bias.unwrap().unwrap(), "neu_mon_pearson");

    let scores = fate_scores(&observed, &predicted, HAS_FATE).unwrap();
    number(
        scores.average_precision_micro.unwrap(),
        "average_precision_micro",
    );
    number(
        scores.average_precision_macro.unwrap(),
        "average_precision_macro",
    );
    for fate in &scores.fates {
        let expected = known["average_precision"][&fate.fate].as_f64().unwrap();
        let apart = (fate.average_precision.unwrap() - expected).abs();
        assert!(apart <= 1e-9, "{}", fate.fate);
    }
    let several = observed
        .n_fates(HAS_FATE)
        .iter()
        .filter(|n| **n > 1)
        .count();
    assert_eq!(Some(several as u64), known["n_multi_fate"].as_u64());
    let one = observed.n_fates(0.0).iter().filter(|n| **n == 1).count();
    assert_eq!(Some(one as u64), known["n_mono_fate"].as_u64());

    let check = |key: &str, found: Vec<f64>| {
        golden.check(key, &Tensor::new(found, &candle_core::Device::Cpu).unwrap());
    };
    check("kl_per_cell", kl);
    check("entropy_hat", predicted.entropy());
    check(
        "neu_mon_obs",
        observed.bias("Neutrophil", "Monocyte").unwrap(),
    );
    check(
        "neu_mon_hat",
        predicted.bias("Neutrophil", "Monocyte").unwrap(),
    );

    // With the undecided paths for a column of their own.
    let counts = golden.get("counts_hat");
    let undecided = integers(&golden.get("undiff_count"));
    let mut all = Array2::<u64>::zeros((undecided.len(), fates.len() + 1));
    for ((row, column), c) in matrix(&counts, integers(&counts)).indexed_iter() {
        all[[row, column]] = *c as u64;
    }
    for (row, c) in undecided.iter().enumerate() {
        all[[row, fates.len()]] = *c as u64;
    }
    let mut names = fates.clone();
    names.push("undiff".into());
    let with = FateCounts::new(names, all).unwrap().fractions();
    let kind = CrossEntropy::Mean { epsilon: 1e-12 };
    number(
        cross_entropy(&observed, &with, kind).unwrap(),
        "ce_mean_eps1e_12_with_undiff",
    );
}

/// The observed fates of the whole LARRY data set: how many cells of each.
#[test]
fn fates_of_all_clones() {
    let Some(dir) = shared() else { return };
    let text = std::fs::read_to_string(dir.join("data/timecourse/larry_full/F_obs.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<String> = lines
        .next()
        .unwrap()
        .split(',')
        .skip(1)
        .map(str::to_owned)
        .collect();
    let numbers: Vec<f64> = lines
        .flat_map(|l| l.split(',').skip(1))
        .map(|v| v.parse().unwrap())
        .collect();
    let n = numbers.len() / names.len();
    let values = Array2::from_shape_vec((n, names.len()), numbers).unwrap();
    let observed = FateMatrix::new(names, values).unwrap();
    assert_eq!(observed.n_cells(), 2081);
    let mut counts = [0; 10];
    for best in observed.dominant(Parity::Correct) {
        counts[best.unwrap()] += 1;
    }
    let count = |fate: &str| counts[observed.fates().iter().position(|f| f == fate).unwrap()];
    for (fate, expected) in [
        ("Neutrophil", 777),
        ("Monocyte", 685),
        ("Baso", 286),
        ("Meg", 123),
        ("Lymphoid", 91),
        ("Mast", 56),
        ("Erythroid", 24),
        ("Ccr7_DC", 17),
        ("Eos", 15),
        ("pDC", 7),
    ] {
        assert_eq!(count(fate), expected, "{fate}");
    }
    let n_fates = observed.n_fates(0.0);
    let with = |n: usize| n_fates.iter().filter(|f| **f == n).count();
    assert_eq!([with(1), with(2), with(3), with(4)], [1650, 376, 49, 6]);
}
