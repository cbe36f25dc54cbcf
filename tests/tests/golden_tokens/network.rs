use candle_core::Tensor;
use ndarray::{Array2, Array4, Axis};
use sc_model::Parity;
use sc_tests::shared;
use sc_transformer::network::{AttentionRanks, EnrichmentOptions, GeneSets, enrich};
use sc_transformer::vocab::GeneVocab;

use crate::common::*;

#[test]
fn attention_ranks() {
    let Some(golden) = load("attention/grn_ranks.safetensors") else {
        return;
    };
    let cells = |key: &str| -> Array4<f32> {
        let values = numbers(&golden[key])
            .into_iter()
            .map(|v| v as f32)
            .collect();
        Array4::from_shape_vec(golden[key].dims4().unwrap(), values).unwrap()
    };
    let (q, k) = (cells("q"), cells("k"));
    let condition: Vec<usize> = numbers(&golden["condition"])
        .into_iter()
        .map(|c| c as usize)
        .collect();
    let off = |found: &Array2<f32>, expected: &Tensor, scale: f32| {
        let expected = dense(expected) / scale;
        (found - &expected).fold(0.0f32, |m, v| m.max(v.abs()))
    };
    let run = |parity| {
        let mut ranks = AttentionRanks::new(12, 3, 2, parity);
        for (i, &c) in condition.iter().enumerate() {
            ranks
                .add(c, q.index_axis(Axis(0), i), k.index_axis(Axis(0), i))
                .unwrap();
        }
        ranks
    };
    let (ours, upstream) = (run(Parity::Correct), run(Parity::Upstream));
    for c in 0..2 {
        let of = |key: &str| golden[key].get(c).unwrap();
        assert!(off(&ours.mean(c).unwrap(), &of("condition_mean"), 1.0) < 2e-7);
        let cells = upstream.n_cells(c) as f32;
        assert!(
            off(
                &upstream.mean(c).unwrap(),
                &of("condition_sum_upstream"),
                cells
            ) < 1e-6
        );
    }
    for i in 0..condition.len() {
        let mut one = AttentionRanks::new(12, 3, 1, Parity::Correct);
        one.add(0, q.index_axis(Axis(0), i), k.index_axis(Axis(0), i))
            .unwrap();
        assert!(
            off(
                &one.mean(0).unwrap(),
                &golden["head_mean"].get(i).unwrap(),
                1.0
            ) < 2e-7
        );
    }
    for head in 0..3 {
        let mut one = AttentionRanks::new(12, 1, 1, Parity::Correct);
        let of = |x: &Array4<f32>| {
            x.index_axis(Axis(0), 0)
                .slice_axis(Axis(1), (head..head + 1).into())
                .to_owned()
        };
        one.add(0, of(&q).view(), of(&k).view()).unwrap();
        let expected = golden["row_then_column_rank_stable_cell0"]
            .get(head)
            .unwrap();
        assert!(off(&one.mean(0).unwrap(), &expected, 1.0) < 2e-7);
    }
}

/// Pathways of KEGG: a list made of one of them finds it.
#[test]
fn pathways() {
    let Some(dir) = shared() else { return };
    let sets = GeneSets::read_gmt(dir.join("data/vocab/c2.cp.kegg.v7.5.1.symbols.gmt")).unwrap();
    assert_eq!(sets.len(), 186);
    let vocab = GeneVocab::read(dir.join("data/vocab/default_gene_vocab.json")).unwrap();
    let ribosome = sets.iter().find(|s| s.name == "KEGG_RIBOSOME").unwrap();
    let list: Vec<String> = ribosome.genes.iter().take(20).cloned().collect();
    let found = enrich(&list, vocab.tokens(), &sets, EnrichmentOptions::default()).unwrap();
    assert_eq!(found[0].set, "KEGG_RIBOSOME");
    assert!(found[0].bonferroni < 1e-30 && found[0].p > 0.0 && found[1].bonferroni > 0.05);
}
