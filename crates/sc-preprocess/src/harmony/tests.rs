use super::*;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Cells of four kinds in two batches, the second shifted, and one of the kinds only in the first.
fn example(n: usize, dims: usize) -> (Array2<f32>, Categorical, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let kinds: Vec<usize> = (0..n).map(|i| i % 4).collect();
    let batch: Vec<&str> = (0..n)
        .map(|i| match kinds[i] {
            3 => "a",
            _ if rng.random::<bool>() => "a",
            _ => "b",
        })
        .collect();
    let z = Array2::from_shape_fn((n, dims), |(i, j)| {
        let kind = if kinds[i] == j { 8.0 } else { 0.0 };
        let shift = if batch[i] == "b" {
            1.0 + j as f32 % 2.0
        } else {
            0.0
        };
        let noise: f32 = StandardNormal.sample(&mut rng);
        kind + shift + 0.7 * noise
    });
    (z, Categorical::from_labels(&batch), kinds)
}

fn mean(z: &Array2<f32>, rows: &[usize]) -> Vec<f64> {
    let n = rows.len() as f64;
    let sum = |j: usize| rows.iter().map(|&i| f64::from(z[[i, j]])).sum::<f64>();
    (0..z.ncols()).map(|j| sum(j) / n).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn batches_meet_and_kinds_stay_apart() {
    let (z, batch, kinds) = example(1200, 6);
    let options = HarmonyOptions::default();
    let found = harmony(z.view(), &[&batch], &options).unwrap();
    let of = |kind: usize, b: &str| -> Vec<usize> {
        (0..1200)
            .filter(|&i| kinds[i] == kind && batch.get(i) == Some(b))
            .collect()
    };
    for kind in 0..3 {
        let gap = |z| distance(&mean(z, &of(kind, "a")), &mean(z, &of(kind, "b")));
        assert!(gap(&found.embedding) < 0.2 * gap(&z), "{kind}");
    }
    let apart = distance(
        &mean(&found.embedding, &of(0, "a")),
        &mean(&found.embedding, &of(3, "a")),
    );
    assert!(apart > 8.0, "{apart}");
    assert!(found.objective.len() > 1 && found.objective.len() <= 10);
    assert!(
        found
            .objective
            .windows(2)
            .all(|w| w[1] < w[0] + 1e-3 * w[0].abs())
    );
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (z, batch, _) = example(1500, 5);
    let run = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| harmony(z.view(), &[&batch], &HarmonyOptions::default()).unwrap())
    };
    let (one, three) = (run(1), run(3));
    assert_eq!(one.embedding, three.embedding);
    assert_eq!(one.objective, three.objective);
}

#[test]
fn several_variables_and_small_batches() {
    let (z, batch, _) = example(600, 5);
    // A second variable without effect, one of whose batches has a single cell.
    let other: Vec<&str> = (0..600)
        .map(|i| if i == 7 { "one" } else { ["x", "y"][i % 2] })
        .collect();
    let other = Categorical::from_labels(&other);
    let mut options = HarmonyOptions {
        tau: 5.0,
        ..HarmonyOptions::default()
    };
    let found = harmony(z.view(), &[&batch, &other], &options).unwrap();
    assert!(found.embedding.iter().all(|v| v.is_finite()));
    // Without a penalty nothing is inverted that can't be: the message says what to do.
    options.lambda = 0.0;
    let singular = harmony(z.view(), &[&batch, &other], &options);
    if let Err(e) = singular {
        assert!(e.to_string().contains("lambda"), "{e}");
    }
}

#[test]
fn bad_input_is_named() {
    let (mut z, batch, _) = example(60, 4);
    let options = HarmonyOptions::default();
    assert!(harmony(z.view(), &[], &options).is_err());
    let one = Categorical::from_labels(&["a"; 60]);
    let message = harmony(z.view(), &[&one], &options)
        .unwrap_err()
        .to_string();
    assert!(message.contains("1 batch"), "{message}");
    let short = Categorical::from_labels(&["a", "b"]);
    assert!(harmony(z.view(), &[&short], &options).is_err());
    let missing = Categorical::from_options((0..60).map(|i| (i > 3).then_some("a")));
    assert!(harmony(z.view(), &[&missing], &options).is_err());
    for wrong in [
        |o: &mut HarmonyOptions| o.theta = -1.0,
        |o: &mut HarmonyOptions| o.sigma = 0.0,
        |o: &mut HarmonyOptions| o.lambda = f64::NAN,
        |o: &mut HarmonyOptions| o.block_size = 2.0,
        |o: &mut HarmonyOptions| o.n_clusters = Some(61),
        |o: &mut HarmonyOptions| o.n_starts = 0,
    ] {
        let mut options = HarmonyOptions::default();
        wrong(&mut options);
        assert!(
            harmony(z.view(), &[&batch], &options).is_err(),
            "{options:?}"
        );
    }
    // A cell at the origin has no direction, and that is no reason for NaN.
    z.row_mut(5).fill(0.0);
    let found = harmony(z.view(), &[&batch], &options).unwrap();
    assert!(found.embedding.iter().all(|v| v.is_finite()));
    z[[3, 2]] = f32::NAN;
    let message = harmony(z.view(), &[&batch], &options)
        .unwrap_err()
        .to_string();
    assert!(message.contains("row 3, column 2"), "{message}");
}
