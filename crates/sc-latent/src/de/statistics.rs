//! What is answered.

/// Of each gene, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Vanilla {
    /// `P(s1 > s2)`.
    pub proba_m1: Vec<f64>,
    /// `1 - proba_m1`.
    pub proba_m2: Vec<f64>,
    /// `ln(proba_m1 + 1e-8) - ln(proba_m2 + 1e-8)`.
    pub bayes_factor: Vec<f64>,
    /// Mean expression in the first population.
    pub scale1: Vec<f64>,
    /// Mean expression in the second.
    pub scale2: Vec<f64>,
}

/// Of each gene, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The probability that the gene changes by `delta` or more.
    pub proba_de: Vec<f64>,
    /// `1 - proba_de`.
    pub proba_not_de: Vec<f64>,
    /// `ln(proba_de + 1e-8) - ln(proba_not_de + 1e-8)`.
    pub bayes_factor: Vec<f64>,
    /// Mean expression in the first population.
    pub scale1: Vec<f64>,
    /// Mean expression in the second.
    pub scale2: Vec<f64>,
    /// What was added to expression before the logarithm.
    pub pseudocounts: f64,
    /// The least log2 fold change that counts.
    pub delta: f64,
    /// Mean of `log2((s1 + c) / (s2 + c))` with `c` a thousandth of the pseudocount; so are the next four.
    pub lfc_mean: Vec<f64>,
    /// Its median.
    pub lfc_median: Vec<f64>,
    /// Its standard deviation (divided by `n`).
    pub lfc_std: Vec<f64>,
    /// Its least value.
    pub lfc_min: Vec<f64>,
    /// Its largest value.
    pub lfc_max: Vec<f64>,
    /// For each level that was asked for the shortest interval with that probability: level, lower and upper ends.
    pub lfc_intervals: Vec<(f64, Vec<f64>, Vec<f64>)>,
}

/// What is known of each gene.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GeneStatistics {
    /// Of [`Mode::Vanilla`](super::Mode::Vanilla).
    Vanilla(Vanilla),
    /// Of [`Mode::Change`](super::Mode::Change).
    Change(Change),
}

impl GeneStatistics {
    /// The same with the genes in another order, or some of them.
    pub(super) fn select(&self, genes: &[usize]) -> Self {
        let pick = |v: &[f64]| genes.iter().map(|&g| v[g]).collect::<Vec<f64>>();
        match self {
            Self::Vanilla(v) => Self::Vanilla(Vanilla {
                proba_m1: pick(&v.proba_m1),
                proba_m2: pick(&v.proba_m2),
                bayes_factor: pick(&v.bayes_factor),
                scale1: pick(&v.scale1),
                scale2: pick(&v.scale2),
            }),
            Self::Change(c) => Self::Change(Change {
                proba_de: pick(&c.proba_de),
                proba_not_de: pick(&c.proba_not_de),
                bayes_factor: pick(&c.bayes_factor),
                scale1: pick(&c.scale1),
                scale2: pick(&c.scale2),
                pseudocounts: c.pseudocounts,
                delta: c.delta,
                lfc_mean: pick(&c.lfc_mean),
                lfc_median: pick(&c.lfc_median),
                lfc_std: pick(&c.lfc_std),
                lfc_min: pick(&c.lfc_min),
                lfc_max: pick(&c.lfc_max),
                lfc_intervals: c
                    .lfc_intervals
                    .iter()
                    .map(|(level, low, high)| (*level, pick(low), pick(high)))
                    .collect(),
            }),
        }
    }

    /// What genes are sorted by, descending.
    pub(super) fn rank_by(&self) -> &[f64] {
        match self {
            Self::Vanilla(v) => &v.bayes_factor,
            Self::Change(c) => &c.proba_de,
        }
    }

    /// What [`Mode::Change`](super::Mode::Change) found.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Change(c) => Some(c),
            Self::Vanilla(_) => None,
        }
    }

    /// What [`Mode::Vanilla`](super::Mode::Vanilla) found.
    pub fn vanilla(&self) -> Option<&Vanilla> {
        match self {
            Self::Vanilla(v) => Some(v),
            Self::Change(_) => None,
        }
    }
}
