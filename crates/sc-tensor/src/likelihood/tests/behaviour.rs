//! What a caller may rely on beyond the numbers.

use super::*;
use crate::likelihood::sample;

fn bits(case: &Case, threads: usize) -> (Vec<u64>, Vec<u64>) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let weights: Vec<f64> = (0..case.n).map(|i| 1.0 + i as f64 / 7.0).collect();
        let mut all = Vec::new();
        for weights in [&weights, &vec![0.5; case.n]] {
            let (ll, grads) = case.run::<f32>(true, weights);
            all.push((
                ll,
                grads.into_iter().flatten().flatten().collect::<Vec<f64>>(),
            ));
        }
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let grads: Vec<u64> = all.iter().flat_map(|a| bits(&a.1)).collect();
        (bits(&all[0].0), grads)
    })
}

#[test]
fn one_thread_or_many_give_the_same_bits() {
    let index: Arc<[u32]> = vec![1, 0, 1].into();
    for rows in [DispersionRows::Shared, DispersionRows::Index(index)] {
        let case = Case::new(Family::ZeroInflatedNegativeBinomial, 1, rows, 30, 333, 4);
        let one = bits(&case, 1);
        assert_eq!(one, bits(&case, 2));
        assert_eq!(one, bits(&case, 5));
    }
}

#[test]
fn backward_twice() {
    let case = Case::new(
        Family::ZeroInflatedNegativeBinomial,
        1,
        DispersionRows::Shared,
        1,
        20,
        8,
    );
    let vars = case.tensors::<f64>();
    let t: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let loss = case.log_prob(&t, true).unwrap().mean_all().unwrap();
    let (first, second) = (loss.backward().unwrap(), loss.backward().unwrap());
    for v in &vars {
        let numbers = |g: &candle_core::backprop::GradStore| {
            g.get(v)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        assert_eq!(numbers(&first), numbers(&second));
    }
}

#[test]
fn only_what_is_tracked_gets_a_gradient() {
    let case = Case::new(
        Family::ZeroInflatedNegativeBinomial,
        1,
        DispersionRows::Shared,
        1,
        20,
        8,
    );
    let vars = case.tensors::<f32>();
    for only in 0..4 {
        let t: Vec<Tensor> = (0..4)
            .map(|k| {
                if k == only {
                    vars[k].as_tensor().clone()
                } else {
                    vars[k].as_detached_tensor()
                }
            })
            .collect();
        let grads = case
            .log_prob(&t, true)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        for (k, v) in vars.iter().enumerate() {
            assert_eq!(grads.get(v).is_some(), k == only);
        }
    }
    let t: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
    assert!(!case.log_prob(&t, true).unwrap().track_op());
}

#[test]
fn views_and_empty_batches() {
    let case = Case::new(
        Family::NegativeBinomial,
        1,
        DispersionRows::Shared,
        1,
        20,
        8,
    );
    let mut t: Vec<Tensor> = case
        .tensors::<f64>()
        .iter()
        .map(Var::as_detached_tensor)
        .collect();
    let whole = case.log_prob(&t, true).unwrap().to_vec1::<f64>().unwrap();
    t[0] = t[0].t().unwrap().contiguous().unwrap().t().unwrap();
    t[1] = t[1].squeeze(0).unwrap();
    t[3] = t[3].unsqueeze(1).unwrap();
    assert_eq!(
        case.log_prob(&t, true).unwrap().to_vec1::<f64>().unwrap(),
        whole
    );

    let empty = Arc::new(Csr::zeros(0, 5));
    let mu = Tensor::zeros((0, 5), crate::DType::F32, &Device::Cpu).unwrap();
    let ll = log_prob(Family::Poisson, &empty, &Mean::Rate(&mu), None, None).unwrap();
    assert_eq!(ll.dims(), [0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = Arc::new(Csr::zeros(2, 3));
    let t = |dims: &[usize]| Tensor::zeros(dims, crate::DType::F32, &Device::Cpu).unwrap();
    let (mu, theta, wide) = (t(&[2, 3]), t(&[3]), t(&[2, 4]));
    let index = Tensor::zeros((1, 3), crate::DType::F32, &Device::Cpu).unwrap();
    let nb = Family::NegativeBinomial;
    let shared = Dispersion::shared(&theta);
    let bad_index = Dispersion::indexed(&index, vec![0, 1]);
    let short_index = Dispersion::indexed(&index, vec![0]);
    let double = mu.to_dtype(crate::DType::F64).unwrap();
    let odd = t(&[3, 3]);
    for (family, mean, dispersion, dropout) in [
        (nb, &mu, None, None),
        (nb, &wide, Some(&shared), None),
        (nb, &odd, Some(&shared), None),
        (nb, &double, Some(&shared), None),
        (nb, &mu, Some(&bad_index), None),
        (nb, &mu, Some(&short_index), None),
        (nb, &mu, Some(&shared), Some(&mu)),
        (Family::Poisson, &mu, Some(&shared), None),
        (
            Family::ZeroInflatedNegativeBinomial,
            &mu,
            Some(&shared),
            None,
        ),
        (
            Family::ZeroInflatedNegativeBinomial,
            &mu,
            Some(&shared),
            Some(&wide),
        ),
    ] {
        let result = log_prob(family, &x, &Mean::Rate(mean), dispersion, dropout);
        assert!(
            result.is_err(),
            "{family:?} {mean:?} {dispersion:?} {dropout:?}"
        );
    }
}

#[test]
fn nan_and_negative_counts_are_not_hidden() {
    let case = Case::new(
        Family::ZeroInflatedNegativeBinomial,
        1,
        DispersionRows::Shared,
        1,
        20,
        8,
    );
    for k in 0..4 {
        let mut t: Vec<Tensor> = case
            .tensors::<f32>()
            .iter()
            .map(Var::as_detached_tensor)
            .collect();
        t[k] = (&t[k] * f64::NAN).unwrap();
        let ll = case.log_prob(&t, true).unwrap().to_vec1::<f32>().unwrap();
        assert!(ll.iter().all(|v| v.is_nan()), "{k}: {ll:?}");
    }
    let mut case = Case::new(
        Family::NegativeBinomial,
        1,
        DispersionRows::Shared,
        1,
        20,
        8,
    );
    case.x = Arc::new(case.x.map(|v| -v));
    let (ll, _) = case.run::<f32>(true, &[1.0; 3]);
    assert!(!ll[0].is_nan() && ll[1].is_nan() && ll[2].is_nan());
}

#[test]
fn samples_have_the_right_moments() {
    use rand::SeedableRng;
    let (n, mu, theta, logit) = (40_000, 6.0f64, 1.5f64, -1.0f64);
    let pi = 1.0 / (1.0 + (-logit).exp());
    let tensor = |v: f64| Tensor::full(v as f32, (n / 10, 10), &Device::Cpu).unwrap();
    for (family, mean, variance) in [
        (Family::Poisson, mu, mu),
        (Family::NegativeBinomial, mu, mu + mu * mu / theta),
        (
            Family::ZeroInflatedNegativeBinomial,
            (1.0 - pi) * mu,
            (1.0 - pi) * mu * (mu + theta + pi * mu * theta) / theta,
        ),
        (Family::Normal, mu, theta * theta),
    ] {
        let draw = |seed| {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let (theta, p) = (tensor(theta), tensor(logit));
            let x = sample(family, &tensor(mu), Some(&theta), Some(&p), &mut rng).unwrap();
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let x = draw(1);
        assert_eq!(x, draw(1));
        assert_ne!(x, draw(2));
        let m = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let v = x.iter().map(|&v| (f64::from(v) - m).powi(2)).sum::<f64>() / n as f64;
        assert!(
            (m - mean).abs() < 5.0 * (variance / n as f64).sqrt(),
            "{family:?} {m} {mean}"
        );
        assert!(
            (v / variance - 1.0).abs() < 0.1,
            "{family:?} {v} {variance}"
        );
    }
}

/// Counts drawn by inversion (small means) and as Poissons of gammas (large ones) have the probabilities of the distribution.
#[test]
fn samples_have_the_right_frequencies() {
    use rand::SeedableRng;
    use statrs::distribution::{Discrete, NegativeBinomial};
    const DRAWS: usize = 200_000;
    for (mu, theta, pi) in [
        (0.05, 0.3, 0.0),
        (0.8, 0.1, 0.4),
        (3.0, 2.5, 0.2),
        (11.9, 50.0, 0.0),
        (12.1, 50.0, 0.0),
    ] {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut counts = vec![0usize; 400];
        for _ in 0..DRAWS {
            let family = Family::ZeroInflatedNegativeBinomial;
            let x = crate::likelihood::sample_one(family, mu, theta, pi, &mut rng);
            counts[(x as usize).min(399)] += 1;
        }
        let exact = NegativeBinomial::new(theta, theta / (theta + mu)).unwrap();
        for (k, &seen) in counts.iter().take(60).enumerate() {
            let mut p = (1.0 - pi) * exact.pmf(k as u64);
            if k == 0 {
                p += pi;
            }
            let expected = p * DRAWS as f64;
            let sd = (expected * (1.0 - p)).sqrt();
            assert!(
                (seen as f64 - expected).abs() < 5.0 * sd + 1.0,
                "mu {mu}, theta {theta}, pi {pi}: {seen} draws of {k}, expected {expected}"
            );
        }
    }
}
