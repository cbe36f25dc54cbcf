use ndarray::{Array1, Array2, array};
use sc_tensor::Rng;

use super::*;
use crate::tokens::Perturbation;

fn normal(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut values = vec![0f32; rows * cols];
    Rng::new(seed).stream("x").fill_normal(&mut values);
    Array2::from_shape_vec((rows, cols), values).unwrap()
}

fn near(found: &Array1<f64>, expected: &Array1<f64>) {
    assert!(
        (found - expected).iter().all(|d| d.abs() < 1e-12),
        "{found} {expected}"
    );
}

fn all_genes(conditions: &[&str], n: usize) -> ChangedGenes {
    ChangedGenes::new(
        conditions
            .iter()
            .map(|c| ((*c).to_owned(), (0..n).collect())),
    )
}

#[test]
fn the_truth_correlates_with_itself() {
    let (truth, control) = (normal(12, 30, 0), normal(5, 30, 1));
    let conditions: Vec<&str> = (0..12).map(|i| ["b+ctrl", "a+ctrl"][i % 2]).collect();
    let effects = Effects::new(truth.view(), &conditions, control.view()).unwrap();
    let changed = ChangedGenes::by_effect(&effects, 10);
    let found = compare(
        truth.view(),
        truth.view(),
        &conditions,
        control.view(),
        &changed,
        GenesCompared::All,
    )
    .unwrap();
    let names: Vec<&str> = found.conditions.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(names, ["a+ctrl", "b+ctrl"]);
    for c in [found.mean, found.conditions[0].1, found.conditions[1].1] {
        for v in [c.pearson, c.pearson_de, c.pearson_delta, c.pearson_de_delta] {
            assert!((v - 1.0).abs() < 1e-12);
        }
    }
    // The genes that change most are those.
    let effect = effects.effect("a+ctrl").unwrap().mapv(f64::abs);
    let chosen = changed.get("a+ctrl").unwrap();
    let least = chosen
        .iter()
        .map(|&g| effect[g])
        .fold(f64::INFINITY, f64::min);
    assert_eq!(
        (chosen.len(), effect.iter().filter(|e| **e >= least).count()),
        (10, 10)
    );
}

#[test]
fn what_is_not_defined_is_not_averaged() {
    let control = array![[1.0f32, 2.0, 3.0]];
    let truth = array![[1.0f32, 3.0, 2.0], [0.0, 0.0, 0.0], [2.0, 1.0, 4.0]];
    let predicted = array![[1.0f32, 3.0, 2.5], [1.0, 1.0, 2.0], [1.0, 2.0, 3.0]];
    let conditions = ["a", "zero", "b"];
    let found = compare(
        truth.view(),
        predicted.view(),
        &conditions,
        control.view(),
        &all_genes(&conditions, 3),
        GenesCompared::All,
    )
    .unwrap();
    // A condition of zeros is left out; predicting no change at all has no correlation of differences.
    assert_eq!(found.conditions.len(), 2);
    assert!(found.conditions[1].1.pearson_delta.is_nan());
    assert_eq!(
        found.mean.pearson_delta,
        found.conditions[0].1.pearson_delta
    );
    assert_eq!(
        found.mean.pearson,
        (found.conditions[0].1.pearson + found.conditions[1].1.pearson) / 2.0
    );
}

#[test]
fn inputs_that_do_not_fit() {
    let (a, control) = (normal(2, 3, 0), normal(1, 3, 1));
    let of = |truth: &Array2<f32>,
              predicted: &Array2<f32>,
              conditions: &[&str],
              control: &Array2<f32>,
              changed| {
        let all = GenesCompared::All;
        compare(
            truth.view(),
            predicted.view(),
            conditions,
            control.view(),
            &changed,
            all,
        )
        .map(|_| ())
    };
    let both = ["a", "b"];
    of(&a, &a, &both, &control, all_genes(&both, 3)).unwrap();
    assert!(of(&a, &normal(3, 3, 0), &both, &control, all_genes(&both, 3)).is_err());
    assert!(of(&a, &normal(2, 4, 0), &both, &control, all_genes(&both, 3)).is_err());
    assert!(of(&a, &a, &["a"], &control, all_genes(&both, 3)).is_err());
    assert!(of(&a, &a, &both, &normal(0, 3, 0), all_genes(&both, 3)).is_err());
    assert!(
        of(&a, &a, &both, &control, all_genes(&["a"], 3))
            .unwrap_err()
            .to_string()
            .contains("\"b\"")
    );
    assert!(of(&a, &a, &both, &control, all_genes(&both, 4)).is_err());
}

#[test]
fn predictions_without_a_model() {
    let control = array![1.0, 1.0];
    let means = [
        ("a+ctrl", array![2.0, 1.0]),
        ("ctrl+b", array![1.0, 3.0]),
        ("ctrl", array![9.0, 9.0]),
        ("c+d", array![4.0, 4.0]),
    ];
    let means = means.map(|(c, m): (&str, Array1<f64>)| (c.to_owned(), m));
    let training = Effects::from_means(control.clone(), means).unwrap();
    let baselines = Baselines::new(&training, "ctrl").unwrap();
    assert_eq!(baselines.no_change(), control);
    // Effects (1, 0), (0, 2), (3, 3).
    near(&baselines.mean(), &array![1.0 + 4.0 / 3.0, 1.0 + 5.0 / 3.0]);
    let both = Perturbation::parse("b+a", "ctrl");
    assert_eq!(baselines.additive(&both), array![2.0, 3.0]);
    let new = Perturbation::parse("a+c", "ctrl");
    assert!(baselines.knows(&both) && !baselines.knows(&new));
    near(
        &baselines.additive(&new),
        &array![2.0 + 4.0 / 3.0, 1.0 + 5.0 / 3.0],
    );
    let none =
        Effects::from_means(control.clone(), [("ctrl".to_owned(), control.clone())]).unwrap();
    assert!(Baselines::new(&none, "ctrl").is_err());
    assert!(Effects::from_means(control, [("a".to_owned(), array![1.0])]).is_err());
}

#[test]
fn perturbations_that_are_found_again() {
    let candidates = array![[0.0f32, 0.0], [1.0, 0.0], [5.0, 5.0], [1.0, 0.0]];
    let queries = array![[0.1f32, 0.0], [1.0, 0.1], [0.0, 0.0], [4.0, 4.0]];
    let truth = [Some(0), Some(3), Some(2), None];
    let ranks = ranks_of_truth(queries.view(), candidates.view(), &truth).unwrap();
    // Candidates 1 and 3 are equal: the first comes first.
    assert_eq!(ranks, [Some(0), Some(1), Some(3), None]);
    let rates = HitRates::new(&ranks, &[1, 2, 4]).unwrap();
    assert_eq!(rates.at, [(1, 0.25), (2, 0.5), (4, 0.75)]);
    assert!((rates.mean_reciprocal_rank - (1.0 + 0.5 + 0.25) / 4.0).abs() < 1e-15);
    assert!(HitRates::new(&[], &[1]).is_err());
    assert!(ranks_of_truth(queries.view(), candidates.view(), &truth[..2]).is_err());
}

#[test]
fn conditions_are_held_out_by_genes() {
    let name = |i: usize| format!("g{i}");
    let mut conditions = vec![Perturbation::new::<String>([])];
    for i in 0..20 {
        conditions.push(Perturbation::new([name(i)]));
        conditions.push(Perturbation::new([name(i), name((i + 1) % 20)]));
        conditions.push(Perturbation::new([name(i), name((i + 7) % 20)]));
    }
    let options = SplitOptions::default();
    let split = split_by_genes(&conditions, &options).unwrap();
    assert_eq!(split, split_by_genes(&conditions, &options).unwrap());
    assert_eq!(split.train.len() + split.test.len(), 60);
    let seen: std::collections::BTreeSet<&String> = split
        .train
        .iter()
        .filter(|c| c.genes().len() == 1)
        .flat_map(Perturbation::genes)
        .collect();
    assert_eq!(seen.len(), 15);
    // No gene that is held out is ever perturbed in training.
    assert!(
        split
            .train
            .iter()
            .all(|c| !c.is_control() && c.genes().iter().all(|g| seen.contains(g)))
    );
    for held in &split.test {
        let known = held
            .perturbation
            .genes()
            .iter()
            .filter(|g| seen.contains(g))
            .count();
        assert_eq!(held.seen, known);
        assert!(!split.train.contains(&held.perturbation));
    }
    let of = |genes: usize, seen: usize| {
        split
            .test
            .iter()
            .filter(|h| h.perturbation.genes().len() == genes && h.seen == seen)
            .count()
    };
    let (new, pairs) = (
        of(2, 2),
        split.train.iter().filter(|c| c.genes().len() == 2).count(),
    );
    assert_eq!((of(1, 0), of(1, 1)), (5, 0));
    assert_eq!(pairs, ((new + pairs) as f64 * 0.75).round() as usize);
    assert!(of(2, 1) > 0 && new > 0);
    let other = SplitOptions { seed: 1, ..options };
    assert_ne!(split, split_by_genes(&conditions, &other).unwrap());
    let none = SplitOptions {
        gene_share: 0.0,
        ..options
    };
    assert!(
        split_by_genes(&conditions, &none)
            .unwrap_err()
            .to_string()
            .contains("60 perturbations")
    );
    let wrong = SplitOptions {
        combination_share: f64::NAN,
        ..options
    };
    assert!(split_by_genes(&conditions, &wrong).is_err());
    // Genes that are perturbed together and never otherwise are not seen, though none is held out.
    let once = ["a", "b", "c+d", "e+f"].map(|c| Perturbation::parse(c, "ctrl"));
    let options = SplitOptions {
        gene_share: 1.0,
        combination_share: 0.0,
        seed: 0,
    };
    let split = split_by_genes(&once, &options).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (2, 2));
    assert!(split.test.iter().all(|h| h.seen == 0));
}
