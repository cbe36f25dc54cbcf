//! Minibatches of edges that are there, and of some that are not.

use std::collections::HashSet;

use sc_tensor::Stream;

use super::FeatureGraph;
use crate::{Error, Result};

/// Draws that an edge which should not be there may take; a vertex that is linked to nearly all has few to offer.
const TRIES: usize = 1000;

/// Some edges.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeBatch {
    /// Where each starts.
    pub source: Vec<u32>,
    /// Where each ends.
    pub target: Vec<u32>,
    /// 1 or -1.
    pub sign: Vec<f32>,
    /// Whether it is in the graph.
    pub is_edge: Vec<bool>,
}

impl EdgeBatch {
    /// Number of edges.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    fn push(&mut self, source: u32, target: u32, sign: f64, is_edge: bool) {
        self.source.push(source);
        self.target.push(target);
        self.sign.push(sign as f32);
        self.is_edge.push(is_edge);
    }
}

/// Draws edges by their weights, and for each `negatives` whose target is another vertex, drawn by its degree (Mikolov 2013).
#[derive(Debug)]
pub struct EdgeSampler<'g> {
    graph: &'g FeatureGraph,
    negatives: usize,
    by_weight: Vec<f64>,
    by_degree: Vec<f64>,
    existing: HashSet<(u32, u32, bool)>,
}

impl<'g> EdgeSampler<'g> {
    /// GLUE takes 10 negatives.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the graph has no edge between features, or `negatives` is 0.
    pub fn new(graph: &'g FeatureGraph, negatives: usize) -> Result<Self> {
        let degrees = graph.degrees_without_loops();
        let wrong = |name, value: &str, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value: value.into(),
                reason: reason.into(),
            })
        };
        if negatives == 0 {
            return wrong("negatives", "0", "it must be at least 1");
        }
        if degrees.iter().all(|&d| d == 0.0) {
            return wrong("graph", "no link", "there is no edge between two features");
        }
        let edges = graph.edges();
        Ok(Self {
            graph,
            negatives,
            by_weight: cumulative(edges.iter().map(|e| e.weight)),
            by_degree: cumulative(degrees.into_iter()),
            existing: edges
                .iter()
                .map(|e| (e.source, e.target, e.sign > 0.0))
                .collect(),
        })
    }

    /// How often each edge is drawn, in the order of the graph's edges.
    pub fn edge_probabilities(&self) -> Vec<f64> {
        steps(&self.by_weight)
    }

    /// How often each vertex is drawn as the wrong target of an edge.
    pub fn vertex_probabilities(&self) -> Vec<f64> {
        steps(&self.by_degree)
    }

    /// Links of an epoch: the sum of the weights, rounded.
    pub fn links_per_epoch(&self) -> usize {
        let all = self.by_weight.last().copied().unwrap_or(0.0);
        (all.round() as usize).max(1)
    }

    /// The edges of an epoch, cut into so many minibatches of links with their corruptions.
    pub fn epoch(&self, n_batches: usize, stream: &mut Stream) -> Vec<EdgeBatch> {
        let n = self.links_per_epoch();
        let size = n.div_ceil(n_batches.max(1)).max(1);
        let edges = self.graph.edges();
        let mut out = Vec::with_capacity(n.div_ceil(size));
        let mut batch = EdgeBatch::default();
        for i in 0..n {
            if let Some(e) = edges.get(draw(&self.by_weight, stream)) {
                batch.push(e.source, e.target, e.sign, true);
                for _ in 0..self.negatives {
                    if let Some(target) = self.corrupt(e.source, e.sign, stream) {
                        batch.push(e.source, target, e.sign, false);
                    }
                }
            }
            if (i + 1) % size == 0 || i + 1 == n {
                out.push(std::mem::take(&mut batch));
            }
        }
        out
    }

    /// A target that the source has no such edge to.
    fn corrupt(&self, source: u32, sign: f64, stream: &mut Stream) -> Option<u32> {
        (0..TRIES).find_map(|_| {
            let target = draw(&self.by_degree, stream) as u32;
            let there = self.existing.contains(&(source, target, sign > 0.0));
            (!there).then_some(target)
        })
    }
}

fn cumulative(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    weights
        .map(|w| {
            sum += w;
            sum
        })
        .collect()
}

fn steps(cumulative: &[f64]) -> Vec<f64> {
    let all = cumulative.last().copied().unwrap_or(1.0);
    let before = std::iter::once(&0.0).chain(cumulative);
    cumulative
        .iter()
        .zip(before)
        .map(|(c, b)| (c - b) / all)
        .collect()
}

/// An index by weight.
fn draw(cumulative: &[f64], stream: &mut Stream) -> usize {
    let all = cumulative.last().copied().unwrap_or(0.0);
    let mut u = [0f64];
    stream.fill_uniform(0.0, all, &mut u);
    let at = cumulative.partition_point(|&c| c <= u[0]);
    at.min(cumulative.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_tensor::rng::Rng;

    #[test]
    fn corruptions_are_no_edges() {
        let names: Vec<String> = (0..6).map(|i| format!("v{i}")).collect();
        let links = [
            ("v0", "v1", 1.0, 1.0),
            ("v1", "v2", 0.5, -1.0),
            ("v3", "v4", 1.0, 1.0),
        ];
        let graph = FeatureGraph::new(names, &links).unwrap();
        let sampler = EdgeSampler::new(&graph, 3).unwrap();
        assert_eq!(sampler.links_per_epoch(), 11);
        let mut stream = Rng::new(1).stream("edges");
        let batches = sampler.epoch(4, &mut stream);
        let links: usize = batches
            .iter()
            .map(|b| b.is_edge.iter().filter(|e| **e).count())
            .sum();
        assert_eq!((links, batches.len()), (11, 4));
        for b in &batches {
            for i in 0..b.len() {
                let key = (b.source[i], b.target[i], b.sign[i] > 0.0);
                assert_eq!(sampler.existing.contains(&key), b.is_edge[i]);
                // Vertices without links are never drawn.
                assert!(b.is_edge[i] || b.target[i] != 5);
            }
        }
        let again = sampler.epoch(4, &mut Rng::new(1).stream("edges"));
        assert_eq!(again, batches);
    }

    #[test]
    fn a_graph_without_links_is_refused() {
        let graph = FeatureGraph::new::<&str>(vec!["a".into()], &[]).unwrap();
        assert!(EdgeSampler::new(&graph, 10).is_err());
    }
}
