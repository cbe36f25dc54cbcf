//! Cells that are encoded once and decoded as often as need be.

use candle_core::Tensor;
use rayon::prelude::*;
use sc_model::Mode;

use crate::arrays::{ENCODED_AT_ONCE, to_vec32};
use crate::conditions::Conditions;
use crate::decoded::Decoded;
use crate::elbo::{Noise, draw};
use crate::nets::Posterior;
use crate::{Cells, LibrarySize, Minibatch, Result, Scvi};

/// What the decoder needs of some cells.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) qz: Posterior,
    pub(crate) ql: Option<Posterior>,
    /// The observed log library size, `[N]`, where it is not learned.
    log_library: Option<Tensor>,
    conditions: Conditions,
}

impl Posterior {
    /// The rows in the order given, each as often as it is named.
    pub(crate) fn select(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            mean: self.mean.index_select(rows, 0)?,
            var: self.var.index_select(rows, 0)?,
        })
    }

    fn cat(parts: &[Self]) -> Result<Self> {
        let all =
            |of: fn(&Self) -> &Tensor| Tensor::cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
        Ok(Self {
            mean: all(|p| &p.mean)?,
            var: all(|p| &p.var)?,
        })
    }
}

impl Encoded {
    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.conditions.batch.len()
    }

    /// The cells in the order given, each as often as it is named.
    pub(crate) fn select(&self, rows: &[u32]) -> Result<Self> {
        let index = Tensor::from_slice(rows, rows.len(), self.qz.mean.device())?;
        let pick = |t: &Tensor| t.index_select(&index, 0);
        Ok(Self {
            qz: self.qz.select(&index)?,
            ql: self.ql.as_ref().map(|q| q.select(&index)).transpose()?,
            log_library: self.log_library.as_ref().map(pick).transpose()?,
            conditions: self.conditions.select(rows)?,
        })
    }

    fn cat(mut parts: Vec<Self>) -> Result<Option<Self>> {
        if parts.len() <= 1 {
            return Ok(parts.pop());
        }
        let all = |of: &dyn Fn(&Self) -> Option<Posterior>| -> Result<Option<Posterior>> {
            let found: Vec<Posterior> = parts.iter().filter_map(of).collect();
            (!found.is_empty())
                .then(|| Posterior::cat(&found))
                .transpose()
        };
        let libraries: Vec<&Tensor> = parts
            .iter()
            .filter_map(|p| p.log_library.as_ref())
            .collect();
        let (qz, ql) = (all(&|p| Some(p.qz.clone()))?, all(&|p| p.ql.clone())?);
        let log_library = (!libraries.is_empty())
            .then(|| Tensor::cat(&libraries, 0))
            .transpose()?;
        let conditions: Vec<&Conditions> = parts.iter().map(|p| &p.conditions).collect();
        let conditions = Conditions::cat(&conditions)?;
        Ok(qz.map(|qz| Self {
            qz,
            ql,
            log_library,
            conditions,
        }))
    }
}

impl Scvi {
    /// Encodes a minibatch.
    pub(crate) fn encode_rows(&self, batch: &Minibatch) -> Result<Encoded> {
        let (qz, ql) = self.encode(batch, &Mode::eval())?;
        Ok(Encoded {
            log_library: match &ql {
                Some(_) => None,
                None => Some(self.log_library(batch, None, None)?),
            },
            conditions: Conditions::of(batch, self.dtype(), self.device(), 1)?,
            qz,
            ql,
        })
    }

    /// Encodes cells, some at a time; `None` if there are none.
    pub(crate) fn encode_cells(
        &self,
        cells: &Cells<'_>,
        rows: &[usize],
    ) -> Result<Option<Encoded>> {
        let parts = rows
            .par_chunks(ENCODED_AT_ONCE)
            .map(|rows| self.encode_rows(&cells.minibatch(rows, self.config.log_variational)?))
            .collect::<Result<Vec<_>>>()?;
        Encoded::cat(parts)
    }

    /// Decodes one draw of each cell, as if all were of batch `code` if one is given.
    pub(crate) fn decode_rows(
        &self,
        cells: &Encoded,
        noise: &Noise,
        code: Option<u32>,
    ) -> Result<Decoded> {
        let z = draw(&cells.qz, noise.z.as_ref())?;
        let log_library = match (&cells.ql, &cells.log_library) {
            (Some(ql), _) => draw(ql, noise.library.as_ref())?.flatten_all()?,
            (None, Some(log_library)) => log_library.clone(),
            // Never: one of the two is there by construction.
            (None, None) => Tensor::zeros(cells.len(), self.dtype(), self.device())?,
        };
        let mut conditions = cells.conditions.clone();
        if let Some(code) = code {
            conditions.batch.fill(code);
        }
        self.nets
            .decode(&z, &log_library, &conditions, &Mode::eval())
    }
}

/// Writes expression of decoded rows into an array, or adds it there.
pub(crate) struct Writer<'a> {
    library_size: LibrarySize,
    /// Only these genes.
    genes: Option<&'a [usize]>,
    /// What every number is multiplied by.
    weight: f32,
    scratch: Vec<f32>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(library_size: LibrarySize, genes: Option<&'a [usize]>, weight: f64) -> Self {
        Self {
            library_size,
            genes,
            weight: weight as f32,
            scratch: Vec::new(),
        }
    }

    /// `out = weight * expression`, or `out += weight * expression`; `out` has a row for each decoded one.
    pub(crate) fn write(&mut self, decoded: &Decoded, add: bool, out: &mut [f32]) -> Result<()> {
        let sizes = match self.library_size {
            LibrarySize::Fixed(size) => vec![size as f32 * self.weight],
            LibrarySize::Latent => {
                let mut sizes = to_vec32(&decoded.log_library.exp()?)?;
                sizes.iter_mut().for_each(|s| *s *= self.weight);
                sizes
            }
        };
        if self.genes.is_none() && !add {
            return decoded.write_scale(&sizes, out);
        }
        let (n, g) = decoded.logits.dims()?;
        self.scratch.resize(n * g, 0.0);
        decoded.write_scale(&sizes, &mut self.scratch)?;
        let width = out.len() / n.max(1);
        if width == 0 {
            return Ok(());
        }
        for (to, from) in out.chunks_mut(width).zip(self.scratch.chunks(g.max(1))) {
            let put = |(to, from): (&mut f32, f32)| *to = if add { *to + from } else { from };
            match self.genes {
                // The genes were checked against the model.
                Some(genes) => to
                    .iter_mut()
                    .zip(genes.iter().map(|&g| from[g]))
                    .for_each(put),
                None => to.iter_mut().zip(from.iter().copied()).for_each(put),
            }
        }
        Ok(())
    }
}
