use sc_model::Parity;
use serde::{Deserialize, Serialize};

use super::binning::Binning;
use super::draws::Generator;

/// What becomes of a cell with more genes than fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// A random sample of its genes.
    Sample(Generator),
    /// Those with the highest values; of equal ones those that come first in the data.
    Top,
    /// Those that come first in the data.
    First,
}

impl Default for Overflow {
    fn default() -> Self {
        Self::Sample(Generator::default())
    }
}

/// How cells become tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerOptions {
    /// How values are binned; `None` leaves them as they are.
    pub binning: Option<Binning>,
    /// Whether genes without counts are tokens, too.
    pub include_zeros: bool,
    /// The value of the `<cls>` token that comes first; `None` for no such token.
    pub cls: Option<f32>,
    /// The most tokens of a cell, `<cls>` included; `None` keeps all.
    pub max_len: Option<usize>,
    /// Which tokens stay if there are more.
    pub overflow: Overflow,
}

impl Default for TokenizerOptions {
    /// Genes with counts, 51 bins, `<cls>` with the value -2, at most 1,200 tokens, sampled: as scGPT embeds cells.
    fn default() -> Self {
        Self {
            binning: Some(Binning::default()),
            include_zeros: false,
            cls: Some(-2.0),
            max_len: Some(1200),
            overflow: Overflow::default(),
        }
    }
}

impl TokenizerOptions {
    /// For fine-tuning: all genes of the data up to `max_len` tokens. With [`Parity::Upstream`], `<cls>` has the value 0, as in
    /// the original's recipes; otherwise -2, as in pre-training and in embedding.
    pub fn finetune(max_len: Option<usize>, parity: Parity) -> Self {
        Self {
            cls: Some(match parity {
                Parity::Correct => -2.0,
                Parity::Upstream => 0.0,
            }),
            max_len,
            ..Self::default()
        }
    }
}
