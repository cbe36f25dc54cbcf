//! Fine-tuning: one loss of several terms.

use candle_core::{D, Tensor};
use sc_model::Params;
use sc_model::train::{Loss, Step, Trainable};
use sc_tensor::rng::Stream;

use super::homogeneous;
use super::recipe::{Objectives, Recipe};
use crate::Result;
use crate::scgpt::config::{InputNorm, ensure};
use crate::scgpt::decoders::Predicted;
use crate::scgpt::infer::CellSource;
use crate::scgpt::input::Input;
use crate::scgpt::losses::{self, mask_of};
use crate::scgpt::model::{Encoded, ScGpt};
use crate::tokens::{Masker, TokenBatch};

/// Cells to fine-tune on.
pub struct LabelledCells<'a> {
    /// Expression, tokens and batches.
    pub cells: CellSource<'a>,
    /// The cell type of each cell, if cell types are learned.
    pub labels: Option<&'a [u32]>,
    /// What hides values, if values are learned.
    pub masker: Option<Masker>,
}

impl<'a> LabelledCells<'a> {
    /// Cells for a recipe.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) if the share of hidden values can't be, or there are more or
    /// fewer labels than cells.
    pub fn new(cells: CellSource<'a>, labels: Option<&'a [u32]>, recipe: &Recipe) -> Result<Self> {
        let n = cells.rows.n_rows();
        let given = labels.map_or(n, <[u32]>::len);
        let reason = format_args!("there are {n} cells");
        ensure(given == n, "labels", given, reason)?;
        Ok(Self {
            cells,
            labels,
            masker: recipe.mask.map(Masker::new).transpose()?,
        })
    }

    fn labels_of(&self, cells: &[usize]) -> Vec<u32> {
        let all = self.labels.unwrap_or(&[]);
        cells.iter().filter_map(|&c| all.get(c).copied()).collect()
    }

    /// The tokens of a minibatch, some values hidden. Validation hides and samples the same in each epoch, so that its losses
    /// can be compared.
    fn batch(&self, rows: &[usize], step: &Step<'_>) -> Result<TokenBatch> {
        let pass = match step.mode.is_training() {
            true => step.epoch as u64 + 1,
            false => 0,
        };
        let mut batch = self.cells.tokenizer.batch(self.cells.rows, rows, pass)?;
        if let Some(masker) = &self.masker {
            masker.mask(&mut batch, pass);
        }
        Ok(batch)
    }
}

/// A model and what it is fine-tuned for; train it with [`fit`](sc_model::train::fit).
///
/// The validation loss is without the adversary's: that is low where batches can be told apart, so that a model must not
/// be chosen by it.
#[derive(Debug, Clone)]
pub struct FineTune<'a> {
    model: &'a ScGpt,
    objectives: Objectives,
    /// Whether minibatches of all batches come in turns, not one batch after the other as in the original.
    pub mixed: bool,
}

/// The terms of a minibatch's loss, unweighted, by name, with their weights.
type Terms = Vec<(&'static str, Tensor, f64)>;

/// The adversary's term.
const DAB: &str = "dab";

/// The weight of the similarity terms.
const SIMILARITY: f64 = 10.0;

impl<'a> FineTune<'a> {
    /// Makes sure that the model has what the objectives need.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names the part that is missing.
    pub fn new(model: &'a ScGpt, objectives: Objectives) -> Result<Self> {
        let (c, o) = (model.config(), &objectives);
        let needs = [
            ("gepc", o.gepc, c.mvc.is_some(), "mvc"),
            ("cls", o.cls, !c.classes.is_empty(), "classes"),
            (DAB, o.dab.is_some(), c.adversary, "adversary"),
        ];
        for (name, wanted, there, part) in needs {
            let reason = format_args!("the model was made without {part}");
            ensure(!wanted || there, name, "on", reason)?;
        }
        Ok(Self {
            model,
            objectives,
            mixed: true,
        })
    }

    /// The terms of the loss of some cells.
    ///
    /// # Errors
    /// As [`ScGpt::encode`].
    fn terms(&self, input: Input<'_>, labels: &[u32], step: &Step<'_>) -> Result<(Terms, Encoded)> {
        let (m, o, mode) = (self.model, &self.objectives, &step.mode);
        let e = m.encode(input, mode)?;
        let mut terms = Terms::new();
        if input.tokens.scored.contains(&true) {
            let (dtype, device) = (e.hidden.dtype(), e.hidden.device());
            let scored = mask_of(&input.tokens.scored, dtype, device)?;
            let n = input.tokens.n_tokens();
            let target = Tensor::from_slice(&input.tokens.targets, n, device)?.to_dtype(dtype)?;
            let mut score = |names: [&'static str; 2], p: Predicted| -> Result<()> {
                terms.push((
                    names[0],
                    losses::masked_mse(&p.value, &target, &scored)?,
                    1.0,
                ));
                if let Some(l) = &p.nonzero_logit {
                    terms.push((names[1], losses::nonzero_nll(l, &target, &scored)?, 1.0));
                }
                Ok(())
            };
            if o.gep {
                score(["gep", "gep_nonzero"], m.decode(&e, mode)?)?;
            }
            if o.gepc {
                score(["gepc", "gepc_nonzero"], m.decode_from_cells(&e, mode)?)?;
            }
        }
        if let Some(beta) = o.ecs {
            terms.push((
                "ecs",
                losses::elastic_similarity(&e.cells, beta)?,
                SIMILARITY,
            ));
        }
        if o.cls {
            let logits = m.class_logits(&e.cells, mode)?;
            terms.push(("cls", losses::cross_entropy(&logits, labels)?, 1.0));
        }
        if let Some(weight) = o.dab {
            let logits = m.batch_logits(&e.cells, o.reversal, mode)?;
            let batches = input.batches.unwrap_or(&[]);
            terms.push((DAB, losses::cross_entropy(&logits, batches)?, weight));
        }
        if let Some(temperature) = o.cce {
            let second = m.encode(input, &mode.pass(1))?;
            let loss = losses::contrastive(&e.cells, &second.cells, temperature)?;
            terms.push(("cce", loss, SIMILARITY));
        }
        Ok((terms, e))
    }

    fn total(&self, data: &LabelledCells<'_>, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let batch = data.batch(rows, step)?;
        let batches = data.cells.batches_of(rows)?;
        let input = Input {
            tokens: &batch,
            batches: batches.as_deref(),
        };
        let labels = data.labels_of(rows);
        let (terms, encoded) = self.terms(input, &labels, step)?;
        let n = rows.len();
        let mut total: Option<Tensor> = None;
        let mut sums = Vec::with_capacity(terms.len() + 1);
        let alone = terms.len() == 1;
        for (name, term, weight) in terms {
            sums.push((name, scalar(&term)? * n as f64));
            if name == DAB && !step.mode.is_training() && !alone {
                continue;
            }
            let term = (term * weight)?;
            total = Some(match total {
                Some(t) => (t + term)?,
                None => term,
            });
        }
        if self.objectives.cls {
            let right = self.right(&encoded, &labels)?;
            sums.push(("{set}_accuracy", right as f64));
        }
        let Some(loss) = total else {
            return Err(crate::Error::InvalidSetting {
                name: "objectives",
                value: format!("{:?}", self.objectives),
                reason:
                    "nothing is left to learn: no value is hidden, and there is no other objective"
                        .into(),
            });
        };
        Ok(Loss {
            loss,
            sums,
            n_cells: n,
        })
    }

    /// How many cells get their label.
    fn right(&self, encoded: &Encoded, labels: &[u32]) -> Result<usize> {
        let mode = sc_model::Mode::eval();
        let logits = self.model.class_logits(&encoded.cells.detach(), &mode)?;
        let best = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        Ok(best.iter().zip(labels).filter(|(a, b)| a == b).count())
    }
}

fn scalar(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(candle_core::DType::F64)?.to_scalar()?)
}

impl Trainable<LabelledCells<'_>> for FineTune<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    fn n_cells(&self, data: &LabelledCells<'_>) -> usize {
        data.cells.rows.n_rows()
    }

    /// With domain-specific batch normalisation the cells of a minibatch are of one batch.
    fn minibatches(
        &self,
        data: &LabelledCells<'_>,
        cells: &[usize],
        batch_size: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let apart = self.model.config().input_norm == InputNorm::DomainSpecific;
        let batches = data.cells.batches.filter(|_| apart);
        let kind = |c: usize| batches.and_then(|b| b.get(c)).copied().unwrap_or(0);
        homogeneous(cells, kind, batch_size, self.mixed, stream)
    }

    fn settings(&self) -> String {
        let hidden = self.mixed;
        format!("scgpt {:?}, mixed {hidden}", self.objectives)
    }

    fn loss(
        &self,
        data: &LabelledCells<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        self.total(data, rows, step).map_err(sc_model::Error::model)
    }
}
