//! Checkpoints that the original wrote: a folder with `best_model.pt`, `args.json` and `vocab.json`.

mod genes;
mod infer;
mod names;
mod report;
mod tensors;
mod transfer;
mod write;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use indexmap::IndexMap;
use sc_io::pytorch::{self, TorchTensor};

pub use names::Layout;
pub use report::{Allow, LoadReport, Mismatch};

use super::args::Args;
use super::config::ScGptConfig;
use super::model::ScGpt;
use crate::vocab::GeneVocab;
use crate::{Error, Result};

/// The weights' file in a folder.
pub const WEIGHTS: &str = "best_model.pt";
/// The file with the arguments of training.
pub const ARGS: &str = "args.json";
/// The file with the vocabulary.
pub const VOCAB: &str = "vocab.json";

/// An opened checkpoint of scGPT, in any of the layouts its versions wrote. Nothing in it is executed.
///
/// Names are those of the released models; see [`Layout`].
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    args: Args,
    vocab: GeneVocab,
    tensors: IndexMap<String, TorchTensor>,
}

impl Checkpoint {
    /// Opens a folder.
    ///
    /// # Errors
    /// If one of the three files is missing or damaged.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let args = Args::read(&dir.join(ARGS))?;
        let vocab = GeneVocab::read(dir.join(VOCAB))?;
        Self::open_weights(dir.join(WEIGHTS), args, vocab)
    }

    /// Opens a file of weights whose arguments and vocabulary are kept elsewhere, such as a model that a tutorial saved
    /// after fine-tuning.
    ///
    /// # Errors
    /// If it cannot be read, or holds no tensors.
    pub fn open_weights(path: impl AsRef<Path>, args: Args, vocab: GeneVocab) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let value = pytorch::read(&path)?;
        let tensors = tensors::state_dict(&path, &value)?;
        Ok(Self {
            path,
            args,
            vocab,
            tensors,
        })
    }

    /// The file of weights.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &GeneVocab {
        &self.vocab
    }

    /// The names and shapes of the tensors.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(n, t)| (n.as_str(), t.shape()))
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&TorchTensor> {
        self.tensors.get(name)
    }

    /// The settings of the model that it is of: which parts there are, and their sizes, are read off the weights.
    ///
    /// # Errors
    /// If there is no table of genes, or the vocabulary has no padding token.
    pub fn config(&self) -> Result<ScGptConfig> {
        infer::config(self)
    }

    /// The model, with every tensor of the file in its place.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if the model needs a tensor that the file lacks, or the file has one that no model has.
    pub fn load(&self, device: &Device) -> Result<ScGpt> {
        Ok(self.load_with(device, DType::F32, &Allow::default())?.0)
    }

    /// The same in another precision, and where some tensors may differ. With `BF16` or `F16`, matrices are kept so, in half
    /// the memory, and computed with in `F32`.
    ///
    /// # Errors
    /// As [`Checkpoint::load`], except for what is allowed.
    pub fn load_with(
        &self,
        device: &Device,
        dtype: DType,
        allow: &Allow,
    ) -> Result<(ScGpt, LoadReport)> {
        let valid = ScGpt::with_config(self.vocab.clone(), self.config()?).check()?;
        let model = valid.init_with_dtype(device, dtype, 0)?;
        let report = model.load_weights(self, allow)?;
        Ok((model, report))
    }

    /// Overwrites parameters by the tensors of the same name and shape, or says why not.
    pub(in crate::scgpt) fn load_into(
        &self,
        params: &sc_model::Params,
        allow: &Allow,
    ) -> Result<LoadReport> {
        let report = report::compare(params, &self.tensors);
        if !report.is_allowed(allow) {
            return Err(Error::Incompatible {
                path: self.path.clone(),
                report: Box::new(report.without(allow)),
            });
        }
        // One after the other, so that there is never a second copy of the model.
        for name in &report.loaded {
            if let (Some(p), Some(t)) = (params.get(name), self.tensors.get(name)) {
                p.import(&tensors::to_tensor(t, params.device())?)?;
            }
        }
        if let Some(name) = params.first_non_finite()? {
            return Err(Error::Model(sc_model::Error::Format {
                path: self.path.clone(),
                reason: format!("tensor \"{name}\" holds numbers that are not finite"),
            }));
        }
        Ok(report)
    }
}

impl ScGpt {
    /// Opens the folder of a released model: every tensor must find its place.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Checkpoint::load`].
    pub fn from_checkpoint(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Checkpoint::open(dir)?.load(device)
    }

    /// Overwrites the parameters by those of a checkpoint of the same name and shape. What is missing there, in excess or
    /// of another shape is an error unless allowed by name, and then nothing has changed; [`Allow::fine_tuning`] allows what
    /// a new task needs.
    ///
    /// # Errors
    /// [`Error::Incompatible`] lists what does not fit.
    pub fn load_weights(&self, from: &Checkpoint, allow: &Allow) -> Result<LoadReport> {
        from.load_into(&self.params, allow)
    }

    /// Writes a folder that the original reads, and makes it if it isn't there. The model's settings that `args.json` has no name for are not in it.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn export(&self, dir: impl AsRef<Path>, layout: Layout) -> Result<()> {
        write::export(self, dir.as_ref(), layout)
    }
}
