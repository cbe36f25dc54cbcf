//! Training on pairs of a control cell and a perturbed cell.

use candle_core::Tensor;
use ndarray::ArrayView2;
use sc_model::train::{Loss, Step, Trainable};
use sc_model::{Parity, Params};
use sc_tensor::ops::Segments;
use sc_tensor::rng::{Rng, Stream};

use super::ScGptPerturb;
use crate::Result;
use crate::scgpt::config::ensure;
use crate::scgpt::losses::masked_mse;
use crate::tokens::TokenBatch;

/// Perturbed cells, and for each a control cell that it is compared with.
#[derive(Debug, Clone)]
pub struct PerturbPairs<'a> {
    values: ArrayView2<'a, f32>,
    controls: Vec<usize>,
    perturbed: Vec<Vec<usize>>,
    ids: Vec<u32>,
}

impl<'a> PerturbPairs<'a> {
    /// `values` are log-normalised, `[cells, genes]`; `ids` has the token of each gene (that of `<pad>` if the vocabulary lacks
    /// it); `perturbed` has the genes (columns) that are perturbed in each cell, none in a control. Each perturbed cell gets a
    /// random control; a control is its own.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) if lengths differ, there is no control, or a value is negative or
    /// no number.
    pub fn new(
        values: ArrayView2<'a, f32>,
        ids: Vec<u32>,
        perturbed: Vec<Vec<usize>>,
        seed: u64,
    ) -> Result<Self> {
        let (n, genes) = values.dim();
        let reason = format_args!("there are {genes} genes");
        ensure(ids.len() == genes, "ids", ids.len(), reason)?;
        if let Some(g) = perturbed.iter().flatten().find(|&&g| g >= genes) {
            ensure(false, "perturbed gene", g, reason)?;
        }
        let reason = format_args!("there are {n} cells");
        ensure(perturbed.len() == n, "perturbed", perturbed.len(), reason)?;
        if let Some(v) = values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
            ensure(false, "value", v, "log-normalised expression is at least 0")?;
        }
        let free: Vec<usize> = (0..n).filter(|&c| perturbed[c].is_empty()).collect();
        let reason = "a perturbed cell is compared with a control; give some cells without perturbed genes";
        ensure(!free.is_empty(), "controls", 0, reason)?;
        let mut draws = vec![0f64; n];
        Rng::new(seed).stream("perturb/controls").fill_uniform(0.0, 1.0, &mut draws);
        let control = |c: usize| match perturbed[c].is_empty() {
            true => c,
            false => free[((draws[c] * free.len() as f64) as usize).min(free.len() - 1)],
        };
        let controls = (0..n).map(control).collect();
        Ok(Self {
            values,
            controls,
            perturbed,
            ids,
        })
    }

    /// The control cell of each cell.
    pub fn controls(&self) -> &[usize] {
        &self.controls
    }

    /// The cells `rows` with some genes as tokens: the control's values and, as targets, the cell's own.
    fn batch(&self, rows: &[usize], columns: &[usize]) -> Result<TokenBatch> {
        let mut b = TokenBatch {
            cells: rows.to_vec(),
            ids: Vec::new(),
            values: Vec::new(),
            targets: Vec::new(),
            scored: vec![true; rows.len() * columns.len()],
            modality: None,
            flags: None,
            has_cls: false,
            segments: Segments::new(std::iter::repeat_n(columns.len(), rows.len()))?,
        };
        let mut flags = Vec::with_capacity(b.scored.len());
        for &cell in rows {
            let (Some(&control), Some(hit)) = (self.controls.get(cell), self.perturbed.get(cell))
            else {
                let len = self.controls.len();
                let what = "cell";
                return Err(sc_data::Error::OutOfRange { what, index: cell, len }.into());
            };
            for &g in columns {
                b.ids.push(self.ids.get(g).copied().unwrap_or(0));
                b.values.push(self.values[(control, g)]);
                b.targets.push(self.values[(cell, g)]);
                flags.push(u32::from(hit.contains(&g)));
            }
        }
        b.flags = Some(flags);
        Ok(b)
    }

    /// Genes of a minibatch: at most `most`, drawn anew each time. Perturbed ones are among them, unless the original's way is
    /// asked for, which draws from all alike and so mostly shows the model no perturbation.
    fn columns(&self, rows: &[usize], most: usize, parity: Parity, stream: &mut Stream) -> Vec<usize> {
        let genes = self.values.ncols();
        if genes <= most {
            return (0..genes).collect();
        }
        let mut chosen = Vec::with_capacity(most);
        if parity == Parity::Correct {
            let hit = rows.iter().filter_map(|&r| self.perturbed.get(r)).flatten();
            chosen.extend(hit.copied());
            chosen.sort_unstable();
            chosen.dedup();
            chosen.truncate(most);
        }
        let mut taken = vec![false; genes];
        chosen.iter().for_each(|&g| taken[g] = true);
        let rest = stream.permutation(genes).into_iter().filter(|&g| !taken[g]);
        let room = most - chosen.len();
        chosen.extend(rest.take(room));
        chosen
    }
}

/// A model and how it is trained on [`PerturbPairs`]: the mean squared error of all genes that are read.
#[derive(Debug, Clone)]
pub struct PerturbTask<'a> {
    /// The model.
    pub model: &'a ScGptPerturb,
    /// Genes read at once; 1536 in the original's recipe.
    pub max_genes: usize,
    /// Whether to draw genes as the original does, which mostly leaves out the perturbed one.
    pub parity: Parity,
}

impl<'a> PerturbTask<'a> {
    /// The recipe of the original, except that perturbed genes are always read.
    pub fn new(model: &'a ScGptPerturb) -> Self {
        Self {
            model,
            max_genes: 1536,
            parity: Parity::Correct,
        }
    }

    fn terms(&self, data: &PerturbPairs<'_>, rows: &[usize], step: &Step<'_>) -> Result<Tensor> {
        let mut stream = step.stream("perturb/genes");
        let columns = data.columns(rows, self.max_genes.max(1), self.parity, &mut stream);
        let batch = data.batch(rows, &columns)?;
        let made = self.model.forward(&batch, &step.mode)?.expression.value;
        let target = Tensor::from_slice(&batch.targets, made.dims(), made.device())?;
        let target = target.to_dtype(made.dtype())?;
        masked_mse(&made, &target, &made.ones_like()?)
    }
}

impl Trainable<PerturbPairs<'_>> for PerturbTask<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    fn n_cells(&self, data: &PerturbPairs<'_>) -> usize {
        data.controls.len()
    }

    fn settings(&self) -> String {
        format!("scgpt perturb, {} genes, {:?}", self.max_genes, self.parity)
    }

    fn loss(
        &self,
        data: &PerturbPairs<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        let loss = self.terms(data, rows, step).map_err(sc_model::Error::model)?;
        Ok(Loss {
            loss,
            sums: Vec::new(),
            n_cells: rows.len(),
        })
    }
}
