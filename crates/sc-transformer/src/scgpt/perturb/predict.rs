//! Predictions for control cells.

use candle_core::{DType, Tensor};
use ndarray::{Array2, ArrayView2, Axis};
use sc_model::{Mode, Parity};
use sc_tensor::ops::{self, Segments};
use sc_tensor::rng::Rng;

use super::ScGptPerturb;
use crate::Result;
use crate::scgpt::config::ensure;
use crate::tokens::TokenBatch;

/// Which genes the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GenesIncluded {
    /// All.
    #[default]
    All,
    /// Those that some cell of the minibatch expresses. Perturbed genes are among them, too, except with
    /// [`Parity::Upstream`], where a flag on a gene that no cell expresses is lost.
    Expressed,
}

/// How expression is predicted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PredictOptions {
    /// Which genes the model reads; the others are predicted as 0.
    pub genes: GenesIncluded,
    /// Whether to lose flags, and to draw zeros, as the original does.
    pub parity: Parity,
    /// Cells that are read at once.
    pub batch_size: usize,
    /// Seed of drawn zeros.
    pub seed: u64,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self {
            genes: GenesIncluded::default(),
            parity: Parity::Correct,
            batch_size: 16,
            seed: 0,
        }
    }
}

impl ScGptPerturb {
    /// The expression of control cells, `[cells, genes]`, after a perturbation of each.
    ///
    /// `ids` has the token of each gene; a gene that the vocabulary lacks is read as padding
    /// ([`GeneVocab::id_or_default`](crate::vocab::GeneVocab::id_or_default)). `perturbed` has the perturbed genes (columns) of
    /// each cell. Values are means, zeros included, as they were learned. Where the model predicts the probability that a value
    /// is not zero, the original multiplies by a draw of it, so that what it gives is too small ([`Parity::Upstream`]).
    ///
    /// # Errors
    /// If the shapes don't fit, or a value is not finite.
    pub fn predict(
        &self,
        controls: ArrayView2<'_, f32>,
        ids: &[u32],
        perturbed: &[Vec<usize>],
        options: &PredictOptions,
    ) -> Result<Array2<f32>> {
        let (n, genes) = controls.dim();
        let reason = format_args!("the cells have {genes} genes");
        ensure(ids.len() == genes, "ids", ids.len(), reason)?;
        if let Some(g) = perturbed.iter().flatten().find(|&&g| g >= genes) {
            ensure(false, "perturbed gene", g, reason)?;
        }
        let reason = format_args!("there are {n} cells");
        ensure(perturbed.len() == n, "perturbed", perturbed.len(), reason)?;
        ensure(
            options.batch_size > 0,
            "batch_size",
            0,
            "it must be at least 1",
        )?;
        let mut all = Array2::zeros((n, genes));
        for start in (0..n).step_by(options.batch_size) {
            let end = (start + options.batch_size).min(n);
            let cells = controls.slice_axis(Axis(0), (start..end).into());
            let perturbed = perturbed.get(start..end).unwrap_or(&[]);
            let columns = included(cells, perturbed, options);
            if columns.is_empty() {
                continue;
            }
            let batch = tokens(cells, start, ids, perturbed, &columns)?;
            let made = self.forward(&batch, &Mode::eval())?.expression;
            let value = match &made.nonzero_logit {
                Some(l) if options.parity == Parity::Upstream => {
                    (zeros(l, options, start)? * made.value)?
                }
                _ => made.value,
            };
            let value: Vec<f32> = value.to_dtype(DType::F32)?.to_vec1()?;
            for (row, made) in (start..end).zip(value.chunks(columns.len())) {
                for (&column, &v) in columns.iter().zip(made) {
                    all[(row, column)] = v;
                }
            }
        }
        Ok(all)
    }
}

/// What the original multiplies values by: a draw of whether they are not zero.
fn zeros(logit: &Tensor, options: &PredictOptions, start: usize) -> Result<Tensor> {
    let p = ops::sigmoid(logit)?;
    let mut stream = Rng::new(options.seed)
        .stream("perturb/zeros")
        .at(&[start as u64]);
    let mut draws = vec![0f64; p.elem_count()];
    stream.fill_uniform(0.0, 1.0, &mut draws);
    let draws = Tensor::from_vec(draws, p.shape(), p.device())?.to_dtype(p.dtype())?;
    Ok(draws.lt(&p)?.to_dtype(p.dtype())?)
}

/// The columns that are read.
fn included(
    cells: ArrayView2<'_, f32>,
    perturbed: &[Vec<usize>],
    o: &PredictOptions,
) -> Vec<usize> {
    let expressed = |g: usize| cells.column(g).iter().any(|v| *v != 0.0);
    let hit = |g: usize| perturbed.iter().any(|p| p.contains(&g));
    let kept = |g: usize| o.parity == Parity::Correct && hit(g);
    (0..cells.ncols())
        .filter(|&g| o.genes == GenesIncluded::All || expressed(g) || kept(g))
        .collect()
}

/// Some columns of some cells as tokens, perturbed genes flagged.
fn tokens(
    cells: ArrayView2<'_, f32>,
    first: usize,
    ids: &[u32],
    perturbed: &[Vec<usize>],
    columns: &[usize],
) -> Result<TokenBatch> {
    let n = cells.nrows();
    let of_columns: Vec<u32> = columns
        .iter()
        .map(|&g| ids.get(g).copied().unwrap_or(0))
        .collect();
    let values: Vec<f32> = cells
        .rows()
        .into_iter()
        .flat_map(|row| columns.iter().map(move |&g| row[g]))
        .collect();
    let flags = perturbed
        .iter()
        .flat_map(|hit| columns.iter().map(|g| u32::from(hit.contains(g))));
    Ok(TokenBatch {
        cells: (first..first + n).collect(),
        ids: of_columns.repeat(n),
        targets: values.clone(),
        scored: vec![false; values.len()],
        values,
        modality: None,
        flags: Some(flags.collect()),
        has_cls: false,
        segments: Segments::new(std::iter::repeat_n(columns.len(), n))?,
    })
}
