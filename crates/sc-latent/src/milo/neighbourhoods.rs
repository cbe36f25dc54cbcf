use ndarray::ArrayView2;
use rayon::prelude::*;
use sc_data::Csr;
use sc_neighbors::Neighbors;

use super::refine::{Refinement, refine};
use super::sampling::Sampling;
use crate::{Error, Result};

/// How neighbourhoods are chosen. The default is what milopy and pertpy do, [`NeighbourhoodOptions::milo_r`] what miloR
/// does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NeighbourhoodOptions {
    /// Share of the cells from which neighbourhoods start; about that many remain, as several starts may be refined to
    /// one cell. 0.1 by default; 0.05 is enough for more than 100,000 cells.
    pub proportion: f64,
    /// How many starts the share is: the nearest number (of two the even one), or always the lower one.
    pub round_down: bool,
    /// Where the random starts come from.
    pub sampling: Sampling,
    /// Seed of the random starts.
    pub seed: u64,
    /// How a start is moved to the middle of its neighbours.
    pub refinement: Refinement,
    /// Whether the index cell is a member of its own neighbourhood.
    pub include_index: bool,
}

impl Default for NeighbourhoodOptions {
    fn default() -> Self {
        Self {
            proportion: 0.1,
            round_down: false,
            sampling: Sampling::Stream,
            seed: 0,
            refinement: Refinement::Neighbours,
            include_index: false,
        }
    }
}

impl NeighbourhoodOptions {
    /// The choices of miloR: the share rounded down, refinement to the nearest of all cells, the index cell a member.
    pub fn milo_r() -> Self {
        Self {
            round_down: true,
            refinement: Refinement::AllCells,
            include_index: true,
            ..Self::default()
        }
    }
}

/// Partly overlapping neighbourhoods of cells on a nearest-neighbour graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbourhoods {
    /// Neighbourhoods x cells, ones.
    members: Csr,
    starts: Vec<usize>,
    index_cells: Vec<usize>,
    kth_distance: Vec<f64>,
}

impl Neighbourhoods {
    /// Chooses neighbourhoods in four steps: random start cells; each is moved to the middle of its neighbours
    /// ([`Refinement`]); starts that were moved to the same cell become one; the neighbourhood of such an index cell is all
    /// cells with an edge to it.
    ///
    /// `embedding` is `[cells, dimensions]`, `graph` the cells' [`connectivities`](sc_neighbors::connectivities) (only whether
    /// an edge is there counts), `kth_distance` the distance of each cell to the furthest of its nearest neighbours
    /// ([`kth_distances`]).
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the share is not in 0..=1 or there is no cell; [`Error::Data`] if the numbers of cells
    /// differ; [`Error::Neighbors`] if a coordinate is not finite.
    pub fn new(
        embedding: ArrayView2<'_, f32>,
        graph: &Csr,
        kth_distance: &[f32],
        options: &NeighbourhoodOptions,
    ) -> Result<Self> {
        check(embedding, graph, kth_distance, options)?;
        let n = embedding.nrows();
        let wanted = n as f64 * options.proportion;
        let wanted = if options.round_down {
            wanted.floor()
        } else {
            wanted.round_ties_even()
        };
        let m = (wanted as usize).max(1);
        let starts = options.sampling.draw(n, m, options.seed);
        let mut index_cells = refine(embedding, graph, &starts, options.refinement);
        index_cells.sort_unstable();
        index_cells.dedup();
        let members = members(graph, &index_cells, options.include_index)?;
        Ok(Self {
            members,
            starts,
            kth_distance: index_cells
                .iter()
                .map(|&i| f64::from(kth_distance[i]))
                .collect(),
            index_cells,
        })
    }

    /// Number of neighbourhoods.
    pub fn len(&self) -> usize {
        self.index_cells.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index_cells.is_empty()
    }

    /// Number of cells of the graph.
    pub fn n_cells(&self) -> usize {
        self.members.n_cols()
    }

    /// Who belongs to what, `[neighbourhoods, cells]`: 1 where a cell is a member.
    pub fn members(&self) -> &Csr {
        &self.members
    }

    /// Number of members of each neighbourhood.
    pub fn sizes(&self) -> Vec<usize> {
        self.members
            .indptr()
            .windows(2)
            .map(|w| w[1] - w[0])
            .collect()
    }

    /// The cells that were drawn, ascending.
    pub fn start_cells(&self) -> &[usize] {
        &self.starts
    }

    /// The cell in the middle of each neighbourhood, ascending.
    pub fn index_cells(&self) -> &[usize] {
        &self.index_cells
    }

    /// The distance of each index cell to the furthest of its nearest neighbours.
    pub fn kth_distance(&self) -> &[f64] {
        &self.kth_distance
    }

    /// The graph of neighbourhoods, `[n, n]`: an edge is the number of cells that two of them share. The diagonal is
    /// empty.
    ///
    /// # Errors
    /// None in practice.
    pub fn overlaps(&self) -> Result<Csr> {
        let of_cell = self.members.transpose();
        let n = self.len();
        let rows: Vec<(Vec<u32>, Vec<f32>)> = (0..n)
            .into_par_iter()
            .map_init(
                || vec![0u32; n],
                |shared, j| {
                    let mut touched: Vec<u32> = Vec::new();
                    for &cell in self.members.row(j).0 {
                        for &other in of_cell.row(cell as usize).0 {
                            if shared[other as usize] == 0 {
                                touched.push(other);
                            }
                            shared[other as usize] += 1;
                        }
                    }
                    touched.sort_unstable();
                    let counts: Vec<f32> = touched
                        .iter()
                        .map(|&o| std::mem::take(&mut shared[o as usize]) as f32)
                        .collect();
                    let row = touched.into_iter().zip(counts);
                    row.filter(|(o, _)| *o as usize != j).unzip()
                },
            )
            .collect();
        from_rows(n, rows)
    }
}

/// The distance of each cell to the furthest of its nearest neighbours.
pub fn kth_distances(neighbors: &Neighbors) -> Vec<f32> {
    let furthest = |row: ndarray::ArrayView1<'_, f32>| row.iter().copied().fold(0.0, f32::max);
    neighbors
        .distances
        .rows()
        .into_iter()
        .map(furthest)
        .collect()
}

fn from_rows(n_cols: usize, rows: Vec<(Vec<u32>, Vec<f32>)>) -> Result<Csr> {
    let n_rows = rows.len();
    let mut indptr = vec![0];
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for (columns, values) in rows {
        indices.extend(columns);
        data.extend(values);
        indptr.push(indices.len());
    }
    Ok(Csr::new(n_rows, n_cols, indptr, indices, data)?)
}

fn check(
    embedding: ArrayView2<'_, f32>,
    graph: &Csr,
    kth_distance: &[f32],
    options: &NeighbourhoodOptions,
) -> Result<()> {
    let share = options.proportion;
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::InvalidSetting {
            name: "proportion",
            value: share.to_string(),
            reason: "it is a share of the cells, more than 0 and up to 1; 0.1 is usual".into(),
        });
    }
    let n = embedding.nrows();
    if n == 0 {
        return Err(Error::InvalidSetting {
            name: "the embedding",
            value: "[]".into(),
            reason: "it has no cells".into(),
        });
    }
    let lengths = [
        ("the rows of the graph", graph.n_rows()),
        ("the columns of the graph", graph.n_cols()),
        ("the distances", kth_distance.len()),
    ];
    for (what, found) in lengths {
        same_length(what, found, n)?;
    }
    let bad = embedding.indexed_iter().find(|(_, v)| !v.is_finite());
    match bad {
        Some(((row, column), &value)) => {
            Err(sc_neighbors::Error::InvalidCoordinate { row, column, value }.into())
        }
        None => Ok(()),
    }
}

/// Refuses lengths that differ.
pub(super) fn same_length(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Data(sc_data::Error::LengthMismatch {
        what: what.to_owned(),
        found,
        expected,
    }))
}

/// The cells with an edge to each index cell, and that cell itself if it is to be a member.
fn members(graph: &Csr, index_cells: &[usize], include_index: bool) -> Result<Csr> {
    let rows = index_cells
        .iter()
        .map(|&i| {
            let mut cells: Vec<u32> = edges(graph, i).collect();
            if include_index && let Err(at) = cells.binary_search(&(i as u32)) {
                cells.insert(at, i as u32);
            }
            let ones = vec![1.0; cells.len()];
            (cells, ones)
        })
        .collect();
    from_rows(graph.n_cols(), rows)
}

/// The other ends of the edges of cell `i`, ascending. A loop is no edge.
pub(super) fn edges(graph: &Csr, i: usize) -> impl Iterator<Item = u32> + Clone + '_ {
    let (cells, weights) = graph.row(i);
    let present = cells.iter().zip(weights).filter(|(_, w)| **w != 0.0);
    present.map(|(&c, _)| c).filter(move |&c| c as usize != i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    /// Ten cells on a line, the last far away; each has an edge to the next two.
    fn line() -> (Array2<f32>, Csr, Vec<f32>) {
        let x = Array2::from_shape_fn((10, 1), |(i, _)| if i == 9 { 30.0 } else { i as f32 });
        let mut g = Array2::zeros((10, 10));
        for i in 0..10usize {
            for j in i + 1..10.min(i + 3) {
                g[[i, j]] = 0.5f32;
                g[[j, i]] = 0.5;
            }
        }
        (x, Csr::from_dense(&g), (0..10).map(|i| i as f32).collect())
    }

    #[test]
    fn members_are_the_cells_with_an_edge() {
        let (x, g, d) = line();
        let options = NeighbourhoodOptions {
            proportion: 1.0,
            ..NeighbourhoodOptions::default()
        };
        let n = Neighbourhoods::new(x.view(), &g, &d, &options).unwrap();
        assert_eq!(n.start_cells(), (0..10).collect::<Vec<_>>());
        // The neighbours of cell 0 are 1 and 2, their median is 1.5, and 1 comes first. Those of cell 9 are 7 and 8.
        assert_eq!(n.index_cells()[0], 1);
        assert!(n.index_cells().windows(2).all(|w| w[0] < w[1]));
        for (j, &i) in n.index_cells().iter().enumerate() {
            assert_eq!(n.members().row(j).0, g.row(i).0);
            assert_eq!(n.kth_distance()[j], i as f64);
        }
        let with_index = NeighbourhoodOptions {
            include_index: true,
            ..options.clone()
        };
        let m = Neighbourhoods::new(x.view(), &g, &d, &with_index).unwrap();
        assert_eq!(
            m.sizes(),
            n.sizes().iter().map(|s| s + 1).collect::<Vec<_>>()
        );
    }

    #[test]
    fn overlaps_count_shared_cells() {
        let (x, g, d) = line();
        let options = NeighbourhoodOptions {
            proportion: 1.0,
            refinement: Refinement::None,
            ..NeighbourhoodOptions::default()
        };
        let n = Neighbourhoods::new(x.view(), &g, &d, &options).unwrap();
        let m = n.members().to_dense();
        let mut shared = m.dot(&m.t());
        shared.diag_mut().fill(0.0);
        assert_eq!(n.overlaps().unwrap().to_dense(), shared);
    }

    #[test]
    fn the_number_of_starts() {
        let (x, g, d) = line();
        let starts = |proportion, round_down| {
            let options = NeighbourhoodOptions {
                proportion,
                round_down,
                ..NeighbourhoodOptions::default()
            };
            Neighbourhoods::new(x.view(), &g, &d, &options).map(|n| n.start_cells().len())
        };
        assert_eq!(starts(0.25, false).unwrap(), 2);
        assert_eq!(starts(0.35, false).unwrap(), 4);
        assert_eq!(starts(0.39, true).unwrap(), 3);
        assert_eq!(starts(0.001, true).unwrap(), 1);
        assert!(starts(0.0, false).is_err() && starts(1.1, false).is_err());
        assert!(starts(f64::NAN, false).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let (mut x, g, d) = line();
        let options = NeighbourhoodOptions::default();
        assert!(Neighbourhoods::new(x.view(), &Csr::zeros(9, 9), &d, &options).is_err());
        assert!(Neighbourhoods::new(x.view(), &g, &d[1..], &options).is_err());
        x[[3, 0]] = f32::NAN;
        assert!(Neighbourhoods::new(x.view(), &g, &d, &options).is_err());
        let none = Array2::<f32>::zeros((0, 2));
        assert!(Neighbourhoods::new(none.view(), &Csr::zeros(0, 0), &[], &options).is_err());
        let neighbors = Neighbors {
            indices: array![[1, 2]],
            distances: array![[0.5, 2.0]],
        };
        assert_eq!(kth_distances(&neighbors), [2.0]);
    }
}
