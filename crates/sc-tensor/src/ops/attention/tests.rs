use super::*;
use crate::gradcheck;
use crate::testing::{
    assert_close, assert_same_on_threads, assert_twins, numbers, random, value_and_gradients,
};
use crate::{DType, Device, Rng};

/// Sequences that fit no tile, with fewer keys than rows, without keys, without rows.
fn ragged() -> Segments {
    Segments::with_keys([(5, 5), (1, 1), (0, 0), (61, 40), (9, 0), (150, 149)]).unwrap()
}

fn qkv(segments: &Segments, heads: usize, d: usize, dtype: DType) -> Tensor {
    random("qkv", -2.0, 2.0, &[segments.rows(), 3 * heads * d], dtype)
}

#[test]
fn the_twin_agrees() {
    for (heads, d) in [(1, 1), (2, 7), (3, 8), (2, 64), (1, 100)] {
        for keys in [Keys::Only, Keys::AndSelf] {
            let s = ragged();
            assert_twins(
                &|x| attention(&x[0], heads, &s, keys, None),
                &|x| composed::attention(&x[0], heads, &s, keys, None),
                &[qkv(&s, heads, d, DType::F64)],
                (2e-5, 1e-12),
            );
        }
    }
}

#[test]
fn the_twin_drops_the_same_weights() {
    let stream = Rng::new(3).stream("dropout");
    let s = ragged();
    for keys in [Keys::Only, Keys::AndSelf] {
        let dropout = Some((0.3, &stream));
        assert_twins(
            &|x| attention(&x[0], 2, &s, keys, dropout),
            &|x| composed::attention(&x[0], 2, &s, keys, dropout),
            &[qkv(&s, 2, 12, DType::F64)],
            (2e-5, 1e-12),
        );
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let stream = Rng::new(3).stream("dropout");
    let s = Segments::with_keys([(4, 4), (5, 3), (2, 0), (1, 1)]).unwrap();
    for keys in [Keys::Only, Keys::AndSelf] {
        for dropout in [None, Some((0.4, &stream))] {
            let x = qkv(&s, 2, 3, DType::F64);
            gradcheck(|x| attention(&x[0], 2, &s, keys, dropout), &[x], 1e-6, 1e-8).unwrap();
        }
    }
}

/// Attention by its definition, in `f64`, number by number.
fn oracle(qkv: &Tensor, heads: usize, segments: &Segments, keys: Keys) -> Vec<f64> {
    let (width, x) = (qkv.dim(1).unwrap() / 3, numbers(qkv));
    let d = width / heads;
    let at =
        |row: usize, part: usize, h: usize, j: usize| x[row * 3 * width + part * width + h * d + j];
    let mut out = vec![0.0; segments.rows() * width];
    for s in segments.iter() {
        for (i, h) in (0..s.rows).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let mut seen: Vec<usize> = (0..s.keys).collect();
            if keys == Keys::AndSelf && i >= s.keys {
                seen.push(i);
            }
            let score = |k: usize| -> f64 {
                let products = (0..d).map(|j| at(s.start + i, 0, h, j) * at(s.start + k, 1, h, j));
                products.sum::<f64>() / (d as f64).sqrt()
            };
            let largest = seen
                .iter()
                .map(|&k| score(k))
                .fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = seen.iter().map(|&k| (score(k) - largest).exp()).sum();
            for (k, j) in seen.iter().flat_map(|&k| (0..d).map(move |j| (k, j))) {
                let weight = (score(k) - largest).exp() / total;
                out[(s.start + i) * width + h * d + j] += weight * at(s.start + k, 2, h, j);
            }
        }
    }
    out
}

#[test]
fn single_precision_is_near_the_definition() {
    let s = ragged();
    for keys in [Keys::Only, Keys::AndSelf] {
        let x = qkv(&s, 2, 16, DType::F32);
        let y = attention(&x, 2, &s, keys, None).unwrap();
        let expected = oracle(&x, 2, &s, keys);
        for (y, e) in numbers(&y).iter().zip(&expected) {
            assert!((y - e).abs() < 2e-6, "{y} is not {e}");
        }
    }
}

#[test]
fn wide_heads_and_long_sequences() {
    let s = Segments::with_keys([(300, 300), (290, 257)]).unwrap();
    let x = random("wide", -1.0, 1.0, &[s.rows(), 3 * 256], DType::F64);
    let y = attention(&x, 1, &s, Keys::AndSelf, None).unwrap();
    for (y, e) in numbers(&y).iter().zip(oracle(&x, 1, &s, Keys::AndSelf)) {
        assert!((y - e).abs() < 1e-13, "{y} is not {e}");
    }
}

/// So many keys that they are split in parts on the way back.
#[test]
fn long_sequences() {
    let s = Segments::with_keys([(970, 961), (3, 2), (1500, 1450)]).unwrap();
    let x = qkv(&s, 2, 5, DType::F64);
    assert_twins(
        &|x| attention(&x[0], 2, &s, Keys::AndSelf, None),
        &|x| composed::attention(&x[0], 2, &s, Keys::AndSelf, None),
        std::slice::from_ref(&x),
        (5e-5, 1e-12),
    );
    let x = x.to_dtype(DType::F32).unwrap();
    assert_same_on_threads(&|x| attention(&x[0], 2, &s, Keys::AndSelf, None), &[x]);
}

#[test]
fn threads_change_no_bit() {
    let s = ragged();
    let stream = Rng::new(1).stream("dropout");
    for dtype in [DType::F32, DType::F64] {
        assert_same_on_threads(
            &|x| attention(&x[0], 3, &s, Keys::AndSelf, Some((0.1, &stream))),
            &[qkv(&s, 3, 20, dtype)],
        );
    }
}

/// The output and the gradient of the rows of each sequence, as bits.
fn by_sequence(x: &Tensor, s: &Segments) -> Vec<Vec<u64>> {
    let all = value_and_gradients(
        &|x| {
            attention(&x[0], 2, s, Keys::AndSelf, None)?
                .sqr()
                .map_err(Into::into)
        },
        std::slice::from_ref(x),
    );
    let bits = |t: &Tensor, s: Segment| -> Vec<u64> {
        let rows = t.narrow(0, s.start, s.rows).unwrap();
        numbers(&rows).iter().map(|v| v.to_bits()).collect()
    };
    // The value only: gradients of the test's weighted sum depend on the position.
    s.iter().map(|s| bits(&all[0], s)).collect()
}

#[test]
fn the_other_sequences_change_no_bit() {
    let lengths = [(5, 5), (61, 40), (9, 0), (150, 149), (48, 48)];
    let s = Segments::with_keys(lengths).unwrap();
    for dtype in [DType::F32, DType::F64] {
        let x = qkv(&s, 2, 24, dtype);
        let together = by_sequence(&x, &s);
        let rows: Vec<Tensor> = s
            .iter()
            .map(|s| x.narrow(0, s.start, s.rows).unwrap())
            .collect();
        for (k, &length) in lengths.iter().enumerate() {
            let alone = by_sequence(&rows[k], &Segments::with_keys([length]).unwrap());
            assert!(alone[0] == together[k], "sequence {k} alone");
        }
        let reversed: Vec<Tensor> = rows.iter().rev().cloned().collect();
        let other = Segments::with_keys(lengths.into_iter().rev()).unwrap();
        let turned = by_sequence(&Tensor::cat(&reversed, 0).unwrap(), &other);
        assert!(turned.iter().rev().eq(together.iter()), "in another order");
    }
}

#[test]
fn gradients_do_not_depend_on_the_other_sequences() {
    let lengths = [(61, 40), (150, 149)];
    let s = Segments::with_keys(lengths).unwrap();
    let x = qkv(&s, 2, 24, DType::F32);
    let gradient = |x: &Tensor, s: &Segments| {
        let x = crate::Var::from_tensor(x).unwrap();
        let y = attention(x.as_tensor(), 2, s, Keys::AndSelf, None).unwrap();
        let grads = crate::backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
        grads.get(&x).unwrap().clone()
    };
    let together = gradient(&x, &s);
    for (k, s) in s.iter().enumerate() {
        let alone = x.narrow(0, s.start, s.rows).unwrap();
        let alone = gradient(&alone, &Segments::with_keys([lengths[k]]).unwrap());
        let part = together.narrow(0, s.start, s.rows).unwrap();
        assert!(numbers(&alone) == numbers(&part));
    }
}

#[test]
fn about_as_many_weights_are_dropped_as_asked_for() {
    let drop = Dropout::new(0.2, &Rng::new(0).stream("d")).unwrap();
    let mut dropped = 0;
    for row in 0..500 {
        let key = drop.row(1, 2, row);
        dropped += (0..801)
            .filter(|&c| drop.column::<f64>(key, c) == 0.0)
            .count();
    }
    let share = f64::from(dropped as u32) / (500.0 * 801.0);
    assert!((share - 0.2).abs() < 0.003, "{share}");
    assert!(Dropout::new(0.0, &Rng::new(0).stream("d")).is_none());
}

#[test]
fn large_scores_overflow_nowhere() {
    let s = Segments::new([40]).unwrap();
    let x = (qkv(&s, 1, 8, DType::F32) * 1e3).unwrap();
    for v in value_and_gradients(&|x| attention(&x[0], 1, &s, Keys::Only, None), &[x]) {
        assert!(numbers(&v).iter().all(|v| v.is_finite()));
    }
}

#[test]
fn a_nan_stays_in_its_sequence() {
    let s = Segments::new([60, 70]).unwrap();
    let mut x = numbers(&qkv(&s, 2, 8, DType::F64));
    x[3 * 16 * 10 + 20] = f64::NAN;
    let x = Tensor::from_vec(x, (130, 48), &Device::Cpu).unwrap();
    let y = attention(&x, 2, &s, Keys::Only, None).unwrap();
    let rows = |from, n| numbers(&y.narrow(0, from, n).unwrap());
    assert!(rows(0, 60).iter().any(|v| v.is_nan()));
    assert!(rows(60, 70).iter().all(|v| v.is_finite()));
    let all = value_and_gradients(&|x| attention(&x[0], 2, &s, Keys::Only, None), &[x]);
    assert!(
        numbers(&all[1].narrow(0, 60, 70).unwrap())
            .iter()
            .all(|v| v.is_finite())
    );
}

#[test]
fn nothing_gives_nothing() {
    for lengths in [vec![], vec![(0, 0), (0, 0)]] {
        let s = Segments::with_keys(lengths).unwrap();
        let x = Tensor::zeros((0, 24), DType::F32, &Device::Cpu).unwrap();
        let y = attention(&x, 2, &s, Keys::AndSelf, None).unwrap();
        assert_eq!(y.dims(), [0, 8]);
    }
    // Nobody to attend to.
    let s = Segments::with_keys([(3, 0)]).unwrap();
    let x = qkv(&s, 2, 4, DType::F32);
    let y = value_and_gradients(&|x| attention(&x[0], 2, &s, Keys::Only, None), &[x]);
    assert!(y.iter().all(|y| numbers(y).iter().all(|&v| v == 0.0)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let s = Segments::new([3]).unwrap();
    let x = Tensor::zeros((3, 24), DType::F32, &Device::Cpu).unwrap();
    assert!(attention(&x, 0, &s, Keys::Only, None).is_err());
    assert!(attention(&x, 3, &s, Keys::Only, None).is_err());
    assert!(attention(&x, 2, &Segments::new([4]).unwrap(), Keys::Only, None).is_err());
    let stream = Rng::new(1).stream("d");
    assert!(attention(&x, 2, &s, Keys::Only, Some((1.0, &stream))).is_err());
    assert!(Segments::with_keys([(2, 3)]).is_err());
    let half = x.to_dtype(DType::F16).unwrap();
    let full = attention(&x, 2, &s, Keys::Only, None).unwrap();
    if let Ok(y) = attention(&half, 2, &s, Keys::Only, None) {
        assert_close(
            &y.to_dtype(DType::F32).unwrap(),
            &full,
            1e-2,
            "half precision",
        );
    }
}
