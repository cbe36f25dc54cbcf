use std::ops::Range;

use sc_model::Parity;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How much each part of the loss weighs. The defaults are scglue's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LossWeights {
    /// Reconstruction of each modality from its own encoder, and its KL term.
    pub data: f64,
    /// The KL term within it.
    pub kl: f64,
    /// The adversary, or another [`Alignment`]: 0.02 is scglue's; the winning model of the competition had 2 for CITE-seq.
    pub align: f64,
    /// The classifier of labels.
    pub supervised: f64,
    /// Reconstruction from the joint embedding of all modalities of a cell.
    pub joint_cross: f64,
    /// Reconstruction of one modality from the encoder of another.
    pub real_cross: f64,
    /// Nearness of the embeddings of one cell from its modalities.
    pub pairing: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self {
            data: 1.0,
            kl: 1.0,
            align: 0.02,
            supervised: 0.02,
            joint_cross: 0.02,
            real_cross: 0.02,
            pairing: 0.02,
        }
    }
}

impl LossWeights {
    /// Those of the model that won the CITE-seq tasks of NeurIPS 2021.
    pub fn winning_cite() -> Self {
        Self {
            align: 2.0,
            joint_cross: 2.0,
            real_cross: 0.0,
            pairing: 1.0,
            ..Self::default()
        }
    }

    /// Those of the model that won the Multiome tasks.
    pub fn winning_multiome() -> Self {
        Self {
            kl: 0.3,
            align: 0.02,
            joint_cross: 1.0,
            real_cross: 0.0,
            pairing: 0.02,
            ..Self::default()
        }
    }

    fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("weights.data", self.data),
            ("weights.kl", self.kl),
            ("weights.align", self.align),
            ("weights.supervised", self.supervised),
            ("weights.joint_cross", self.joint_cross),
            ("weights.real_cross", self.real_cross),
            ("weights.pairing", self.pairing),
        ]
    }
}

/// What holds the embeddings of one cell from its modalities together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PairingLoss {
    /// One minus the cosine to their mean: scglue's code.
    #[default]
    Cosine,
    /// The mean of the squared distances to their mean: the paper. For vectors of length 1 and one cell with two
    /// modalities it is half of the cosine loss.
    Mse,
    /// Contrast: each cell must find its own other side among the cells of the minibatch, by a softmax over cosines divided by
    /// [`ClueConfig::temperature`], both ways, averaged over pairs of modalities (InfoNCE: van den Oord et al. 2018; Novel and
    /// MatchCLOT match cells with it).
    InfoNce,
}

/// What makes modalities alike where no pairs say how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Alignment {
    /// An adversary that guesses modalities: CLUE.
    #[default]
    Adversary,
    /// The Sinkhorn divergence between modalities in each minibatch, which needs no second player: steadier, and blind to what is
    /// rarer than a minibatch shows.
    Sinkhorn,
}

/// How the modalities of a cell become one embedding while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fusion {
    /// The mean of samples of length 1, brought to length 1 again: scglue's code.
    #[default]
    Mean,
    /// A sample of the product of the posteriors: the paper. The surer a modality, the more it counts.
    Product,
}

/// What the adversary reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdversaryInput {
    /// Posterior means as they are: scglue's code. Their length alone can give the modality away.
    #[default]
    Mean,
    /// Posterior means of length 1, which is what the decoders read.
    UnitMean,
}

/// How the adversary and the rest take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Turns {
    /// First the adversary learns from a minibatch, then the rest, with fresh noise: scglue.
    #[default]
    Alternate,
    /// Both learn from one pass, through a reversed gradient (Ganin and Lempitsky 2015), which saves the encoders a pass.
    Together,
}

/// The settings of [`Clue`](crate::Clue).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClueConfig {
    /// Dimensions of the subspace of each modality; the embedding has as many times more as there are modalities.
    pub latent_dim: usize,
    /// Whether each modality is decoded from a subspace of its own, which is what CLUE is about. Without, from all of the
    /// embedding, as other models do: for comparison.
    pub subspaces: bool,
    /// Hidden layers of each encoder.
    pub encoder_depth: usize,
    /// Their width.
    pub encoder_dim: usize,
    /// Hidden layers of each decoder.
    pub decoder_depth: usize,
    /// Their width.
    pub decoder_dim: usize,
    /// Hidden layers of the adversary.
    pub adversary_depth: usize,
    /// Their width.
    pub adversary_dim: usize,
    /// Share of hidden units dropped while training.
    pub dropout: f64,
    /// Whether embeddings are brought to length 1 before they are fused and decoded.
    pub normalize: bool,
    /// How the modalities of a cell become one.
    pub fusion: Fusion,
    /// Whether the adversary is told the batch of a cell, so that batches need not be made alike.
    pub adversary_sees_batch: bool,
    /// What the adversary reads.
    pub adversary_input: AdversaryInput,
    /// What makes modalities alike; `weights.align` is its weight.
    pub alignment: Alignment,
    /// What holds paired cells together.
    pub pairing: PairingLoss,
    /// Of [`PairingLoss::InfoNce`]: the smaller, the more the nearest wrong cells count.
    pub temperature: f64,
    /// How much each part of the loss weighs.
    pub weights: LossWeights,
    /// [`Parity::Upstream`] repeats what scglue computes: library sizes from a linear map whose units can die, and cells that
    /// stand in for missing ones.
    pub parity: Parity,
}

impl Default for ClueConfig {
    fn default() -> Self {
        Self {
            latent_dim: 50,
            subspaces: true,
            encoder_depth: 2,
            encoder_dim: 256,
            decoder_depth: 2,
            decoder_dim: 256,
            adversary_depth: 2,
            adversary_dim: 256,
            dropout: 0.2,
            normalize: true,
            fusion: Fusion::default(),
            adversary_sees_batch: false,
            adversary_input: AdversaryInput::default(),
            alignment: Alignment::default(),
            pairing: PairingLoss::default(),
            temperature: 0.07,
            weights: LossWeights::default(),
            parity: Parity::default(),
        }
    }
}

impl ClueConfig {
    /// The model that won the CITE-seq tasks of the NeurIPS 2021 competition.
    pub fn winning_cite() -> Self {
        Self {
            latent_dim: 20,
            encoder_dim: 512,
            decoder_depth: 1,
            decoder_dim: 128,
            adversary_dim: 128,
            adversary_sees_batch: true,
            weights: LossWeights::winning_cite(),
            ..Self::default()
        }
    }

    /// The model that won the Multiome tasks.
    pub fn winning_multiome() -> Self {
        Self {
            encoder_dim: 512,
            decoder_depth: 1,
            adversary_depth: 1,
            adversary_sees_batch: true,
            weights: LossWeights::winning_multiome(),
            ..Self::default()
        }
    }

    /// The columns of the embedding that a modality is decoded from.
    pub(crate) fn subspace(&self, modality: usize, n_modalities: usize) -> Range<usize> {
        match self.subspaces {
            true => modality * self.latent_dim..(modality + 1) * self.latent_dim,
            false => 0..n_modalities * self.latent_dim,
        }
    }

    /// Whether there is an adversary to train.
    pub(crate) fn has_adversary(&self) -> bool {
        self.weights.align > 0.0 && self.alignment == Alignment::Adversary
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.into(),
            })
        };
        for (name, value) in [
            ("latent_dim", self.latent_dim),
            ("encoder_dim", self.encoder_dim),
            ("decoder_dim", self.decoder_dim),
            ("adversary_dim", self.adversary_dim),
        ] {
            if value == 0 || value > 1 << 20 {
                return wrong(
                    name,
                    value.to_string(),
                    "it must be between 1 and 1,048,576",
                );
            }
        }
        for (name, value) in [
            ("encoder_depth", self.encoder_depth),
            ("decoder_depth", self.decoder_depth),
            ("adversary_depth", self.adversary_depth),
        ] {
            if value > 64 {
                return wrong(name, value.to_string(), "at most 64 layers");
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let value = self.dropout.to_string();
            return wrong("dropout", value, "it must be at least 0 and below 1");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let value = self.temperature.to_string();
            return wrong("temperature", value, "it must be positive; usual is 0.07");
        }
        for (name, value) in self.weights.named() {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(name, value.to_string(), "it must not be negative");
            }
        }
        Ok(())
    }
}
