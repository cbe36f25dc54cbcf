use super::*;

fn cells(n: usize) -> (Array2<f32>, Categorical, Categorical) {
    let x = Array2::from_shape_fn((n, 4), |(i, j)| {
        let noise = ((i * 31 + j * 17 + i * i) % 97) as f32 / 97.0;
        if j == i % 3 { 10.0 + noise } else { noise }
    });
    let kinds: Vec<String> = (0..n).map(|i| format!("kind {}", i % 3)).collect();
    let donors: Vec<String> = (0..n).map(|i| format!("donor {}", i / 3 % 2)).collect();
    (
        x,
        Categorical::from_labels(&kinds),
        Categorical::from_labels(&donors),
    )
}

#[test]
fn everything_that_is_asked_for_is_there() {
    let (x, kinds, donors) = cells(240);
    let times: Vec<f64> = (0..240).map(f64::from).collect();
    let cycle = x.mapv(f64::from).select(Axis(1), &[0, 1]);
    let before = x.mapv(|v| v * 0.9);
    let suite = Suite::new(&kinds, &donors)
        .unwrap()
        .before(before.view())
        .unwrap()
        .cell_cycle(cycle.view())
        .unwrap()
        .pseudotime(&times)
        .unwrap()
        .glue(true);
    let mut stages = Vec::new();
    let scores = suite.score_with(x.view(), &mut |s| stages.push(s)).unwrap();
    assert_eq!(scores.iter().count(), Metric::ALL.len());
    for (metric, value) in scores.iter() {
        let v = value.unwrap_or_else(|e| panic!("{}: {e}", metric.name()));
        assert!((-1e-12..=1.0 + 1e-12).contains(&v), "{} {v}", metric.name());
    }
    assert!(stages.len() > 8 && scores.notes().is_empty());
    assert!(scores.get(Metric::SilhouetteLabel).unwrap() > 0.9);
    let threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(|| suite.score(x.view()).unwrap())
    };
    assert_eq!(threads(1), threads(3));
}

#[test]
fn one_batch_and_one_label_are_named() {
    let (x, kinds, donors) = cells(120);
    let one = Categorical::from_labels(&["only"; 120]);
    let scores = Suite::new(&kinds, &one).unwrap().score(x.view()).unwrap();
    for m in [
        Metric::Ilisi,
        Metric::Bras,
        Metric::Kbet,
        Metric::SilhouetteBatch,
    ] {
        let why = scores.reason(m).unwrap();
        assert!(why.contains("number of batches is 1"), "{why}");
    }
    assert!(scores.get(Metric::SilhouetteLabel).is_some());
    let scores = Suite::new(&one, &donors).unwrap().score(x.view()).unwrap();
    for m in [
        Metric::Clisi,
        Metric::SilhouetteLabel,
        Metric::NmiKmeans,
        Metric::NmiLeiden,
    ] {
        let why = scores.reason(m).unwrap();
        assert!(why.contains("number of labels is 1"), "{why}");
    }
    assert!(scores.get(Metric::Ilisi).is_some());
}

#[test]
fn bad_input_is_named() {
    let (mut x, kinds, donors) = cells(60);
    let few = x.select(Axis(0), &[0, 1, 2]);
    let suite = Suite::new(&kinds, &donors).unwrap();
    assert!(suite.score(x.view().split_at(Axis(0), 59).0).is_err());
    assert!(suite.clone().before(few.view()).is_err());
    assert!(suite.clone().pseudotime(&[0.0]).is_err());
    let scores = suite.score(x.view()).unwrap();
    assert!(
        scores.notes()[0].contains("59 neighbours"),
        "{:?}",
        scores.notes()
    );
    x[[7, 2]] = f32::NAN;
    let e = suite.score(x.view()).unwrap_err().to_string();
    assert!(e.contains("row 7, column 2 is NaN"), "{e}");
    let some = (0..60).map(|i| (i != 4).then_some("a"));
    let e = Suite::new(&Categorical::from_options(some), &donors).unwrap_err();
    assert!(
        e.to_string()
            .contains("1 cells have no label, the first in row 4"),
        "{e}"
    );
    assert!(Suite::new(&kinds, &donors.select(&[0, 1])).is_err());
    let few = kinds.select(&[0, 1, 2]);
    assert!(Suite::new(&few, &few).is_err());
    let mut names: Vec<&str> = (0..60).map(|i| ["a", "b"][i % 2]).collect();
    names[0] = "alone";
    let single = Suite::new(&Categorical::from_labels(&names), &donors).unwrap();
    assert!(
        single.notes[0].contains("one cell: alone"),
        "{:?}",
        single.notes
    );
}
