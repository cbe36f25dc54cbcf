use leiden_rs::{GraphData, GraphDataBuilder, Leiden, LeidenConfig, QualityType};
use sc_data::Csr;

use crate::{Error, Result};

/// Passes over the whole graph, unless one before brought nothing.
const MAX_PASSES: u64 = 10;
/// The gain in quality below which a pass counts for nothing.
const MIN_GAIN: f64 = 1e-9;

/// Communities of a weighted undirected graph by the Leiden algorithm (Traag, Waltman and van Eck, "From Louvain to
/// Leiden: guaranteeing well-connected communities", Sci Rep 2019): for each point the number of its community, the
/// largest being 0.
///
/// Maximises the modularity `sum_c [e_c / m - resolution (K_c / 2m)^2]`, where `m` is the total weight of the edges, `e_c`
/// that of the edges within community `c` and `K_c` the sum of its points' degrees. A higher resolution gives more
/// communities. The graph is usually that of [`connectivities`](crate::connectivities); its diagonal is ignored.
///
/// The same seed gives the same communities. They need not be those that another implementation finds: many
/// partitions are about equally good.
///
/// # Errors
/// [`Error::InvalidGraph`] if the graph is not square and symmetric or a weight is negative or not finite;
/// [`Error::InvalidParameter`] if the resolution is negative or not finite.
pub fn leiden(graph: &Csr, resolution: f64, seed: u64) -> Result<Vec<u32>> {
    if !(resolution.is_finite() && resolution >= 0.0) {
        return Err(Error::InvalidParameter {
            name: "resolution",
            found: resolution.to_string(),
            expected: "a finite number that is not negative, e.g. 1.0".into(),
        });
    }
    check_graph(graph)?;
    let data = edges(graph)?;
    let run = |pass: u64| {
        Leiden::new(LeidenConfig {
            resolution,
            seed: Some(seed.wrapping_add(pass)),
            quality: QualityType::Modularity,
            ..LeidenConfig::default()
        })
    };
    let failed = |e: leiden_rs::LeidenError| Error::Leiden(e.to_string());
    let mut best = run(0).run(&data).map_err(failed)?;
    // One pass moves points between communities of one hierarchy; starting again from its result finds better ones.
    for pass in 1..MAX_PASSES {
        let next = run(pass)
            .run_with_initial_partition(&data, best.partition.clone())
            .map_err(failed)?;
        let gain = next.quality - best.quality;
        if gain > 0.0 {
            best = next;
        }
        if gain < MIN_GAIN {
            break;
        }
    }
    Ok(by_size(best.partition.as_ref()))
}

/// Refuses graphs that are not square, symmetric and weighted by finite non-negative numbers.
pub(crate) fn check_graph(graph: &Csr) -> Result<()> {
    let reason = if graph.n_rows() != graph.n_cols() {
        format!("is {} x {}", graph.n_rows(), graph.n_cols())
    } else if let Some(w) = graph.data().iter().find(|&&w| !(w.is_finite() && w >= 0.0)) {
        format!("has an edge of weight {w}")
    } else if *graph != graph.transpose() {
        "is not symmetric".into()
    } else {
        return Ok(());
    };
    Err(Error::InvalidGraph { reason })
}

/// Each edge once.
fn edges(graph: &Csr) -> Result<GraphData> {
    let mut builder = GraphDataBuilder::new(graph.n_rows());
    for i in 0..graph.n_rows() {
        let (columns, weights) = graph.row(i);
        for (&j, &w) in columns.iter().zip(weights) {
            if j as usize > i && w > 0.0 {
                builder
                    .add_edge(i, j as usize, f64::from(w))
                    .map_err(|e| Error::Leiden(e.to_string()))?;
            }
        }
    }
    builder.build().map_err(|e| Error::Leiden(e.to_string()))
}

/// Numbers communities by their size, largest first; of equal ones that whose first point comes first.
fn by_size(community: &[usize]) -> Vec<u32> {
    let n = community.iter().max().map_or(0, |m| m + 1);
    let mut size = vec![0usize; n];
    let mut first = vec![usize::MAX; n];
    for (i, &c) in community.iter().enumerate() {
        size[c] += 1;
        first[c] = first[c].min(i);
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&c| (std::cmp::Reverse(size[c]), first[c]));
    let mut rank = vec![0u32; n];
    for (r, &c) in order.iter().enumerate() {
        rank[c] = r as u32;
    }
    community.iter().map(|&c| rank[c]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blobs, with_threads};
    use crate::{adjusted_rand_index, connectivities, knn};

    #[test]
    fn blobs_are_found() {
        let (x, truth) = blobs(600, 5, 6);
        let g = connectivities(&knn(x.view(), 14).unwrap()).unwrap();
        let found = leiden(&g, 0.3, 0).unwrap();
        assert_eq!(adjusted_rand_index(&found, &truth).unwrap(), 1.0);
        let run = |threads| with_threads(threads, || leiden(&g, 2.0, 1).unwrap());
        let fine = run(1);
        assert_eq!(fine, run(3));
        assert!(fine.iter().max() > found.iter().max());
        let mut sizes = vec![0; fine.len()];
        fine.iter().for_each(|&c| sizes[c as usize] += 1);
        assert!(sizes.windows(2).all(|w| w[0] >= w[1]));
    }

    /// Zachary's karate club: the best modularity, 0.4198, is known.
    #[test]
    fn the_karate_club_has_its_known_modularity() {
        let edges: [(usize, &[usize]); 27] = [
            (0, &[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31]),
            (1, &[2, 3, 7, 13, 17, 19, 21, 30]),
            (2, &[3, 7, 8, 9, 13, 27, 28, 32]),
            (3, &[7, 12, 13]),
            (4, &[6, 10]),
            (5, &[6, 10, 16]),
            (6, &[16]),
            (8, &[30, 32, 33]),
            (9, &[33]),
            (13, &[33]),
            (14, &[32, 33]),
            (15, &[32, 33]),
            (18, &[32, 33]),
            (19, &[33]),
            (20, &[32, 33]),
            (22, &[32, 33]),
            (23, &[25, 27, 29, 32, 33]),
            (24, &[25, 27, 31]),
            (25, &[31]),
            (26, &[29, 33]),
            (27, &[33]),
            (28, &[31, 33]),
            (29, &[32, 33]),
            (30, &[32, 33]),
            (31, &[32, 33]),
            (32, &[33]),
            (33, &[]),
        ];
        let mut m = ndarray::Array2::zeros((34, 34));
        for (i, list) in edges {
            for &j in list {
                m[[i, j]] = 1.0f32;
                m[[j, i]] = 1.0;
            }
        }
        assert_eq!(m.sum(), 156.0);
        let c = leiden(&Csr::from_dense(&m), 1.0, 0).unwrap();
        let mut quality = 0.0;
        for i in 0..34 {
            for j in 0..34 {
                if c[i] == c[j] {
                    let expected = m.row(i).sum() * m.row(j).sum() / 156.0;
                    quality += f64::from(m[[i, j]] - expected) / 156.0;
                }
            }
        }
        assert!((quality - 0.4198).abs() < 1e-4, "{quality}");
    }

    /// Points without a path between them are never in one community.
    #[test]
    fn disconnected_parts_stay_apart() {
        let (mut x, part) = blobs(400, 4, 3);
        for (mut row, p) in x.rows_mut().into_iter().zip(&part) {
            row.mapv_inplace(|v| v + 1000.0 * *p as f32);
        }
        let g = connectivities(&knn(x.view(), 9).unwrap()).unwrap();
        let found = leiden(&g, 0.01, 3).unwrap();
        for i in 0..400 {
            for j in 0..i {
                assert!(part[i] == part[j] || found[i] != found[j]);
            }
        }
    }

    #[test]
    fn odd_graphs() {
        assert!(leiden(&Csr::zeros(0, 0), 1.0, 0).unwrap().is_empty());
        assert_eq!(leiden(&Csr::zeros(3, 3), 1.0, 0).unwrap(), vec![0, 1, 2]);
        assert!(leiden(&Csr::zeros(2, 3), 1.0, 0).is_err());
        let asymmetric = Csr::from_dense(&ndarray::array![[0.0, 1.0], [0.0, 0.0]]);
        assert!(leiden(&asymmetric, 1.0, 0).is_err());
        assert!(leiden(&Csr::zeros(3, 3), f64::NAN, 0).is_err());
    }
}
