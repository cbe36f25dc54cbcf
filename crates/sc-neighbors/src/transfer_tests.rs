use super::*;
use crate::testing::{blobs, with_threads};
use ndarray::array;

fn names(groups: &[u32]) -> Categorical {
    let text: Vec<String> = groups.iter().map(|g| format!("type {g}")).collect();
    Categorical::from_labels(&text)
}

#[test]
fn clouds_keep_their_names() {
    let (x, group) = blobs(900, 5, 8);
    let labels = names(&group);
    let (reference, query) = x.view().split_at(Axis(0), 600);
    let known = labels.select(&(0..600).collect::<Vec<_>>());
    let truth = labels.select(&(600..900).collect::<Vec<_>>());
    let fitted = LabelTransfer::fit(reference, &known).unwrap().k(20);
    let found = fitted.transfer(query).unwrap();
    assert_eq!(found.accuracy(&truth).unwrap(), 1.0);
    assert!(
        found
            .uncertainty()
            .iter()
            .all(|&u| (0.0..0.05).contains(&u))
    );
    assert!(
        found
            .scores()
            .sum_axis(Axis(1))
            .iter()
            .all(|s| (s - 1.0).abs() < 1e-12)
    );
    let run = |threads| with_threads(threads, || fitted.transfer(query).unwrap());
    assert_eq!(run(1), run(3));
}

/// d = 1, 2, 4: mean 7/3, variance 14/9, weights exp(-d 7/18).
#[test]
fn weights_by_hand() {
    let w = weights(array![1.0f32, 2.0, 4.0].view(), Votes::Distance);
    let raw = [1.0f64, 2.0, 4.0].map(|d| (-d * 7.0 / 18.0).exp());
    let sum: f64 = raw.iter().sum();
    for (a, b) in w.iter().zip(raw) {
        assert!((a - b / sum).abs() < 1e-15);
    }
    assert_eq!(
        weights(
            ndarray::Array1::from_elem(4, 3.0f32).view(),
            Votes::Distance
        ),
        [0.25; 4]
    );
    assert_eq!(weights(array![1.0f32, 9.0].view(), Votes::Equal), [0.5; 2]);
    // Far and uneven: all but the nearest vanish, and nothing is divided by zero.
    let w = weights(array![1e4f32, 2e4].view(), Votes::Distance);
    assert_eq!(w, [1.0, 0.0]);
}

#[test]
fn ties_go_to_the_first_category() {
    let x = array![[1.0f32], [-1.0]];
    let labels = Categorical::from_labels(&["b", "a"]);
    let found = LabelTransfer::fit(x.view(), &labels).unwrap().k(2);
    let found = found.transfer(array![[0.0f32]].view()).unwrap();
    assert_eq!(found.labels().get(0), Some("a"));
    assert_eq!(found.uncertainty(), [0.5]);
    assert_eq!(found.labels_or_unknown(0.5).unwrap().get(0), Some("a"));
    assert_eq!(
        found.labels_or_unknown(0.4).unwrap().get(0),
        Some("Unknown")
    );
}

#[test]
fn cells_without_a_label_do_not_vote() {
    let x = array![[0.0f32], [1.0], [2.0]];
    let fine = Categorical::from_options([None, Some("b"), Some("c")].into_iter());
    let coarse = Categorical::from_labels(&["all", "all", "all"]);
    let levels = LabelTransfer::fit(x.view(), &fine)
        .unwrap()
        .and(&coarse)
        .unwrap()
        .k(1)
        .transfer_levels(array![[0.0f32]].view())
        .unwrap();
    assert_eq!(levels[0].labels().get(0), Some("b"));
    assert_eq!(levels[1].labels().get(0), Some("all"));
}

#[test]
fn bad_input_is_refused() {
    let x = array![[0.0f32], [1.0]];
    let good = Categorical::from_labels(&["a", "b"]);
    assert!(LabelTransfer::fit(x.view(), &Categorical::from_labels(&["a"])).is_err());
    let none = Categorical::from_options([None::<&str>, None].into_iter());
    assert!(LabelTransfer::fit(x.view(), &none).is_err());
    let fitted = LabelTransfer::fit(x.view(), &good).unwrap();
    assert!(fitted.clone().k(0).transfer(x.view()).is_err());
    assert!(fitted.transfer(array![[0.0f32, 1.0]].view()).is_err());
    assert!(fitted.transfer(array![[f32::NAN]].view()).is_err());
    // More neighbours than there are cells: all vote.
    let found = fitted.transfer(x.view()).unwrap();
    assert!(found.accuracy(&none).is_err());
    assert!(found.accuracy(&Categorical::from_labels(&["a"])).is_err());
    assert_eq!(found.accuracy(&good).unwrap(), 1.0);
}
