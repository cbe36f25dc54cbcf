//! The model: from tokens to vectors, and from vectors to expression, cell types and batches.

use candle_core::{DType, Device, Tensor};
use ndarray::Array2;
use sc_model::{Mode, Params, Parity};
use sc_tensor::ops::{self, Segments};

use super::config::{CellEmbedding, ScGptConfig};
use super::decoders::{Condition, Predicted};
use super::embed::Table;
use super::input::Input;
use super::layer::{Attend, Unknown};
use super::nets::Nets;
use super::rows::{Distinct, gather, normalise_rows};
use crate::vocab::GeneVocab;
use crate::{Error, Result};

/// scGPT (Cui et al. 2024): a transformer over the genes of a cell.
///
/// Every gene that a cell expresses is a token, the sum of a vector of the gene and a vector of its (binned) value. What the
/// transformer makes of the first token, `<cls>`, stands for the cell.
#[derive(Debug, Clone)]
pub struct ScGpt {
    pub(super) vocab: GeneVocab,
    pub(super) config: ScGptConfig,
    pub(super) params: Params,
    pub(super) nets: Nets,
}

/// How tokens are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading<'a> {
    /// Without the values: a token is its gene.
    pub(super) genes_only: bool,
    /// Replaces the vector of the first token of each cell, `[cells, D]`.
    pub(super) prompt: Option<&'a Tensor>,
    /// Rows behind the keys are genes to generate.
    pub(super) generative: bool,
}

/// What the transformer makes of some cells.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub(super) genes: Table,
    pub(super) hidden: Tensor,
    pub(super) cells: Tensor,
    pub(super) told: Option<Condition>,
    pub(super) cell_of_row: Vec<u32>,
}

impl Encoded {
    /// A vector for each token, `[tokens, D]`.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// A vector for each cell, `[cells, D]`, not normalised.
    pub fn cells(&self) -> &Tensor {
        &self.cells
    }
}

impl ScGpt {
    /// The settings.
    pub fn config(&self) -> &ScGptConfig {
        &self.config
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &GeneVocab {
        &self.vocab
    }

    /// All weights and running statistics.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// Where the model is.
    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// Reads cells: all tokens of a cell attend to each other.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the tokens are not such that this model can read them.
    pub fn encode<'a>(&self, cells: impl Into<Input<'a>>, mode: &Mode<'_>) -> Result<Encoded> {
        self.read(cells.into(), Reading::default(), mode)
    }

    /// Reads cells whose genes behind the keys have no value yet: they attend to the known genes and to themselves, and
    /// nothing attends to them (generative pre-training). `prompt`, `[cells, D]`, stands in for the first token of each cell.
    ///
    /// # Errors
    /// As [`ScGpt::encode`], and if the model was not made for this.
    pub fn encode_generative<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompt: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Encoded> {
        let reading = Reading {
            prompt,
            generative: true,
            ..Reading::default()
        };
        self.read(cells.into(), reading, mode)
    }

    /// The values of genes in cells of which only the vector is known: `prompt`, `[cells, D]`, takes the place of the first
    /// token. Without `values`, the genes are read without those (upstream's `generate`).
    ///
    /// # Errors
    /// As [`ScGpt::encode`].
    pub fn decode_prompt<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompt: &Tensor,
        values: bool,
        mode: &Mode<'_>,
    ) -> Result<Predicted> {
        let reading = Reading {
            prompt: Some(prompt),
            genes_only: !values,
            ..Reading::default()
        };
        self.decode(&self.read(cells.into(), reading, mode)?, mode)
    }

    fn read(&self, cells: Input<'_>, how: Reading<'_>, mode: &Mode<'_>) -> Result<Encoded> {
        cells.check(&self.config, self.needs_batches())?;
        let genes = self.nets.genes.table(&cells.tokens.ids, mode)?;
        let h = self.token_rows(cells, &genes, how, mode)?;
        let unknown = how.generative.then(|| Unknown::new(cells.segments()));
        let to = Attend {
            segments: cells.segments(),
            unknown: unknown.as_ref(),
        };
        let hidden = self.nets.stack.forward(h, &to, mode)?;
        Ok(Encoded {
            genes,
            cells: self.pool(&hidden, cells)?,
            hidden,
            told: self.condition(cells, mode)?,
            cell_of_row: cells.cell_of_row(),
        })
    }

    pub(super) fn needs_batches(&self) -> bool {
        self.config.use_batch_labels || self.nets.token_norm.needs_domains()
    }

    /// What goes into the transformer, `[tokens, D]`.
    pub(super) fn token_rows(
        &self,
        cells: Input<'_>,
        genes: &Table,
        how: Reading<'_>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let rows = genes.expand()?;
        let h = match how {
            Reading {
                genes_only: true, ..
            } => rows,
            Reading {
                generative: true, ..
            } => self.generative_rows(cells, &rows, mode)?,
            _ => self.nets.values.join(&rows, &cells.tokens.values, mode)?,
        };
        let groups = cells.groups(self.nets.token_norm.needs_domains(), how.generative);
        let h = self.nets.token_norm.forward(h, groups, mode)?;
        match how.prompt {
            Some(prompt) => replace_first(&h, prompt, cells.segments()),
            None => Ok(h),
        }
    }

    /// Known genes get the vector of their value, unknown ones the flag.
    fn generative_rows(&self, cells: Input<'_>, genes: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let flag = self.unknown_flag(mode)?;
        let split = Unknown::new(cells.segments());
        let of = |rows: &[u32]| -> Vec<f32> {
            let value = |&r: &u32| cells.tokens.values.get(r as usize).copied().unwrap_or(0.0);
            rows.iter().map(value).collect()
        };
        let values = &self.nets.values;
        let known = values.join(&gather(genes, split.known())?, &of(split.known()), mode)?;
        if split.unknown().is_empty() {
            return Ok(known);
        }
        let unknown = gather(genes, split.unknown())?.broadcast_add(&flag)?;
        split.put_back(&known, &unknown)
    }

    fn unknown_flag(&self, mode: &Mode<'_>) -> Result<Tensor> {
        let flag = self.nets.unknown_flag(mode)?;
        flag.ok_or_else(|| Error::InvalidSetting {
            name: "generative",
            value: "off".into(),
            reason: "the model has no vector that marks a gene as one to generate".into(),
        })
    }

    /// What goes into the transformer for genes that are all unknown, `[tokens, D]`.
    pub(super) fn unknown_rows(&self, cells: Input<'_>, mode: &Mode<'_>) -> Result<Tensor> {
        let genes = self.nets.genes.table(&cells.tokens.ids, mode)?.expand()?;
        let h = genes.broadcast_add(&self.unknown_flag(mode)?)?;
        let groups = cells.groups(self.nets.token_norm.needs_domains(), false);
        self.nets.token_norm.forward(h, groups, mode)
    }

    fn pool(&self, hidden: &Tensor, cells: Input<'_>) -> Result<Tensor> {
        let upstream = self.config.parity == Parity::Upstream;
        let style = self.config.cell_embedding;
        if style == CellEmbedding::Cls {
            return gather(hidden, &cells.starts());
        }
        let mut pooled = Vec::with_capacity(cells.tokens.n_cells());
        for s in cells.segments().iter() {
            let n = if upstream { s.rows } else { s.keys };
            let rows = hidden.narrow(0, s.start, n)?;
            pooled.push(match style {
                CellEmbedding::WPool => {
                    // Padding, `<cls>` and masked genes hold negative values, which are no weights.
                    let weight = |&v: &f32| if upstream { v } else { v.max(0.0) };
                    let values = cells.tokens.values.iter().skip(s.start).take(n);
                    let values: Vec<f32> = values.map(weight).collect();
                    let w = Tensor::from_vec(values, (n, 1), hidden.device())?;
                    ops::sum_rows(&rows.broadcast_mul(&w.to_dtype(hidden.dtype())?)?)?
                }
                _ => (ops::sum_rows(&rows.contiguous()?)? / n as f64)?,
            });
        }
        let pooled = Tensor::stack(&pooled, 0)?;
        match style {
            CellEmbedding::WPool => normalise_rows(&pooled, 1e-12),
            _ => Ok(pooled),
        }
    }

    /// The vectors of batch and modality that the decoders are told: the sum of both, for each token, and for each cell
    /// that of its first token.
    pub(super) fn condition(&self, cells: Input<'_>, mode: &Mode<'_>) -> Result<Option<Condition>> {
        if !self.config.has_condition() {
            return Ok(None);
        }
        let cell_of_row = cells.cell_of_row();
        let batch = |row: usize| -> u32 {
            let cell = cell_of_row.get(row).copied().unwrap_or(0) as usize;
            let given = cells.batches.unwrap_or(&[]);
            given.get(cell).copied().unwrap_or(0)
        };
        let modality = |row: usize| -> u32 {
            let given = cells.tokens.modality.as_deref().unwrap_or(&[]);
            given.get(row).copied().unwrap_or(0)
        };
        let pairs: Vec<(u32, u32)> = (0..cell_of_row.len())
            .map(|row| (batch(row), modality(row)))
            .collect();
        let pairs = Distinct::new(&pairs, |p| p);
        let (b, m): (Vec<u32>, Vec<u32>) = pairs.table.iter().copied().unzip();
        let b = self.nets.batches.as_ref().map(|e| e.forward(&b, mode));
        let m = self.nets.modalities.as_ref().map(|e| e.forward(&m, mode));
        let rows = match (b.transpose()?, m.transpose()?) {
            (Some(b), Some(m)) => (b + m)?,
            (Some(x), None) | (None, Some(x)) => x,
            (None, None) => return Ok(None),
        };
        let starts = cells.starts();
        let of = |&r: &u32| pairs.index.get(r as usize).copied().unwrap_or(0);
        Ok(Some(Condition {
            rows,
            of_cell: starts.iter().map(of).collect(),
            of_token: pairs.index,
        }))
    }

    /// The value of each token, from its row.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn decode(&self, encoded: &Encoded, mode: &Mode<'_>) -> Result<Predicted> {
        let told = encoded.told.as_ref();
        self.nets.decoder.forward(&encoded.hidden, told, mode)
    }

    /// The value of each token, from its gene and the vector of its cell.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no such decoder.
    pub fn decode_from_cells(&self, encoded: &Encoded, mode: &Mode<'_>) -> Result<Predicted> {
        let mvc = have(self.nets.mvc.as_ref(), "mvc")?;
        let with_modality = self.nets.modalities.is_some();
        let told = encoded.told.as_ref().map(|c| (c, with_modality));
        let Encoded {
            genes,
            cells,
            cell_of_row,
            ..
        } = encoded;
        mvc.forward(cells, genes, cell_of_row, told, mode)
    }

    /// Logits of the cell types, `[cells, classes]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no classifier.
    pub fn class_logits(&self, cells: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        have(self.nets.classifier.as_ref(), "classes")?.forward(cells, mode)
    }

    /// Logits of the batches, `[cells, batches]`, from an adversary: its gradient reaches the cells' vectors reversed and
    /// times `lambda` (Ganin & Lempitsky 2015).
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no adversary.
    pub fn batch_logits(&self, cells: &Tensor, lambda: f64, mode: &Mode<'_>) -> Result<Tensor> {
        let adversary = have(self.nets.adversary.as_ref(), "adversary")?;
        adversary.forward(&ops::grad_reverse(cells, lambda)?, mode)
    }

    /// The vectors of genes, as they enter the sum of a token: `[ids, D]`.
    ///
    /// # Errors
    /// If an id is not in the vocabulary.
    pub fn gene_vectors(&self, ids: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        self.nets.genes.forward(ids, mode)
    }

    /// The same as an array, `[ids, D]`: what the functions of [`network`](crate::network) compare.
    ///
    /// # Errors
    /// As [`ScGpt::gene_vectors`].
    pub fn gene_matrix(&self, ids: &[u32]) -> Result<Array2<f32>> {
        let vectors = self.gene_vectors(ids, &Mode::eval())?;
        let values = vectors.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let shape = vectors.dims2()?;
        Ok(Array2::from_shape_vec(shape, values).map_err(candle_core::Error::wrap)?)
    }

    /// The vectors of values, as they enter the sum of a token: `[values, D]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if values are scales in this model.
    pub fn value_vectors(&self, values: &[f32], mode: &Mode<'_>) -> Result<Tensor> {
        let like = Tensor::zeros(1, self.params.dtype(), self.device())?;
        self.nets.values.forward(values, &like, mode)
    }
}

/// A part that a model may lack.
pub(super) fn have<'a, T>(part: Option<&'a T>, name: &'static str) -> Result<&'a T> {
    part.ok_or_else(|| Error::InvalidSetting {
        name,
        value: "none".into(),
        reason: "the model was made without it".into(),
    })
}

/// `rows` with the first row of each cell replaced.
fn replace_first(rows: &Tensor, prompt: &Tensor, segments: &Segments) -> Result<Tensor> {
    let (n, d) = rows.dims2()?;
    if prompt.dims() != [segments.len(), d] {
        return Err(Error::InvalidSetting {
            name: "prompt",
            value: format!("{:?}", prompt.dims()),
            reason: format!("it must have one row a cell, [{}, {d}]", segments.len()),
        });
    }
    let mut from: Vec<u32> = (0..n as u32).collect();
    for (cell, s) in (0u32..).zip(segments.iter()) {
        if let Some(slot) = from.get_mut(s.start) {
            *slot = n as u32 + cell;
        }
    }
    let prompt = prompt.to_dtype(rows.dtype())?;
    gather(&Tensor::cat(&[rows, &prompt], 0)?, &from)
}
