//! Every SCVI and LinearSCVI model that scvi-tools saved for us, against the numbers that scvi-tools computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_data::AnnData;
use sc_latent::{
    Cells, Decoder, Expression, LibrarySize, Likelihood, Minibatch, Noise, Parity, Scvi,
};
use sc_model::{Mode, Optimizer, OptimizerKind};
use sc_tensor::rng::Rng;
use sc_tests::{Npz, golden, gradients, json, near, numbers, pick, values, worst, worst_relative};

/// Names of the model folder, the data and the expected numbers.
fn small(name: &str) -> (String, &'static str, String) {
    (
        format!("small_models/{name}"),
        "data/small.h5ad",
        format!("expected_small/{name}"),
    )
}

fn large(name: &str, data: &'static str) -> (String, &'static str, String) {
    (format!("models/{name}"), data, format!("expected/{name}"))
}

const SMALL: [&str; 19] = [
    "default",
    "bn_and_ln",
    "bnenc_lndec",
    "cov_deep_enc",
    "cov_deep_noenc",
    "embed_cov",
    "genebatch_cov_shallow",
    "genecell_zinb",
    "genelabel_nb",
    "layer",
    "ldvae",
    "learnlib_genebatch_enc",
    "ln",
    "nobatch_3layers_nb",
    "nolog",
    "nonorm",
    "onelevel_unused",
    "poisson",
    "normal",
];

fn all_models() -> Vec<(String, &'static str, String)> {
    let mut all: Vec<_> = SMALL.iter().map(|n| small(n)).collect();
    all.extend(["sizefactor", "softplus_var"].map(small));
    all.extend(["kang_default", "kang_nb_cov", "kang_embed"].map(|n| large(n, "data/kang.h5ad")));
    all.extend(["worm_learnlib", "worm_ref_ln"].map(|n| large(n, "data/worm_ref.h5ad")));
    all
}

struct Case {
    name: String,
    data: AnnData,
    expected: Npz,
    json: serde_json::Value,
    single: Scvi,
    double: Scvi,
}

impl Case {
    fn load(golden: &Path, (model, data, expected): &(String, &str, String)) -> Self {
        let dir = golden.join(model);
        let load = |dtype| {
            Scvi::from_scvi_tools_with_dtype(&dir, &Device::Cpu, dtype)
                .unwrap_or_else(|e| panic!("{model}: {e}"))
        };
        Self {
            name: model.clone(),
            data: sc_io::h5ad::read(golden.join(data)).unwrap(),
            expected: Npz::read(&golden.join(format!("{expected}.npz"))),
            json: json(&golden.join(format!("{expected}.json"))),
            single: load(DType::F32),
            double: load(DType::F64),
        }
    }

    fn cells(&self) -> Cells<'_> {
        Cells::for_model(&self.data, self.single.registry()).unwrap()
    }

    fn near(&self, what: &str, error: f64, tolerance: f64) {
        near(&self.name, what, error, tolerance);
    }
}

fn for_each_model(check: impl Fn(&Case)) {
    let Some(golden) = golden() else { return };
    for names in all_models() {
        check(&Case::load(&golden, &names));
    }
}

/// Compares with as many rows as the reference kept (gene-wise numbers may be kept once).
fn compare_matrix(
    case: &Case,
    key: &str,
    found: &ndarray::Array2<f32>,
    rows: &[usize],
    genes: &[usize],
    tolerance: f64,
) {
    if case.expected.has(key) {
        let rows = &rows[..case.expected.get(key).len() / genes.len()];
        case.near(
            key,
            worst_relative(&pick(found, rows, genes), case.expected.get(key)),
            tolerance,
        );
    }
}

#[test]
fn latent_space() {
    for_each_model(|case| {
        if case.single.config().latent_distribution == sc_latent::LatentDistribution::LogisticNormal
        {
            return; // its mean is one of random draws; the f64 test covers its normal
        }
        let latent = case.single.latent(&case.cells()).unwrap();
        let (m, v) = (case.expected.get("qzm"), case.expected.get("qzv"));
        let (mean, var) = (numbers(&latent.mean), numbers(&latent.variance));
        case.near("qzm", worst(&mean[..m.len()], m, |_| 1.0), 2e-5);
        case.near("qzv", worst_relative(&var[..v.len()], v), 1e-4);
    });
}

#[test]
fn normalized_expression_and_likelihood_parameters() {
    for_each_model(|case| {
        let cells = case.cells();
        let (rows, genes) = (
            case.expected.indices("cells"),
            case.expected.indices("genes"),
        );
        let expression = |library_size, transform_batch: Vec<String>| {
            let mut options = Expression::default();
            options.library_size = library_size;
            options.transform_batch = transform_batch;
            options.n_samples = 0;
            case.single.normalized_expression(&cells, &options).unwrap()
        };
        let size = LibrarySize::Fixed(1e4);
        let key = "normexpr_zmean_lib1e4";
        compare_matrix(case, key, &expression(size, vec![]), &rows, &genes, 1e-4);
        compare_matrix(
            case,
            "normexpr_zmean_latent",
            &expression(LibrarySize::Latent, vec![]),
            &rows,
            &genes,
            1e-4,
        );
        if let Some(batch) = case.json.get("transform_batch").and_then(|b| b.as_str()) {
            let transformed = expression(size, vec![batch.to_owned()]);
            compare_matrix(
                case,
                &format!("{key}_transform"),
                &transformed,
                &rows,
                &genes,
                1e-4,
            );
            let all = expression(size, case.single.registry().batches.clone());
            compare_matrix(
                case,
                &format!("{key}_transform_all"),
                &all,
                &rows,
                &genes,
                1e-4,
            );
        }
        let parameters = case.single.likelihood_parameters(&cells, None).unwrap();
        compare_matrix(
            case,
            "lik_zmean_mean",
            &parameters.mean,
            &rows,
            &genes,
            1e-4,
        );
        if case.single.config().likelihood != Likelihood::Poisson {
            compare_matrix(
                case,
                "lik_zmean_dispersions",
                &parameters.dispersions,
                &rows,
                &genes,
                1e-4,
            );
        }
        if let Some(dropout) = &parameters.dropout {
            compare_matrix(case, "lik_zmean_dropout", dropout, &rows, &genes, 1e-4);
        }
        if case.expected.has("latent_library_size_mean") {
            let found = case.single.latent_library_size(&cells).unwrap();
            let expected = case.expected.get("latent_library_size_mean");
            case.near(
                "latent_library_size_mean",
                worst_relative(&found[..expected.len()], expected),
                1e-4,
            );
        }
    });
}

#[test]
fn bound_of_each_cell() {
    for_each_model(|case| {
        let bound = case.single.elbo(&case.cells(), None).unwrap();
        // Per cell, scvi-tools' get_elbo gives what it averages with the other sign, per-cell values as they are.
        let rec = case.expected.get("rec_zmean_percell");
        case.near("rec", worst_relative(&bound.reconstruction, rec), 2e-5);
        let total: Vec<f64> = bound
            .reconstruction
            .iter()
            .zip(&bound.kl)
            .map(|(r, k)| r + k)
            .collect();
        let elbo: Vec<f64> = case
            .expected
            .get("elbo_zmean_percell")
            .iter()
            .map(|e| e.abs())
            .collect();
        case.near("elbo", worst_relative(&total, &elbo), 2e-5);
    });
}

#[test]
fn double_precision() {
    for_each_model(|case| {
        let (cells, model, e) = (case.cells(), &case.double, &case.expected);
        let n = e.shape("f64/qzm")[0];
        let (rows, genes) = (e.indices("cells")[..n].to_vec(), e.indices("genes"));
        let batch = cells
            .minibatch(&rows, model.config().log_variational)
            .unwrap();
        let (qz, ql) = model.encode(&batch, &Mode::eval()).unwrap();
        let near = |key: &str, found: &Tensor, tolerance: f64| {
            let key = format!("f64/{key}");
            if e.has(&key) {
                let mut found = values(found);
                if found.len() == n * model.registry().n_genes()
                    && genes.len() < model.registry().n_genes()
                {
                    let g = model.registry().n_genes();
                    found = (0..n)
                        .flat_map(|i| genes.iter().map(|&j| found[i * g + j]).collect::<Vec<_>>())
                        .collect();
                }
                let expected = e.get(&key);
                found.truncate(expected.len());
                case.near(
                    &key,
                    worst(&found, expected, |x| x.abs().max(1e-3)),
                    tolerance,
                );
            }
        };
        near("qzm", &qz.mean, 1e-9);
        near("qzv", &qz.var, 1e-9);
        if let Some(ql) = &ql {
            near("qlm", &ql.mean, 1e-9);
            near("qlv", &ql.var, 1e-9);
        }
        let decoded = model.decode(&batch, &Noise::none(), None).unwrap();
        near("scale", &decoded.scale().unwrap(), 1e-9);
        near("mu", &decoded.rate().unwrap(), 1e-9);
        if model.config().likelihood != Likelihood::Poisson {
            near("theta", &decoded.theta().unwrap(), 1e-9);
        }
        let terms = model
            .elbo_terms(&batch, &Noise::none(), &Mode::eval())
            .unwrap();
        near("reconstruction_loss", &terms.reconstruction, 1e-9);
        near("kl_divergence_z", &terms.kl_z, 1e-9);
        if let Some(kl) = &terms.kl_library {
            near("kl_divergence_l", kl, 1e-9);
        }
        near("loss_kl_weight_1", &terms.loss(1.0).unwrap(), 1e-9);
        if let Some(code) = case
            .json
            .get("transform_batch_code")
            .and_then(serde_json::Value::as_u64)
        {
            let transformed = model
                .decode(&batch, &Noise::none(), Some(code as u32))
                .unwrap();
            near("scale_transform_batch", &transformed.scale().unwrap(), 1e-9);
        }
    });
}

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
        assert!(
            out * 500 <= mean.len(),
            "{}: {out} spreads of expression",
            case.name
        );
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

/// Noise `[S, N, d]` for the first rows of a minibatch of `n`.
fn noise_of(e: &Npz, key: &str, n: usize) -> Option<Tensor> {
    if !e.has(key) {
        return None;
    }
    let shape = e.shape(key).to_vec();
    let t = Tensor::from_slice(e.get(key), shape.as_slice(), &Device::Cpu).unwrap();
    Some(if shape.len() == 3 {
        t.narrow(1, 0, n).unwrap().flatten_to(1).unwrap()
    } else {
        t
    })
}

#[test]
fn marginal_likelihood_with_given_noise() {
    for_each_model(|case| {
        let e = &case.expected;
        if !e.has("mll_injected_f64") {
            return;
        }
        let rows = if e.has("mll_injected_cells") {
            e.indices("mll_injected_cells")
        } else {
            e.indices("cells")[..e.get("mll_injected_f64").len()].to_vec()
        };
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        let noise = Noise {
            z: noise_of(e, "mll_injected_eps_z", rows.len()),
            library: noise_of(e, "mll_injected_eps_l", rows.len()),
            ..Noise::default()
        };
        let samples = e.shape("mll_injected_eps_z")[0];
        let found = case
            .double
            .marginal_ll_with_noise(&batch, &noise, samples, Parity::Upstream)
            .unwrap();
        case.near(
            "marginal_ll",
            worst_relative(&found, e.get("mll_injected_f64")),
            1e-9,
        );
    });
}

/// Trains some steps on one minibatch with given noise.
fn train(
    case: &Case,
    prefix: &str,
    model: &Scvi,
    batch: &Minibatch,
    loss_tolerance: f64,
    gradient_tolerance: f64,
) {
    let e = &case.expected;
    let rng = Rng::new(0);
    let adam = OptimizerKind::default();
    let mut optimizer = Optimizer::new(adam, model.parameters());
    let dtype = model.parameters().dtype();
    let given = |key: String| noise_of(e, &key, 0).map(|t| t.to_dtype(dtype).unwrap());
    let losses = e.get(&format!("{prefix}/losses")).to_vec();
    let kl_weight = e.get(&format!("{prefix}/kl_weight"))[0];
    for (k, &expected) in losses.iter().enumerate() {
        let noise = Noise {
            z: given(format!("{prefix}/eps_z_step{k}")),
            library: given(format!("{prefix}/eps_l_step{k}")),
            ..Noise::default()
        };
        assert!(
            noise.z.is_some(),
            "{} {prefix}: no noise for step {k}",
            case.name
        );
        let mode = Mode::train(&rng, k as u64).without_dropout();
        let terms = model.elbo_terms(batch, &noise, &mode).unwrap();
        let loss = terms.loss(kl_weight).unwrap();
        let found = values(&loss)[0];
        case.near(
            &format!("{prefix} loss {k}"),
            (found - expected).abs() / expected.abs(),
            loss_tolerance,
        );
        let grads = loss.backward().unwrap();
        if k == 0 && e.names().any(|n| n.starts_with(&format!("{prefix}/grad/"))) {
            let parameters = model.parameters();
            let tolerance = gradient_tolerance;
            let seen = gradients(&case.name, prefix, e, parameters, &grads, tolerance);
            assert!(seen > 5, "{}: only {seen} gradients compared", case.name);
        }
        optimizer
            .step(model.parameters(), &grads, 1e-3, None)
            .unwrap();
    }
    // The reference read its "bn_after_step1" after the last step.
    let tolerance: f64 = if dtype == DType::F64 { 1e-6 } else { 1e-3 };
    let last = losses.len();
    for p in model.parameters().iter() {
        for key in [
            format!("{prefix}/bn_after_step1/{}", p.name()),
            format!("{prefix}/param_after_step{last}/{}", p.name()),
        ] {
            if e.has(&key) {
                let tolerance = if p.is_buffer() {
                    tolerance
                } else {
                    tolerance.max(1e-5)
                };
                let found = values(&p.export().unwrap());
                case.near(
                    &key,
                    worst(&found, e.get(&key), |x| x.abs().max(1e-2)),
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn losses_gradients_and_steps_in_double_precision() {
    for_each_model(|case| {
        if !case.expected.has("train/idx") {
            return;
        }
        let rows = case.expected.indices("train/idx");
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        train(case, "train", &case.double, &batch, 1e-9, 1e-5);
    });
}

#[test]
fn losses_gradients_and_steps_in_single_precision() {
    for_each_model(|case| {
        if !case.expected.has("train/idx") {
            return;
        }
        let rows = case.expected.indices("train/idx");
        let batch = case
            .cells()
            .minibatch(&rows, case.single.config().log_variational)
            .unwrap();
        train(case, "train", &case.single, &batch, 2e-5, 1e-3);
    });
}

#[test]
fn twelve_steps() {
    for_each_model(|case| {
        if !case.expected.has("traj12/losses") {
            return;
        }
        let key = if case.expected.has("traj12/idx") {
            "traj12/idx"
        } else {
            "train/idx"
        };
        let rows = case.expected.indices(key);
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        train(case, "traj12", &case.double, &batch, 1e-7, 1e-5);
    });
}

#[test]
fn all_ages_of_checkpoints_open() {
    let Some(golden) = golden() else { return };
    let upstream = golden.join("upstream_models");
    let new = Scvi::from_scvi_tools(upstream.join("0150_scvi_model.pt"), &Device::Cpu).unwrap();
    let old =
        Scvi::from_scvi_tools(upstream.join("testing_models/080_scvi"), &Device::Cpu).unwrap();
    assert_eq!(new.registry().batches, ["batch_0", "batch_1"]);
    assert_eq!(new.registry().batches, old.registry().batches);
    assert_eq!(new.registry().labels.len(), 3);
    assert_eq!(new.training().unwrap().split.train.len(), 360);
    for (a, b) in new.parameters().iter().zip(old.parameters().iter()) {
        assert_eq!(values(a.value()), values(b.value()), "{}", a.name());
    }
    let px_r = values(new.parameters().get("px_r").unwrap().value());
    assert!(worst(&px_r[..3], &[-1.1229, -1.1495, -0.2477], |_| 1.0) < 1e-4);
    // Other classes are named, not guessed at.
    for other in ["0150_totalvi_model.pt", "testing_models/080_totalvi"] {
        let message = Scvi::from_scvi_tools(upstream.join(other), &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(message.contains("class"), "{message}");
    }
}

/// Also those that the tests above have no numbers for: reference and query models of scArches, minified ones, hubs.
#[test]
fn every_scvi_checkpoint_opens() {
    let Some(golden) = golden() else { return };
    let (mut opened, mut others) = (0, 0);
    for folder in ["models", "small_models", "hub"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap() {
            let dir = entry.unwrap().path();
            match Scvi::from_scvi_tools(&dir, &Device::Cpu) {
                Ok(_) => opened += 1,
                Err(e) => {
                    assert!(
                        e.to_string().contains("class SCANVI"),
                        "{}: {e}",
                        dir.display()
                    );
                    others += 1;
                }
            }
        }
    }
    eprintln!("{opened} SCVI and LinearSCVI models, {others} SCANVI models");
    assert!(opened >= 39, "only {opened} models opened");
}

#[test]
fn what_is_written_for_scvi_tools_reads_back() {
    for_each_model(|case| {
        let dir = tempfile::tempdir().unwrap();
        case.single.save_scvi_tools(dir.path()).unwrap();
        let again = Scvi::from_scvi_tools(dir.path(), &Device::Cpu).unwrap();
        assert_eq!(again.config(), case.single.config(), "{}", case.name);
        assert_eq!(again.registry(), case.single.registry(), "{}", case.name);
        assert_eq!(again.training(), case.single.training(), "{}", case.name);
        let native = tempfile::tempdir().unwrap();
        case.single.save(native.path()).unwrap();
        let loaded = Scvi::load(native.path(), &Device::Cpu).unwrap();
        assert_eq!(loaded.config(), case.single.config());
        for ((a, b), c) in case
            .single
            .parameters()
            .iter()
            .zip(again.parameters().iter())
            .zip(loaded.parameters().iter())
        {
            assert_eq!(
                values(a.value()),
                values(b.value()),
                "{} {}",
                case.name,
                a.name()
            );
            assert_eq!(
                values(a.value()),
                values(c.value()),
                "{} {}",
                case.name,
                a.name()
            );
        }
        if let Decoder::Linear { .. } = case.single.config().decoder {
            assert_eq!(
                again.loadings().unwrap().dim(),
                (case.data.n_vars(), case.single.config().n_latent)
            );
        }
    });
}
