use super::*;
use crate::{Init, build_params};
use candle_core::{DType, Device};
use sc_tensor::rng::Rng;

/// Minimises `sum(c * x^2)` for a few steps and returns x.
fn run(kind: OptimizerKind, steps: usize, max_norm: Option<f64>) -> Vec<f64> {
    let rng = Rng::new(0);
    let (p, params) = build_params::<_, Error>(&Device::Cpu, DType::F64, &rng, |b| {
        b.param("x", 3, Init::Const(1.0))
    })
    .unwrap();
    let c = Tensor::new(&[1.0f64, 0.1, 10.0], &Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(kind, &params);
    for _ in 0..steps {
        let loss = (p.var().as_tensor().sqr().unwrap() * &c)
            .unwrap()
            .sum_all()
            .unwrap();
        let grads = loss.backward().unwrap();
        optimizer.step(&params, &grads, 0.1, max_norm).unwrap();
    }
    p.value().to_vec1().unwrap()
}

fn close(found: &[f64], expected: &[f64]) {
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f - e).abs() < 1e-12 * (1.0 + e.abs()),
            "{found:?} != {expected:?}"
        );
    }
}

/// The textbook recurrences, written plainly.
fn by_hand(kind: OptimizerKind, steps: i32) -> Vec<f64> {
    [1.0, 0.1, 10.0]
        .map(|c: f64| {
            let (mut x, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
            for t in 1..=steps {
                let g = 2.0 * c * x;
                match kind {
                    OptimizerKind::Adam {
                        betas: (b1, b2),
                        eps,
                        weight_decay,
                    } => {
                        let g = g + weight_decay * x;
                        m = b1 * m + (1.0 - b1) * g;
                        v = b2 * v + (1.0 - b2) * g * g;
                        x -= 0.1 * (m / (1.0 - b1.powi(t)))
                            / ((v / (1.0 - b2.powi(t))).sqrt() + eps);
                    }
                    OptimizerKind::AdamW {
                        betas: (b1, b2),
                        eps,
                        weight_decay,
                    } => {
                        x -= 0.1 * weight_decay * x;
                        m = b1 * m + (1.0 - b1) * g;
                        v = b2 * v + (1.0 - b2) * g * g;
                        x -= 0.1 * (m / (1.0 - b1.powi(t)))
                            / ((v / (1.0 - b2.powi(t))).sqrt() + eps);
                    }
                    OptimizerKind::RmsProp {
                        alpha,
                        eps,
                        momentum,
                        weight_decay,
                    } => {
                        let g = g + weight_decay * x;
                        v = alpha * v + (1.0 - alpha) * g * g;
                        m = momentum * m + g / (v.sqrt() + eps);
                        x -= 0.1 * m;
                    }
                    OptimizerKind::Sgd {
                        momentum,
                        nesterov,
                        weight_decay,
                    } => {
                        let g = g + weight_decay * x;
                        m = momentum * m + g;
                        x -= 0.1 * if nesterov { g + momentum * m } else { m };
                    }
                }
            }
            x
        })
        .to_vec()
}

#[test]
fn each_optimiser_follows_its_recurrence() {
    let kinds = [
        OptimizerKind::default(),
        OptimizerKind::AdamW {
            betas: (0.9, 0.99),
            eps: 1e-8,
            weight_decay: 0.1,
        },
        OptimizerKind::RmsProp {
            alpha: 0.9,
            eps: 1e-8,
            momentum: 0.5,
            weight_decay: 0.01,
        },
        OptimizerKind::RmsProp {
            alpha: 0.9,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        },
        OptimizerKind::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.1,
        },
        OptimizerKind::Sgd {
            momentum: 0.5,
            nesterov: true,
            weight_decay: 0.0,
        },
    ];
    for kind in kinds {
        close(&run(kind, 5, None), &by_hand(kind, 5));
    }
}

#[test]
fn clipping_bounds_the_joint_norm() {
    let sgd = OptimizerKind::Sgd {
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };
    let x = run(sgd, 1, Some(1.0));
    let moved: f64 = x.iter().map(|x| (1.0 - x).powi(2)).sum::<f64>().sqrt();
    assert!((moved - 0.1).abs() < 1e-6, "{moved}");
}

#[test]
fn state_survives_saving_and_masks_hold() {
    let rng = Rng::new(0);
    let build = || {
        build_params::<_, Error>(&Device::Cpu, DType::F32, &rng, |b| {
            b.param("x", 4, Init::Normal(1.0))
        })
        .unwrap()
    };
    let step = |p: &Param, params: &Params, o: &mut Optimizer| {
        let grads = p
            .var()
            .as_tensor()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        o.step(params, &grads, 0.01, None).unwrap();
    };
    let (a, a_params) = build();
    let mut first = Optimizer::new(OptimizerKind::default(), &a_params);
    step(&a, &a_params, &mut first);
    let state = first.state(&a_params).unwrap().into_iter().collect();

    let (b, b_params) = build();
    b.import(a.value()).unwrap();
    let mut second = Optimizer::new(OptimizerKind::default(), &b_params);
    second.load_state(&b_params, &state).unwrap();
    step(&a, &a_params, &mut first);
    step(&b, &b_params, &mut second);
    assert_eq!(
        a.value().to_vec1::<f32>().unwrap(),
        b.value().to_vec1::<f32>().unwrap()
    );

    let before = b.value().to_vec1::<f32>().unwrap();
    let mut masked = Optimizer::new(
        OptimizerKind::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        },
        &b_params,
    );
    masked
        .set_mask(
            &b_params,
            "x",
            Tensor::new(&[0.0f32, 1.0, 0.0, 1.0], &Device::Cpu).unwrap(),
        )
        .unwrap();
    step(&b, &b_params, &mut masked);
    let after = b.value().to_vec1::<f32>().unwrap();
    assert_eq!(
        before
            .iter()
            .zip(&after)
            .map(|(x, y)| x != y)
            .collect::<Vec<_>>(),
        [false, true, false, true]
    );
    assert!(
        masked
            .set_mask(&b_params, "y", Tensor::new(0f32, &Device::Cpu).unwrap())
            .is_err()
    );
}

#[test]
fn what_a_mask_freezes_does_not_move() {
    let rng = Rng::new(0);
    let adam = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 0.01,
        weight_decay: 0.1,
    };
    for (decay_frozen, moves) in [(false, false), (true, true)] {
        let (w, params) = build_params::<_, Error>(&Device::Cpu, DType::F32, &rng, |b| {
            b.param("w", (3, 4), Init::Const(1.0))
        })
        .unwrap();
        w.train_only(1, &[1..2, 3..4]).unwrap();
        let mut optimizer = Optimizer::new(adam, &params).decay_frozen(decay_frozen);
        for (name, mask) in params.masks() {
            optimizer.set_mask(&params, &name, mask).unwrap();
        }
        for _ in 0..3 {
            let loss = w.var().as_tensor().sqr().unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            optimizer.step(&params, &grads, 0.1, None).unwrap();
        }
        for row in w.value().to_vec2::<f32>().unwrap() {
            assert_eq!([row[0] != 1.0, row[2] != 1.0], [moves; 2]);
            assert!(row[1] < 0.9 && row[3] < 0.9);
        }
    }
}
