use super::*;
use crate::testing::{assert_same_on_threads, assert_twins, numbers, random};
use crate::{DType, Device, gradcheck};

type Fun = fn(&Tensor) -> Result<Tensor>;

const ALL: [(Fun, Fun); 4] = [
    (softmax, composed::softmax),
    (log_softmax, composed::log_softmax),
    (log_sum_exp, composed::log_sum_exp),
    (sum_rows, composed::sum_rows),
];

#[test]
fn gradients_are_right() {
    for dims in [&[3, 5][..], &[2, 3, 4], &[1, 1], &[2, 19]] {
        let x = random("x", -3.0, 3.0, dims, DType::F64);
        for (fused, twin) in ALL {
            gradcheck(|x| fused(&x[0]), std::slice::from_ref(&x), 1e-6, 1e-7).unwrap();
            gradcheck(|x| twin(&x[0]), std::slice::from_ref(&x), 1e-6, 1e-7).unwrap();
        }
    }
}

#[test]
fn fused_and_composed_agree() {
    for dims in [&[3, 5][..], &[2, 3, 300], &[7, 1], &[130, 401], &[5]] {
        let x = random("x", -9.0, 9.0, dims, DType::F64);
        for (fused, twin) in ALL {
            assert_twins(
                &|x| fused(&x[0]),
                &|x| twin(&x[0]),
                std::slice::from_ref(&x),
                (1e-4, 1e-11),
            );
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let x = random("x", -9.0, 9.0, &[131, 777], DType::F32);
    for (fused, _) in ALL {
        assert_same_on_threads(&|x| fused(&x[0]), std::slice::from_ref(&x));
    }
}

#[test]
fn extreme_rows() {
    let inf = f32::INFINITY;
    let x = Tensor::new(
        &[[-inf, -inf], [1e30, 0.0], [-1e30, -1e30], [-inf, 2.0]],
        &Device::Cpu,
    );
    let x = x.unwrap();
    assert_eq!(
        numbers(&log_sum_exp(&x).unwrap()),
        [
            f64::NEG_INFINITY,
            f64::from(1e30f32),
            f64::from(-1e30f32),
            2.0
        ]
    );
    let p = numbers(&softmax(&x).unwrap());
    assert_eq!(p[2..], [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
    let nan = Tensor::new(&[[f32::NAN, 0.0], [0.0, 0.0]], &Device::Cpu).unwrap();
    let l = numbers(&log_sum_exp(&nan).unwrap());
    assert!(l[0].is_nan() && (l[1] - 2f64.ln()).abs() < 1e-7);
}

#[test]
fn empty_and_scalar_inputs() {
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(numbers(&sum_rows(&none).unwrap()), [0.0; 3]);
    assert_eq!(softmax(&none).unwrap().dims(), [0, 3]);
    assert_eq!(log_sum_exp(&none).unwrap().dims(), [0]);
    let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
    assert!(sum_rows(&scalar).is_err());
    assert!(softmax(&scalar).is_err());
    assert!(softmax(&none.t().unwrap()).is_err());
}

#[test]
fn a_view_is_summed_like_its_copy() {
    let x = random("x", -1.0, 1.0, &[6, 4], DType::F64);
    let view = x.t().unwrap();
    let copy = view.contiguous().unwrap();
    assert_eq!(
        numbers(&sum_rows(&view).unwrap()),
        numbers(&sum_rows(&copy).unwrap())
    );
}
