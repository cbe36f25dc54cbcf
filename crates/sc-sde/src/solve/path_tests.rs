use super::*;

fn interval(start: f64, end: f64) -> Interval {
    Interval {
        index: 0,
        start,
        end,
    }
}

fn ask(path: &BrownianPath, start: f64, end: f64) -> (Vec<f64>, Vec<f64>) {
    let step = interval(start, end);
    let got = path
        .increment(step, true, DType::F64, &Device::Cpu)
        .unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    (flat(&got.w), flat(got.area.as_ref().unwrap()))
}

/// `U` over a stretch is that of its parts, the second of which starts from where the first ends.
#[test]
fn parts_add_up_wherever_it_is_cut() {
    let path = BrownianPath::new(5, 40, 2, 1.0, 0.25).unwrap();
    for (a, b, c) in [
        (1.0, 1.25, 1.5),
        (1.0, 1.1, 1.25),
        (1.07, 1.3, 2.9),
        (0.3, 0.9, 1.01),
    ] {
        let (whole, first, second) = (ask(&path, a, c), ask(&path, a, b), ask(&path, b, c));
        for i in 0..whole.0.len() {
            let (w, u) = (whole.0[i], whole.1[i]);
            assert!((w - first.0[i] - second.0[i]).abs() < 1e-12);
            let sum = first.1[i] + second.1[i] + first.0[i] * (c - b);
            // Times are rounded to 2^-32 of a stretch, of which the area sees this much.
            assert!((u - sum).abs() < 1e-9, "{u} {sum}");
        }
    }
}

#[test]
fn no_order_of_questions_and_no_other_cell_changes_a_path() {
    let rng = Rng::new(9);
    let of = |cells: Vec<u64>| BrownianPath::of_cells(&rng, cells, 3, 0.0, 0.1).unwrap();
    let (all, some) = (of((0..50).collect()), of(vec![7, 31]));
    let late = ask(&some, 0.33, 0.37);
    let early = ask(&some, 0.0, 0.1);
    let (all_early, all_late) = (ask(&all, 0.0, 0.1), ask(&all, 0.33, 0.37));
    for (k, cell) in [7, 31].into_iter().enumerate() {
        let (mine, theirs) = (k * 3..k * 3 + 3, cell * 3..cell * 3 + 3);
        assert_eq!(early.0[mine.clone()], all_early.0[theirs.clone()]);
        assert_eq!(late.1[mine.clone()], all_late.1[theirs.clone()]);
    }
    assert_eq!(late, ask(&some, 0.33, 0.37));
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let path = BrownianPath::new(1, 3000, 2, 0.0, 0.1).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| ask(&path, 0.05, 0.3))
    };
    assert_eq!(on(1), on(4));
}

/// Second moments over stretches that cut the tree at odd places: `Var W = h`, `Var U = h^3 / 3`, `Cov(W, U) = h^2 / 2`, and
/// nothing in common with the stretch before. With 40,000 paths the standard error of a variance is 0.7 %.
#[test]
fn moments_are_those_of_brownian_motion() {
    let path = BrownianPath::new(77, 40_000, 1, 0.0, 0.5).unwrap();
    let mean = |a: &[f64], b: &[f64]| {
        let sum: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        sum / a.len() as f64
    };
    for (a, b, c) in [
        (0.0, 0.5, 1.0),
        (0.1, 0.23, 0.4),
        (0.125, 0.25, 0.5),
        (0.4, 0.7, 1.2),
    ] {
        let (first, second) = (ask(&path, a, b), ask(&path, b, c));
        let h = c - b;
        let near = |found: f64, expected: f64, scale: f64| {
            assert!(
                (found - expected).abs() < 0.035 * scale,
                "{found} {expected}"
            );
        };
        near(mean(&second.0, &second.0), h, h);
        near(mean(&second.1, &second.1), h.powi(3) / 3.0, h.powi(3) / 3.0);
        near(mean(&second.0, &second.1), h * h / 2.0, h * h / 2.0);
        near(mean(&first.0, &second.0), 0.0, (h * (b - a)).sqrt());
        near(
            mean(&first.0, &second.1),
            0.0,
            (h.powi(3) / 3.0 * (b - a)).sqrt(),
        );
        let ones = vec![1.0; second.0.len()];
        near(mean(&second.0, &ones), 0.0, h.sqrt());
    }
}

#[test]
fn bad_paths_are_refused() {
    assert!(BrownianPath::new(0, 1, 1, 0.0, 0.0).is_err());
    assert!(BrownianPath::new(0, 1, 1, f64::NAN, 1.0).is_err());
    let path = BrownianPath::new(0, 1, 1, 0.0, 1e-6).unwrap();
    for step in [
        interval(1.0, 0.5),
        interval(0.0, 1e9),
        interval(0.0, f64::NAN),
    ] {
        assert!(
            path.increment(step, false, DType::F64, &Device::Cpu)
                .is_err()
        );
    }
}
