use std::collections::BTreeSet;

use sc_tensor::Rng;
use serde::{Deserialize, Serialize};

use crate::tokens::Perturbation;
use crate::{Error, Result};

/// How [`split_by_genes`] holds conditions out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitOptions {
    /// The share of the perturbed genes that training may see.
    pub gene_share: f64,
    /// The share of the combinations of such genes that training sees.
    pub combination_share: f64,
    /// Other seeds give other splits.
    pub seed: u64,
}

impl Default for SplitOptions {
    /// Three quarters of both, as is usual for combinations of two.
    fn default() -> Self {
        Self {
            gene_share: 0.75,
            combination_share: 0.75,
            seed: 0,
        }
    }
}

/// A condition that is held out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldOut {
    /// What was done to its cells.
    pub perturbation: Perturbation,
    /// How many of its genes are perturbed in training, alone or combined with others. The fewer, the harder it is to predict.
    pub seen: usize,
}

/// Conditions to learn from and to be tested by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ConditionSplit {
    /// To learn from.
    pub train: Vec<Perturbation>,
    /// To be tested by.
    pub test: Vec<HeldOut>,
}

/// Splits perturbations so that some genes are never perturbed in training, and some combinations of the others are new: a
/// model has to predict unseen genes, and pairs of which two, one or none were seen (Roohani, Huang and Leskovec, "Predicting
/// transcriptional outcomes of novel multigene perturbations with GEARS", Nat Biotechnol 2024). Controls are in neither part.
///
/// Both parts are in alphabetical order. The draws are not those of GEARS.
///
/// # Errors
/// [`Error::InvalidSetting`] unless shares are between 0 and 1, and a condition is left to learn from.
pub fn split_by_genes(
    conditions: &[Perturbation],
    options: &SplitOptions,
) -> Result<ConditionSplit> {
    for (name, share) in [
        ("gene_share", options.gene_share),
        ("combination_share", options.combination_share),
    ] {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::InvalidSetting {
                name,
                value: share.to_string(),
                reason: "a share is between 0 and 1; usually 0.75".into(),
            });
        }
    }
    let conditions: BTreeSet<&Perturbation> =
        conditions.iter().filter(|c| !c.is_control()).collect();
    let genes: BTreeSet<&str> = conditions
        .iter()
        .flat_map(|c| c.genes().iter().map(String::as_str))
        .collect();
    let rng = Rng::new(options.seed);
    let draw = |name: &str, n: usize, share: f64| -> BTreeSet<usize> {
        let keep = (n as f64 * share).round() as usize;
        let order = rng.stream(name).permutation(n).into_iter();
        order.take(keep).collect()
    };
    let kept = draw("genes", genes.len(), options.gene_share);
    let all = genes.iter().enumerate();
    let seen: BTreeSet<&str> = all
        .filter(|(i, _)| kept.contains(i))
        .map(|(_, g)| *g)
        .collect();
    let count = |c: &Perturbation| {
        c.genes()
            .iter()
            .filter(|g| seen.contains(g.as_str()))
            .count()
    };
    let whole = |c: &Perturbation| count(c) == c.genes().len();
    let combined = |c: &Perturbation| c.genes().len() > 1 && whole(c);
    let combinations: Vec<&Perturbation> =
        conditions.iter().copied().filter(|c| combined(c)).collect();
    let kept = draw(
        "combinations",
        combinations.len(),
        options.combination_share,
    );
    let new = combinations.iter().enumerate();
    let new: BTreeSet<&Perturbation> = new
        .filter(|(i, _)| !kept.contains(i))
        .map(|(_, c)| *c)
        .collect();
    let mut split = ConditionSplit::default();
    for condition in conditions {
        if whole(condition) && !new.contains(condition) {
            split.train.push(condition.clone());
        } else {
            split.test.push(HeldOut {
                seen: 0,
                perturbation: condition.clone(),
            });
        }
    }
    // A gene that training may see need not be there: it may occur in held-out combinations alone.
    let trained: BTreeSet<&String> = split.train.iter().flat_map(Perturbation::genes).collect();
    for held in &mut split.test {
        let genes = held.perturbation.genes().iter();
        held.seen = genes.filter(|g| trained.contains(g)).count();
    }
    if split.train.is_empty() {
        return Err(Error::InvalidSetting {
            name: "gene_share",
            value: options.gene_share.to_string(),
            reason: format!(
                "of {} perturbations none is left to learn from; raise it, or give more conditions",
                split.test.len()
            ),
        });
    }
    Ok(split)
}
