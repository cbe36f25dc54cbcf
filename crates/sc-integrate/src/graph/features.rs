use indexmap::IndexMap;
use sc_data::Csr;

use crate::{Error, Result};

/// What is known to link two features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// Number of the vertex it starts at.
    pub source: u32,
    /// Number of the vertex it ends at.
    pub target: u32,
    /// How sure it is, above 0 and up to 1.
    pub weight: f64,
    /// 1 where features rise together, -1 where one falls.
    pub sign: f64,
}

/// How the weights of edges are normalised before they carry vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EdgeNorm {
    /// By the degree of the target: a mean.
    In,
    /// By the degree of the source.
    Out,
    /// By the root of both.
    Sym,
    /// By the root of the degree of the target, which keeps variances: GLUE.
    #[default]
    KeepVariance,
}

/// A graph of features of all modalities. Every edge goes both ways, and every vertex has a loop to itself.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureGraph {
    vertices: Vec<String>,
    edges: Vec<Edge>,
}

impl FeatureGraph {
    /// From the names of the features and links between them, `(one, other, weight, sign)`. Each link makes an edge in both
    /// directions; loops of weight 1 are added.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a feature is not there, [`Error::InvalidSetting`] if one occurs twice, a weight is not above 0 and at
    /// most 1, or a sign is neither 1 nor -1.
    pub fn new<S: AsRef<str>>(vertices: Vec<String>, links: &[(S, S, f64, f64)]) -> Result<Self> {
        let mut number = IndexMap::new();
        for (i, v) in vertices.iter().enumerate() {
            if number.insert(v.as_str(), i as u32).is_some() {
                return Err(Error::InvalidSetting {
                    name: "vertices",
                    value: v.clone(),
                    reason:
                        "it occurs twice; features of different modalities need different names"
                            .into(),
                });
            }
        }
        let find = |name: &str| {
            let found = number.get(name).copied();
            found.ok_or_else(|| Error::not_found("feature", name, number.keys().copied()))
        };
        let mut edges = Vec::with_capacity(2 * links.len() + vertices.len());
        for (a, b, weight, sign) in links {
            let (a, b) = (find(a.as_ref())?, find(b.as_ref())?);
            if a == b {
                continue;
            }
            for (source, target) in [(a, b), (b, a)] {
                edges.push(Edge {
                    source,
                    target,
                    weight: *weight,
                    sign: *sign,
                });
            }
        }
        for v in 0..vertices.len() as u32 {
            edges.push(Edge {
                source: v,
                target: v,
                weight: 1.0,
                sign: 1.0,
            });
        }
        drop(number);
        Self::from_edges(vertices, edges)
    }

    /// From edges as they are, loops included.
    ///
    /// # Errors
    /// [`sc_data::Error::OutOfRange`] if an end is not there, [`Error::InvalidSetting`] for an impossible weight or sign.
    pub fn from_edges(vertices: Vec<String>, edges: Vec<Edge>) -> Result<Self> {
        for e in &edges {
            if let Some(&v) = [e.source, e.target]
                .iter()
                .find(|&&v| v as usize >= vertices.len())
            {
                return Err(sc_data::Error::OutOfRange {
                    what: "vertex",
                    index: v as usize,
                    len: vertices.len(),
                }
                .into());
            }
            let wrong = |name, value: f64, reason: &str| {
                Err(Error::InvalidSetting {
                    name,
                    value: value.to_string(),
                    reason: reason.into(),
                })
            };
            if !(e.weight > 0.0 && e.weight <= 1.0) {
                return wrong("weight", e.weight, "it must be above 0 and at most 1");
            }
            if e.sign.abs() != 1.0 {
                return wrong("sign", e.sign, "it must be 1 or -1");
            }
        }
        Ok(Self { vertices, edges })
    }

    /// The names of the vertices.
    pub fn vertices(&self) -> &[String] {
        &self.vertices
    }

    /// Number of vertices.
    pub fn n_vertices(&self) -> usize {
        self.vertices.len()
    }

    /// The edges, both directions and loops included.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The sum of the weights of the edges that end at each vertex.
    pub fn in_degrees(&self) -> Vec<f64> {
        self.degrees(|e, d| d[e.target as usize] += e.weight)
    }

    /// The sum of the weights of the edges that start at each vertex.
    pub fn out_degrees(&self) -> Vec<f64> {
        self.degrees(|e, d| d[e.source as usize] += e.weight)
    }

    /// The sum of the weights of the edges at each vertex in either direction; a loop counts once.
    pub fn degrees_both(&self) -> Vec<f64> {
        self.degrees(|e, d| {
            d[e.source as usize] += e.weight;
            if e.source != e.target {
                d[e.target as usize] += e.weight;
            }
        })
    }

    /// The same without loops.
    pub(super) fn degrees_without_loops(&self) -> Vec<f64> {
        self.degrees(|e, d| {
            if e.source != e.target {
                d[e.source as usize] += e.weight;
                d[e.target as usize] += e.weight;
            }
        })
    }

    fn degrees(&self, count: impl Fn(&Edge, &mut [f64])) -> Vec<f64> {
        let mut d = vec![0.0; self.n_vertices()];
        self.edges.iter().for_each(|e| count(e, &mut d));
        d
    }

    /// Normalised weights, in the order of the edges.
    pub fn normalized(&self, norm: EdgeNorm) -> Vec<f64> {
        let (into, out) = (self.in_degrees(), self.out_degrees());
        let of = |e: &Edge| {
            let (i, o) = (into[e.target as usize], out[e.source as usize]);
            let by = match norm {
                EdgeNorm::In => i,
                EdgeNorm::Out => o,
                EdgeNorm::Sym => (i * o).sqrt(),
                EdgeNorm::KeepVariance => i.sqrt(),
            };
            if by > 0.0 { e.weight / by } else { 0.0 }
        };
        self.edges.iter().map(of).collect()
    }

    /// The matrix that carries vectors along the edges, `[targets, sources]`: sign times normalised weight.
    pub(super) fn propagation(&self, norm: EdgeNorm) -> Result<Csr> {
        let n = self.n_vertices();
        let mut rows = vec![Vec::new(); n];
        for (e, w) in self.edges.iter().zip(self.normalized(norm)) {
            rows[e.target as usize].push((e.source, (e.sign * w) as f32));
        }
        let mut indptr = vec![0];
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for row in rows {
            indices.extend(row.iter().map(|e: &(u32, f32)| e.0));
            values.extend(row.iter().map(|e| e.1));
            indptr.push(indices.len());
        }
        Ok(Csr::new(n, n, indptr, indices, values)?)
    }
}
