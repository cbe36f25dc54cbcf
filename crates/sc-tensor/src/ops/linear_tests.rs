use super::*;
use crate::testing::{
    assert_close, assert_same_on_threads, assert_twins, numbers, random, value_and_gradients,
};
use crate::{DType, Device, Rng, Var, gradcheck};

fn inputs(dims: &[usize], i: usize, o: usize) -> Vec<Tensor> {
    vec![
        random("x", -1.0, 1.0, dims, DType::F64),
        random("w", -1.0, 1.0, &[o, i], DType::F64),
        random("b", -1.0, 1.0, &[o], DType::F64),
    ]
}

fn biased(a: &[Tensor]) -> Result<Tensor> {
    linear(&a[0], &a[1], a.get(2))
}

fn twin(a: &[Tensor]) -> Result<Tensor> {
    composed::linear(&a[0], &a[1], a.get(2))
}

#[test]
fn gradients_are_right() {
    for dims in [&[4, 3][..], &[2, 2, 3], &[3]] {
        let all = inputs(dims, 3, 5);
        gradcheck(biased, &all, 1e-6, 1e-8).unwrap();
        gradcheck(biased, &all[..2], 1e-6, 1e-8).unwrap();
    }
}

#[test]
fn fused_and_composed_agree() {
    for (dims, i, o) in [
        (&[1, 1][..], 1, 1),
        (&[130, 67], 67, 131),
        (&[3, 5, 33], 33, 2),
    ] {
        let all = inputs(dims, i, o);
        assert_twins(&biased, &twin, &all, (1e-4, 1e-12));
        assert_twins(&biased, &twin, &all[..2], (1e-4, 1e-12));
    }
}

#[test]
fn no_rows_give_no_gradient_but_a_zero() {
    let all = value_and_gradients(&biased, &inputs(&[0, 4], 4, 3));
    assert_eq!(all[0].dims(), [0, 3]);
    assert_eq!(numbers(&all[2]), [0.0; 12]);
    assert_eq!(numbers(&all[3]), [0.0; 3]);
}

#[test]
fn views_are_fine() {
    let all = inputs(&[7, 6], 6, 4);
    let x = all[0].narrow(0, 2, 3).unwrap();
    let w = all[1].t().unwrap().contiguous().unwrap();
    let expected = composed::linear(&x, &all[1], None).unwrap();
    assert_close(
        &linear(&x, &w.t().unwrap(), None).unwrap(),
        &expected,
        1e-13,
        "transposed weight",
    );
    let t = all[0].t().unwrap();
    let w = random("w2", -1.0, 1.0, &[2, 7], DType::F64);
    assert_close(
        &linear(&t, &w, None).unwrap(),
        &composed::linear(&t, &w, None).unwrap(),
        1e-13,
        "transposed input",
    );
}

#[test]
fn data_gets_no_gradient() {
    let all = inputs(&[4, 3], 3, 2);
    let w = Var::from_tensor(&all[1]).unwrap();
    let y = linear(&all[0], &w, Some(&all[2])).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get_ids().count(), 1);
    assert!(grads.get(&w).is_some());
    // And the gradient holds no graph.
    assert!(!grads.get(&w).unwrap().detach().track_op());
}

#[test]
fn threads_do_not_matter() {
    let all: Vec<Tensor> = inputs(&[128, 300], 300, 257)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    assert_same_on_threads(&biased, &all);
}

#[test]
fn wrong_shapes_are_errors() {
    let all = inputs(&[4, 3], 3, 2);
    assert!(linear(&all[0], &all[0], None).is_ok());
    assert!(linear(&all[0], &all[1].t().unwrap(), None).is_err());
    assert!(linear(&all[0], &all[1], Some(&all[0])).is_err());
    assert!(linear(&all[0], &all[2], None).is_err());
    let single = all[1].to_dtype(DType::F32).unwrap();
    assert!(linear(&all[0], &single, None).is_err());
    assert_eq!(
        numbers(&linear(&all[0].narrow(0, 0, 0).unwrap(), &all[1], None).unwrap()).len(),
        0
    );
}

#[test]
fn the_other_rows_change_no_bit() {
    for (i, o) in [(512, 96), (700, 130), (800, 1), (1, 5), (33, 7)] {
        for dtype in [DType::F32, DType::F64] {
            let x = random("x", -1.0, 1.0, &[97, i], dtype);
            let (w, b) = (
                random("w", -1.0, 1.0, &[o, i], dtype),
                random("b", -1.0, 1.0, &[o], dtype),
            );
            let all = numbers(&linear(&x, &w, Some(&b)).unwrap());
            for (from, n) in [(0, 1), (5, 1), (96, 1), (3, 2), (10, 9), (40, 57)] {
                let part = linear(&x.narrow(0, from, n).unwrap(), &w, Some(&b)).unwrap();
                assert!(
                    numbers(&part) == all[from * o..(from + n) * o],
                    "{n} rows, {i} -> {o}"
                );
            }
        }
    }
}

#[test]
fn many_rows_and_columns_fit() {
    let all = inputs(&[1000, 200], 200, 300);
    assert_twins(&biased, &twin, &all, (1e-4, 1e-11));
    assert_same_on_threads(&biased, &all);
}

fn activated(p: f64) -> impl Fn(&[Tensor]) -> Result<Tensor> + Sync {
    move |a| {
        let mut stream = Rng::new(4).stream("d");
        let dropout = (p > 0.0).then_some((p, &mut stream));
        linear_relu(&a[0], &a[1], a.get(2), dropout)
    }
}

fn activated_twin(p: f64) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |a| {
        let y = composed::relu(&composed::linear(&a[0], &a[1], a.get(2))?)?;
        let mut keep = vec![0u8; y.elem_count()];
        Rng::new(4).stream("d").fill_bernoulli(1.0 - p, &mut keep);
        composed::dropout(&y, &Tensor::from_vec(keep, y.shape(), &Device::Cpu)?, p)
    }
}

#[test]
fn with_relu_and_dropout() {
    for p in [0.0, 0.3] {
        gradcheck(activated(p), &inputs(&[4, 3], 3, 5), 1e-6, 1e-8).unwrap();
        gradcheck(activated(p), &inputs(&[2, 2, 3], 3, 5)[..2], 1e-6, 1e-8).unwrap();
        for (dims, i, o) in [
            (&[1, 1][..], 1, 1),
            (&[300, 67], 67, 131),
            (&[3, 5, 33], 33, 2),
        ] {
            let all = inputs(dims, i, o);
            assert_twins(&activated(p), &activated_twin(p), &all, (1e-4, 1e-12));
        }
        let all: Vec<Tensor> = inputs(&[328, 100], 100, 57)
            .iter()
            .map(|t| t.to_dtype(DType::F32).unwrap())
            .collect();
        assert_same_on_threads(&activated(p), &all);
    }
    let none = value_and_gradients(&activated(0.3), &inputs(&[0, 4], 4, 3));
    assert_eq!(
        (none[0].dims(), numbers(&none[3])),
        (&[0, 3][..], vec![0.0; 3])
    );
    let all = inputs(&[4, 3], 3, 5);
    let mut stream = Rng::new(0).stream("d");
    assert!(linear_relu(&all[0], &all[1], None, Some((1.0, &mut stream))).is_err());
    assert!(linear_relu(&all[0], &all[2], None, None).is_err());
}

#[test]
fn a_nan_passes_a_relu() {
    let x = Tensor::new(&[[f32::NAN], [-1.0], [2.0]], &Device::Cpu).unwrap();
    let y = linear_relu(
        &x,
        &Tensor::new(&[[1f32]], &Device::Cpu).unwrap(),
        None,
        None,
    )
    .unwrap();
    let y = numbers(&y);
    assert!(y[0].is_nan() && y[1..] == [0.0, 2.0]);
}

/// More rows than go into one product of tiles.
#[test]
fn the_weight_of_many_rows() {
    for n in [TILED_FROM - 1, TILED_FROM, CHUNK + 1, 2 * CHUNK] {
        let all = inputs(&[n, 9], 9, 17);
        assert_twins(&biased, &twin, &all, (2e-3, 1e-10));
        let all: Vec<Tensor> = all
            .iter()
            .map(|t| t.to_dtype(DType::F32).unwrap())
            .collect();
        assert_same_on_threads(&biased, &all);
    }
}
