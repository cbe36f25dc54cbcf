use ndarray::ArrayView2;
use sc_neighbors::{connectivities, knn, leiden};
use serde::Serialize;

use crate::{Error, Result};

/// How genes are grouped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgramOptions {
    /// Neighbours of a gene in the graph, itself included, as scanpy counts.
    pub neighbors: usize,
    /// A higher resolution gives more and smaller programs; 40 in scGPT's tutorial, 20 in its code.
    pub resolution: f64,
    /// The fewest genes of a program.
    pub min_genes: usize,
    /// Other seeds may give other programs.
    pub seed: u64,
}

impl Default for ProgramOptions {
    fn default() -> Self {
        Self {
            neighbors: 15,
            resolution: 40.0,
            min_genes: 5,
            seed: 0,
        }
    }
}

/// Genes whose vectors lie close together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The number of its community; the largest is 0.
    pub community: u32,
    /// Its genes, as rows of the vectors, ascending.
    pub genes: Vec<usize>,
}

/// Gene programs: communities (Leiden) of the neighbour graph of gene vectors, `[genes, dimensions]`, with enough genes; the
/// largest first.
///
/// # Errors
/// [`Error::InvalidSetting`] with fewer than two neighbours; [`Error::Neighbors`] if a coordinate is not finite or the
/// resolution is not a number; also with no more genes than neighbours.
pub fn gene_programs(
    vectors: ArrayView2<'_, f32>,
    options: &ProgramOptions,
) -> Result<Vec<Program>> {
    if options.neighbors < 2 {
        return Err(Error::InvalidSetting {
            name: "neighbors",
            value: options.neighbors.to_string(),
            reason: "at least 2 are needed, the gene itself being one; usually 15".into(),
        });
    }
    let graph = connectivities(&knn(vectors, options.neighbors - 1)?)?;
    let communities = leiden(&graph, options.resolution, options.seed)?;
    let n = communities.iter().max().map_or(0, |&m| m as usize + 1);
    let mut programs: Vec<Program> = (0..n as u32)
        .map(|community| Program {
            community,
            genes: Vec::new(),
        })
        .collect();
    for (gene, &community) in communities.iter().enumerate() {
        if let Some(program) = programs.get_mut(community as usize) {
            program.genes.push(gene);
        }
    }
    programs.retain(|p| p.genes.len() >= options.min_genes.max(1));
    Ok(programs)
}
