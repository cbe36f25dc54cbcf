use super::*;
use crate::testing::blobs;
use ndarray::Array2;

fn named(groups: impl Iterator<Item = String>) -> Categorical {
    Categorical::from_labels(&groups.collect::<Vec<_>>())
}

/// Six clouds; the atlas knows three pairs of them, the expert the halves of the first two pairs.
fn atlas() -> (Array2<f32>, Vec<u32>, Categorical) {
    let (x, cloud) = blobs(1200, 6, 12);
    let coarse = named(cloud.iter().map(|c| format!("pair {}", c / 2)));
    (x, cloud, coarse)
}

fn expert(x: &Array2<f32>, cloud: &[u32]) -> (Array2<f32>, Categorical, Categorical) {
    let rows: Vec<usize> = (0..600).filter(|&i| cloud[i] < 4).collect();
    let moved = x.select(Axis(0), &rows).mapv(|v| v + 0.05);
    let fine = named(rows.iter().map(|&i| format!("half {}", cloud[i])));
    let coarse = named(rows.iter().map(|&i| format!("pair {}", cloud[i] / 2)));
    (moved, fine, coarse)
}

#[test]
fn finer_labels_reach_their_own_cells_only() {
    let (x, cloud, coarse) = atlas();
    let (y, fine, pairs) = expert(&x, &cloud);
    let side = |latent, labels, compartments| Labelled {
        latent,
        labels,
        compartments,
    };
    let by_pair = infuse(
        side(x.view(), &coarse, Some(&coarse)),
        side(y.view(), &fine, Some(&pairs)),
        &InfuseOptions::default(),
    );
    let by_reach = infuse(
        side(x.view(), &coarse, None),
        side(y.view(), &fine, None),
        &InfuseOptions {
            reach: Some(2.0),
            ..InfuseOptions::default()
        },
    );
    for infused in [by_pair.unwrap(), by_reach.unwrap()] {
        for (i, &c) in cloud.iter().enumerate() {
            let expected = if c < 4 {
                format!("half {c}")
            } else {
                "pair 2".into()
            };
            assert_eq!(infused.labels.get(i), Some(expected.as_str()));
            assert_eq!(infused.taken[i], c < 4);
        }
        assert_eq!(
            infused.labels.categories()[..3],
            ["pair 0", "pair 1", "pair 2"]
        );
    }
    // Without either everything takes a label, and the report says how far to trust it.
    let open = infuse(
        side(x.view(), &coarse, None),
        side(y.view(), &fine, None),
        &InfuseOptions::default(),
    )
    .unwrap();
    assert!(open.taken.iter().filter(|&&t| t).count() > 800);
    assert!(open.confidence.iter().all(Option::is_some));
}

#[test]
fn uncertain_cells_keep_their_label() {
    // Half way between two kinds of expert cells.
    let x = ndarray::array![[0.0f32], [0.5], [1.0]];
    let old = Categorical::from_options([Some("old"), Some("old"), None].into_iter());
    let y = ndarray::array![[0.0f32], [0.1], [0.9], [1.0]];
    let new = Categorical::from_labels(&["a", "a", "b", "b"]);
    let options = InfuseOptions {
        k: 2,
        ..InfuseOptions::default()
    };
    let side = |latent, labels| Labelled {
        latent,
        labels,
        compartments: None,
    };
    let out = infuse(side(x.view(), &old), side(y.view(), &new), &options).unwrap();
    let labels: Vec<_> = out.labels.iter().collect();
    assert_eq!(labels, [Some("a"), Some("old"), Some("b")]);
    assert_eq!(out.confidence, [Some(1.0), Some(0.5), Some(1.0)]);
    assert_eq!(out.taken, [true, false, true]);
}

#[test]
fn bad_input_is_refused() {
    let (x, cloud, coarse) = atlas();
    let (y, fine, pairs) = expert(&x, &cloud);
    let good = Labelled {
        latent: x.view(),
        labels: &coarse,
        compartments: Some(&coarse),
    };
    let theirs = Labelled {
        latent: y.view(),
        labels: &fine,
        compartments: Some(&pairs),
    };
    let options = InfuseOptions::default();
    let one_sided = Labelled {
        compartments: None,
        ..theirs
    };
    assert!(infuse(good, one_sided, &options).is_err());
    // The fine labels are no compartments of the reference.
    let strange = Labelled {
        compartments: Some(&fine),
        ..theirs
    };
    let message = infuse(good, strange, &options).unwrap_err().to_string();
    assert!(
        message.contains("pair 0") && message.contains("half 1"),
        "{message}"
    );
    assert!(
        infuse(
            good,
            Labelled {
                labels: &coarse,
                ..theirs
            },
            &options
        )
        .is_err()
    );
    for wrong in [
        InfuseOptions {
            max_uncertainty: 1.5,
            ..options.clone()
        },
        InfuseOptions {
            reach: Some(0.0),
            ..options.clone()
        },
        InfuseOptions {
            k: 0,
            ..options.clone()
        },
    ] {
        assert!(infuse(good, theirs, &wrong).is_err());
    }
    let (short, _) = y.view().split_at(Axis(1), 3);
    assert!(
        infuse(
            good,
            Labelled {
                latent: short,
                ..theirs
            },
            &options
        )
        .is_err()
    );
}
