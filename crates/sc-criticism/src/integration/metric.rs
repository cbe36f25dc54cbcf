use std::collections::BTreeMap;

use super::total;
use crate::statistics::mean;

/// What a metric of integration is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether what tells cells apart was kept.
    Bio,
    /// Whether batches were mixed.
    Batch,
}

/// The metrics that a [`Suite`](super::Suite) computes. All go up to 1, higher being
/// better, and from 0 but for the Rand indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Metric {
    /// [`isolated_asw`](super::isolated_asw).
    IsolatedLabels,
    /// Normalised mutual information of labels and k-means clusters, as many as labels.
    NmiKmeans,
    /// The adjusted Rand index of the same; by chance about 0, and possibly below.
    AriKmeans,
    /// [`asw_label`](super::asw_label).
    SilhouetteLabel,
    /// [`clisi`](super::clisi) with 90 neighbours.
    Clisi,
    /// Normalised mutual information of labels and the Leiden clusters for which it is highest.
    NmiLeiden,
    /// The adjusted Rand index of the same.
    AriLeiden,
    /// [`isolated_f1`](super::isolated_f1) of the same.
    IsolatedF1,
    /// [`mean_average_precision`](crate::matching::mean_average_precision) with a hundredth of the cells.
    MeanAveragePrecision,
    /// [`neighbor_conservation`](crate::matching::neighbor_conservation) with a hundredth of the cells.
    NeighborConservation,
    /// [`cell_cycle_conservation`](super::cell_cycle_conservation).
    CellCycle,
    /// [`embedding_trajectory`](super::embedding_trajectory).
    Trajectory,
    /// [`bras`](super::bras).
    Bras,
    /// [`ilisi`](super::ilisi) with 90 neighbours.
    Ilisi,
    /// [`kbet_per_label`](super::kbet_per_label) with 50 neighbours.
    Kbet,
    /// [`graph_connectivity`](super::graph_connectivity) with 15 neighbours.
    GraphConnectivity,
    /// [`pcr_comparison`](super::pcr_comparison).
    PcrComparison,
    /// [`asw_batch`](super::asw_batch).
    SilhouetteBatch,
    /// [`seurat_alignment_score`](crate::matching::seurat_alignment_score) with a hundredth of the cells.
    SeuratAlignment,
}

impl Metric {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 19] = [
        Self::IsolatedLabels,
        Self::NmiKmeans,
        Self::AriKmeans,
        Self::SilhouetteLabel,
        Self::Clisi,
        Self::NmiLeiden,
        Self::AriLeiden,
        Self::IsolatedF1,
        Self::MeanAveragePrecision,
        Self::NeighborConservation,
        Self::CellCycle,
        Self::Trajectory,
        Self::Bras,
        Self::Ilisi,
        Self::Kbet,
        Self::GraphConnectivity,
        Self::PcrComparison,
        Self::SilhouetteBatch,
        Self::SeuratAlignment,
    ];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IsolatedLabels => "isolated labels",
            Self::NmiKmeans => "NMI (k-means)",
            Self::AriKmeans => "ARI (k-means)",
            Self::SilhouetteLabel => "silhouette (label)",
            Self::Clisi => "cLISI",
            Self::NmiLeiden => "NMI (Leiden)",
            Self::AriLeiden => "ARI (Leiden)",
            Self::IsolatedF1 => "isolated labels (F1)",
            Self::MeanAveragePrecision => "MAP",
            Self::NeighborConservation => "neighbour conservation",
            Self::CellCycle => "cell cycle",
            Self::Trajectory => "trajectory",
            Self::Bras => "BRAS",
            Self::Ilisi => "iLISI",
            Self::Kbet => "kBET",
            Self::GraphConnectivity => "graph connectivity",
            Self::PcrComparison => "PCR comparison",
            Self::SilhouetteBatch => "silhouette (batch)",
            Self::SeuratAlignment => "Seurat alignment",
        }
    }

    /// What it is about.
    pub fn kind(self) -> Kind {
        match self {
            Self::Bras
            | Self::Ilisi
            | Self::Kbet
            | Self::GraphConnectivity
            | Self::PcrComparison
            | Self::SilhouetteBatch
            | Self::SeuratAlignment => Kind::Batch,
            _ => Kind::Bio,
        }
    }
}

/// The metrics of one embedding: each a number, or why there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    pub(super) values: BTreeMap<Metric, Result<f64, String>>,
    pub(super) notes: Vec<String>,
}

impl Scores {
    /// The value of a metric; `None` if it was not asked for or could not be computed.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values.get(&metric)?.as_ref().ok().copied()
    }

    /// Why a metric could not be computed; `None` if it was, or was not asked for.
    pub fn reason(&self, metric: Metric) -> Option<&str> {
        self.values.get(&metric)?.as_ref().err().map(String::as_str)
    }

    /// The metrics that were asked for, in the order of tables.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, Result<f64, &str>)> {
        let each = self.values.iter();
        each.map(|(&m, v)| (m, v.as_ref().copied().map_err(String::as_str)))
    }

    /// What to know about the data when these numbers are read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Metrics joined to one number for biology, one for batches and a total.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Whose: "scIB" (the choice of scib-metrics) or "scGPT" (AvgBIO and AvgBATCH).
    pub name: &'static str,
    /// The mean of the metrics of biology; none without any.
    pub bio: Option<f64>,
    /// The mean of the metrics of batches; none without any.
    pub batch: Option<f64>,
    /// `0.6 bio + 0.4 batch`, if there are both.
    pub total: Option<f64>,
    /// Metrics that belong to it, but that one of the embeddings lacks.
    pub left_out: Vec<Metric>,
}

const RECIPES: [(&str, &[Metric], &[Metric]); 2] = [
    (
        "scIB",
        &[
            Metric::IsolatedLabels,
            Metric::NmiKmeans,
            Metric::AriKmeans,
            Metric::SilhouetteLabel,
            Metric::Clisi,
        ],
        &[
            Metric::Bras,
            Metric::Ilisi,
            Metric::Kbet,
            Metric::GraphConnectivity,
            Metric::PcrComparison,
        ],
    ),
    (
        "scGPT",
        &[
            Metric::NmiLeiden,
            Metric::AriLeiden,
            Metric::SilhouetteLabel,
        ],
        &[Metric::SilhouetteBatch, Metric::GraphConnectivity],
    ),
];

/// The totals of embeddings of the same cells, for each embedding one of scIB and one of scGPT. A metric that one of the
/// embeddings lacks is left out of the totals of all, and named: else they could not be compared.
pub fn aggregates(all: &[Scores]) -> Vec<Vec<Aggregate>> {
    let common = |metrics: &[Metric]| -> (Vec<Metric>, Vec<Metric>) {
        let everywhere = |m: &Metric| all.iter().all(|s| s.get(*m).is_some());
        metrics.iter().copied().partition(everywhere)
    };
    all.iter()
        .map(|scores| {
            RECIPES
                .iter()
                .map(|&(name, bio, batch)| {
                    let ((bio, no_bio), (batch, no_batch)) = (common(bio), common(batch));
                    let join = |metrics: &[Metric]| {
                        let values = metrics.iter().filter_map(|&m| scores.get(m));
                        mean(&values.collect::<Vec<_>>())
                    };
                    let (bio, batch) = (join(&bio), join(&batch));
                    Aggregate {
                        name,
                        bio,
                        batch,
                        total: bio.zip(batch).map(|(a, b)| total(a, b)),
                        left_out: [no_bio, no_batch].concat(),
                    }
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[(Metric, f64)], without: &[Metric]) -> Scores {
        let some = values.iter().map(|&(m, v)| (m, Ok(v)));
        let none = without.iter().map(|&m| (m, Err("no reason".to_owned())));
        Scores {
            values: some.chain(none).collect(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn totals_leave_out_what_one_embedding_lacks() {
        let (ari, nmi) = (Metric::AriLeiden, Metric::NmiLeiden);
        let (asw, gc) = (Metric::SilhouetteLabel, Metric::GraphConnectivity);
        let a = scores(&[(ari, 0.2), (nmi, 0.4), (asw, 0.9), (gc, 1.0)], &[]);
        let b = scores(&[(nmi, 0.5), (asw, 0.7), (gc, 0.5)], &[ari]);
        let all = aggregates(&[a.clone(), b.clone()]);
        assert_eq!(all[0][1].left_out, [ari, Metric::SilhouetteBatch]);
        assert!((all[0][1].bio.unwrap() - 0.65).abs() < 1e-12);
        assert!((all[1][1].total.unwrap() - (0.6 * 0.6 + 0.4 * 0.5)).abs() < 1e-12);
        let alone = aggregates(&[a]);
        assert!((alone[0][1].bio.unwrap() - 0.5).abs() < 1e-12);
        let nothing = aggregates(&[scores(&[(asw, 0.5)], &[])]);
        assert_eq!((nothing[0][0].batch, nothing[0][0].total), (None, None));
        assert_eq!(b.reason(ari), Some("no reason"));
        assert_eq!(b.iter().count(), 4);
    }

    #[test]
    fn every_metric_has_its_place() {
        let mut sorted = Metric::ALL.to_vec();
        sorted.sort();
        assert_eq!(sorted, Metric::ALL);
        let mut names: Vec<&str> = Metric::ALL.iter().map(|m| m.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
