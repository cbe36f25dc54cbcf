//! Reference mapping from the outside, without reference files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::Device;
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Csr, Table};
use sc_latent::{
    BatchRepresentation, Cells, Dispersion, Error, Expression, Parity, QueryOptions, Registry,
    Scanvi, Scvi, ScviParams, SemiSupervised, Setup,
};
use sc_model::train::TrainConfig;

const GENES: usize = 9;

/// Cells of some batches with a covariate, and counts that depend on both.
fn data(batches: &[&str], chemistry: &[&str], n: usize) -> AnnData {
    let of = |list: &[&str], i: usize| list[i % list.len()].to_owned();
    let batch: Vec<String> = (0..n).map(|i| of(batches, i)).collect();
    let level: Vec<String> = (0..n).map(|i| of(chemistry, i / 2)).collect();
    let shift = |i: usize| batch[i].len() + 2 * level[i].len();
    let counts = Array2::from_shape_fn((n, GENES), |(i, g)| {
        ((i * 5 + g * 7 + shift(i)) % 6 + usize::from(g == i % 3) * 4) as f32
    });
    let mut obs = Table::new((0..n).map(|i| format!("cell {i}")).collect());
    let column = |v: &[String]| Column::Categorical(Categorical::from_labels(v));
    obs.insert("batch", column(&batch)).unwrap();
    obs.insert("chemistry", column(&level)).unwrap();
    let var = Table::new((0..GENES).map(|g| format!("gene {g}")).collect());
    AnnData::new(Csr::from_dense(&counts), obs, var).unwrap()
}

fn setup() -> Setup {
    Setup {
        batch_key: Some("batch".into()),
        categorical_covariate_keys: vec!["chemistry".into()],
        ..Setup::default()
    }
}

fn short(options: &QueryOptions) -> TrainConfig {
    let mut config = options.train_config();
    config.max_epochs = Some(3);
    config.batch_size = 16;
    config
}

/// A trained reference.
fn reference(data: &AnnData, settings: impl Fn(ScviParams) -> ScviParams) -> Scvi {
    let cells = Cells::new(data, &setup()).unwrap();
    let params = Scvi::params(&cells).n_latent(3).n_hidden(7);
    let params = settings(params.encode_covariates(true));
    let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    model
        .fit(&cells, &short(&QueryOptions::default()), &mut ())
        .unwrap();
    model
}

fn expression(model: &Scvi, cells: &Cells<'_>) -> Array2<f32> {
    let mut options = Expression::default();
    options.n_samples = 0;
    model.normalized_expression(cells, &options).unwrap()
}

#[test]
fn a_reference_with_one_batch_keeps_its_places() {
    let old = data(&["a"], &["v2"], 40);
    let new = data(&["b", "a"], &["v3", "v2"], 24);
    for n_layers in [1, 2] {
        let reference = reference(&old, |p| p.n_layers(n_layers));
        let (cells, report) = Cells::for_query(&new, reference.registry()).unwrap();
        assert_eq!(report.new_batches, ["b"]);
        assert_eq!(
            report.new_levels,
            [("chemistry".to_owned(), "v3".to_owned())]
        );
        let options = QueryOptions::default();
        let mut query = reference.load_query(&cells, &options, 5).unwrap();
        let here = Cells::for_model(&old, reference.registry()).unwrap();
        let there = Cells::for_model(&old, query.registry()).unwrap();
        // Columns that were not there before make no difference to the cells that were.
        assert_eq!(expression(&reference, &here), expression(&query, &there));
        query.fit(&cells, &short(&options), &mut ()).unwrap();
        let (a, b) = (
            reference.latent(&here).unwrap(),
            query.latent(&there).unwrap(),
        );
        assert_eq!((a.mean, a.variance), (b.mean, b.variance));
        // Cells of the query with categories that the reference knows keep theirs too.
        let known = new.select_obs(&[1, 5, 9]).unwrap();
        let mut known_cells = known.clone();
        let column = Column::Categorical(Categorical::from_labels(&["v2"; 3]));
        known_cells.obs.insert("chemistry", column).unwrap();
        let place = |m: &Scvi| {
            let cells = Cells::for_model(&known_cells, m.registry()).unwrap();
            m.latent(&cells).unwrap().mean
        };
        assert_eq!(place(&reference), place(&query));
    }
}

#[test]
fn embeddings_and_dispersions_of_new_batches_are_trained() {
    let old = data(&["a", "b"], &["v2", "v3"], 40);
    // Of a single batch a batch norm takes away whatever all cells have in common: two.
    let new = data(&["c", "d"], &["v3"], 24);
    let reference = reference(&old, |p| {
        p.batch_representation(BatchRepresentation::Embedding { dim: 2 })
            .dispersion(Dispersion::GeneBatch)
    });
    let (cells, _) = Cells::for_query(&new, reference.registry()).unwrap();
    let rows = |m: &Scvi, name: &str| -> Vec<Vec<f32>> {
        let p = m.parameters().get(name).unwrap();
        p.value().to_vec2().unwrap()
    };
    for parity in [Parity::Correct, Parity::Upstream] {
        let mut options = QueryOptions::default();
        options.parity = parity;
        let before = reference.load_query(&cells, &options, 1).unwrap();
        let mut after = reference.load_query(&cells, &options, 1).unwrap();
        after.fit(&cells, &short(&options), &mut ()).unwrap();
        for name in ["_embeddings_dict.batch.weight", "px_r"] {
            let (old, start, end) = (
                rows(&reference, name),
                rows(&before, name),
                rows(&after, name),
            );
            assert_eq!((&start[..2], &end[..2]), (&old[..], &old[..]), "{name}");
            assert_eq!(start[2] != end[2], parity == Parity::Correct, "{name}");
        }
        if parity == Parity::Correct {
            let (old, start) = (rows(&reference, "px_r"), rows(&before, "px_r"));
            for g in 0..GENES {
                assert!((start[2][g] - (old[0][g] + old[1][g]) / 2.0).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn a_learned_library_size_takes_its_prior_from_the_query_for_new_batches_only() {
    let old = data(&["a", "b"], &["v2"], 40);
    let new = data(&["b", "c"], &["v2"], 24);
    let reference = reference(&old, |p| p.use_observed_lib_size(false));
    let (cells, _) = Cells::for_query(&new, reference.registry()).unwrap();
    let options = QueryOptions::default();
    let mut query = reference.load_query(&cells, &options, 1).unwrap();
    let prior = |m: &Scvi| -> Vec<f32> {
        let p = m.parameters().get("library_log_means").unwrap();
        p.value().flatten_all().unwrap().to_vec1().unwrap()
    };
    let counts = cells.counts().read_range(0..24).unwrap();
    let logs: Vec<f64> = counts
        .row_sums()
        .iter()
        .skip(1)
        .step_by(2)
        .map(|s| s.ln())
        .collect();
    let expected = logs.iter().sum::<f64>() / logs.len() as f64;
    assert_eq!(prior(&query)[..2], prior(&reference)[..]);
    assert!((f64::from(prior(&query)[2]) - expected).abs() < 1e-5);
    query.fit(&cells, &short(&options), &mut ()).unwrap();
    assert_eq!(prior(&query)[..2], prior(&reference)[..]);
}

#[test]
fn a_query_of_a_query_and_the_same_seed_twice() {
    let old = data(&["a", "b"], &["v2", "v3"], 40);
    let reference = reference(&old, |p| p);
    let options = QueryOptions::default();
    let map = |model: &Scvi, data: &AnnData, seed| {
        let (cells, _) = Cells::for_query(data, model.registry()).unwrap();
        let mut query = model.load_query(&cells, &options, seed).unwrap();
        query.fit(&cells, &short(&options), &mut ()).unwrap();
        let places = query.latent(&cells).unwrap().mean;
        (query, places)
    };
    let (first, second) = (data(&["c"], &["v2"], 24), data(&["d"], &["v4"], 20));
    let (query, places) = map(&reference, &first, 3);
    assert_eq!(places, map(&reference, &first, 3).1);
    assert_ne!(places, map(&reference, &first, 4).1);
    let (third, _) = map(&query, &second, 3);
    assert_eq!(third.registry().batches, ["a", "b", "c", "d"]);
    assert_eq!(third.query().unwrap().reference_batches, 3);
    let here = Cells::for_model(&old, third.registry()).unwrap();
    let there = Cells::for_model(&old, reference.registry()).unwrap();
    let (a, b) = (
        third.latent(&here).unwrap(),
        reference.latent(&there).unwrap(),
    );
    assert_eq!(a.mean, b.mean);
    let again = Cells::for_model(&first, third.registry()).unwrap();
    assert_eq!(third.latent(&again).unwrap().mean, places);
}

#[test]
fn a_linear_decoder_is_mapped_too() {
    let old = data(&["a", "b"], &["v2"], 40);
    let cells = Cells::new(&old, &setup()).unwrap();
    let params = Scvi::linear_params(&cells).n_latent(3).n_hidden(7).check();
    let mut reference = params.unwrap().init(&Device::Cpu, 0).unwrap();
    let options = QueryOptions::default();
    reference.fit(&cells, &short(&options), &mut ()).unwrap();
    let new = data(&["c"], &["v2"], 24);
    let (cells, _) = Cells::for_query(&new, reference.registry()).unwrap();
    let mut query = reference.load_query(&cells, &options, 0).unwrap();
    query.fit(&cells, &short(&options), &mut ()).unwrap();
    let masks = query.parameters().masks();
    assert!(
        masks
            .iter()
            .any(|(name, _)| name.starts_with("decoder.factor_regressor"))
    );
    assert_eq!(
        reference.loadings().unwrap().dim(),
        query.loadings().unwrap().dim()
    );
}

#[test]
fn cells_that_are_no_query_are_refused() {
    let old = data(&["a", "b"], &["v2", "v3"], 40);
    let reference = reference(&old, |p| p);
    let new = data(&["b", "c"], &["v2"], 24);
    let foreign = Cells::new(&new, &setup()).unwrap();
    let error = reference
        .load_query(&foreign, &QueryOptions::default(), 0)
        .unwrap_err();
    assert!(error.to_string().contains("Cells::for_query"), "{error}");

    let mut without = new.clone();
    without.obs.remove("batch");
    let refused = |data: &AnnData, registry: &Registry| match Cells::for_query(data, registry) {
        Err(e) => e,
        Ok(_) => panic!("accepted"),
    };
    let error = refused(&without, reference.registry());
    assert!(matches!(error, Error::MissingQueryColumn { .. }));
    assert!(error.to_string().contains("chemistry"), "{error}");

    let mut labelled = reference.registry().clone();
    labelled.setup.labels_key = Some("chemistry".into());
    labelled.setup.unlabeled_category = Some("Unknown".into());
    labelled.labels = vec!["v3".into(), "Unknown".into()];
    let error = refused(&new, &labelled);
    assert!(
        matches!(&error, Error::UnknownLabels { unknown, .. } if unknown == "v2"),
        "{error}"
    );
}

#[test]
fn what_a_model_does_not_know_is_named_with_what_it_knows() {
    let reference = reference(&data(&["a", "b"], &["v2", "v3"], 40), |p| p);
    let new_batch = data(&["a", "q"], &["v2", "v3"], 12);
    let new_level = data(&["a", "b"], &["v2", "v9"], 12);
    for (cells, unknown, known) in [(new_batch, "q", "a, b"), (new_level, "v9", "v2, v3")] {
        let error = match Cells::for_model(&cells, reference.registry()) {
            Err(e) => e,
            Ok(_) => panic!("accepted"),
        };
        assert!(
            matches!(&error, Error::UnknownCategories { unknown: u, known: k, .. } if u == unknown && k == known),
            "{error}"
        );
        assert!(error.to_string().contains("sc map"), "{error}");
        let mapped = Cells::from_source_for_mapped(
            cells.matrix(None).unwrap(),
            &cells,
            reference.registry(),
        );
        assert!(matches!(mapped, Err(Error::UnknownCategories { .. })));
        assert!(Cells::for_query(&cells, reference.registry()).is_ok());
    }
}

/// The same cells with labels.
fn with_labels(mut data: AnnData, of: impl Fn(usize) -> &'static str) -> AnnData {
    let labels: Vec<&str> = (0..data.n_obs()).map(of).collect();
    let column = Column::Categorical(Categorical::from_labels(&labels));
    data.obs.insert("kind", column).unwrap();
    data
}

#[test]
fn a_single_labelled_cell_trains_where_no_batch_norm_needs_two() {
    let old = with_labels(data(&["a", "b"], &["v2"], 60), |i| {
        ["T", "B", "Unknown"][i % 3]
    });
    let mut setup = setup();
    setup.labels_key = Some("kind".into());
    setup.unlabeled_category = Some("Unknown".into());
    let cells = Cells::new(&old, &setup).unwrap();
    let params = Scanvi::params(&cells).encode_covariates(true);
    let mut reference = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    let semi = SemiSupervised::default();
    let mut config = short(&QueryOptions::default());
    reference.fit(&cells, &config, &semi, &mut ()).unwrap();

    let new = with_labels(data(&["c"], &["v2"], 24), |i| ["T", "Unknown"][i.min(1)]);
    let (cells, _) = Cells::for_query(&new, reference.registry()).unwrap();
    config.max_epochs = Some(1);
    let fit = |options: &QueryOptions| {
        let mut query = reference.load_query(&cells, options, 0).unwrap();
        query.fit(&cells, &config, &semi, &mut ())
    };
    let mut options = QueryOptions::default();
    let history = fit(&options).unwrap().history;
    assert!(!history.values("train_classification_loss").is_empty());
    options.freeze_classifier = false;
    let message = fit(&options).unwrap_err().to_string();
    assert!(message.contains("1 labelled training cell"), "{message}");
    // Nor is there a batch of statistics where scvi-tools trains.
    options.parity = Parity::Upstream;
    fit(&options).unwrap();
}

#[test]
fn a_single_cell_is_a_query_where_all_batch_norms_are_frozen() {
    let reference = reference(&data(&["a", "b"], &["v2", "v3"], 40), |p| p);
    let new = data(&["c"], &["v2"], 1);
    let (cells, _) = Cells::for_query(&new, reference.registry()).unwrap();
    let mut options = QueryOptions::default();
    let mut query = reference.load_query(&cells, &options, 0).unwrap();
    assert!(query.fit(&cells, &short(&options), &mut ()).is_err());
    options.freeze_batchnorm_decoder = true;
    let mut query = reference.load_query(&cells, &options, 0).unwrap();
    query.fit(&cells, &short(&options), &mut ()).unwrap();
}
