use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::Device;
use sc_model::save::is_saved_model;

use super::card::{CardHeader, ModelCard};
use super::facts::ModelFacts;
use super::files::{read, remove, with_model, write};
use super::metadata::HubMetadata;
use super::metrics::Metrics;
use super::{ADATA, CARD, MDATA, METADATA, METRICS, MODEL, render};
use crate::{AnyModel, Error, Kept, Result, Scanvi, Scvi};

/// The release of anndata whose files sc-io writes.
const ANNDATA_VERSION: &str = "0.12.0";

/// What a model can't say of itself; see [`HubModel::pack`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PackOptions {
    /// The licence of model and data, as the hub abbreviates it: `cc-by-4.0`, `mit`, ...
    pub license: Option<String>,
    /// What the model is: cells, study, purpose.
    pub description: String,
    /// What to cite.
    pub references: String,
    /// `rna`, `protein`, ...
    pub modalities: Vec<String>,
    /// Where the cells came from.
    pub tissues: Vec<String>,
    /// Whether the cells have labels.
    pub is_annotated: Option<bool>,
    /// Where the full data with counts are.
    pub training_data_url: Option<String>,
    /// Where the program that trained the model is.
    pub training_code_url: Option<String>,
    /// How good the model is.
    pub metrics: Metrics,
    /// The release of anndata whose format `adata.h5ad` has.
    pub anndata_version: String,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self {
            license: None,
            description: String::new(),
            references: String::new(),
            modalities: vec!["rna".into()],
            tissues: Vec::new(),
            is_annotated: None,
            training_data_url: None,
            training_code_url: None,
            metrics: Metrics::default(),
            anndata_version: ANNDATA_VERSION.into(),
        }
    }
}

/// What [`HubModel::pack`] packs: models that scvi-tools knows.
pub trait SaveScviTools {
    /// Writes `model.pt` to a folder.
    ///
    /// # Errors
    /// If the disk refuses, or scvi-tools does not know such a model.
    fn save_to(&self, dir: &Path) -> Result<()>;
}

macro_rules! saves {
    ($($model:ident)+) => {
        $(impl SaveScviTools for $model {
            fn save_to(&self, dir: &Path) -> Result<()> {
                self.save_scvi_tools(dir)
            }
        })+
    };
}

saves!(Scvi Scanvi AnyModel);

/// A folder in scvi-hub's layout. The model is read when it is first asked for.
#[derive(Debug)]
pub struct HubModel {
    dir: PathBuf,
    metadata: HubMetadata,
    card: Option<ModelCard>,
    model: OnceLock<AnyModel>,
}

impl HubModel {
    /// Opens a folder: of [`HubModel::pack`], of scvi-tools, or pulled from a hub.
    ///
    /// # Errors
    /// [`Error::Hub`] if there is no model or no metadata, or they can't be read. A card whose header can't be understood
    /// is warned of, and is all body.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let missing = |file: &str, what: &str| Error::Hub {
            place: dir.display().to_string(),
            reason: format!("has no {file}, {what}"),
        };
        if !dir.join(MODEL).is_file() && !is_saved_model(dir) {
            return Err(missing(
                MODEL,
                "so it is no model; give the folder that has one",
            ));
        }
        let metadata = read(&dir.join(METADATA))?.ok_or_else(|| {
            let pack = "which scvi-hub requires; `sc hub pack` (HubModel::pack) makes a folder that has it";
            missing(METADATA, pack)
        })?;
        Ok(Self {
            metadata: HubMetadata::from_json(&metadata)?,
            // People write cards; one that can't be understood is no reason to refuse the model.
            card: read(&dir.join(CARD))?.map(|text| {
                ModelCard::parse(&text).unwrap_or_else(|e| {
                    tracing::warn!("{}: {e}", dir.join(CARD).display());
                    ModelCard {
                        header: CardHeader::default(),
                        body: text,
                    }
                })
            }),
            dir: dir.to_owned(),
            model: OnceLock::new(),
        })
    }

    /// Writes `model.pt`, the metadata, the card and, if there are any, the metrics into a folder. The cells go to
    /// [`ADATA`] in it, by sc-io; those that are there already are taken for those of the model. The registry of a model of
    /// minified cells says where they keep the posterior ([`Scvi::set_minified`]).
    ///
    /// Card, metrics and metadata of an earlier model are replaced. The metadata are written last: a folder that is not
    /// whole has none, and is refused.
    ///
    /// # Errors
    /// If scvi-tools does not know such a model, or the disk refuses; each file is whole or as it was.
    pub fn pack(
        dir: impl AsRef<Path>,
        model: &impl SaveScviTools,
        options: &PackOptions,
    ) -> Result<Self> {
        let dir = dir.as_ref();
        with_model(dir, || model.save_to(dir))?;
        Self::describe(dir, options)
    }

    /// As [`HubModel::pack`], of a model that was read from the folder `source`: the `model.pt` of scvi-tools is kept, with
    /// what only scvi-tools knows of it ([`AnyModel::save_scvi_tools_like`]).
    ///
    /// # Errors
    /// As [`HubModel::pack`].
    pub fn pack_like(
        source: impl AsRef<Path>,
        dir: impl AsRef<Path>,
        model: &AnyModel,
        options: &PackOptions,
    ) -> Result<(Self, Kept)> {
        let dir = dir.as_ref();
        let kept = with_model(dir, || model.save_scvi_tools_like(source, dir))?;
        Ok((Self::describe(dir, options)?, kept))
    }

    /// Writes metadata, card and metrics for the `model.pt` that a folder has already. Those of before are replaced.
    ///
    /// # Errors
    /// As [`HubModel::pack`].
    pub fn describe(dir: impl AsRef<Path>, options: &PackOptions) -> Result<Self> {
        let dir = dir.as_ref();
        let facts = ModelFacts::read(&dir.join(MODEL))?;
        let metadata = HubMetadata {
            scvi_version: facts.scvi_version.clone(),
            anndata_version: options.anndata_version.clone(),
            model_cls_name: facts.class.clone(),
            training_data_url: options.training_data_url.clone(),
            model_parent_module: "scvi.model".into(),
        };
        let card = render::card(&facts, options)?.to_string();
        remove(&dir.join(METADATA))?;
        if options.metrics.is_empty() {
            remove(&dir.join(METRICS))?;
        } else {
            write(&dir.join(METRICS), &options.metrics.to_json()?)?;
        }
        write(&dir.join(CARD), &card)?;
        write(&dir.join(METADATA), &metadata.to_json()?)?;
        Self::open(dir)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Class and versions.
    pub fn metadata(&self) -> &HubMetadata {
        &self.metadata
    }

    /// The model card, if there is one.
    pub fn card(&self) -> Option<&ModelCard> {
        self.card.as_ref()
    }

    /// How good the model is: of `metrics.json`, or of the card. `None` if neither says.
    ///
    /// # Errors
    /// [`Error::Hub`] if `metrics.json` is damaged.
    pub fn metrics(&self) -> Result<Option<Metrics>> {
        let metrics = match read(&self.dir.join(METRICS))? {
            Some(text) => Metrics::from_json(&text)?,
            None => self
                .card
                .as_ref()
                .map(ModelCard::metrics)
                .unwrap_or_default(),
        };
        Ok((!metrics.is_empty()).then_some(metrics))
    }

    /// What `model.pt` says of itself, without its weights.
    ///
    /// # Errors
    /// As [`ModelFacts::read`].
    pub fn facts(&self) -> Result<ModelFacts> {
        ModelFacts::read(&self.dir.join(MODEL))
    }

    /// The model, read when first asked for.
    ///
    /// # Errors
    /// If it is damaged, or of a class that is not known here.
    pub fn model(&self, device: &Device) -> Result<&AnyModel> {
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        let model = if self.dir.join(MODEL).is_file() {
            AnyModel::from_scvi_tools(&self.dir, device)?
        } else {
            AnyModel::load(&self.dir, device)?
        };
        Ok(self.model.get_or_init(|| model))
    }

    /// The file with the cells, if there is one.
    pub fn adata_path(&self) -> Option<PathBuf> {
        [ADATA, MDATA]
            .map(|name| self.dir.join(name))
            .into_iter()
            .find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cells;
    use crate::minify::MinifiedKeys;

    fn model() -> Scvi {
        let counts = ndarray::Array2::from_shape_fn((10, 4), |(i, g)| ((i + g) % 3) as f32);
        let cells = Cells::plain(counts);
        let params = Scvi::params(&cells).layer_norm(crate::NormIn::Both);
        params.check().unwrap().init(&Device::Cpu, 0).unwrap()
    }

    #[test]
    fn a_packed_folder_opens() {
        let dir = tempfile::tempdir().unwrap();
        let mut model = model();
        model.set_minified(Some(MinifiedKeys::of_class("scvi")));
        let options = PackOptions {
            license: Some("mit".into()),
            tissues: vec!["lung".into()],
            is_annotated: Some(true),
            ..PackOptions::default()
        };
        let hub = HubModel::pack(dir.path(), &model, &options).unwrap();
        assert_eq!(hub.metadata().anndata_version, "0.12.0");
        let facts = hub.facts().unwrap();
        assert!(facts.is_minified() && facts.class == "SCVI");
        assert_eq!(
            facts.data_registry["latent_qzm"],
            "adata.obsm['scvi_latent_qzm']"
        );
        assert_eq!(facts.data_registry["X"], "adata.X");
        assert_eq!(facts.summary_stats["n_latent_qzv"], 10);
        assert_eq!(facts.init_params["use_layer_norm"], "both");
        let card = hub.card().unwrap();
        assert_eq!(card.header.tag("annotated"), Some("True"));
        assert!(
            card.body.contains("| n_vars | 4 |")
                && card.body.contains("**Data is Minified**: True")
        );
        assert_eq!(card.description(), Some("Not provided by uploader"));
        assert_eq!(hub.metrics().unwrap(), None);
        assert_eq!(hub.adata_path(), None);
        assert_eq!(
            hub.model(&Device::Cpu).unwrap().registry(),
            model.registry()
        );
    }

    #[test]
    fn nothing_of_an_earlier_model_stays() {
        let dir = tempfile::tempdir().unwrap();
        let options = PackOptions {
            description: "Of before.".into(),
            ..PackOptions::default()
        };
        HubModel::pack(dir.path(), &model(), &options).unwrap();
        std::fs::write(dir.path().join(METRICS), "{}").unwrap();
        let hub = HubModel::pack(dir.path(), &model(), &PackOptions::default()).unwrap();
        assert!(!dir.path().join(METRICS).exists());
        assert_eq!(
            hub.card().unwrap().description(),
            Some("Not provided by uploader")
        );

        // A model that can't be written leaves the folder as it was.
        struct Refuses;
        impl SaveScviTools for Refuses {
            fn save_to(&self, dir: &Path) -> Result<()> {
                assert!(!dir.join(METADATA).exists());
                HubMetadata::from_json("no").map(|_| ())
            }
        }
        let options = PackOptions::default();
        assert!(HubModel::pack(dir.path(), &Refuses, &options).is_err());
        HubModel::open(dir.path()).unwrap();
    }

    #[test]
    fn text_of_any_size_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        HubModel::pack(dir.path(), &model(), &PackOptions::default()).unwrap();
        let card = std::fs::File::create(dir.path().join(CARD)).unwrap();
        card.set_len(1 << 40).unwrap();
        let message = HubModel::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains(CARD) && message.contains("bytes"),
            "{message}"
        );
    }

    #[test]
    fn what_is_no_hub_folder_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let message = HubModel::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("model.pt"), "{message}");
        model().save_scvi_tools(dir.path()).unwrap();
        let message = HubModel::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("_scvi_required_metadata.json") && message.contains("sc hub pack"),
            "{message}"
        );
        std::fs::write(dir.path().join(METADATA), "[]").unwrap();
        assert!(HubModel::open(dir.path()).is_err());
    }
}
