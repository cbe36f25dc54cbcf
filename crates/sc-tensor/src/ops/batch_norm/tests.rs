use super::*;
use crate::testing::{assert_same_on_threads, assert_twins, numbers, random};
use crate::{DType, Rng, gradcheck, ops};

fn inputs(n: usize, h: usize) -> Vec<Tensor> {
    vec![
        random("x", -2.0, 5.0, &[n, h], DType::F64),
        random("gamma", 0.5, 1.5, &[h], DType::F64),
        random("beta", -1.0, 1.0, &[h], DType::F64),
    ]
}

fn relu(x: &[Tensor]) -> Result<Tensor> {
    Ok(batch_norm_relu(&x[0], &x[1], &x[2], 1e-3, None)?.0)
}

fn dropped(x: &[Tensor]) -> Result<Tensor> {
    let mut stream = Rng::new(1).stream("dropout");
    Ok(batch_norm_relu(&x[0], &x[1], &x[2], 1e-3, Some((0.3, &mut stream)))?.0)
}

fn relu_twin(x: &[Tensor]) -> Result<Tensor> {
    composed::relu(&composed::batch_norm_train(&x[0], &x[1], &x[2], 1e-3)?.0)
}

fn dropped_twin(x: &[Tensor]) -> Result<Tensor> {
    let mut keep = vec![0u8; x[0].elem_count()];
    Rng::new(1).stream("dropout").fill_bernoulli(0.7, &mut keep);
    let keep = Tensor::from_vec(keep, x[0].shape(), x[0].device())?;
    composed::dropout(&relu_twin(x)?, &keep, 0.3)
}

#[test]
fn gradients_are_right() {
    for (n, h) in [(4, 3), (5, 17), (9, 2)] {
        let all = inputs(n, h);
        gradcheck(relu, &all, 1e-6, 1e-6).unwrap();
        gradcheck(dropped, &all, 1e-6, 1e-6).unwrap();
    }
}

#[test]
fn fused_and_composed_agree() {
    for (n, h) in [(3, 5), (130, 129), (700, 70)] {
        let all = inputs(n, h);
        assert_twins(&relu, &relu_twin, &all, (1e-3, 1e-11));
        assert_twins(&dropped, &dropped_twin, &all, (1e-3, 1e-11));
    }
}

#[test]
fn one_pass_gives_the_bits_of_three() {
    let all: Vec<Tensor> = inputs(70, 130)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let (y, mean, var) = batch_norm_train(&all[0], &all[1], &all[2], 1e-3).unwrap();
    let mut stream = Rng::new(1).stream("dropout");
    let apart = ops::dropout(&ops::relu(&y).unwrap(), 0.3, &mut stream).unwrap();
    let mut stream = Rng::new(1).stream("dropout");
    let fused = batch_norm_relu(&all[0], &all[1], &all[2], 1e-3, Some((0.3, &mut stream))).unwrap();
    assert_eq!(numbers(&fused.0), numbers(&apart));
    assert_eq!(numbers(&fused.1), numbers(&mean));
    assert_eq!(numbers(&fused.2), numbers(&var));
    assert_eq!(
        numbers(&relu(&all).unwrap()),
        numbers(&ops::relu(&y).unwrap())
    );
}

#[test]
fn threads_do_not_matter() {
    let all: Vec<Tensor> = inputs(301, 257)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    for f in [relu, dropped] {
        assert_same_on_threads(&f, &all);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let all = inputs(3, 4);
    let mut stream = Rng::new(1).stream("dropout");
    let none = all[0].narrow(0, 0, 0).unwrap();
    assert!(batch_norm_relu(&none, &all[1], &all[2], 1e-3, None).is_err());
    assert!(batch_norm_relu(&all[0], &all[1], &all[2], 1e-3, Some((1.0, &mut stream))).is_err());
}
