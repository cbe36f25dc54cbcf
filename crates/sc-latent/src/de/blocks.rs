//! Expression of draws, gene by gene: how draws that many threads decode are kept.

use crate::arrays::decoded_at_once;

/// Draws and genes that are transposed together: 64 bytes of them.
const TILE: usize = 16;

/// Expression in blocks of draws, `[genes, draws of the block]` each. A draw has a number, counted through all blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    n_genes: usize,
    blocks: Vec<Vec<f32>>,
    /// The number of the first draw of each block; one more than there are blocks.
    starts: Vec<usize>,
}

impl Blocks {
    /// No draws yet.
    pub(super) fn new(n_genes: usize) -> Self {
        Self {
            n_genes,
            blocks: Vec::new(),
            starts: vec![0],
        }
    }

    /// Adds a block.
    pub(super) fn push(&mut self, block: Vec<f32>) {
        let last = self.n_draws();
        self.starts.push(last + block.len() / self.n_genes.max(1));
        self.blocks.push(block);
    }

    pub(super) fn n_genes(&self) -> usize {
        self.n_genes
    }

    fn n_draws(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Memory of the expression.
    pub(super) fn bytes(&self) -> usize {
        self.n_draws() * self.n_genes * size_of::<f32>()
    }

    /// How draws of these numbers are read; each must be there.
    pub(super) fn order(&self, draws: &[u32]) -> Order {
        let mut runs: Vec<Run> = Vec::new();
        let mut within = 0..0;
        for &draw in draws {
            let draw = draw as usize;
            if !within.contains(&draw) {
                // The last block that starts at or before the draw.
                let block = self.starts.partition_point(|&s| s <= draw) - 1;
                within = self.starts[block]..self.starts[block + 1];
                runs.push(Run {
                    block,
                    offsets: Vec::new(),
                    consecutive: false,
                });
            }
            if let Some(run) = runs.last_mut() {
                run.offsets.push((draw - within.start) as u32);
            }
        }
        for run in &mut runs {
            run.consecutive = run.offsets.windows(2).all(|w| w[0] + 1 == w[1]);
        }
        Order(runs)
    }

    /// The expression of a gene in draws of some order.
    pub(super) fn gather(&self, gene: usize, order: &Order, out: &mut Vec<f32>) {
        out.clear();
        for run in &order.0 {
            let n = self.starts[run.block + 1] - self.starts[run.block];
            let of_gene = &self.blocks[run.block][gene * n..][..n];
            match run.offsets.first() {
                Some(&first) if run.consecutive => {
                    out.extend_from_slice(&of_gene[first as usize..][..run.offsets.len()]);
                }
                _ => out.extend(run.offsets.iter().map(|&o| of_gene[o as usize])),
            }
        }
    }
}

/// Draws in some order, run by run of those that lie in the same block.
#[derive(Debug)]
pub(super) struct Order(Vec<Run>);

#[derive(Debug)]
struct Run {
    block: usize,
    offsets: Vec<u32>,
    /// Whether the draws follow each other, so that they can be copied at once.
    consecutive: bool,
}

/// Draws that are decoded at once. Not a multiple of 256: the rows of a block that is transposed would all be kept in the
/// same places of the nearest cache.
pub(super) fn block_size(n_genes: usize) -> usize {
    let size = decoded_at_once(n_genes);
    if size.is_multiple_of(256) {
        size - TILE
    } else {
        size
    }
}

/// `[draws, genes]` as `[genes, draws]`.
pub(super) fn transpose(draws: &[f32], n_genes: usize) -> Vec<f32> {
    let n = draws.len() / n_genes.max(1);
    let mut out = vec![0.0; draws.len()];
    for (k, tile) in draws.chunks(TILE * n_genes.max(1)).enumerate() {
        for first in (0..n_genes).step_by(TILE) {
            for (i, draw) in tile.chunks_exact(n_genes).enumerate() {
                let genes = draw[first..].iter().take(TILE);
                for (j, &v) in genes.enumerate() {
                    out[(first + j) * n + k * TILE + i] = v;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_genes() {
        let (n, genes) = (37, 70);
        let draws: Vec<f32> = (0..n * genes).map(|v| v as f32).collect();
        let out = transpose(&draws, genes);
        for g in 0..genes {
            for i in 0..n {
                assert_eq!(out[g * n + i], draws[i * genes + g], "gene {g}, draw {i}");
            }
        }
        assert!(transpose(&[], 0).is_empty());
    }

    #[test]
    fn draws_are_read_in_any_order() {
        // Draw d of gene g is 10 d + g, in blocks of three, two and four draws.
        let mut blocks = Blocks::new(2);
        for range in [0..3, 3..5, 5..9] {
            let gene = |g| range.clone().map(move |d| (10 * d + g) as f32);
            blocks.push(gene(0).chain(gene(1)).collect());
        }
        let mut out = Vec::new();
        for order in [
            vec![0, 1, 2, 3, 4, 5, 6, 7, 8],
            vec![1, 2, 5, 7],
            vec![8, 0, 8, 4, 3, 3],
            vec![],
        ] {
            let read = blocks.order(&order);
            for g in 0..2 {
                blocks.gather(g, &read, &mut out);
                let expected: Vec<f32> = order.iter().map(|d| (10 * d + g as u32) as f32).collect();
                assert_eq!(out, expected);
            }
        }
        assert_eq!(blocks.bytes(), 2 * 9 * 4);
    }
}
