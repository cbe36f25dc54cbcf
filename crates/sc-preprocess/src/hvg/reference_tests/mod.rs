//! Small made-up counts, and what scanpy says of them.

mod for_counts;
mod for_logs;

use super::tests::{batches, close, counts};
use super::*;
use crate::{log1p, normalize_total};

/// What scanpy 1.11.5 says of genes 0, 7, 13, 50 and 199: mean, spread, score, and with ranks those; and in how many batches
/// the gene was chosen.
struct Expected<'a> {
    genes: &'a [usize],
    of_genes: [&'a [f64]; 5],
}

fn agrees(found: &HighlyVariable, expected: &Expected<'_>) {
    assert_eq!(found.genes, expected.genes);
    let close = |a: f64, b: f64| a == b || close(a, b);
    for (&g, numbers) in [0usize, 7, 13, 50, 199].iter().zip(expected.of_genes) {
        let mut own = vec![found.means[g], found.dispersions[g], found.scores[g]];
        own.extend(found.ranks.as_ref().map(|r| r[g]));
        own.extend(found.n_batches.as_ref().map(|n| n[g] as f64));
        assert_eq!(own.len(), numbers.len());
        // Genes of equal scores are ranked in any order by scanpy.
        if let Some((own, &theirs)) = own.get_mut(3).zip(numbers.get(3))
            && (*own - theirs).abs() <= 1.0
        {
            *own = theirs;
        }
        assert!(
            own.iter().zip(numbers).all(|(&a, &b)| close(a, b)),
            "gene {g}: {own:?} instead of {numbers:?}"
        );
    }
}
