use ndarray::{ArrayView1, Axis, Slice};
use rayon::prelude::*;
use sc_data::Csr;
use sc_neighbors::{Neighbors, connectivities, diffusion_map, knn};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::connectivity::{Components, components};
use crate::codes::{Codes, at_least_two, pick, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// Labels with fewer cells are not tested.
const FEWEST_CELLS: usize = 10;
/// Eigenvectors of the diffusion map in which neighbours are sought.
const COMPONENTS: usize = 100;
/// Residuals of these eigenvectors: neighbours do not depend on the last digits.
const TOLERANCE: f64 = 1e-4;
/// The share of a label's cells that must be in parts of the graph that are large enough.
const IN_LARGE_PARTS: f64 = 0.75;

/// The test of each cell's neighbourhood; see [`kbet`].
#[derive(Debug, Clone, PartialEq)]
pub struct Kbet {
    /// The chi-square statistic of each cell.
    pub statistics: Vec<f64>,
    /// The probability of a statistic as large as that, if batches are mixed.
    pub p_values: Vec<f64>,
    /// The share of cells with `p >= alpha`: 1 if batches are mixed everywhere.
    pub acceptance: f64,
}

/// The k-nearest-neighbour batch-effect test (Büttner et al., Nat Methods 2019): for each cell, whether the batches of its
/// neighbours, itself counted, are as frequent as among all cells.
///
/// With `o_b` neighbours in batch `b`, of which a share `f_b` of all cells is, `sum_b (o_b - k f_b)^2 / (k f_b)` is compared
/// with the chi-square distribution of `n_batches - 1` degrees of freedom. scIB's `alpha` is 0.05.
///
/// # Errors
/// [`Error::Length`] unless there is a batch for each cell, [`Error::InvalidParameter`] with fewer than two batches or an
/// `alpha` outside 0..=1.
pub fn kbet(neighbors: &Neighbors, batches: &[u32], alpha: f64) -> Result<Kbet> {
    same_length(
        "the batches",
        batches.len(),
        "the neighbours",
        neighbors.n_points(),
    )?;
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::InvalidParameter {
            name: "alpha",
            found: alpha.to_string(),
            expected: "a probability, usually 0.05".into(),
        });
    }
    let codes = Codes::new(batches);
    at_least_two("the number of batches", codes.n())?;
    let k = (neighbors.k() + 1) as f64;
    let cells = batches.len() as f64;
    let expected: Vec<f64> = codes.sizes.iter().map(|&s| s as f64 / cells * k).collect();
    let chi = ChiSquared::new((codes.n() - 1) as f64)
        .map_err(|e| Error::Undefined(format!("the chi-square distribution: {e}")))?;
    let tests: Vec<(f64, f64)> = (0..batches.len())
        .into_par_iter()
        .map(|i| {
            let statistic = statistic(neighbors.indices.row(i), i, &codes, &expected);
            (statistic, chi.sf(statistic))
        })
        .collect();
    let accepted = tests.iter().filter(|t| t.1 >= alpha).count();
    let (statistics, p_values) = tests.into_iter().unzip();
    Ok(Kbet {
        statistics,
        p_values,
        acceptance: accepted as f64 / cells,
    })
}

fn statistic(near: ArrayView1<'_, u32>, own: usize, codes: &Codes, expected: &[f64]) -> f64 {
    let mut found = vec![0.0; codes.n()];
    found[codes.of[own] as usize] += 1.0;
    for &j in near {
        found[codes.of[j as usize] as usize] += 1.0;
    }
    let terms = found.iter().zip(expected);
    terms.map(|(o, e)| (o - e) * (o - e) / e).sum()
}

/// What [`kbet_per_label`] found for a label.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LabelMixing {
    /// The share of its cells whose neighbourhoods are mixed.
    Acceptance(f64),
    /// Its cells fall into parts without neighbours in each other, too small for a test: 0.
    Fragmented,
    /// It was not tested, and why.
    Untested(&'static str),
}

/// Acceptance of [`kbet`] within each label, averaged over labels, 0..=1; and what was found for each label, by the order
/// of their numbers.
///
/// Neighbours of a cell are sought among the cells with its label, in a [diffusion map](sc_neighbors::diffusion_map) of the
/// graph, which reaches further than its edges: `k0` of them, the cell counted, a quarter of the mean number of cells in a
/// batch, but 10 to 70. Labels with fewer than 10 cells or one batch are left out. A label whose graph falls into several parts is
/// tested on those with at least `3 k0` cells if these hold three quarters of its cells, and scores 0 otherwise.
///
/// scIB and scib-metrics give neighbours of 50, the cell counted: `k = 49` here. Their own search is approximate, so that
/// numbers agree to about two digits.
///
/// # Errors
/// As [`kbet`]; [`Error::Undefined`] if no label can be tested, and as [`sc_neighbors::diffusion_map`].
pub fn kbet_per_label(
    neighbors: &Neighbors,
    labels: &[u32],
    batches: &[u32],
    alpha: f64,
) -> Result<(f64, Vec<LabelMixing>)> {
    kbet_on_graph(&connectivities(neighbors)?, labels, batches, alpha)
}

/// The same on the weighted graph.
pub(super) fn kbet_on_graph(
    graph: &Csr,
    labels: &[u32],
    batches: &[u32],
    alpha: f64,
) -> Result<(f64, Vec<LabelMixing>)> {
    let n = graph.n_rows();
    same_length("the labels", labels.len(), "the neighbours", n)?;
    same_length("the batches", batches.len(), "the neighbours", n)?;
    at_least_two("the number of batches", Codes::new(batches).n())?;
    let each: Vec<LabelMixing> = Codes::new(labels)
        .rows()
        .par_iter()
        .map(|rows| label_mixing(graph, rows, &pick(batches, rows), alpha))
        .collect::<Result<_>>()?;
    let scores: Vec<f64> = each
        .iter()
        .filter_map(|m| match m {
            LabelMixing::Acceptance(a) => Some(*a),
            LabelMixing::Fragmented => Some(0.0),
            LabelMixing::Untested(_) => None,
        })
        .collect();
    let score = mean(&scores).ok_or_else(|| {
        Error::Undefined(format!(
            "no label has {FEWEST_CELLS} cells or more, of several batches"
        ))
    })?;
    Ok((score, each))
}

fn label_mixing(graph: &Csr, rows: &[usize], batches: &[u32], alpha: f64) -> Result<LabelMixing> {
    if rows.len() < FEWEST_CELLS {
        return Ok(LabelMixing::Untested("it has fewer than 10 cells"));
    }
    let n_batches = Codes::new(batches).n();
    if n_batches < 2 {
        return Ok(LabelMixing::Untested("it is in one batch only"));
    }
    let quarter = rows.len() / n_batches / 4;
    let k0 = quarter.clamp(10, 70);
    let own = subgraph(graph, rows)?;
    let Components { of, sizes } = components(&own);
    let (own, batches) = if sizes.len() == 1 {
        (own, batches.to_vec())
    } else {
        let large: Vec<usize> = (0..rows.len())
            .filter(|&i| sizes[of[i]] >= 3 * k0)
            .collect();
        if (large.len() as f64) < IN_LARGE_PARTS * rows.len() as f64 {
            return Ok(LabelMixing::Fragmented);
        }
        (subgraph(&own, &large)?, pick(batches, &large))
    };
    if Codes::new(&batches).n() < 2 {
        return Ok(LabelMixing::Untested(
            "its connected cells are in one batch only",
        ));
    }
    let map = diffusion_map(&own, COMPONENTS, TOLERANCE, 0)?;
    // The first eigenvector says only how dense the points lie.
    let places = map.coordinates();
    let places = places
        .slice_axis(Axis(1), Slice::from(1..))
        .mapv(|v| v as f32);
    let k = (k0 - 1).min(batches.len() - 1);
    let near = knn(places.view(), k)?;
    Ok(LabelMixing::Acceptance(
        kbet(&near, &batches, alpha)?.acceptance,
    ))
}

/// The graph of some points, ascending, with the edges among them.
fn subgraph(graph: &Csr, rows: &[usize]) -> Result<Csr> {
    let columns: Vec<Option<usize>> = rows.iter().map(|&r| Some(r)).collect();
    Ok(graph.select_rows(rows)?.select_columns(&columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};

    fn cloud(n: usize) -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        Array2::from_shape_fn((n, 4), |_| 10.0 * rng.random::<f32>())
    }

    #[test]
    fn mixed_batches_are_accepted_and_separate_ones_are_not() {
        let x = cloud(400);
        let near = knn(x.view(), 49).unwrap();
        let mixed: Vec<u32> = (0..400).map(|i| i % 2).collect();
        let apart: Vec<u32> = x.column(0).iter().map(|&v| u32::from(v > 5.0)).collect();
        let labels = vec![0; 400];
        assert!(kbet(&near, &mixed, 0.05).unwrap().acceptance > 0.9);
        assert!(kbet(&near, &apart, 0.05).unwrap().acceptance < 0.5);
        let (score, each) = kbet_per_label(&near, &labels, &mixed, 0.05).unwrap();
        assert!(score > 0.8 && each.len() == 1, "{score}");
        let (score, _) = kbet_per_label(&near, &labels, &apart, 0.05).unwrap();
        assert!(score < 0.5, "{score}");
    }

    #[test]
    fn labels_that_cannot_be_tested_are_named() {
        let mut x = cloud(400);
        // Label 3 is in many small parts far from each other.
        for i in 0..60 {
            x[[i, 0]] += 1e3 * (1 + i / 12) as f32;
        }
        let near = knn(x.view(), 10).unwrap();
        let labels: Vec<u32> = (0..400)
            .map(|i| if i < 60 { 3 } else { u32::from(i < 65) })
            .collect();
        let batches: Vec<u32> = (0..400).map(|i| i % 2).collect();
        let (_, each) = kbet_per_label(&near, &labels, &batches, 0.05).unwrap();
        assert!(matches!(each[0], LabelMixing::Acceptance(_)), "{each:?}");
        assert!(matches!(each[1], LabelMixing::Untested(_)));
        assert_eq!(each[2], LabelMixing::Fragmented);
        let e = kbet_per_label(&near, &labels, &vec![0; 400], 0.05).unwrap_err();
        assert!(e.to_string().contains("number of batches is 1"), "{e}");
        assert!(kbet(&near, &batches, 2.0).is_err());
        assert!(kbet(&near, &[0], 0.05).is_err());
    }
}
