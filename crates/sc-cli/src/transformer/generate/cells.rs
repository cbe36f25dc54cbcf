//! Prompts, and the cells that the model makes of them.

use std::collections::HashSet;

use candle_core::Tensor;
use ndarray::Array2;
use sc_data::Categorical;
use sc_transformer::scgpt::{Confidence, GenerateOptions, Input, InputNorm, ScGpt};
use sc_transformer::tokens::{
    GenerativeOptions, GenerativeSplit, Generator, Prompt, TokenBatch, Tokenizer,
};
use sc_transformer::vocab::GeneMatch;

use super::made::{Made, Panel, put_truth};
use super::{Args, Ask, First, Kind};
use crate::error::{Error, Result};
use crate::progress::Counter;
use crate::transformer::cells::Data;
use crate::transformer::model::Notes;
use crate::transformer::scgpt_cells::{refuse_batches, tokens, told};
use crate::transformer::screen::{list, spread};

/// Cells that are generated at once.
const AT_ONCE: usize = 16;

fn options_of(args: &Args) -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.rounds = args.rounds;
    options.confidence = match args.first {
        First::Surest => Confidence::Nonzero,
        First::Largest => Confidence::Magnitude,
        First::Random => Confidence::Random,
    };
    options.sample_zeros = args.sample_zeros;
    options.seed = args.seed;
    options
}

/// The rows of the cells to prompt with.
fn prompting(args: &Args, data: &Data) -> Result<Vec<usize>> {
    let mut rows: Vec<usize> = (0..data.all.n_obs()).collect();
    if let Some(key) = &args.labels_key {
        let labels: Categorical = data.labels(key)?;
        for label in &args.label {
            if !labels.iter().any(|l| l == Some(label)) {
                return Err(data.wrong(format!(
                    "no cell has \"{label}\" in obs {key} (--label); it has: {}",
                    list(labels.categories())
                )));
            }
        }
        rows.retain(|&r| {
            labels
                .get(r)
                .is_some_and(|l| args.label.iter().any(|a| a == l))
        });
    }
    Ok(spread(&rows, args.n_cells))
}

pub(super) fn from_cells(
    args: &Args,
    model: &ScGpt,
    data: &Data,
    known: &GeneMatch,
    panel: &Panel,
    notes: &Notes,
) -> Result<Made> {
    let rows = prompting(args, data)?;
    let mut options = tokens(model, args.max_length, args.seed, notes);
    options.include_zeros = false;
    options.max_len = args.max_length;
    options.cls = Some(options.cls.unwrap_or(model.config().pad_value));
    let tokenizer = Tokenizer::new(model.vocab(), known, options)?;
    let c = model.config();
    let key = args.batch_key.as_deref();
    let told = match c.use_batch_labels || c.input_norm == InputNorm::DomainSpecific {
        true => Some(told(model, data, key.or(notes.batch_key.as_deref()))?),
        false => refuse_batches(key).map(|()| None)?,
    };
    for gene in &args.known {
        if panel.id(gene).is_none() {
            return Err(data.wrong(format!(
                "--known {gene}: there is no such gene, or the model doesn't know it"
            )));
        }
    }
    let mut made = Made::new(rows.len(), panel.names.len());
    let mut truth = Array2::zeros(made.values.dim());
    let matrix = data.matrix()?;
    let (mut counter, options) = (Counter::new("generating"), options_of(args));
    for (first, rows_now) in (0..).step_by(AT_ONCE).zip(rows.chunks(AT_ONCE)) {
        let whole = tokenizer
            .batch(&matrix, rows_now, 0)
            .map_err(|e| data.wrong(e))?;
        let of_cells: Option<Vec<u32>> = told.as_ref().map(|all| {
            rows_now
                .iter()
                .filter_map(|&r| all.get(r).copied())
                .collect()
        });
        let vectors: Option<Tensor> = match args.prompt {
            Kind::Genes => None,
            _ => Some(model.cell_vectors(input(&whole, of_cells.as_deref()))?),
        };
        let batch = TokenBatch::of_prompts(&asked(args, &whole, panel)?, c.mask_value)?;
        let mut options = options.clone();
        // Draws belong to the number of a cell within a batch.
        options.seed = mixed(options.seed, first);
        let found = model.generate(
            input(&batch, of_cells.as_deref()),
            vectors.as_ref(),
            &options,
        )?;
        made.put(first, &batch, &found, panel);
        put_truth(&mut truth, first, &whole, panel);
        counter.set(first + rows_now.len(), rows.len());
    }
    made.truth = Some(truth);
    made.prompts = rows;
    Ok(made)
}

fn input<'a>(tokens: &'a TokenBatch, batches: Option<&'a [u32]>) -> Input<'a> {
    match batches {
        Some(b) => Input::with_batches(tokens, b),
        None => Input::from(tokens),
    }
}

/// Other draws for each part of the cells.
fn mixed(seed: u64, part: usize) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(part as u64)
}

/// What of each cell is known, and what is asked for.
fn asked(args: &Args, whole: &TokenBatch, panel: &Panel) -> Result<Vec<Prompt>> {
    let mut all = match (args.prompt, args.known.is_empty()) {
        (Kind::Cell, _) => Prompt::split(whole, |_, _| false),
        (_, false) => {
            let ids: HashSet<u32> = args.known.iter().filter_map(|g| panel.id(g)).collect();
            Prompt::split(whole, |_, id| ids.contains(&id))
        }
        (_, true) => {
            let options = GenerativeOptions {
                ratios: vec![1.0 - args.known_share.unwrap_or(0.5)],
                max_len: None,
                generator: Generator::Seeded(args.seed),
                ..GenerativeOptions::default()
            };
            let split = GenerativeSplit::new(options)?.split(whole, 0)?;
            let known: Vec<HashSet<u32>> = split
                .segments
                .iter()
                .map(|s| {
                    split
                        .ids
                        .iter()
                        .skip(s.start)
                        .take(s.keys)
                        .copied()
                        .collect()
                })
                .collect();
            Prompt::split(whole, |cell, id| {
                known.get(cell).is_some_and(|k| k.contains(&id))
            })
        }
    };
    if args.ask == Some(Ask::All) {
        all.iter_mut().for_each(|p| p.unknown = others(panel, p));
    }
    Ok(all)
}

/// The genes that are not known.
fn others(panel: &Panel, prompt: &Prompt) -> Vec<u32> {
    let known: HashSet<u32> = prompt.known.iter().map(|k| k.0).collect();
    let all = panel.ids.iter().copied();
    all.filter(|id| !known.contains(id)).collect()
}

/// From genes in bins that were given.
pub(super) fn from_set(args: &Args, model: &ScGpt, data: &Data, panel: &Panel) -> Result<Made> {
    let c = model.config();
    if c.use_batch_labels || c.input_norm == InputNorm::DomainSpecific {
        return Err(Error::Message(format!(
            "--set: {} is told the batch of each cell, which no gene tells; prompt with cells instead",
            args.model.display()
        )));
    }
    if args.ask == Some(Ask::Expressed) {
        return Err(Error::Message(
            "--ask expressed: with --set there is no cell that expresses genes; leave it out"
                .into(),
        ));
    }
    let mut known = vec![(model.vocab().cls()?, model.config().pad_value)];
    for (gene, bin) in &args.set {
        match panel.id(gene) {
            Some(id) => known.push((id, *bin)),
            None => {
                return Err(data.wrong(format!(
                    "--set {gene}={bin}: there is no such gene, or the model doesn't know it"
                )));
            }
        }
    }
    // Without draws all cells would be the same.
    let n = if args.sample_zeros { args.n_cells } else { 1 };
    let mut prompt = Prompt {
        known,
        unknown: Vec::new(),
    };
    prompt.unknown = others(panel, &prompt);
    let batch = TokenBatch::of_prompts(&[prompt], model.config().mask_value)?;
    let mut made = Made::new(n, panel.names.len());
    let (mut counter, options) = (Counter::new("generating"), options_of(args));
    for i in 0..n {
        let mut options = options.clone();
        options.seed = mixed(options.seed, i);
        let found = model.generate(&batch, None, &options)?;
        made.put(i, &batch, &found, panel);
        counter.set(i + 1, n);
    }
    Ok(made)
}
