use super::*;
use crate::testing::{assert_same_on_threads, assert_twins, random};
use crate::{DType, gradcheck};

fn two(n: usize, d: usize) -> Vec<Tensor> {
    vec![
        random("mean", -2.0, 2.0, &[n, d], DType::F64),
        random("var", 0.1, 3.0, &[n, d], DType::F64),
    ]
}

fn three(n: usize, k: usize, d: usize) -> Vec<Tensor> {
    vec![
        random("x", -2.0, 2.0, &[n, d], DType::F64),
        random("mean", -2.0, 2.0, &[k * n, d], DType::F64),
        random("log_var", -2.0, 2.0, &[k * n, d], DType::F64),
    ]
}

fn noise(x: &[Tensor]) -> Tensor {
    random("noise", -2.0, 2.0, x[0].dims(), x[0].dtype())
}

fn draw(x: &[Tensor]) -> Result<Tensor> {
    draw_normal(&x[0], &x[1], &noise(x))
}

fn draw_twin(x: &[Tensor]) -> Result<Tensor> {
    draw_composed(&x[0], &x[1], &noise(x))
}

fn kl(x: &[Tensor]) -> Result<Tensor> {
    kl_standard_normal(&x[0], &x[1])
}

fn kl_twin(x: &[Tensor]) -> Result<Tensor> {
    kl_composed(&x[0], &x[1])
}

fn neg_log(x: &[Tensor]) -> Result<Tensor> {
    neg_log_normal(&x[0], &x[1], &x[2])
}

fn neg_log_twin(x: &[Tensor]) -> Result<Tensor> {
    neg_log_composed(&x[0], &x[1], &x[2])
}

#[test]
fn gradients_are_right() {
    for (n, d) in [(1, 1), (4, 3), (3, 17)] {
        gradcheck(draw, &two(n, d), 1e-6, 1e-7).unwrap();
        gradcheck(kl, &two(n, d), 1e-6, 1e-7).unwrap();
        for k in [1, 3] {
            gradcheck(neg_log, &three(n, k, d), 1e-6, 1e-7).unwrap();
        }
    }
}

#[test]
fn fused_and_composed_agree() {
    for (n, d) in [(1, 1), (130, 10), (4000, 11)] {
        let tolerance = (1e-4, 1e-12);
        assert_twins(&draw, &draw_twin, &two(n, d), tolerance);
        assert_twins(&kl, &kl_twin, &two(n, d), tolerance);
        assert_twins(&neg_log, &neg_log_twin, &three(n, 3, d), tolerance);
    }
}

#[test]
fn threads_do_not_matter() {
    for f in [draw, kl] {
        assert_same_on_threads(&f, &two(4000, 11));
    }
    assert_same_on_threads(&neg_log, &three(4000, 3, 11));
}

#[test]
fn wrong_shapes_are_errors() {
    let (a, b) = (two(3, 2), two(4, 2));
    assert!(kl_standard_normal(&a[0], &b[1]).is_err());
    assert!(draw_normal(&a[0], &a[1], &b[0]).is_err());
    assert!(neg_log_normal(&a[0], &b[0], &b[1]).is_err());
    assert!(neg_log_normal(&a[0].narrow(0, 0, 0).unwrap(), &b[0], &b[1]).is_err());
}
