use proptest::prelude::*;

use super::*;

/// `Random` gives what the original's draws give: all bins a value may have, equally often; `Expected` is their mean.
#[test]
fn ties_are_spread_evenly() {
    let values = [1.0f32; 7];
    let of = |ties| Binner::new(Binning { n_bins: 11, ties }).unwrap();
    assert_eq!(of(Ties::Lower).bin(&[], &values), [1.0; 7]);
    assert_eq!(of(Ties::Upper).bin(&[], &values), [10.0; 7]);
    assert_eq!(of(Ties::Expected).bin(&[], &values), [5.5; 7]);
    let random = of(Ties::Random { seed: 0 });
    let mut seen = [0f64; 11];
    for key in 0..2000u64 {
        for b in random.bin(&[key], &values) {
            seen[b as usize] += 1.0;
        }
    }
    assert_eq!(seen[0], 0.0);
    let chi2: f64 = seen[1..]
        .iter()
        .map(|n| (n - 1400.0).powi(2) / 1400.0)
        .sum();
    // 9 degrees of freedom; beyond 30 with a probability of 0.0004.
    assert!(chi2 < 30.0, "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bins_keep_the_order_of_values(
        raw in proptest::collection::vec(0u32..40, 1..120),
        n_bins in 2usize..60,
        seed in any::<u64>(),
    ) {
        let values: Vec<f32> = raw.iter().map(|&v| v as f32).collect();
        let of = |ties| Binner::new(Binning { n_bins, ties }).unwrap();
        let (lower, upper) = (of(Ties::Lower).bin(&[], &values), of(Ties::Upper).bin(&[], &values));
        let expected = of(Ties::Expected).bin(&[], &values);
        let random = of(Ties::Random { seed }).bin(&[1, 2], &values);
        for i in 0..values.len() {
            prop_assert_eq!(random[i] == 0.0, values[i] == 0.0);
            prop_assert!(lower[i] <= random[i] && random[i] <= upper[i] && upper[i] < n_bins as f32);
            prop_assert_eq!(expected[i], (lower[i] + upper[i]) / 2.0);
            for j in 0..values.len() {
                if values[i] < values[j] {
                    prop_assert!(upper[i] <= lower[j]);
                }
            }
        }
        // Twice the values have the same bins.
        let twice: Vec<f32> = values.iter().map(|v| v * 2.0).collect();
        prop_assert_eq!(of(Ties::Random { seed }).bin(&[1, 2], &twice), random);
    }
}
