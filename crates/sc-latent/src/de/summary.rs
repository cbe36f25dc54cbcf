//! Summaries of a list of numbers. Sums are in `f64` and in a fixed order.

/// `sum f(x)`, in eight partial sums.
pub(super) fn sum_of(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0f64; 8];
    let (whole, rest) = x.as_chunks::<8>();
    for eight in whole {
        for (sum, &v) in sums.iter_mut().zip(eight) {
            *sum += f(f64::from(v));
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum += f(f64::from(v));
    }
    sums.iter().sum()
}

pub(super) fn mean(x: &[f32]) -> f64 {
    sum_of(x, |v| v) / x.len().max(1) as f64
}

/// The standard deviation around a mean that is known, divided by `n`.
pub(super) fn standard_deviation(x: &[f32], mean: f64) -> f64 {
    (sum_of(x, |v| (v - mean) * (v - mean)) / x.len().max(1) as f64).sqrt()
}

/// The smallest and the largest number; of none (inf, -inf).
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    let (whole, rest) = x.as_chunks::<8>();
    let mut look = |lanes: &[f32]| {
        for ((&v, low), high) in lanes.iter().zip(&mut low).zip(&mut high) {
            *low = if v < *low { v } else { *low };
            *high = if v > *high { v } else { *high };
        }
    };
    for eight in whole {
        look(eight);
    }
    look(rest);
    let smallest = low.iter().copied().fold(f32::INFINITY, f32::min);
    (
        smallest,
        high.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    )
}

/// The median, the mean of the two middle numbers of an even count. Reorders; NaN of none.
pub(super) fn median(x: &mut [f32]) -> f64 {
    let n = x.len();
    if n == 0 {
        return f64::NAN;
    }
    let (lower, &mut middle, _) = x.select_nth_unstable_by(n / 2, f32::total_cmp);
    let middle = f64::from(middle);
    if n % 2 == 1 {
        return middle;
    }
    let below = range(lower).1;
    (f64::from(below) + middle) / 2.0
}

/// The shortest interval `[x[i], x[i + k]]` with `k = floor(level n)`, the first of equals; `x` is sorted.
pub(super) fn shortest_interval(x: &[f32], level: f64) -> (f64, f64) {
    let n = x.len();
    let k = (level * n as f64).floor() as usize;
    let mut best = (f64::NAN, f64::NAN);
    let mut shortest = f64::INFINITY;
    for (&low, &high) in x.iter().zip(x.get(k..).unwrap_or_default()) {
        let (low, high) = (f64::from(low), f64::from(high));
        if high - low < shortest {
            shortest = high - low;
            best = (low, high);
        }
    }
    best
}

/// The quantile `q` with linear interpolation; `None` of no numbers.
pub(super) fn quantile(mut x: Vec<f64>, q: f64) -> Option<f64> {
    x.sort_unstable_by(f64::total_cmp);
    let last = x.len().checked_sub(1)?;
    let at = q * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    let (a, b) = (*x.get(below)?, *x.get(above)?);
    Some(a + (b - a) * (at - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ranges_and_moments() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&mut []).is_nan());
        let x: Vec<f32> = (0..21).map(|v| v as f32).collect();
        assert_eq!(range(&x), (0.0, 20.0));
        assert_eq!(mean(&x), 10.0);
        assert!((standard_deviation(&x, 10.0) - (110f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_shortest_interval_is_where_numbers_are_dense() {
        let x = [0.0, 5.0, 5.5, 6.0, 9.0, 20.0];
        assert_eq!(shortest_interval(&x, 0.5), (5.0, 9.0));
        assert_eq!(shortest_interval(&x, 0.34), (5.0, 6.0));
        // Of equals the first.
        assert_eq!(shortest_interval(&[0.0, 1.0, 2.0, 3.0], 0.25), (0.0, 1.0));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert!((quantile(vec![0.0, 1.0, 2.0, 3.0], 0.9).unwrap() - 2.7).abs() < 1e-12);
        assert_eq!(quantile(vec![], 0.9), None);
    }
}
