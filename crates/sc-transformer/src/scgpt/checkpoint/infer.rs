//! Which model a checkpoint is of.

use std::collections::BTreeSet;

use sc_model::Parity;

use super::Checkpoint;
use crate::scgpt::config::{InputNorm, MvcStyle, NormPlacement, ScGptConfig, ValueInput};
use crate::vocab::{CLS, EOC, PAD};
use crate::{Error, Result};

pub(super) const GENES: &str = "encoder.embedding.weight";
const LAYERS: &str = "transformer_encoder.layers.";

pub(super) fn config(checkpoint: &Checkpoint) -> Result<ScGptConfig> {
    let of = Shapes(checkpoint);
    let args = checkpoint.args();
    let Some(&[n_tokens, d_model]) = of.get(GENES) else {
        return Err(Error::Model(sc_model::Error::MissingTensor {
            path: checkpoint.path().to_owned(),
            name: GENES.into(),
            what: "the table of genes, [tokens, width]".into(),
        }));
    };
    let vocab = checkpoint.vocab();
    let pad = vocab.needed(&args.pad_token, "needed to fill up cells")?;
    if vocab.len() != n_tokens {
        return Err(Error::InvalidSetting {
            name: "vocabulary",
            value: format!("{} tokens", vocab.len()),
            reason: format!("the checkpoint has {n_tokens}; use the vocab.json that belongs to it"),
        });
    }
    let mut config = args.config(n_tokens, pad);
    config.d_model = d_model;
    config.n_layers = of.count(LAYERS).unwrap_or(config.n_layers);
    config.d_hid = of.d_hid().unwrap_or(config.d_hid);
    config.parity = Parity::Correct;
    of.input(&mut config);
    of.conditions(&mut config);
    of.heads(&mut config);
    args.check(&config)?;
    config.check()?;
    Ok(config)
}

struct Shapes<'a>(&'a Checkpoint);

impl Shapes<'_> {
    fn get(&self, name: &str) -> Option<&[usize]> {
        Some(self.0.tensor(name)?.shape())
    }

    fn rows(&self, name: &str) -> Option<usize> {
        self.get(name)?.first().copied()
    }

    fn has(&self, prefix: &str) -> bool {
        self.0.shapes().any(|(n, _)| n.starts_with(prefix))
    }

    /// How many different numbers follow a prefix; with a gap among them, as many as fill it.
    fn count(&self, prefix: &str) -> Option<usize> {
        let number = |name: &str| -> Option<usize> {
            name.strip_prefix(prefix)?.split('.').next()?.parse().ok()
        };
        let all: BTreeSet<usize> = self.0.shapes().filter_map(|(n, _)| number(n)).collect();
        let last = *all.last()?;
        // A number out of proportion is no layer, and shows up as unexpected.
        Some((last + 1).min(2 * all.len()))
    }

    fn d_hid(&self) -> Option<usize> {
        let of = |name: &str, axis: usize| {
            let ends = |n: &str| n.starts_with(LAYERS) && n.ends_with(name);
            let (_, shape) = self.0.shapes().find(|(n, _)| ends(n))?;
            shape.get(axis).copied()
        };
        of(".linear1.weight", 0).or_else(|| of(".linear2.weight", 1))
    }

    /// How tokens are read.
    fn input(&self, c: &mut ScGptConfig) {
        if let Some(n) = self.rows("value_encoder.embedding.weight") {
            c.value_input = ValueInput::Category { n };
            c.n_bins = c.n_bins.min(n.saturating_sub(2));
            if c.pad_value < 0.0 {
                // What the original takes for categories.
                (c.pad_value, c.mask_value) = (c.n_bins as f32, c.n_bins as f32 + 1.0);
            }
        }
        c.generative = self.has("flag_encoder.");
        c.norm_placement = match self.has("transformer_encoder.norm.") {
            true => NormPlacement::Pre,
            false => NormPlacement::Post,
        };
        c.input_norm = match (self.has("dsbn."), self.has("bn.")) {
            (true, _) => InputNorm::DomainSpecific,
            (false, true) => InputNorm::Batch,
            (false, false) => InputNorm::None,
        };
    }

    /// Batches and modalities. Their names are not in the file.
    fn conditions(&self, c: &mut ScGptConfig) {
        c.use_batch_labels = self.has("batch_encoder.");
        c.adversary = self.has("grad_reverse_discriminator.");
        let n = self
            .rows("batch_encoder.embedding.weight")
            .or_else(|| self.count("dsbn.bns."))
            .or_else(|| self.rows("grad_reverse_discriminator.out_layer.weight"));
        c.batches = numbered(n.unwrap_or(0));
        let n = self.rows("mod_encoder.embedding.weight").unwrap_or(0);
        c.modalities = numbered(n);
        if let Some(specials) = n.checked_sub(3).and_then(|at| c.modalities.get_mut(at..)) {
            // The original appends them to the names in this order.
            for (slot, name) in specials.iter_mut().zip([PAD, CLS, EOC]) {
                *slot = name.to_owned();
            }
        }
    }

    /// Decoders and classifiers.
    fn heads(&self, c: &mut ScGptConfig) {
        c.classes = numbered(self.rows("cls_decoder.out_layer.weight").unwrap_or(0));
        for head in [
            "cls_decoder._decoder.",
            "grad_reverse_discriminator._decoder.",
        ] {
            // A linear map and a norm for each layer but the last; 0, 3, 6 ... are the maps.
            let maps = self
                .0
                .shapes()
                .filter(|(n, s)| n.starts_with(head) && n.ends_with(".weight") && s.len() == 2);
            if self.has(head) {
                c.n_layers_cls = maps.count() + 1;
                break;
            }
        }
        c.nonzero_prob = self.has("decoder.zero_logit.");
        let query = self.get("mvc_decoder.gene2query.weight");
        c.mvc = match (self.get("mvc_decoder.fc1.weight"), query) {
            (Some(&[_, n_in]), Some(&[n_query, _])) if n_in != n_query => {
                Some(MvcStyle::ConcatQuery)
            }
            (Some(_), _) => Some(MvcStyle::SumQuery),
            (None, _) => self.has("mvc_decoder.").then_some(MvcStyle::InnerProduct),
        };
    }
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}
