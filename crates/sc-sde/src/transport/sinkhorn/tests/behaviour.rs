//! Losses in a graph, what must not matter, and bad input.

use ndarray::{Array2, array};
use sc_tensor::{DType, Rng, Var, backward};

use super::*;

#[test]
fn only_what_is_in_a_graph_has_a_gradient() {
    let (x, y) = reference(5, 4, 2);
    let (x, y) = (Var::from_tensor(&tensor(&x)).unwrap(), tensor(&y));
    let s = Sinkhorn::params().check().unwrap();
    let loss = s.loss(&x, &y).unwrap();
    assert!(loss.dims().is_empty());
    let grads = backward(&loss).unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&y).is_none());
    assert!(!s.loss(&y, &y).unwrap().track_op());
    let detached = s.loss(&x.detach(), &y).unwrap();
    assert_eq!(
        detached.to_scalar::<f64>().unwrap(),
        loss.to_scalar::<f64>().unwrap()
    );
    // A cloud against itself, through both arguments.
    let own = s.loss(&x, &x).unwrap();
    near(own.to_scalar::<f64>().unwrap(), 0.0, 1e-12, "own");
    let grads = backward(&own).unwrap();
    let g = grads.get(&x).unwrap().abs().unwrap().max_all().unwrap();
    near(g.to_scalar::<f64>().unwrap(), 0.0, 1e-12, "own gradient");
}

#[test]
fn a_batch_of_tensors() {
    let (x, y) = reference(5, 4, 2);
    let (x, y) = (tensor(&x), tensor(&y));
    let stack = |t: &Tensor| Tensor::stack(&[t, &(t * 3.0).unwrap()], 0).unwrap();
    let xs = Var::from_tensor(&stack(&x)).unwrap();
    let weights = Tensor::from_vec(vec![0.2f64; 10], (2, 5), &Device::Cpu).unwrap();
    let s = Sinkhorn::params().check().unwrap();
    let loss = s
        .loss_weighted(&xs, Some(&weights), &stack(&y), None)
        .unwrap();
    let values = loss.to_vec1::<f64>().unwrap();
    near(values[0], 0.297829140582876, 1e-11, "first");
    near(values[1], 2.6871634255747052, 1e-10, "second");
    // The second one alone.
    let picked = loss.narrow(0, 1, 1).unwrap().sum_all().unwrap();
    let grads = backward(&picked).unwrap();
    let g = grads.get(&xs).unwrap();
    let sum = |t: Tensor| {
        t.abs()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    assert_eq!(sum(g.narrow(0, 0, 1).unwrap()), 0.0);
    assert!(sum(g.narrow(0, 1, 1).unwrap()) > 1.0);
}

#[test]
fn what_must_not_matter() {
    let (x, y) = reference(32, 24, 5);
    let value = |x: &Array2<f64>, y: &Array2<f64>| solve(Sinkhorn::params(), x, y, true).value();
    let s = value(&x, &y);
    near(value(&y, &x), s, 1e-12, "sides");
    near(value(&(&x + 1e3), &(&y + 1e3)), s, 1e-9, "place");
    let mut back = x.clone();
    back.invert_axis(ndarray::Axis(0));
    near(value(&back, &y), s, 1e-12, "order");
    near(value(&x, &x), 0.0, 1e-12, "itself");
    // One point each.
    let one = value(&array![[1.0, 2.0]], &array![[4.0, -2.0]]);
    near(one, 12.5, 1e-10, "one point");
    near(
        value(&array![[1.0]], &array![[1.0]]),
        0.0,
        1e-15,
        "no diameter",
    );
    let p1 = solve(
        Sinkhorn::params().p(1),
        &array![[0.0, 2.0]],
        &array![[3.0, -2.0]],
        true,
    );
    near(p1.value(), 5.0 - 1e-4, 1e-9, "one point, p = 1");
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let mut v = vec![0f32; 500 * 20];
    Rng::new(1).stream("points").fill_normal(&mut v);
    let x = Array2::from_shape_vec((500, 20), v).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (a, b) = x.view().split_at(ndarray::Axis(0), 230);
            let s = Sinkhorn::prescient().check().unwrap();
            let s = s
                .solve(&Cloud::new(a).unwrap(), &Cloud::new(b).unwrap())
                .unwrap();
            let pairs = s.sample(50, &mut Rng::new(3).stream("pairs"));
            (
                s.value().to_bits(),
                s.gradient_x().unwrap(),
                s.gradient_y().unwrap(),
                pairs,
            )
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn pairs_are_drawn_by_the_plan() {
    let (x, y) = reference(5, 4, 2);
    let s = solve(Sinkhorn::params().blur(0.7).converged(1e-10), &x, &y, false);
    let plan = s.plan();
    let mut counts = Array2::<f64>::zeros((5, 4));
    for (i, j) in s.sample(40_000, &mut Rng::new(5).stream("pairs")) {
        counts[(i, j)] += 1.0 / 40_000.0;
    }
    for (found, expected) in counts.iter().zip(&plan) {
        near(*found, *expected, 0.01, "share");
    }
}

#[test]
fn bad_input_is_named() {
    let says = |e: Error, what: &str| assert!(e.to_string().contains(what), "{e}");
    for (params, what) in [
        (Sinkhorn::params().blur(0.0), "blur"),
        (Sinkhorn::params().blur(f64::NAN), "blur"),
        (Sinkhorn::params().scaling(1.0), "scaling"),
        (Sinkhorn::params().scaling(0.0), "scaling"),
        (Sinkhorn::params().scaling(f64::NAN), "scaling"),
        (Sinkhorn::params().reach(-1.0), "reach"),
        (Sinkhorn::params().p(3), "p = 3"),
        (
            Sinkhorn::params().diameter(Diameter::Fixed(0.0)),
            "diameter",
        ),
        (Sinkhorn::params().converged(0.0), "tolerance"),
    ] {
        says(params.check().unwrap_err(), what);
    }
    let nan = array![[0.0, f64::NAN]];
    says(Cloud::new(nan.view()).unwrap_err(), "row 0, column 1");
    says(
        Cloud::new(Array2::<f64>::zeros((0, 2)).view()).unwrap_err(),
        "empty",
    );
    let (x, y) = reference(3, 3, 2);
    let cloud = || Cloud::new(x.view()).unwrap();
    for (w, what) in [
        (array![1.0, -0.1, 0.1], "weight 1 is -0.1"),
        (array![0.0, 0.0, 0.0], "all 3 weights are 0"),
        (array![1.0, f64::NAN, 0.0], "NaN"),
        (array![1.0], "one for each point"),
    ] {
        says(cloud().with_weights(w.view()).unwrap_err(), what);
    }
    let s = Sinkhorn::params().check().unwrap();
    let flat = y.view().split_at(ndarray::Axis(1), 1).0;
    says(
        s.solve(&cloud(), &Cloud::new(flat).unwrap()).unwrap_err(),
        "as in the first cloud",
    );
    let heavy = Cloud::new(y.view())
        .unwrap()
        .with_weights(array![1.0, 1.0, 1.0].view())
        .unwrap();
    let converged = Sinkhorn::params().converged(1e-9).check().unwrap();
    says(converged.solve(&cloud(), &heavy).unwrap_err(), "reach");
    let hasty = Sinkhorn::params().stop(Stop::Converged {
        tolerance: 1e-12,
        max_updates: 2,
    });
    says(
        hasty
            .check()
            .unwrap()
            .solve(&cloud(), &Cloud::new(y.view()).unwrap())
            .unwrap_err(),
        "max_updates",
    );
    let far = array![[1e12, 0.0]];
    says(
        s.solve(&Cloud::new(far.view()).unwrap(), &cloud())
            .unwrap_err(),
        "blur",
    );
    // Tensors.
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    says(
        s.loss(&t(&[3]), &t(&[3, 2])).unwrap_err(),
        "[points, coordinates]",
    );
    says(s.loss(&t(&[2, 3, 2]), &t(&[3, 2])).unwrap_err(), "batch");
    says(s.loss(&t(&[3, 0]), &t(&[3, 2])).unwrap_err(), "empty");
    says(
        s.loss_weighted(&t(&[3, 2]), Some(&t(&[2])), &t(&[3, 2]), None)
            .unwrap_err(),
        "one for each point",
    );
    let single = t(&[3, 2]).to_dtype(DType::F32).unwrap();
    says(s.loss(&t(&[3, 2]), &single).unwrap_err(), "to_dtype");
}
