use super::*;
use crate::testing::{assert_same_on_threads, assert_twins, numbers, random};
use crate::{DType, Device, Rng, Var, gradcheck};

type Fun = fn(&Tensor) -> Result<Tensor>;

const ANY: [(Fun, Fun); 5] = [
    (gelu, composed::gelu),
    (|x| leaky_relu(x, 0.01), |x| composed::leaky_relu(x, 0.01)),
    (relu, composed::relu),
    (softplus, composed::softplus),
    (sigmoid, composed::sigmoid),
];
const POSITIVE: [(Fun, Fun); 3] = [
    (log1p, composed::log1p),
    (lgamma, composed::lgamma),
    (digamma, composed::digamma),
];

fn cases() -> Vec<(Fun, Fun, f64)> {
    let any = ANY.iter().map(|&(f, t)| (f, t, -6.0));
    any.chain(POSITIVE.iter().map(|&(f, t)| (f, t, 0.3)))
        .collect()
}

#[test]
fn gradients_are_right() {
    for (fused, twin, lo) in cases() {
        let x = random("x", lo, 6.0, &[3, 11], DType::F64);
        gradcheck(|x| fused(&x[0]), std::slice::from_ref(&x), 1e-6, 1e-6).unwrap();
        gradcheck(|x| twin(&x[0]), &[x], 1e-6, 1e-6).unwrap();
    }
}

#[test]
fn fused_and_composed_agree() {
    for (fused, twin, lo) in cases() {
        for dims in [&[5][..], &[3, 7], &[200, 101], &[0, 3]] {
            let x = random("x", lo, 40.0, dims, DType::F64);
            assert_twins(&|x| fused(&x[0]), &|x| twin(&x[0]), &[x], (3e-5, 1e-12));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    for (fused, _, lo) in cases() {
        let x = random("x", lo, 6.0, &[40_001], DType::F32);
        assert_same_on_threads(&|x| fused(&x[0]), &[x]);
    }
    let x = random("x", -1.0, 1.0, &[40_001], DType::F32);
    let drop = |x: &[Tensor]| relu_dropout(&x[0], 0.3, &mut Rng::new(1).stream("d"));
    assert_same_on_threads(&drop, &[x]);
}

#[test]
fn relu_has_no_slope_at_zero() {
    let x = Var::new(&[0f32, -0.0, 1.0, -1.0, f32::NAN], &Device::Cpu).unwrap();
    for f in [relu, composed::relu] {
        let y = f(&x).unwrap();
        assert!(numbers(&y)[4].is_nan());
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(numbers(grads.get(&x).unwrap())[..4], [0.0, 0.0, 1.0, 0.0]);
    }
}

#[test]
fn extreme_arguments_stay_finite() {
    let x = Tensor::new(&[-1e4f32, -80.0, 0.0, 100.0, 1e4], &Device::Cpu).unwrap();
    let y = numbers(&softplus(&x).unwrap());
    assert_eq!([y[0], y[3], y[4]], [0.0, 100.0, 1e4]);
    assert!((y[1] / (-80f64).exp() - 1.0).abs() < 1e-6 && (y[2] - 2f64.ln()).abs() < 1e-7);
    assert_eq!(numbers(&sigmoid(&x).unwrap())[4], 1.0);
    let tiny = Tensor::new(&[1e-12f64], &Device::Cpu).unwrap();
    for f in [log1p, composed::log1p] {
        assert!((numbers(&f(&tiny).unwrap())[0] / 1e-12 - 1.0).abs() < 1e-11);
    }
}

#[test]
fn published_values_of_the_gamma_family() {
    let x = Tensor::new(&[0.5f64, 1.0, 10.0, 100.0], &Device::Cpu).unwrap();
    // DLMF 5.4: log Gamma(1/2) = log(pi) / 2; psi(1/2) = -gamma - 2 log 2; psi(1) = -gamma.
    let euler = 0.577_215_664_901_532_9;
    let lg = [
        std::f64::consts::PI.ln() / 2.0,
        0.0,
        362_880f64.ln(),
        359.134_205_369_575_4,
    ];
    let h9: f64 = (1..10).map(|i| 1.0 / f64::from(i)).sum();
    let h99: f64 = (1..100).map(|i| 1.0 / f64::from(i)).sum();
    let psi = [-euler - 2.0 * 2f64.ln(), -euler, h9 - euler, h99 - euler];
    for (f, expected) in [
        (lgamma as Fun, lg),
        (composed::lgamma, lg),
        (digamma, psi),
        (composed::digamma, psi),
    ] {
        for (got, want) in numbers(&f(&x).unwrap()).iter().zip(expected) {
            assert!(
                (got - want).abs() < 2e-13 * want.abs().max(1.0),
                "{got} {want}"
            );
        }
    }
}

#[test]
fn dropout_keeps_the_mean_and_the_mask() {
    let n = 100_000;
    let x = Var::ones(n, DType::F64, &Device::Cpu).unwrap();
    let y = dropout(&x, 0.25, &mut Rng::new(2).stream("d")).unwrap();
    let v = numbers(&y);
    assert!(v.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-15));
    assert!((v.iter().sum::<f64>() / n as f64 - 1.0).abs() < 0.01);
    // The gradient passes where the value did.
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(grads.get(&x).unwrap()), v);
    // The same stream gives the same mask, the next draw another.
    let mut stream = Rng::new(2).stream("d");
    assert_eq!(numbers(&dropout(&x, 0.25, &mut stream).unwrap()), v);
    assert_ne!(numbers(&dropout(&x, 0.25, &mut stream).unwrap()), v);
}

#[test]
fn relu_dropout_is_relu_then_dropout() {
    let x = random("x", -1.0, 1.0, &[31, 7], DType::F64);
    let stream = || Rng::new(2).stream("d");
    assert_twins(
        &|x| relu_dropout(&x[0], 0.4, &mut stream()),
        &|x| dropout(&relu(&x[0])?, 0.4, &mut stream()),
        std::slice::from_ref(&x),
        (0.0, 0.0),
    );
    assert_eq!(
        numbers(&relu_dropout(&x, 0.0, &mut stream()).unwrap()),
        numbers(&relu(&x).unwrap())
    );
    gradcheck(
        |x| relu_dropout(&x[0], 0.4, &mut stream()),
        std::slice::from_ref(&x),
        1e-6,
        1e-8,
    )
    .unwrap();
    for p in [-0.1, 1.0, f64::NAN] {
        assert!(dropout(&x, p, &mut stream()).is_err());
        assert!(relu_dropout(&x, p, &mut stream()).is_err());
    }
}

#[test]
fn gelu_by_numbers() {
    // torch.nn.functional.gelu
    let x = [-3.0f64, -1.0, -0.2, 0.0, 0.5, 2.0, 30.0];
    let expected = [
        -0.004_049_694_094_890_283_5,
        -0.158_655_253_931_457_05,
        -0.084_148_058_112_179_4,
        0.0,
        0.345_731_230_637_006_56,
        1.954_499_736_103_641_6,
        30.0,
    ];
    let y = gelu(&Tensor::new(&x, &Device::Cpu).unwrap()).unwrap();
    for (y, e) in numbers(&y).iter().zip(expected) {
        assert!((y - e).abs() < 1e-15, "{y} is not {e}");
    }
}

#[test]
fn leaky_relu_leaks() {
    let x = Var::new(&[-2f32, 0.0, 3.0, f32::NAN], &Device::Cpu).unwrap();
    let y = leaky_relu(&x, 0.1).unwrap();
    assert_eq!(numbers(&y)[..3], [f64::from(-0.2f32), 0.0, 3.0]);
    assert!(numbers(&y)[3].is_nan());
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(
        numbers(grads.get(&x).unwrap())[..3],
        [f64::from(0.1f32), f64::from(0.1f32), 1.0]
    );
    assert!(leaky_relu(&x, f64::NAN).is_err());
}
