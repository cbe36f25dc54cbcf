//! Order statistics.

/// The median; NaN of nothing. The values are rearranged.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which a share `at` of the values lie, linear between neighbours (NumPy's default). NaN of nothing.
/// The values are sorted.
pub(crate) fn percentile(values: &mut [f64], at: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    sorted_percentile(values, at)
}

/// The same of values that ascend.
pub(crate) fn sorted_percentile(values: &[f64], at: f64) -> f64 {
    let position = at * (values.len().saturating_sub(1)) as f64;
    let (low, share) = (position.floor() as usize, position.fract());
    match (values.get(low), values.get(low + 1)) {
        (Some(&a), Some(&b)) => a + (b - a) * share,
        (Some(&a), None) => a,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numpy() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
        assert_eq!(percentile(&mut [0.0, 10.0, 20.0], 0.25), 5.0);
        assert_eq!(percentile(&mut [0.0, 10.0], 1.0), 10.0);
    }
}
