//! Numbers that are random in scvi-tools: their distribution.

use super::*;

/// Mean and standard deviation over the first axis of `[draws, cells, genes]`, of some cells and genes.
fn moments(draws: &[ndarray::Array2<f32>]) -> (Vec<f64>, Vec<f64>) {
    let n = draws.len() as f64;
    let each = |f: &dyn Fn(f64) -> f64| {
        let mut sum = vec![0.0; draws[0].len()];
        for d in draws {
            sum.iter_mut()
                .zip(d)
                .for_each(|(s, &v)| *s += f(f64::from(v)));
        }
        sum.into_iter().map(|s| s / n).collect::<Vec<f64>>()
    };
    let (mean, square) = (each(&|v| v), each(&|v| v * v));
    let sd = mean
        .iter()
        .zip(&square)
        .map(|(m, s)| (s - m * m).max(0.0).sqrt())
        .collect();
    (mean, sd)
}

/// The cells and genes that the reference has draws for.
fn draws_of(case: &Case, key: &str) -> (Vec<usize>, Vec<usize>) {
    let genes = case.expected.indices("genes");
    let rows = case.expected.get(key).len() / genes.len();
    (case.expected.indices("cells")[..rows].to_vec(), genes)
}

/// The reference has 200 draws of counts, and we make so many.
const DRAWS: usize = 400;

/// What the difference of two means of draws is measured in, per standard deviation of one draw.
fn standard_error() -> f64 {
    (1.0 / 200.0 + 1.0 / DRAWS as f64).sqrt()
}

/// Each mean lies within five standard errors of the reference's. Where theta is tiny a mean rests on a few rare large counts,
/// which one side may have met and the other not: the larger of both deviations knows of them.
fn means_agree(name: &str, (mean, sd): &(Vec<f64>, Vec<f64>), e: &Npz) {
    let mut most = 0f64;
    let expected = e.get("ppc200_mean").iter().zip(e.get("ppc200_sd"));
    for ((m, s), (em, es)) in mean.iter().zip(sd).zip(expected) {
        let allowed = 5.0 * s.max(*es) * standard_error() + 0.02;
        assert!(
            (m - em).abs() <= allowed,
            "{name}: mean of counts {m} instead of {em}, allowed {allowed}"
        );
        most = most.max((m - em).abs() / allowed);
    }
    eprintln!(
        "{name}: {} means of counts, the worst at {most:.2} of what is allowed",
        mean.len()
    );
}

/// The totals of cells and of genes: a sampler that is a little off everywhere is far off here, where the errors of single
/// counts cancel out. No allowance beside five standard errors.
fn totals_agree(name: &str, counts: &[ndarray::Array2<f32>], e: &Npz, rows: usize) {
    let genes = e.indices("genes").len();
    let table =
        |key: &str| ndarray::Array2::from_shape_vec((rows, genes), e.get(key).to_vec()).unwrap();
    let expected = table("ppc200_mean");
    // At least so much, if nothing joins the counts.
    let variance = table("ppc200_sd").mapv(|s| s * s);
    for (what, axis) in [("cells", ndarray::Axis(1)), ("genes", ndarray::Axis(0))] {
        let totals: Vec<_> = counts
            .iter()
            .map(|d| d.mapv(f64::from).sum_axis(axis).mapv(|v| v as f32))
            .map(|d| d.insert_axis(ndarray::Axis(0)))
            .collect();
        let (mean, sd) = moments(&totals);
        let mut most = 0f64;
        let theirs = expected
            .sum_axis(axis)
            .into_iter()
            .zip(variance.sum_axis(axis));
        for ((m, s), (em, ev)) in mean.iter().zip(&sd).zip(theirs) {
            let apart = (m - em).abs() / (s.max(ev.sqrt()) * standard_error());
            assert!(
                apart <= 5.0,
                "{name}: totals of {what}: {m} instead of {em}, {apart} standard errors"
            );
            most = most.max(apart);
        }
        eprintln!("{name}: totals of {what}, at most {most:.2} standard errors apart");
    }
}

#[test]
fn draws_of_expression_and_counts_have_the_moments_of_scvi_tools() {
    let mut checked = 0;
    let Some(golden) = golden() else { return };
    for names in all_models() {
        let case = Case::load(&golden, &names);
        let e = &case.expected;
        if !e.has("ppc200_mean") || !e.has("normexpr_mc400_mean") {
            continue;
        }
        let model = &case.single;
        let (rows, genes) = draws_of(&case, "ppc200_mean");
        let data = case.data.select_obs(&rows).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let counts = model
            .posterior_predictive_sample(&cells, DRAWS, &[], Some(&genes), 1)
            .unwrap();
        let counts: Vec<_> = counts.outer_iter().map(|d| d.to_owned()).collect();
        let found = moments(&counts);
        means_agree(&case.name, &found, e);
        totals_agree(&case.name, &counts, e, rows.len());
        let (rows, genes) = draws_of(&case, "normexpr_mc400_mean");
        let data = case.data.select_obs(&rows).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let draws: Vec<_> = (0..DRAWS as u64)
            .map(|seed| {
                let mut options = Expression::default();
                options.library_size = LibrarySize::Fixed(1e4);
                options.genes = Some(genes.clone());
                options.seed = seed;
                model.normalized_expression(&cells, &options).unwrap()
            })
            .collect();
        let (mean, sd) = moments(&draws);
        let expected = e
            .get("normexpr_mc400_mean")
            .iter()
            .zip(e.get("normexpr_mc400_sd"));
        let mut out = 0;
        for ((m, s), (em, es)) in mean.iter().zip(&sd).zip(expected) {
            let allowed = 5.0 * s.max(*es) * (2.0 / DRAWS as f64).sqrt() + 1e-4 * em.abs();
            assert!(
                (m - em).abs() <= allowed,
                "{}: mean of expression {m} instead of {em}, allowed {allowed}",
                case.name
            );
            // 400 draws on either side know a standard deviation to 5 %; where tails are heavy, less well.
            out += usize::from(es.abs() > 1e-6 && (s / es - 1.0).abs() > 0.5);
        }
        eprintln!(
            "{}: {out} of {} spreads of expression out of bounds",
            case.name,
            mean.len()
        );
        assert_eq!(out, 0, "{}: spreads of expression", case.name);
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} models have draws");
}

#[test]
fn marginal_likelihood_by_sampling() {
    for_each_model(|case| {
        let e = &case.expected;
        if !e.has("marginal_ll_percell_mean5")
            || case.single.config().latent_distribution
                == sc_latent::LatentDistribution::LogisticNormal
        {
            return;
        }
        let (mean, sd) = (
            e.get("marginal_ll_percell_mean5"),
            e.get("marginal_ll_percell_sd5"),
        );
        let rows = e.indices("cells");
        if rows.len() < mean.len() {
            return;
        }
        let data = case.data.select_obs(&rows[..mean.len()]).unwrap();
        let cells = Cells::for_model(&data, case.single.registry()).unwrap();
        let found = case.single.marginal_ll(&cells, 500, 0).unwrap();
        let n = mean.len() as f64;
        let difference = (found.iter().sum::<f64>() - mean.iter().sum::<f64>()) / n;
        let spread = sd.iter().map(|s| s * s).sum::<f64>().sqrt() / n;
        assert!(
            difference.abs() <= (6.0 * spread).max(0.5),
            "{}: off by {difference}",
            case.name
        );
    });
}
