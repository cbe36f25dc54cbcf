//! Small made-up counts, and what scanpy says of them.

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

/// Reference: scanpy 1.11.5 `pp.highly_variable_genes`.
#[test]
fn flavours_for_logarithms_agree_with_scanpy() {
    let x = log1p(&normalize_total(&counts(60, 200), Some(1e4)).unwrap()).unwrap();
    let choose = |flavor, top: bool, batch: Option<&Categorical>| {
        let mut options = HvgOptions::new(flavor, 20);
        if !top {
            options.select = HvgSelection::USUAL_BOUNDS;
        }
        highly_variable_genes_with(&x, &options, batch).unwrap()
    };
    let b = batches();
    let bounded = choose(HvgFlavor::Seurat, false, Some(&b)).genes;
    let expected = [49, 70, 96, 97, 121, 139, 143, 166, 167, 188];
    assert_eq!(bounded, expected);
    agrees(
        &choose(HvgFlavor::Seurat, true, None),
        &Expected {
            genes: &[
                10, 14, 27, 35, 56, 63, 97, 100, 105, 106, 107, 118, 119, 140, 144, 168, 174, 176,
                178, 189,
            ],
            of_genes: [
                &[0.8594627239364666, 3.6961006734797777, -0.7071067811865459],
                &[3.7793182480043583, 4.936166629762728, 0.9094529653700073],
                &[9.999999999995e-13, f64::NAN, f64::NAN],
                &[2.1272564617692913, 4.4065146373826645, 0.6275769589325513],
                &[4.413704174059263, 5.070652809271394, 0.6124904093053467],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::Seurat, false, None),
        &Expected {
            genes: &[
                1, 25, 27, 48, 49, 50, 52, 72, 75, 97, 117, 118, 121, 139, 140, 163, 167, 188,
            ],
            of_genes: [
                &[0.8594627239364666, 3.6961006734797777, -0.7071067811865459],
                &[3.7793182480043583, 4.936166629762728, 0.9094529653700073],
                &[9.999999999995e-13, f64::NAN, f64::NAN],
                &[2.1272564617692913, 4.4065146373826645, 0.6275769589325513],
                &[4.413704174059263, 5.070652809271394, 0.6124904093053467],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::Seurat, true, Some(&b)),
        &Expected {
            genes: &[
                7, 14, 19, 35, 49, 56, 63, 85, 100, 103, 105, 106, 112, 119, 121, 139, 167, 168,
                188, 189,
            ],
            of_genes: [
                &[
                    0.40825220915141897,
                    1.2275026338442545,
                    -0.3713901085616615,
                    0.0,
                ],
                &[
                    3.6949138669085855,
                    4.5905125076551805,
                    0.795872602661244,
                    1.0,
                ],
                &[0.0, 0.0, 0.0, 0.0],
                &[
                    1.9715783029577862,
                    3.968749636930113,
                    -0.18561746059827786,
                    0.0,
                ],
                &[
                    4.330137804049611,
                    4.723590415202988,
                    -0.127736012018971,
                    0.0,
                ],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::CellRanger, true, None),
        &Expected {
            genes: &[
                0, 1, 10, 21, 42, 53, 56, 82, 84, 91, 97, 100, 112, 119, 130, 155, 163, 175, 186,
                199,
            ],
            of_genes: [
                &[0.12442700862884522, 3.6703286908492596, f64::INFINITY],
                &[1.773648985226949, 2.8064096447994293, -0.2971995553928388],
                &[1e-12, 0.0, f64::NAN],
                &[0.4705330451329549, 3.678104021334428, -0.6401378170263846],
                &[2.4241098364194236, 2.5796785905623487, 1.94678797358222],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::CellRanger, false, None),
        &Expected {
            genes: &[
                0, 1, 10, 19, 27, 34, 36, 38, 49, 53, 56, 62, 63, 66, 73, 78, 81, 82, 85, 90, 97,
                100, 103, 105, 106, 107, 108, 118, 119, 121, 130, 140, 143, 144, 147, 148, 155,
                156, 157, 163, 174, 175, 177, 178, 186, 188, 195, 199,
            ],
            of_genes: [
                &[0.12442700862884522, 3.6703286908492596, f64::INFINITY],
                &[1.773648985226949, 2.8064096447994293, -0.2971995553928388],
                &[1e-12, 0.0, f64::NAN],
                &[0.4705330451329549, 3.678104021334428, -0.6401378170263846],
                &[2.4241098364194236, 2.5796785905623487, 1.94678797358222],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::CellRanger, true, Some(&b)),
        &Expected {
            genes: &[
                10, 35, 41, 42, 63, 81, 83, 90, 100, 106, 108, 112, 119, 130, 144, 148, 155, 157,
                160, 199,
            ],
            of_genes: [
                &[
                    0.07319235801696777,
                    1.206830508481922,
                    -0.42423931818319033,
                    0.0,
                ],
                &[
                    1.8740979129192876,
                    2.730865825262734,
                    0.4200152787032647,
                    0.0,
                ],
                &[0.0, 0.0, 0.0, 0.0],
                &[
                    0.5449757692860622,
                    3.622221033573543,
                    -0.48787409182967423,
                    0.0,
                ],
                &[2.5330793161537652, 2.4826731121458, 2.1088253163848125, 1.0],
            ],
        },
    );
}

/// Reference: scanpy 1.11.5 `pp.highly_variable_genes` and `experimental.pp.highly_variable_genes`.
#[test]
fn flavours_for_counts_agree_with_scanpy() {
    let x = counts(60, 200);
    let choose = |flavor, batch: Option<&Categorical>| {
        highly_variable_genes_with(&x, &HvgOptions::new(flavor, 20), batch).unwrap()
    };
    let b = batches();
    agrees(
        &choose(HvgFlavor::SeuratV3, None),
        &Expected {
            genes: &[
                7, 28, 49, 56, 70, 80, 97, 100, 105, 106, 119, 121, 140, 144, 147, 168, 178, 188,
                189, 195,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.9923971870254904,
                    f64::NAN,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    1.6502123521576908,
                    5.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN],
                &[0.15, 0.23135593220338982, 1.352492343532998, f64::NAN],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.1935355436303252,
                    f64::NAN,
                ],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::SeuratV3, Some(&b)),
        &Expected {
            genes: &[
                7, 14, 28, 37, 40, 63, 68, 77, 80, 98, 100, 105, 106, 119, 128, 130, 140, 148, 156,
                168,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.332324634693447,
                    f64::NAN,
                    0.0,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    1.3803490131416634,
                    0.0,
                    1.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN, 0.0],
                &[0.15, 0.23135593220338982, 1.169891964265816, 18.0, 1.0],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.131853784456772,
                    f64::NAN,
                    0.0,
                ],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::SeuratV3Paper, None),
        &Expected {
            genes: &[
                7, 28, 49, 56, 70, 80, 97, 100, 105, 106, 119, 121, 140, 144, 147, 168, 178, 188,
                189, 195,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.9923971870254904,
                    f64::NAN,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    1.6502123521576908,
                    5.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN],
                &[0.15, 0.23135593220338982, 1.352492343532998, f64::NAN],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.1935355436303252,
                    f64::NAN,
                ],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::SeuratV3Paper, Some(&b)),
        &Expected {
            genes: &[
                7, 28, 37, 40, 49, 63, 68, 80, 98, 100, 103, 105, 106, 119, 128, 148, 156, 168,
                175, 189,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.332324634693447,
                    f64::NAN,
                    0.0,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    1.3803490131416634,
                    0.0,
                    1.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN, 0.0],
                &[0.15, 0.23135593220338982, 1.169891964265816, 18.0, 1.0],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.131853784456772,
                    f64::NAN,
                    0.0,
                ],
            ],
        },
    );
    agrees(
        &choose(HvgFlavor::PearsonResiduals, None),
        &Expected {
            genes: &[
                14, 21, 22, 35, 42, 63, 84, 86, 90, 91, 105, 112, 134, 154, 155, 156, 160, 175,
                178, 182,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.7287436478925021,
                    f64::NAN,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    2.593468321878241,
                    f64::NAN,
                ],
                &[0.0, 0.0, 0.0, f64::NAN],
                &[0.15, 0.23135593220338982, 1.4159995943799304, f64::NAN],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    2.966427073463268,
                    f64::NAN,
                ],
            ],
        },
    );
    // scanpy cuts all batches off at the square root of the size of the first one, which has 9 cells; by default each
    // of ours has its own.
    let mut options = HvgOptions::new(HvgFlavor::PearsonResiduals, 20);
    options.clip = Some(3.0);
    agrees(
        &highly_variable_genes_with(&x, &options, Some(&b)).unwrap(),
        &Expected {
            genes: &[
                14, 17, 21, 22, 35, 41, 42, 84, 86, 90, 91, 105, 106, 112, 126, 157, 175, 178, 182,
                199,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.19376627931683063,
                    f64::NAN,
                    0.0,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    1.2588139454907756,
                    f64::NAN,
                    0.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN, 0.0],
                &[0.15, 0.23135593220338982, 0.7508197453635385, f64::NAN, 0.0],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.9721469284225523,
                    9.0,
                    2.0,
                ],
            ],
        },
    );
    // Poisson, cut off early.
    let mut options = HvgOptions::new(HvgFlavor::PearsonResiduals, 20);
    options.theta = f64::INFINITY;
    options.clip = Some(2.0);
    agrees(
        &highly_variable_genes_with(&x, &options, None).unwrap(),
        &Expected {
            genes: &[
                21, 22, 35, 41, 42, 45, 84, 86, 90, 91, 105, 109, 112, 154, 156, 157, 175, 179,
                182, 199,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.1536596517232422,
                    f64::NAN,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    0.9339460405435006,
                    f64::NAN,
                ],
                &[0.0, 0.0, 0.0, f64::NAN],
                &[0.15, 0.23135593220338982, 0.528419086769918, f64::NAN],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.5984965356976424,
                    13.0,
                ],
            ],
        },
    );
    agrees(
        &highly_variable_genes_with(&x, &options, Some(&b)).unwrap(),
        &Expected {
            genes: &[
                14, 21, 22, 35, 41, 42, 84, 86, 88, 90, 91, 105, 112, 126, 154, 156, 157, 175, 182,
                199,
            ],
            of_genes: [
                &[
                    0.03333333333333333,
                    0.0327683615819209,
                    0.09271486861662337,
                    f64::NAN,
                    0.0,
                ],
                &[
                    0.9333333333333333,
                    3.453107344632768,
                    0.9542133303668678,
                    f64::NAN,
                    0.0,
                ],
                &[0.0, 0.0, 0.0, f64::NAN, 0.0],
                &[0.15, 0.23135593220338982, 0.5140573619996671, f64::NAN, 0.0],
                &[
                    1.3833333333333333,
                    3.8675141242937854,
                    1.474992037509023,
                    9.5,
                    2.0,
                ],
            ],
        },
    );
}
