use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{Mode, Params, build_params, load_params};
use sc_tensor::Rng;

use super::nets::{Head, HeadKind, Nets};
use super::{GenePanel, GeneVectors, ScbertConfig, projection};
use crate::{Error, Result};
use sc_tensor::ops::Stabiliser;

/// scBERT (Yang et al. 2022): a Performer that reads all genes of a panel, each as its gene2vec vector plus a vector of its
/// expression, binned; and after them one position that stands for the cell.
///
/// A fresh model predicts hidden expression ([`Scbert::pretrain`]); given classes ([`Scbert::with_classes`]) it predicts those
/// of cells.
#[derive(Debug, Clone)]
pub struct Scbert {
    pub(super) config: ScbertConfig,
    pub(super) panel: GenePanel,
    pub(super) labels: Vec<String>,
    pub(super) params: Params,
    pub(super) nets: Nets,
}

/// Settings of a model that is to be made. Start from [`Scbert::params`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScbertParams {
    config: ScbertConfig,
    panel: GenePanel,
    genes: Option<GeneVectors>,
}

/// Settings that passed [`ScbertParams::check`].
#[derive(Debug, Clone)]
pub struct ScbertValidParams(ScbertParams);

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $t:ty => $e:expr),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $t) -> Self { self.config.$name = $e; self })+
    };
}

impl ScbertParams {
    setters! {
        /// The highest expression token; 5.
        max_bin: usize => max_bin,
        /// Width of the network; 200.
        dim: usize => dim,
        /// Blocks; 6.
        depth: usize => depth,
        /// Attention heads; 10.
        heads: usize => heads,
        /// Numbers of a head; 64.
        dim_head: usize => dim_head,
        /// Random features of a head; `dim_head ln(dim_head)`.
        features: usize => Some(features),
        /// Hidden units of the feed-forward layers; `4 dim`.
        hidden: usize => Some(hidden),
        /// Hidden units of the two layers of the classifier; 512 and 128.
        classifier_hidden: [usize; 2] => classifier_hidden,
        /// Whether the vectors of the genes are trained; they are not.
        learn_genes: bool => learn_genes,
    }

    /// The vectors of the genes, those of gene2vec for instance. Without them they are random, standard normal.
    pub fn gene_vectors(mut self, genes: GeneVectors) -> Self {
        self.genes = Some(genes);
        self
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(self) -> Result<ScbertValidParams> {
        self.config.check()?;
        if let Some(genes) = &self.genes {
            genes.check(self.panel.len(), self.config.dim)?;
        }
        Ok(ScbertValidParams(self))
    }
}

impl ScbertValidParams {
    /// The settings.
    pub fn config(&self) -> &ScbertConfig {
        &self.0.config
    }

    /// A model with random weights, distributed as PyTorch's, that predicts hidden expression.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Scbert> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// As [`ScbertValidParams::init`].
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<Scbert> {
        let ScbertParams {
            config,
            panel,
            genes,
        } = &self.0;
        let rng = Rng::new(seed);
        let (nets, params) = build_params(device, dtype, &rng, |p| {
            Nets::new(p, config, panel, HeadKind::Tokens)
        })?;
        let model = Scbert {
            config: config.clone(),
            panel: panel.clone(),
            labels: Vec::new(),
            params,
            nets,
        };
        model.draw_projections(&rng, &[])?;
        let vectors = match genes {
            Some(genes) => genes.with_cell(device)?,
            None => GeneVectors::random(panel.len(), config.dim, &rng)?.with_cell(device)?,
        };
        model.nets.genes().import(&vectors)?;
        Ok(model)
    }
}

impl Scbert {
    /// Settings of a model for these genes.
    pub fn params(panel: GenePanel) -> ScbertParams {
        ScbertParams {
            config: ScbertConfig::default(),
            panel,
            genes: None,
        }
    }

    /// A model with the weights of a file.
    pub(super) fn from_tensors(
        config: ScbertConfig,
        panel: GenePanel,
        labels: Vec<String>,
        dtype: DType,
        device: &Device,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        config.check()?;
        let head = head_kind(&labels);
        let (nets, params) = load_params(device, dtype, path, tensors, |p| {
            Nets::new(p, &config, &panel, head)
        })?;
        Ok(Self {
            config,
            panel,
            labels,
            params,
            nets,
        })
    }

    /// The numbers of the network.
    pub fn config(&self) -> &ScbertConfig {
        &self.config
    }

    /// The genes that it reads.
    pub fn panel(&self) -> &GenePanel {
        &self.panel
    }

    /// The classes that it predicts; none if it predicts expression.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Its parameters and buffers, by upstream's names.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// The same network with a fresh head that predicts these classes, or others than before. The weights are copies: this
    /// model stays as it is.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there are fewer than two classes, or one twice.
    pub fn with_classes(&self, labels: &[String], seed: u64) -> Result<Self> {
        let mut sorted: Vec<&str> = labels.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        if labels.len() < 2 || sorted.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::InvalidSetting {
                name: "labels",
                value: format!("{labels:?}"),
                reason: "at least two are needed, each once".into(),
            });
        }
        let (device, dtype) = (self.params.device(), self.params.dtype());
        let rng = Rng::new(seed).child("classes");
        let (nets, params) = build_params(device, dtype, &rng, |p| {
            Nets::new(p, &self.config, &self.panel, head_kind(labels))
        })?;
        for p in params.iter() {
            let same = self.params.get(p.name());
            if let Some(old) = same.filter(|_| !p.name().starts_with("to_out.")) {
                p.import(&old.export()?)?;
            }
        }
        Ok(Self {
            config: self.config.clone(),
            panel: self.panel.clone(),
            labels: labels.to_vec(),
            params,
            nets,
        })
    }

    /// Draws the random features of all blocks, for the time that the counters say.
    pub(super) fn draw_projections(&self, rng: &Rng, at: &[u64]) -> Result<()> {
        let c = &self.config;
        for (i, block) in self.nets.blocks.iter().enumerate() {
            let mut stream = rng.stream(&format!("favor/{i}")).at(at);
            let (dtype, device) = (self.params.dtype(), self.params.device());
            let drawn = projection::draw(c.n_features(), c.dim_head, &mut stream, dtype, device)?;
            block.projection.import(&drawn)?;
        }
        Ok(())
    }

    /// The vectors of all positions of some cells, `[cells x positions, dim]`, from their tokens, cell by cell.
    ///
    /// # Errors
    /// If the tokens are not those of whole cells, or one is unknown.
    pub fn encode(&self, tokens: &[u32], stabiliser: Stabiliser) -> Result<Tensor> {
        self.nets.encode(tokens, stabiliser, &Mode::eval())
    }

    /// Scores of the tokens at all positions, `[cells x positions, tokens]`.
    ///
    /// # Errors
    /// As [`Scbert::encode`], and [`Error::WrongHead`] if the model predicts classes.
    pub fn token_logits(&self, tokens: &[u32], stabiliser: Stabiliser) -> Result<Tensor> {
        let y = self.encode(tokens, stabiliser)?;
        self.token_scores(&y, &Mode::eval())
    }

    /// Scores of the classes, `[cells, classes]`.
    ///
    /// # Errors
    /// As [`Scbert::encode`], and [`Error::WrongHead`] if the model predicts expression.
    pub fn class_logits(&self, tokens: &[u32], stabiliser: Stabiliser) -> Result<Tensor> {
        let y = self.encode(tokens, stabiliser)?;
        self.class_scores(&y, &Mode::eval())
    }

    pub(super) fn token_scores(&self, y: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        match &self.nets.head {
            Head::Tokens(head) => Ok(head.forward(y, mode)?),
            Head::Classes(_) => Err(Error::WrongHead {
                found: "classes",
                wanted: "expression",
                advice: "use the model as it was before with_classes",
            }),
        }
    }

    pub(super) fn class_scores(&self, y: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        match &self.nets.head {
            Head::Classes(head) => head.forward(y, self.panel.positions(), mode),
            Head::Tokens(_) => Err(Error::WrongHead {
                found: "expression",
                wanted: "classes",
                advice: "fine-tune it first",
            }),
        }
    }
}

pub(super) fn head_kind(labels: &[String]) -> HeadKind {
    match labels.len() {
        0 => HeadKind::Tokens,
        n => HeadKind::Classes(n),
    }
}
