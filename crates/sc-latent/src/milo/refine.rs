use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;
use sc_data::Csr;

use super::neighbourhoods::edges;

/// How a randomly drawn cell is moved to the middle of its neighbours, so that neighbourhoods are many cells strong and
/// other draws lead to similar ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refinement {
    /// To the neighbour that is nearest to the median of the neighbours (milopy, pertpy).
    #[default]
    Neighbours,
    /// To the cell of all that is nearest to the median of the neighbours (miloR, `reduced_dim`).
    AllCells,
    /// To the neighbour, or the cell itself, that is part of most triangles among them (miloR, `graph`).
    Triangles,
    /// Not at all.
    None,
}

/// Where each start is moved to. A start without neighbours stays.
pub(super) fn refine(
    embedding: ArrayView2<'_, f32>,
    graph: &Csr,
    starts: &[usize],
    refinement: Refinement,
) -> Vec<usize> {
    starts
        .par_iter()
        .map(|&start| match refinement {
            Refinement::None => start,
            Refinement::Triangles => most_triangles(graph, start),
            Refinement::Neighbours => {
                let near = || edges(graph, start).map(|c| c as usize);
                let middle = median(embedding, near());
                nearest(embedding, &middle, near()).unwrap_or(start)
            }
            Refinement::AllCells => {
                if edges(graph, start).next().is_none() {
                    return start;
                }
                let middle = median(embedding, edges(graph, start).map(|c| c as usize));
                nearest(embedding, &middle, 0..embedding.nrows()).unwrap_or(start)
            }
        })
        .collect()
}

/// The median of each dimension over some cells.
fn median(x: ArrayView2<'_, f32>, cells: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
    x.columns()
        .into_iter()
        .map(|column| {
            let mut values: Vec<f32> = cells.clone().map(|c| column[c]).collect();
            values.sort_unstable_by(f32::total_cmp);
            let n = values.len();
            match (values.get(n / 2), values.get(n.saturating_sub(1) / 2)) {
                (Some(&a), Some(&b)) => f64::midpoint(f64::from(a), f64::from(b)),
                _ => 0.0,
            }
        })
        .collect()
}

/// The cell nearest to a point, of equally near ones the first.
fn nearest(
    x: ArrayView2<'_, f32>,
    point: &[f64],
    cells: impl Iterator<Item = usize>,
) -> Option<usize> {
    let square = |row: ArrayView1<'_, f32>| -> f64 {
        let differences = row.iter().zip(point).map(|(&v, p)| f64::from(v) - p);
        differences.map(|d| d * d).sum()
    };
    let mut best: Option<(f64, usize)> = None;
    for cell in cells {
        let d = square(x.row(cell));
        if best.is_none_or(|(least, _)| d < least) {
            best = Some((d, cell));
        }
    }
    best.map(|(_, cell)| cell)
}

/// The vertex that is part of most triangles of the graph that `start` and its neighbours make; of equals the first.
fn most_triangles(graph: &Csr, start: usize) -> usize {
    let mut inside: Vec<u32> = edges(graph, start).collect();
    if let Err(at) = inside.binary_search(&(start as u32)) {
        inside.insert(at, start as u32);
    }
    let among = |cell: u32| -> Vec<u32> {
        edges(graph, cell as usize)
            .filter(|c| inside.binary_search(c).is_ok())
            .collect()
    };
    let near: Vec<Vec<u32>> = inside.iter().map(|&c| among(c)).collect();
    let mut best = (0, start);
    for (own, &cell) in near.iter().zip(&inside) {
        // Each triangle is met from both of its other corners.
        let triangles: usize = own
            .iter()
            .filter_map(|c| inside.binary_search(c).ok())
            .map(|k| {
                near[k]
                    .iter()
                    .filter(|c| own.binary_search(c).is_ok())
                    .count()
            })
            .sum();
        if triangles > best.0 {
            best = (triangles, cell as usize);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn graph(n: usize, edges: &[(usize, usize)]) -> Csr {
        let mut g = Array2::zeros((n, n));
        for &(i, j) in edges {
            g[[i, j]] = 1.0f32;
            g[[j, i]] = 1.0;
        }
        Csr::from_dense(&g)
    }

    #[test]
    fn starts_move_to_the_median() {
        // Cell 4 is exactly at the median of the neighbours of cell 0, but no neighbour of it.
        let mut x = array![
            [9.0f32, 9.0],
            [0.0, 0.0],
            [1.1, 1.0],
            [2.0, 5.0],
            [1.0, 1.0]
        ];
        let mut edges = vec![(0, 1), (0, 2), (0, 3)];
        // The median is (1.1, 1).
        let g = graph(5, &edges);
        let to = |x: &Array2<f32>, g: &Csr, r| refine(x.view(), g, &[0], r)[0];
        assert_eq!(to(&x, &g, Refinement::Neighbours), 2);
        x[[2, 0]] = 3.0;
        // Median: (2, 1); cell 4 at (1, 1) is as near as cell 2 at (3, 1), which comes first.
        assert_eq!(to(&x, &g, Refinement::AllCells), 2);
        x[[4, 0]] = 2.0;
        assert_eq!(to(&x, &g, Refinement::AllCells), 4);
        assert_eq!(to(&x, &g, Refinement::Neighbours), 2);
        assert_eq!(to(&x, &g, Refinement::None), 0);
        // Cells 1, 2 and 3 all know each other, and 3 also knows 4, which 0 does not.
        edges.extend([(1, 2), (2, 3), (1, 3), (3, 4)]);
        assert_eq!(to(&x, &graph(5, &edges), Refinement::Triangles), 0);
        edges.retain(|&e| e != (1, 3));
        // Triangles 0-1-2 and 0-2-3: cells 0 and 2 are in both. Cell 3 only knows the second.
        let g = graph(5, &edges);
        assert_eq!(refine(x.view(), &g, &[0, 3], Refinement::Triangles), [0, 0]);
    }

    #[test]
    fn a_cell_without_neighbours_stays() {
        let x = Array2::<f32>::zeros((3, 2));
        for r in [
            Refinement::Neighbours,
            Refinement::AllCells,
            Refinement::Triangles,
        ] {
            assert_eq!(refine(x.view(), &Csr::zeros(3, 3), &[1], r), [1]);
        }
    }
}
