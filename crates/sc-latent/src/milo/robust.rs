//! Prior variances that outliers do not spoil (Phipson, Lee, Majewski, Alexander and Smyth, "Robust hyperparameter
//! estimation protects against hypervariable genes and improves power to detect differential expression", Ann Appl Stat
//! 2016).

use super::lowess::lowess;
use super::ranks::{ascending, average_ranks, quantile};
use super::special::{Tail, f_ln_density, f_lower, f_quantile, f_upper};
use super::squeeze::{Prior, Variances};

/// The shares of residuals that are pulled in at the lower and the upper end.
const TAILS: (f64, f64) = (0.05, 0.1);
/// The share of the rows that one local line of the trend is fitted to.
const SPAN: f64 = 0.4;
/// Nodes of the integrals.
const NODES: usize = 128;
/// Probabilities are kept above this, so that their logarithms are finite.
const TINY: f64 = 1e-300;

/// Rows with a variance, their degrees of freedom made equal.
struct Rows {
    /// Their numbers among all rows.
    rows: Vec<usize>,
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
    let mut prior = Prior {
        variance: plain.variance.clone(),
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
        let x: Vec<f64> = rows.iter().map(|&g| data.covariate[g]).collect();
        let trend = lowess(&x, &z, SPAN);
        Self { rows, z, trend, df }
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

/// Gauss-Legendre quadrature on 0..=1.
struct Integral {
    nodes: Vec<f64>,
    weights: Vec<f64>,
}

impl Integral {
    /// The roots of the Legendre polynomial, by Newton's method from their asymptotic places.
    fn new() -> Self {
        let n = NODES as f64;
        let (nodes, weights) = (0..NODES)
            .map(|k| {
                let mut x = (std::f64::consts::PI * (k as f64 + 0.75) / (n + 0.5)).cos();
                let mut slope = 1.0;
                for _ in 0..100 {
                    let (mut last, mut value) = (1.0, x);
                    for j in 2..=NODES {
                        let j = j as f64;
                        (last, value) =
                            (value, ((2.0 * j - 1.0) * x * value - (j - 1.0) * last) / j);
                    }
                    slope = n * (x * value - last) / (x * x - 1.0);
                    let step = value / slope;
                    x -= step;
                    if step.abs() < 1e-15 {
                        break;
                    }
                }
                (f64::midpoint(1.0, x), 1.0 / ((1.0 - x * x) * slope * slope))
            })
            .unzip();
        Self { nodes, weights }
    }

    /// Mean and variance of `ln F`, `F ~ F(df, d0)`, with its tails pulled in to their quantiles. Integrated over `F / (1 + F)`.
    fn winsorised_moments(&self, df: f64, d0: f64) -> (f64, f64) {
        let low = f_quantile(Tail::Lower(TAILS.0), df, d0);
        let high = f_quantile(Tail::Upper(TAILS.1), df, d0);
        let (a, b) = (low / (1.0 + low), high / (1.0 + high));
        let points: Vec<(f64, f64)> = self
            .nodes
            .iter()
            .zip(&self.weights)
            .map(|(node, weight)| {
                let u = a + (b - a) * node;
                let f = u / (1.0 - u);
                let density = f_ln_density(f, df, d0).exp() / (1.0 - u).powi(2);
                (f.ln(), (b - a) * weight * density)
            })
            .collect();
        let expectation = |g: &dyn Fn(f64) -> f64| {
            let inner: f64 = points.iter().map(|&(z, w)| w * g(z)).sum();
            inner + TAILS.0 * g(low.ln()) + TAILS.1 * g(high.ln())
        };
        let mean = expectation(&|z| z);
        (mean, expectation(&|z| (z - mean).powi(2)))
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
    use crate::milo::special::trigamma;
    use crate::milo::squeeze::prior;
    use rand_distr::{ChiSquared, Distribution};

    #[test]
    fn quadrature_integrates_polynomials() {
        let q = Integral::new();
        let of = |power: i32| -> f64 {
            q.nodes
                .iter()
                .zip(&q.weights)
                .map(|(x, w)| w * x.powi(power))
                .sum()
        };
        for power in [0, 1, 5, 60, 200] {
            assert!(
                (of(power) - 1.0 / f64::from(power + 1)).abs() < 1e-13,
                "{power}"
            );
        }
    }

    /// Reference: simple sums over 2 million quantiles of `scipy.stats.f`.
    #[test]
    fn winsorised_moments_agree_with_scipy() {
        let q = Integral::new();
        for (df, d0, mean, variance) in SCIPY {
            let (m, v) = q.winsorised_moments(df, d0);
            assert!(
                (m - mean).abs() < 1e-6 && (v - variance).abs() < 1e-6,
                "{m} {mean} {v} {variance}"
            );
        }
        // Winsorising lowers the variance trigamma(df / 2) + trigamma(d0 / 2).
        assert!(q.winsorised_moments(5.0, 10.0).1 < trigamma(2.5) + trigamma(5.0));
    }
    const SCIPY: [(f64, f64, f64, f64); 3] = [
        (
            5.0,
            10.0,
            -0.122_899_790_712_563_85,
            0.524_581_355_396_640_5,
        ),
        (3.0, 4.5, -0.152_429_177_942_878, 1.064_517_902_903_029),
        (
            12.0,
            200.0,
            -0.085_496_193_220_096_15,
            0.145_193_150_657_857_07,
        ),
    ];

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
