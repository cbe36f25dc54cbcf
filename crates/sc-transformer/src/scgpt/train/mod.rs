//! Training: the objectives, and the recipes of the original.

mod finetune;
mod freeze;
mod pretrain;
mod recipe;
mod run;

pub use finetune::{FineTune, LabelledCells};
pub use pretrain::{PretrainCells, Pretraining};
pub use recipe::{Objectives, Recipe};

use sc_tensor::rng::Stream;

/// Minibatches of cells of one kind each: the kinds in turn as the original takes them, or, with `mixed`, the minibatches of
/// all kinds in a random order. Cells are in a random order within their kind.
fn homogeneous(
    cells: &[usize],
    kind: impl Fn(usize) -> u32,
    batch_size: usize,
    mixed: bool,
    stream: &mut Stream,
) -> Vec<Vec<usize>> {
    let mut kinds: std::collections::BTreeMap<u32, Vec<usize>> = Default::default();
    for i in stream.permutation(cells.len()) {
        if let Some(&cell) = cells.get(i) {
            kinds.entry(kind(cell)).or_default().push(cell);
        }
    }
    let batches: Vec<Vec<usize>> = kinds
        .values()
        .flat_map(|c| c.chunks(batch_size.max(1)).map(<[usize]>::to_vec))
        .collect();
    if !mixed {
        return batches;
    }
    let order = stream.permutation(batches.len()).into_iter();
    order.filter_map(|i| batches.get(i).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_tensor::rng::Rng;

    #[test]
    fn minibatches_are_of_one_kind_and_hold_each_cell_once() {
        let cells: Vec<usize> = (10..47).collect();
        for mixed in [false, true] {
            let mut stream = Rng::new(3).stream("x");
            let b = homogeneous(&cells, |c| (c % 3) as u32, 5, mixed, &mut stream);
            let mut all: Vec<usize> = b.concat();
            all.sort_unstable();
            assert_eq!(all, cells);
            assert!(
                b.iter()
                    .all(|b| b.len() <= 5 && b.iter().all(|c| c % 3 == b[0] % 3))
            );
            let kinds: Vec<usize> = b.iter().map(|b| b[0] % 3).collect();
            assert_eq!(kinds.is_sorted(), !mixed);
        }
    }
}
