use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::erf::erfc;

use super::sums::Mean;
use super::{GroupSums, Groups, RankSums};

/// Each gene of a group against the rest.
#[derive(Debug, Clone)]
pub(crate) struct Ranked {
    /// t or z; positive where the group has more.
    pub(crate) score: Vec<f64>,
    /// `log2((exp(m1) - 1 + 1e-9) / (exp(m2) - 1 + 1e-9))` of the means of `ln(1 + x)`.
    pub(crate) lfc: Vec<f64>,
    /// Degrees of freedom of a t-test.
    freedom: Option<Vec<f64>>,
}

/// What keeps fold changes finite, as in scanpy.
const PSEUDO: f64 = 1e-9;

impl Ranked {
    /// All groups: by ranks if there are some, or else by sums.
    pub(crate) fn all(groups: &Groups, sums: &GroupSums, ranks: Option<&RankSums>) -> Vec<Self> {
        let total = sums.total();
        let n_cells = groups.of_cell.len();
        (0..groups.names.len())
            .into_par_iter()
            .map(|k| {
                let n = groups.sizes.get(k).copied().unwrap_or_default();
                let genes = sums.against_rest(k, n, n_cells, &total);
                let lfc = genes.iter().map(|(a, b)| fold_change(a.mean, b.mean));
                let lfc = lfc.collect();
                match ranks {
                    Some(ranks) => Self {
                        score: ranks.scores(k, n, n_cells),
                        lfc,
                        freedom: None,
                    },
                    None => {
                        let (score, freedom) = genes.iter().map(|(a, b)| welch(a, b)).unzip();
                        Self {
                            score,
                            lfc,
                            freedom: Some(freedom),
                        }
                    }
                }
            })
            .collect()
    }

    /// p-values of both sides, adjusted over genes by Benjamini and Hochberg.
    pub(crate) fn adjusted_p(&self) -> Vec<f64> {
        let p: Vec<f64> = match &self.freedom {
            Some(freedom) => self
                .score
                .iter()
                .zip(freedom)
                .map(|(&t, &df)| both_tails(t, df))
                .collect(),
            None => self
                .score
                .iter()
                .map(|z| erfc(z.abs() / std::f64::consts::SQRT_2))
                .collect(),
        };
        benjamini_hochberg(&p)
    }
}

fn fold_change(a: f64, b: f64) -> f64 {
    ((a.exp_m1() + PSEUDO) / (b.exp_m1() + PSEUDO)).log2()
}

/// Welch's t and its degrees of freedom (Satterthwaite). A gene without any variance has 0, as scanpy has it.
fn welch(a: &Mean, b: &Mean) -> (f64, f64) {
    let (va, vb) = (a.variance / a.n, b.variance / b.n);
    let error = va + vb;
    if error > 0.0 {
        let freedom = error * error / (va * va / (a.n - 1.0) + vb * vb / (b.n - 1.0));
        ((a.mean - b.mean) / error.sqrt(), freedom)
    } else {
        (0.0, 1.0)
    }
}

fn both_tails(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |d| 2.0 * d.sf(t.abs()))
}

fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_unstable_by(|&i, &j| p[i].total_cmp(&p[j]));
    let n = p.len() as f64;
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (k, &i) in order.iter().enumerate().rev() {
        least = least.min(p[i] * n / (k + 1) as f64);
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welch_by_hand() {
        let (a, b) = (
            Mean {
                n: 3.0,
                mean: 2.0,
                variance: 1.0,
            },
            Mean {
                n: 4.0,
                mean: 5.0,
                variance: 20.0 / 3.0,
            },
        );
        let (t, freedom) = welch(&a, &b);
        // scipy.stats.ttest_ind([1, 2, 3], [2, 4, 6, 8], equal_var=False)
        assert!((t + 3.0 / 2f64.sqrt()).abs() < 1e-12, "{t}");
        assert!((freedom - 4.0 / (1.0 / 18.0 + 25.0 / 27.0)).abs() < 1e-12);
        assert!((both_tails(t, freedom) - 0.101_353).abs() < 2e-3);
        let none = Mean {
            n: 3.0,
            mean: 0.0,
            variance: 0.0,
        };
        assert_eq!(welch(&none, &none).0, 0.0);
    }

    #[test]
    fn adjusted_p_values_never_fall() {
        let found = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.5]);
        let expected = [0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5];
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-15, "{found:?}");
        }
    }
}
