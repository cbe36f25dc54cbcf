//! Which model a folder or file holds.

use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Device;
use sc_transformer::scbert::{GenePanel, Scbert, UpstreamOptions};
use sc_transformer::scgpt::{self, PERTURB_KIND, ScGpt};
use sc_transformer::tokens::TokenizerOptions;
use sc_transformer::vocab::GeneCase;
use serde::{Deserialize, Serialize};

use super::cells::wrong_in;
use super::query::Given;
use crate::common::CHECKPOINT;
use crate::error::{Error, Result};

/// The file in which `finetune` notes how it read the cells, beside the model.
const NOTES: &str = "cells.json";

/// A trained model.
pub(super) enum Transformer {
    Scgpt(Box<ScGpt>),
    Scbert(Box<Scbert>),
}

impl Transformer {
    /// scGPT; `why` says what else one would use.
    pub(super) fn scgpt(self, path: &Path, why: &str) -> Result<ScGpt> {
        match self {
            Self::Scgpt(model) => Ok(*model),
            Self::Scbert(_) => Err(Error::Message(format!(
                "{}: holds scBERT{why}; this needs scGPT",
                path.display()
            ))),
        }
    }
}

/// Opens scGPT.
pub(super) fn open_scgpt(path: &Path, why: &str) -> Result<ScGpt> {
    open(path, &Foreign::default())?.scgpt(path, why)
}

/// A model that others made.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Foreign {
    /// MODEL is a checkpoint file of the original scBERT (.pth), which doesn't name its genes: a file with one name a line,
    /// in the model's order
    #[arg(long, value_name = "FILE")]
    pub(super) panel: Option<PathBuf>,
    /// The cell types of such a checkpoint in alphabetical order, a file with one a line [default: 0, 1, ...]
    #[arg(long, value_name = "FILE", requires = "panel")]
    pub(super) classes: Option<PathBuf>,
}

impl Foreign {
    pub(super) fn given(&self) -> Vec<Given> {
        vec![
            ("--panel", self.panel.is_some()),
            ("--classes", self.classes.is_some()),
        ]
    }
}

/// How a model was taught to read cells, which it must go on to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    /// How expression becomes tokens; of scGPT.
    pub(super) tokens: Option<TokenizerOptions>,
    /// The genes that were used, if not all.
    pub(super) genes: Option<Vec<String>>,
    /// The column of obs with the batches.
    pub(super) batch_key: Option<String>,
    /// The column of obs with the labels.
    pub(super) labels_key: Option<String>,
    /// The column of var with the names of the genes.
    pub(super) gene_key: Option<String>,
    /// Of a model of several modalities.
    pub(super) modalities: Option<ModalityNotes>,
    /// Of a model of perturbations.
    pub(super) perturbations: Option<PerturbationNotes>,
}

impl PerturbationNotes {
    pub(super) fn case(&self) -> GeneCase {
        match self.ignore_case {
            true => GeneCase::Ignore,
            false => GeneCase::Exact,
        }
    }
}

/// The modalities of a model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ModalityNotes {
    /// That of the first file: its features are called as they are, those of others `MODALITY:FEATURE`.
    pub(super) first: String,
    /// That of each of the genes.
    pub(super) of_genes: Vec<String>,
}

/// How perturbed cells were read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PerturbationNotes {
    /// The column of obs with what was done to each cell.
    pub(super) condition_key: String,
    /// What that says of cells to which nothing was done.
    pub(super) control: String,
    /// What cells are scaled to and then log-transformed, unless they are that already.
    pub(super) normalize: Option<f64>,
    /// Perturbed genes that are no columns: they are read without expression.
    pub(super) unmeasured: Vec<String>,
    /// Whether genes were looked up without regard to case.
    pub(super) ignore_case: bool,
    /// The perturbations that were trained on.
    pub(super) trained: Vec<String>,
}

impl Notes {
    /// Those of a folder; none if it has none.
    pub(super) fn of(model: &Path) -> Result<Self> {
        let path = model.join(NOTES);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(_) if !path.is_file() => return Ok(Self::default()),
            Err(e) => return Err(Error::file(&path, "read")(e)),
        };
        serde_json::from_str(&text)
            .map_err(|e| Error::Message(format!("{}: is damaged: {e}", path.display())))
    }

    pub(super) fn save(&self, model: &Path) -> Result<()> {
        let path = model.join(NOTES);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Message(format!("{}: cannot be written: {e}", path.display())))?;
        Ok(sc_model::files::write_atomic(&path, |f| {
            f.write_all(text.as_bytes())
        })?)
    }
}

/// Opens a model of ours, a released scGPT folder, or with a panel a checkpoint of scBERT.
pub(super) fn open(path: &Path, foreign: &Foreign) -> Result<Transformer> {
    if let Some(panel) = &foreign.panel {
        return scbert_file(path, panel, foreign.classes.as_deref())
            .map(|m| Transformer::Scbert(Box::new(m)));
    }
    let wrong = |why: String| Err(wrong_in(path, why));
    if !path.exists() {
        return wrong("there is no such folder".into());
    }
    if path.is_file() {
        return wrong(
            "is a file; give the folder of a model, or for a checkpoint of the original scBERT the list of its genes with \
             --panel"
                .into(),
        );
    }
    if sc_model::save::is_saved_model(path) {
        return match sc_model::save::model_kind(path)?.as_str() {
            scgpt::KIND => Ok(Transformer::Scgpt(Box::new(ScGpt::load(
                path,
                &Device::Cpu,
            )?))),
            "scbert" => Ok(Transformer::Scbert(Box::new(Scbert::load(
                path,
                &Device::Cpu,
            )?))),
            PERTURB_KIND => wrong(
                "holds a model of perturbations, which predicts and does not embed: use it with `sc transformer perturb`".into(),
            ),
            kind => wrong(format!(
                "holds a model of kind \"{kind}\"; `sc transformer` needs scgpt or scbert, and `sc embed` uses scvi and scanvi"
            )),
        };
    }
    if path.join(CHECKPOINT).is_file() {
        return wrong("training was interrupted here; finish it with --resume".into());
    }
    let files = [scgpt::WEIGHTS, scgpt::ARGS, scgpt::VOCAB];
    let missing: Vec<&str> = files
        .into_iter()
        .filter(|f| !path.join(f).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(Transformer::Scgpt(Box::new(ScGpt::from_checkpoint(
            path,
            &Device::Cpu,
        )?)));
    }
    if missing.len() == files.len() {
        return wrong(format!(
            "holds neither model.safetensors (written by `sc transformer finetune`) nor {} (a released scGPT)",
            files.join(", ")
        ));
    }
    wrong(format!(
        "a released scGPT is {}; there is no {}",
        files.join(", "),
        missing.join(", ")
    ))
}

/// A checkpoint of the original scBERT.
fn scbert_file(path: &Path, panel: &Path, classes: Option<&Path>) -> Result<Scbert> {
    let mut options = UpstreamOptions::default();
    if let Some(classes) = classes {
        let text = std::fs::read_to_string(classes).map_err(Error::file(classes, "read"))?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        options.labels = Some(lines.map(str::to_owned).collect());
    }
    let panel = GenePanel::read(panel)?;
    Ok(Scbert::from_scbert(path, panel, &options, &Device::Cpu)?)
}
