use sc_data::Csr;
use sc_neighbors::Neighbors;

use crate::codes::{Codes, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// Which cells count as connected in [`graph_connectivity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Connection {
    /// Those with paths in both directions, each step going to a nearest neighbour: scib-metrics.
    #[default]
    Strong,
    /// Those with a path of steps in either direction: scIB and scglue, whose graphs are symmetric.
    Weak,
}

/// How far the cells of each label hang together, 0..=1: the share of a label's cells in the largest connected part of the
/// graph of its cells' nearest neighbours, averaged over labels. The customary 15 neighbours count the cell itself:
/// `k = 14` here.
///
/// # Errors
/// [`Error::Length`] unless there is a label for each cell, [`Error::Undefined`] without cells, [`Error::InvalidParameter`]
/// if a neighbour does not exist.
pub fn graph_connectivity(
    neighbors: &Neighbors,
    labels: &[u32],
    connection: Connection,
) -> Result<f64> {
    let n = neighbors.n_points();
    same_length("the labels", labels.len(), "the neighbours", n)?;
    if let Some(j) = neighbors.indices.iter().find(|&&j| j as usize >= n) {
        return Err(Error::InvalidParameter {
            name: "a neighbour",
            found: j.to_string(),
            expected: format!("the number of one of the {n} cells"),
        });
    }
    let codes = Codes::new(labels);
    // Only steps within a label; neighbours one after the other.
    let mut starts = vec![0];
    let mut steps = Vec::new();
    for (i, near) in neighbors.indices.outer_iter().enumerate() {
        let own = near
            .iter()
            .filter(|&&j| codes.of[j as usize] == codes.of[i]);
        steps.extend(own.map(|&j| j as usize));
        starts.push(steps.len());
    }
    let of = match connection {
        Connection::Strong => strong(&starts, &steps),
        Connection::Weak => weak(&starts, &steps),
    };
    // A part is within one label.
    let mut sizes = vec![0usize; n];
    of.iter().for_each(|&c| sizes[c] += 1);
    let mut largest = vec![0; codes.n()];
    for (&part, &label) in of.iter().zip(&codes.of) {
        let largest: &mut usize = &mut largest[label as usize];
        *largest = sizes[part].max(*largest);
    }
    let shares: Vec<f64> = largest
        .iter()
        .zip(&codes.sizes)
        .map(|(&l, &s)| l as f64 / s as f64)
        .collect();
    mean(&shares).ok_or_else(|| Error::Undefined("there are no cells".into()))
}

/// The connected parts of a symmetric graph.
pub(super) struct Components {
    /// The part of each point.
    pub(super) of: Vec<usize>,
    /// Points of each part.
    pub(super) sizes: Vec<usize>,
}

pub(super) fn components(graph: &Csr) -> Components {
    let steps: Vec<usize> = graph.indices().iter().map(|&j| j as usize).collect();
    let roots = weak(graph.indptr(), &steps);
    let mut number = vec![usize::MAX; roots.len()];
    let mut sizes = Vec::new();
    let of = roots
        .into_iter()
        .map(|root| {
            if number[root] == usize::MAX {
                number[root] = sizes.len();
                sizes.push(0);
            }
            sizes[number[root]] += 1;
            number[root]
        })
        .collect();
    Components { of, sizes }
}

/// For each point a number that it shares with those to which there is a path of steps in either direction.
fn weak(starts: &[usize], steps: &[usize]) -> Vec<usize> {
    let n = starts.len() - 1;
    let mut parent: Vec<usize> = (0..n).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for i in 0..n {
        for &j in &steps[starts[i]..starts[i + 1]] {
            let (a, b) = (root(&mut parent, i), root(&mut parent, j));
            parent[a.max(b)] = a.min(b);
        }
    }
    (0..n).map(|i| root(&mut parent, i)).collect()
}

/// For each point a number that it shares with those to which there are paths in both directions (Tarjan 1972), without
/// recursion.
fn strong(starts: &[usize], steps: &[usize]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let n = starts.len() - 1;
    let (mut order, mut low, mut of) = (vec![NEW; n], vec![0; n], vec![NEW; n]);
    let (mut next, mut parts) = (0, 0);
    let mut open: Vec<usize> = Vec::new();
    // Points on the way, and how many of their steps were taken.
    let mut way: Vec<(usize, usize)> = Vec::new();
    for first in 0..n {
        if order[first] == NEW {
            way.push((first, starts[first]));
        }
        while let Some((i, step)) = way.pop() {
            if order[i] == NEW {
                order[i] = next;
                low[i] = next;
                next += 1;
                open.push(i);
            }
            if step < starts[i + 1] {
                let j = steps[step];
                way.push((i, step + 1));
                if order[j] == NEW {
                    way.push((j, starts[j]));
                } else if of[j] == NEW {
                    low[i] = low[i].min(order[j]);
                }
                continue;
            }
            if low[i] == order[i] {
                while let Some(j) = open.pop() {
                    of[j] = parts;
                    if j == i {
                        break;
                    }
                }
                parts += 1;
            }
            if let Some(&(before, _)) = way.last() {
                low[before] = low[before].min(low[i]);
            }
        }
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn near(indices: Array2<u32>) -> Neighbors {
        Neighbors {
            distances: Array2::ones(indices.dim()),
            indices,
        }
    }

    #[test]
    fn parts_by_hand() {
        // 0 <-> 1 -> 2 -> 3 -> 2; 4 <-> 5, 5 has another label.
        let graph = near(array![[1], [0], [3], [2], [5], [4]]);
        let one = [0; 6];
        let weak = |l: &[u32]| graph_connectivity(&graph, l, Connection::Weak).unwrap();
        let strong = |l: &[u32]| graph_connectivity(&graph, l, Connection::Strong).unwrap();
        assert_eq!((weak(&one), strong(&one)), (2.0 / 6.0, 2.0 / 6.0));
        let chain = near(array![[1], [2], [3], [2]]);
        let of = |c| graph_connectivity(&chain, &[4; 4], c).unwrap();
        assert_eq!((of(Connection::Weak), of(Connection::Strong)), (1.0, 0.5));
        // Label 1 is one cell, label 0 falls into 0, 1; 2, 3; 4.
        assert_eq!(weak(&[0, 0, 0, 0, 0, 1]), f64::midpoint(0.4, 1.0));
        assert!(graph_connectivity(&graph, &[0], Connection::Weak).is_err());
        assert!(graph_connectivity(&near(array![[9]]), &[0], Connection::Weak).is_err());
    }

    /// A long way does not overflow the stack.
    #[test]
    fn a_ring_of_many_points() {
        let n = 300_000u32;
        let ring = near(Array2::from_shape_fn((n as usize, 1), |(i, _)| {
            (i as u32 + 1) % n
        }));
        let labels = vec![0; n as usize];
        assert_eq!(
            graph_connectivity(&ring, &labels, Connection::Strong).unwrap(),
            1.0
        );
    }
}
