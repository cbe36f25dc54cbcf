use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{Mode, Params, save};

use super::nets::{Equation, Nets, check_states};
use super::{ScDiffEqConfig, ScDiffEqParams};
use crate::nets::Autoencoder;
use crate::solve::{At, Sde};
use crate::{Error, Result};

/// A model of scDiffEq's family: the drift and the diffusion of cells as functions of where they are.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use sc_sde::model::{DiffusionKind, ScDiffEq};
/// use sc_sde::nets::NetConfig;
/// use sc_sde::solve::{BrownianPath, Schedule, Scheme, Solve};
///
/// let params = ScDiffEq::params(10).mu(NetConfig::new([64, 64])).check()?;
/// let model = params.init(&Device::Cpu, 0)?;
/// let cells = Tensor::zeros((20, 10), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.drift(&cells)?.dims(), [20, 10]);
///
/// // Days 2 to 6 in steps of a tenth, one Brownian motion for each cell.
/// let equation = model.equation(&sc_model::Mode::eval())?;
/// let path = BrownianPath::new(0, 20, model.config().brownian_dim(), 2.0, 0.1)?;
/// let schedule = Schedule::grid(&[2.0, 4.0, 6.0], 0.1)?;
/// let states = Solve::new(&equation, Scheme::Euler, &path, &schedule).run(&cells)?;
/// assert_eq!(states.len(), 3);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ScDiffEq {
    pub(super) config: ScDiffEqConfig,
    pub(super) nets: Nets,
    pub(super) params: Params,
}

/// What a saved model of this kind says it is.
const KIND: &str = "scdiffeq";

impl ScDiffEq {
    /// Its settings.
    pub fn config(&self) -> &ScDiffEqConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// The nets around the space in which cells move, if there are any.
    pub fn autoencoder(&self) -> Option<&Autoencoder> {
        self.nets.autoencoder.as_ref()
    }

    /// Its equation, to be solved: with gradients and dropout while training, without at inference.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn equation(&self, mode: &Mode<'_>) -> Result<Equation> {
        let of_equation = |p: &&sc_model::Param| p.name().starts_with("DiffEq.");
        let trained = self.params.trainable().filter(of_equation);
        let parameters = trained.map(|p| p.var().as_tensor().clone()).collect();
        self.nets.equation(&self.config, parameters, mode)
    }

    /// The drift `f(z)` of cells, `[cells, D]`.
    ///
    /// # Errors
    /// If the states don't fit.
    pub fn drift(&self, z: &Tensor) -> Result<Tensor> {
        self.at(z)?.drift(START, z)
    }

    /// The diffusion `g(z)` of cells: `[cells, D, m]`, or `[cells, D]` where each dimension has its own Brownian motion.
    ///
    /// # Errors
    /// If the states don't fit.
    pub fn diffusion(&self, z: &Tensor) -> Result<Tensor> {
        self.at(z)?.diffusion(START, z)
    }

    /// The potential `psi(z)` of cells, `[cells]`. Drift climbs it; a landscape in the sense of Waddington is its negative.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the drift is no gradient, or the states don't fit.
    pub fn potential(&self, z: &Tensor) -> Result<Tensor> {
        self.at(z)?.potential(START, z)
    }

    fn at(&self, z: &Tensor) -> Result<Equation> {
        check_states(z, self.config.n_latent, self.params.dtype())?;
        self.equation(&Mode::eval())
    }

    /// Sets the last layer of the drift to 0, as PRESCIENT starts.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn start_without_drift(&self) -> Result<()> {
        let output = self.nets.mu().output();
        for p in [Some(output.weight()), output.bias()].into_iter().flatten() {
            p.import(&p.value().zeros_like()?)?;
        }
        Ok(())
    }

    /// Writes the model into a folder.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        Ok(save::save_model(
            dir.as_ref(),
            KIND,
            &self.config,
            &self.params,
        )?)
    }

    /// Opens a folder that [`ScDiffEq::save`] wrote.
    ///
    /// # Errors
    /// If it holds another model, or is damaged.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = dir.as_ref().join(save::WEIGHTS);
        // First of all: the settings of another kind can't be read.
        let kind = save::model_kind(dir.as_ref())?;
        if kind != KIND {
            return Err(Error::Model(sc_model::Error::Format {
                path,
                reason: format!("holds a model of the kind \"{kind}\", not \"{KIND}\""),
            }));
        }
        let (_, config, tensors) = save::read_model::<ScDiffEqConfig>(dir.as_ref())?;
        let is_f64 = tensors.values().any(|t| t.dtype() == DType::F64);
        let dtype = if is_f64 { DType::F64 } else { DType::F32 };
        let params = ScDiffEqParams::from(config).check()?;
        params.load(device, dtype, &path, &tensors)
    }
}

/// The equation doesn't depend on time.
const START: At = At {
    t: 0.0,
    step: 0,
    stage: 0,
};
