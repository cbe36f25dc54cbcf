//! Minified cells against the same cells with counts.

use candle_core::Device;
use ndarray::{Array2, array};
use sc_data::{AnnData, Categorical, Column, Csr, Table};
use sc_model::train::TrainConfig;

mod statistics;

use super::*;
use crate::{Cells, Expression, LibrarySize, Scvi, Setup};

const CELLS: usize = 45;
const GENES: usize = 7;

fn counts() -> Array2<f32> {
    Array2::from_shape_fn((CELLS, GENES), |(i, g)| {
        let x = (i * 31 + g * 17 + (i * g) % 11) % 13;
        if x > 6 { (x - 6) as f32 } else { 0.0 }
    }) + &Array2::from_shape_fn((CELLS, GENES), |(_, g)| f32::from(u8::from(g == 0)))
}

fn labels(of: impl Fn(usize) -> &'static str) -> Column {
    let v: Vec<&str> = (0..CELLS).map(of).collect();
    Column::Categorical(Categorical::from_labels(&v))
}

fn data() -> AnnData {
    let mut obs = Table::new((0..CELLS).map(|i| format!("cell {i}")).collect());
    obs.insert("batch", labels(|i| if i % 3 == 0 { "a" } else { "b" }))
        .unwrap();
    obs.insert("kind", labels(|i| ["x", "y", "z"][i % 7 % 3]))
        .unwrap();
    let var = Table::new((0..GENES).map(|g| format!("gene {g}")).collect());
    let mut data = AnnData::new(Csr::from_dense(&counts()), obs, var).unwrap();
    data.layers
        .insert("counts".into(), Csr::from_dense(&counts()).into());
    data.obsm
        .insert("X_umap".into(), Array2::<f64>::ones((CELLS, 2)).into());
    data
}

fn setup() -> Setup {
    Setup {
        batch_key: Some("batch".into()),
        labels_key: Some("kind".into()),
        ..Setup::default()
    }
}

fn model(data: &AnnData) -> Scvi {
    let cells = Cells::new(data, &setup()).unwrap();
    let mut model = Scvi::params(&cells)
        .n_latent(3)
        .n_hidden(8)
        .check()
        .unwrap()
        .init(&Device::Cpu, 3)
        .unwrap();
    let mut config = TrainConfig::default();
    config.max_epochs = Some(2);
    model.fit(&cells, &config, &mut ()).unwrap();
    model
}

fn needs_counts<T: std::fmt::Debug>(result: Result<T>) {
    assert!(
        matches!(result, Err(Error::NeedsCounts { .. })),
        "{result:?}"
    );
}

#[test]
fn what_the_decoder_says_stays_the_same() {
    let data = data();
    let mut model = model(&data);
    let cells = Cells::for_model(&data, model.registry()).unwrap();
    for kind in [MinifyKind::Posterior, MinifyKind::PosteriorWithCounts] {
        let options = MinifyOptions::new(kind);
        let small = model.minify(&data, &options).unwrap();
        model.set_minified(Some(model.minified_keys(&options)));
        let minified = Cells::for_model(&small, model.registry()).unwrap();
        assert_eq!(minified.minified(), Some(kind));
        let (a, b) = (
            model.latent(&cells).unwrap(),
            model.latent(&minified).unwrap(),
        );
        assert_eq!((a.mean, a.variance), (b.mean, b.variance));
        assert_eq!(
            model.latent_library_size(&cells).unwrap(),
            model.latent_library_size(&minified).unwrap()
        );
        let options = Expression {
            library_size: LibrarySize::Latent,
            n_samples: 2,
            transform_batch: vec!["b".into(), "a".into()],
            ..Expression::default()
        };
        assert_eq!(
            model.normalized_expression(&cells, &options).unwrap(),
            model.normalized_expression(&minified, &options).unwrap()
        );
        assert_eq!(
            model
                .posterior_predictive_sample(&cells, 2, &[], None, 5)
                .unwrap(),
            model
                .posterior_predictive_sample(&minified, 2, &[], None, 5)
                .unwrap()
        );
        let (a, b) = (
            model.likelihood_parameters(&cells, None).unwrap(),
            model.likelihood_parameters(&minified, None).unwrap(),
        );
        assert_eq!((a.mean, a.dropout), (b.mean, b.dropout));
    }
}

#[test]
fn a_posterior_is_that_of_its_model() {
    let data = data();
    let mut model = model(&data);
    // Beside counts it counts only for the model that registered it, and only until that is trained again.
    let options = MinifyOptions::new(MinifyKind::PosteriorWithCounts);
    let both = model.minify(&data, &options).unwrap();
    let kind = |model: &Scvi| {
        Cells::for_model(&both, model.registry())
            .unwrap()
            .minified()
    };
    assert_eq!(kind(&model), None);
    model.set_minified(Some(model.minified_keys(&options)));
    assert_eq!(kind(&model), Some(MinifyKind::PosteriorWithCounts));
    let cells = Cells::for_model(&both, model.registry()).unwrap();
    let mut config = TrainConfig::default();
    config.max_epochs = Some(1);
    model.fit(&cells, &config, &mut ()).unwrap();
    assert_eq!(kind(&model), None);
    assert!(model.latent(&cells).is_err());

    // Without counts that of another class is refused.
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    let labelled = model
        .registry()
        .with_labels(&data.obs, "batch", "Unknown")
        .unwrap();
    assert!(Cells::for_model(&small, &labelled).is_err());
    // And a query needs counts.
    needs_counts(Cells::for_query(&small, model.registry()).map(|_| ()));
    needs_counts(crate::prepare_query(&small, model.registry()).map(|_| ()));
}

#[test]
fn what_needs_counts_says_so() {
    let data = data();
    let mut model = model(&data);
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    let minified = Cells::for_model(&small, model.registry()).unwrap();
    needs_counts(model.elbo(&minified, Some(1)));
    needs_counts(model.marginal_ll(&minified, 5, 1));
    needs_counts(model.fit(&minified, &TrainConfig::default(), &mut ()));
    needs_counts(minified.check_counts(model.config(), crate::NonInteger::Refuse));
    needs_counts(minified.gene_sums(&vec![None; CELLS], 1));
    needs_counts(model.minify(&small, &MinifyOptions::default()));
    let message = minified.counts().read_rows(&[0]).unwrap_err().to_string();
    assert!(message.contains("minified"), "{message}");
    // A new model can't be made of them either.
    let fresh = Cells::new(&small, &setup()).unwrap();
    let mut new = Scvi::params(&fresh)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    needs_counts(new.fit(&fresh, &TrainConfig::default(), &mut ()));

    let with = MinifyOptions::new(MinifyKind::PosteriorWithCounts);
    let both = model.minify(&data, &with).unwrap();
    let both = Cells::for_model(&both, model.registry()).unwrap();
    let cells = Cells::for_model(&data, model.registry()).unwrap();
    let elbo = |c: &Cells<'_>| model.elbo(c, Some(1)).unwrap().elbo();
    assert_eq!(elbo(&both), elbo(&cells));
    assert_eq!(
        model.marginal_ll(&both, 3, 1).unwrap(),
        model.marginal_ll(&cells, 3, 1).unwrap()
    );
}

#[test]
fn the_counts_are_gone_and_the_rest_is_not() {
    let mut data = data();
    data.raw = Some(sc_data::Raw {
        x: Csr::from_dense(&counts()).into(),
        var: data.var.clone(),
        varm: indexmap::IndexMap::new(),
    });
    let model = model(&data);
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    small.check().unwrap();
    for m in [small.matrix(None), small.matrix(Some("counts"))] {
        let m = m.unwrap().to_csr();
        assert_eq!((m.n_stored(), m.n_rows(), m.n_cols()), (0, CELLS, GENES));
    }
    assert!(small.raw.is_none());
    assert_eq!(small.obsm.get("X_umap"), data.obsm.get("X_umap"));
    assert_eq!(small.obs.get("kind"), data.obs.get("kind"));
    assert_eq!(
        small.obs.get("observed_lib_size"),
        Some(&Column::Float32(
            counts().sum_axis(ndarray::Axis(1)).to_vec()
        ))
    );
    assert!(
        small.obsm.contains_key("scvi_latent_qzm") && small.obsm.contains_key("scvi_latent_qzv")
    );
    let both = model
        .minify(&data, &MinifyOptions::new(MinifyKind::PosteriorWithCounts))
        .unwrap();
    assert_eq!((&both.x, &both.raw), (&data.x, &data.raw));
    assert!(both.varm.is_empty());
}

#[test]
fn other_genes_are_put_right() {
    let data = data();
    let model = model(&data);
    let expected = model.minify(&data, &MinifyOptions::default()).unwrap();
    // One gene more, all in another order.
    let mut more = counts();
    more.push_column(array![9.0f32].broadcast(CELLS).unwrap())
        .unwrap();
    let var = Table::new((0..=GENES).map(|g| format!("gene {g}")).collect());
    let more = AnnData::new(Csr::from_dense(&more), data.obs.clone(), var).unwrap();
    let more = more.select_vars(&[3, 7, 1, 0, 2, 6, 5, 4]).unwrap();
    let found = model.minify(&more, &MinifyOptions::default()).unwrap();
    assert_eq!(found.var.index(), expected.var.index());
    assert_eq!(
        (&found.obsm["scvi_latent_qzm"], &found.varm),
        (&expected.obsm["scvi_latent_qzm"], &expected.varm)
    );
    // Minified data in another order are read right, too.
    let turned = expected.select_vars(&[6, 5, 4, 3, 2, 1, 0]).unwrap();
    let stats = |d: &AnnData| {
        let cells = Cells::for_model(d, model.registry()).unwrap();
        cells.gene_statistics(&[0, 1, 2]).unwrap().unwrap()
    };
    assert_eq!(stats(&turned), stats(&expected));
}

#[test]
fn a_learned_library_size_is_refused() {
    let data = data();
    let cells = Cells::new(&data, &setup()).unwrap();
    let model = Scvi::params(&cells)
        .use_observed_lib_size(false)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    let message = model
        .minify(&data, &MinifyOptions::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("learns"), "{message}");
    let mut empty = data.clone();
    let mut x = counts();
    x.row_mut(4).fill(0.0);
    empty.x = Some(Csr::from_dense(&x).into());
    let error = self::model(&data)
        .minify(&empty, &MinifyOptions::default())
        .unwrap_err();
    assert!(matches!(error, Error::EmptyCells { .. }), "{error}");
}

#[test]
fn a_saved_model_knows_where_the_posterior_is() {
    let data = data();
    let mut model = model(&data);
    let keys = MinifiedKeys {
        mean: "m".into(),
        variance: "v".into(),
        library_size: "l".into(),
    };
    let options = MinifyOptions {
        keys: Some(keys),
        ..MinifyOptions::default()
    };
    let small = model.minify(&data, &options).unwrap();
    assert!(Cells::for_model(&small, model.registry()).is_err());
    model.set_minified(options.keys.clone());
    for upstream in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let again = if upstream {
            model.save_scvi_tools(dir.path()).unwrap();
            Scvi::from_scvi_tools(dir.path(), &Device::Cpu).unwrap()
        } else {
            model.save(dir.path()).unwrap();
            Scvi::load(dir.path(), &Device::Cpu).unwrap()
        };
        assert_eq!(again.registry().minified, options.keys);
        let cells = Cells::for_model(&small, again.registry()).unwrap();
        assert_eq!(again.latent(&cells).unwrap().mean.dim(), (CELLS, 3));
    }
}
