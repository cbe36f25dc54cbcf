use ndarray::{Array2, Array3, Axis, array};
use proptest::prelude::*;
use sc_data::Categorical;
use sc_model::Parity;
use sc_tensor::Rng;

use super::*;

fn normal(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut values = vec![0f32; rows * cols];
    Rng::new(seed).stream("x").fill_normal(&mut values);
    Array2::from_shape_vec((rows, cols), values).unwrap()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

#[test]
fn lines_of_a_gmt_file() {
    let sets = GeneSets::parse_gmt("A\thttp://a\tg1\tg2\tg1\n\nB\t\tg3\t\r\n").unwrap();
    let all: Vec<_> = sets.iter().collect();
    assert_eq!(
        (sets.len(), all[0].genes.len(), all[1].name.as_str()),
        (2, 2, "B")
    );
    assert_eq!(all[1].genes, ["g3"]);
    for (text, has) in [
        ("A\tx\tg\nB\tx", "line 2"),
        ("A\tx\tg\nA\tx\tg", "\"A\" is there twice"),
        ("\tx\tg", "line 1"),
    ] {
        assert!(GeneSets::parse_gmt(text).unwrap_err().contains(has));
    }
    assert!(GeneSets::parse_gmt("").unwrap().is_empty());
    let message = GeneSets::read_gmt("/no/such.gmt").unwrap_err().to_string();
    assert!(message.contains("/no/such.gmt"));
}

/// Reference: `scipy.stats.hypergeom.sf(k - 1, N, K, n)`, computed here by exact integers.
#[test]
fn overlaps_that_chance_does_not_explain() {
    let background: Vec<String> = (0..20).map(|i| format!("g{i}")).collect();
    let list = strings(&["g0", "g1", "g2", "g3", "g7", "g7", "other"]);
    let sets = GeneSets::parse_gmt(
        "many\t\tg0\tg1\tg2\tg3\tg4\tother\nfew\t\tg7\tg11\tg12\nnone\t\tg15\nelsewhere\t\tx\n",
    )
    .unwrap();
    let found = enrich(&list, &background, &sets, EnrichmentOptions::default()).unwrap();
    let names: Vec<&str> = found.iter().map(|e| e.set.as_str()).collect();
    assert_eq!(names, ["many", "few", "none"]);
    // 4 or 5 of the 5 listed among 5 of 20: (C(5,4) C(15,1) + C(5,5)) / C(20,5) = 76 / 15504.
    assert!((found[0].p - 76.0 / 15_504.0).abs() < 1e-15);
    // At least 1 of 3: 1 - C(17,5) / C(20,5).
    assert!((found[1].p - (1.0 - 6188.0 / 15_504.0)).abs() < 1e-14);
    assert_eq!((found[2].p, found[2].fold), (1.0, 0.0));
    assert_eq!((found[0].size, found[0].overlap.len()), (5, 4));
    assert!((found[0].fold - 4.0 / 1.25).abs() < 1e-15);
    assert!((found[0].bonferroni - 3.0 * found[0].p).abs() < 1e-15 && found[1].bonferroni == 1.0);
    assert!((found[0].fdr - 3.0 * found[0].p).abs() < 1e-15);
    assert!((found[1].fdr - 1.5 * found[1].p).abs() < 1e-14);
    let sized = EnrichmentOptions {
        min_size: 2,
        max_size: 4,
    };
    assert_eq!(enrich(&list, &background, &sets, sized).unwrap().len(), 1);
    let message = enrich(&strings(&["y"]), &background, &sets, sized)
        .unwrap_err()
        .to_string();
    assert!(message.contains("20 genes of the background"), "{message}");
}

#[test]
fn false_discovery_rates() {
    let found = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.5]);
    let expected = [0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5];
    assert!(
        found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-15)
    );
    assert!(benjamini_hochberg(&[]).is_empty());
}

#[test]
fn pairs_that_point_the_same_way() {
    let vectors = normal(600, 4, 1);
    let edges = cosine_edges(vectors.view(), EdgeOptions::default()).unwrap();
    let cosine = |a: usize, b: usize| {
        let (a, b) = (vectors.row(a), vectors.row(b));
        a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
    };
    let mut expected = 0;
    for a in 0..600 {
        for b in a + 1..600 {
            expected += usize::from(cosine(a, b) >= 0.5);
        }
    }
    assert!(edges.len().abs_diff(expected) <= 1);
    assert!(
        edges
            .iter()
            .all(|e| (e.weight - cosine(e.a as usize, e.b as usize)).abs() < 1e-5)
    );
    assert!(
        edges
            .windows(2)
            .all(|w| (w[0].a, w[0].b) < (w[1].a, w[1].b))
    );
    let near = neighbours_of(vectors.view(), 5, 3).unwrap();
    assert!(near.iter().all(|n| n.0 != 5) && near[0].1 >= near[2].1);
    let best = (0..600)
        .filter(|&g| g != 5)
        .max_by(|&a, &b| cosine(5, a).total_cmp(&cosine(5, b)))
        .unwrap();
    assert_eq!(near[0].0, best);
    assert!(neighbours_of(vectors.view(), 600, 3).is_err());
    assert!(cosine_edges(array![[f32::NAN]].view(), EdgeOptions::default()).is_err());
    // A vector of zeros is like none.
    let some = array![[0.0f32, 0.0], [1.0, 0.0], [2.0, 0.0]];
    let edges = cosine_edges(some.view(), EdgeOptions::default()).unwrap();
    assert_eq!(
        edges,
        [Edge {
            a: 1,
            b: 2,
            weight: 1.0
        }]
    );
}

#[test]
fn genes_that_lie_together() {
    let mut vectors = normal(90, 8, 2);
    for (g, mut row) in vectors.axis_iter_mut(Axis(0)).enumerate() {
        row[g % 3] += 30.0;
    }
    let options = ProgramOptions {
        neighbors: 10,
        resolution: 0.5,
        ..ProgramOptions::default()
    };
    let found = gene_programs(vectors.view(), &options).unwrap();
    assert_eq!(found.len(), 3);
    for program in &found {
        assert!(
            program.genes.iter().all(|g| g % 3 == program.genes[0] % 3)
                && program.genes.len() == 30
        );
    }
    let few = ProgramOptions {
        min_genes: 31,
        ..options
    };
    assert!(gene_programs(vectors.view(), &few).unwrap().is_empty());
    assert!(
        gene_programs(
            vectors.view(),
            &ProgramOptions {
                neighbors: 1,
                ..options
            }
        )
        .is_err()
    );
    assert!(gene_programs(vectors.slice_axis(Axis(0), (..5).into()), &options).is_err());
}

#[test]
fn programs_are_active_where_their_genes_are() {
    // 60 cells of two types; genes 0..5 are twice as high in the second.
    let mut data = normal(60, 100, 3).mapv(|v| 3.0 + 0.1 * v);
    for i in 30..60 {
        for g in 0..5 {
            data[(i, g)] *= 2.0;
        }
    }
    let programs = [vec![0, 1, 2, 3, 4], vec![50, 51, 52]];
    let options = ScoreOptions {
        n_bins: 5,
        ..ScoreOptions::default()
    };
    let scores = score_programs(&data, &programs, &options).unwrap();
    assert_eq!(scores, score_programs(&data, &programs, &options).unwrap());
    for i in 0..60 {
        let own: f64 = (0..5).map(|g| f64::from(data[(i, g)])).sum::<f64>() / 5.0;
        assert!((scores[(i, 0)] - (own - 3.0)).abs() < 0.3);
    }
    let types: Vec<&str> = (0..60).map(|i| if i < 30 { "a" } else { "b" }).collect();
    let types = Categorical::from_labels(&types);
    let found = activation(scores.view(), &types).unwrap();
    assert!(found[(0, 0)] < 0.1 && found[(0, 1)] > 0.9);
    assert!(found.row(1).iter().all(|v| (0.2..0.8).contains(v)));
    assert!(activation(scores.view(), &Categorical::from_labels(&["a"])).is_err());
    let of = |p: &[Vec<usize>]| score_programs(&data, p, &options).unwrap_err().to_string();
    assert!(of(&[vec![100]]).contains("gene 100"));
    assert!(of(&[vec![]]).contains("without genes"));
    assert!(of(&[(0..100).collect()]).contains("no gene of about the same expression"));
}

fn heads(genes: usize, heads: usize, seed: u64) -> Array3<f32> {
    let flat = normal(genes, heads * 4, seed);
    flat.into_shape_with_order((genes, heads, 4)).unwrap()
}

#[test]
fn what_a_gene_attends_to() {
    let cells: Vec<_> = (0..4)
        .map(|s| (heads(30, 2, 2 * s), heads(30, 2, 2 * s + 1)))
        .collect();
    let run = |order: [usize; 4], threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut ranks = AttentionRanks::new(30, 2, 2, Parity::Correct);
            for i in order {
                ranks
                    .add(i % 2, cells[i].0.view(), cells[i].1.view())
                    .unwrap();
            }
            ranks
        })
    };
    let ranks = run([0, 1, 2, 3], 1);
    let other = run([3, 1, 0, 2], 2);
    assert_eq!(ranks.mean(0).unwrap(), other.mean(0).unwrap());
    assert_eq!(ranks.n_cells(1), 2);
    let change = ranks.difference(1, 0).unwrap();
    assert_eq!(change, ranks.mean(1).unwrap() - ranks.mean(0).unwrap());
    // Every column holds all ranks once, in each cell and head.
    let sums = ranks.mean(0).unwrap().sum_axis(Axis(0));
    assert!(sums.iter().all(|s| (s - 14.5).abs() < 1e-4));
    let top = top_queries(change.view(), 7, 5).unwrap();
    assert!(top.len() == 5 && top.iter().all(|t| t.value == change[(t.gene, 7)]));
    assert!(
        change
            .column(7)
            .iter()
            .filter(|v| **v > top[4].value)
            .count()
            == 4
    );
    assert_eq!(top_keys(change.view(), 3, 100).unwrap().len(), 30);
    assert!(top_keys(change.view(), 30, 1).is_err());
}

#[test]
fn cells_that_do_not_fit() {
    let mut ranks = AttentionRanks::new(5, 2, 1, Parity::Correct);
    let (q, k) = (heads(5, 2, 0), heads(5, 2, 1));
    assert!(ranks.add(1, q.view(), k.view()).is_err());
    assert!(ranks.add(0, heads(4, 2, 0).view(), k.view()).is_err());
    assert!(ranks.add(0, q.view(), heads(5, 3, 0).view()).is_err());
    assert!(ranks.mean(0).unwrap_err().to_string().contains("no cell"));
    assert!(ranks.mean(1).is_err());
    ranks.add(0, q.view(), k.view()).unwrap();
    ranks.mean(0).unwrap();
}

proptest! {
    /// The tails of the hypergeometric distribution, against a sum of its terms.
    #[test]
    fn p_values(total in 1usize..60, a in 0usize..60, b in 1usize..60, seed in any::<u64>()) {
        let (marked, n) = (a.min(total), b.min(total));
        let background: Vec<String> = (0..total).map(|i| format!("g{i}")).collect();
        let order = Rng::new(seed).stream("list").permutation(total);
        let list: Vec<String> = order.iter().take(n).map(|i| format!("g{i}")).collect();
        let set: Vec<String> = (0..marked).map(|i| format!("g{i}")).collect();
        let sets = GeneSets::new(vec![GeneSet { name: "s".into(), description: String::new(), genes: set }]);
        let found = enrich(&list, &background, &sets, EnrichmentOptions::default()).unwrap();
        if marked > 0 {
            let k = found[0].overlap.len();
            let choose = |n: usize, k: usize| (0..k).fold(1f64, |c, i| c * (n - i) as f64 / (i + 1) as f64);
            let term = |i: usize| if n - i > total - marked { 0.0 } else { choose(marked, i) * choose(total - marked, n - i) };
            let expected: f64 = (k..=marked.min(n)).map(term).sum::<f64>() / choose(total, n);
            prop_assert!((found[0].p - expected).abs() < 1e-10, "{} {}", found[0].p, expected);
        } else {
            prop_assert!(found.is_empty());
        }
    }
}
