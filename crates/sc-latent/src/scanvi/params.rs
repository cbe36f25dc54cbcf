use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_data::Table;
use sc_model::{Params, build_params, load_params};
use sc_tensor::rng::Rng;

use super::{ClassifierConfig, Labels, Scanvi, ScanviConfig, SemiNets};
use crate::config::{
    BatchRepresentation, Dispersion, LatentDistribution, Likelihood, NormIn, ScviConfig,
    VarActivation,
};
use crate::nets::Nets;
use crate::params::scvi_setters;
use crate::{Cells, Error, Registry, Result, Scvi};

/// Settings of a model that is to be made. Start from [`Scanvi::params`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScanviParams {
    config: ScanviConfig,
    registry: Registry,
}

impl ScanviParams {
    pub(crate) fn new(config: ScanviConfig, registry: Registry) -> Self {
        Self { config, registry }
    }

    fn scvi_mut(&mut self) -> &mut ScviConfig {
        &mut self.config.scvi
    }

    scvi_setters! {}

    /// The classifier; as many hidden layers as the encoder has, and as wide.
    pub fn classifier(mut self, classifier: ClassifierConfig) -> Self {
        self.config.classifier = classifier;
        self
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(self) -> Result<ScanviValidParams> {
        self.config.check(&self.registry)?;
        Ok(ScanviValidParams(self))
    }
}

/// Settings that passed [`ScanviParams::check`].
#[derive(Debug, Clone)]
pub struct ScanviValidParams(ScanviParams);

impl ScanviValidParams {
    /// The settings.
    pub fn config(&self) -> &ScanviConfig {
        &self.0.config
    }

    /// A model with random weights, distributed as PyTorch's.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Scanvi> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<Scanvi> {
        let ScanviParams { config, registry } = &self.0;
        let (nets, params) = build_params(device, dtype, &Rng::new(seed), |p| {
            SemiNets::new(p, config, registry)
        })?;
        Ok(self.model(nets, params))
    }

    /// A model with the weights of a file, which must be those of such a model.
    pub(crate) fn load(
        &self,
        device: &Device,
        dtype: DType,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Scanvi> {
        let ScanviParams { config, registry } = &self.0;
        let (nets, params) = load_params(device, dtype, path, tensors, |p| {
            SemiNets::new(p, config, registry)
        })?;
        Ok(self.model(nets, params))
    }

    fn model(&self, (nets, semi): (Nets, SemiNets), params: Params) -> Scanvi {
        let ScanviParams { config, registry } = &self.0;
        Scanvi {
            scvi: Scvi {
                config: config.scvi.clone(),
                registry: registry.clone(),
                params,
                nets,
                training: None,
                query: None,
            },
            semi,
            classifier: config.classifier.clone(),
            pretrained: false,
        }
    }
}

impl Scanvi {
    /// SCANVI's default settings for these cells, whose [`Setup`](crate::Setup) must name the column of labels and the
    /// label that stands for "not known".
    pub fn params(cells: &Cells<'_>) -> ScanviParams {
        Self::with_config(
            cells,
            ScanviConfig {
                scvi: ScviConfig::default(),
                classifier: ClassifierConfig::default(),
            },
        )
    }

    /// Settings that are there already, for these cells.
    pub fn with_config(cells: &Cells<'_>, config: ScanviConfig) -> ScanviParams {
        ScanviParams::new(config, cells.registry().clone())
    }

    /// A model that begins with the weights of a trained scVI model; the second level and the classifier are random. This
    /// is how scANVI is best trained: scVI first, then some epochs of this with
    /// [`SemiSupervised::n_samples_per_label`](crate::SemiSupervised::n_samples_per_label).
    ///
    /// `obs` is that of the cells that will be trained on, made with
    /// `Cells::for_model(data, model.registry())`.
    ///
    /// ```
    /// use sc_data::{AnnData, Categorical, Column, Csr, Table};
    /// use sc_latent::{Cells, ClassifierConfig, Labels, Scanvi, Scvi, SemiSupervised, Setup};
    /// use sc_model::train::TrainConfig;
    ///
    /// # let counts = ndarray::Array2::from_shape_fn((60, 5), |(i, g)| ((i * 7 + g * 3) % 5 + if i % 2 == g % 2 { 6 } else { 0 }) as f32);
    /// # let mut obs = Table::new((0..60).map(|i| format!("cell {i}")).collect());
    /// # let kinds: Vec<&str> = (0..60).map(|i| if i % 4 == 0 { "Unknown" } else { ["T", "B"][i % 2] }).collect();
    /// # obs.insert("kind", Column::Categorical(Categorical::from_labels(&kinds)))?;
    /// # let data = AnnData::new(Csr::from_dense(&counts), obs, Table::new((0..5).map(|g| format!("gene {g}")).collect()))?;
    /// let mut config = TrainConfig::default();
    /// config.max_epochs = Some(2);
    /// let cells = Cells::new(&data, &Setup::default())?;
    /// let mut scvi = Scvi::params(&cells).n_latent(2).check()?.init(&candle_core::Device::Cpu, 0)?;
    /// scvi.fit(&cells, &config, &mut ())?;
    ///
    /// let labels = Labels { key: Some("kind".into()), unlabeled_category: "Unknown".into() };
    /// let mut scanvi = Scanvi::from_scvi(&scvi, &data.obs, &labels, ClassifierConfig::default(), 0)?;
    /// let cells = Cells::for_model(&data, scanvi.registry())?;
    /// let mut semi = SemiSupervised::default();
    /// semi.n_samples_per_label = Some(100);
    /// scanvi.fit(&cells, &config, &semi, &mut ())?;
    /// # Ok::<(), sc_latent::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the scVI model was not trained, or has settings that SCANVI can't have, or the column of labels is missing.
    pub fn from_scvi(
        scvi: &Scvi,
        obs: &Table,
        labels: &Labels,
        classifier: ClassifierConfig,
        seed: u64,
    ) -> Result<Self> {
        let wrong = |name, value: &str, reason: &str| Error::InvalidSetting {
            name,
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        if scvi.training.is_none() {
            return Err(wrong(
                "scvi",
                "a model that was not trained",
                "train it first, or start SCANVI from scratch with Scanvi::params",
            ));
        }
        let key = labels
            .key
            .as_ref()
            .or(scvi.registry.setup.labels_key.as_ref())
            .ok_or_else(|| {
                wrong(
                    "labels_key",
                    "none",
                    "the scVI model knows no labels, so name the column of obs",
                )
            })?;
        let registry = scvi
            .registry
            .with_labels(obs, key, &labels.unlabeled_category)?;
        let config = ScanviConfig {
            scvi: scvi.config.clone(),
            classifier,
        };
        let mut model = ScanviParams::new(config, registry)
            .check()?
            .init_with_dtype(scvi.device(), scvi.dtype(), seed)?;
        for from in scvi.params.iter() {
            if let Some(to) = model.scvi.params.get(from.name())
                && to.value().dims() == from.value().dims()
            {
                to.var().set(from.value())?;
            }
        }
        model.pretrained = true;
        Ok(model)
    }
}
