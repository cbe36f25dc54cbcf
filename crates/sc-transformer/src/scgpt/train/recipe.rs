//! The recipes of the original, as settings.

use sc_model::train::{SplitConfig, TrainConfig};
use sc_model::{KlWarmup, LrSchedule, OptimizerKind, Parity};
use serde::{Deserialize, Serialize};

use crate::scgpt::losses::TEMPERATURE;
use crate::tokens::{MaskOptions, TokenizerOptions};

/// The terms of a loss, and their weights. The probability that values are not zero is scored wherever the model predicts it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Objectives {
    /// Hidden values, from the genes' rows (GEP).
    pub gep: bool,
    /// Hidden values, from the cells' vectors (GEPC).
    pub gepc: bool,
    /// Elastic similarity of cells with this threshold (ECS); weight 10.
    pub ecs: Option<f64>,
    /// The cell types (CLS).
    pub cls: bool,
    /// The batches, by the adversary (DAB, DAR), with this weight.
    pub dab: Option<f64>,
    /// How strongly the adversary's gradient is reversed.
    pub reversal: f64,
    /// Two views of each cell (CCE) at this temperature; weight 10.
    pub cce: Option<f64>,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            gep: true,
            gepc: true,
            ecs: None,
            cls: false,
            dab: None,
            reversal: 1.0,
            cce: None,
        }
    }
}

impl Objectives {
    /// With contrastive views, at the temperature of the original.
    #[must_use]
    pub fn with_contrast(mut self) -> Self {
        self.cce = Some(TEMPERATURE);
        self
    }
}

/// How a model is fine-tuned for a task: objectives, tokens, masks and training. The fields can be changed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recipe {
    /// The terms of the loss.
    pub objectives: Objectives,
    /// From expression to tokens.
    pub tokens: TokenizerOptions,
    /// Which values are hidden; none for annotation.
    pub mask: Option<MaskOptions>,
    /// Training. Epochs, batch size, rate and schedule are the original's.
    pub train: TrainConfig,
}

impl Recipe {
    /// Batch integration: 1,200 variable genes, zeros included; a model with batch labels, domain-specific batch norm,
    /// probabilities of zeros and an adversary.
    pub fn integration(seed: u64, parity: Parity) -> Self {
        let mut tokens = TokenizerOptions::finetune(Some(1201), parity);
        tokens.include_zeros = true;
        Self {
            objectives: Objectives {
                ecs: Some(0.8),
                dab: Some(1.0),
                ..Objectives::default()
            },
            tokens,
            mask: Some(MaskOptions::share(0.4, seed, parity)),
            train: config(1e-4, 64, 15, 0.9, seed),
        }
    }

    /// Cell-type annotation: all expressed genes, up to 3,000; a model with classes.
    pub fn annotation(seed: u64, parity: Parity) -> Self {
        Self {
            objectives: Objectives {
                gep: false,
                gepc: false,
                cls: true,
                ..Objectives::default()
            },
            tokens: TokenizerOptions::finetune(Some(3001), parity),
            mask: None,
            train: config(1e-4, 32, 10, 0.9, seed),
        }
    }

    /// Several modalities, of the same cells or of different ones: a model of 4 layers with modalities, batch labels and an
    /// adversary.
    pub fn multiomic(seed: u64, parity: Parity) -> Self {
        Self {
            objectives: Objectives {
                dab: Some(1.0),
                ..Objectives::default()
            },
            tokens: TokenizerOptions::finetune(Some(4001), parity),
            mask: Some(MaskOptions::share(0.4, seed, parity)),
            train: config(1e-3, 16, 25, 0.95, seed),
        }
    }

    /// How perturbation models are trained; see [`PerturbTask`](crate::scgpt::PerturbTask).
    pub fn perturbation(seed: u64) -> TrainConfig {
        config(1e-4, 64, 15, 0.9, seed)
    }

    /// How models are pre-trained: a rate that rises for 10,000 minibatches and falls to 0 at the end, 6 epochs, of
    /// `total_steps` minibatches together; see [`Pretraining`](crate::scgpt::Pretraining). Short runs rise for a tenth of all.
    pub fn pretraining(total_steps: u64, seed: u64) -> TrainConfig {
        let mut c = config(1e-4, 32, 6, 1.0, seed);
        c.lr_schedule = LrSchedule::WarmupCosine {
            warmup_steps: 10_000.min(total_steps / 10),
            total_steps,
        };
        c
    }
}

/// Adam with torch's settings, the rate times `gamma` after each epoch, gradients of norm 1 at most, a tenth of the cells for
/// validation.
fn config(lr: f64, batch_size: usize, epochs: usize, gamma: f64, seed: u64) -> TrainConfig {
    let mut c = TrainConfig::default();
    c.max_epochs = Some(epochs);
    c.batch_size = batch_size;
    c.lr = lr;
    c.optimizer = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 1e-8,
        weight_decay: 0.0,
    };
    c.lr_schedule = LrSchedule::Step { size: 1, gamma };
    c.max_grad_norm = Some(1.0);
    c.split = SplitConfig {
        train_size: Some(0.9),
        ..SplitConfig::default()
    };
    c.kl_warmup = KlWarmup::constant(1.0);
    c.validate_every = Some(1);
    c.seed = seed;
    c
}
