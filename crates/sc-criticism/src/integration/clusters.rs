use rayon::prelude::*;
use sc_data::Csr;
use sc_neighbors::{adjusted_rand_index, leiden};

use super::{Agreement, Average, isolated};
use crate::Result;

/// The resolutions that scIB tries: 0.2, 0.4, ..., 2.0.
pub fn scib_resolutions() -> Vec<f64> {
    (1..=10).map(|i| f64::from(i) / 5.0).collect()
}

/// Clusters of the cells, and at which resolution they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// Leiden's resolution.
    pub resolution: f64,
    /// The cluster of each cell.
    pub clusters: Vec<u32>,
}

/// [`sc_neighbors::leiden`] at each resolution, several at a time.
///
/// # Errors
/// As there.
pub fn leiden_sweep(graph: &Csr, resolutions: &[f64], seed: u64) -> Result<Vec<Clustering>> {
    resolutions
        .par_iter()
        .map(|&resolution| {
            Ok(Clustering {
                resolution,
                clusters: leiden(graph, resolution, seed)?,
            })
        })
        .collect()
}

/// How well clusters reproduce labels; see [`best_clustering`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterScores {
    /// Normalised mutual information, arithmetic.
    pub nmi: f64,
    /// Adjusted Rand index.
    pub ari: f64,
    /// The resolution of these clusters.
    pub resolution: f64,
}

/// Scores of the clustering whose normalised mutual information with the labels is highest, the first of equal ones, as
/// scIB does; `None` without clusterings.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless there is a label for each cell.
pub fn best_clustering(sweep: &[Clustering], labels: &[u32]) -> Result<Option<ClusterScores>> {
    let mut best: Option<(f64, &Clustering)> = None;
    for clustering in sweep {
        let nmi = Agreement::new(labels, &clustering.clusters)?.nmi(Average::Arithmetic);
        if best.is_none_or(|(b, _)| nmi > b) {
            best = Some((nmi, clustering));
        }
    }
    best.map(|(nmi, clustering)| {
        Ok(ClusterScores {
            nmi,
            ari: adjusted_rand_index(labels, &clustering.clusters)?,
            resolution: clustering.resolution,
        })
    })
    .transpose()
}

/// How well single clusters find labels that occur in few batches, 0..=1: for each [`isolated`] label the best F1 score of
/// any cluster at any resolution, averaged over these labels; `None` without clusterings.
///
/// # Errors
/// As [`isolated`], and [`Error::Length`](crate::Error::Length) unless there is a label for each cell.
pub fn isolated_f1(
    sweep: &[Clustering],
    labels: &[u32],
    batches: &[u32],
    threshold: Option<usize>,
) -> Result<Option<f64>> {
    let chosen = isolated(labels, batches, threshold)?;
    let mut best = vec![0.0f64; chosen.len()];
    for clustering in sweep {
        let scores = Agreement::new(labels, &clustering.clusters)?.best_f1();
        for (best, label) in best.iter_mut().zip(&chosen) {
            let own = scores.iter().find(|s| s.0 == *label);
            *best = best.max(own.map_or(0.0, |s| s.1));
        }
    }
    let n = best.len() as f64;
    Ok((!sweep.is_empty()).then(|| best.into_iter().sum::<f64>() / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_counts() {
        let at = |resolution, clusters: &[u32]| Clustering {
            resolution,
            clusters: clusters.to_vec(),
        };
        let labels = [0, 0, 0, 1, 1, 2, 2];
        let sweep = [
            at(0.2, &[0, 0, 0, 1, 1, 1, 1]),
            at(0.4, &[0, 0, 0, 1, 1, 2, 2]),
            at(0.6, &[3, 3, 3, 1, 1, 2, 2]),
        ];
        let best = best_clustering(&sweep, &labels).unwrap().unwrap();
        assert_eq!((best.resolution, best.ari), (0.4, 1.0));
        assert!((best.nmi - 1.0).abs() < 1e-12);
        let batches = [0, 1, 0, 0, 1, 1, 1];
        let f1 = |sweep: &[Clustering]| isolated_f1(sweep, &labels, &batches, None).unwrap();
        assert_eq!(f1(&sweep), Some(1.0));
        // One cluster holds labels 1 and 2: precision 1/2, recall 1.
        assert_eq!(f1(&sweep[..1]), Some(2.0 / 3.0));
        assert_eq!(f1(&[]), None);
        assert_eq!(best_clustering(&[], &labels).unwrap(), None);
    }

    #[test]
    fn scibs_resolutions() {
        let r = scib_resolutions();
        assert_eq!((r.len(), r[0], r[9]), (10, 0.2, 2.0));
    }
}
