use sc_data::Column;

use super::*;

/// Twelve samples of two cells.
fn data() -> (Table, Categorical) {
    let n = 24;
    let mut obs = Table::new((0..n).map(|i| i.to_string()).collect());
    let sample = |i: usize| i / 2;
    let labels = |of: &dyn Fn(usize) -> String| {
        let v: Vec<String> = (0..n).map(|i| of(sample(i))).collect();
        Column::Categorical(Categorical::from_labels(&v))
    };
    obs.insert("a", labels(&|s| ["p", "q", "r"][s % 3].into()))
        .unwrap();
    obs.insert("b", labels(&|s| ["x", "y"][s / 3 % 2].into()))
        .unwrap();
    obs.insert("same as b", labels(&|s| ["1", "2"][s / 3 % 2].into()))
        .unwrap();
    let number = |of: &dyn Fn(usize) -> f64| Column::Float((0..n).map(|i| of(sample(i))).collect());
    obs.insert("age", number(&|s| (s * s) as f64)).unwrap();
    obs.insert("day", number(&|s| [0.5, 10.0, 2.0][s % 3]))
        .unwrap();
    let dose = (0..n).map(|i| [0.1f32, -0.0, 0.0][sample(i) % 3]).collect();
    obs.insert("dose", Column::Float32(dose)).unwrap();
    obs.insert("varies", Column::Int((0..n as i64).collect()))
        .unwrap();
    obs.insert(
        "flag",
        Column::Bool((0..n).map(|i| sample(i) % 2 == 1).collect()),
    )
    .unwrap();
    // Their order is not the alphabetical one.
    let names: Vec<String> = (0..n).map(|i| format!("s{:02}", sample(i))).collect();
    (obs, Categorical::from_labels(&names))
}

fn columns(formula: &str) -> Vec<String> {
    let (obs, samples) = data();
    Design::new(formula, &obs, &samples)
        .unwrap()
        .columns()
        .to_vec()
}

#[test]
fn levels_are_no_differences() {
    let (obs, samples) = data();
    let check = |d: Design| d.check_difference();
    let design = |formula| Design::new(formula, &obs, &samples).unwrap();
    check(design("~ b + a")).unwrap();
    check(design("~ b")).unwrap();
    check(design("~ 0 + age")).unwrap();
    assert!(check(design("~ 0 + a")).is_err());
    assert!(check(design("~ b").testing(INTERCEPT).unwrap()).is_err());
    let contrast = |c| Design::with_contrast("~ a", c, &obs, &samples).unwrap();
    check(contrast("aq - ap")).unwrap();
    assert!(check(contrast("aq")).is_err());
}

#[test]
fn one_label_is_nothing_to_compare() {
    let (mut obs, samples) = data();
    let one = vec!["x"; obs.n_rows()];
    obs.insert("one", Column::Categorical(Categorical::from_labels(&one)))
        .unwrap();
    let message = Design::new("~ b + one", &obs, &samples)
        .unwrap_err()
        .to_string();
    assert!(message.contains("only the label \"x\""), "{message}");
}

/// Reference: the rules of R's `model.matrix`, as documented in its manual and `An Introduction to R`, 11.1.
#[test]
fn columns_are_those_of_r() {
    assert_eq!(columns("~ b + a"), ["(Intercept)", "by", "aq", "ar"]);
    assert_eq!(columns("~ 0 + a + b"), ["ap", "aq", "ar", "by"]);
    assert_eq!(columns("~ age + 0 + a"), ["age", "ap", "aq", "ar"]);
    assert_eq!(
        columns("~ a*b"),
        ["(Intercept)", "aq", "ar", "by", "aq:by", "ar:by"]
    );
    assert_eq!(
        columns("~ b + b:a"),
        ["(Intercept)", "by", "bx:aq", "by:aq", "bx:ar", "by:ar"]
    );
    assert_eq!(
        columns("~ a + age:a"),
        ["(Intercept)", "aq", "ar", "ap:age", "aq:age", "ar:age"]
    );
    // Interactions are named after the order in which their variables first appear, and written twice they are one.
    assert_eq!(columns("~ age + a:age + age:a")[2..], ["age:aq", "age:ar"]);
    assert_eq!(columns("~ age*b"), ["(Intercept)", "age", "by", "age:by"]);
    assert_eq!(
        columns("~ factor(day)"),
        ["(Intercept)", "factor(day)2", "factor(day)10"]
    );
    assert_eq!(
        columns("~ factor(dose)"),
        ["(Intercept)", "factor(dose)0.1"]
    );
    assert_eq!(columns("~ flag"), ["(Intercept)", "flagTrue"]);
}

#[test]
fn values_are_those_of_the_samples() {
    let (obs, samples) = data();
    let d = Design::new("~ age + b", &obs, &samples).unwrap();
    assert_eq!(d.samples().len(), 12);
    for (s, row) in d.matrix().rows().into_iter().enumerate() {
        assert_eq!(row.to_vec(), [1.0, (s * s) as f64, (s / 3 % 2) as f64]);
    }
    assert_eq!((d.tested(), d.contrast()), ("by", &[0.0, 0.0, 1.0][..]));
    let d = d.testing("age").unwrap();
    assert_eq!((d.tested(), d.contrast()), ("age", &[0.0, 1.0, 0.0][..]));
    let message = d.testing("nothing").unwrap_err().to_string();
    assert!(message.contains("(Intercept), age, by"), "{message}");
}

#[test]
fn baselines_and_contrasts() {
    let (obs, samples) = data();
    let to = |v: &str, l: &str| [(v.to_owned(), l.to_owned())];
    let d = Design::with_baselines("~ a", &obs, &samples, &to("a", "q")).unwrap();
    assert_eq!(d.columns(), ["(Intercept)", "ap", "ar"]);
    for bad in [to("a", "z"), to("b", "x"), to("age", "1")] {
        assert!(Design::with_baselines("~ a + age", &obs, &samples, &bad).is_err());
    }
    let d = Design::with_contrast("~ a + b", "ar - ap", &obs, &samples).unwrap();
    assert_eq!(d.columns(), ["ap", "aq", "ar", "by"]);
    assert_eq!(d.contrast(), [-1.0, 0.0, 1.0, 0.0]);
    assert!(Design::with_contrast("~ a", "as - ap", &obs, &samples).is_err());
}

#[test]
fn designs_that_cannot_be_are_refused() {
    let (obs, samples) = data();
    let error = |formula: &str| {
        Design::new(formula, &obs, &samples)
            .unwrap_err()
            .to_string()
    };
    let confounded = error("~ b + `same as b`");
    assert!(
        confounded.contains("same as b2") && confounded.contains("(Intercept), by"),
        "{confounded}"
    );
    let varies = error("~ varies");
    assert!(
        varies.contains("0 and 1") && varies.contains("s00"),
        "{varies}"
    );
    assert!(
        error("~ factor(age)").contains("12 samples"),
        "{}",
        error("~ factor(age)")
    );
    assert!(error("~ nope").contains("nope"));
    assert!(error("~ 1").contains("intercept") && error("~ 0").contains("no terms"));
    let half = samples.select(&(0..23).collect::<Vec<_>>());
    assert!(Design::new("~ a", &obs, &half).is_err());
}
