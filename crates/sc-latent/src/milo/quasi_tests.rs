use super::*;
use ndarray::array;

fn prepared_and_tested(problem: &Problem<'_>) -> Tested {
    test(problem, &prepare(problem).unwrap()).unwrap()
}

#[test]
fn degrees_of_freedom_of_empty_groups() {
    let design = array![
        [1.0, 0.0],
        [1.0, 0.0],
        [1.0, 0.0],
        [1.0, 1.0],
        [1.0, 1.0],
        [1.0, 1.0]
    ];
    let y = [1.0, 0.0, 3.0, 0.0, 0.0, 0.0];
    assert_eq!(residual_df(&y, &[1.0; 6], design.view()), 4.0);
    assert_eq!(
        residual_df(&y, &[1.3, 1.3, 1.3, 1e-9, 1e-9, 1e-9], design.view()),
        2.0
    );
    assert_eq!(residual_df(&[0.0; 6], &[1e-9; 6], design.view()), 0.0);
}

/// Sixty rows and eight samples that any language can make again; every tenth row rises in the last four.
fn counts(with_empty_groups: bool) -> Array2<f64> {
    let mut y = Array2::from_shape_fn((60, 8), |(g, i)| {
        let level = (10 + (g * g * 7) % 90) as f64;
        let noise = 1.0 + ((g * 31 + i * i * 17 + g * i * 5) % 23) as f64 / 20.0;
        let change = if g % 10 == 0 && i >= 4 { 2.5 } else { 1.0 };
        (level * noise * change).floor()
    });
    if with_empty_groups {
        for i in 0..4 {
            (y[[5, 4 + i]], y[[7, i]]) = (0.0, 0.0);
        }
        y.row_mut(6).fill(0.0);
        y[[6, 0]] = 3.0;
    }
    y
}

fn tested(with_empty_groups: bool, robust: bool) -> Tested {
    let y = counts(with_empty_groups);
    let sums: Vec<f64> = y.columns().into_iter().map(|c| c.sum()).collect();
    let factors = super::super::tmm::tmm_factors(y.view(), &sums);
    let sizes: Vec<f64> = sums.iter().zip(factors).map(|(n, f)| n * f).collect();
    let design = Array2::from_shape_fn((8, 3), |(i, j)| match j {
        0 => 1.0,
        1 => (i % 2) as f64,
        _ => f64::from(i >= 4),
    });
    prepared_and_tested(&Problem {
        counts: y.view(),
        sizes: &sizes,
        design: design.view(),
        contrast: &[0.0, 0.0, 1.0],
        robust,
    })
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs(), "{a} {b}");
}

/// Reference: `glmQLFit`, `glmFit`, `predFC` and `aveLogCPM` of inmoose 0.9.1 with the trended dispersions that the same
/// equations give in Python (its `adjustedProfileLik` and `maximizeInterpolant`, smoothed with numpy).
#[test]
fn tests_agree_with_inmoose() {
    let found = tested(false, false);
    close(found.common_dispersion, 0.029_302_852_150_193_17, 1e-5);
    close(found.prior_df, 2.984_753_650_566_098, 1e-4);
    for (g, log_fc, log_cpm, f, p) in INMOOSE {
        let row = found.rows[g];
        assert!(
            (row.log_fc - log_fc).abs() < 5e-6,
            "{g} {} {log_fc}",
            row.log_fc
        );
        close(row.log_cpm, log_cpm, 1e-8);
        close(row.f, f, 2e-4);
        close(row.p_value, p, 2e-4);
    }
}
const INMOOSE: [(usize, f64, f64, f64, f64); 5] = [
    (
        0,
        1.229_649_554_824_728_4,
        12.405_568_083_401_404,
        27.981_440_525_751_715,
        0.000_742_071_832_146_122_2,
    ),
    (
        1,
        -0.229_521_411_279_705_32,
        12.223_981_662_749_264,
        0.730_629_504_176_930_3,
        0.417_586_398_970_235_03,
    ),
    (
        7,
        -0.262_581_826_219_134_4,
        14.486_172_405_809_786,
        4.484_798_074_249_262,
        0.067_126_600_171_625_57,
    ),
    (
        20,
        1.124_679_906_539_551_2,
        13.273_323_357_292_04,
        27.684_151_452_201_327,
        0.000_767_775_900_791_364_1,
    ),
    (
        59,
        -0.018_259_611_488_540_498,
        14.263_475_599_984_043,
        0.007_319_393_288_394_919_5,
        0.933_927_728_576_842_6,
    ),
];

/// Reference: the same equations in Python with statsmodels and scipy, groups without counts and outliers included.
#[test]
fn robust_tests_agree_with_a_second_implementation() {
    let found = tested(true, true);
    close(found.common_dispersion, 0.029_935_377_140_781_916, 1e-5);
    close(found.prior_df, 3.443_952_793_664_1, 1e-3);
    for (g, log_fc, f, p) in PYTHON {
        let row = found.rows[g];
        assert!(
            (row.log_fc - log_fc).abs() < 1e-6 * log_fc.abs().max(1.0),
            "{g} {} {log_fc}",
            row.log_fc
        );
        close(row.f, f, 1e-3);
        close(row.p_value, p, 2e-3);
    }
    let plain = tested(true, false);
    close(plain.prior_df, 4.015_409_129_323_455, 1e-4);
    close(plain.rows[5].f, 981.234_484_086_009_6, 1e-3);
    close(plain.rows[7].p_value, 2.274_187_084_291_360_4e-7, 2e-3);
}
const PYTHON: [(usize, f64, f64, f64); 7] = [
    (
        0,
        1.204_567_847_352_014_5,
        26.797_570_211_526_153,
        0.000_713_125_763_474_897_2,
    ),
    (
        1,
        -0.255_777_020_110_248_1,
        1.006_262_429_008_318_6,
        0.343_677_234_622_874_3,
    ),
    (
        5,
        -10.457_829_582_282_685,
        1_243.558_656_199_789_5,
        3.347_950_852_599_76e-8,
    ),
    (
        7,
        9.825_917_379_098_456,
        656.191_322_222_277_8,
        6.933_334_732_469_24e-7,
    ),
    (
        10,
        1.098_506_466_114_815_2,
        18.181_139_202_573_437,
        0.002_427_621_217_676_176,
    ),
    (
        20,
        1.099_850_336_918_851,
        25.521_819_145_689_644,
        0.000_837_094_403_209_807_4,
    ),
    (
        59,
        -0.039_649_536_164_421_54,
        0.034_148_150_917_992_9,
        0.857_753_698_471_788_5,
    ),
];

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| tested(true, true))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_contrast_is_the_coefficient_of_another_coding() {
    let y = counts(false);
    let sizes: Vec<f64> = y.columns().into_iter().map(|c| c.sum()).collect();
    let run = |design: Array2<f64>, contrast: &[f64]| {
        let problem = Problem {
            counts: y.view(),
            sizes: &sizes,
            design: design.view(),
            contrast,
            robust: true,
        };
        prepared_and_tested(&problem)
    };
    let group = |i: usize| usize::from(i >= 4);
    let coded = run(
        Array2::from_shape_fn((8, 2), |(i, j)| if j == 0 { 1.0 } else { group(i) as f64 }),
        &[0.0, 1.0],
    );
    let cells = run(
        Array2::from_shape_fn((8, 2), |(i, j)| f64::from(group(i) == j)),
        &[-1.0, 1.0],
    );
    for (a, b) in coded.rows.iter().zip(&cells.rows) {
        close(a.log_fc, b.log_fc, 1e-6);
        close(a.p_value, b.p_value, 1e-6);
    }
}
