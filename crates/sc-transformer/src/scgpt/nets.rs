//! All networks of a model.

use candle_core::Tensor;
use sc_model::{Init, Mode, Param, ParamBuilder};

use super::config::ScGptConfig;
use super::decoders::{Between, Classifier, ExpressionDecoder};
use super::embed::{LabelEncoder, ValueEncoder};
use super::layer::Stack;
use super::mvc::{MvcDecoder, Widths};
use super::norm::TokenNorm;
use crate::Result;

#[derive(Debug, Clone)]
pub(super) struct Nets {
    pub(super) genes: LabelEncoder,
    /// Row 1 marks a gene whose value is to be generated; row 0 is never used.
    pub(super) flags: Option<Param>,
    pub(super) values: ValueEncoder,
    pub(super) batches: Option<LabelEncoder>,
    pub(super) modalities: Option<LabelEncoder>,
    pub(super) token_norm: TokenNorm,
    pub(super) stack: Stack,
    pub(super) decoder: ExpressionDecoder,
    pub(super) classifier: Option<Classifier>,
    pub(super) mvc: Option<MvcDecoder>,
    pub(super) adversary: Option<Classifier>,
}

/// Bound of the uniform distribution that the genes' vectors start from.
const GENE_INIT: f64 = 0.1;

/// The genes' vectors.
pub(super) fn gene_encoder(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<LabelEncoder> {
    let init = Init::Uniform(GENE_INIT);
    LabelEncoder::new(
        &p.pp("encoder"),
        c.n_tokens,
        c.d_model,
        Some(c.pad_id),
        init,
    )
}

/// The decoder of cells' vectors; `condition` says which sides are told batch and modality.
pub(super) fn mvc_decoder(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Option<MvcDecoder>> {
    let Some(style) = c.mvc else { return Ok(None) };
    let query = match c.modalities.is_empty() {
        true => c.d_model,
        false => 2 * c.d_model,
    };
    let widths = Widths {
        query,
        cell: c.decoder_width(),
    };
    MvcDecoder::new(&p.pp("mvc_decoder"), style, widths, c.nonzero_prob).map(Some)
}

/// The cell-type classifier.
pub(super) fn classifier(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Option<Classifier>> {
    let (p, n) = (p.pp("cls_decoder"), c.classes.len());
    let make = || Classifier::new(&p, c.d_model, c.n_layers_cls, n, Between::Relu);
    (n > 0).then(make).transpose()
}

impl Nets {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let (d, init) = (c.d_model, Init::Normal(1.0));
        let labels = |name: &str, n: usize, pad| LabelEncoder::new(&p.pp(name), n, d, pad, init);
        let n_batches = c.batches.len();
        let adversary = || {
            let p = p.pp("grad_reverse_discriminator");
            Classifier::new(&p, d, c.n_layers_cls, n_batches, Between::LeakyRelu)
        };
        Ok(Self {
            genes: gene_encoder(p, c)?,
            flags: c
                .generative
                .then(|| p.pp("flag_encoder").param("weight", (2, d), init))
                .transpose()?,
            values: ValueEncoder::new(p, c)?,
            batches: c
                .use_batch_labels
                .then(|| labels("batch_encoder", n_batches, None))
                .transpose()?,
            modalities: (!c.modalities.is_empty())
                .then(|| labels("mod_encoder", c.modalities.len(), c.modality_pad()))
                .transpose()?,
            token_norm: TokenNorm::new(p, c)?,
            stack: Stack::new(p, c)?,
            decoder: ExpressionDecoder::new(
                &p.pp("decoder"),
                c.decoder_width(),
                d,
                c.nonzero_prob,
            )?,
            classifier: classifier(p, c)?,
            mvc: mvc_decoder(p, c)?,
            adversary: c.adversary.then(adversary).transpose()?,
        })
    }

    /// Starts the vectors of padding at zero where PyTorch does. (The genes' table is overwritten there, padding and all.)
    pub(super) fn zero_pads(&self) -> Result<()> {
        self.values.zero_pad()?;
        match &self.modalities {
            Some(m) => m.embedding.zero_pad(),
            None => Ok(()),
        }
    }

    /// Starts the network that reads bins so that it tells them apart.
    pub(super) fn spread_values(&self, n_bins: usize) -> Result<()> {
        self.values.spread(n_bins.saturating_sub(1) as f64)
    }

    /// The vector that marks a gene as one to generate, `[1, D]`.
    pub(super) fn unknown_flag(&self, mode: &Mode<'_>) -> Result<Option<Tensor>> {
        let row = |p: &Param| Ok(sc_tensor::ops::embedding_ids(p.get(mode), &[1])?);
        self.flags.as_ref().map(row).transpose()
    }
}
