//! Generative pre-training on cells without labels.

use sc_model::train::{Loss, Step, Trainable};
use sc_model::{Params, Parity};

use crate::Result;
use crate::scgpt::generate::CellPrompt;
use crate::scgpt::infer::CellSource;
use crate::scgpt::input::Input;
use crate::scgpt::model::ScGpt;
use crate::tokens::{GenerativeOptions, GenerativeSplit};

/// Cells to pre-train on. Their tokenizer should not cut cells: genes are left out after the split.
pub struct PretrainCells<'a> {
    /// Expression and tokens.
    pub cells: CellSource<'a>,
    split: GenerativeSplit,
}

impl<'a> PretrainCells<'a> {
    /// Cells, and how their genes are split into known and unknown.
    ///
    /// # Errors
    /// As [`GenerativeSplit::new`].
    pub fn new(cells: CellSource<'a>, options: GenerativeOptions) -> Result<Self> {
        let split = GenerativeSplit::new(options)?;
        Ok(Self { cells, split })
    }
}

/// A model and its generative pre-training: gene prompts, and from some step on cell prompts, too.
///
/// What it learns first are the means of the genes, which take a few hundred minibatches from random weights; only then does
/// it learn what tells cells apart. A run that ends before has taught the model to overlook that, which is worse for
/// fine-tuning than no pre-training: small data need small minibatches and many of them.
#[derive(Debug, Clone)]
pub struct Pretraining<'a> {
    /// The model.
    pub model: &'a ScGpt,
    /// Minibatches before the cells' own vectors are used as prompts; 1,000. (The original's counter reaches that at once in
    /// epochs of more than 1,000 minibatches.)
    pub prompt_after: u64,
    /// What is known beside the cells' vectors, one after the other in as many minibatches; without any there are no cell
    /// prompts. Alone and with genes in turns, as they are used in [`ScGpt::generate`], where genes become known; in models
    /// with [`Parity::Upstream`] with genes only.
    pub cell_prompts: Vec<CellPrompt>,
}

impl<'a> Pretraining<'a> {
    /// As the paper describes it.
    pub fn new(model: &'a ScGpt) -> Self {
        Self {
            model,
            prompt_after: 1000,
            cell_prompts: match model.config().parity {
                Parity::Correct => vec![CellPrompt::Alone, CellPrompt::WithGenes],
                Parity::Upstream => vec![CellPrompt::WithGenes],
            },
        }
    }

    /// The cell prompt of a minibatch. Validation always has one, so that losses can be compared.
    fn prompt(&self, step: &Step<'_>) -> Option<CellPrompt> {
        let now = !step.mode.is_training() || step.step >= self.prompt_after;
        let turn = step.step.checked_rem(self.cell_prompts.len() as u64)?;
        let prompt = self.cell_prompts.get(turn as usize).copied();
        prompt.filter(|_| now)
    }

    fn total(&self, data: &PretrainCells<'_>, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let cells = &data.cells;
        let (pass, draw) = match step.mode.is_training() {
            true => (step.epoch as u64 + 1, step.step),
            // The same split in each epoch, so that losses can be compared.
            false => (0, u64::MAX - step.step),
        };
        let whole = cells.tokenizer.batch(cells.rows, rows, pass)?;
        let batch = data.split.split_at(&whole, pass, data.split.ratio(draw))?;
        let batches = cells.batches_of(rows)?;
        let input = Input {
            tokens: &batch,
            batches: batches.as_deref(),
        };
        let n = rows.len();
        if !batch.scored.contains(&true) {
            return Err(crate::Error::InvalidSetting {
                name: "minibatch",
                value: format!("{n} cells"),
                reason: "no gene is left to generate; leave out cells with few genes".into(),
            });
        }
        let prompt = self.prompt(step);
        let loss = self.model.generative_loss(input, prompt, &step.mode)?;
        let mut sums = Vec::with_capacity(4);
        let prompted = match prompt {
            Some(CellPrompt::Alone) => "prompted_alone",
            _ => "prompted",
        };
        let terms = [
            ("gep", Some(&loss.gep)),
            ("gepc", loss.gepc.as_ref()),
            (prompted, loss.prompted.as_ref()),
            ("nonzero", loss.nonzero.as_ref()),
        ];
        for (name, term) in terms {
            if let Some(t) = term {
                let value: f64 = t.to_dtype(candle_core::DType::F64)?.to_scalar()?;
                sums.push((name, value * n as f64));
            }
        }
        Ok(Loss {
            loss: loss.total,
            sums,
            n_cells: n,
        })
    }
}

impl Trainable<PretrainCells<'_>> for Pretraining<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    fn n_cells(&self, data: &PretrainCells<'_>) -> usize {
        data.cells.rows.n_rows()
    }

    fn settings(&self) -> String {
        let (after, prompts) = (self.prompt_after, &self.cell_prompts);
        format!("scgpt pre-training, prompts after {after} {prompts:?}")
    }

    fn loss(
        &self,
        data: &PretrainCells<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        self.total(data, rows, step).map_err(sc_model::Error::model)
    }
}
