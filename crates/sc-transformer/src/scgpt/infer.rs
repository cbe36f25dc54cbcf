//! Embedding and classifying many cells.

use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_data::RowSource;
use sc_model::{Classify, Embed, Mode, Probabilities};
use sc_tensor::ops;

use super::config::{CellEmbedding, NormPlacement, ensure};
use super::input::Input;
use super::layer::{Attend, Layer};
use super::model::{Reading, ScGpt};
use super::rows::{gather, normalise_rows};
use crate::Result;
use crate::tokens::{BatchLimits, TokenBatch, Tokenizer, scatter};

/// Cells in a file or in memory, and how they become tokens.
#[derive(Clone, Copy)]
pub struct CellSource<'a> {
    /// The expression, raw or normalised: binning makes no difference between them.
    pub rows: &'a dyn RowSource,
    /// From expression to tokens.
    pub tokenizer: &'a Tokenizer,
    /// The batch of each cell, for models that are told.
    pub batches: Option<&'a [u32]>,
    /// How large minibatches are. Results do not depend on it.
    pub limits: BatchLimits,
}

impl<'a> CellSource<'a> {
    /// Cells whose batch is not known.
    pub fn new(rows: &'a dyn RowSource, tokenizer: &'a Tokenizer) -> Self {
        Self {
            rows,
            tokenizer,
            batches: None,
            limits: BatchLimits::default(),
        }
    }

    /// The batch of some cells.
    pub(super) fn batches_of(&self, cells: &[usize]) -> Result<Option<Vec<u32>>> {
        let Some(all) = self.batches else {
            return Ok(None);
        };
        let n = self.rows.n_rows();
        let reason = format_args!("there are {n} cells");
        ensure(all.len() == n, "batches", all.len(), reason)?;
        let of = cells.iter().filter_map(|&c| all.get(c).copied());
        Ok(Some(of.collect()))
    }
}

impl ScGpt {
    /// The vectors of cells, `[cells, D]`, not normalised, and no more work than they need: of the last layer only what the
    /// first token of each cell asks for. The same as [`ScGpt::encode`] gives, up to rounding.
    ///
    /// # Errors
    /// As [`ScGpt::encode`].
    pub fn cell_vectors<'a>(&self, cells: impl Into<Input<'a>>) -> Result<Tensor> {
        let (input, mode) = (cells.into(), Mode::eval());
        let stack = &self.nets.stack;
        let (CellEmbedding::Cls, Some((last, first))) =
            (self.config.cell_embedding, stack.layers.split_last())
        else {
            return Ok(self.encode(input, &mode)?.cells);
        };
        input.check(&self.config, self.needs_batches())?;
        let genes = self.nets.genes.table(&input.tokens.ids, &mode)?;
        let mut h = self.token_rows(input, &genes, Reading::default(), &mode)?;
        let to = Attend {
            segments: input.segments(),
            unknown: None,
        };
        for layer in first {
            h = layer.forward(&h, &to, &mode)?;
        }
        let h = last.forward_first(&h, input, &mode)?;
        stack.last_norm(h, &mode)
    }

    /// Zero-shot embedding: the vectors of all cells at length 1, `[cells, D]`.
    ///
    /// # Errors
    /// As [`ScGpt::encode`], and if the cells cannot be read.
    pub fn embed_cells(&self, cells: &CellSource<'_>) -> Result<Array2<f32>> {
        let mut all = Array2::zeros((cells.rows.n_rows(), self.config.d_model));
        self.for_batches(cells, &mut all, |v| normalise_rows(v, 1e-12))?;
        Ok(all)
    }

    /// Logits of the cell types of all cells, `[cells, classes]`.
    ///
    /// # Errors
    /// As [`ScGpt::embed_cells`], and if the model has no classifier.
    pub fn class_logits_of(&self, cells: &CellSource<'_>) -> Result<Array2<f32>> {
        let mut all = Array2::zeros((cells.rows.n_rows(), self.config.classes.len()));
        self.for_batches(cells, &mut all, |v| self.class_logits(v, &Mode::eval()))?;
        Ok(all)
    }

    fn for_batches(
        &self,
        cells: &CellSource<'_>,
        all: &mut Array2<f32>,
        last: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        for batch in cells.tokenizer.batches(cells.rows, cells.limits, 0)? {
            let batch: TokenBatch = batch?;
            let batches = cells.batches_of(&batch.cells)?;
            let input = Input {
                tokens: &batch,
                batches: batches.as_deref(),
            };
            let result = last(&self.cell_vectors(input)?)?.to_dtype(DType::F32)?;
            let shape = result.dims2()?;
            let result = Array2::from_shape_vec(shape, result.flatten_all()?.to_vec1()?)
                .map_err(candle_core::Error::wrap)?;
            scatter(&batch.cells, result.view(), all)?;
        }
        Ok(())
    }
}

impl Layer {
    /// [`Layer::forward`] for the first row of each cell alone, `[cells, D]`; keys and values of all rows.
    fn forward_first(&self, h: &Tensor, input: Input<'_>, mode: &Mode<'_>) -> Result<Tensor> {
        let normed = match self.placement {
            NormPlacement::Post => h.clone(),
            NormPlacement::Pre | NormPlacement::UpstreamPre => self.norm1.forward(h, mode)?,
        };
        let starts = input.starts();
        let (d, weight) = (h.dim(1)?, self.wqkv.weight().get(mode));
        let part = |x: &Tensor, from: usize, len: usize| -> Result<Tensor> {
            let w = weight.narrow(0, from, len)?.contiguous()?;
            let b = match self.wqkv.bias() {
                Some(b) => Some(b.get(mode).narrow(0, from, len)?.contiguous()?),
                None => None,
            };
            Ok(ops::linear(x, &w, b.as_ref())?)
        };
        let q = part(&gather(&normed, &starts)?, 0, d)?;
        let kv = part(&normed, d, 2 * d)?;
        let context = ops::attention_first(&q, &kv, self.heads, input.segments())?;
        let attended = self.out_proj.forward(&context, mode)?;
        self.around(&gather(h, &starts)?, mode, |_| Ok(attended))
    }
}

impl Embed<CellSource<'_>> for ScGpt {
    type Error = crate::Error;

    fn n_latent(&self) -> usize {
        self.config.d_model
    }

    fn embed(&self, cells: &CellSource<'_>) -> Result<Array2<f32>> {
        self.embed_cells(cells)
    }
}

impl Classify<CellSource<'_>> for ScGpt {
    type Error = crate::Error;

    fn classify(&self, cells: &CellSource<'_>) -> Result<Probabilities> {
        let logits = self.class_logits_of(cells)?;
        let (n, k) = logits.dim();
        let t = Tensor::from_vec(
            logits.into_iter().collect(),
            (n, k),
            &candle_core::Device::Cpu,
        )?;
        let p: Vec<f32> = ops::softmax(&t)?.flatten_all()?.to_vec1()?;
        Ok(Probabilities {
            labels: self.config.classes.clone(),
            values: Array2::from_shape_vec((n, k), p).map_err(candle_core::Error::wrap)?,
        })
    }
}

/// The label of each cell, or `None` where even the most likely one has less than `threshold`: a cell type that the
/// classifier may not have seen.
///
/// # Errors
/// [`Error::InvalidSetting`](crate::Error::InvalidSetting) unless the threshold is a probability.
pub fn labels_or_novel(p: &Probabilities, threshold: f32) -> Result<Vec<Option<&str>>> {
    let fine = (0.0..=1.0).contains(&threshold);
    ensure(
        fine,
        "threshold",
        threshold,
        "it must be a probability, from 0 to 1",
    )?;
    let (best, sure) = p.best();
    let name = |(i, p): (usize, f32)| (p >= threshold).then_some(i);
    let chosen = best.into_iter().zip(sure).map(name);
    Ok(chosen
        .map(|i| i.and_then(|i| p.labels.get(i)).map(String::as_str))
        .collect())
}
