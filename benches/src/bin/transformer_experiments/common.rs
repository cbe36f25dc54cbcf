//! Settings and steps that the experiments share.

use std::path::PathBuf;

use sc_data::{AnnData, Categorical};
use sc_model::Params;
use sc_model::train::TrainConfig;
use sc_transformer::scgpt::ScGptConfig;
use sc_transformer::vocab::{GeneVocab, SPECIALS};
use serde_json::{Value, json};

use crate::Result;

/// Data, seeds, sizes and training.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// The cells, with counts in X
    pub(crate) data: PathBuf,
    /// Folder of results
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[arg(long, num_args = 1.., default_values_t = [0, 1, 2])]
    pub(crate) seeds: Vec<u64>,
    /// Epochs of scGPT
    #[arg(long, default_value_t = 15)]
    epochs: usize,
    /// Learning rate of scGPT
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    #[arg(long, default_value_t = 64)]
    d_model: usize,
    #[arg(long, default_value_t = 4)]
    n_heads: usize,
    #[arg(long, default_value_t = 64)]
    d_hid: usize,
    #[arg(long, default_value_t = 2)]
    n_layers: usize,
}

impl Common {
    /// The sizes of a model for this vocabulary.
    pub(crate) fn size(&self, c: &mut ScGptConfig, vocab: &GeneVocab) -> Result<()> {
        (c.n_tokens, c.pad_id) = (vocab.len(), vocab.pad()?);
        (c.d_model, c.n_heads) = (self.d_model, self.n_heads);
        (c.d_hid, c.n_layers) = (self.d_hid, self.n_layers);
        Ok(())
    }

    /// A recipe with the epochs and the rate that were asked for.
    pub(crate) fn train(&self, mut recipe: TrainConfig) -> TrainConfig {
        (recipe.max_epochs, recipe.lr) = (Some(self.epochs), self.lr);
        recipe
    }

    pub(crate) fn epochs(&self) -> usize {
        self.epochs
    }

    /// What makes runs different.
    pub(crate) fn settings(&self, seed: u64) -> Value {
        let data = self.data.file_name().unwrap_or_default();
        json!({
            "data": data.to_string_lossy(), "seed": seed, "epochs": self.epochs, "lr": self.lr,
            "d_model": self.d_model, "n_heads": self.n_heads, "d_hid": self.d_hid, "n_layers": self.n_layers,
        })
    }

    /// The same as a part of file names.
    pub(crate) fn name(&self) -> String {
        let (e, lr, d, l) = (self.epochs, self.lr, self.d_model, self.n_layers);
        format!("d{d}-l{l}-e{e}-lr{lr}")
    }
}

/// Genes with scGPT's special tokens behind them, so that the token of a gene is its column.
pub(crate) fn vocab(genes: &[String]) -> Result<GeneVocab> {
    Ok(GeneVocab::new(genes.iter().cloned())?.with_specials(&SPECIALS)?)
}

/// A column of obs.
pub(crate) fn column(data: &AnnData, key: &str) -> Result<Categorical> {
    Ok(data.obs.column("obs", key)?.to_categorical(key)?)
}

/// The weights that both models have in the same shape; says how many.
pub(crate) fn take_over(new: &Params, old: &Params) -> Result<usize> {
    let mut taken = 0;
    for p in new.iter() {
        let same = old.get(p.name());
        if let Some(same) = same.filter(|o| o.export_shape() == p.export_shape()) {
            p.import(&same.export()?)?;
            taken += 1;
        }
    }
    Ok(taken)
}
