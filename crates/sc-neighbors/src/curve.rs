/// The points at which the curve is fitted.
const N_POINTS: usize = 300;

/// `a` and `b` of `1 / (1 + a d^2b)`, fitted by least squares to the curve that is 1 up to `min_dist` and
/// `exp(-(d - min_dist) / spread)` beyond, at 300 distances from 0 to `3 spread` (Levenberg-Marquardt).
pub(crate) fn fit_curve(min_dist: f64, spread: f64) -> (f64, f64) {
    let points: Vec<(f64, f64)> = (0..N_POINTS)
        .map(|i| {
            let d = 3.0 * spread * i as f64 / (N_POINTS - 1) as f64;
            let y = if d < min_dist {
                1.0
            } else {
                (-(d - min_dist) / spread).exp()
            };
            (d, y)
        })
        .collect();
    let loss = |a: f64, b: f64| -> f64 {
        points
            .iter()
            .map(|&(d, y)| (curve(d, a, b) - y).powi(2))
            .sum()
    };
    let (mut a, mut b, mut damping) = (1.0, 1.0, 1e-3);
    let mut current = loss(a, b);
    for _ in 0..500 {
        let ([aa, ab, bb], [ga, gb]) = normal_equations(&points, a, b);
        let (aa, bb) = (aa * (1.0 + damping), bb * (1.0 + damping));
        let determinant = aa * bb - ab * ab;
        let (da, db) = (
            (ga * bb - gb * ab) / determinant,
            (gb * aa - ga * ab) / determinant,
        );
        let (next_a, next_b) = (a - da, b - db);
        let next = loss(next_a, next_b);
        if next_a > 0.0 && next_b > 0.0 && next <= current {
            (a, b, current) = (next_a, next_b, next);
            damping *= 0.1;
            if da.abs() < 1e-12 * a && db.abs() < 1e-12 * b {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    (a, b)
}

fn curve(d: f64, a: f64, b: f64) -> f64 {
    1.0 / (1.0 + a * d.powf(2.0 * b))
}

/// `J^T J` (aa, ab, bb) and `J^T residual` of the fit.
fn normal_equations(points: &[(f64, f64)], a: f64, b: f64) -> ([f64; 3], [f64; 2]) {
    let (mut matrix, mut gradient) = ([0.0; 3], [0.0; 2]);
    for &(d, y) in points.iter().filter(|p| p.0 > 0.0) {
        let q = curve(d, a, b);
        let power = d.powf(2.0 * b);
        let by_a = -power * q * q;
        let by_b = -2.0 * a * power * d.ln() * q * q;
        matrix[0] += by_a * by_a;
        matrix[1] += by_a * by_b;
        matrix[2] += by_b * by_b;
        gradient[0] += by_a * (q - y);
        gradient[1] += by_b * (q - y);
    }
    (matrix, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: umap-learn 0.5.12, `find_ab_params`.
    #[test]
    fn agrees_with_umap_learn() {
        for (min_dist, a, b) in [
            (0.5, 0.5830300203414425, 1.3341669924314914),
            (0.1, 1.5769434602697652, 0.8950608778515733),
        ] {
            let (x, y) = fit_curve(min_dist, 1.0);
            assert!((x - a).abs() < 1e-5 && (y - b).abs() < 1e-5, "{x} {y}");
        }
    }
}
