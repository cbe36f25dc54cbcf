//! Genes whose value is not known: pre-training on them, and generating them.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::ops::Segments;
use sc_tensor::rng::Rng;

use super::config::ensure;
use super::decoders::Predicted;
use super::input::Input;
use super::losses::{mask_of, masked_mse};
use super::model::ScGpt;
use crate::Result;
use crate::tokens::TokenBatch;

/// The terms of generative pre-training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GenerativeLoss {
    /// From the genes' rows.
    pub gep: Tensor,
    /// From the cells' vectors.
    pub gepc: Option<Tensor>,
    /// From the genes' rows again, with the cell's vector of the first pass, taken as it is, in place of its first token: the
    /// cell prompt.
    pub prompted: Option<Tensor>,
    /// Their sum.
    pub total: Tensor,
}

impl ScGpt {
    /// The loss of generative pre-training: the error of the values of the genes behind the keys, which are scored. With
    /// `prompted`, the cells are read a second time with their own vector as a prompt.
    ///
    /// # Errors
    /// As [`ScGpt::encode_generative`].
    pub fn generative_loss<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompted: bool,
        mode: &Mode<'_>,
    ) -> Result<GenerativeLoss> {
        let input = cells.into();
        let first = self.encode_generative(input, None, mode)?;
        let (dtype, device) = (first.hidden.dtype(), first.hidden.device());
        let target = Tensor::from_slice(&input.tokens.targets, input.tokens.n_tokens(), device)?;
        let target = target.to_dtype(dtype)?;
        let scored = mask_of(&input.tokens.scored, dtype, device)?;
        let error = |p: &Tensor| masked_mse(p, &target, &scored);
        let gep = error(&self.decode(&first, mode)?.value)?;
        let mut total = gep.clone();
        let gepc = match self.nets.mvc {
            Some(_) => Some(error(&self.decode_from_cells(&first, mode)?.value)?),
            None => None,
        };
        if let Some(gepc) = &gepc {
            total = (total + gepc)?;
        }
        let prompted = match prompted {
            true => {
                let prompt = first.cells.detach();
                let mode = mode.pass(1);
                let second = self.encode_generative(input, Some(&prompt), &mode)?;
                Some(error(&self.decode(&second, &mode)?.value)?)
            }
            false => None,
        };
        if let Some(second) = &prompted {
            total = (total + second)?;
        }
        Ok(GenerativeLoss {
            gep,
            gepc,
            prompted,
            total,
        })
    }
}

/// Which of the predicted values become known first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confidence {
    /// The most certain to be zero or not zero, by `|logit|` of that probability; [`Confidence::Magnitude`] for a model that
    /// doesn't predict it. The original has no code for this, and a mean squared error no certainty: this is our definition.
    #[default]
    Nonzero,
    /// The largest values.
    Magnitude,
    /// In random order.
    Random,
}

/// How values are generated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// In each round the most confident part of the genes becomes known, so that the later ones see them. With 1, all values
    /// are predicted at once.
    pub rounds: usize,
    /// Which come first.
    pub confidence: Confidence,
    /// Round values to bins.
    pub to_bins: bool,
    /// Draw whether a value is zero, where the model predicts that; otherwise it is zero if that is more likely than not.
    pub sample_zeros: bool,
    /// Seed of random orders and draws.
    pub seed: u64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            rounds: 3,
            confidence: Confidence::default(),
            to_bins: true,
            sample_zeros: false,
            seed: 0,
        }
    }
}

/// Generated values.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The value of each token; those that were known keep theirs.
    pub values: Vec<f32>,
    /// The round, from 1, in which each value became known; 0 for those that were known.
    pub rounds: Vec<u32>,
}

impl ScGpt {
    /// The values of the genes behind the keys of each cell, given the known ones (the gene prompt) and, if there is one, a
    /// cell prompt, `[cells, D]`.
    ///
    /// In each round all unknown genes are predicted from those known so far; the most confident ones, an equal share each
    /// round, then become known. Known genes are read anew each round, as they attend to the new ones: a cell of `P` known
    /// and `G` unknown genes costs about `P^2 + P G` products in the first round and `(P + G)^2` in the last.
    ///
    /// # Errors
    /// As [`ScGpt::encode_generative`]; [`Error::InvalidSetting`](crate::Error::InvalidSetting) for 0 rounds.
    pub fn generate<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompt: Option<&Tensor>,
        options: &GenerateOptions,
    ) -> Result<Generated> {
        let input = cells.into();
        ensure(options.rounds > 0, "rounds", 0, "there must be one at least")?;
        let mut state = State::new(input.tokens);
        for round in 1..=options.rounds {
            let tokens = state.batch(input.tokens)?;
            let now = Input {
                tokens: &tokens,
                batches: input.batches,
            };
            let mode = Mode::eval();
            let encoded = self.encode_generative(now, prompt, &mode)?;
            let predicted = self.decode(&encoded, &mode)?;
            let made = self.made(&predicted, options, round)?;
            state.accept(&made, options.rounds, round);
        }
        Ok(Generated {
            values: state.values,
            rounds: state.rounds,
        })
    }

    /// A value and a confidence for each token of a round.
    fn made(&self, p: &Predicted, o: &GenerateOptions, round: usize) -> Result<Vec<(f32, f64)>> {
        let numbers = |t: &Tensor| -> Result<Vec<f64>> {
            Ok(t.to_dtype(candle_core::DType::F64)?.to_vec1()?)
        };
        let values = numbers(&p.value)?;
        let logits = p.nonzero_logit.as_ref().map(numbers).transpose()?;
        let stream = |name: &str| Rng::new(o.seed).stream(name).at(&[round as u64]);
        let mut draws = vec![0.5f64; values.len()];
        if o.sample_zeros {
            stream("generate/zeros").fill_uniform(0.0, 1.0, &mut draws);
        }
        let mut orders = vec![0f64; values.len()];
        if o.confidence == Confidence::Random {
            stream("generate/order").fill_uniform(0.0, 1.0, &mut orders);
        }
        let top = (self.config.n_bins - 1) as f64;
        let one = |i: usize, v: f64| {
            let logit = logits.as_ref().and_then(|l| l.get(i)).copied();
            let draw = draws.get(i).copied().unwrap_or(0.5);
            let zero = logit.is_some_and(|l| 1.0 / (1.0 + (-l).exp()) < draw);
            let value = match (zero, o.to_bins) {
                (true, _) => 0.0,
                (false, true) => v.round().clamp(0.0, top),
                (false, false) => v,
            };
            let confidence = match (o.confidence, logit) {
                (Confidence::Random, _) => orders.get(i).copied().unwrap_or(0.0),
                (Confidence::Nonzero, Some(l)) => l.abs(),
                _ => v.abs(),
            };
            (value as f32, confidence)
        };
        Ok(values.into_iter().enumerate().map(|(i, v)| one(i, v)).collect())
    }
}

/// What is known so far.
struct State {
    values: Vec<f32>,
    rounds: Vec<u32>,
    /// For each cell its tokens, the known ones first, and how many these are.
    order: Vec<(Vec<usize>, usize)>,
    /// How many are unknown at the start.
    unknown: Vec<usize>,
}

impl State {
    fn new(tokens: &TokenBatch) -> Self {
        let segments = tokens.segments.iter();
        let order = segments.map(|s| ((s.start..s.start + s.rows).collect(), s.keys));
        Self {
            values: tokens.values.clone(),
            rounds: vec![0; tokens.n_tokens()],
            order: order.collect(),
            unknown: tokens.segments.iter().map(|s| s.rows - s.keys).collect(),
        }
    }

    /// The tokens in their order now.
    fn batch(&self, from: &TokenBatch) -> Result<TokenBatch> {
        let at: Vec<usize> = self.order.iter().flat_map(|(rows, _)| rows.clone()).collect();
        fn pick<T: Copy>(all: &[T], at: &[usize]) -> Vec<T> {
            at.iter().filter_map(|&i| all.get(i).copied()).collect()
        }
        let values = pick(&self.values, &at);
        Ok(TokenBatch {
            cells: from.cells.clone(),
            ids: pick(&from.ids, &at),
            targets: values.clone(),
            values,
            scored: vec![false; at.len()],
            modality: from.modality.as_ref().map(|m| pick(m, &at)),
            flags: from.flags.as_ref().map(|f| pick(f, &at)),
            has_cls: from.has_cls,
            segments: Segments::with_keys(self.order.iter().map(|(r, keys)| (r.len(), *keys)))?,
        })
    }

    /// Makes known what round `round` of `rounds` is due; `made` is in the order of [`State::batch`].
    fn accept(&mut self, made: &[(f32, f64)], rounds: usize, round: usize) {
        let mut first = 0;
        for ((rows, known), &unknown) in self.order.iter_mut().zip(&self.unknown) {
            let made = made.get(first..first + rows.len()).unwrap_or(&[]);
            first += rows.len();
            let mut waiting: Vec<(usize, f32, f64)> = rows
                .iter()
                .zip(made)
                .skip(*known)
                .map(|(&row, &(value, confidence))| (row, value, confidence))
                .collect();
            // The sort is stable: of equally confident ones the first comes first.
            waiting.sort_by(|a, b| b.2.total_cmp(&a.2));
            let due = (unknown * round).div_ceil(rounds);
            let n = due.saturating_sub(unknown - waiting.len());
            rows.truncate(*known);
            rows.extend(waiting.iter().map(|w| w.0));
            for &(row, value, _) in waiting.iter().take(n) {
                if let (Some(v), Some(r)) = (self.values.get_mut(row), self.rounds.get_mut(row)) {
                    (*v, *r) = (value, round as u32);
                }
            }
            *known += n.min(waiting.len());
        }
    }
}
