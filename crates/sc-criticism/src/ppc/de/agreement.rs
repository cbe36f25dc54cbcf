use sc_model::Parity;

use super::{DeOptions, Groups, Ranked};
use crate::ppc::agreement::{pearson, spearman};
use crate::ppc::ranking::{average_precision, roc_auc};

/// How well differential expression of a group against the rest is kept: means over the tested samples.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupAgreement {
    /// The group.
    pub group: String,
    /// Its cells.
    pub n_cells: usize,
    /// Share of the top genes (the highest scores, so those that the group has more of) that raw and generated counts have
    /// in common; their F1, since both lists are as long.
    pub gene_f1: f64,
    /// Mean absolute error of the log2 fold changes.
    pub lfc_mae: f64,
    /// Correlation of the log2 fold changes over all genes.
    pub lfc_pearson: f64,
    /// Correlation of their ranks.
    pub lfc_spearman: f64,
    /// Area under the receiver operating characteristic: how well the size of the score in generated counts finds the genes
    /// that are differentially expressed, either way, in the raw ones. 0.5 is chance.
    ///
    /// scvi-tools orders genes by the score with its sign, so that true genes that the group has less of come last, and
    /// agreement may be far below 0.5; [`Parity::Upstream`] does so.
    pub roc_auc: f64,
    /// Area under the curve of precision and recall (average precision) of the same; chance is [`GroupAgreement::n_true`] over
    /// all genes.
    pub pr_auc: f64,
    /// How many genes are differentially expressed in the raw counts.
    pub n_true: usize,
    /// Of each gene, in the raw counts.
    pub lfc_raw: Vec<f64>,
    /// Of each gene, in the generated ones.
    pub lfc_model: Vec<f64>,
}

/// What is true of a group in the raw counts.
#[derive(Debug)]
pub(crate) struct Truth {
    ranked: Ranked,
    top: Vec<usize>,
    is_true: Vec<bool>,
}

impl Truth {
    pub(crate) fn new(ranked: Ranked, options: &DeOptions) -> Self {
        let n_genes = ranked.score.len();
        let n_top = options.top(n_genes);
        let p = ranked.adjusted_p();
        let mut is_true: Vec<bool> = p.iter().map(|&p| p < options.p_value).collect();
        let called = is_true.iter().filter(|&&t| t).count();
        if called == 0 || 2 * called > n_genes {
            // Among equal p-values the larger score, then the first gene.
            let mut order: Vec<usize> = (0..n_genes).collect();
            let size = |i: usize| ranked.score[i].abs();
            order.sort_by(|&i, &j| p[i].total_cmp(&p[j]).then(size(j).total_cmp(&size(i))));
            is_true.fill(false);
            order.iter().take(n_top).for_each(|&i| is_true[i] = true);
        }
        Self {
            top: top(&ranked.score, n_top),
            is_true,
            ranked,
        }
    }
}

/// The genes with the highest scores, in the order of genes.
fn top(score: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&i, &j| score[j].total_cmp(&score[i]));
    order.truncate(n);
    order.sort_unstable();
    order
}

/// Adds up agreement over samples.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    truths: &'a [Truth],
    parity: Parity,
    sums: Vec<[f64; 6]>,
    lfc: Vec<Vec<f64>>,
    n_samples: usize,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(truths: &'a [Truth], parity: Parity) -> Self {
        let genes = |t: &Truth| vec![0.0; t.is_true.len()];
        Self {
            sums: vec![[0.0; 6]; truths.len()],
            lfc: truths.iter().map(genes).collect(),
            truths,
            parity,
            n_samples: 0,
        }
    }

    /// Adds a sample: all groups.
    pub(crate) fn add(&mut self, sample: &[Ranked]) {
        self.n_samples += 1;
        let own = self.sums.iter_mut().zip(&mut self.lfc);
        for ((sums, lfc), (truth, sample)) in own.zip(self.truths.iter().zip(sample)) {
            let scores = of_sample(truth, sample, self.parity);
            sums.iter_mut().zip(scores).for_each(|(a, b)| *a += b);
            lfc.iter_mut().zip(&sample.lfc).for_each(|(a, b)| *a += b);
        }
    }

    pub(crate) fn finish(self, groups: &Groups) -> Vec<GroupAgreement> {
        let n = self.n_samples as f64;
        let own = self.sums.into_iter().zip(self.lfc).zip(self.truths);
        let named = groups.names.iter().zip(&groups.sizes).zip(own);
        named
            .map(|((group, &n_cells), ((sums, lfc), truth))| {
                let [gene_f1, lfc_mae, lfc_pearson, lfc_spearman, roc_auc, pr_auc] =
                    sums.map(|s| s / n);
                GroupAgreement {
                    group: group.clone(),
                    n_cells,
                    gene_f1,
                    lfc_mae,
                    lfc_pearson,
                    lfc_spearman,
                    roc_auc,
                    pr_auc,
                    n_true: truth.is_true.iter().filter(|&&t| t).count(),
                    lfc_raw: truth.ranked.lfc.clone(),
                    lfc_model: lfc.into_iter().map(|l| l / n).collect(),
                }
            })
            .collect()
    }
}

fn of_sample(truth: &Truth, sample: &Ranked, parity: Parity) -> [f64; 6] {
    let n_top = truth.top.len();
    let found = top(&sample.score, n_top);
    let common = found.iter().filter(|g| truth.top.binary_search(g).is_ok());
    let (a, b) = (&truth.ranked.lfc, &sample.lfc);
    let mae = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
    let score: Vec<f64> = match parity {
        Parity::Upstream => sample.score.clone(),
        Parity::Correct => sample.score.iter().map(|s| s.abs()).collect(),
    };
    [
        common.count() as f64 / n_top as f64,
        mae,
        pearson(a, b),
        spearman(a, b),
        roc_auc(&truth.is_true, &score),
        average_precision(&truth.is_true, &score),
    ]
}
