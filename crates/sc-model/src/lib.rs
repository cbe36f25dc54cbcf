//! # sc-model
//!
//! What every model of single cells shares, so that a model crate holds only its own mathematics: parameters with
//! PyTorch's names and initial distribution, layers, optimisers, schedules, a training loop with observers, resumable
//! checkpoints, and the traits through which models meet the rest of the workspace.
//!
//! A model implements [`Trainable`](train::Trainable): its parameters, and the loss of some cells. The loop does the
//! rest:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use sc_model::train::{Loss, Step, TrainConfig, Trainable, fit};
//! use sc_model::{Init, Param, Params, Result, build_params};
//! use sc_tensor::rng::Rng;
//!
//! /// Learns the mean of some numbers.
//! struct Mean { guess: Param, params: Params }
//!
//! impl Trainable<[f32]> for Mean {
//!     fn params(&self) -> &Params { &self.params }
//!     fn n_cells(&self, data: &[f32]) -> usize { data.len() }
//!     fn loss(&self, data: &[f32], rows: &[usize], step: &Step<'_>) -> Result<Loss> {
//!         let x: Vec<f32> = rows.iter().map(|&i| data[i]).collect();
//!         let x = Tensor::new(x.as_slice(), &Device::Cpu)?;
//!         let loss = x.broadcast_sub(self.guess.get(&step.mode))?.sqr()?.mean_all()?;
//!         Ok(Loss { loss, sums: vec![], n_cells: rows.len() })
//!     }
//! }
//!
//! let (guess, params) = build_params(&Device::Cpu, DType::F32, &Rng::new(0), |p| p.param("guess", (), Init::Const(0.0)))?;
//! let model = Mean { guess, params };
//! let mut config = TrainConfig::default();
//! config.max_epochs = Some(500);
//! config.lr = 0.05;
//! let fitted = fit(&model, &[1.0, 2.0, 3.0, 6.0], &config, &mut ())?;
//! assert_eq!(fitted.history.values("train_loss_epoch").len(), 500);
//! assert!((model.guess.value().to_scalar::<f32>()? - 3.0).abs() < 0.1);
//! # Ok::<(), sc_model::Error>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
pub mod files;
pub mod layers;
mod mode;
pub mod optim;
mod params;
mod parity;
pub mod save;
mod schedule;
pub mod tensors;
pub mod train;
mod traits;

pub use error::{Error, Result};
pub use mode::Mode;
pub use optim::{Optimizer, OptimizerKind};
pub use parity::Parity;
pub use params::{Init, Param, ParamBuilder, Params, build_params, load_params};
pub use schedule::{EarlyStopping, KlWarmup, LrSchedule, LrState, StopState, heuristic_epochs};
pub use traits::{Classify, Embed, ExpressionOptions, Generative, Probabilities};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
