use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::train::{self, Fitted, Observer, ResumeState};
use sc_model::{Mode, Params, build_params, load_params, save};
use sc_tensor::Rng;

use super::config::{FlowConfig, FlowParams, FlowTraining, FlowValidParams};
use super::equation::{FlowEquation, Nets};
use super::session::Session;
use crate::train::{Snapshots, keeping};
use crate::{Error, Result};

/// Velocities of cells as a function of place and time, learned by flow matching; with a score, the drift of an SDE.
///
/// ```
/// use candle_core::Device;
/// use ndarray::Array2;
/// use sc_sde::flow::{Flow, FlowTraining};
/// use sc_sde::solve::{BrownianPath, Schedule, Scheme, Solve};
/// use sc_sde::train::Snapshots;
///
/// // 60 cells at day 0 and 60 at day 2, which moved by 3 to the right.
/// let states = Array2::from_shape_fn((120, 2), |(i, j)| {
///     let moved = if i >= 60 && j == 0 { 3.0 } else { 0.0 };
///     moved + 0.1 * ((i * 7 + j * 3) % 10) as f32
/// });
/// let days: Vec<f64> = (0..120).map(|i| if i < 60 { 0.0 } else { 2.0 }).collect();
/// let cells = Snapshots::from_array(states.view(), &days)?;
///
/// let mut flow = Flow::params(&cells)?.check()?.init(&Device::Cpu, 0)?;
/// let mut training = FlowTraining::default();
/// training.run.max_epochs = Some(3);
/// flow.fit(&cells, &training, &mut ())?;
///
/// let start = cells.rows(cells.cells_at(0), flow.parameters().dtype(), &Device::Cpu)?;
/// let equation = flow.equation(&sc_model::Mode::eval())?;
/// let path = BrownianPath::new(0, 60, flow.brownian_dim(), 0.0, 0.1)?;
/// let schedule = Schedule::grid(&[0.0, 2.0], 0.1)?;
/// let states = Solve::new(&equation, Scheme::Euler, &path, &schedule).run(&start)?;
/// assert_eq!(states[1].dims(), [60, 2]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Flow {
    config: FlowConfig,
    nets: Nets,
    params: Params,
}

/// What a saved model of this kind says it is.
const KIND: &str = "flow";

impl Flow {
    /// Settings for cells like these.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn params(data: &Snapshots) -> Result<FlowParams> {
        FlowParams::of(data)
    }

    /// Its settings.
    pub fn config(&self) -> &FlowConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// Brownian motions of each cell: what a [`BrownianPath`](crate::solve::BrownianPath) is made with.
    pub fn brownian_dim(&self) -> usize {
        match self.config.sigma {
            Some(_) => self.config.n_latent,
            None => 0,
        }
    }

    /// How cells move: an ODE, or with [`sigma`](FlowParams::sigma) the SDE of the Schroedinger bridge,
    /// `dx = (v + sigma^2 / 2 score) dt + sigma dB`.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn equation(&self, mode: &Mode<'_>) -> Result<FlowEquation> {
        self.nets.equation(&self.config, self.trained(), true, mode)
    }

    /// The ODE with the same marginals, `dx = v dt`.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn probability_flow(&self, mode: &Mode<'_>) -> Result<FlowEquation> {
        self.nets
            .equation(&self.config, self.trained(), false, mode)
    }

    fn trained(&self) -> Vec<Tensor> {
        let all = self.params.trainable();
        all.map(|p| p.var().as_tensor().clone()).collect()
    }

    /// The velocity of cells (`[cells, D]`) at a time.
    ///
    /// # Errors
    /// If the states don't fit.
    pub fn velocity(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        self.probability_flow(&Mode::eval())?.velocity(z, t)
    }

    /// The rate at which cells multiply at a time, per unit of time, `[cells]`, relative to that of all cells.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the flow has no net of growth, or the states don't fit.
    pub fn growth(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        self.equation(&Mode::eval())?.growth(z, t)
    }

    /// Trains it on cells of several times, from where its weights are. The same seed gives the same weights bit for bit.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] and [`Error::Shape`] if it can't be trained so on these cells; [`Error::InEpoch`] and
    /// [`Error::Model`] if something goes wrong on the way.
    pub fn fit(
        &mut self,
        data: &Snapshots,
        training: &FlowTraining,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let session = Session::of_flow(self, data, training)?;
        let run = session.run(data);
        keeping(&session, training.keep, observer, |observer| {
            train::fit(&session, data, &run, observer)
        })
    }

    /// Goes on from a saved state, as if training had never stopped.
    ///
    /// # Errors
    /// As [`Flow::fit`], and if settings or cells aren't those of then.
    pub fn resume(
        &mut self,
        data: &Snapshots,
        training: &FlowTraining,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let session = Session::of_flow(self, data, training)?;
        let run = session.run(data);
        keeping(&session, training.keep, observer, |observer| {
            train::resume(&session, data, &run, state, observer)
        })
    }

    /// Writes the flow into a folder.
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

    /// Opens a folder that [`Flow::save`] wrote.
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
        let (_, config, tensors) = save::read_model::<FlowConfig>(dir.as_ref())?;
        let is_f64 = tensors.values().any(|t| t.dtype() == DType::F64);
        let dtype = if is_f64 { DType::F64 } else { DType::F32 };
        let valid = FlowParams::from(config).check()?;
        let (nets, params) = load_params(device, dtype, &path, &tensors, |p| {
            Nets::new(p, valid.config())
        })?;
        Ok(Self {
            config: valid.config().clone(),
            nets,
            params,
        })
    }
}

impl FlowValidParams {
    /// A flow with random weights.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Flow> {
        let rng = Rng::new(seed);
        let make = |p: &sc_model::ParamBuilder<'_>| Nets::new(p, self.config());
        let (nets, params) = build_params(device, DType::F32, &rng, make)?;
        Ok(Flow {
            config: self.config().clone(),
            nets,
            params,
        })
    }
}
