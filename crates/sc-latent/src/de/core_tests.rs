use super::*;
use crate::de::fdr_calls;
use ndarray::{Array2, array};

fn samples(a: Array2<f32>) -> ScaleSamples {
    ScaleSamples::new(a.view())
}

fn change(
    a: &ScaleSamples,
    b: &ScaleSamples,
    options: &ChangeOptions,
    means: Option<(&[f64], &[f64])>,
) -> Change {
    match bayes_factors(a, b, means, &Mode::Change(options.clone()), None, 0).unwrap() {
        GeneStatistics::Change(c) => c,
        GeneStatistics::Vanilla(_) => unreachable!(),
    }
}

fn random(n: usize, g: usize, seed: u64) -> Array2<f32> {
    let mut x = vec![0f32; n * g];
    Rng::new(seed).stream("x").fill_uniform(1e-4, 1e-2, &mut x);
    Array2::from_shape_vec((n, g), x).unwrap()
}

fn options(pseudocounts: Option<f64>) -> ChangeOptions {
    ChangeOptions {
        pseudocounts,
        ..ChangeOptions::default()
    }
}

#[test]
fn a_rise_by_the_threshold_counts_and_a_fall_by_it_does_not() {
    // Fold changes 2, 1/2, 4, 1/4 in the first gene, none in the second.
    let a = samples(array![[2.0f32, 1.0], [1.0, 1.0], [4.0, 1.0], [1.0, 1.0]]);
    let b = samples(array![[1.0f32, 1.0], [2.0, 1.0], [1.0, 1.0], [4.0, 1.0]]);
    let mut o = options(Some(1e-10));
    o.delta = Some(1.0);
    let c = change(&a, &b, &o, None);
    assert_eq!(c.proba_de, [0.5, 0.0]);
    o.test = TestMode::Two;
    assert_eq!(change(&a, &b, &o, None).proba_de, [0.75, 0.0]);
    assert!((c.lfc_max[0] - 2.0).abs() < 1e-6 && (c.lfc_min[0] + 2.0).abs() < 1e-6);
    assert!(c.lfc_mean[0].abs() < 1e-6 && c.lfc_median[0].abs() < 1e-6);
    assert!((c.lfc_std[0] - 2.5f64.sqrt()).abs() < 1e-6);
    assert_eq!(c.scale1, [2.0, 1.0]);
}

#[test]
fn the_pseudocount_comes_from_genes_without_counts() {
    let a = samples(array![[0.5f32, 0.02, 0.01], [0.4, 0.04, 0.01]]);
    let b = samples(array![[0.5f32, 0.01, 0.03], [0.4, 0.01, 0.01]]);
    let (in_a, in_b) = ([3.0, 0.0, 0.001], [3.0, 2.0, 0.0]);
    let c = change(&a, &b, &options(None), Some((&in_a, &in_b)));
    // In a the largest draws 0.04 and 0.01, of which the 0.9 quantile; in b 0.03; three genes.
    let expected = (0.01 + 0.9 * 0.03) / 3.0;
    let expected = f64::max(expected, 0.03 / 3.0);
    assert!(
        (c.pseudocounts - expected).abs() < 1e-9,
        "{}",
        c.pseudocounts
    );
    let expressed = [1.0; 3];
    let none = change(&a, &b, &options(None), Some((&expressed, &expressed)));
    assert_eq!(none.pseudocounts, 1e-10);
}

#[test]
fn swapping_the_populations_turns_every_sign() {
    let (a, b) = (samples(random(401, 7, 1)), samples(random(401, 7, 2)));
    let mut o = options(Some(1e-6));
    o.cred_intervals = vec![0.5, 0.95];
    let (there, back) = (change(&a, &b, &o, None), change(&b, &a, &o, None));
    for g in 0..7 {
        assert!((there.lfc_mean[g] + back.lfc_mean[g]).abs() < 1e-6);
        assert!((there.lfc_median[g] + back.lfc_median[g]).abs() < 1e-5);
        assert!((there.lfc_min[g] + back.lfc_max[g]).abs() < 1e-5);
        assert!((there.lfc_std[g] - back.lfc_std[g]).abs() < 1e-6);
        assert!((0.0..=1.0).contains(&there.proba_de[g]));
        assert!((there.proba_de[g] + there.proba_not_de[g] - 1.0).abs() < 1e-12);
        for (level, low, high) in &there.lfc_intervals {
            assert!(
                low[g] >= there.lfc_min[g] && high[g] <= there.lfc_max[g],
                "{level}"
            );
        }
        let width = |k: usize| there.lfc_intervals[k].2[g] - there.lfc_intervals[k].1[g];
        assert!(width(0) < width(1));
    }
}

#[test]
fn other_changes_and_other_domains() {
    let (a, b) = (samples(random(500, 9, 1)), samples(random(500, 9, 2)));
    let usual = change(&a, &b, &options(Some(1e-6)), None);
    // The usual ones, spelt out.
    let mut o = options(Some(1e-6));
    o.change_fn = ChangeFn::new(|s1, s2, c| ((s1 + c) / (s2 + c)).log2());
    let spelt = change(&a, &b, &o, None);
    o.change_fn = ChangeFn::LogFoldChange;
    o.domain = ChangeDomain::new(|lfc| (lfc >= 0.25, lfc < -0.25));
    let domain = change(&a, &b, &o, None);
    for g in 0..9 {
        for other in [&spelt, &domain] {
            // A pair may fall on the other side of a tie.
            assert!((usual.proba_de[g] - other.proba_de[g]).abs() < 0.003);
            assert!((usual.lfc_mean[g] - other.lfc_mean[g]).abs() < 1e-6);
            assert!((usual.lfc_median[g] - other.lfc_median[g]).abs() < 1e-5);
        }
    }
    // Rises only, and never more than certain.
    o.domain = ChangeDomain::new(|lfc| (lfc > 0.0, false));
    let rises = change(&a, &b, &o, None);
    let m1 = match bayes_factors(&a, &b, None, &Mode::Vanilla, None, 0).unwrap() {
        GeneStatistics::Vanilla(v) => v.proba_m1,
        GeneStatistics::Change(_) => unreachable!(),
    };
    for (found, expected) in rises.proba_de.iter().zip(&m1) {
        assert!((found - expected).abs() < 0.003);
    }
    o.domain = ChangeDomain::new(|_| (true, true));
    o.test = TestMode::Two;
    assert_eq!(change(&a, &b, &o, None).proba_de, [1.0; 9]);
    // A function that fails is not hidden.
    o.change_fn = ChangeFn::new(|_, _, _| f64::NAN);
    o.domain = ChangeDomain::Threshold;
    let nan = change(&a, &b, &o, None);
    assert!(nan.lfc_mean[0].is_nan() && nan.proba_de == [0.0; 9]);
    assert_eq!(o.clone(), o);
    assert_ne!(o.change_fn, ChangeFn::new(|_, _, _| f64::NAN));
}

#[test]
fn the_same_on_one_thread_and_many() {
    let (a, b) = (samples(random(200, 50, 1)), samples(random(200, 50, 2)));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let mode = Mode::Change(ChangeOptions {
            delta: None,
            ..options(Some(1e-6))
        });
        let run = || bayes_factors(&a, &b, None, &mode, Some(300), 5).unwrap();
        pool.build().unwrap().install(run)
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_cannot_be_is_refused() {
    let (a, b) = (samples(random(5, 2, 1)), samples(random(5, 3, 2)));
    assert!(bayes_factors(&a, &b, None, &Mode::Vanilla, None, 0).is_err());
    assert!(bayes_factors(&a, &a, None, &Mode::Vanilla, Some(0), 0).is_err());
    let refused = |o: ChangeOptions| {
        let means = [0.0, 0.0];
        bayes_factors(&a, &a, Some((&means, &means)), &Mode::Change(o), None, 0).is_err()
    };
    assert!(!refused(options(None)));
    assert!(refused(options(Some(0.0))));
    let with = |f: fn(&mut ChangeOptions)| {
        let mut o = options(Some(1e-5));
        f(&mut o);
        refused(o)
    };
    assert!(with(|o| o.delta = Some(-1.0)));
    assert!(with(|o| o.delta = Some(f64::NAN)));
    assert!(with(|o| o.threshold_counts = f64::NAN));
    assert!(with(|o| o.cred_intervals = vec![1.0]));
    let change = Mode::Change(options(None));
    let message = bayes_factors(&a, &a, None, &change, None, 0)
        .unwrap_err()
        .to_string();
    assert!(message.contains("pseudocounts"), "{message}");
    let short = [0.0];
    assert!(bayes_factors(&a, &a, Some((&short, &short)), &change, None, 0).is_err());
}

#[test]
fn calls_follow_the_probabilities() {
    let (a, b) = (samples(random(300, 40, 1)), samples(random(300, 40, 2)));
    let c = change(&a, &b, &options(Some(1e-6)), None);
    let few = fdr_calls(&c.proba_de, 0.3).iter().filter(|&&x| x).count();
    let more = fdr_calls(&c.proba_de, 0.6).iter().filter(|&&x| x).count();
    assert!(few <= more);
}
