//! Embeddings of features, learned such that linked features lie in one direction.

use candle_core::{DType, Device, Tensor};
use sc_model::layers::Linear;
use sc_model::{Init, Mode, Param, ParamBuilder, Params, build_params};
use sc_tensor::likelihood::kl_standard_normal;
use sc_tensor::ops::{self, SparseInput};
use sc_tensor::rng::Rng;

use super::{EdgeBatch, EdgeNorm, FeatureGraph};
use crate::model::Posterior;
use crate::{Error, Result};

/// GLUE's variational auto-encoder of a graph.
///
/// ```text
/// h_t = sum over edges s -> t of sign * weight / sqrt(degree_t) * r_s       r: a free vector of each feature
/// v ~ N(loc(h), softplus(std(h)))                                           the embedding
/// p(edge s -> t) = sigmoid(sign <v_s, v_t>)
/// ```
#[derive(Debug)]
pub struct GraphVae {
    propagation: SparseInput,
    n_vertices: usize,
    vrepr: Param,
    loc: Linear,
    std: Linear,
}

/// What it minimises; scalars each.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GraphLoss {
    /// `-ln p(edges)`: the mean over edges that are there, and that over edges that are not, halved.
    pub nll: Tensor,
    /// `KL(q(v) || N(0, I))`, summed over dimensions, averaged over vertices, divided by their number.
    pub kl: Tensor,
}

impl GraphLoss {
    /// `nll + weight * kl`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn elbo(&self, kl_weight: f64) -> Result<Tensor> {
        Ok((&self.nll + (&self.kl * kl_weight)?)?)
    }
}

impl GraphVae {
    /// Below `p`, with scglue's names: `vrepr`, `loc`, `std_lin`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] without dimensions, or if the names are taken.
    pub fn new(p: &ParamBuilder<'_>, graph: &FeatureGraph, dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(Error::InvalidSetting {
                name: "dim",
                value: "0".into(),
                reason: "it must be at least 1".into(),
            });
        }
        let propagation = graph.propagation(EdgeNorm::KeepVariance)?;
        Ok(Self {
            propagation: SparseInput::counts(propagation.into()),
            n_vertices: graph.n_vertices(),
            vrepr: p.param("vrepr", (graph.n_vertices(), dim), Init::Const(0.0))?,
            loc: Linear::new(&p.pp("loc"), dim, dim, true)?,
            std: Linear::new(&p.pp("std_lin"), dim, dim, true)?,
        })
    }

    /// On its own, with random weights.
    ///
    /// # Errors
    /// As [`GraphVae::new`].
    pub fn init(
        graph: &FeatureGraph,
        dim: usize,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, Params)> {
        build_params(device, DType::F32, &Rng::new(seed), |p| {
            Self::new(&p.pp("g2v"), graph, dim)
        })
    }

    /// `q(v)`, `[vertices, dim]` each.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn encode(&self, mode: &Mode<'_>) -> Result<Posterior> {
        let h = ops::csr_linear(&self.propagation, self.vrepr.get(mode), None, None)?;
        let loc = self.loc.forward(&h, mode)?;
        let std = (ops::softplus(&self.std.forward(&h, mode)?)? + 1e-7)?;
        Ok(Posterior { loc, std })
    }

    /// The logit of each edge, `[edges]`, for embeddings `[vertices, dim]`.
    ///
    /// # Errors
    /// If an end of an edge is not there.
    pub fn logits(&self, v: &Tensor, edges: &EdgeBatch) -> Result<Tensor> {
        let ends = ops::embedding_ids(v, &edges.source)? * ops::embedding_ids(v, &edges.target)?;
        let sign = Tensor::from_slice(&edges.sign, edges.sign.len(), v.device())?;
        Ok((ends?.sum(1)? * sign.to_dtype(v.dtype())?)?)
    }

    /// The loss of some edges, `noise` being standard normal, `[vertices, dim]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless there are edges of both kinds.
    pub fn loss(
        &self,
        edges: &EdgeBatch,
        noise: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<GraphLoss> {
        let q = self.encode(mode)?;
        let v = match noise {
            Some(noise) => (&q.loc + (&q.std * noise)?)?,
            None => q.loc.clone(),
        };
        let logits = self.logits(&v, edges)?;
        let share = |there: bool| -> Result<f64> {
            let n = edges.is_edge.iter().filter(|&&e| e == there).count();
            match n {
                0 => Err(Error::InvalidSetting {
                    name: "edges",
                    value: if there { "no link" } else { "links only" }.into(),
                    reason: "a minibatch needs links and corrupted links".into(),
                }),
                n => Ok(0.5 / n as f64),
            }
        };
        let (of_edge, of_none) = (share(true)?, share(false)?);
        let column = |f: &dyn Fn(bool) -> f64| -> Result<Tensor> {
            let values: Vec<f64> = edges.is_edge.iter().map(|&e| f(e)).collect();
            let n = values.len();
            Ok(Tensor::from_vec(values, n, v.device())?.to_dtype(v.dtype())?)
        };
        let truth = column(&|e| f64::from(u8::from(e)))?;
        let weights = column(&|e| if e { of_edge } else { of_none })?;
        let entries = (ops::softplus(&logits)? - (truth * &logits)?)?;
        let kl = kl_standard_normal(&q.loc, &q.std.sqr()?)?.mean_all()?;
        Ok(GraphLoss {
            nll: (entries * weights)?.sum_all()?,
            kl: (kl / self.n_vertices.max(1) as f64)?,
        })
    }
}
