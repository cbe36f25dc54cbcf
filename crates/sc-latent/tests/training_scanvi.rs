//! SCANVI's training from the outside: the same bits after an interruption and on any number of threads, labels that are
//! learned, and clear refusals.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::Device;
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Csr, Table};
use sc_latent::{
    AnyModel, Cells, ClassifierConfig, Dispersion, Labels, NormIn, Parity, PredictAt, Scanvi, Scvi,
    SemiSupervised, Setup,
};
use sc_model::Classify;
use sc_model::train::{
    Control, History, Observer, ResumeState, Snapshot, StepEvent, StopReason, TrainConfig,
};

/// Cells of three kinds in two batches; a third of them has no label.
fn data(n: usize) -> AnnData {
    let counts = Array2::from_shape_fn((n, 18), |(i, j)| {
        let kind = if i % 3 == j % 3 { 5 } else { 0 };
        let noise = (i * 7919 + j * 104_729) % 11;
        (if noise < 5 { 0 } else { noise - 5 + kind }) as f32
    });
    let mut obs = Table::new((0..n).map(|i| format!("cell {i}")).collect());
    let batch: Vec<&str> = (0..n).map(|i| if i % 4 == 0 { "a" } else { "b" }).collect();
    let kind = |i: usize| ["T", "B", "NK"][i % 3];
    let truth: Vec<&str> = (0..n).map(kind).collect();
    let known: Vec<&str> = (0..n)
        .map(|i| if (i / 3) % 3 == 0 { "?" } else { kind(i) })
        .collect();
    for (name, labels) in [("batch", &batch), ("truth", &truth), ("kind", &known)] {
        let column = Column::Categorical(Categorical::from_labels(labels));
        obs.insert(name, column).unwrap();
    }
    let var = Table::new((0..18).map(|j| format!("gene {j}")).collect());
    AnnData::new(Csr::from_dense(&counts), obs, var).unwrap()
}

fn setup() -> Setup {
    Setup {
        batch_key: Some("batch".into()),
        labels_key: Some("kind".into()),
        unlabeled_category: Some("?".into()),
        ..Setup::default()
    }
}

fn config(epochs: usize) -> TrainConfig {
    let mut c = TrainConfig::default();
    c.max_epochs = Some(epochs);
    c.batch_size = 32;
    c.validate_every = Some(1);
    c.seed = 3;
    c
}

fn semi() -> SemiSupervised {
    let mut s = SemiSupervised::default();
    s.n_samples_per_label = Some(15);
    s
}

fn model(cells: &Cells<'_>) -> Scanvi {
    Scanvi::params(cells)
        .n_hidden(16)
        .n_latent(3)
        .check()
        .unwrap()
        .init(&Device::Cpu, 3)
        .unwrap()
}

fn weights(m: &Scanvi) -> Vec<f32> {
    let floats = m
        .scvi()
        .parameters()
        .iter()
        .filter(|p| p.value().dtype() == candle_core::DType::F32);
    floats
        .flat_map(|p| p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .collect()
}

/// Saves the state and stops at one step.
struct StopAt {
    epoch: usize,
    step: usize,
    path: std::path::PathBuf,
}

impl Observer for StopAt {
    fn on_step(&mut self, e: &StepEvent<'_>) -> sc_model::Result<Control> {
        let here = (e.epoch, e.step) == (self.epoch, self.step);
        Ok(if here {
            Control::Stop
        } else {
            Control::Continue
        })
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        _: &History,
        state: &dyn Snapshot,
    ) -> sc_model::Result<()> {
        assert_eq!(reason, StopReason::Interrupted);
        state.save(&self.path)
    }
}

#[test]
fn an_interrupted_run_goes_on_bit_for_bit() {
    let data = data(150);
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut whole = model(&cells);
    let fitted = whole.fit(&cells, &config(4), &semi(), &mut ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    for (epoch, step) in [(0, 0), (1, 2), (3, 4)] {
        let mut stop = StopAt {
            epoch,
            step,
            path: path.clone(),
        };
        let mut first = model(&cells);
        first.fit(&cells, &config(4), &semi(), &mut stop).unwrap();
        let state = ResumeState::load(&path).unwrap();
        let mut second = model(&cells);
        let resumed = second
            .resume(&cells, &config(4), &semi(), &state, &mut ())
            .unwrap();
        assert!(weights(&second) == weights(&whole), "{epoch} {step}");
        assert_eq!(resumed.history, fitted.history);
        let other = second.resume(
            &cells,
            &config(4),
            &SemiSupervised::default(),
            &state,
            &mut (),
        );
        let message = other.unwrap_err().to_string();
        assert!(message.contains("n_samples_per_label"), "{message}");
    }
}

#[test]
fn threads_do_not_matter() {
    let data = data(150);
    let cells = Cells::new(&data, &setup()).unwrap();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut m = model(&cells);
            m.fit(&cells, &config(2), &semi(), &mut ()).unwrap();
            weights(&m)
        })
    };
    assert!(run(1) == run(3));
}

#[test]
fn labels_are_learned_and_given_to_the_others() {
    let data = data(300);
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut m = model(&cells);
    let fitted = m.fit(&cells, &config(30), &semi(), &mut ()).unwrap();
    for set in ["train", "validation"] {
        for metric in [
            "classification_loss",
            "accuracy",
            "f1_score",
            "calibration_error",
        ] {
            assert_eq!(fitted.history.values(&format!("{set}_{metric}")).len(), 30);
        }
        assert_eq!(fitted.history.values(&format!("elbo_{set}")).len(), 30);
    }
    // "?" sorts first, and changed places with the last.
    assert_eq!(m.labels(), ["T", "B", "NK"].map(str::to_owned));
    let found = m.classify(&cells).unwrap();
    let truth = data
        .obs
        .get("truth")
        .unwrap()
        .to_categorical("truth")
        .unwrap();
    let right = found
        .hard()
        .iter()
        .zip(truth.iter())
        .filter(|(a, b)| Some(**a) == *b)
        .count();
    assert!(right > 290, "{right} of 300");
    // The marginal likelihood lies above its bound.
    let ll = m.marginal_ll(&cells, 20, 0, Parity::Correct).unwrap();
    let mean = ll.iter().sum::<f64>() / ll.len() as f64;
    assert!(mean > m.elbo(&cells, Some(0)).unwrap().elbo());
    // Data without the column of labels is data without labels.
    let mut bare = data.clone();
    bare.obs = Table::new(data.obs.index().to_vec());
    let batch = data.obs.get("batch").unwrap().clone();
    bare.obs.insert("batch", batch).unwrap();
    let others = Cells::for_model(&bare, m.registry()).unwrap();
    assert!(others.labels().iter().all(|&l| l == 3));
    assert!(m.classify(&others).unwrap().values == found.values);
    let dir = tempfile::tempdir().unwrap();
    m.save(dir.path()).unwrap();
    let again = AnyModel::load(dir.path(), &Device::Cpu).unwrap();
    let again = again.scanvi().unwrap();
    assert_eq!(again.training(), m.training());
    assert!(again.classify(&cells).unwrap().values == found.values);
}

#[test]
fn scvi_is_where_it_begins() {
    let data = data(150);
    let plain = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(&data, &plain).unwrap();
    let params = Scvi::params(&cells).n_hidden(16).n_latent(3);
    let mut scvi = params.check().unwrap().init(&Device::Cpu, 3).unwrap();
    let labels = Labels {
        key: Some("kind".into()),
        unlabeled_category: "?".into(),
    };
    let begin = |scvi: &Scvi, labels: &Labels| {
        Scanvi::from_scvi(scvi, &data.obs, labels, ClassifierConfig::linear(), 0)
    };
    let message = begin(&scvi, &labels).unwrap_err().to_string();
    assert!(message.contains("not trained"), "{message}");
    scvi.fit(&cells, &config(3), &mut ()).unwrap();
    let nameless = Labels {
        key: None,
        ..labels.clone()
    };
    let message = begin(&scvi, &nameless).unwrap_err().to_string();
    assert!(message.contains("labels_key"), "{message}");

    let mut scanvi = begin(&scvi, &labels).unwrap();
    let with_labels = Cells::for_model(&data, scanvi.registry()).unwrap();
    let (a, b) = (
        scvi.latent(&cells).unwrap(),
        scanvi.scvi().latent(&with_labels).unwrap(),
    );
    assert!(a.mean == b.mean && a.variance == b.variance);
    assert!(scanvi.is_pretrained());
    assert_eq!(scanvi.default_epochs(150), 10);
    assert_eq!(scanvi.default_epochs(500_000), 5);
    assert_eq!(scanvi.default_epochs(3_000_000), 2);
    let mut few = config(1);
    few.max_epochs = None;
    let fitted = scanvi
        .fit(&with_labels, &few, &SemiSupervised::default(), &mut ())
        .unwrap();
    assert_eq!(fitted.history.values("elbo_train").len(), 10);
    let found = scanvi
        .predict(&with_labels, PredictAt::PosteriorMean)
        .unwrap();
    assert_eq!(found.labels.len(), 3);
    // The cells of scVI have other labels.
    assert!(scanvi.classify(&cells).is_err());
}

#[test]
fn what_cannot_be_is_refused() {
    let data = data(90);
    let cells = Cells::new(&data, &setup()).unwrap();
    let refused = |cells: &Cells<'_>,
                   what: fn(sc_latent::ScanviParams) -> sc_latent::ScanviParams| {
        what(Scanvi::params(cells)).check().unwrap_err().to_string()
    };
    let message = refused(&cells, |p| p.dispersion(Dispersion::GeneLabel));
    assert!(message.contains("gene-label"), "{message}");
    let plain = Cells::new(&data, &Setup::default()).unwrap();
    let message = refused(&plain, |p| p);
    assert!(message.contains("unlabeled_category"), "{message}");
    // A label never seen.
    let m = model(&cells);
    let mut other = data.clone();
    let labels = vec!["macrophage"; 90];
    let column = Column::Categorical(Categorical::from_labels(&labels));
    other.obs.insert("kind", column).unwrap();
    let message = Cells::for_model(&other, m.registry())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("macrophage") && message.contains("NK"),
        "{message}"
    );
}

#[test]
fn unlabelled_cells_alone_train_without_a_classifier() {
    let data = data(90);
    let cells = Cells::new(&data, &setup()).unwrap();
    let m = model(&cells);
    let mut unlabelled = data.clone();
    let column = Column::Categorical(Categorical::from_labels(&["?"; 90]));
    unlabelled.obs.insert("kind", column).unwrap();
    let cells = Cells::for_model(&unlabelled, m.registry()).unwrap();
    let mut m = m;
    let fitted = m.fit(&cells, &config(2), &semi(), &mut ()).unwrap();
    assert!(fitted.history.values("train_accuracy").is_empty());
    assert_eq!(fitted.history.values("elbo_train").len(), 2);
}

#[test]
fn one_label_and_other_norms() {
    let mut data = data(80);
    let labels: Vec<&str> = (0..80)
        .map(|i| if i % 2 == 0 { "T" } else { "?" })
        .collect();
    let column = Column::Categorical(Categorical::from_labels(&labels));
    data.obs.insert("kind", column).unwrap();
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut m = Scanvi::params(&cells)
        .n_hidden(8)
        .n_layers(2)
        .n_latent(2)
        .batch_norm(NormIn::None)
        .layer_norm(NormIn::Both)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    m.fit(&cells, &config(2), &semi(), &mut ()).unwrap();
    let found = m.classify(&cells).unwrap();
    assert!(found.values.iter().all(|&p| (p - 1.0).abs() < 1e-6));
}
