//! The settings of a model.

use sc_model::Parity;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the value of a gene becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueInput {
    /// A small network reads the number itself: what the released models do.
    #[default]
    Continuous,
    /// One learned vector a bin. Two more follow the bins: for padding, then for masked values.
    Category {
        /// Bins, padding and mask together: 53 for 51 bins.
        n: usize,
    },
    /// The vector of the gene times the value.
    Scaling,
}

/// What stands for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellEmbedding {
    /// The output at the first token, `<cls>`.
    #[default]
    Cls,
    /// The mean over the tokens of the cell.
    AvgPool,
    /// The sum over the tokens, each times its value, at length 1.
    WPool,
}

/// What is normalised between the tokens' vectors and the transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputNorm {
    /// Nothing.
    #[default]
    None,
    /// All rows of a minibatch together. Models that users fine-tuned before December 2023 have it.
    Batch,
    /// The rows of each batch (donor, technology) on their own: domain-specific batch normalisation (Chang et al. 2019).
    DomainSpecific,
}

/// Where a layer of the transformer normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlacement {
    /// After each residual sum: the released models.
    #[default]
    Post,
    /// Before attention and before the feed-forward network, with a last norm after all layers.
    Pre,
    /// scGPT's own `pre_norm`, in which the residual branch carries the normalised rows and no norm ends the stack. For
    /// comparison with the original.
    UpstreamPre,
}

/// How a cell's vector and a gene's vector give the value of that gene in that cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MvcStyle {
    /// A bilinear form.
    #[default]
    #[serde(rename = "inner product")]
    InnerProduct,
    /// The same, without gradients to the genes' vectors.
    #[serde(rename = "inner product, detach")]
    InnerProductDetach,
    /// A network on both, side by side.
    #[serde(rename = "concat query")]
    ConcatQuery,
    /// A network on their sum.
    #[serde(rename = "sum query")]
    SumQuery,
}

/// The architecture of a model; made by [`ScGpt::params`](super::ScGpt::params) or read from a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ScGptConfig {
    /// Tokens of the vocabulary.
    pub n_tokens: usize,
    /// The id of `<pad>`, whose vector is never trained.
    pub pad_id: u32,
    /// The width of the model, `embsize`; 512.
    pub d_model: usize,
    /// Attention heads; 8.
    pub n_heads: usize,
    /// The width inside the feed-forward networks; 512.
    pub d_hid: usize,
    /// Layers of the transformer; 12.
    pub n_layers: usize,
    /// Layers of the classifier and of the adversary; 3.
    pub n_layers_cls: usize,
    /// Share of units dropped while training; 0.2.
    pub dropout: f64,
    /// Bins of expression, zero included; 51.
    pub n_bins: usize,
    /// The value that `<cls>` and padding hold; -2.
    pub pad_value: f32,
    /// The value that a masked gene holds; -1.
    pub mask_value: f32,
    /// How values enter.
    pub value_input: ValueInput,
    /// What stands for a cell.
    pub cell_embedding: CellEmbedding,
    /// What is normalised before the transformer.
    pub input_norm: InputNorm,
    /// Where a layer normalises.
    pub norm_placement: NormPlacement,
    /// The cell types a classifier knows; none, and there is no classifier.
    pub classes: Vec<String>,
    /// The batches the model knows.
    pub batches: Vec<String>,
    /// Whether the decoders are told the batch.
    pub use_batch_labels: bool,
    /// Whether an adversary tries to tell the batch from the cell's vector.
    pub adversary: bool,
    /// The modalities and their special tokens, if the decoders are told the modality of each gene.
    pub modalities: Vec<String>,
    /// Predicts the values from the cell's vector, too (GEPC, also called MVC).
    pub mvc: Option<MvcStyle>,
    /// Whether the decoders predict the probability that a value is not zero (upstream's `explicit_zero_prob`).
    pub nonzero_prob: bool,
    /// Whether there are the vectors that mark a gene as one to generate.
    pub generative: bool,
    /// Whether to repeat the original's known errors: the first cell's batch normalises the whole minibatch, and pooling
    /// counts padding.
    pub parity: Parity,
}

impl Default for ScGptConfig {
    /// The released whole-human model, without a vocabulary.
    fn default() -> Self {
        Self {
            n_tokens: 0,
            pad_id: 0,
            d_model: 512,
            n_heads: 8,
            d_hid: 512,
            n_layers: 12,
            n_layers_cls: 3,
            dropout: 0.2,
            n_bins: 51,
            pad_value: -2.0,
            mask_value: -1.0,
            value_input: ValueInput::default(),
            cell_embedding: CellEmbedding::default(),
            input_norm: InputNorm::default(),
            norm_placement: NormPlacement::default(),
            classes: Vec::new(),
            batches: Vec::new(),
            use_batch_labels: false,
            adversary: false,
            modalities: Vec::new(),
            mvc: Some(MvcStyle::InnerProduct),
            nonzero_prob: false,
            generative: true,
            parity: Parity::Correct,
        }
    }
}

impl ScGptConfig {
    /// The width of what the decoders are told besides: batch, modality.
    pub(super) fn has_condition(&self) -> bool {
        self.use_batch_labels || !self.modalities.is_empty()
    }

    /// The width of the input of the expression decoder.
    pub(super) fn decoder_width(&self) -> usize {
        self.d_model * if self.has_condition() { 2 } else { 1 }
    }

    /// The id of the modality `<pad>`, whose vector is never trained.
    pub(super) fn modality_pad(&self) -> Option<u32> {
        let at = self.modalities.iter().position(|m| m == "<pad>")?;
        u32::try_from(at).ok()
    }

    /// Whether such a model can be.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("n_tokens", self.n_tokens),
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("d_hid", self.d_hid),
            ("n_layers", self.n_layers),
            ("n_layers_cls", self.n_layers_cls),
        ];
        for (name, value) in positive {
            ensure(value > 0, name, value, "it must be at least 1")?;
        }
        let (d, h) = (self.d_model, self.n_heads);
        ensure(
            d.is_multiple_of(h),
            "n_heads",
            h,
            format_args!("it must divide d_model = {d}"),
        )?;
        ensure(
            (self.pad_id as usize) < self.n_tokens,
            "pad_id",
            self.pad_id,
            format_args!("the vocabulary has {} tokens", self.n_tokens),
        )?;
        let p = self.dropout;
        ensure(
            (0.0..1.0).contains(&p),
            "dropout",
            p,
            "it must be at least 0 and below 1",
        )?;
        ensure(
            self.n_bins >= 2,
            "n_bins",
            self.n_bins,
            "there must be a bin for zero and one more",
        )?;
        if let ValueInput::Category { n } = self.value_input {
            let needed = self.n_bins + 2;
            let reason = format_args!("{} bins, padding and mask need {needed}", self.n_bins);
            ensure(n >= needed, "value_input", n, reason)?;
        }
        self.check_batches()
    }

    fn check_batches(&self) -> Result<()> {
        let n = self.batches.len();
        let needs = [
            ("use_batch_labels", self.use_batch_labels),
            ("adversary", self.adversary),
            ("input_norm", self.input_norm == InputNorm::DomainSpecific),
        ];
        for (name, needed) in needs {
            let reason = "it needs the names of the batches";
            ensure(!needed || n > 0, name, "on", reason)?;
        }
        let mixed = matches!(self.mvc, Some(MvcStyle::ConcatQuery | MvcStyle::SumQuery))
            && self.has_condition();
        let reason = "this style can't be told batches or modalities; choose an inner product";
        ensure(!mixed, "mvc", "concat query or sum query", reason)
    }
}

/// [`Error::InvalidSetting`] unless `fine`.
pub(crate) fn ensure(
    fine: bool,
    name: &'static str,
    value: impl std::fmt::Display,
    reason: impl std::fmt::Display,
) -> Result<()> {
    match fine {
        true => Ok(()),
        false => Err(Error::InvalidSetting {
            name,
            value: value.to_string(),
            reason: reason.to_string(),
        }),
    }
}
