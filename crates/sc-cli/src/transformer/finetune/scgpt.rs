//! scGPT before it is fine-tuned, and how it is.

use std::path::Path;

use candle_core::Device;
use sc_model::train::{Fitted, Observer, ResumeState, TrainConfig, Trainable, fit, resume};
use sc_transformer::scgpt::{
    Allow, Checkpoint, FineTune, InputNorm, KeepBest, LabelledCells, LoadReport, Objectives,
    PerturbConfig, ScGpt, ScGptConfig, ScGptPerturb,
};
use sc_transformer::vocab::{GeneVocab, SPECIALS};

use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::transformer::model::{self, Foreign, Transformer};
use crate::transformer::query::Given;

/// Sizes of a model with random weights.
#[derive(Debug, clap::Args)]
pub(super) struct Sizes {
    /// Width of the model [default: 512]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    d_model: Option<usize>,
    /// Attention heads [default: 8]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_heads: Option<usize>,
    /// Width inside the feed-forward networks [default: 512]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    d_hid: Option<usize>,
    /// Layers of the transformer [default: 12; of several modalities 4]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_layers: Option<usize>,
    /// Share of units dropped while training [default: 0.2, or that of the checkpoint; of perturbations 0]
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
}

impl Sizes {
    pub(super) fn given(&self) -> Vec<Given> {
        vec![
            ("--d-model", self.d_model.is_some()),
            ("--n-heads", self.n_heads.is_some()),
            ("--d-hid", self.d_hid.is_some()),
            ("--n-layers", self.n_layers.is_some()),
            ("--dropout", self.dropout.is_some()),
        ]
    }

    fn apply(&self, config: &mut ScGptConfig) {
        config.d_model = self.d_model.unwrap_or(config.d_model);
        config.n_heads = self.n_heads.unwrap_or(config.n_heads);
        config.d_hid = self.d_hid.unwrap_or(config.d_hid);
        config.n_layers = self.n_layers.unwrap_or(config.n_layers);
        config.dropout = self.dropout.unwrap_or(config.dropout);
    }

    /// Refuses sizes that a model which is there already has.
    fn refuse(&self, dir: &Path) -> Result<()> {
        let sizes = self.given().into_iter().filter(|g| g.0 != "--dropout");
        let given: Vec<&str> = sizes.filter(|g| g.1).map(|g| g.0).collect();
        match given.is_empty() {
            true => Ok(()),
            false => Err(Error::Message(format!(
                "{}: --from takes the sizes of {}; leave it out",
                given.join(", "),
                dir.display()
            ))),
        }
    }
}

/// What is there before training.
pub(super) enum Start {
    /// A released checkpoint.
    Released(Box<Checkpoint>),
    /// A model of ours.
    Ours(Box<ScGpt>),
    /// Nothing but the genes of the data.
    Scratch(GeneVocab),
}

/// How many layers a model of several modalities has.
const MULTIOMIC_LAYERS: usize = 4;

impl Start {
    /// All of a model, whose sizes it has.
    pub(super) fn open(from: Option<&Path>, genes: &[String], sizes: &Sizes) -> Result<Self> {
        if let Some(dir) = from {
            sizes.refuse(dir)?;
        }
        Self::open_any(from, genes)
    }

    /// A model of which only parts are wanted.
    pub(super) fn open_any(from: Option<&Path>, genes: &[String]) -> Result<Self> {
        let Some(dir) = from else {
            let mut seen = std::collections::HashSet::new();
            let once = genes
                .iter()
                .filter(|g| !g.is_empty() && seen.insert(g.as_str()));
            return Ok(Self::Scratch(
                GeneVocab::new(once.cloned())?.with_specials(&SPECIALS)?,
            ));
        };
        // A released checkpoint may hold less than its own model needs, so that it is not opened as a model.
        if dir.is_dir()
            && !sc_model::save::is_saved_model(dir)
            && dir.join(sc_transformer::scgpt::WEIGHTS).is_file()
        {
            return Ok(Self::Released(Box::new(Checkpoint::open(dir)?)));
        }
        match model::open(dir, &Foreign::default())? {
            Transformer::Scgpt(model) => Ok(Self::Ours(model)),
            Transformer::Scbert(_) => Err(Error::Message(format!(
                "{}: holds scBERT, and scGPT is to be trained (scBERT: `finetune annotate --model scbert`)",
                dir.display()
            ))),
        }
    }

    pub(super) fn vocab(&self) -> &GeneVocab {
        match self {
            Self::Released(c) => c.vocab(),
            Self::Ours(m) => m.vocab(),
            Self::Scratch(v) => v,
        }
    }

    fn config(&self) -> Result<ScGptConfig> {
        Ok(match self {
            Self::Released(c) => c.config()?,
            Self::Ours(m) => m.config().clone(),
            Self::Scratch(v) => ScGpt::params(v)?.check()?.config().clone(),
        })
    }

    /// The model for a task, which `change` makes of the settings.
    pub(super) fn model(
        &self,
        sizes: &Sizes,
        seed: u64,
        change: impl FnOnce(&mut ScGptConfig),
    ) -> Result<ScGpt> {
        let mut config = self.config()?;
        sizes.apply(&mut config);
        change(&mut config);
        let params = ScGpt::with_config(self.vocab().clone(), config);
        let model = params.check()?.init(&Device::Cpu, seed)?;
        match self {
            Self::Released(c) => {
                model.load_weights(c, &Allow::fine_tuning())?;
            }
            Self::Ours(old) => say_anew(&model.take_weights(old)?),
            Self::Scratch(_) => {}
        }
        Ok(model)
    }

    /// A model of perturbations: genes, values and transformer are taken over, the rest is new.
    pub(super) fn perturbations(&self, sizes: &Sizes, seed: u64) -> Result<ScGptPerturb> {
        let mut config = PerturbConfig::default();
        let (pad_value, mvc) = (config.base.pad_value, config.base.mvc);
        let mut base = self.config()?;
        untold(&mut base);
        base.classes.clear();
        base.input_norm = InputNorm::None;
        (base.pad_value, base.mvc) = (pad_value, mvc);
        (base.generative, base.nonzero_prob, base.dropout) = (false, false, 0.0);
        sizes.apply(&mut base);
        config.base = base;
        let model = ScGptPerturb::init(self.vocab().clone(), config, &Device::Cpu, seed)?;
        match self {
            Self::Released(c) => {
                model.load_weights(c, &Allow::fine_tuning())?;
            }
            Self::Ours(old) => {
                model.take_weights(old)?;
            }
            Self::Scratch(_) => {}
        }
        Ok(model)
    }

    /// A smaller model of another vocabulary, which takes over no more than the vectors of the genes in both; says how many.
    pub(super) fn with_vocab(
        &self,
        vocab: GeneVocab,
        sizes: &Sizes,
        seed: u64,
        change: impl FnOnce(&mut ScGptConfig),
    ) -> Result<(ScGpt, usize)> {
        let mut config = self.config()?;
        (config.n_tokens, config.pad_id) = (vocab.len(), vocab.pad()?);
        config.n_layers = MULTIOMIC_LAYERS;
        let width = config.d_model;
        sizes.apply(&mut config);
        if !matches!(self, Self::Scratch(_)) && config.d_model != width {
            return Err(Error::Message(format!(
                "--d-model: the vectors of genes that --from takes over have {width} numbers; leave it out"
            )));
        }
        change(&mut config);
        let model = ScGpt::with_config(vocab, config).check()?;
        let model = model.init(&Device::Cpu, seed)?;
        let taken = match self {
            Self::Released(c) => model.load_genes(c)?,
            Self::Ours(old) => model.take_genes(old)?,
            Self::Scratch(_) => 0,
        };
        Ok((model, taken))
    }
}

/// A model that is told neither batches nor modalities, as it may have been for another task.
pub(super) fn untold(config: &mut ScGptConfig) {
    config.batches.clear();
    config.modalities.clear();
    config.use_batch_labels = false;
    config.adversary = false;
    if config.input_norm == InputNorm::DomainSpecific {
        config.input_norm = InputNorm::None;
    }
}

/// Says which weights start anew.
fn say_anew(report: &LoadReport) {
    let missing = report.missing.iter().map(String::as_str);
    let other = report.mismatched.iter().map(|m| m.name.as_str());
    let names: Vec<&str> = missing.chain(other).collect();
    if !names.is_empty() {
        note(&format!(
            "not in the model of --from, so learned anew: {}",
            names.join(", ")
        ));
    }
}

/// Fine-tunes, and keeps the best epoch.
pub(super) fn train(
    model: &ScGpt,
    objectives: Objectives,
    cells: &LabelledCells<'_>,
    config: &TrainConfig,
    state: Option<&ResumeState>,
    observer: Box<dyn Observer>,
) -> Result<Fitted> {
    let task = FineTune::new(model, objectives)?;
    train_best(&task, cells, config, state, observer)
}

/// Trains, and puts the weights of the best epoch back.
pub(super) fn train_best<M: Trainable<D>, D: ?Sized>(
    task: &M,
    data: &D,
    config: &TrainConfig,
    state: Option<&ResumeState>,
    observer: Box<dyn Observer>,
) -> Result<Fitted> {
    let mut observer = (KeepBest::new(task.params()), observer);
    let fitted = match state {
        Some(state) => resume(task, data, config, state, &mut observer)?,
        None => fit(task, data, config, &mut observer)?,
    };
    observer.0.restore()?;
    Ok(fitted)
}
