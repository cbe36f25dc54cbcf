use super::infer::SHORT;
use super::pretrain::passes;
use super::{FinetuneConfig, Scbert};

/// What a model is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Annotate or embed cells.
    Inference,
    /// Pre-training, with so many cells going through the network at once.
    Pretraining(usize),
    /// Fine-tuning from this block on, with so many cells going through the network at once; see
    /// [`Scbert::finetuning_work`].
    Finetuning {
        /// The first block that is trained; 0 if everything is.
        block: usize,
        /// Cells at once.
        micro_batch: usize,
    },
}

/// Memory that a model takes, in bytes, to be known before it starts. An estimate from above: buffers that are freed early are
/// counted as if they were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights, and in training their gradients and the state of the optimiser.
    pub weights: usize,
    /// What the cells that go through the network at once take.
    pub cells: usize,
}

impl MemoryEstimate {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights.saturating_add(self.cells)
    }
}

impl Scbert {
    /// What [`Scbert::finetune`] does with these settings.
    pub fn finetuning_work(&self, config: &FinetuneConfig) -> Work {
        let block = config.block_of(self.config.depth);
        Work::Finetuning {
            block: if config.everything { 0 } else { block },
            micro_batch: passes(config.micro_batch, config.parity).0,
        }
    }

    /// How much memory some work takes with so many threads.
    pub fn memory(&self, work: Work, threads: usize) -> MemoryEstimate {
        let c = &self.config;
        let (positions, width) = (self.panel.positions(), self.params.dtype().size_in_bytes());
        let weights = self.params.bytes();
        // Of one position: what the fullest moment of a block holds, and what a block leaves for the way back.
        let inner = c.inner();
        let fullest = (3 * c.dim + 4 * inner).max(3 * c.dim + 2 * c.n_hidden());
        let kept = 6 * c.dim + 4 * inner + 2 * c.n_hidden();
        // Sums of token and gene vectors are doubles as well.
        let embedded = 4 * c.dim;
        let (cells, tracked) = match work {
            Work::Inference if positions < SHORT => (threads.max(1), 0),
            Work::Inference => (1, 0),
            Work::Pretraining(n) => (n.max(1), c.depth),
            Work::Finetuning { block, micro_batch } => {
                (micro_batch.max(1), c.depth.saturating_sub(block))
            }
        };
        let copies = if tracked == 0 { 1 } else { 4 };
        MemoryEstimate {
            weights: weights * copies,
            cells: cells
                * positions
                * width
                * (fullest.max(embedded) * copies.min(2) + kept * tracked),
        }
    }
}
