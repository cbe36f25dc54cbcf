//! An embedding seen through its neighbours.

use ndarray::Array2;
use sc_data::{Categorical, Csr};
use sc_neighbors::{
    UmapParams, adjusted_rand_index, connectivities, ilisi, knn, leiden, principal_axes,
    silhouette, umap,
};

/// Neighbours in the graph that UMAP and Leiden work on.
const GRAPH_NEIGHBOURS: usize = 15;
/// Neighbours whose batches are looked at, as scIB does.
const MIXING_NEIGHBOURS: usize = 90;

/// Picture, clusters and scores of an embedding.
#[derive(Debug, Clone)]
pub struct View {
    /// UMAP, `[cells, 2]`.
    pub umap: Array2<f32>,
    /// Leiden clusters "0", "1", ..., the largest first.
    pub clusters: Categorical,
    /// How well batches are mixed ([`ilisi`]).
    pub mixing: f64,
    /// How well cell types are kept apart ([`silhouette`]).
    pub silhouette: f64,
    /// How well the clusters agree with the cell types ([`adjusted_rand_index`]).
    pub agreement: f64,
}

impl View {
    /// Of `points`, `[cells, dimensions]`, and the batch and type of each cell.
    ///
    /// # Errors
    /// If a batch or a type is missing, if there is only one, or if there are fewer than 91 cells.
    pub fn of(
        points: &Array2<f32>,
        batches: &Categorical,
        types: &Categorical,
        seed: u64,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let batches = batches.complete_codes("the batch")?;
        let types = types.complete_codes("the cell type")?;
        let graph = connectivities(&knn(points.view(), GRAPH_NEIGHBOURS)?)?;
        let clusters = leiden(&graph, 1.0, seed)?;
        let start = principal_axes(points.view(), 2)?;
        let params = UmapParams {
            seed,
            ..UmapParams::default()
        };
        let near = knn(points.view(), MIXING_NEIGHBOURS)?;
        Ok(Self {
            umap: umap(&graph, start.view(), &params)?,
            mixing: ilisi(&near, &batches, None)?,
            silhouette: silhouette(points.view(), &types)?,
            agreement: adjusted_rand_index(&clusters, &types)?,
            clusters: numbered(&clusters)?,
        })
    }
}

/// Cluster numbers as labels.
fn numbered(clusters: &[u32]) -> sc_data::Result<Categorical> {
    let n = clusters.iter().max().map_or(0, |m| m + 1);
    let names = (0..n).map(|c| c.to_string()).collect();
    Categorical::new(clusters.iter().map(|&c| Some(c)).collect(), names, false)
}

/// The [`ilisi`] of cells of which every neighbourhood is a random sample of all: below 1 if batches differ in size,
/// `(1 / sum of squared shares - 1) / (batches - 1)`.
pub fn mixing_by_chance(batches: &Categorical) -> f64 {
    let n = batches.len() as f64;
    let shares = batches.counts().into_iter().map(|count| count as f64 / n);
    let effective = 1.0 / shares.map(|s| s * s).sum::<f64>();
    (effective - 1.0) / (batches.categories().len() as f64 - 1.0)
}

/// A UMAP of points, `[points, 2]`, from the graph of so many neighbours by angle.
///
/// # Errors
/// If there are no more points than neighbours, or a coordinate is not finite.
pub fn picture(
    points: &Array2<f32>,
    neighbours: usize,
) -> Result<Array2<f32>, Box<dyn std::error::Error>> {
    let unit = at_unit_length(points.clone());
    let graph = connectivities(&knn(unit.view(), neighbours)?)?;
    let start = principal_axes(unit.view(), 2)?;
    Ok(umap(&graph, start.view(), &UmapParams::default())?)
}

/// Pearson's correlation over all cells: the mean over some pairs of genes, and the mean over all pairs. Genes that are the same
/// everywhere are correlated with none.
pub fn gene_correlation(values: &Csr, pairs: &[(usize, usize)]) -> (f32, f32) {
    let mut genes = values.to_dense().reversed_axes();
    for mut gene in genes.rows_mut() {
        let mean = gene.mean().unwrap_or(0.0);
        gene.mapv_inplace(|v| v - mean);
    }
    let genes = at_unit_length(genes);
    let all = genes.dot(&genes.t());
    let n = all.nrows() as f32;
    let some = pairs.iter().map(|&pair| all[pair]).sum::<f32>() / pairs.len().max(1) as f32;
    (some, (all.sum() - all.diag().sum()) / (n * (n - 1.0)))
}

fn at_unit_length(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.rows_mut() {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row.mapv_inplace(|v| v / length);
        }
    }
    rows
}

/// Spearman's correlation of numbers without ties.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |v: &[f64]| -> Vec<f64> {
        let mut order: Vec<usize> = (0..v.len()).collect();
        order.sort_by(|&i, &j| v[i].total_cmp(&v[j]));
        let mut ranks = vec![0.0; v.len()];
        for (rank, i) in order.into_iter().enumerate() {
            ranks[i] = rank as f64;
        }
        ranks
    };
    let n = a.len().min(b.len()) as f64;
    let squares: f64 = ranks(a)
        .iter()
        .zip(ranks(b))
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_in_two_batches() {
        // The batch says nothing about where a cell lies, the type everything.
        let labels = |f: fn(usize) -> &'static str| {
            Categorical::from_labels(&(0..200).map(f).collect::<Vec<_>>())
        };
        let batches = labels(|i| if i / 2 % 2 == 0 { "a" } else { "b" });
        let types = labels(|i| if i % 2 == 0 { "x" } else { "y" });
        let points = Array2::from_shape_fn((200, 3), |(i, j)| {
            (i * 37 + j * 61 + i * i * (j + 3)) as f32 % 101.0 / 101.0 + 20.0 * (i % 2) as f32
        });
        let view = View::of(&points, &batches, &types, 0).unwrap();
        assert!(view.silhouette > 0.9, "{}", view.silhouette);
        assert!(view.mixing > 0.8, "{}", view.mixing);
        assert!((mixing_by_chance(&batches) - 1.0).abs() < 1e-12);
        assert!(view.agreement > 0.1);
        assert_eq!(view.umap.dim(), (200, 2));
        // One batch three times as large: 1 / (1/16 + 9/16) = 1.6 batches.
        let uneven = labels(|i| if i % 4 == 0 { "a" } else { "b" });
        assert!((mixing_by_chance(&uneven) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn genes_are_correlated() {
        let values = ndarray::array![[1.0, 6.0, 2.0], [2.0, 4.0, 2.0], [3.0, 2.0, 2.0]];
        let values = Csr::from_dense(&values);
        for (pair, expected) in [((0, 1), -1.0), ((1, 0), -1.0), ((0, 2), 0.0)] {
            let (some, all) = gene_correlation(&values, &[pair]);
            assert!((some - expected).abs() < 1e-6, "{pair:?} {some}");
            assert!((all + 1.0 / 3.0).abs() < 1e-6, "{all}");
        }
    }

    #[test]
    fn ranks_are_correlated() {
        let a = [1.0, 2.0, 30.0, 4.0];
        assert!((rank_correlation(&a, &[10.0, 20.0, 40.0, 30.0]) - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&a, &[4.0, 3.0, 1.0, 2.0]) + 1.0).abs() < 1e-12);
    }
}
