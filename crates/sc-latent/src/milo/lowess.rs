//! Robust locally weighted regression (Cleveland, J Am Stat Assoc 1979), with his later saving: points closer together
//! than `delta` are not fitted but interpolated.

use super::ranks::{ascending, quantile};

/// Weights that play down outliers are found so many times.
const ROBUST_STEPS: usize = 3;
/// Points closer together than this share of the range are interpolated.
const DELTA: f64 = 0.01;

/// The smoothed `y` at each `x`; `span` is the share of the points that one local line is fitted to.
pub(super) fn lowess(x: &[f64], y: &[f64], span: f64) -> Vec<f64> {
    let order = ascending(x);
    let sorted_x: Vec<f64> = order.iter().map(|&i| x[i]).collect();
    let sorted_y: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let near = ((span * x.len() as f64 + 1e-7) as usize).clamp(2.min(x.len()), x.len());
    let mut weights = vec![1.0; x.len()];
    let mut fitted = pass(&sorted_x, &sorted_y, &weights, near);
    for _ in 0..ROBUST_STEPS {
        let residuals: Vec<f64> = sorted_y
            .iter()
            .zip(&fitted)
            .map(|(y, f)| (y - f).abs())
            .collect();
        let mean = residuals.iter().sum::<f64>() / residuals.len() as f64;
        let limit = 6.0 * quantile(&residuals, 0.5);
        if limit.is_nan() || limit <= 1e-7 * mean {
            break;
        }
        weights = residuals.iter().map(|r| bisquare(r / limit)).collect();
        fitted = pass(&sorted_x, &sorted_y, &weights, near);
    }
    let mut out = vec![0.0; x.len()];
    order.iter().zip(fitted).for_each(|(&i, f)| out[i] = f);
    out
}

fn bisquare(u: f64) -> f64 {
    match u {
        u if u <= 0.001 => 1.0,
        u if u > 0.999 => 0.0,
        u => (1.0 - u * u).powi(2),
    }
}

/// One pass over ascending points.
fn pass(x: &[f64], y: &[f64], weights: &[f64], near: usize) -> Vec<f64> {
    let n = x.len();
    let (Some(&first), Some(&last)) = (x.first(), x.last()) else {
        return Vec::new();
    };
    let delta = DELTA * (last - first);
    let mut fitted = vec![0.0; n];
    let (mut window, mut done, mut i) = (0, None, 0);
    loop {
        while window + near < n && x[i] - x[window] > x[window + near] - x[i] {
            window += 1;
        }
        fitted[i] = local_line(x, y, weights, i, (window, window + near - 1)).unwrap_or(y[i]);
        if let Some(done) = done {
            interpolate(x, &mut fitted, done, i);
        }
        // Points at the same place share the value.
        let mut end = i;
        while end + 1 < n && x[end + 1] == x[i] {
            end += 1;
            fitted[end] = fitted[i];
        }
        if end + 1 >= n {
            return fitted;
        }
        done = Some(end);
        // The last point within delta, but at least the next one.
        let within = x.partition_point(|&v| v <= x[end] + delta);
        i = (within - 1).max(end + 1);
    }
}

/// Fills in the points between two fitted ones.
fn interpolate(x: &[f64], fitted: &mut [f64], left: usize, right: usize) {
    for k in left + 1..right {
        let share = (x[k] - x[left]) / (x[right] - x[left]);
        fitted[k] = share * fitted[right] + (1.0 - share) * fitted[left];
    }
}

/// The value at point `i` of the line fitted to the points of a window; `None` if all weights are 0.
fn local_line(
    x: &[f64],
    y: &[f64],
    robust: &[f64],
    i: usize,
    (left, right): (usize, usize),
) -> Option<f64> {
    let at = x[i];
    let bandwidth = (at - x[left]).max(x[right] - at);
    let points: Vec<(f64, f64, f64)> = (left..x.len())
        // Ties with the last point of the window count, too.
        .take_while(|&j| j <= right || x[j] - at <= 0.999 * bandwidth)
        .filter_map(|j| {
            let d = (x[j] - at).abs();
            let weight = if d <= 0.001 * bandwidth {
                1.0
            } else if d <= 0.999 * bandwidth {
                (1.0 - (d / bandwidth).powi(3)).powi(3)
            } else {
                return None;
            };
            Some((x[j], y[j], weight * robust[j]))
        })
        .collect();
    let total: f64 = points.iter().map(|p| p.2).sum();
    if total <= 0.0 {
        return None;
    }
    let mean = |f: &dyn Fn(&(f64, f64, f64)) -> f64| {
        points.iter().map(|p| p.2 * f(p)).sum::<f64>() / total
    };
    let (mean_x, mean_y) = (mean(&|p| p.0), mean(&|p| p.1));
    let spread = mean(&|p| (p.0 - mean_x).powi(2));
    let range = x.last().zip(x.first()).map_or(0.0, |(b, a)| b - a);
    // Points nearly at one place have no slope.
    if spread.sqrt() <= 0.001 * range {
        return Some(mean_y);
    }
    let slope = mean(&|p| (p.0 - mean_x) * p.1) / spread;
    Some(mean_y + slope * (at - mean_x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: statsmodels 0.15, `lowess(y, x, frac=0.4, it=3, delta=0.01 * ptp(x))`.
    #[test]
    fn agrees_with_statsmodels() {
        let x: Vec<f64> = (0..40).map(|i| f64::from((i * 13) % 41) / 4.0).collect();
        let y: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(i, x)| x.sin() + f64::from((i as u32 * 7) % 5) * 0.1)
            .collect();
        let found = lowess(&x, &y, 0.4);
        for (i, expected) in STATSMODELS {
            assert!(
                (found[i] - expected).abs() < 1e-9,
                "{i} {} {expected}",
                found[i]
            );
        }
    }
    const STATSMODELS: [(usize, f64); 5] = [
        (0, 0.528_474_824_105_468_5),
        (3, 0.044_564_363_232_775_83),
        (11, -0.495_080_593_678_387_97),
        (20, -0.039_975_739_942_723_944),
        (39, -0.213_318_438_897_296_2),
    ];

    #[test]
    fn a_line_is_kept_and_an_outlier_ignored() {
        let x: Vec<f64> = (0..50).map(f64::from).collect();
        let line: Vec<f64> = x.iter().map(|x| 2.0 * x - 5.0).collect();
        let mut y = line.clone();
        // Some noise, so that there is a scale to be an outlier on.
        y.iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v += 0.01 * (i % 3) as f64);
        y[20] += 20.0;
        for (f, l) in lowess(&x, &y, 0.4).iter().zip(line) {
            assert!((f - l).abs() < 0.1, "{f} {l}");
        }
        assert_eq!(lowess(&[1.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0], 0.4).len(), 5);
        assert!(lowess(&[], &[], 0.4).is_empty());
        assert_eq!(lowess(&[2.0], &[7.0], 0.4), [7.0]);
    }
}
