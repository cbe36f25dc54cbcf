use super::*;
use crate::ops::{batch_norm_eval, batch_norm_train};
use crate::testing::{
    assert_close, assert_same_on_threads, assert_twins, numbers, random, value_and_gradients,
};
use crate::{DType, Device, Rng, gradcheck};

fn inputs(n: usize, h: usize) -> Vec<Tensor> {
    vec![
        random("x", -2.0, 5.0, &[n, h], DType::F64),
        random("gamma", 0.5, 1.5, &[h], DType::F64),
        random("beta", -1.0, 1.0, &[h], DType::F64),
    ]
}

fn train(x: &[Tensor]) -> Result<Tensor> {
    Ok(batch_norm_train(&x[0], &x[1], &x[2], 1e-3)?.0)
}

fn train_twin(x: &[Tensor]) -> Result<Tensor> {
    Ok(composed::batch_norm_train(&x[0], &x[1], &x[2], 1e-3)?.0)
}

fn statistics(x: &[Tensor]) -> (Tensor, Tensor) {
    let h = x[1].dims1().unwrap();
    (
        random("mean", -1.0, 1.0, &[h], x[0].dtype()),
        random("var", 0.5, 2.0, &[h], x[0].dtype()),
    )
}

fn eval(x: &[Tensor]) -> Result<Tensor> {
    let (mean, var) = statistics(x);
    batch_norm_eval(&x[0], &x[1], &x[2], &mean, &var, 1e-3)
}

fn eval_twin(x: &[Tensor]) -> Result<Tensor> {
    let (mean, var) = statistics(x);
    composed::batch_norm_eval(&x[0], &x[1], &x[2], &mean, &var, 1e-3)
}

fn layer(x: &[Tensor]) -> Result<Tensor> {
    layer_norm(&x[0], x.get(1), x.get(2), 1e-5)
}

fn layer_twin(x: &[Tensor]) -> Result<Tensor> {
    composed::layer_norm(&x[0], x.get(1), x.get(2), 1e-5)
}

/// `x`, the branch, weight and bias.
fn with_branch(n: usize, h: usize) -> Vec<Tensor> {
    let mut all = inputs(n, h);
    all.insert(1, random("branch", -3.0, 3.0, &[n, h], DType::F64));
    all
}

fn summed(p: f64) -> impl Fn(&[Tensor]) -> Result<Tensor> + Sync {
    move |x| {
        let mut stream = Rng::new(4).stream("d");
        let dropout = (p > 0.0).then_some((p, &mut stream));
        add_layer_norm(&x[0], &x[1], dropout, x.get(2), x.get(3), 1e-5)
    }
}

fn summed_twin(p: f64) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |x| {
        let mut keep = vec![0u8; x[0].elem_count()];
        Rng::new(4).stream("d").fill_bernoulli(1.0 - p, &mut keep);
        let keep = Tensor::from_vec(keep, x[0].shape(), &Device::Cpu)?;
        let sum = (&x[0] + composed::dropout(&x[1], &keep, p)?)?;
        composed::layer_norm(&sum, x.get(2), x.get(3), 1e-5)
    }
}

#[test]
fn residual_sums() {
    for p in [0.0, 0.3] {
        for (n, h) in [(4, 3), (5, 17), (40, 2)] {
            let all = with_branch(n, h);
            gradcheck(summed(p), &all, 1e-6, 1e-6).unwrap();
            gradcheck(summed(p), &all[..2], 1e-6, 1e-6).unwrap();
        }
        for (n, h) in [(3, 5), (130, 129), (700, 70), (2, 1000)] {
            let all = with_branch(n, h);
            assert_twins(&summed(p), &summed_twin(p), &all, (1e-3, 1e-11));
            assert_twins(&summed(p), &summed_twin(p), &all[..2], (1e-3, 1e-11));
        }
        let all: Vec<Tensor> = with_branch(301, 257)
            .iter()
            .map(|t| t.to_dtype(DType::F32).unwrap())
            .collect();
        assert_same_on_threads(&summed(p), &all);
        let none = value_and_gradients(&summed(p), &with_branch(0, 4));
        assert_eq!(
            (none[0].dims(), numbers(&none[3])),
            (&[0, 4][..], vec![0.0; 4])
        );
    }
}

#[test]
fn the_other_rows_change_no_bit_of_a_sum() {
    let all: Vec<Tensor> = with_branch(75, 65)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let together = numbers(&summed(0.0)(&all).unwrap());
    for (from, n) in [(0, 1), (15, 2), (16, 40), (74, 1)] {
        let mut part = all.clone();
        for t in &mut part[..2] {
            *t = t.narrow(0, from, n).unwrap();
        }
        let alone = numbers(&summed(0.0)(&part).unwrap());
        assert!(alone == together[from * 65..(from + n) * 65]);
    }
}

#[test]
fn gradients_are_right() {
    for (n, h) in [(4, 3), (2, 1), (5, 17), (1, 4)] {
        let all = inputs(n, h);
        gradcheck(train, &all, 1e-6, 1e-6).unwrap();
        gradcheck(eval, &all, 1e-6, 1e-7).unwrap();
        if h > 1 {
            for used in 1..=3 {
                gradcheck(layer, &all[..used], 1e-6, 1e-6).unwrap();
            }
            gradcheck(
                |x| layer_norm(&x[0], None, Some(&x[1]), 1e-5),
                &[all[0].clone(), all[2].clone()],
                1e-6,
                1e-6,
            )
            .unwrap();
        }
    }
}

#[test]
fn fused_and_composed_agree() {
    for (n, h) in [(3, 5), (130, 129), (700, 70), (2, 1000)] {
        let all = inputs(n, h);
        assert_twins(&train, &train_twin, &all, (1e-3, 1e-11));
        assert_twins(&eval, &eval_twin, &all, (1e-3, 1e-11));
        assert_twins(&layer, &layer_twin, &all, (1e-3, 1e-11));
        assert_twins(&layer, &layer_twin, &all[..1], (1e-3, 1e-11));
    }
}

#[test]
fn threads_do_not_matter() {
    let all: Vec<Tensor> = inputs(301, 257)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    for f in [train, eval, layer] {
        assert_same_on_threads(&f, &all);
    }
}

#[test]
fn the_statistics_are_those_of_the_batch() {
    let x = Tensor::new(&[[1f64, 10.0], [3.0, 10.0], [8.0, 10.0]], &Device::Cpu).unwrap();
    let one = Tensor::ones(2, DType::F64, &Device::Cpu).unwrap();
    let (y, mean, var) = batch_norm_train(&x, &one, &one, 1e-3).unwrap();
    assert_eq!(numbers(&mean), [4.0, 10.0]);
    // (9 + 1 + 16) / 3: biased.
    assert!((numbers(&var)[0] - 26.0 / 3.0).abs() < 1e-14);
    assert_eq!(numbers(&var)[1], 0.0);
    assert!(!mean.track_op() && !var.track_op());
    // A constant column is shifted by beta alone.
    assert_eq!(numbers(&y)[1], 1.0);
}

#[test]
fn large_offsets_lose_nothing() {
    // The textbook formula E[x^2] - E[x]^2 fails here in f32.
    let x = Tensor::new(&[[4096f32], [4097.0], [4098.0], [4099.0]], &Device::Cpu).unwrap();
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    let (_, _, var) = batch_norm_train(&x, &one, &one, 1e-3).unwrap();
    assert_close(
        &var,
        &Tensor::new(&[1.25f32], &Device::Cpu).unwrap(),
        1e-7,
        "variance",
    );
}

#[test]
fn wrong_shapes_are_errors() {
    let x = random("x", 0.0, 1.0, &[3, 4], DType::F32);
    let five = random("w", 0.0, 1.0, &[5], DType::F32);
    let four = random("w", 0.0, 1.0, &[4], DType::F32);
    assert!(batch_norm_train(&x, &five, &four, 1e-3).is_err());
    assert!(batch_norm_train(&x.narrow(0, 0, 0).unwrap(), &four, &four, 1e-3).is_err());
    assert!(batch_norm_eval(&x, &four, &four, &five, &four, 1e-3).is_err());
    assert!(layer_norm(&x, Some(&five), None, 1e-5).is_err());
    assert!(add_layer_norm(&x, &four, None, None, None, 1e-5).is_err());
    assert!(add_layer_norm(&x, &x, None, None, Some(&five), 1e-5).is_err());
    let mut stream = Rng::new(0).stream("d");
    for p in [1.0, -0.1, f64::NAN] {
        let dropout = Some((p, &mut stream));
        assert!(add_layer_norm(&x, &x, dropout, None, None, 1e-5).is_err());
    }
}
