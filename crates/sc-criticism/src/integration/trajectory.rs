use ndarray::{ArrayView2, Axis};
use sc_neighbors::{Knn, connectivities, diffusion_map};

use super::connectivity::components;
use crate::codes::{Codes, same_length};
use crate::statistics::{mean, spearman};
use crate::{Error, Result};

/// Neighbours that make the graph; scanpy's 15 with the cell itself.
const NEIGHBOURS: usize = 14;
/// Eigenvectors of its random walk; scanpy's number.
const COMPONENTS: usize = 15;

/// How far the order of cells along a trajectory is kept, 0..=1: `(rho + 1) / 2` with Spearman's correlation `rho` of the
/// pseudotime before and after integration; with batches, `rho` within each, averaged. Batches in which a pseudotime does
/// not vary are left out.
///
/// # Errors
/// [`Error::Length`] unless both are of the same cells, [`Error::NotANumber`] if a time is not finite, [`Error::Undefined`] if
/// nothing varies.
pub fn trajectory_conservation(
    before: &[f64],
    after: &[f64],
    batches: Option<&[u32]>,
) -> Result<f64> {
    let n = before.len();
    same_length(
        "the pseudotime after integration",
        after.len(),
        "that before",
        n,
    )?;
    for (what, times) in [("the pseudotime before", before), ("the pseudotime", after)] {
        if let Some((row, &value)) = times.iter().enumerate().find(|(_, t)| !t.is_finite()) {
            return Err(Error::NotANumber {
                what: what.into(),
                row,
                value,
            });
        }
    }
    let rows = match batches {
        None => vec![(0..n).collect()],
        Some(batches) => {
            same_length("the batches", batches.len(), "the pseudotime", n)?;
            Codes::new(batches).rows()
        }
    };
    let each: Vec<f64> = rows
        .iter()
        .filter_map(|rows: &Vec<usize>| {
            let of = |times: &[f64]| rows.iter().map(|&r| times[r]).collect::<Vec<_>>();
            spearman(&of(before), &of(after))
        })
        .collect();
    let rho = mean(&each).ok_or_else(|| Error::Undefined("the pseudotime does not vary".into()))?;
    Ok(f64::midpoint(rho, 1.0))
}

/// [`trajectory_conservation`] of an embedding: its pseudotime is that of [`sc_neighbors::DiffusionMap::pseudotime`] on
/// the graph of the cells that have one before, `before` being NaN for the others, from the cell where that is smallest.
/// Cells without a path to it have time 0, as in scIB.
///
/// # Errors
/// As there and as [`sc_neighbors::diffusion_map`]; [`Error::Undefined`] with too few cells on the trajectory.
pub fn embedding_trajectory(
    points: ArrayView2<'_, f32>,
    before: &[f64],
    batches: Option<&[u32]>,
) -> Result<f64> {
    same_length(
        "the pseudotime",
        before.len(),
        "the embedding",
        points.nrows(),
    )?;
    let rows: Vec<usize> = (0..before.len())
        .filter(|&i| before[i].is_finite())
        .collect();
    if rows.len() < NEIGHBOURS + 2 {
        return Err(Error::Undefined(format!(
            "{} cells have a pseudotime; at least {} are needed",
            rows.len(),
            NEIGHBOURS + 2
        )));
    }
    let part = points.select(Axis(0), &rows);
    let near = Knn::auto(rows.len()).neighbors(part.view(), NEIGHBOURS)?;
    let graph = connectivities(&near)?;
    let before: Vec<f64> = rows.iter().map(|&r| before[r]).collect();
    let root = (0..before.len())
        .min_by(|&a, &b| before[a].total_cmp(&before[b]))
        .unwrap_or_default();
    let parts = components(&graph).of;
    let reached: Vec<usize> = (0..rows.len())
        .filter(|&i| parts[i] == parts[root])
        .collect();
    let columns: Vec<Option<usize>> = reached.iter().map(|&r| Some(r)).collect();
    let own = graph.select_rows(&reached)?.select_columns(&columns)?;
    let start = reached.iter().position(|&i| i == root).unwrap_or_default();
    let times = diffusion_map(&own, COMPONENTS, 1e-9, 0)?.pseudotime(start)?;
    let mut after = vec![0.0; rows.len()];
    for (&i, t) in reached.iter().zip(times) {
        after[i] = t;
    }
    let batches: Option<Vec<u32>> =
        batches.map(|b| rows.iter().filter_map(|&r| b.get(r).copied()).collect());
    trajectory_conservation(&before, &after, batches.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn order_is_what_counts() {
        let before = [0.0, 0.1, 0.5, 0.9];
        let score = |after: &[f64], b| trajectory_conservation(&before, after, b).unwrap();
        assert!((score(&[1.0, 2.0, 3.0, 30.0], None) - 1.0).abs() < 1e-12);
        assert!(score(&[4.0, 3.0, 2.0, 1.0], None).abs() < 1e-12);
        // Kept in one batch, reversed in the other.
        let mixed = score(&[1.0, 2.0, 9.0, 8.0], Some(&[0, 0, 1, 1]));
        assert!((mixed - 0.5).abs() < 1e-12);
        assert!(trajectory_conservation(&before, &[1.0; 4], None).is_err());
        assert!(trajectory_conservation(&before, &[1.0], None).is_err());
        assert!(trajectory_conservation(&[f64::NAN; 4], &before, None).is_err());
    }

    #[test]
    fn a_line_keeps_its_order() {
        let x = Array2::from_shape_fn((300, 2), |(i, j)| {
            let noise = ((i * 31 + j * 17 + i * i) % 97) as f32 / 97.0;
            if j == 0 {
                i as f32 / 5.0 + noise
            } else {
                noise
            }
        });
        let mut time: Vec<f64> = (0..300).map(f64::from).collect();
        time[7] = f64::NAN;
        let score = embedding_trajectory(x.view(), &time, None).unwrap();
        assert!(score > 0.99, "{score}");
        let e = embedding_trajectory(x.view(), &[f64::NAN; 300], None).unwrap_err();
        assert!(e.to_string().starts_with("0 cells have"), "{e}");
    }
}
