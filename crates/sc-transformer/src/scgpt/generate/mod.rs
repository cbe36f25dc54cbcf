//! Genes whose value is not known: pre-training on them, and generating them.

mod cache;
mod loss;
mod state;

use candle_core::{DType, Tensor};
use sc_model::Mode;
use sc_tensor::ops::Segments;
use sc_tensor::rng::Rng;

pub use loss::{CellPrompt, GenerativeLoss};

use super::config::ensure;
use super::decoders::Predicted;
use super::input::Input;
use super::model::{Reading, ScGpt};
use crate::Result;
use crate::tokens::TokenBatch;
use cache::Known;
use state::State;

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
    /// Whether known genes are read anew in each round, so that they see those that have become known, as a model was
    /// trained. Otherwise their keys and values are kept, which saves most of the work: new genes see all others, but not the
    /// other way round.
    pub reread: bool,
    /// Round values to bins.
    pub to_bins: bool,
    /// Draw whether a value is zero, where the model predicts that; otherwise it is zero if that is more likely than not. A
    /// drawn value that is not zero is the predicted one divided by the probability of that: what is predicted is the mean
    /// with zeros, and so stays the mean of what is drawn. (The original's models, which draw without that, give too little.)
    pub sample_zeros: bool,
    /// Unknown genes that are predicted together; memory grows with it, results do not depend on it.
    pub chunk: usize,
    /// Seed of random orders and draws.
    pub seed: u64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            rounds: 3,
            confidence: Confidence::default(),
            reread: true,
            to_bins: true,
            sample_zeros: false,
            chunk: 1024,
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

/// One cell that is being generated.
struct Cell<'a> {
    tokens: &'a TokenBatch,
    batch: Option<u32>,
    prompt: Option<Tensor>,
    number: usize,
}

impl ScGpt {
    /// The values of the genes behind the keys of each cell, given the known ones (the gene prompt) and, if there is one, a
    /// cell prompt, `[cells, D]`. A cell of which nothing else is known is its `<cls>` and a prompt.
    ///
    /// In each round all unknown genes are predicted from those known so far; the most confident ones, an equal share each
    /// round, then become known. Keys and values of known genes are computed once a round, or once at all (see
    /// [`GenerateOptions::reread`]); unknown genes do not see each other, so that memory grows with
    /// [`GenerateOptions::chunk`], not with their number.
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
        ensure(
            options.rounds > 0,
            "rounds",
            0,
            "there must be one at least",
        )?;
        ensure(options.chunk > 0, "chunk", 0, "there must be one at least")?;
        input.check(&self.config, self.needs_batches())?;
        let n = input.tokens.n_cells();
        let wide = prompt.is_none_or(|p| p.dims() == [n, self.config.d_model]);
        let reason = format_args!(
            "it must have one row a cell, [{n}, {}]",
            self.config.d_model
        );
        ensure(wide, "prompt", "another shape", reason)?;
        let mut state = State::new(input.tokens);
        for number in 0..n {
            let cell = Cell {
                tokens: input.tokens,
                batch: input.batches.and_then(|b| b.get(number)).copied(),
                prompt: prompt.map(|p| p.narrow(0, number, 1)).transpose()?,
                number,
            };
            self.generate_cell(&cell, &mut state, options)?;
        }
        Ok(state.generated())
    }

    fn generate_cell(&self, cell: &Cell<'_>, state: &mut State, o: &GenerateOptions) -> Result<()> {
        let mut known = Known::new(self);
        let mut new = state.known(cell.number);
        for round in 1..=o.rounds {
            let asked = state.unknown(cell.number);
            if asked.is_empty() {
                return Ok(());
            }
            if o.reread && round > 1 {
                known = Known::new(self);
                new = state.known(cell.number);
            }
            let with_prompt = known.is_empty();
            let rows = self.known_rows(cell, state, &new, with_prompt)?;
            known.extend(self, rows)?;
            let mut made = Vec::with_capacity(asked.len());
            for chunk in asked.chunks(o.chunk) {
                let p = self.ask(cell, state, &known, chunk)?;
                let first = made.len();
                made.extend(self.made(&p, o, (cell.number, round, first))?);
            }
            new = state.accept(cell.number, &asked, &made, (round, o.rounds));
        }
        Ok(())
    }

    /// What goes into the transformer for known tokens.
    fn known_rows(
        &self,
        cell: &Cell<'_>,
        state: &State,
        rows: &[usize],
        with_prompt: bool,
    ) -> Result<Tensor> {
        let (tokens, mode) = (state.tokens(cell.tokens, rows)?, Mode::eval());
        let batches = cell.batch.map(|b| [b]);
        let input = Input {
            tokens: &tokens,
            batches: batches.as_ref().map(<[u32; 1]>::as_slice),
        };
        let genes = self.nets.genes.table(&tokens.ids, &mode)?;
        let how = Reading {
            prompt: cell.prompt.as_ref().filter(|_| with_prompt),
            ..Reading::default()
        };
        self.token_rows(input, &genes, how, &mode)
    }

    /// Predictions for unknown tokens.
    fn ask(
        &self,
        cell: &Cell<'_>,
        state: &State,
        known: &Known,
        rows: &[usize],
    ) -> Result<Predicted> {
        let (tokens, mode) = (state.tokens(cell.tokens, rows)?, Mode::eval());
        let batches = cell.batch.map(|b| [b]);
        let input = Input {
            tokens: &tokens,
            batches: batches.as_ref().map(<[u32; 1]>::as_slice),
        };
        let h = self.unknown_rows(input, &mode)?;
        let hidden = known.ask(self, h)?;
        let told = self.condition(input, &mode)?;
        self.nets.decoder.forward(&hidden, told.as_ref(), &mode)
    }

    /// A value and a confidence for each asked token.
    fn made(
        &self,
        p: &Predicted,
        o: &GenerateOptions,
        (cell, round, first): (usize, usize, usize),
    ) -> Result<Vec<(f32, f64)>> {
        let numbers = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(DType::F64)?.to_vec1()?) };
        let values = numbers(&p.value)?;
        let logits = p.nonzero_logit.as_ref().map(numbers).transpose()?;
        let uniform = |name: &str| {
            let mut all = vec![0f64; first + values.len()];
            let stream = Rng::new(o.seed).stream(name);
            stream
                .at(&[cell as u64, round as u64])
                .fill_uniform(0.0, 1.0, &mut all);
            all.split_off(first)
        };
        let half = || vec![0.5f64; values.len()];
        let draws = if o.sample_zeros {
            uniform("generate/zeros")
        } else {
            half()
        };
        let random = o.confidence == Confidence::Random;
        let orders = if random {
            uniform("generate/order")
        } else {
            half()
        };
        let top = (self.config.n_bins - 1) as f64;
        let one = |i: usize, v: f64| {
            let logit = logits.as_ref().and_then(|l| l.get(i)).copied();
            let draw = draws.get(i).copied().unwrap_or(0.5);
            let nonzero = logit.map_or(1.0, |l| 1.0 / (1.0 + (-l).exp()));
            let zero = nonzero < draw;
            let v = if o.sample_zeros && !zero {
                v / nonzero
            } else {
                v
            };
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
        Ok(values.iter().enumerate().map(|(i, &v)| one(i, v)).collect())
    }
}

/// Some tokens of a batch as one cell, with these values.
fn one_cell(from: &TokenBatch, rows: &[usize], values: &[f32]) -> Result<TokenBatch> {
    fn pick<T: Copy>(all: &[T], at: &[usize]) -> Vec<T> {
        at.iter().filter_map(|&i| all.get(i).copied()).collect()
    }
    let values = pick(values, rows);
    Ok(TokenBatch {
        cells: vec![0],
        ids: pick(&from.ids, rows),
        targets: values.clone(),
        values,
        scored: vec![false; rows.len()],
        modality: from.modality.as_ref().map(|m| pick(m, rows)),
        flags: from.flags.as_ref().map(|f| pick(f, rows)),
        has_cls: from.has_cls,
        segments: Segments::new([rows.len()])?,
    })
}
