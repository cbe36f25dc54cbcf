//! Cells as a trained scGPT reads them.

use sc_transformer::scgpt::{CellSource, InputNorm, ScGpt};
use sc_transformer::tokens::{
    BatchLimits, Binning, Generator, Overflow, Ties, Tokenizer, TokenizerOptions,
};

use super::cells::{Data, GeneSummary};
use super::model::Notes;
use super::query::ScgptOptions;
use crate::error::{Error, Result};
use crate::progress::Watched;

/// What scGPT reads of a file.
pub(super) struct ScgptCells<'a> {
    source: Watched<'a>,
    tokenizer: Tokenizer,
    batches: Option<Vec<u32>>,
    limits: BatchLimits,
    pub(super) genes: GeneSummary,
}

/// Cells between two steps of a progress bar.
const WINDOW: usize = 256;
/// Memory of a minibatch, in bytes.
const MEMORY: usize = 1 << 30;

impl<'a> ScgptCells<'a> {
    pub(super) fn new(
        model: &ScGpt,
        data: &'a Data,
        options: &ScgptOptions,
        notes: &Notes,
        message: &str,
    ) -> Result<Self> {
        let found = data.known(model.vocab(), options.ignore_case, notes)?;
        let tokens = tokens(model, options.max_length, options.seed(), notes);
        Ok(Self {
            batches: batches(model, data, options, notes)?,
            tokenizer: Tokenizer::new(model.vocab(), &found, tokens)?,
            source: data.source(message)?,
            limits: limits(model, options),
            genes: GeneSummary::of_match(&found),
        })
    }

    pub(super) fn cells(&self) -> CellSource<'_> {
        let mut cells = CellSource::new(&self.source, &self.tokenizer);
        cells.batches = self.batches.as_deref();
        cells.limits = self.limits;
        cells
    }
}

/// How large minibatches are.
pub(super) fn limits(model: &ScGpt, options: &ScgptOptions) -> BatchLimits {
    let mut limits = model.limits_within(MEMORY);
    limits.max_tokens = limits.max_tokens.min(BatchLimits::default().max_tokens);
    limits.max_tokens = options.batch_tokens.unwrap_or(limits.max_tokens);
    limits.window = WINDOW;
    limits
}

/// How cells become tokens: as in training, or as for released models.
pub(super) fn tokens(
    model: &ScGpt,
    max_length: Option<usize>,
    seed: u64,
    notes: &Notes,
) -> TokenizerOptions {
    let config = model.config();
    let mut tokens = notes.tokens.clone().unwrap_or_else(|| TokenizerOptions {
        binning: Some(Binning {
            n_bins: config.n_bins,
            ..Binning::default()
        }),
        cls: Some(config.pad_value),
        ..TokenizerOptions::default()
    });
    if max_length.is_some() {
        tokens.max_len = max_length;
    }
    if let Some(binning) = &mut tokens.binning {
        binning.ties = Ties::Random { seed };
    }
    if matches!(tokens.overflow, Overflow::Sample(_)) {
        tokens.overflow = Overflow::Sample(Generator::Seeded(seed));
    }
    tokens
}

/// The batch of each cell, as the model numbers them, if it is told.
pub(super) fn batches(
    model: &ScGpt,
    data: &Data,
    options: &ScgptOptions,
    notes: &Notes,
) -> Result<Option<Vec<u32>>> {
    let config = model.config();
    let given = options.batch_key.as_deref();
    if !config.use_batch_labels && config.input_norm != InputNorm::DomainSpecific {
        return refuse_batches(given).map(|()| None);
    }
    if config.input_norm != InputNorm::DomainSpecific && given.is_none() {
        // Only decoders are told: the vector of a cell does not depend on its batch.
        return Ok(Some(vec![0; data.all.n_obs()]));
    }
    told(model, data, given.or(notes.batch_key.as_deref())).map(Some)
}

/// Refuses batches for a model that is told none.
pub(super) fn refuse_batches(key: Option<&str>) -> Result<()> {
    match key {
        None => Ok(()),
        Some(_) => Err(Error::Message(
            "--batch-key: this model is told no batches; leave it out".into(),
        )),
    }
}

/// The batch of each cell, as the model numbers them.
pub(super) fn told(model: &ScGpt, data: &Data, key: Option<&str>) -> Result<Vec<u32>> {
    let known = &model.config().batches;
    let Some(key) = key else {
        return Err(data.wrong(format!(
            "this model is told the batch of each cell ({}): name their column of obs with --batch-key",
            known.join(", ")
        )));
    };
    let labels = data.labels(key)?;
    let labels = labels.recode(key, known).map_err(|e| data.wrong(e))?;
    labels.complete_codes(key).map_err(|e| data.wrong(e))
}
