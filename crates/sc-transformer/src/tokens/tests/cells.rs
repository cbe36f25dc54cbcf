use ndarray::array;
use proptest::prelude::*;
use sc_data::{Csr, Rows};
use sc_model::Parity;

use super::*;
use crate::Error;

#[test]
fn a_cell_is_the_same_wherever_it_comes() {
    let data = counts(40, 60, 1);
    let tokenizer = tokenizer(
        60,
        TokenizerOptions {
            max_len: Some(12),
            ..TokenizerOptions::default()
        },
    );
    let all: Vec<usize> = (0..40).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| tokenizer.batch(&data, &all, 3).unwrap())
    };
    let batch = run(1);
    same(&batch, &run(2));
    batch.check().unwrap();
    assert!(
        batch
            .segments
            .iter()
            .all(|s| s.rows <= 12 && s.keys == s.rows)
    );
    // Other orders, other files, one at a time.
    let backwards: Vec<usize> = (0..40).rev().collect();
    let other = tokenizer.batch(&data, &backwards, 3).unwrap();
    let part = Rows::new(&data, (7..19).collect()).unwrap();
    let of_part = tokenizer.batch(&part, &[2, 0], 3).unwrap();
    for cell in 0..40 {
        assert_eq!(of_cell(&batch, cell), of_cell(&other, cell));
    }
    assert_eq!(of_cell(&batch, 9), of_cell(&of_part, 2));
    // Another pass draws other genes.
    assert_ne!(tokenizer.batch(&data, &all, 4).unwrap().ids, batch.ids);
}

#[test]
fn batches_hold_each_cell_once() {
    let data = Csr::from_dense(&counts(50, 60, 2));
    let tokenizer = tokenizer(60, TokenizerOptions::default());
    let lengths = tokenizer.lengths(&data).unwrap();
    let limits = BatchLimits {
        max_tokens: 70,
        max_cells: 4,
        window: 16,
    };
    let whole = tokenizer
        .batch(&data, &(0..50).collect::<Vec<_>>(), 0)
        .unwrap();
    let mut seen = vec![0; 50];
    let mut sums = Array2::zeros((50, 1));
    for batch in tokenizer.batches(&data, limits, 0).unwrap() {
        let batch = batch.unwrap();
        batch.check().unwrap();
        assert!(batch.n_cells() <= 4 && (batch.n_tokens() <= 70 || batch.n_cells() == 1));
        let mut own = Array2::zeros((batch.n_cells(), 1));
        for (i, (&cell, s)) in batch.cells.iter().zip(batch.segments.iter()).enumerate() {
            seen[cell] += 1;
            assert_eq!(s.rows, lengths[cell]);
            assert_eq!(of_cell(&batch, cell), of_cell(&whole, cell));
            own[(i, 0)] = batch.values[s.start..s.start + s.rows].iter().sum();
        }
        scatter(&batch.cells, own.view(), &mut sums).unwrap();
    }
    assert_eq!(seen, vec![1; 50]);
    for (i, s) in whole.segments.iter().enumerate() {
        assert_eq!(
            sums[(i, 0)],
            whole.values[s.start..s.start + s.rows].iter().sum::<f32>()
        );
    }
    let none = BatchLimits {
        window: 0,
        ..limits
    };
    assert!(tokenizer.batches(&data, none, 0).is_err());
    assert!(scatter(&[50], Array2::zeros((1, 1)).view(), &mut sums).is_err());
    assert!(scatter(&[0], Array2::zeros((1, 2)).view(), &mut sums).is_err());
    // An empty source has no batch.
    assert_eq!(
        tokenizer
            .batches(&Csr::zeros(0, 60), limits, 0)
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_bad_cell_ends_the_batches() {
    let mut data = counts(20, 5, 3);
    data[(11, 2)] = f32::NAN;
    let tokenizer = tokenizer(5, TokenizerOptions::default());
    let limits = BatchLimits {
        window: 4,
        max_cells: 2,
        ..BatchLimits::default()
    };
    let all: Vec<_> = tokenizer.batches(&data, limits, 0).unwrap().collect();
    assert_eq!(all.len(), 5);
    let message = all[4].as_ref().unwrap_err().to_string();
    assert!(
        message.contains("cell 11") && message.contains("\"g2\"") && message.contains("NaN"),
        "{message}"
    );
}

#[test]
fn values_that_cannot_be() {
    let tokenizer = tokenizer(3, TokenizerOptions::default());
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let data = array![[1.0f32, 0.0, 0.0], [0.0, bad, 1.0]];
        let error = tokenizer.batch(&data, &[0, 1], 0).unwrap_err();
        assert!(
            matches!(error, Error::InvalidValue { cell: 1, ref gene, .. } if gene == "g1"),
            "{error}"
        );
    }
    // Columns that are left out are not looked at.
    let vocab = vocab(3);
    let genes = vocab
        .match_genes(&["g0", "x", "g2"], GeneCase::Exact)
        .unwrap();
    let tokenizer = Tokenizer::new(&vocab, &genes, TokenizerOptions::default()).unwrap();
    let batch = tokenizer
        .batch(&array![[0.0f32, f32::NAN, 1.0]], &[0], 0)
        .unwrap();
    assert_eq!(batch.ids, [4, 2]);
    assert!(tokenizer.batch(&array![[1.0f32]], &[0], 0).is_err());
    assert!(
        tokenizer
            .batch(&array![[1.0f32, 0.0, 0.0]], &[1], 0)
            .is_err()
    );
}

#[test]
fn cells_without_genes_are_cls_alone() {
    let tokenizer = tokenizer(2, TokenizerOptions::default());
    let batch = tokenizer
        .batch(&array![[0.0f32, 0.0], [1.0, 0.0]], &[0, 1], 0)
        .unwrap();
    assert_eq!(
        (batch.ids.as_slice(), &batch.values[..2]),
        ([3, 3, 0].as_slice(), [-2.0, -2.0].as_slice())
    );
    // A gene alone may be in any bin.
    assert!((1.0..=50.0).contains(&batch.values[2]));
    assert_eq!(batch.without_genes(), [0]);
    assert_eq!(batch.first_tokens(), [0, 1]);
}

#[test]
fn settings_that_cannot_be() {
    let no_cls = GeneVocab::new(["g0", "<pad>"]).unwrap();
    let genes = no_cls.match_genes(&["g0"], GeneCase::Exact).unwrap();
    let of = |options| Tokenizer::new(&no_cls, &genes, options);
    let plain = TokenizerOptions::default();
    assert!(of(plain.clone()).unwrap_err().to_string().contains("<cls>"));
    let without = TokenizerOptions {
        cls: None,
        ..plain.clone()
    };
    of(without.clone()).unwrap();
    assert!(
        of(TokenizerOptions {
            max_len: Some(0),
            ..without.clone()
        })
        .is_err()
    );
    let binning = |n_bins| {
        Some(Binning {
            n_bins,
            ties: Ties::Lower,
        })
    };
    assert!(
        of(TokenizerOptions {
            binning: binning(1),
            ..without.clone()
        })
        .is_err()
    );
    assert!(
        of(without.clone())
            .unwrap()
            .with_modalities(&["a", "b"])
            .is_err()
    );
    assert!(of(without).unwrap().with_modalities(&["<cls>"]).is_err());
    let share = |s| Masker::new(MaskOptions::share(s, 0, Parity::Correct)).is_err();
    assert!(share(1.1) && share(-0.1) && share(f64::NAN) && !share(1.0));
    let split = |ratios: Vec<f64>| {
        GenerativeSplit::new(GenerativeOptions {
            ratios,
            ..GenerativeOptions::default()
        })
        .is_err()
    };
    assert!(split(vec![]) && split(vec![0.5, 1.0]) && !split(vec![0.0]));
}

#[test]
fn the_highest_values_stay() {
    let options = TokenizerOptions {
        binning: None,
        max_len: Some(4),
        overflow: Overflow::Top,
        ..TokenizerOptions::default()
    };
    let batch = tokenizer(5, options.clone())
        .batch(&array![[2.0f32, 1.0, 7.0, 1.0, 0.5]], &[0], 0)
        .unwrap();
    assert_eq!(batch.values, [-2.0, 2.0, 1.0, 7.0]);
    let first = TokenizerOptions {
        overflow: Overflow::First,
        ..options
    };
    let batch = tokenizer(5, first)
        .batch(&array![[0.0f32, 1.0, 7.0, 1.0, 0.5]], &[0], 0)
        .unwrap();
    assert_eq!(batch.values, [-2.0, 1.0, 7.0, 1.0]);
}

#[test]
fn modalities_are_binned_apart() {
    let options = TokenizerOptions {
        binning: Some(Binning {
            n_bins: 3,
            ties: Ties::Upper,
        }),
        ..TokenizerOptions::default()
    };
    let tokenizer = tokenizer(4, options)
        .with_modalities(&["RNA", "protein", "RNA", "protein"])
        .unwrap();
    let batch = tokenizer
        .batch(&array![[1.0f32, 100.0, 2.0, 900.0]], &[0], 0)
        .unwrap();
    assert_eq!(batch.values, [-2.0, 1.0, 1.0, 2.0, 2.0]);
    // In alphabetical order, RNA before protein; <pad> is 2 and <cls> 3.
    assert_eq!(batch.modality.unwrap(), [3, 0, 1, 0, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tokens_are_the_genes_of_a_cell(seed in any::<u64>(), max_len in 2usize..40, zeros in any::<bool>()) {
        let data = counts(4, 25, seed);
        let options = TokenizerOptions { binning: None, include_zeros: zeros, max_len: Some(max_len), ..TokenizerOptions::default() };
        let batch = tokenizer(25, options).batch(&data, &[3, 2, 1, 0], 0).unwrap();
        for (s, &cell) in batch.segments.iter().zip(&batch.cells) {
            let row = data.row(cell);
            let all = row.iter().filter(|v| zeros || **v > 0.0).count();
            prop_assert_eq!(s.rows, (all + 1).min(max_len));
            let rows = s.start + 1..s.start + s.rows;
            prop_assert!(batch.ids[rows.clone()].windows(2).all(|w| w[0] < w[1]));
            for i in rows {
                prop_assert_eq!(batch.values[i], row[batch.ids[i] as usize]);
            }
        }
    }
}
