//! From settings to a model.

use candle_core::{DType, Device};
use sc_model::{Parity, build_params};
use sc_tensor::rng::Rng;

use super::config::{
    CellEmbedding, InputNorm, MvcStyle, NormPlacement, ScGptConfig, ValueInput, ensure,
};
use super::model::ScGpt;
use super::nets::Nets;
use crate::Result;
use crate::vocab::GeneVocab;

/// Settings of a model that is to be made. Start from [`ScGpt::params`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScGptParams {
    vocab: GeneVocab,
    config: ScGptConfig,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $t:ty),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $t) -> Self { self.config.$name = $name; self })+
    };
}

impl ScGptParams {
    setters! {
        /// The width of the model; 512.
        d_model: usize,
        /// Attention heads; 8.
        n_heads: usize,
        /// The width inside the feed-forward networks; 512.
        d_hid: usize,
        /// Layers of the transformer; 12.
        n_layers: usize,
        /// Layers of the classifier and of the adversary; 3.
        n_layers_cls: usize,
        /// Share of units dropped while training; 0.2.
        dropout: f64,
        /// Bins of expression, zero included; 51.
        n_bins: usize,
        /// The value that `<cls>` and padding hold; -2.
        pad_value: f32,
        /// The value that a masked gene holds; -1.
        mask_value: f32,
        /// How values enter; through a small network.
        value_input: ValueInput,
        /// What stands for a cell; its `<cls>`.
        cell_embedding: CellEmbedding,
        /// What is normalised before the transformer; nothing.
        input_norm: InputNorm,
        /// Where a layer normalises; after the sums.
        norm_placement: NormPlacement,
        /// The cell types a classifier knows; none.
        classes: Vec<String>,
        /// The batches the model knows; none.
        batches: Vec<String>,
        /// Whether the decoders are told the batch; they are not.
        use_batch_labels: bool,
        /// Whether an adversary tries to tell the batch from the cell; there is none.
        adversary: bool,
        /// The modalities the decoders are told; none.
        modalities: Vec<String>,
        /// Predict values from the cell's vector, too; by an inner product.
        mvc: Option<MvcStyle>,
        /// Whether to predict the probability that a value is not zero; it is not predicted.
        nonzero_prob: bool,
        /// Whether there are the vectors that mark genes to generate; there are.
        generative: bool,
        /// Whether to repeat the original's known errors; they are not repeated.
        parity: Parity,
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names the first setting that can't be.
    pub fn check(self) -> Result<ScGptValidParams> {
        let (n, found) = (self.config.n_tokens, self.vocab.len());
        let reason = format_args!("the vocabulary has {found}");
        ensure(n == found, "n_tokens", n, reason)?;
        self.config.check()?;
        Ok(ScGptValidParams(self))
    }
}

/// Settings that passed [`ScGptParams::check`].
#[derive(Debug, Clone)]
pub struct ScGptValidParams(ScGptParams);

impl ScGptValidParams {
    /// The settings.
    pub fn config(&self) -> &ScGptConfig {
        &self.0.config
    }

    /// A model with random weights, distributed as PyTorch's, but for the network that reads bins, which starts so that it
    /// tells large ones apart (not with [`Parity::Upstream`]).
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<ScGpt> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<ScGpt> {
        let ScGptParams { vocab, config } = self.0.clone();
        let (nets, params) =
            build_params(device, dtype, &Rng::new(seed), |p| Nets::new(p, &config))?;
        nets.zero_pads()?;
        if config.parity == Parity::Correct {
            nets.spread_values(config.n_bins)?;
        }
        Ok(ScGpt {
            vocab,
            config,
            params,
            nets,
        })
    }
}

impl ScGpt {
    /// The settings of the released whole-human model, for another vocabulary.
    ///
    /// # Errors
    /// [`Error::MissingToken`](crate::Error::MissingToken) if it has no `<pad>`.
    pub fn params(vocab: &GeneVocab) -> Result<ScGptParams> {
        let config = ScGptConfig {
            n_tokens: vocab.len(),
            pad_id: vocab.pad()?,
            ..ScGptConfig::default()
        };
        Ok(Self::with_config(vocab.clone(), config))
    }

    /// Settings that are there already.
    pub fn with_config(vocab: GeneVocab, config: ScGptConfig) -> ScGptParams {
        ScGptParams { vocab, config }
    }
}
