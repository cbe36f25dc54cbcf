//! Which expression values are hidden in pre-training.

use sc_model::Parity;
use sc_tensor::Stream;

/// How expression is hidden; the defaults are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MaskConfig {
    /// Share of a cell's expressed genes that are to be predicted; 0.15.
    pub rate: f64,
    /// Share of these whose token is replaced by the mask; the others keep theirs. 0.9.
    pub hidden: f64,
}

impl Default for MaskConfig {
    fn default() -> Self {
        Self {
            rate: 0.15,
            hidden: 0.9,
        }
    }
}

/// Cells of which some values are hidden.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Masked {
    /// What the network reads.
    pub tokens: Vec<u32>,
    /// Where it is to predict: places in `tokens`.
    pub places: Vec<u32>,
    /// What was there.
    pub targets: Vec<u32>,
}

impl MaskConfig {
    /// How many of a cell's `eligible` genes are to be predicted: that share of them, rounded up, and no more than that share
    /// of all its positions.
    ///
    /// Upstream multiplies in `f32`, where `0.15 x 100` is a little more than 15 and becomes 16.
    pub fn count(&self, eligible: usize, positions: usize, parity: Parity) -> usize {
        // The true product may be a whole number whose nearest doubles lie on either side.
        let up = |n: usize| (self.rate * n as f64 - 1e-9).ceil() as usize;
        let wanted = match parity {
            Parity::Upstream => (self.rate as f32 * eligible as f32).ceil() as usize,
            Parity::Correct => up(eligible),
        };
        wanted.min(up(positions)).min(eligible)
    }

    /// Hides values of one cell. Genes that are expressed are eligible; those with the largest `order` are to be predicted,
    /// and those of them where `keep` is below [`MaskConfig::hidden`] get the mask's token. `order` and `keep` are uniform
    /// on 0 to 1, one for each position.
    pub fn apply(
        &self,
        cell: &[u32],
        mask: u32,
        order: &[f32],
        keep: &[f32],
        parity: Parity,
        to: &mut Masked,
    ) {
        let at = |v: &[f32], i: usize| v.get(i).copied().unwrap_or(0.0);
        let mut eligible: Vec<usize> = (cell.iter().enumerate())
            .filter(|&(_, &t)| t != 0 && t != mask)
            .map(|(i, _)| i)
            .collect();
        eligible.sort_by(|&a, &b| at(order, b).total_cmp(&at(order, a)));
        eligible.truncate(self.count(eligible.len(), cell.len(), parity));
        eligible.sort_unstable();
        let first = to.tokens.len();
        to.tokens.extend_from_slice(cell);
        for i in eligible {
            let place = first + i;
            let Some(token) = to.tokens.get_mut(place) else {
                continue;
            };
            to.places.push(place as u32);
            to.targets.push(*token);
            if f64::from(at(keep, i)) < self.hidden {
                *token = mask;
            }
        }
    }

    /// Hides values of whole cells at random.
    pub(super) fn draw(
        &self,
        tokens: &[u32],
        positions: usize,
        mask: u32,
        stream: &mut Stream,
        parity: Parity,
    ) -> Masked {
        let mut masked = Masked::default();
        let (mut order, mut keep) = (vec![0f32; positions], vec![0f32; positions]);
        for cell in tokens.chunks_exact(positions) {
            stream.fill_uniform(0.0, 1.0, &mut order);
            stream.fill_uniform(0.0, 1.0, &mut keep);
            self.apply(cell, mask, &order, &keep, parity, &mut masked);
        }
        masked
    }
}
