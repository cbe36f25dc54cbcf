//! scANVI: scVI with labels for some of the cells.

mod classifier;
mod config;
mod elbo;
mod loss;
mod nets;
mod params;
mod save;
mod train;

pub use classifier::PredictAt;
pub use config::{ClassifierConfig, Labels, ScanviConfig, SemiSupervised};
pub use loss::ScanviTerms;
pub(crate) use nets::SemiNets;
pub use params::{ScanviParams, ScanviValidParams};
pub(crate) use save::KIND;

use std::ops::Range;

use ndarray::{Array2, Array3};
use sc_model::{Embed, ExpressionOptions, Generative};

use crate::{Cells, Error, Registry, Result, Scvi, Training};

/// scANVI: a variational auto-encoder of single-cell counts that also learns from labels of some of the cells, and gives
/// labels to the others (Xu et al., Molecular Systems Biology 2021).
///
/// On top of scVI's `z1` (see [`Scvi`]) stands a second level: `z1` is generated from the label `y` of a cell and from `z2`,
/// what the cell is besides its label,
///
/// ```text
/// y ~ Categorical(1/K, ..., 1/K)       z2 ~ Normal(0, I)       z1 | z2, y ~ Normal(mean(z2, y), var(z2, y))
/// ```
///
/// and a classifier reads the label off `z1`. Everything that scVI knows (latent space, expression, simulated counts) is
/// asked of [`Scanvi::scvi`].
///
/// ```
/// use sc_data::{AnnData, Categorical, Column, Csr, Table};
/// use sc_latent::{Cells, PredictAt, Scanvi, SemiSupervised, Setup};
/// use sc_model::train::TrainConfig;
///
/// // Eighty cells of two kinds, five genes; a quarter of the labels is not known.
/// let counts = ndarray::Array2::from_shape_fn((80, 5), |(i, g)| ((i * 7 + g * 3) % 5 + if i % 2 == g % 2 { 6 } else { 0 }) as f32);
/// let mut obs = Table::new((0..80).map(|i| format!("cell {i}")).collect());
/// let kinds: Vec<&str> = (0..80).map(|i| if i % 4 == 0 { "Unknown" } else { ["T", "B"][i % 2] }).collect();
/// obs.insert("kind", Column::Categorical(Categorical::from_labels(&kinds)))?;
/// let data = AnnData::new(Csr::from_dense(&counts), obs, Table::new((0..5).map(|g| format!("gene {g}")).collect()))?;
///
/// let setup = Setup { labels_key: Some("kind".into()), unlabeled_category: Some("Unknown".into()), ..Setup::default() };
/// let cells = Cells::new(&data, &setup)?;
/// let mut model = Scanvi::params(&cells).n_latent(2).check()?.init(&candle_core::Device::Cpu, 0)?;
/// let mut config = TrainConfig::default();
/// config.max_epochs = Some(3);
/// let fitted = model.fit(&cells, &config, &SemiSupervised::default(), &mut ())?;
/// assert_eq!(fitted.history.values("train_accuracy").len(), 3);
///
/// let labels = model.predict(&cells, PredictAt::PosteriorMean)?;
/// assert_eq!((labels.labels.len(), labels.values.dim()), (2, (80, 2)));
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Debug)]
pub struct Scanvi {
    /// Holds the parameters and buffers of both.
    pub(crate) scvi: Scvi,
    pub(crate) semi: SemiNets,
    pub(crate) classifier: ClassifierConfig,
    /// Whether its weights came from a trained scVI model.
    pub(crate) pretrained: bool,
}

impl Scanvi {
    /// The variational auto-encoder: latent space, expression, posterior predictive draws and whatever else does not ask
    /// for labels. Its bound ([`Scvi::elbo`]) is that of scVI; SCANVI's own is [`Scanvi::elbo`].
    pub fn scvi(&self) -> &Scvi {
        &self.scvi
    }

    /// The settings.
    pub fn config(&self) -> ScanviConfig {
        ScanviConfig {
            scvi: self.scvi.config.clone(),
            classifier: self.classifier.clone(),
        }
    }

    /// Genes and categories.
    pub fn registry(&self) -> &Registry {
        &self.scvi.registry
    }

    /// The labels that it can give, in the order of its probabilities.
    pub fn labels(&self) -> &[String] {
        self.scvi.registry.known_labels()
    }

    /// Whether its weights came from a trained scVI model; then fewer epochs do.
    pub fn is_pretrained(&self) -> bool {
        self.pretrained
    }

    /// What is kept of training, if there was any.
    pub fn training(&self) -> Option<&Training> {
        self.scvi.training.as_ref()
    }
}

impl Embed<Cells<'_>> for Scanvi {
    type Error = Error;

    fn n_latent(&self) -> usize {
        self.scvi.n_latent()
    }

    fn embed(&self, cells: &Cells<'_>) -> Result<Array2<f32>> {
        self.scvi.embed(cells)
    }
}

impl Generative<Cells<'_>> for Scanvi {
    type Error = Error;

    fn n_cells(&self, cells: &Cells<'_>) -> usize {
        cells.n_cells()
    }

    fn posterior_predictive_rows(
        &self,
        cells: &Cells<'_>,
        rows: Range<usize>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>> {
        self.scvi
            .posterior_predictive_rows(cells, rows, n_samples, seed)
    }

    fn expected_expression(
        &self,
        cells: &Cells<'_>,
        options: &ExpressionOptions,
    ) -> Result<Array2<f32>> {
        self.scvi.expected_expression(cells, options)
    }
}
