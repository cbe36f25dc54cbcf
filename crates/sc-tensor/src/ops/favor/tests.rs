use super::*;
use crate::gradcheck;
use crate::testing::{
    assert_close, assert_same_on_threads, assert_twins, numbers, random, value_and_gradients,
};
use crate::{DType, Device};

fn ragged() -> Segments {
    Segments::with_keys([(5, 5), (1, 1), (0, 0), (61, 40), (9, 0), (150, 149)]).unwrap()
}

fn qkv(s: &Segments, heads: usize, d: usize, dtype: DType) -> Vec<Tensor> {
    ["q", "k", "v"]
        .map(|name| random(name, -1.5, 1.5, &[s.rows(), heads * d], dtype))
        .to_vec()
}

fn projection(m: usize, d: usize) -> Tensor {
    random("projection", -2.0, 2.0, &[m, d], DType::F64)
}

const STABILISERS: [Stabiliser; 2] = [Stabiliser::PerSequence, Stabiliser::Batch];

#[test]
fn the_twin_agrees() {
    let s = ragged();
    for (heads, d, m) in [(1, 1, 3), (2, 7, 16), (3, 16, 55), (1, 64, 266)] {
        let p = projection(m, d);
        for stabiliser in STABILISERS {
            let p = |x: &Tensor| p.to_dtype(x.dtype()).unwrap();
            assert_twins(
                &|x| favor_attention(&x[0], &x[1], &x[2], &p(&x[0]), heads, &s, stabiliser),
                &|x| {
                    composed::favor_attention(&x[0], &x[1], &x[2], &p(&x[0]), heads, &s, stabiliser)
                },
                &qkv(&s, heads, d, DType::F64),
                (2e-4, 1e-10),
            );
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let s = Segments::with_keys([(4, 4), (5, 3), (2, 0), (1, 1)]).unwrap();
    let p = projection(7, 3);
    for stabiliser in STABILISERS {
        gradcheck(
            |x| favor_attention(&x[0], &x[1], &x[2], &p, 2, &s, stabiliser),
            &qkv(&s, 2, 3, DType::F64),
            1e-6,
            1e-7,
        )
        .unwrap();
    }
}

#[test]
fn ties_share_the_gradient_of_the_maximum() {
    // All keys the same: every key reaches the maximum.
    let s = Segments::new([6, 3]).unwrap();
    let mut x = qkv(&s, 2, 4, DType::F64);
    x[1] = Tensor::full(0.7f64, (9, 8), &Device::Cpu).unwrap();
    for stabiliser in STABILISERS {
        assert_twins(
            &|x| {
                favor_attention(
                    &x[0],
                    &x[1],
                    &x[2],
                    &projection(10, 4).to_dtype(x[0].dtype())?,
                    2,
                    &s,
                    stabiliser,
                )
            },
            &|x| {
                composed::favor_attention(
                    &x[0],
                    &x[1],
                    &x[2],
                    &projection(10, 4).to_dtype(x[0].dtype())?,
                    2,
                    &s,
                    stabiliser,
                )
            },
            &x,
            (1e-4, 1e-11),
        );
    }
}

#[test]
fn long_sequences_are_summed_by_chunks() {
    let s = Segments::with_keys([(2500, 2400)]).unwrap();
    let p = projection(20, 4);
    assert_twins(
        &|x| {
            favor_attention(
                &x[0],
                &x[1],
                &x[2],
                &p.to_dtype(x[0].dtype())?,
                1,
                &s,
                Stabiliser::PerSequence,
            )
        },
        &|x| {
            composed::favor_attention(
                &x[0],
                &x[1],
                &x[2],
                &p.to_dtype(x[0].dtype())?,
                1,
                &s,
                Stabiliser::PerSequence,
            )
        },
        &qkv(&s, 1, 4, DType::F64),
        (2e-4, 1e-10),
    );
}

#[test]
fn threads_change_no_bit() {
    let s = Segments::with_keys([(61, 40), (1500, 1490)]).unwrap();
    for dtype in [DType::F32, DType::F64] {
        let p = projection(30, 8).to_dtype(dtype).unwrap();
        assert_same_on_threads(
            &|x| favor_attention(&x[0], &x[1], &x[2], &p, 2, &s, Stabiliser::PerSequence),
            &qkv(&s, 2, 8, dtype),
        );
    }
}

#[test]
fn the_other_sequences_change_no_bit() {
    let lengths = [(5, 5), (61, 40), (9, 0), (150, 149)];
    let s = Segments::with_keys(lengths).unwrap();
    let p = projection(30, 8).to_dtype(DType::F32).unwrap();
    let x = qkv(&s, 2, 8, DType::F32);
    let run = |x: &[Tensor], s: &Segments| {
        let y = favor_attention(&x[0], &x[1], &x[2], &p, 2, s, Stabiliser::PerSequence).unwrap();
        let w = favor_key_importance(&x[0], &x[1], &p, 2, s, Stabiliser::PerSequence).unwrap();
        (y, w)
    };
    let (y, w) = run(&x, &s);
    for (part, &length) in s.iter().zip(&lengths) {
        let rows = |t: &Tensor| t.narrow(0, part.start, part.rows).unwrap();
        let alone: Vec<Tensor> = x.iter().map(rows).collect();
        let (y_alone, w_alone) = run(&alone, &Segments::with_keys([length]).unwrap());
        assert!(numbers(&rows(&y)) == numbers(&y_alone));
        assert!(numbers(&rows(&w)) == numbers(&w_alone));
    }
}

#[test]
fn importance_is_the_mean_of_the_attention_matrix() {
    let s = ragged();
    let (q, k) = {
        let x = qkv(&s, 3, 8, DType::F64);
        (x[0].clone(), x[1].clone())
    };
    let p = projection(33, 8);
    for stabiliser in STABILISERS {
        let w = favor_key_importance(&q, &k, &p, 3, &s, stabiliser).unwrap();
        let twin = composed::favor_key_importance(&q, &k, &p, 3, &s, stabiliser).unwrap();
        assert_close(&w, &twin, 1e-12, "importance");
        let sums = numbers(&w.narrow(0, 76, 150).unwrap().sum(0).unwrap());
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-12));
        let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let w32 =
            favor_key_importance(&single(&q), &single(&k), &single(&p), 3, &s, stabiliser).unwrap();
        assert_close(&w32, &single(&w), 1e-6, "importance in single precision");
    }
}

#[test]
fn large_and_broken_numbers_do_no_harm() {
    let s = Segments::new([60, 70]).unwrap();
    let p = projection(30, 8).to_dtype(DType::F32).unwrap();
    let large: Vec<Tensor> = qkv(&s, 2, 8, DType::F32)
        .iter()
        .map(|t| (t * 30.0).unwrap())
        .collect();
    let f = |x: &[Tensor]| favor_attention(&x[0], &x[1], &x[2], &p, 2, &s, Stabiliser::PerSequence);
    for v in value_and_gradients(&f, &large) {
        assert!(numbers(&v).iter().all(|v| v.is_finite()));
    }
    for which in 0..3 {
        let mut x = qkv(&s, 2, 8, DType::F32);
        let mut broken: Vec<f32> = numbers(&x[which]).iter().map(|&v| v as f32).collect();
        broken[16 * 20 + 3] = f32::NAN;
        x[which] = Tensor::from_vec(broken, (130, 16), &Device::Cpu).unwrap();
        let all = value_and_gradients(&f, &x);
        assert!(numbers(&all[0]).iter().any(|v| v.is_nan()));
        for v in all {
            let other = numbers(&v.narrow(0, 60, 70).unwrap());
            assert!(other.iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let s = Segments::new([3]).unwrap();
    let x = Tensor::zeros((3, 8), DType::F32, &Device::Cpu).unwrap();
    let p = Tensor::zeros((5, 4), DType::F32, &Device::Cpu).unwrap();
    let call =
        |x: &Tensor, p: &Tensor, heads| favor_attention(x, x, x, p, heads, &s, Stabiliser::Batch);
    assert!(call(&x, &p, 2).is_ok());
    assert!(call(&x, &p, 1).is_err());
    assert!(call(&x, &p, 0).is_err());
    assert!(call(&x.narrow(0, 0, 2).unwrap(), &p, 2).is_err());
    assert!(
        call(
            &x,
            &Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap(),
            2
        )
        .is_err()
    );
    let none = Segments::new([]).unwrap();
    let empty = Tensor::zeros((0, 8), DType::F32, &Device::Cpu).unwrap();
    let y = favor_attention(&empty, &empty, &empty, &p, 2, &none, Stabiliser::Batch).unwrap();
    assert_eq!(y.dims(), [0, 8]);
}
