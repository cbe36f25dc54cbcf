//! Training from the outside: the same bits after an interruption and on any number of threads, and clear refusals.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use candle_core::Device;
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Csr, Table};
use sc_latent::{Cells, Error, Likelihood, NonInteger, Scvi, ScviConfig, Setup};
use sc_model::train::{
    Checkpoint, Control, History, Observer, ResumeState, Snapshot, StepEvent, StopReason,
    TrainConfig,
};
use sc_model::{EarlyStopping, LrSchedule};

/// Cells of two kinds in two batches.
fn data(n: usize, g: usize) -> AnnData {
    let counts = Array2::from_shape_fn((n, g), |(i, j)| {
        let kind = if i % 2 == j % 2 { 4 } else { 0 };
        let noise = (i * 7919 + j * 104_729) % 11;
        (if noise < 5 { 0 } else { noise - 5 + kind }) as f32
    });
    let mut obs = Table::new((0..n).map(|i| format!("cell {i}")).collect());
    let batch: Vec<&str> = (0..n).map(|i| if i % 3 == 0 { "a" } else { "b" }).collect();
    obs.insert(
        "batch",
        Column::Categorical(Categorical::from_labels(&batch)),
    )
    .unwrap();
    let var = Table::new((0..g).map(|j| format!("gene {j}")).collect());
    AnnData::new(Csr::from_dense(&counts), obs, var).unwrap()
}

fn setup() -> Setup {
    Setup {
        batch_key: Some("batch".into()),
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

fn model(cells: &Cells<'_>) -> Scvi {
    Scvi::params(cells)
        .n_hidden(16)
        .n_latent(3)
        .check()
        .unwrap()
        .init(&Device::Cpu, 3)
        .unwrap()
}

fn weights(m: &Scvi) -> Vec<f32> {
    let floats = m
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
    let data = data(150, 20);
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut whole = model(&cells);
    let fitted = whole.fit(&cells, &config(4), &mut ()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    for (epoch, step) in [(0, 0), (1, 2), (2, 4)] {
        let mut first = model(&cells);
        let mut stop = StopAt {
            epoch,
            step,
            path: path.clone(),
        };
        first.fit(&cells, &config(4), &mut stop).unwrap();
        let state = ResumeState::load(&path).unwrap();
        let mut second = Scvi::params(&cells)
            .n_hidden(16)
            .n_latent(3)
            .check()
            .unwrap()
            .init(&Device::Cpu, 99)
            .unwrap();
        let resumed = second.resume(&cells, &config(4), &state, &mut ()).unwrap();
        assert_eq!(
            weights(&second),
            weights(&whole),
            "stopped in epoch {epoch} after step {step}"
        );
        for name in fitted.history.names() {
            assert_eq!(
                resumed.history.get(name),
                fitted.history.get(name),
                "{name}"
            );
        }
    }
    // Another run's settings are not the same run.
    let mut other = config(4);
    other.batch_size = 16;
    let state = ResumeState::load(&path).unwrap();
    let message = model(&cells)
        .resume(&cells, &other, &state, &mut ())
        .unwrap_err()
        .to_string();
    assert!(message.contains("batch_size"), "{message}");
}

#[test]
fn the_number_of_threads_does_not_show() {
    let data = data(300, 700);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let cells = Cells::new(&data, &setup()).unwrap();
            let mut m = Scvi::params(&cells)
                .check()
                .unwrap()
                .init(&Device::Cpu, 0)
                .unwrap();
            m.fit(&cells, &config(2), &mut ()).unwrap();
            weights(&m)
        })
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn a_checkpoint_that_is_not_whole_is_refused() {
    let data = data(60, 10);
    let cells = Cells::new(&data, &setup()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let mut saver = Checkpoint::new(&path, Duration::ZERO);
    model(&cells).fit(&cells, &config(1), &mut saver).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let message = ResumeState::load(&path).unwrap_err().to_string();
        assert!(message.contains("checkpoint.safetensors"), "{message}");
    }
    assert!(ResumeState::load(Path::new("does/not/exist")).is_err());
}

#[test]
fn a_saved_model_is_the_same_model() {
    let data = data(80, 12);
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut m = model(&cells);
    m.fit(&cells, &config(2), &mut ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    m.save(dir.path()).unwrap();
    let again = Scvi::load(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(weights(&again), weights(&m));
    assert_eq!(again.training(), m.training());
    assert_eq!(
        again.latent(&cells).unwrap().mean,
        m.latent(&cells).unwrap().mean
    );
    // The same model is the same file.
    let twice = tempfile::tempdir().unwrap();
    again.save(twice.path()).unwrap();
    let read = |d: &tempfile::TempDir| std::fs::read(d.path().join("model.safetensors")).unwrap();
    assert_eq!(read(&dir), read(&twice));
    // A file where the folder should be.
    let file = dir.path().join("config.json");
    assert!(
        m.save(&file)
            .unwrap_err()
            .to_string()
            .contains("config.json")
    );
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(
        Scvi::load(dir.path(), &Device::Cpu)
            .unwrap_err()
            .to_string()
            .contains("model.safetensors")
    );
}

#[test]
fn numbers_that_are_no_counts_are_named() {
    let mut x = data(40, 8).x.unwrap().to_dense();
    let check = |x: &Array2<f32>, non_integer| {
        Cells::plain(x).check_counts(&ScviConfig::default(), non_integer)
    };
    assert!(check(&x, NonInteger::Refuse).unwrap().is_empty());
    x[(7, 3)] = 2.5;
    let message = check(&x, NonInteger::Refuse).unwrap_err().to_string();
    assert!(
        message.contains("2.5") && message.contains("cell 7") && message.contains("gene 3"),
        "{message}"
    );
    check(&x, NonInteger::Warn).unwrap();
    x[(8, 1)] = -1.0;
    assert!(matches!(
        check(&x, NonInteger::Warn),
        Err(Error::NotCounts {
            cell: 8,
            gene: 1,
            ..
        })
    ));
    // A normal likelihood takes them, but the logarithm does not.
    let mut normal = ScviConfig::default();
    normal.likelihood = Likelihood::Normal;
    let message = Cells::plain(&x)
        .check_counts(&normal, NonInteger::Refuse)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cell 8") && message.contains("no-log-variational"),
        "{message}"
    );
    normal.log_variational = false;
    Cells::plain(&x)
        .check_counts(&normal, NonInteger::Refuse)
        .unwrap();
    x[(9, 0)] = f32::NAN;
    assert!(matches!(
        Cells::plain(&x).check_counts(&normal, NonInteger::Refuse),
        Err(Error::NotCounts { cell: 9, .. })
    ));
}

#[test]
fn empty_cells_and_nan_stop_training_with_their_place() {
    let mut x = data(60, 8).x.unwrap().to_dense();
    x.row_mut(5).fill(0.0);
    let cells = Cells::plain(&x);
    assert_eq!(
        cells
            .check_counts(&ScviConfig::default(), NonInteger::Refuse)
            .unwrap(),
        vec![5]
    );
    let message = model(&cells)
        .fit(&cells, &config(1), &mut ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("1 cells") && message.contains("rows 5"),
        "{message}"
    );
    // A learned library size does not mind.
    let params = Scvi::params(&cells)
        .use_observed_lib_size(false)
        .likelihood(Likelihood::Nb);
    params
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap()
        .fit(&cells, &config(1), &mut ())
        .unwrap();

    drop(cells);
    x.row_mut(5).fill(f32::NAN);
    let cells = Cells::plain(&x);
    let params = Scvi::params(&cells).use_observed_lib_size(false);
    let error =
        params
            .check()
            .unwrap()
            .init(&Device::Cpu, 0)
            .unwrap()
            .fit(&cells, &config(1), &mut ());
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("diverged") && message.contains("epoch 0"),
        "{message}"
    );
}

#[test]
fn genes_are_matched_by_name() {
    let data = data(60, 9);
    let cells = Cells::new(&data, &setup()).unwrap();
    let m = model(&cells);
    let expected = m.latent(&cells).unwrap().mean;
    let shuffled = data.select_vars(&[3, 1, 4, 0, 5, 2, 8, 6, 7]).unwrap();
    let again = Cells::for_model(&shuffled, m.registry()).unwrap();
    assert_eq!(m.latent(&again).unwrap().mean, expected);
    let fewer = data.select_vars(&[0, 1, 2]).unwrap();
    let message = Cells::for_model(&fewer, m.registry())
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("lacks 6 of the model's 9 genes") && message.contains("gene 3"),
        "{message}"
    );
    // A batch that the model never saw.
    let mut other = data.clone();
    let unknown = Categorical::from_labels(&vec!["z"; 60]);
    other
        .obs
        .insert("batch", Column::Categorical(unknown))
        .unwrap();
    let message = Cells::for_model(&other, m.registry())
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("know: z") && message.contains("a, b"),
        "{message}"
    );
    // A batch with missing values, and one that is not there.
    let missing = Categorical::from_options((0..60).map(|i| (i > 0).then_some("a")));
    other
        .obs
        .insert("batch", Column::Categorical(missing))
        .unwrap();
    assert!(
        Cells::new(&other, &setup())
            .err()
            .unwrap()
            .to_string()
            .contains("1 missing")
    );
    other.obs.remove("batch");
    assert!(
        Cells::new(&other, &setup())
            .err()
            .unwrap()
            .to_string()
            .contains("obs has no column \"batch\"")
    );
}

#[test]
fn early_stopping_and_a_plateau_end_and_slow_training() {
    let data = data(90, 8);
    let cells = Cells::new(&data, &setup()).unwrap();
    let mut c = config(50);
    // Nothing improves by a million.
    c.early_stopping = Some(EarlyStopping {
        patience: 3,
        min_delta: 1e6,
        ..EarlyStopping::default()
    });
    let fitted = model(&cells).fit(&cells, &c, &mut ()).unwrap();
    assert_eq!(fitted.stop, StopReason::EarlyStopping);
    assert_eq!(fitted.history.values("elbo_train").len(), 4);
    c.early_stopping = None;
    c.max_epochs = Some(3);
    c.lr_schedule = LrSchedule::Plateau {
        factor: 0.5,
        patience: 0,
        threshold: 1e6,
        min_lr: 0.0,
    };
    model(&cells).fit(&cells, &c, &mut ()).unwrap();
    c.lr = -1.0;
    assert!(
        model(&cells)
            .fit(&cells, &c, &mut ())
            .unwrap_err()
            .to_string()
            .contains("lr")
    );
}
