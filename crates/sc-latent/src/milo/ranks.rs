//! Ranks and quantiles.

/// The numbers of `values` in ascending order; NaN last, equal ones in their order.
pub(super) fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Ranks from 1; equal values share the mean of theirs.
pub(super) fn average_ranks(values: &[f64]) -> Vec<f64> {
    let order = ascending(values);
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |&&i: &&usize| values[i] == values[order[start]];
        let end = start + order[start..].iter().take_while(same).count().max(1);
        for &i in &order[start..end] {
            // Ranks start + 1 to end.
            ranks[i] = f64::midpoint((start + 1) as f64, end as f64);
        }
        start = end;
    }
    ranks
}

/// The quantile with linear interpolation between order statistics (R's type 7, numpy's default); NaN of nothing.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

/// As [`quantile`], of ascending values.
pub(super) fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let below = at.floor();
    let next = sorted.get(below as usize + 1).or(sorted.last());
    match (sorted.get(below as usize), next) {
        (Some(&a), Some(&b)) => a + (at - below) * (b - a),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_quantiles() {
        assert_eq!(
            average_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]),
            [4.0, 1.0, 4.0, 2.0, 4.0]
        );
        assert!(average_ranks(&[]).is_empty());
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.75), 3.25);
        assert_eq!(quantile(&[1.0, 5.0], 0.0), 1.0);
        assert_eq!(quantile(&[1.0, 5.0], 1.0), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
