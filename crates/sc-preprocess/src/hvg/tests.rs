use super::*;
use crate::{log1p, normalize_total};
use sc_data::Csr;

/// Counts that any language can make again.
pub(super) fn counts(n: usize, genes: usize) -> Csr {
    let mut s = 12345u64;
    let mut m = ndarray::Array2::zeros((n, genes));
    for ((i, j), v) in m.indexed_iter_mut() {
        s = s
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let u = (s >> 33) as f64 / (1u64 << 31) as f64;
        let up = if j % 7 == 0 && i % 3 == 0 { 4.0 } else { 1.0 };
        let lambda = 0.05 * (1 + j % 23) as f64 * up;
        *v = (lambda * -(1.0 - u).ln() * 2.0).floor() as f32;
    }
    m.column_mut(13).fill(0.0);
    Csr::from_dense(&m)
}

pub(super) fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-5 * (1.0 + b.abs())
}

/// Reference: scanpy 1.11.5, `flavor="seurat"`, 20 genes of 200.
#[test]
fn seurat_agrees_with_scanpy() {
    let x = log1p(&normalize_total(&counts(60, 200), Some(1e4)).unwrap()).unwrap();
    let h = highly_variable_genes(&x, 20, HvgFlavor::Seurat).unwrap();
    let expected = [
        10, 14, 27, 35, 56, 63, 97, 100, 105, 106, 107, 118, 119, 140, 144, 168, 174, 176, 178, 189,
    ];
    assert_eq!(h.genes, expected);
    for (g, mean, dispersion, score) in [
        (
            0,
            0.8594627239364666,
            3.6961006734797777,
            -0.7071067811865459,
        ),
        (7, 3.7793182480043583, 4.936166629762728, 0.9094529653700073),
        (13, 0.0, f64::NAN, f64::NAN),
        (
            50,
            2.1272564617692913,
            4.4065146373826645,
            0.6275769589325513,
        ),
        (
            199,
            4.413704174059263,
            5.070652809271394,
            0.6124904093053467,
        ),
    ] {
        assert!(close(h.means[g], mean), "{g}: {}", h.means[g]);
        assert!(close(h.dispersions[g], dispersion), "{g}");
        assert!(close(h.scores[g], score), "{g}: {}", h.scores[g]);
    }
    assert_eq!(h.mask().iter().filter(|&&m| m).count(), 20);
}

/// Reference: scanpy 1.11.5, `flavor="seurat_v3"`, 20 genes of 200.
#[test]
fn seurat_v3_agrees_with_scanpy() {
    let x = counts(60, 200);
    assert_eq!(x.row_sums().iter().sum::<f64>(), 11203.0);
    let h = highly_variable_genes(&x, 20, HvgFlavor::SeuratV3).unwrap();
    let expected = [
        7, 28, 49, 56, 70, 80, 97, 100, 105, 106, 119, 121, 140, 144, 147, 168, 178, 188, 189, 195,
    ];
    assert_eq!(h.genes, expected);
    for (g, mean, variance, score) in [
        (
            0,
            0.03333333333333333,
            0.0327683615819209,
            0.9923971870254904,
        ),
        (7, 0.9333333333333333, 3.453107344632768, 1.6502123521576908),
        (13, 0.0, 0.0, 0.0),
        (50, 0.15, 0.23135593220338982, 1.352492343532998),
        (
            199,
            1.3833333333333333,
            3.8675141242937854,
            1.1935355436303252,
        ),
    ] {
        assert!((h.means[g] - mean).abs() < 1e-12);
        assert!((h.dispersions[g] - variance).abs() < 1e-12);
        assert!((h.scores[g] - score).abs() < 1e-9, "{g}: {}", h.scores[g]);
    }
}

#[test]
fn fewer_genes_than_asked_for_and_bad_input() {
    let x = counts(10, 30);
    let h = highly_variable_genes(&x, 500, HvgFlavor::SeuratV3).unwrap();
    assert_eq!(h.genes.len(), 30);
    assert!(highly_variable_genes(&x, 0, HvgFlavor::Seurat).is_err());
    let one = x.select_rows(&[0]).unwrap();
    assert!(highly_variable_genes(&one, 5, HvgFlavor::Seurat).is_err());
    let negative = ndarray::array![[1.0f32, 2.0], [0.0, -1.0]];
    let error = highly_variable_genes(&negative, 1, HvgFlavor::SeuratV3).unwrap_err();
    assert!(matches!(
        error,
        Error::InvalidValue {
            row: 1,
            column: 1,
            ..
        }
    ));
    // Nothing varies: there is no score to rank by, and no panic.
    let flat = ndarray::Array2::from_elem((4, 3), 1.0f32);
    assert!(
        highly_variable_genes(&flat, 2, HvgFlavor::Seurat)
            .unwrap()
            .genes
            .is_empty()
    );
}

/// The batches of the reference: 34, 17 and 9 cells.
pub(super) fn batches() -> Categorical {
    let labels: Vec<&str> = (0..60).map(|i| ["p", "q", "r"][(i * i) % 7 % 3]).collect();
    Categorical::from_labels(&labels)
}

#[test]
fn batches_that_are_too_small_are_named() {
    let x = counts(60, 200);
    let labels: Vec<&str> = (0..60).map(|i| if i == 4 { "tiny" } else { "b" }).collect();
    let labels = Categorical::from_labels(&labels);
    for flavor in [
        HvgFlavor::Seurat,
        HvgFlavor::CellRanger,
        HvgFlavor::SeuratV3,
        HvgFlavor::PearsonResiduals,
    ] {
        let options = HvgOptions::new(flavor, 5);
        let message = highly_variable_genes_with(&x, &options, Some(&labels))
            .unwrap_err()
            .to_string();
        assert!(message.contains("\"tiny\" has 1 cells"), "{message}");
    }
    let options = HvgOptions::new(HvgFlavor::Seurat, 5);
    let missing = Categorical::from_options((0..60).map(|i| (i != 4).then_some("b")));
    assert!(highly_variable_genes_with(&x, &options, Some(&missing)).is_err());
    let short = Categorical::from_labels(&["b"]);
    assert!(highly_variable_genes_with(&x, &options, Some(&short)).is_err());
    // A category without cells is no batch.
    let empty = Categorical::new(vec![Some(1); 60], vec!["gone".into(), "b".into()], false);
    let one = highly_variable_genes_with(&x, &options, Some(&empty.unwrap())).unwrap();
    assert_eq!(one.batches, 1);
}

#[test]
fn options_out_of_range_are_named() {
    let x = counts(20, 30);
    for wrong in [
        |o: &mut HvgOptions| o.n_bins = 0,
        |o: &mut HvgOptions| o.span = 0.0,
        |o: &mut HvgOptions| o.span = f64::NAN,
        |o: &mut HvgOptions| o.theta = 0.0,
        |o: &mut HvgOptions| o.clip = Some(-1.0),
        |o: &mut HvgOptions| {
            o.select = HvgSelection::Between {
                mean: (3.0, 1.0),
                score: (0.0, 1.0),
            }
        },
        |o: &mut HvgOptions| {
            o.flavor = HvgFlavor::SeuratV3;
            o.select = HvgSelection::USUAL_BOUNDS;
        },
    ] {
        let mut options = HvgOptions::new(HvgFlavor::Seurat, 5);
        wrong(&mut options);
        let found = highly_variable_genes_with(&x, &options, None);
        assert!(
            matches!(found, Err(Error::InvalidParameter { .. })),
            "{options:?}"
        );
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads_and_streamed() {
    use crate::{Log1p, NormalizeTotal, Streamed};
    let x = counts(300, 90);
    let steps = (NormalizeTotal::to(1e4).unwrap(), Log1p);
    let logs = log1p(&normalize_total(&x, Some(1e4)).unwrap()).unwrap();
    for flavor in [
        HvgFlavor::Seurat,
        HvgFlavor::CellRanger,
        HvgFlavor::PearsonResiduals,
    ] {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| match flavor.wants_counts() {
                    true => highly_variable_genes(&x, 10, flavor).unwrap(),
                    false => highly_variable_genes(&logs, 10, flavor).unwrap(),
                })
        };
        let (one, three) = (run(1), run(3));
        let bits =
            |h: &HighlyVariable| -> Vec<u64> { h.scores.iter().map(|s| s.to_bits()).collect() };
        assert_eq!(bits(&one), bits(&three));
        if !flavor.wants_counts() {
            let streamed = Streamed::new(&x, &steps);
            let streamed = highly_variable_genes(&streamed, 10, flavor).unwrap();
            assert_eq!(bits(&streamed), bits(&one));
        }
    }
}
