//! Sums of raw counts by gene against the counts.

use candle_core::Device;
use proptest::prelude::*;
use sc_data::{Categorical, Column, Csr};

use super::{CELLS, GENES, counts, data, labels, model, setup};
use crate::minify::*;
use crate::{Cells, Scvi};

fn raw_group(rows: &[usize]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let x = counts().mapv(f64::from);
    let n = rows.len() as f64;
    let mean = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..GENES)
            .map(|g| rows.iter().map(|&r| f(r, g)).sum::<f64>() / n)
            .collect()
    };
    (
        mean(&|r, g| x[(r, g)]),
        mean(&|r, g| f64::from(u8::from(x[(r, g)] > 0.0))),
        mean(&|r, g| x[(r, g)] * 1e4 / x.row(r).sum()),
    )
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs()))
}

/// As single precision keeps it.
fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs())
}

#[test]
fn sums_beyond_single_precision_are_kept_in_double() {
    let mut data = data();
    let mut x = counts();
    // A sum of 2^24 + 1 is one too many for single precision.
    x[(0, 1)] = 0.0;
    x[(1, 1)] = 5.0;
    x[(0, 1)] = (16_777_217.0 - f64::from(x.column(1).sum())) as f32;
    data.x = Some(Csr::from_dense(&x).into());
    let model = model(&data);
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    let is_double = |key: &str| {
        matches!(
            &small.varm[key],
            sc_data::Annotation::Matrix(sc_data::Matrix::Dense64(_))
        )
    };
    assert!(is_double("sc_counts_sum_all") && !is_double("sc_counts_nonzero_all"));
    let cells = Cells::for_model(&small, model.registry()).unwrap();
    let all: Vec<usize> = (0..CELLS).collect();
    let found = cells.gene_statistics(&all).unwrap().unwrap();
    let sum = x.column(1).iter().map(|&v| f64::from(v)).sum::<f64>();
    assert!((found.mean[1] * CELLS as f64 - sum).abs() < 1e-6);
}

fn rows_where(keep: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..CELLS).rev().filter(|&i| keep(i)).collect()
}

#[test]
fn sums_are_exact_for_unions_of_categories() {
    let data = data();
    let model = model(&data);
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    let cells = Cells::for_model(&small, model.registry()).unwrap();
    assert_eq!(
        cells
            .stored_statistics()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["kind", "batch"]
    );
    for rows in [
        rows_where(|_| true),
        rows_where(|i| i % 3 == 0),
        rows_where(|i| i % 7 % 3 != 1),
        rows_where(|i| i % 7 % 3 == 2),
        vec![],
    ] {
        let found = cells.gene_statistics(&rows).unwrap().unwrap();
        assert_eq!(found.origin, StatisticsOrigin::Stored, "{rows:?}");
        assert_eq!(found.n_cells, rows.len());
        if !rows.is_empty() {
            let (mean, nonzero, scaled) = raw_group(&rows);
            assert!(close(&found.mean, &mean) && close(&found.nonzero, &nonzero));
            assert!(near(&found.scaled_mean, &scaled));
        }
    }
    // With counts the same numbers come from them.
    let counted = Cells::for_model(&data, model.registry()).unwrap();
    let rows = rows_where(|i| i % 5 == 1);
    let found = counted.gene_statistics(&rows).unwrap().unwrap();
    assert_eq!(found.origin, StatisticsOrigin::Counts);
    assert!(close(&found.scaled_mean, &raw_group(&rows).2));
    assert!(counted.gene_statistics(&[CELLS]).is_err());
}

#[test]
fn what_is_not_exact_says_so() {
    let data = data();
    let model = model(&data);
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    let cells = Cells::for_model(&small, model.registry()).unwrap();
    let approximate = |cells: &Cells<'_>, rows: &[usize]| {
        let found = cells.gene_statistics(rows).unwrap().unwrap();
        assert!(!found.origin.is_exact(), "{:?}", found.origin);
        found
    };
    // All of kind z, and one more.
    let mut rows = rows_where(|i| i % 7 % 3 == 2);
    let whole = rows.len() as f64;
    rows.push(0);
    let found = approximate(&cells, &rows);
    assert_eq!(
        found.origin,
        StatisticsOrigin::Approximate {
            exact_share: whole / (whole + 1.0)
        }
    );
    // The one more counts as an average cell of its kind.
    let z = raw_group(&rows_where(|i| i % 7 % 3 == 2)).0;
    let x = raw_group(&rows_where(|i| i % 7 % 3 == 0)).0;
    let expected: Vec<f64> = z
        .iter()
        .zip(&x)
        .map(|(z, x)| (z * whole + x) / (whole + 1.0))
        .collect();
    assert!(close(&found.mean, &expected));
    // A cell twice; cells that are gone; cells with another label or name.
    let twice = [rows_where(|i| i % 3 == 0), vec![0]].concat();
    approximate(&cells, &twice);
    let part = small.select_obs(&rows_where(|i| i != 0)).unwrap();
    let fewer = Cells::for_model(&part, model.registry()).unwrap();
    let all: Vec<usize> = (0..CELLS - 1).collect();
    approximate(&fewer, &all);
    let mut other = small.clone();
    other
        .obs
        .insert("kind", labels(|i| ["x", "y", "z"][(i + 1) % 7 % 3]))
        .unwrap();
    let other = Cells::for_model(&other, model.registry()).unwrap();
    approximate(&other, &rows_where(|i| (i + 1) % 7 % 3 == 2));
    assert_eq!(
        other
            .gene_statistics(&rows_where(|i| i % 3 == 0))
            .unwrap()
            .unwrap()
            .origin,
        StatisticsOrigin::Stored
    );
    // Files of scvi-tools have no sums.
    let mut none = small.clone();
    none.uns.shift_remove("sc_gene_statistics");
    let none = Cells::for_model(&none, model.registry()).unwrap();
    assert_eq!(none.gene_statistics(&[0]).unwrap(), None);
    // Damaged ones are an error.
    let mut damaged = small.clone();
    damaged.varm.shift_remove("sc_counts_sum_by_kind");
    let message = Cells::for_model(&damaged, model.registry())
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("sc_counts_sum_by_kind"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the labels, missing ones included: sums over any union of categories are those of the counts.
    #[test]
    fn unions_of_any_categories(codes in proptest::collection::vec(proptest::option::of(0u32..4), CELLS), chosen in 0u32..32) {
        let mut data = data();
        let categories = ["p", "q", "r", "s"].map(str::to_owned).to_vec();
        let column = Categorical::new(codes.clone(), categories, false).unwrap();
        data.obs.insert("mine", Column::Categorical(column)).unwrap();
        let counted = Cells::new(&data, &setup()).unwrap();
        let model = Scvi::params(&counted).n_latent(2).n_hidden(4).check().unwrap().init(&Device::Cpu, 1).unwrap();
        let options = MinifyOptions {
            statistics_by: Some(vec!["mine".into()]),
            ..MinifyOptions::default()
        };
        let small = model.minify(&data, &options).unwrap();
        let cells = Cells::for_model(&small, model.registry()).unwrap();
        let rows = rows_where(|i| chosen >> codes[i].unwrap_or(4) & 1 == 1);
        let found = cells.gene_statistics(&rows).unwrap().unwrap();
        let expected = counted.gene_statistics(&rows).unwrap().unwrap();
        prop_assert!(found.origin == StatisticsOrigin::Stored);
        prop_assert!(close(&found.mean, &expected.mean) && close(&found.nonzero, &expected.nonzero));
        prop_assert!(near(&found.scaled_mean, &expected.scaled_mean));
    }
}
