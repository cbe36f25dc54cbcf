//! The dispersion of counts as a function of their abundance (McCarthy, Chen and Smyth, "Differential expression analysis
//! of multifactor RNA-Seq experiments with respect to biological variation", Nucleic Acids Res 2012).

use ndarray::{ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use super::linear::orthonormal;
use super::nb_glm::{Fitter, ln_probability};
use super::ranks::ascending;
use super::spline::maximum;

/// The likelihood is computed at `0.1 * 2^t`, t = -10, -9, ..., 10.
pub(super) const N_GRID: usize = 21;
/// Rows with fewer cells in all say nothing about the dispersion.
pub(super) const MIN_TOTAL: f64 = 5.0;
/// Below this a count or a fitted mean is 0.
pub(super) const ZERO: f64 = 1e-4;
/// The dispersion at which samples whose fitted means vanish are looked for.
const FIRST_DISPERSION: f64 = 0.05;
/// The smoothed curve is computed for so many rows, and interpolated for those between.
const MAX_VERTICES: usize = 1000;

/// The log-likelihoods of one row on the grid.
pub(super) type Profile = [f64; N_GRID];

/// What is known about the dispersion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dispersion {
    /// The one dispersion that suits all rows best.
    pub(super) common: f64,
    /// That of rows of similar abundance, one a row.
    pub(super) trended: Vec<f64>,
}

/// The dispersion at a place of the grid.
fn dispersion_at(place: f64) -> f64 {
    0.1 * (place - 10.0).exp2()
}

/// Estimates the dispersion from counts `[rows, samples]` with offsets by sample, and the rows' abundances. `None` if no
/// row has [`MIN_TOTAL`] counts.
///
/// For each row and each dispersion on the grid a model is fitted and its Cox-Reid adjusted profile likelihood taken,
/// `l(phi) - ln |X' W X| / 2`. The sum over rows is largest at the common dispersion; the mean over rows of similar
/// abundance, weighted by the tricube of their distance, at the trended one.
pub(super) fn estimate(
    counts: ArrayView2<'_, f64>,
    offset: &[f64],
    design: ArrayView2<'_, f64>,
    abundance: &[f64],
) -> Option<Dispersion> {
    let kept: Vec<usize> = (0..counts.nrows())
        .filter(|&g| counts.row(g).sum() >= MIN_TOTAL)
        .collect();
    if kept.is_empty() {
        return None;
    }
    let profiles: Vec<Profile> = kept
        .par_iter()
        .map_init(
            || Fitter::new(design),
            |fitter, &g| profile(counts.row(g), offset, design, fitter),
        )
        .collect();
    let mut sum = [0.0; N_GRID];
    for profile in &profiles {
        sum.iter_mut().zip(profile).for_each(|(s, p)| *s += p);
    }
    let x: Vec<f64> = kept.iter().map(|&g| abundance[g]).collect();
    let of_kept = trend(&x, &profiles);
    // Rows that were left out are taken to be like the one of lowest abundance.
    let lowest = ascending(&x).first().map_or(0, |&i| i);
    let mut trended = vec![of_kept[lowest]; counts.nrows()];
    kept.iter()
        .zip(of_kept)
        .for_each(|(&g, phi)| trended[g] = phi);
    Some(Dispersion {
        common: dispersion_at(maximum(&sum)),
        trended,
    })
}

/// The adjusted profile likelihood of one row on the grid. Samples in groups without counts are left out, together with
/// the columns that depend on them; a row that has no more samples than columns then says nothing.
fn profile(
    y: ArrayView1<'_, f64>,
    offset: &[f64],
    design: ArrayView2<'_, f64>,
    fitter: &mut Fitter,
) -> Profile {
    let y = y.to_vec();
    let first = fitter.fit(&y, offset, FIRST_DISPERSION, None);
    let present: Vec<usize> = (0..y.len())
        .filter(|&i| y[i] >= ZERO || first.means[i] >= ZERO)
        .collect();
    if present.len() == y.len() {
        return if y.len() > design.ncols() {
            on_grid(&y, offset, fitter, &first.coefficients)
        } else {
            [0.0; N_GRID]
        };
    }
    let part = design.select(Axis(0), &present);
    let dependent = orthonormal(part.view(), |_| true).dependent;
    let columns: Vec<usize> = (0..design.ncols())
        .filter(|j| !dependent.contains(j))
        .collect();
    if present.len() <= columns.len() {
        return [0.0; N_GRID];
    }
    let part = part.select(Axis(1), &columns);
    let of_present = |v: &[f64]| present.iter().map(|&i| v[i]).collect::<Vec<f64>>();
    let (y, offset) = (of_present(&y), of_present(offset));
    let mut fitter = Fitter::new(part.view());
    let start = fitter.fit(&y, &offset, FIRST_DISPERSION, None);
    on_grid(&y, &offset, &mut fitter, &start.coefficients)
}

fn on_grid(y: &[f64], offset: &[f64], fitter: &mut Fitter, start: &[f64]) -> Profile {
    let mut start = start.to_vec();
    std::array::from_fn(|t| {
        let phi = dispersion_at(t as f64);
        let fit = fitter.fit(y, offset, phi, Some(&start));
        start.copy_from_slice(&fit.coefficients);
        let likelihood: f64 = y
            .iter()
            .zip(&fit.means)
            .map(|(&y, &mu)| ln_probability(y, mu, phi))
            .sum();
        likelihood - fitter.cox_reid(&fit.means, phi)
    })
}

/// The dispersion at which the likelihood of rows of similar abundance is largest, for each row.
fn trend(x: &[f64], profiles: &[Profile]) -> Vec<f64> {
    let n = x.len();
    let span = if n <= 50 {
        1.0
    } else {
        0.25 + 0.75 * (50.0 / n as f64).sqrt()
    };
    let near = ((n as f64 * span) as usize).clamp(1, n);
    let order = ascending(x);
    let sorted_x: Vec<f64> = order.iter().map(|&i| x[i]).collect();
    let sorted: Vec<&Profile> = order.iter().map(|&i| &profiles[i]).collect();
    let vertices = vertices(n);
    let smooth: Vec<Profile> = vertices
        .par_iter()
        .map(|&v| local_mean(&sorted_x, &sorted, sorted_x[v], near))
        .collect();
    let mut found = vec![0.0; n];
    for (rank, &row) in order.iter().enumerate() {
        let right = vertices
            .partition_point(|&v| v < rank)
            .min(vertices.len() - 1);
        let left = if vertices[right] == rank {
            right
        } else {
            right.saturating_sub(1)
        };
        let (a, b) = (sorted_x[vertices[left]], sorted_x[vertices[right]]);
        let share = if b > a {
            (sorted_x[rank] - a) / (b - a)
        } else {
            0.0
        };
        let curve: Profile =
            std::array::from_fn(|t| smooth[left][t] + share * (smooth[right][t] - smooth[left][t]));
        found[row] = dispersion_at(maximum(&curve));
    }
    found
}

/// Numbers from 0 to `n - 1`, about equally spaced and at most [`MAX_VERTICES`].
fn vertices(n: usize) -> Vec<usize> {
    let m = n.min(MAX_VERTICES);
    (0..m)
        .map(|k| if m > 1 { k * (n - 1) / (m - 1) } else { 0 })
        .collect()
}

/// The mean of the `near` curves nearest to `at`, weighted by `(1 - (d / d_max)^3)^3`.
fn local_mean(x: &[f64], curves: &[&Profile], at: f64, near: usize) -> Profile {
    // The nearest `near` of sorted numbers are a window.
    let mut start = x
        .partition_point(|&v| v < at)
        .saturating_sub(near)
        .min(x.len() - near);
    while start + near < x.len() && x[start + near] - at < at - x[start] {
        start += 1;
    }
    let bandwidth = (at - x[start]).max(x[start + near - 1] - at);
    let (mut sum, mut total) = ([0.0; N_GRID], 0.0);
    for (v, curve) in x.iter().zip(curves).skip(start).take(near) {
        let d = (v - at).abs();
        let weight = if bandwidth > 0.0 {
            (1.0 - (d / bandwidth).powi(3)).max(0.0).powi(3)
        } else {
            1.0
        };
        total += weight;
        sum.iter_mut()
            .zip(*curve)
            .for_each(|(s, c)| *s += weight * c);
    }
    sum.map(|s| s / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_window_holds_the_nearest() {
        let x = [0.0, 1.0, 2.0, 3.0, 10.0];
        let flat = |v: f64| [v; N_GRID];
        let curves: Vec<Profile> = x.iter().map(|&v| flat(v)).collect();
        let curves: Vec<&Profile> = curves.iter().collect();
        // Nearest three of 1: 0, 1, 2; those at the bandwidth weigh nothing.
        assert_eq!(local_mean(&x, &curves, 1.0, 3), flat(1.0));
        let w = (1.0f64 - (1.0f64 / 2.0).powi(3)).powi(3);
        let expected = (3.0 + 2.0 * w) / (1.0 + w);
        assert!((local_mean(&x, &curves, 3.0, 3)[0] - expected).abs() < 1e-12);
        assert_eq!(local_mean(&[1.0; 3], &curves[..3], 1.0, 2), flat(0.5));
    }

    #[test]
    fn vertices_span_the_rows() {
        assert_eq!(vertices(1), [0]);
        assert_eq!(vertices(4), [0, 1, 2, 3]);
        let v = vertices(25_000);
        assert_eq!((v.len(), v[0], v[999]), (1000, 0, 24_999));
        assert!(v.windows(2).all(|w| w[0] < w[1]));
    }

    /// Reference: `adjustedProfileLik` of inmoose 0.9.1.
    #[test]
    fn profiles_agree_with_inmoose() {
        let (y, offset, design) = example();
        let mut fitter = Fitter::new(design.view());
        for (g, expected) in INMOOSE_PROFILES.iter().enumerate() {
            let found = profile(y.row(g), &offset, design.view(), &mut fitter);
            for (t, e) in [(7, expected[0]), (10, expected[1]), (13, expected[2])] {
                assert!(
                    (found[t] - e).abs() < 1e-6 * e.abs(),
                    "{g} {t} {} {e}",
                    found[t]
                );
            }
        }
    }
    const INMOOSE_PROFILES: [[f64; 3]; 3] = [
        [
            -41.009_158_806_498_93,
            -34.041_096_956_146_33,
            -29.048_175_166_351_193,
        ],
        [
            -38.826_251_403_852_83,
            -32.936_987_645_090_824,
            -29.593_414_208_990_232,
        ],
        [
            -36.354_283_907_418_46,
            -32.011_195_056_697_716,
            -31.432_806_742_577_313,
        ],
    ];

    fn example() -> (Array2<f64>, Vec<f64>, Array2<f64>) {
        let y = Array2::from_shape_fn((3, 8), |(g, i)| ((g * 11 + i * 17 + g * i * 3) % 29) as f64);
        let offset = (0..8).map(|i| (100.0 + 10.0 * f64::from(i)).ln()).collect();
        let design = Array2::from_shape_fn((8, 3), |(i, j)| match j {
            0 => 1.0,
            1 => (i % 2) as f64,
            _ => f64::from(i >= 4),
        });
        (y, offset, design)
    }

    #[test]
    fn rows_without_information_contribute_nothing() {
        let (_, offset, design) = example();
        let mut fitter = Fitter::new(design.view());
        let y = ndarray::Array1::from_vec(vec![9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let found = profile(y.view(), &offset, design.view(), &mut fitter);
        assert!(found.iter().all(|v| v.is_finite()));
        let none = estimate(
            Array2::zeros((3, 8)).view(),
            &offset,
            design.view(),
            &[0.0; 3],
        );
        assert_eq!(none, None);
    }
}
