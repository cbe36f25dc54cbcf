use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The numbers of a scBERT network. The defaults are those of the published model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ScbertConfig {
    /// The highest expression token; higher expression counts as this. 5, so that the tokens 0 to 5 are values and 6 is
    /// the mask.
    pub max_bin: usize,
    /// Width of the network, 200: that of gene2vec.
    pub dim: usize,
    /// Blocks, 6.
    pub depth: usize,
    /// Attention heads, 10.
    pub heads: usize,
    /// Numbers of a head, 64; not `dim / heads`.
    pub dim_head: usize,
    /// Random features of a head; `None` is `dim_head ln(dim_head)`, 266.
    pub features: Option<usize>,
    /// Hidden units of the feed-forward layers; `None` is `4 dim`, 800.
    pub hidden: Option<usize>,
    /// Hidden units of the two layers of the classifier, 512 and 128.
    pub classifier_hidden: [usize; 2],
    /// Train the vectors of the genes too, instead of keeping them as gene2vec made them.
    pub learn_genes: bool,
}

impl Default for ScbertConfig {
    fn default() -> Self {
        Self {
            max_bin: 5,
            dim: 200,
            depth: 6,
            heads: 10,
            dim_head: 64,
            features: None,
            hidden: None,
            classifier_hidden: [512, 128],
            learn_genes: false,
        }
    }
}

impl ScbertConfig {
    /// Tokens there are: the values `0..=max_bin` and the mask.
    pub fn n_tokens(&self) -> usize {
        self.max_bin.saturating_add(2)
    }

    /// The token of a gene whose value is hidden.
    pub fn mask_token(&self) -> u32 {
        u32::try_from(self.max_bin.saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// Random features of a head.
    pub fn n_features(&self) -> usize {
        let d = self.dim_head as f64;
        self.features.unwrap_or((d * d.ln()) as usize)
    }

    /// Hidden units of the feed-forward layers.
    pub fn n_hidden(&self) -> usize {
        self.hidden.unwrap_or(self.dim.saturating_mul(4))
    }

    /// Numbers of all heads together.
    pub fn inner(&self) -> usize {
        self.heads.saturating_mul(self.dim_head)
    }

    /// Whether such a network can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("max_bin", self.max_bin),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("dim_head", self.dim_head),
            ("features", self.n_features()),
            ("hidden", self.n_hidden()),
            ("classifier_hidden", self.classifier_hidden[0]),
            ("classifier_hidden", self.classifier_hidden[1]),
        ];
        for (name, value) in sizes {
            // 2^16 of anything is far beyond what has been trained, and keeps all products within range.
            if value == 0 || value > 1 << 16 {
                return Err(Error::InvalidSetting {
                    name,
                    value: value.to_string(),
                    reason: "it must be at least 1, and at most 65536".into(),
                });
            }
        }
        Ok(())
    }
}
