//! Sizes of samples, so that counts of different samples can be compared.
//!
//! Counts of cells are shares: where one kind of cell becomes more frequent, all others take up a smaller part of a sample,
//! without being fewer. Sizes must take that out, or a large change in one place is seen everywhere else as a small one the
//! other way.

use super::quasi::{self, Problem, RowTest, Tested};
use super::ranks::{ascending, quantile};
use super::rle::rle_factors;
use super::tmm::{centre, tmm_factors};

/// A neighbourhood whose change is so many standard errors from the centre has no say in where it is. Tukey's biweight with
/// this constant is 77 % as exact as a mean if nothing changes; with the usual 4.685 it is 95 %, but a twofold change still
/// moves the centre.
const REACH: f64 = 3.0;
/// Below this an F statistic says nothing about the error of a change.
const NO_F: f64 = 1e-3;
/// The centre is found when a step towards it is smaller.
const TOLERANCE: f64 = 1e-12;
const MAX_STEPS: usize = 1000;
/// How often the weights of a median are found anew from it.
const MIDDLES: usize = 10;

/// How the sizes of samples are made comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Normalisation {
    /// By the trimmed mean of M values, then so that the fold changes of most neighbourhoods have their centre at 0. The
    /// trimmed mean compares single samples, whose differences by chance are large beside a change; the centre is found
    /// where they are averaged over.
    ///
    /// Neighbourhoods are tested once with trimmed means. Their log fold changes `b` with standard errors `s`, which are
    /// `|b| / sqrt(F)`, have a centre `d`: the peak of `sum (1 - ((b - d) / (3 s))^2)_+^3` (Tukey's biweight) that lies uphill
    /// from their median, so that the larger part of them decides; neighbourhoods of cells that one condition has many more
    /// of are more for that reason alone, and weigh less in the median. The size of sample `i` is then multiplied by
    /// `2^(d x_i.c / c.c)`, `x_i` being its row of the design and `c` the contrast, which makes a change by `d` none. Regression coefficients in compositional data are centred at their mode by LinDA, too (Zhou et
    /// al., Genome Biol 2022).
    #[default]
    Centred,
    /// By the trimmed mean of M values: most neighbourhoods are taken not to change (milopy and miloR).
    Tmm,
    /// By the median of ratios, also called relative log expression (pertpy with PyDESeq2, `RLE` of miloR).
    Rle,
    /// Sizes as they are (`logMS` of miloR).
    Sizes,
}

/// What the sizes of samples are multiplied by, and the tests with the sizes that result. The sizes of the problem are those
/// before. `None` if there are too few counts to test.
pub(super) fn normalise_and_test(
    problem: &Problem<'_>,
    how: Normalisation,
) -> Option<(Vec<f64>, Tested)> {
    let mut factors = match how {
        Normalisation::Centred | Normalisation::Tmm => tmm_factors(problem.counts, problem.sizes),
        Normalisation::Rle => rle_factors(problem.counts, problem.sizes),
        Normalisation::Sizes => vec![1.0; problem.sizes.len()],
    };
    let sizes = products(problem.sizes, &factors);
    let normalised = Problem {
        sizes: &sizes,
        ..*problem
    };
    let prepared = quasi::prepare(&normalised)?;
    let mut tested = quasi::test(&normalised, &prepared)?;
    if how == Normalisation::Centred {
        shift(&mut factors, centre_of_changes(&tested.rows), problem);
        let sizes = products(problem.sizes, &factors);
        let centred = Problem {
            sizes: &sizes,
            ..*problem
        };
        tested = quasi::test(&centred, &prepared)?;
    }
    Some((factors, tested))
}

fn products(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// Changes factors of samples so that a change by `by` (log2) becomes none.
fn shift(factors: &mut [f64], by: f64, problem: &Problem<'_>) {
    let dot = |a: &mut dyn Iterator<Item = &f64>| -> f64 {
        a.zip(problem.contrast).map(|(a, c)| a * c).sum()
    };
    let square = dot(&mut problem.contrast.iter());
    for (f, row) in factors.iter_mut().zip(problem.design.outer_iter()) {
        *f *= (by * dot(&mut row.iter()) / square).exp2();
    }
    centre(factors);
}

/// The change of most rows (log2).
fn centre_of_changes(rows: &[RowTest]) -> f64 {
    let errors: Vec<Option<f64>> = rows
        .iter()
        .map(|r| (r.f > NO_F).then(|| r.log_fc.abs() / r.f.sqrt()))
        .collect();
    let known: Vec<f64> = errors.iter().copied().flatten().collect();
    let typical = quantile(&known, 0.5);
    // A change and how far it reaches.
    let changes: Vec<(f64, f64)> = rows
        .iter()
        .zip(errors)
        .map(|(r, e)| (r.log_fc, REACH * e.unwrap_or(typical)))
        .filter(|(b, reach)| b.is_finite() && *reach > 0.0)
        .collect();
    centre_within_reach(&changes)
}

/// The peak of `sum (1 - ((b - d) / r)^2)_+^3` uphill from [`middle`], of pairs of a place `b` and a reach `r`; 0 of nothing.
///
/// Not the highest peak: many neighbourhoods that change alike may make one that is higher because it is narrow.
fn centre_within_reach(changes: &[(f64, f64)]) -> f64 {
    let places: Vec<f64> = changes.iter().map(|c| c.0).collect();
    let mut at = middle(&places);
    for _ in 0..MAX_STEPS {
        // Where the slope is 0 the place is the mean of the others with these weights.
        let (mut sum, mut total) = (0.0, 0.0);
        for &(b, reach) in changes {
            let weight = (1.0 - ((b - at) / reach).powi(2)).max(0.0) / reach;
            sum += weight * weight * b;
            total += weight * weight;
        }
        if total <= 0.0 {
            break;
        }
        let step = sum / total - at;
        at += step;
        if step.abs() < TOLERANCE {
            break;
        }
    }
    at
}

/// The median of changes (log2), each weighted by `2 / (1 + 2^|b - m|)`, `m` being the median itself, from 0, where trimmed
/// means put it; 0 of nothing.
///
/// Neighbourhoods begin where cells are: a kind of cell that one condition has k times as many of has `(1 + k) / 2` times as
/// many neighbourhoods as it would have if both had the fewer. The weights take that back.
fn middle(changes: &[f64]) -> f64 {
    let order = ascending(changes);
    let mut at = 0.0;
    for _ in 0..MIDDLES {
        let weight = |i: usize| 2.0 / (1.0 + (changes[i] - at).abs().exp2());
        let half = 0.5 * order.iter().map(|&i| weight(i)).sum::<f64>();
        let mut so_far = 0.0;
        let next = order.iter().find(|&&i| {
            so_far += weight(i);
            so_far >= half
        });
        let Some(&next) = next else { break };
        at = changes[next];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn the_centre_is_where_most_are() {
        // 61 around 0.5, 39 far above: neither mean (1.7) nor median (0.7) is 0.5.
        let spread = |i: i32| f64::from(i * 37 % 61 - 30) / 100.0;
        let changes: Vec<(f64, f64)> = (0..100)
            .map(|i| (spread(i) + if i < 61 { 0.5 } else { 3.5 }, 0.9))
            .collect();
        assert!((centre_within_reach(&changes) - 0.5).abs() < 1e-3);
        // It moves with the changes.
        let moved: Vec<(f64, f64)> = changes.iter().map(|(b, r)| (b - 0.75, *r)).collect();
        let by = centre_within_reach(&moved) - centre_within_reach(&changes);
        assert!((by + 0.75).abs() < 1e-9, "{by}");
        // If no change is out of the others' reach, it is the mean.
        let wide: Vec<(f64, f64)> = changes.iter().map(|(b, _)| (*b, 1e6)).collect();
        let mean = changes.iter().map(|c| c.0).sum::<f64>() / 100.0;
        assert!((centre_within_reach(&wide) - mean).abs() < 1e-6);
        // Those that change may differ less than those that do not.
        let narrow: Vec<(f64, f64)> = changes
            .iter()
            .map(|&(b, r)| (if b > 2.0 { 3.5 } else { b }, r))
            .collect();
        assert!((centre_within_reach(&narrow) - 0.5).abs() < 1e-3);
        assert_eq!(centre_within_reach(&[]), 0.0);
        assert_eq!(centre_within_reach(&[(0.3, 1.0)]), 0.3);
    }

    #[test]
    fn the_middle_is_that_of_places_not_of_neighbourhoods() {
        // 40 places with a neighbourhood each do not change; 22 others have 8 times as many cells in one condition, and
        // so 4.5 times as many neighbourhoods.
        let mut changes: Vec<f64> = (0..40).map(|i| f64::from(i - 20) / 50.0).collect();
        changes.extend((0..100).map(|i| 3.0 + f64::from(i - 50) / 200.0));
        assert!(quantile(&changes, 0.5) > 2.0 && middle(&changes).abs() < 0.5);
        let fallen: Vec<f64> = changes.iter().map(|b| -b).collect();
        assert!((middle(&fallen) + middle(&changes)).abs() < 0.05);
        assert_eq!((middle(&[]), middle(&[2.0])), (0.0, 2.0));
    }

    /// Eight samples; a third of the rows rises fourfold in the last four. `scale` multiplies the counts of one sample.
    fn counts(scale: f64) -> Array2<f64> {
        Array2::from_shape_fn((90, 8), |(g, i)| {
            let level = (20 + (g * g * 7) % 90) as f64;
            let noise = 1.0 + ((g * 31 + i * i * 17 + g * i * 5) % 23) as f64 / 20.0;
            let change = if g % 3 == 0 && i >= 4 { 4.0 } else { 1.0 };
            (level * noise * change).floor() * if i == 5 { scale } else { 1.0 }
        })
    }

    fn tested(counts: &Array2<f64>, contrast: &[f64], how: Normalisation) -> (Vec<f64>, Tested) {
        let sizes: Vec<f64> = counts.columns().into_iter().map(|c| c.sum()).collect();
        let design = if contrast.len() == 3 {
            Array2::from_shape_fn((8, 3), |(i, j)| match j {
                0 => 1.0,
                1 => (i % 2) as f64,
                _ => f64::from(i >= 4),
            })
        } else {
            Array2::from_shape_fn((8, 2), |(i, j)| f64::from((i >= 4) == (j == 1)))
        };
        let problem = Problem {
            counts: counts.view(),
            sizes: &sizes,
            design: design.view(),
            contrast,
            robust: true,
        };
        normalise_and_test(&problem, how).unwrap()
    }

    fn mean_of_unchanged(tested: &Tested) -> f64 {
        let rows = tested.rows.iter().enumerate().filter(|(g, _)| g % 3 != 0);
        rows.map(|(_, r)| r.log_fc).sum::<f64>() / 60.0
    }

    #[test]
    fn what_does_not_change_is_seen_not_to() {
        let counts = counts(1.0);
        let coefficient = [0.0, 0.0, 1.0];
        let off = |how| mean_of_unchanged(&tested(&counts, &coefficient, how).1);
        assert!(off(Normalisation::Sizes) < -0.8);
        assert!(off(Normalisation::Tmm).abs() > 0.03);
        assert!(off(Normalisation::Centred).abs() < 0.02);
        let factors = tested(&counts, &coefficient, Normalisation::Centred).0;
        let mean = factors.iter().map(|f| f.ln()).sum::<f64>() / 8.0;
        assert!(mean.abs() < 1e-12);
        // So it is with two groups and their difference.
        let groups = tested(&counts, &[-1.0, 1.0], Normalisation::Centred);
        assert!(mean_of_unchanged(&groups.1).abs() < 0.02);
        let raised = groups.1.rows.iter().step_by(3);
        assert!(raised.clone().all(|r| r.p_value < 0.05 && r.log_fc > 1.0));
    }
}
