//! Means, medians, correlations.

/// The arithmetic mean; `None` of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match (values.get(n / 2), values.get(n.saturating_sub(1) / 2)) {
        (Some(a), Some(b)) => Some(f64::midpoint(*a, *b)),
        _ => None,
    }
}

/// Spearman's correlation of ranks; `None` if one side does not vary.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let rho = crate::ppc::spearman(a, b);
    rho.is_finite().then_some(rho)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: SciPy 1.17.1.
    #[test]
    fn ties_share_their_rank() {
        let r = spearman(&[1.0, 2.0, 2.0, 4.0, 5.0], &[1.0, 3.0, 2.0, 2.0, 9.0]).unwrap();
        assert!((r - 0.763_157_894_736_842_1).abs() < 1e-12, "{r}");
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_none());
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
