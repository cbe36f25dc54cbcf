//! What a perturbation does to a cell's expression (upstream's `TransformerGenerator`).

mod decoder;
mod predict;
mod save;
mod task;

use candle_core::{DType, Device, Tensor};
use sc_model::{Init, Mode, ParamBuilder, Params, build_params};
use sc_tensor::rng::Rng;
use serde::{Deserialize, Serialize};

pub use decoder::{Activation, Affine};
pub use predict::{GenesIncluded, PredictOptions};
pub use save::PERTURB_KIND;
pub use task::PerturbTask;

use super::checkpoint::{Allow, Checkpoint, LoadReport};
use super::config::{ScGptConfig, ensure};
use super::decoders::Classifier;
use super::embed::{LabelEncoder, PaddedEmbedding, ValueEncoder};
use super::input::{Input, cell_of_row};
use super::layer::{Attend, Stack};
use super::model::have;
use super::mvc::MvcDecoder;
use super::nets;
use super::rows::gather;
use crate::tokens::{Binner, Binning, TokenBatch};
use crate::vocab::GeneVocab;
use crate::{Error, Result};
use decoder::AffineDecoder;

/// Perturbation flags: none, perturbed, padding.
const N_FLAGS: usize = 3;

/// The architecture of a perturbation model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PerturbConfig {
    /// The transformer. Its batches, modalities and input norm are not used.
    pub base: ScGptConfig,
    /// The flag whose vector stays zero. The original's tutorial takes 0: genes that are not perturbed add nothing.
    pub flag_pad: u32,
    /// What is applied to slope and shift.
    pub activation: Activation,
    /// Multiply the shift by the mean of the values that are not zero.
    pub adaptive_bias: bool,
    /// Bins of the values the transformer reads; `None` reads them as they are, log-normalised. The decoder always multiplies
    /// the original values.
    pub n_input_bins: Option<usize>,
}

impl Default for PerturbConfig {
    /// The recipe of the original: the released transformer without dropout, padding 0, no other heads.
    fn default() -> Self {
        Self {
            base: ScGptConfig {
                dropout: 0.0,
                pad_value: 0.0,
                mvc: None,
                generative: false,
                ..ScGptConfig::default()
            },
            flag_pad: 0,
            activation: Activation::None,
            adaptive_bias: false,
            n_input_bins: None,
        }
    }
}

impl PerturbConfig {
    /// Whether such a model can be.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self) -> Result<()> {
        self.base.check()?;
        let reason = "there are the flags 0, 1 and 2";
        ensure(
            (self.flag_pad as usize) < N_FLAGS,
            "flag_pad",
            self.flag_pad,
            reason,
        )?;
        let told = self.base.has_condition();
        let reason = "a perturbation model is told neither batch nor modality";
        ensure(!told, "use_batch_labels", "on", reason)
    }
}

/// A transformer that reads control cells and flags on perturbed genes, and predicts the expression after.
#[derive(Debug, Clone)]
pub struct ScGptPerturb {
    vocab: GeneVocab,
    config: PerturbConfig,
    params: Params,
    nets: Nets,
}

#[derive(Debug, Clone)]
struct Nets {
    genes: LabelEncoder,
    values: ValueEncoder,
    flags: PaddedEmbedding,
    stack: Stack,
    decoder: AffineDecoder,
    classifier: Option<Classifier>,
    mvc: Option<MvcDecoder>,
}

impl Nets {
    fn new(p: &ParamBuilder<'_>, c: &PerturbConfig) -> Result<Self> {
        let (base, flags) = (&c.base, p.pp("pert_encoder"));
        let pad = Some(c.flag_pad);
        Ok(Self {
            genes: nets::gene_encoder(p, base)?,
            values: ValueEncoder::new(p, base)?,
            flags: PaddedEmbedding::new(&flags, N_FLAGS, base.d_model, pad, Init::Normal(1.0))?,
            stack: Stack::new(p, base)?,
            decoder: AffineDecoder::new(&p.pp("decoder"), c)?,
            classifier: nets::classifier(p, base)?,
            mvc: nets::mvc_decoder(p, base)?,
        })
    }
}

/// What the model makes of some cells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Perturbed {
    /// A vector for each token, `[tokens, D]`.
    pub hidden: Tensor,
    /// The vector of the first token of each cell, `[cells, D]`; a gene, where cells have no `<cls>`.
    pub cells: Tensor,
    /// The expression after the perturbation, and what it is made of.
    pub expression: Affine,
}

impl ScGptPerturb {
    /// A model with random weights.
    ///
    /// # Errors
    /// If a setting can't be, or the vocabulary has another size.
    pub fn init(
        vocab: GeneVocab,
        config: PerturbConfig,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        Self::init_with_dtype(vocab, config, device, DType::F32, seed)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// As [`ScGptPerturb::init`].
    pub fn init_with_dtype(
        vocab: GeneVocab,
        config: PerturbConfig,
        device: &Device,
        dtype: DType,
        seed: u64,
    ) -> Result<Self> {
        config.check()?;
        let n = config.base.n_tokens;
        let reason = format_args!("the vocabulary has {}", vocab.len());
        ensure(n == vocab.len(), "n_tokens", n, reason)?;
        let (nets, params) =
            build_params(device, dtype, &Rng::new(seed), |p| Nets::new(p, &config))?;
        nets.flags.zero_pad()?;
        nets.values.zero_pad()?;
        Ok(Self {
            vocab,
            config,
            params,
            nets,
        })
    }

    /// The recipe of the original on a pre-trained model: genes, values and transformer are its, the rest is new.
    ///
    /// # Errors
    /// If the checkpoint lacks one of these.
    pub fn from_pretrained(
        from: &Checkpoint,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, LoadReport)> {
        let mut config = PerturbConfig::default();
        let found = from.config()?;
        config.base = ScGptConfig {
            dropout: 0.0,
            pad_value: 0.0,
            mvc: None,
            generative: false,
            input_norm: Default::default(),
            classes: Vec::new(),
            batches: Vec::new(),
            use_batch_labels: false,
            adversary: false,
            modalities: Vec::new(),
            ..found
        };
        let model = Self::init(from.vocab().clone(), config, device, seed)?;
        let report = model.load_weights(from, &Allow::fine_tuning())?;
        Ok((model, report))
    }

    /// Overwrites parameters by those of a checkpoint; see [`ScGpt::load_weights`](super::ScGpt::load_weights).
    ///
    /// # Errors
    /// [`Error::Incompatible`] lists what does not fit.
    pub fn load_weights(&self, from: &Checkpoint, allow: &Allow) -> Result<LoadReport> {
        from.load_into(&self.params, allow)
    }

    /// The settings.
    pub fn config(&self) -> &PerturbConfig {
        &self.config
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &GeneVocab {
        &self.vocab
    }

    /// All weights.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// Reads control cells, whose tokens have flags, and predicts their expression after the perturbation.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the tokens are not such that this model can read them.
    pub fn forward(&self, cells: &TokenBatch, mode: &Mode<'_>) -> Result<Perturbed> {
        let flags = self.check(cells)?;
        let genes = self.nets.genes.table(&cells.ids, mode)?;
        let values = self.input_values(cells)?;
        let h = self.nets.values.join(&genes.expand()?, &values, mode)?;
        let h = (h + self.nets.flags.forward(flags, mode)?)?;
        let to = Attend {
            segments: &cells.segments,
            unknown: None,
        };
        let hidden = self.nets.stack.forward(h, &to, mode)?;
        let expression = self.nets.decoder.forward(&hidden, cells, mode)?;
        Ok(Perturbed {
            cells: gather(&hidden, &cells.first_tokens())?,
            hidden,
            expression,
        })
    }

    fn check<'a>(&self, cells: &'a TokenBatch) -> Result<&'a [u32]> {
        Input::from(cells).check(&self.config.base, false)?;
        let Some(flags) = cells.flags.as_deref() else {
            return Err(Error::InvalidSetting {
                name: "flags",
                value: "none".into(),
                reason:
                    "this model needs to be told which genes are perturbed: a flag a token, 0 or 1"
                        .into(),
            });
        };
        if let Some(f) = flags.iter().find(|&&f| f as usize >= N_FLAGS) {
            let reason = "there are 0 (no), 1 (perturbed) and 2 (padding)";
            ensure(false, "flag", f, reason)?;
        }
        Ok(flags)
    }

    /// The values as the transformer reads them: binned cell by cell, if it was made for bins.
    fn input_values(&self, cells: &TokenBatch) -> Result<Vec<f32>> {
        let Some(n_bins) = self.config.n_input_bins else {
            return Ok(cells.values.clone());
        };
        let binner = Binner::new(Binning {
            n_bins,
            ..Binning::default()
        })?;
        let mut all = Vec::with_capacity(cells.n_tokens());
        for (cell, s) in cells.segments.iter().enumerate() {
            let row = cells.values.get(s.start..s.start + s.rows).unwrap_or(&[]);
            all.extend(binner.bin(&[cell as u64], row));
        }
        Ok(all)
    }

    /// Expression from the cells' vectors.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no such decoder.
    pub fn decode_from_cells(
        &self,
        cells: &TokenBatch,
        made: &Perturbed,
        mode: &Mode<'_>,
    ) -> Result<super::Predicted> {
        let mvc = have(self.nets.mvc.as_ref(), "mvc")?;
        let genes = self.nets.genes.table(&cells.ids, mode)?;
        mvc.forward(
            &made.cells,
            &genes,
            &cell_of_row(&cells.segments),
            None,
            mode,
        )
    }

    /// Logits of classes, `[cells, classes]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no classifier.
    pub fn class_logits(&self, cells: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        have(self.nets.classifier.as_ref(), "classes")?.forward(cells, mode)
    }
}
