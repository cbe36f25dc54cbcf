//! scGPT before it is fine-tuned, and how it is.

use std::path::Path;

use candle_core::Device;
use sc_model::train::{Fitted, Observer, ResumeState, TrainConfig, fit, resume};
use sc_transformer::scgpt::{
    Allow, Checkpoint, FineTune, InputNorm, KeepBest, LabelledCells, Objectives, ScGpt, ScGptConfig,
};
use sc_transformer::vocab::{GeneVocab, SPECIALS};

use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::transformer::model::{self, Foreign, Transformer};

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
    /// Layers of the transformer [default: 12]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_layers: Option<usize>,
    /// Share of units dropped while training [default: 0.2, or that of the checkpoint]
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
}

impl Sizes {
    pub(super) fn any(&self) -> bool {
        let sizes = [self.d_model, self.n_heads, self.d_hid, self.n_layers];
        sizes.iter().any(Option::is_some)
    }

    fn apply(&self, config: &mut ScGptConfig) {
        config.d_model = self.d_model.unwrap_or(config.d_model);
        config.n_heads = self.n_heads.unwrap_or(config.n_heads);
        config.d_hid = self.d_hid.unwrap_or(config.d_hid);
        config.n_layers = self.n_layers.unwrap_or(config.n_layers);
        config.dropout = self.dropout.unwrap_or(config.dropout);
    }
}

/// What is there before training.
pub(super) enum Start {
    /// A released checkpoint.
    Released(Checkpoint),
    /// A model of ours.
    Ours(Box<ScGpt>),
    /// Nothing but the genes of the data.
    Scratch(GeneVocab),
}

impl Start {
    pub(super) fn open(from: Option<&Path>, genes: &[String], sizes: &Sizes) -> Result<Self> {
        let Some(dir) = from else {
            let mut seen = std::collections::HashSet::new();
            let once = genes
                .iter()
                .filter(|g| !g.is_empty() && seen.insert(g.as_str()));
            return Ok(Self::Scratch(
                GeneVocab::new(once.cloned())?.with_specials(&SPECIALS)?,
            ));
        };
        if sizes.any() {
            return Err(Error::Message(format!(
                "--from takes the sizes of {}: leave out --d-model, --n-heads, --d-hid and --n-layers",
                dir.display()
            )));
        }
        // A released checkpoint may hold less than its own model needs, so that it is not opened as a model.
        if dir.is_dir()
            && !sc_model::save::is_saved_model(dir)
            && dir.join(sc_transformer::scgpt::WEIGHTS).is_file()
        {
            return Ok(Self::Released(Checkpoint::open(dir)?));
        }
        let none = Foreign {
            panel: None,
            classes: None,
        };
        match model::open(dir, &none)? {
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

    /// The model for a task, which `change` makes of the settings.
    pub(super) fn model(
        &self,
        sizes: &Sizes,
        seed: u64,
        change: impl FnOnce(&mut ScGptConfig),
    ) -> Result<ScGpt> {
        let mut config = match self {
            Self::Released(c) => c.config()?,
            Self::Ours(m) => m.config().clone(),
            Self::Scratch(v) => ScGpt::params(v)?.check()?.config().clone(),
        };
        sizes.apply(&mut config);
        change(&mut config);
        let params = ScGpt::with_config(self.vocab().clone(), config);
        let model = params.check()?.init(&Device::Cpu, seed)?;
        match self {
            Self::Released(c) => {
                model.load_weights(c, &Allow::fine_tuning())?;
            }
            Self::Ours(old) => take_over(&model, old)?,
            Self::Scratch(_) => {}
        }
        Ok(model)
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

/// The weights that both models have. Says which of the others start anew; those of the transformer must all be there.
fn take_over(model: &ScGpt, old: &ScGpt) -> Result<()> {
    // Names of classes and batches may mean others: their heads and vectors are learned anew.
    const OWN: [&str; 5] = [
        "cls_decoder.",
        "grad_reverse_discriminator.",
        "batch_encoder.",
        "mod_encoder.",
        "dsbn.",
    ];
    let mut anew = Vec::new();
    for p in model.parameters().iter() {
        if OWN.iter().any(|own| p.name().starts_with(own)) {
            continue;
        }
        let same = old.parameters().get(p.name());
        match same.filter(|o| o.export_shape() == p.export_shape()) {
            Some(same) => p.import(&same.export()?)?,
            None => anew.push(p.name()),
        }
    }
    if let Some(name) = anew.iter().find(|n| n.starts_with("transformer_encoder.")) {
        return Err(Error::Message(format!(
            "--from: the model there has no {name} of this model's shape, so that it would start from random weights"
        )));
    }
    if !anew.is_empty() {
        let names = anew.join(", ");
        note(&format!(
            "not in the model of --from, so learned anew: {names}"
        ));
    }
    Ok(())
}

/// Trains, and puts the weights of the best epoch back.
pub(super) fn train(
    model: &ScGpt,
    objectives: Objectives,
    cells: &LabelledCells<'_>,
    config: &TrainConfig,
    state: Option<&ResumeState>,
    observer: Box<dyn Observer>,
) -> Result<Fitted> {
    let task = FineTune::new(model, objectives)?;
    let mut observer = (KeepBest::new(model.parameters()), observer);
    let fitted = match state {
        Some(state) => resume(&task, cells, config, state, &mut observer)?,
        None => fit(&task, cells, config, &mut observer)?,
    };
    observer.0.restore()?;
    Ok(fitted)
}
