//! Expression of genes from the cell's vector (GEPC, upstream's `MVCDecoder`).

use candle_core::Tensor;
use sc_model::layers::Linear;
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::ops;

use super::config::MvcStyle;
use super::decoders::{Condition, Predicted};
use super::embed::Table;
use super::rows::{gather, row_dots};
use crate::Result;

/// Width inside the networks of the two styles that have one.
const HIDDEN: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct MvcDecoder {
    gene2query: Linear,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Bilinear {
        detach: bool,
        w: Linear,
        nonzero: Option<Linear>,
    },
    Network {
        concat: bool,
        fc1: Linear,
        slope: Param,
        fc2: Linear,
    },
}

/// The widths of the two sides of a bilinear form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    /// Of the genes' vectors.
    pub(super) query: usize,
    /// Of the cells' vectors.
    pub(super) cell: usize,
}

impl MvcDecoder {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        style: MvcStyle,
        widths: Widths,
        nonzero: bool,
    ) -> Result<Self> {
        let Widths { query, cell } = widths;
        let linear = |name: &str, n_in, n_out, bias| Linear::new(&p.pp(name), n_in, n_out, bias);
        let network = |concat: bool, n_query: usize, n_in: usize| -> Result<Self> {
            Ok(Self {
                gene2query: linear("gene2query", query, n_query, true)?,
                kind: Kind::Network {
                    concat,
                    fc1: linear("fc1", n_in, HIDDEN, true)?,
                    slope: p
                        .pp("hidden_activation")
                        .param("weight", 1, Init::Const(0.25))?,
                    fc2: linear("fc2", HIDDEN, 1, true)?,
                },
            })
        };
        match style {
            MvcStyle::ConcatQuery => network(true, HIDDEN, cell + HIDDEN),
            MvcStyle::SumQuery => network(false, query, cell),
            MvcStyle::InnerProduct | MvcStyle::InnerProductDetach => Ok(Self {
                gene2query: linear("gene2query", query, query, true)?,
                kind: Kind::Bilinear {
                    detach: style == MvcStyle::InnerProductDetach,
                    w: linear("W", query, cell, false)?,
                    nonzero: nonzero
                        .then(|| linear("W_zero_logit", query, cell, true))
                        .transpose()?,
                },
            }),
        }
    }

    /// Values of all tokens from the vectors of their genes and of their cells, `[cells, D]`.
    ///
    /// `per_token` says whether the condition is part of the genes' side, too (models with modalities).
    pub(super) fn forward(
        &self,
        cells: &Tensor,
        genes: &Table,
        cell_of_row: &[u32],
        told: Option<(&Condition, bool)>,
        mode: &Mode<'_>,
    ) -> Result<Predicted> {
        let cells = match told {
            Some((c, _)) => Tensor::cat(&[cells, &gather(&c.rows, &c.of_cell)?], 1)?,
            None => cells.clone(),
        };
        match &self.kind {
            Kind::Bilinear { detach, w, nonzero } => {
                let query = self.queries(genes, told, *detach, mode)?;
                // (W q) . c = q . (W^T c), where c are few.
                let side = |linear: &Linear| -> Result<Tensor> {
                    let c =
                        ops::linear(&cells, &linear.weight().get(mode).t()?.contiguous()?, None)?;
                    let dots = row_dots(&query, &gather(&c, cell_of_row)?)?;
                    match linear.bias() {
                        Some(b) => {
                            let b = ops::linear(&cells, &b.get(mode).unsqueeze(0)?, None)?;
                            Ok((dots + gather(&b, cell_of_row)?.squeeze(1)?)?)
                        }
                        None => Ok(dots),
                    }
                };
                Ok(Predicted {
                    value: side(w)?,
                    nonzero_logit: nonzero.as_ref().map(side).transpose()?,
                })
            }
            Kind::Network {
                concat,
                fc1,
                slope,
                fc2,
            } => {
                let query = self.queries(genes, told, false, mode)?;
                let cells = gather(&cells, cell_of_row)?;
                let x = match concat {
                    true => Tensor::cat(&[&cells, &query], 1)?,
                    false => (cells + query)?,
                };
                let x = prelu(&fc1.forward(&x, mode)?, slope.get(mode))?;
                Ok(Predicted {
                    value: fc2.forward(&x, mode)?.squeeze(1)?,
                    nonzero_logit: None,
                })
            }
        }
    }

    /// `sigmoid(gene2query(gene))`, computed once for each different gene where the condition is not part of it.
    fn queries(
        &self,
        genes: &Table,
        told: Option<(&Condition, bool)>,
        detach: bool,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let rows = match detach {
            true => genes.rows.detach(),
            false => genes.rows.clone(),
        };
        let query = |x: &Tensor| -> Result<Tensor> {
            Ok(ops::sigmoid(&self.gene2query.forward(x, mode)?)?)
        };
        match told {
            Some((c, true)) => {
                let (g, c) = (gather(&rows, &genes.index)?, gather(&c.rows, &c.of_token)?);
                query(&Tensor::cat(&[g, c], 1)?)
            }
            _ => gather(&query(&rows)?, &genes.index),
        }
    }
}

/// `x` above 0, `slope x` below.
fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let below = ops::relu(&x.neg()?)?;
    Ok((ops::relu(x)? - below.broadcast_mul(slope)?)?)
}
