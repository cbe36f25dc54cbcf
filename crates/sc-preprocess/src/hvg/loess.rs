//! Local quadratic regression on one variable (Cleveland and Devlin 1988), evaluated the way the reference
//! implementation of Cleveland, Grosse and Shyu does by default: exactly at a few vertices, which halve the data until
//! a cell holds few points, and by cubic Hermite interpolation of values and slopes in between.

/// Share of the neighbourhood below which a cell is not halved any more.
const CELL: f64 = 0.2;
/// By how much of its length the range of `x` is widened at both ends.
const MARGIN: f64 = 0.005;

/// The fitted value at each point of `x`, which must be finite and not empty. `span` is the share of points in a neighbourhood.
pub(crate) fn loess(x: &[f64], y: &[f64], span: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let xs: Vec<f64> = order.iter().map(|&i| x[i]).collect();
    let ys: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let n = x.len() as f64;
    let neighbours = ((n * span + 1e-5) as usize).clamp(1, x.len());
    let vertices = vertices(&xs, (n * span * CELL) as usize);
    let fits: Vec<(f64, f64)> = vertices
        .iter()
        .map(|&v| local_fit(&xs, &ys, v, neighbours))
        .collect();
    x.iter()
        .map(|&v| interpolate(&vertices, &fits, v))
        .collect()
}

/// The ends of the widened range and the points at which cells of more than `max_in_cell` points are cut, ascending.
fn vertices(xs: &[f64], max_in_cell: usize) -> Vec<f64> {
    let (Some(&first), Some(&last)) = (xs.first(), xs.last()) else {
        return Vec::new();
    };
    let width = (last - first).max(1e-10 * first.abs().max(last.abs()) + 1e-30);
    let (low, high) = (first - MARGIN * width, last + MARGIN * width);
    let mut found = vec![low, high];
    // Cells still to be cut: first and last point, lower and upper vertex.
    let mut cells = vec![(0, xs.len() - 1, low, high)];
    while let Some((l, u, low, high)) = cells.pop() {
        if u - l < max_in_cell.max(1) {
            continue;
        }
        let m = last_before_a_step(xs, l, u);
        let cut = xs[m];
        if cut != low && cut != high && m < u {
            found.push(cut);
            cells.push((l, m, low, cut));
            cells.push((m + 1, u, cut, high));
        }
    }
    found.sort_by(f64::total_cmp);
    found.dedup();
    found
}

/// The position nearest to the middle of `l..=u` whose value differs from the next one, so that ties stay together.
fn last_before_a_step(xs: &[f64], l: usize, u: usize) -> usize {
    let middle = usize::midpoint(l, u);
    for offset in 0..=(u - l) {
        let after = middle + offset;
        if after >= u {
            return middle;
        }
        if xs[after] != xs[after + 1] {
            return after;
        }
        if middle < l + offset {
            return middle;
        }
        let before = middle - offset;
        if xs[before] != xs[before + 1] {
            return before;
        }
    }
    middle
}

/// The value and the slope at `at` of the parabola fitted to its `neighbours` nearest points with tricube weights.
fn local_fit(xs: &[f64], ys: &[f64], at: f64, neighbours: usize) -> (f64, f64) {
    let mut distances: Vec<f64> = xs.iter().map(|x| (x - at).abs()).collect();
    let (_, &mut bandwidth, _) = distances.select_nth_unstable_by(neighbours - 1, f64::total_cmp);
    let start = xs.partition_point(|&x| x <= at - bandwidth);
    let end = xs.partition_point(|&x| x < at + bandwidth).max(start);
    let points: Vec<(f64, f64, f64)> = (start..end)
        .map(|i| {
            let u = (xs[i] - at) / bandwidth;
            (u, ys[i], (1.0 - u.abs().powi(3)).max(0.0).powi(3))
        })
        .collect();
    if points.iter().all(|p| p.2 == 0.0) {
        // All neighbours lie at one distance, perhaps exactly here: their mean, and no slope.
        let near = xs
            .iter()
            .zip(ys)
            .filter(|(x, _)| (**x - at).abs() <= bandwidth);
        let (n, sum) = near.fold((0.0, 0.0), |(n, sum), (_, y)| (n + 1.0, sum + y));
        return (sum / n, 0.0);
    }
    let (value, slope) = parabola_at_zero(&points);
    (value, slope / bandwidth)
}

/// Weighted least squares of `y` on 1, `u`, `u^2` from `(u, y, weight)`: the value and the slope at `u = 0`.
///
/// Uses the polynomials 1, `p = u - a`, `q = u^2 - b p - c` that are orthogonal under the weights; one that vanishes,
/// because there are fewer than three different `u`, is left out.
fn parabola_at_zero(points: &[(f64, f64, f64)]) -> (f64, f64) {
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| -> f64 { points.iter().map(|&(u, y, w)| w * f(u, y)).sum() };
    let total = sum(&|_, _| 1.0);
    let a = sum(&|u, _| u) / total;
    let mean_y = sum(&|_, y| y) / total;
    let pp = sum(&|u, _| (u - a).powi(2));
    if pp <= 1e-14 * total {
        return (mean_y, 0.0);
    }
    let on_p = sum(&|u, y| (u - a) * y) / pp;
    let c = sum(&|u, _| u * u) / total;
    let b = sum(&|u, _| u * u * (u - a)) / pp;
    let q = |u: f64| u * u - b * (u - a) - c;
    let qq = sum(&|u, _| q(u).powi(2));
    let on_q = if qq <= 1e-14 * total {
        0.0
    } else {
        sum(&|u, y| q(u) * y) / qq
    };
    (mean_y - a * on_p + q(0.0) * on_q, on_p - b * on_q)
}

/// The cubic through the values and slopes at the two vertices around `x`.
fn interpolate(vertices: &[f64], fits: &[(f64, f64)], x: f64) -> f64 {
    let right = vertices
        .partition_point(|&v| v < x)
        .clamp(1, vertices.len() - 1);
    let left = right - 1;
    let width = vertices[right] - vertices[left];
    let t = (x - vertices[left]) / width;
    let s = 1.0 - t;
    let ((v0, d0), (v1, d1)) = (fits[left], fits[right]);
    (1.0 + 2.0 * t) * s * s * v0
        + t * s * s * width * d0
        + t * t * (3.0 - 2.0 * t) * v1
        + t * t * (t - 1.0) * width * d1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in 0..1 that any language can make again.
    fn numbers(n: usize) -> Vec<f64> {
        let mut s = 12345u64;
        (0..n)
            .map(|_| {
                s = s
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (s >> 33) as f64 / (1u64 << 31) as f64
            })
            .collect()
    }

    #[test]
    fn a_parabola_is_reproduced() {
        let x: Vec<f64> = numbers(300).iter().map(|u| 5.0 * u - 2.0).collect();
        let y: Vec<f64> = x.iter().map(|x| 1.0 - 3.0 * x + 0.5 * x * x).collect();
        for (f, y) in loess(&x, &y, 0.3).iter().zip(&y) {
            assert!((f - y).abs() < 1e-10, "{f} {y}");
        }
    }

    /// Reference: `skmisc.loess.loess(x, y, span=0.3, degree=2)` (scikit-misc 0.5), the fit that scanpy uses.
    #[test]
    fn the_same_as_the_reference_implementation() {
        let u = numbers(240);
        let x: Vec<f64> = u[..120].iter().map(|u| 4.0 * u).collect();
        let y: Vec<f64> = (0..120).map(|i| (2.0 * x[i]).sin() + u[120 + i]).collect();
        let fit = loess(&x, &y, 0.3);
        let expected = REFERENCE_CONTINUOUS;
        for (i, e) in expected {
            assert!((fit[i] - e).abs() < 1e-10, "{i}: {} {e}", fit[i]);
        }
        // With many ties.
        let x: Vec<f64> = x.iter().map(|x| (x * 5.0).floor() / 5.0).collect();
        let fit = loess(&x, &y, 0.3);
        for (i, e) in REFERENCE_TIES {
            assert!((fit[i] - e).abs() < 1e-10, "{i}: {} {e}", fit[i]);
        }
    }

    #[test]
    fn degenerate_neighbourhoods_give_finite_values() {
        assert_eq!(
            loess(&[1.0; 6], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 0.5),
            vec![2.0; 6]
        );
        assert_eq!(loess(&[1.0], &[4.0], 0.3), vec![4.0]);
        let two = loess(&[0.0, 0.0, 1.0, 1.0], &[1.0, 3.0, 5.0, 7.0], 0.3);
        assert!(two.iter().all(|v| v.is_finite()));
    }

    const REFERENCE_CONTINUOUS: [(usize, f64); 6] = [
        (47, 0.37647721616841606),
        (21, 1.203251799047208),
        (73, 1.2294624610201428),
        (48, -0.3878722946418724),
        (49, 0.12687526622848866),
        (10, 1.3783382724766755),
    ];
    const REFERENCE_TIES: [(usize, f64); 6] = [
        (20, 0.5895542156967475),
        (43, 1.0624356904301964),
        (41, 1.2651419607786127),
        (64, -0.3893552341456398),
        (101, 0.1807088135471751),
        (108, 1.3875759675077337),
    ];
}
