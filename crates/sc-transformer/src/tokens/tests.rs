use ndarray::{Array2, array};
use proptest::prelude::*;
use sc_data::{Csr, RowSource, Rows};
use sc_model::Parity;
use sc_tensor::Rng;

use super::*;
use crate::Error;
use crate::vocab::{GeneCase, GeneVocab, SPECIALS};

fn vocab(n: usize) -> GeneVocab {
    GeneVocab::new(
        (0..n)
            .map(|i| format!("g{i}"))
            .chain(SPECIALS.map(str::to_owned)),
    )
    .unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("g{i}")).collect()
}

fn tokenizer(n: usize, options: TokenizerOptions) -> Tokenizer {
    let vocab = vocab(n);
    let genes = vocab.match_genes(&names(n), GeneCase::Exact).unwrap();
    Tokenizer::new(&vocab, &genes, options).unwrap()
}

/// Counts like those of a cell: most are zero, most others are small.
fn counts(cells: usize, genes: usize, seed: u64) -> Array2<f32> {
    let mut u = vec![0f64; cells * genes];
    Rng::new(seed)
        .stream("counts")
        .fill_uniform(0.0, 1.0, &mut u);
    let of = |u: f64| {
        if u < 0.6 {
            0.0
        } else {
            (1.0 / (1.001 - u)).ln().floor() as f32
        }
    };
    Array2::from_shape_vec((cells, genes), u.into_iter().map(of).collect()).unwrap()
}

fn same(a: &TokenBatch, b: &TokenBatch) {
    assert_eq!((&a.cells, &a.ids, &a.values), (&b.cells, &b.ids, &b.values));
    assert_eq!(
        a.segments.iter().collect::<Vec<_>>(),
        b.segments.iter().collect::<Vec<_>>()
    );
}

/// The tokens of one cell.
fn of_cell(batch: &TokenBatch, cell: usize) -> (Vec<u32>, Vec<f32>) {
    let at = batch.cells.iter().position(|&c| c == cell).unwrap();
    let s = batch.segments.iter().nth(at).unwrap();
    let rows = s.start..s.start + s.rows;
    (
        batch.ids[rows.clone()].to_vec(),
        batch.values[rows].to_vec(),
    )
}

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

#[test]
fn known_genes_come_first() {
    let data = counts(30, 80, 4);
    let all: Vec<usize> = (0..30).collect();
    let batch = tokenizer(
        80,
        TokenizerOptions {
            max_len: None,
            ..TokenizerOptions::default()
        },
    )
    .batch(&data, &all, 0)
    .unwrap();
    let split = GenerativeSplit::new(GenerativeOptions {
        max_len: Some(20),
        ..GenerativeOptions::default()
    })
    .unwrap();
    let found = split.split(&batch, 1).unwrap();
    found.check().unwrap();
    let mut ratios = std::collections::BTreeSet::new();
    for (i, s) in found.segments.iter().enumerate() {
        let (ids, values) = of_cell(&batch, i);
        assert!(s.rows <= 20 && found.ids[s.start] == ids[0]);
        let mut seen = std::collections::HashSet::new();
        for row in s.start..s.start + s.rows {
            let at = ids.iter().position(|&g| g == found.ids[row]).unwrap();
            assert!(seen.insert(at));
            assert_eq!(found.targets[row], values[at]);
            let unknown = row >= s.start + s.keys;
            assert_eq!(found.scored[row], unknown);
            assert_eq!(found.values[row], if unknown { -1.0 } else { values[at] });
        }
        if s.rows == 20 {
            ratios.insert(s.rows - s.keys);
        }
    }
    // A quarter, a half, and three quarters of 19.
    assert!(
        ratios.iter().all(|r| [4, 9, 14].contains(r)) && ratios.len() > 1,
        "{ratios:?}"
    );
    // Cells are split by themselves.
    let one = tokenizer(
        80,
        TokenizerOptions {
            max_len: None,
            ..TokenizerOptions::default()
        },
    )
    .batch(&data, &[17], 0)
    .unwrap();
    assert_eq!(
        of_cell(&split.split(&one, 1).unwrap(), 17),
        of_cell(&found, 17)
    );
    assert_ne!(split.split(&batch, 2).unwrap().ids, found.ids);
    assert!(split.split(&found, 1).is_err());
    assert!(split.split_at(&batch, 0, 1.0).is_err());
}

#[test]
fn each_value_is_hidden_with_its_probability() {
    let data = counts(200, 80, 5);
    let all: Vec<usize> = (0..200).collect();
    let mut batch = tokenizer(80, TokenizerOptions::default())
        .batch(&data, &all, 0)
        .unwrap();
    let masker = Masker::new(MaskOptions {
        hide: Hide::Each(0.4),
        mask_value: -1.0,
        cls: false,
        generator: Generator::Seeded(1),
    })
    .unwrap();
    let before = batch.clone();
    masker.mask(&mut batch, 0);
    let genes = (batch.n_tokens() - 200) as f64;
    let hidden = batch.scored.iter().filter(|s| **s).count() as f64;
    assert!((hidden / genes - 0.4).abs() < 5.0 * (0.24 / genes).sqrt());
    for i in 0..batch.n_tokens() {
        assert_eq!(
            batch.values[i],
            if batch.scored[i] {
                -1.0
            } else {
                before.values[i]
            }
        );
        assert_eq!(batch.targets[i], before.values[i]);
    }
    assert!(batch.segments.iter().all(|s| !batch.scored[s.start]));
}

/// `Random` gives what the original's draws give: all bins a value may have, equally often; `Expected` is their mean.
#[test]
fn ties_are_spread_evenly() {
    let values = [1.0f32; 7];
    let of = |ties| Binner::new(Binning { n_bins: 11, ties }).unwrap();
    assert_eq!(of(Ties::Lower).bin(&[], &values), [1.0; 7]);
    assert_eq!(of(Ties::Upper).bin(&[], &values), [10.0; 7]);
    assert_eq!(of(Ties::Expected).bin(&[], &values), [5.5; 7]);
    let random = of(Ties::Random { seed: 0 });
    let mut seen = [0f64; 11];
    for key in 0..2000u64 {
        for b in random.bin(&[key], &values) {
            seen[b as usize] += 1.0;
        }
    }
    assert_eq!(seen[0], 0.0);
    let chi2: f64 = seen[1..]
        .iter()
        .map(|n| (n - 1400.0).powi(2) / 1400.0)
        .sum();
    // 9 degrees of freedom; beyond 30 with a probability of 0.0004.
    assert!(chi2 < 30.0, "{seen:?}");
}

#[test]
fn pairs_before_and_after() {
    let data = array![
        [1.0f32, 0.0, 2.0, 0.5],
        [0.5, 0.0, 1.0, 0.0],
        [0.0, 3.0, 0.0, 1.0],
        [0.1, 0.2, 0.3, 0.4],
        [9.0, 9.0, 9.0, 9.0]
    ];
    let vocab = vocab(4);
    let genes = vocab
        .match_genes(&["g0", "g1", "x", "g3"], GeneCase::Exact)
        .unwrap();
    let conditions =
        ["ctrl", "ctrl", "g1+ctrl", "g3+g0", "absent"].map(|c| Perturbation::parse(c, "ctrl"));
    let options = PerturbationOptions {
        max_genes: Some(2),
        ..PerturbationOptions::default()
    };
    let tokens = PerturbationTokens::new(&data, &genes, &vocab, &conditions, options).unwrap();
    assert_eq!(
        (tokens.cells(), tokens.controls()),
        ([0, 1, 2, 3].as_slice(), [0, 1].as_slice())
    );
    assert_eq!(tokens.unmeasured(), ["absent"]);
    let mut partners = std::collections::BTreeSet::new();
    for pass in 0..20 {
        let batch = tokens.batch(&[2, 1], pass).unwrap();
        batch.check().unwrap();
        assert_eq!(batch.n_tokens(), 4);
        let flags = batch.flags.as_ref().unwrap();
        // The perturbed gene is always there.
        let at = batch.ids[..2].iter().position(|&g| g == 1).unwrap();
        assert_eq!(
            (flags[at], flags[1 - at], flags[2], flags[3]),
            (PERTURBED, UNPERTURBED, UNPERTURBED, UNPERTURBED)
        );
        assert_eq!((batch.targets[at], batch.values[at]), (3.0, 0.0));
        let other = batch.ids[1 - at];
        let control = if other == 0 { [1.0, 0.5] } else { [0.5, 0.0] };
        partners.insert(
            control
                .iter()
                .position(|&v| v == batch.values[1 - at])
                .unwrap(),
        );
        // Controls are their own targets.
        assert_eq!(batch.values[2..], batch.targets[2..]);
    }
    assert_eq!(partners.len(), 2);
    let batch = tokens.predict(&[0], &Perturbation::new(["g0"])).unwrap();
    assert_eq!(
        (batch.ids.as_slice(), batch.flags.unwrap().as_slice()),
        ([0, 1, 3].as_slice(), [1, 0, 0].as_slice())
    );
    assert!(tokens.predict(&[0], &Perturbation::new(["x"])).is_err());
    assert_eq!(tokens.perturbation(3).unwrap().to_string(), "g0+g3");

    let pad = PerturbationOptions {
        unknown: UnknownGenes::AsPad,
        max_genes: None,
        ..options
    };
    let tokens = PerturbationTokens::new(&data, &genes, &vocab, &conditions, pad).unwrap();
    let batch = tokens.batch(&[0], 0).unwrap();
    assert_eq!(
        (batch.ids.as_slice(), batch.values.as_slice()),
        ([0, 1, 4, 3].as_slice(), [1.0, 0.0, 2.0, 0.5].as_slice())
    );
    let none = conditions.clone().map(|_| Perturbation::new(["g0"]));
    let message = PerturbationTokens::new(&data, &genes, &vocab, &none, pad)
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("no cell is a control"), "{message}");
}

#[test]
fn steps_before_tokens() {
    use super::preprocess::*;
    let data = array![
        [4.0f32, 0.0, 6.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 2.0]
    ];
    let options = PreprocessOptions {
        min_gene_counts: Some(1.0),
        min_cell_counts: Some(2.0),
        target: Some(Target::Total(10.0)),
        ..PreprocessOptions::default()
    };
    let found = preprocess(&data, &options, None).unwrap();
    assert_eq!(
        (found.cells.as_slice(), found.genes.as_slice()),
        ([0, 2].as_slice(), [0, 2, 3].as_slice())
    );
    let source = found.source(&data).unwrap();
    let all = source.read_range(0..2).unwrap().to_dense();
    assert_eq!(all, array![[4.0, 6.0, 0.0], [5.0, 0.0, 5.0]]);
    assert_eq!(
        source.read_rows(&[1, 0]).unwrap().to_dense().row(0),
        all.row(1)
    );
    assert!(source.read_rows(&[2]).is_err());
    // A gene that is wanted stays, however rare.
    let wanted = PreprocessOptions {
        always: vec![1],
        ..options.clone()
    };
    assert_eq!(
        preprocess(&data, &wanted, None).unwrap().genes,
        [0, 1, 2, 3]
    );
    let nothing = PreprocessOptions {
        min_gene_counts: Some(100.0),
        ..options.clone()
    };
    assert!(
        preprocess(&data, &nothing, None)
            .unwrap_err()
            .to_string()
            .contains("min_gene_counts")
    );
    assert!(
        preprocess(
            &data,
            &PreprocessOptions {
                always: vec![4],
                ..options
            },
            None
        )
        .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bins_keep_the_order_of_values(
        raw in proptest::collection::vec(0u32..40, 1..120),
        n_bins in 2usize..60,
        seed in any::<u64>(),
    ) {
        let values: Vec<f32> = raw.iter().map(|&v| v as f32).collect();
        let of = |ties| Binner::new(Binning { n_bins, ties }).unwrap();
        let (lower, upper) = (of(Ties::Lower).bin(&[], &values), of(Ties::Upper).bin(&[], &values));
        let expected = of(Ties::Expected).bin(&[], &values);
        let random = of(Ties::Random { seed }).bin(&[1, 2], &values);
        for i in 0..values.len() {
            prop_assert_eq!(random[i] == 0.0, values[i] == 0.0);
            prop_assert!(lower[i] <= random[i] && random[i] <= upper[i] && upper[i] < n_bins as f32);
            prop_assert_eq!(expected[i], (lower[i] + upper[i]) / 2.0);
            for j in 0..values.len() {
                if values[i] < values[j] {
                    prop_assert!(upper[i] <= lower[j]);
                }
            }
        }
        // Logarithms have the same bins: only the order counts.
        let logs: Vec<f32> = values.iter().map(|v| v.ln_1p()).collect();
        if n_bins > 2 && values.iter().filter(|v| **v > 0.0).count() < 50 {
            prop_assert_eq!(of(Ties::Random { seed }).bin(&[1, 2], &values.iter().map(|v| v * 2.0).collect::<Vec<_>>()), random);
        }
        prop_assert_eq!(logs.len(), values.len());
    }

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
