//! How much memory a model needs.

use super::config::ScGptConfig;
use super::model::ScGpt;
use crate::tokens::BatchLimits;

/// Bytes, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: usize,
    /// What embedding needs besides, at its peak.
    pub embedding: usize,
    /// What training needs besides the weights: what the way back needs of the way there, gradients, and two moments of Adam.
    pub training: usize,
}

/// Bytes of a number.
const NUMBER: usize = size_of::<f32>();

impl ScGptConfig {
    /// Numbers in the weights.
    fn n_weights(&self) -> usize {
        let (d, f) = (self.d_model, self.d_hid);
        let layer = 4 * d * d + 2 * d * f + 9 * d + f;
        self.n_tokens * d + self.n_layers * layer + 8 * d * d
    }

    /// The rows of a layer that are alive at once, in numbers a token: input, queries, keys and values, context, output and
    /// sums. (Measured with the released sizes: 19 MB for a cell of 1,200 tokens.)
    fn alive(&self) -> usize {
        (8 * self.d_model).max(4 * self.d_model + 2 * self.d_hid)
    }

    /// What one layer keeps for the way back, in numbers a token: ten rows of the model's width and two of the network's.
    fn kept(&self) -> usize {
        12 * self.d_model + 3 * self.d_hid
    }

    /// What minibatches of `cells` cells of `tokens` tokens each need. Attention is computed in tiles, so that memory grows in
    /// proportion to the tokens.
    pub fn estimate_memory(&self, tokens: usize, cells: usize) -> MemoryEstimate {
        let rows = tokens.saturating_mul(cells).saturating_mul(NUMBER);
        let weights = self.n_weights().saturating_mul(NUMBER);
        let heads = 8 * self.d_model;
        let kept = self.n_layers.saturating_mul(self.kept()) + heads;
        MemoryEstimate {
            weights,
            embedding: rows.saturating_mul(self.alive()),
            training: rows.saturating_mul(kept).saturating_add(3 * weights),
        }
    }
}

impl ScGpt {
    /// What minibatches of `cells` cells of `tokens` tokens each need, about; see [`ScGptConfig::estimate_memory`].
    pub fn estimate_memory(&self, tokens: usize, cells: usize) -> MemoryEstimate {
        MemoryEstimate {
            weights: self.parameters().bytes(),
            ..self.config.estimate_memory(tokens, cells)
        }
    }

    /// How large minibatches can be for embedding in `bytes` of memory besides the weights.
    pub fn limits_within(&self, bytes: usize) -> BatchLimits {
        let one = self.estimate_memory(1, 1).embedding.max(1);
        BatchLimits {
            max_tokens: (bytes / one).max(1),
            ..BatchLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_the_released_model() {
        let config = ScGptConfig {
            n_tokens: 60_697,
            ..ScGptConfig::default()
        };
        let estimate = config.estimate_memory(1200, 32);
        let exact = 51_330_049.0 * 4.0;
        let off = (estimate.weights as f64 - exact).abs() / exact;
        assert!(off < 0.02, "{off}");
        let half = config.estimate_memory(600, 32);
        assert_eq!(estimate.embedding, 2 * half.embedding);
    }
}
