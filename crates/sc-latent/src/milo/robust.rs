//! Prior variances that outliers do not spoil (Phipson, Lee, Majewski, Alexander and Smyth, "Robust hyperparameter
//! estimation protects against hypervariable genes and improves power to detect differential expression", Ann Appl Stat
//! 2016).

use super::lowess::lowess;
use super::ranks::{ascending, average_ranks, quantile};
use super::special::{Tail, f_lower, f_quantile, f_upper};
use super::squeeze::{Prior, Variances};
use super::winsorised::{Integral, TAILS};

/// The share of the rows that one local line of the trend is fitted to.
const SPAN: f64 = 0.4;
/// Probabilities are kept above this, so that their logarithms are finite.
const TINY: f64 = 1e-300;

/// Rows with a variance, their degrees of freedom made equal.
struct Rows {
    /// Their numbers among all rows.
    rows: Vec<usize>,
    /// Their abundances.
    covariate: Vec<f64>,
    /// `ln s^2`.
    z: Vec<f64>,
    /// The trend of `ln s^2`.
    trend: Vec<f64>,
    df: f64,
}

/// The prior with one `d0` for most rows, found from residuals that are winsorised, and smaller ones for outliers.
pub(super) fn robust_prior(data: &Variances<'_>, plain: &Prior) -> Prior {
    let rows = Rows::new(data, plain);
    let residuals: Vec<f64> = rows.z.iter().zip(&rows.trend).map(|(z, t)| z - t).collect();
    let n = residuals.len() as f64;
    let (low, high) = (
        quantile(&residuals, TAILS.0),
        quantile(&residuals, 1.0 - TAILS.1),
    );
    let winsorised: Vec<f64> = residuals.iter().map(|r| r.clamp(low, high)).collect();
    let mean = winsorised.iter().sum::<f64>() / n;
    let variance = winsorised.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (n - 1.0);

    let integral = Integral::new();
    let plain_df = plain.df.first().copied().unwrap_or(f64::INFINITY);
    let df = matching_df(&integral, rows.df, variance, plain_df);
    // The trend is of the middle of ln s^2, which is not that of an F.
    let shift = mean - integral.winsorised_moments(rows.df, df).0;
    let of_rows: Vec<f64> = rows.trend.iter().map(|t| (t + shift).exp()).collect();
    let f: Vec<f64> = rows
        .z
        .iter()
        .zip(&of_rows)
        .map(|(z, s)| z.exp() / s)
        .collect();
    let own_df = df_of_outliers(&f, rows.df, df);

    // Rows without a variance of their own get what the trend of the others says.
    let trend = Interpolation::new(&rows.covariate, &of_rows);
    let mut prior = Prior {
        variance: data.covariate.iter().map(|&x| trend.at(x)).collect(),
        df: vec![df; data.df.len()],
    };
    for (k, &g) in rows.rows.iter().enumerate() {
        prior.variance[g] = of_rows[k];
        prior.df[g] = own_df[k];
    }
    prior
}

impl Rows {
    fn new(data: &Variances<'_>, plain: &Prior) -> Self {
        let rows: Vec<usize> = (0..data.df.len()).filter(|&g| data.usable[g]).collect();
        let df = rows.iter().map(|&g| data.df[g]).fold(0.0, f64::max);
        let z: Vec<f64> = rows
            .iter()
            .map(|&g| {
                let (own, s0, d0) = (data.df[g], plain.variance[g], plain.df[g]);
                let f = data.variance[g] / s0;
                if own < df - 1e-14 {
                    (same_tail(f, own, df, d0) * s0).ln()
                } else {
                    data.variance[g].ln()
                }
            })
            .collect();
        let covariate: Vec<f64> = rows.iter().map(|&g| data.covariate[g]).collect();
        let trend = lowess(&covariate, &z, SPAN);
        Self {
            rows,
            covariate,
            z,
            trend,
            df,
        }
    }
}

/// Variances between known ones: their logarithms are joined by straight lines, and constant beyond the outermost. Where
/// several are known at one place their logarithms are averaged.
struct Interpolation {
    /// Ascending places with the logarithms there.
    points: Vec<(f64, f64)>,
}

impl Interpolation {
    fn new(x: &[f64], variance: &[f64]) -> Self {
        let order = ascending(x);
        let points = order
            .chunk_by(|&a, &b| x[a] == x[b])
            .map(|same| {
                let sum: f64 = same.iter().map(|&i| variance[i].ln()).sum();
                (x[same[0]], sum / same.len() as f64)
            })
            .collect();
        Self { points }
    }

    fn at(&self, x: f64) -> f64 {
        let right = self.points.partition_point(|p| p.0 < x);
        let left = right.saturating_sub(1);
        let logarithm = match (self.points.get(left), self.points.get(right)) {
            (Some(a), Some(b)) if b.0 > a.0 => a.1 + (x - a.0) / (b.0 - a.0) * (b.1 - a.1),
            (Some(a), _) => a.1,
            _ => f64::NAN,
        };
        logarithm.exp()
    }
}

/// The ratio that is as far out in an F distribution with `df` degrees of freedom as `f` is in one with `own`.
fn same_tail(f: f64, own: f64, df: f64, d0: f64) -> f64 {
    let (upper, lower) = (f_upper(f, own, d0), f_lower(f, own, d0));
    let tail = if upper < lower {
        Tail::Upper(upper.max(TINY))
    } else {
        Tail::Lower(lower.max(TINY))
    };
    f_quantile(tail, df, d0)
}

/// The `d0` for which winsorised logarithms of F ratios have the variance given, at least `lowest`.
fn matching_df(integral: &Integral, df: f64, variance: f64, lowest: f64) -> f64 {
    if lowest.is_infinite() {
        return lowest;
    }
    // A small d0 makes for a large variance. Searched for on d0 / (1 + d0).
    let too_variable = |d0: f64| integral.winsorised_moments(df, d0).1 > variance;
    if too_variable(f64::INFINITY) {
        return f64::INFINITY;
    }
    if !too_variable(lowest) {
        return lowest;
    }
    let (mut low, mut high) = (lowest / (1.0 + lowest), 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if too_variable(middle / (1.0 - middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let middle = f64::midpoint(low, high);
    if middle < 1.0 {
        middle / (1.0 - middle)
    } else {
        f64::INFINITY
    }
}

/// `d0` for each row, from its ratio `f = s^2 / s0^2`: smaller for ratios that are larger than an F with `df` and `d0` degrees
/// of freedom can explain. A row is no outlier with probability `min(1, p / p_empirical)`, where `p` is its tail probability and
/// `p_empirical` the share of rows at least as large.
fn df_of_outliers(f: &[f64], df: f64, d0: f64) -> Vec<f64> {
    let n = f.len() as f64;
    let ranks = average_ranks(f);
    let tails: Vec<f64> = f.iter().map(|&f| f_upper(f, df, d0)).collect();
    let inside: Vec<f64> = tails
        .iter()
        .zip(&ranks)
        .map(|(p, r)| (p / ((n - r + 0.5) / n)).min(1.0))
        .collect();
    if inside.iter().all(|&p| p >= 1.0) {
        return vec![d0; f.len()];
    }
    let of_outliers = if d0.is_infinite() {
        // As many degrees of freedom as all rows have together, in proportion.
        n * df
    } else {
        outlier_df(f.iter().copied().fold(0.0, f64::max), df, d0)
    };
    let mixed: Vec<f64> = inside
        .iter()
        .map(|&p| match (d0.is_infinite(), p >= 1.0) {
            (_, true) => d0,
            (true, false) => p * of_outliers,
            (false, false) => p * d0 + (1.0 - p) * of_outliers,
        })
        .collect();
    monotone(&tails, f, &mixed, d0)
}

/// The `d0` for which the largest ratio would be the median.
fn outlier_df(largest: f64, df: f64, d0: f64) -> f64 {
    // The median falls when d0 grows; searched for on ln d0.
    let (mut low, mut high) = (-20.0f64, d0.ln());
    if f_upper(largest, df, d0) >= 0.5 {
        return d0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if f_upper(largest, df, middle.exp()) > 0.5 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high).exp()
}

/// Makes `d0` grow with the tail probability: up to where the running mean is least all rows get that mean, from there on
/// each at least what the one before has.
fn monotone(tails: &[f64], f: &[f64], df: &[f64], d0: f64) -> Vec<f64> {
    // By tail probability; where it is too small to be told from 0, by the ratio itself.
    let mut order = ascending(tails);
    order.sort_by(|&a, &b| tails[a].total_cmp(&tails[b]).then(f[b].total_cmp(&f[a])));
    let mut sorted: Vec<f64> = order.iter().map(|&g| df[g]).collect();
    if d0.is_finite() {
        let (mut sum, mut best) = (0.0, (f64::INFINITY, 0));
        for (k, d) in sorted.iter().enumerate() {
            sum += d;
            let mean = sum / (k + 1) as f64;
            if mean < best.0 {
                best = (mean, k);
            }
        }
        sorted[..=best.1].fill(best.0);
    }
    let mut out = vec![0.0; df.len()];
    let mut so_far = 0.0f64;
    for (&g, d) in order.iter().zip(sorted) {
        so_far = so_far.max(d);
        out[g] = so_far;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milo::squeeze::prior;
    use rand_distr::{ChiSquared, Distribution};

    /// Reference: the same equations in Python with scipy and statsmodels.
    #[test]
    fn priors_agree_with_a_second_implementation() {
        let check = |s2: Vec<f64>, plain: f64, expected: &[(usize, f64, f64)]| {
            let n = s2.len();
            let period = if n > 100 { 199 } else { 59 };
            let x: Vec<f64> = (0..n).map(|g| ((g * 23) % period) as f64 / 7.0).collect();
            let mut df = vec![5.0; n];
            df[7] = 3.0;
            let d0 = prior(&s2, &df, &x, false).unwrap().df[0];
            assert!((d0 / plain - 1.0).abs() < 1e-6, "{d0} {plain}");
            let p = prior(&s2, &df, &x, true).unwrap();
            for &(g, d0, s0) in expected {
                let same = p.df[g] == d0 || (p.df[g] / d0 - 1.0).abs() < 1e-4;
                assert!(same, "{g} {} {d0}", p.df[g]);
                assert!(
                    (p.variance[g] / s0 - 1.0).abs() < 1e-6,
                    "{g} {} {s0}",
                    p.variance[g]
                );
            }
        };
        // One outlier, and else less variation than by chance.
        let mut even: Vec<f64> = (0..60)
            .map(|g| 0.2 + f64::from((g * 37) % 61) / 20.0)
            .collect();
        even[3] = 80.0;
        check(even, 35.651_704_229_737_59, &EVEN);
        // More variation than by chance, and two outliers.
        let logistic = |u: f64| (u / (1.0 - u)).sqrt();
        let mut heavy: Vec<f64> = (0..200)
            .map(|g| logistic((0.5 + f64::from((g * 37) % 211)) / 211.0))
            .collect();
        (heavy[3], heavy[4]) = (80.0, 40.0);
        check(heavy, 4.845_188_175_573_715, &HEAVY);
    }
    const EVEN: [(usize, f64, f64); 3] = [
        (0, f64::INFINITY, 3.071_395_024_213_466),
        (7, f64::INFINITY, 0.818_183_269_229_733),
        (25, f64::INFINITY, 0.809_169_190_825_011_6),
    ];
    const HEAVY: [(usize, f64, f64); 5] = [
        (0, 8.025_696_529_646_938, 1.329_116_301_726_972_7),
        (3, 0.226_447_348_025_140_02, 1.033_092_113_970_842_9),
        (4, 0.248_485_996_174_669_1, 1.089_880_310_654_278),
        (7, 8.025_696_529_646_938, 1.109_464_550_602_533_6),
        (199, 8.024_721_518_480_513, 1.329_116_301_726_972_7),
    ];

    #[test]
    fn rows_without_a_variance_lie_between_others() {
        let between = Interpolation::new(&[3.0, 1.0, 1.0], &[8.0, 1.0, 4.0]);
        for (x, expected) in [(0.0, 2.0), (1.0, 2.0), (2.0, 4.0), (3.0, 8.0), (9.0, 8.0)] {
            assert!((between.at(x) - expected).abs() < 1e-12, "{x}");
        }
        // Two rows have no degrees of freedom; one lies halfway between two others, one beyond them all.
        let n = 80;
        let s2: Vec<f64> = (0..n)
            .map(|g| f64::from((g * 37) % 41 + 1) * (0.05 * f64::from(g)).exp())
            .collect();
        let mut x: Vec<f64> = (0..n).map(f64::from).collect();
        let mut df = vec![5.0; n as usize];
        (df[20], df[79]) = (0.0, 0.0);
        (x[20], x[79]) = (20.0, 500.0);
        let p = prior(&s2, &df, &x, true).unwrap();
        let middle = (p.variance[19] * p.variance[21]).sqrt();
        assert!((p.variance[20] / middle - 1.0).abs() < 1e-12);
        assert_eq!(p.variance[79], p.variance[78]);
        // Their degrees of freedom are those of rows that are no outliers.
        let most = p.df.iter().copied().fold(0.0, f64::max);
        assert_eq!((p.df[20], p.df[79]), (most, most));
    }

    #[test]
    fn an_outlier_is_not_pulled_in() {
        let mut rng = sc_tensor::Rng::new(2).stream("robust");
        let (d, d0) = (6.0, 30.0);
        let (top, bottom) = (ChiSquared::new(d).unwrap(), ChiSquared::new(d0).unwrap());
        let mut s2: Vec<f64> = (0..500)
            .map(|_| (top.sample(&mut rng) / d) / (bottom.sample(&mut rng) / d0))
            .collect();
        s2[17] = 200.0;
        s2[18] = 100.0;
        let x: Vec<f64> = (0..500).map(f64::from).collect();
        let df = vec![d; 500];
        let (plain, robust) = (
            prior(&s2, &df, &x, false).unwrap(),
            prior(&s2, &df, &x, true).unwrap(),
        );
        let mut typical = robust.df.clone();
        typical.sort_by(f64::total_cmp);
        assert!(
            robust.df[17] < 2.0 && robust.df[18] < 4.0,
            "{} {}",
            robust.df[17],
            robust.df[18]
        );
        assert!(
            typical[250] >= plain.df[0],
            "{} {}",
            typical[250],
            plain.df[0]
        );
        // Larger ratios never have more degrees of freedom.
        let mut order: Vec<usize> = (0..500).collect();
        order.sort_by(|&a, &b| {
            (s2[a] / robust.variance[a]).total_cmp(&(s2[b] / robust.variance[b]))
        });
        assert!(order.windows(2).all(|w| robust.df[w[0]] >= robust.df[w[1]]));
    }
}
