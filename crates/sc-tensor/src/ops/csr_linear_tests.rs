use super::*;
use crate::testing::{
    assert_close, assert_same_on_threads, assert_twins, counts, numbers, random,
    value_and_gradients,
};
use crate::{DType, Var, gradcheck};

fn weights(i: usize, o: usize, n: usize, extra: usize) -> Vec<Tensor> {
    vec![
        random("w", -1.0, 1.0, &[i, o], DType::F64),
        random("b", -1.0, 1.0, &[o], DType::F64),
        random("extra", -1.0, 1.0, &[n, extra], DType::F64),
    ]
}

#[test]
fn gradients_are_right() {
    let x = SparseInput::log1p(counts(4, 6, 0.5));
    let all = weights(8, 3, 4, 2);
    gradcheck(
        |a| csr_linear(&x, &a[0], Some(&a[1]), Some(&a[2])),
        &all,
        1e-6,
        1e-8,
    )
    .unwrap();
    gradcheck(
        |a| csr_linear(&x, &a[0], None, Some(&a[1])),
        &[all[0].clone(), all[2].clone()],
        1e-6,
        1e-8,
    )
    .unwrap();
    // Rows of the weight that take no part have a gradient of zero.
    gradcheck(
        |a| csr_linear(&x, &a[0], Some(&a[1]), None),
        &all[..2],
        1e-6,
        1e-8,
    )
    .unwrap();
    gradcheck(|a| csr_linear(&x, &a[0], None, None), &all[..1], 1e-6, 1e-8).unwrap();
}

#[test]
fn fused_and_composed_agree() {
    for (n, g, o, density) in [
        (3, 5, 4, 0.5),
        (2, 1, 1, 1.0),
        (37, 1031, 33, 0.2),
        (9, 513, 128, 0.0),
    ] {
        for x in [
            SparseInput::counts(counts(n, g, density)),
            SparseInput::log1p(counts(n, g, density)),
        ] {
            let all = weights(g + 3, o, n, 3);
            let tol = (2e-4, 1e-11);
            assert_twins(
                &|a| csr_linear(&x, &a[0], Some(&a[1]), Some(&a[2])),
                &|a| composed::csr_linear(&x, &a[0], Some(&a[1]), Some(&a[2])),
                &all,
                tol,
            );
            assert_twins(
                &|a| csr_linear(&x, &a[0], None, None),
                &|a| composed::csr_linear(&x, &a[0], None, None),
                &all[..1],
                tol,
            );
        }
    }
}

#[test]
fn it_is_the_dense_layer() {
    let x = SparseInput::log1p(counts(10, 40, 0.3));
    let all = weights(40, 6, 10, 0);
    let sparse = csr_linear(&x, &all[0], Some(&all[1]), None).unwrap();
    let dense = x.to_dense(DType::F64, &crate::Device::Cpu).unwrap();
    let dense = super::super::linear(&dense, &all[0].t().unwrap(), Some(&all[1])).unwrap();
    assert_close(&sparse, &dense, 1e-13, "sparse and dense");
    // The second row is empty: only the bias is left.
    assert_eq!(numbers(&sparse.get(1).unwrap()), numbers(&all[1]));
}

#[test]
fn threads_do_not_matter() {
    let x = SparseInput::log1p(counts(67, 1500, 0.2));
    let all: Vec<Tensor> = weights(1502, 50, 67, 2)
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    assert_same_on_threads(&|a| csr_linear(&x, &a[0], Some(&a[1]), Some(&a[2])), &all);
}

#[test]
fn only_wanted_gradients_come_back() {
    let x = SparseInput::counts(counts(4, 6, 0.5));
    let all = weights(6, 3, 4, 0);
    let bias = Var::from_tensor(&all[1]).unwrap();
    let y = csr_linear(&x, &all[0], Some(&bias), None).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get_ids().count(), 1);
    assert_eq!(numbers(grads.get(&bias).unwrap()), [4.0; 3]);
}

#[test]
fn empty_minibatches_and_wrong_shapes() {
    let none = SparseInput::counts(std::sync::Arc::new(sc_data::Csr::zeros(0, 6)));
    let all = weights(6, 3, 0, 0);
    let all = value_and_gradients(&|a| csr_linear(&none, &a[0], Some(&a[1]), None), &all[..2]);
    assert_eq!(all[0].dims(), [0, 3]);
    assert_eq!(
        (numbers(&all[1]), numbers(&all[2])),
        (vec![0.0; 18], vec![0.0; 3])
    );
    let x = SparseInput::counts(counts(4, 6, 0.5));
    let narrow = random("w", 0.0, 1.0, &[5, 3], DType::F32);
    let wide = random("w", 0.0, 1.0, &[8, 3], DType::F32);
    let four = random("b", 0.0, 1.0, &[4], DType::F32);
    let extra = random("e", 0.0, 1.0, &[4, 1], DType::F32);
    assert!(csr_linear(&x, &narrow, None, None).is_err());
    assert!(csr_linear(&x, &wide, Some(&four), None).is_err());
    assert!(csr_linear(&x, &wide, None, Some(&extra)).is_err());
    assert!(csr_linear(&x, &four, None, None).is_err());
}
