//! Which genes to call.

/// Which genes are called at a false discovery rate: in the order of descending probability, as many as keep the expected
/// share of false ones, the running mean of `1 - p`, at or below `target`.
///
/// ```
/// let calls = sc_latent::de::fdr_calls(&[0.99, 0.2, 0.97, 0.8], 0.05);
/// assert_eq!(calls, [true, false, true, false]);
/// ```
pub fn fdr_calls(proba_de: &[f64], target: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..proba_de.len()).collect();
    order.sort_by(|&a, &b| proba_de[b].total_cmp(&proba_de[a]));
    let mut false_ones = 0.0;
    let called = order
        .iter()
        .enumerate()
        .filter(|&(k, &g)| {
            false_ones += 1.0 - proba_de[g];
            false_ones / (k + 1) as f64 <= target
        })
        .count();
    let mut calls = vec![false; proba_de.len()];
    for &g in order.iter().take(called) {
        calls[g] = true;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_rate_allows() {
        assert_eq!(fdr_calls(&[], 0.1), Vec::<bool>::new());
        assert_eq!(fdr_calls(&[0.5, 0.5], 0.05), [false, false]);
        assert_eq!(fdr_calls(&[0.9, 1.0, 0.8], 0.1), [true, true, true]);
        // 0, 0.05, 0.1 and then 0.325
        assert_eq!(
            fdr_calls(&[0.9, 1.0, 0.0, 0.8], 0.1),
            [true, true, false, true]
        );
    }
}
