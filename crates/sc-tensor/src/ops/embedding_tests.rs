use super::*;
use crate::gradcheck;
use crate::testing::{assert_same_on_threads, assert_twins, numbers, random};

fn ids(n: usize, v: u32) -> Tensor {
    let ids: Vec<u32> = (0..n as u32).map(|i| (i * i + 3) % v).collect();
    Tensor::from_vec(ids, n, &Device::Cpu).unwrap()
}

#[test]
fn gradients_are_right() {
    let w = random("w", -1.0, 1.0, &[4, 3], DType::F64);
    let ids = ids(6, 4).reshape((2, 3)).unwrap();
    assert_eq!(embedding(&w, &ids).unwrap().dims(), [2, 3, 3]);
    gradcheck(|w| embedding(&w[0], &ids), &[w], 1e-6, 1e-8).unwrap();
}

#[test]
fn fused_and_composed_agree() {
    for (v, d, n) in [(4, 3, 6), (100, 65, 1000), (5000, 8, 3001), (3, 1, 0)] {
        let w = random("w", -1.0, 1.0, &[v, d], DType::F64);
        let ids = ids(n, v as u32);
        assert_twins(
            &|w| embedding(&w[0], &ids),
            &|w| composed::embedding(&w[0], &ids),
            &[w],
            (1e-5, 1e-13),
        );
    }
}

#[test]
fn threads_do_not_matter() {
    let w = random("w", -1.0, 1.0, &[77, 64], DType::F32);
    let ids = ids(2000, 77);
    assert_same_on_threads(&|w| embedding(&w[0], &ids), &[w]);
}

#[test]
fn one_hot_has_one_per_row() {
    let hot = one_hot(&[2, 0], 3, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(numbers(&hot), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(
        one_hot(&[], 3, DType::F64, &Device::Cpu).unwrap().dims(),
        [0, 3]
    );
    let e = one_hot(&[0, 3], 3, DType::F32, &Device::Cpu).unwrap_err();
    assert!(matches!(
        e,
        Error::OutOfRange {
            index: 3,
            position: 1,
            len: 3,
            ..
        }
    ));
}

#[test]
fn ids_out_of_range_are_errors() {
    let w = random("w", -1.0, 1.0, &[4, 3], DType::F32);
    assert!(embedding_ids(&w, &[0, 4]).is_err());
    // candle would read this one as "nothing".
    assert!(embedding_ids(&w, &[u32::MAX]).is_err());
    assert!(embedding(&w, &Tensor::new(&[0i64], &Device::Cpu).unwrap()).is_err());
}
