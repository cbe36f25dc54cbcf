//! Every mistake gets a message that says what is wrong and what would work, and loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Place, says, small, training};
use ndarray::Array2;
use sc_data::{Categorical, Column, Matrix};

/// The small data with other counts.
fn with_counts(change: impl Fn(&mut Array2<f32>)) -> Place {
    let mut data = small();
    let mut x = data.x.as_ref().unwrap().to_dense();
    change(&mut x);
    data.x = Some(Matrix::from(x));
    Place::with(&data)
}

#[test]
fn missing_columns_and_layers() {
    let place = Place::new();
    let train =
        |options: &str| place.error(&format!("train scvi cells.h5ad --out model {options}"));
    says(
        &train("--batch-key donor"),
        &["no column \"donor\"", "batch", "cell.type"],
    );
    says(
        &train("--labels-key donor"),
        &["no column \"donor\"", "cell.type"],
    );
    says(
        &train("--categorical-covariate donor"),
        &["no column \"donor\"", "cell.type"],
    );
    says(
        &train("--continuous-covariate donor"),
        &["no column \"donor\"", "cell.type"],
    );
    says(
        &train("--size-factor-key donor"),
        &["no column \"donor\"", "cell.type"],
    );
    says(&train("--batch-key n.umi"), &["n.umi", "numbers", "labels"]);
    says(
        &train("--continuous-covariate batch"),
        &["batch", "categories", "numbers"],
    );
    says(
        &train("--size-factor-key bg.300.loading"),
        &["bg.300.loading", "positive"],
    );
    says(&train("--layer counts"), &["layer \"counts\""]);
    says(&train("--layer counts --backed"), &["layers"]);

    let mut data = small();
    let x = data.x.take().unwrap();
    data.layers.insert("raw_counts".into(), x);
    let place = Place::with(&data);
    says(
        &place.error("train scvi cells.h5ad --out model"),
        &["\"X\"", "raw_counts"],
    );
    says(
        &place.error("train scvi cells.h5ad --out model --layer counts"),
        &["counts", "raw_counts"],
    );
    place.train("model", "--max-epochs 1 --layer raw_counts");
    place.ok("embed model cells.h5ad --out out.h5ad");
}

#[test]
fn missing_values() {
    let mut data = small();
    let batch = data
        .obs
        .get("batch")
        .unwrap()
        .to_categorical("batch")
        .unwrap();
    let mut codes = batch.codes().to_vec();
    codes[17] = None;
    codes[40] = None;
    let batch = Categorical::new(codes, batch.categories().to_vec(), false).unwrap();
    data.obs
        .insert("batch", Column::Categorical(batch))
        .unwrap();
    let mut numbers = vec![1.0; data.n_obs()];
    numbers[3] = f64::NAN;
    data.obs.insert("age", Column::Float(numbers)).unwrap();
    let place = Place::with(&data);
    says(
        &place.error(&training("model", "")),
        &["\"batch\"", "2 missing", "17"],
    );
    let train = "train scvi cells.h5ad --out model --max-epochs 1";
    says(
        &place.error(&format!("{train} --continuous-covariate age")),
        &["\"age\"", "1 missing", "3"],
    );
}

#[test]
fn what_is_no_counts() {
    let negative = with_counts(|x| x[[4, 2]] = -1.0);
    says(
        &negative.error(&training("model", "")),
        &["-1", "cell 4", "gene 2", "negative", "normal"],
    );
    says(
        &negative.error(&training("model", "--likelihood normal")),
        &["-1", "cell 4", "--no-log-variational"],
    );
    negative.train(
        "normal",
        "--likelihood normal --no-log-variational --observed-library-size --max-epochs 1",
    );

    let normalised = with_counts(|x| x.mapv_inplace(f32::ln_1p));
    let gene = small().var.index()[0].clone();
    says(
        &normalised.error(&training("model", "")),
        &["3.4657", "cell 0", &gene, "--allow-non-integer", "--layer"],
    );
    let output = normalised.sc(&training("model", "--max-epochs 1 --allow-non-integer"));
    assert!(output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["WARN", "not all integers"],
    );

    let nan = with_counts(|x| x[[7, 1]] = f32::NAN);
    says(
        &nan.error(&training("model", "--allow-non-integer")),
        &["NaN", "cell 7"],
    );
    says(
        &nan.error(&training("model", "--likelihood normal")),
        &["NaN", "cell 7"],
    );
}

#[test]
fn empty_cells() {
    let place = with_counts(|x| [8, 20].iter().for_each(|&i| x.row_mut(i).fill(0.0)));
    let name = small().obs.index()[8].clone();
    says(
        &place.error(&training("model", "")),
        &["2 cells", &format!("8 ({name})"), "--drop-empty-cells"],
    );
    let output = place.sc(&training(
        "model",
        "--max-epochs 1 --drop-empty-cells --json",
    ));
    assert!(output.status.success());
    says(
        &String::from_utf8_lossy(&output.stdout),
        &["\"n_cells\":298"],
    );
    says(
        &place.error("evaluate model cells.h5ad"),
        &["2 cells", &format!("8 ({name})"), "drop"],
    );
    place.ok("embed model cells.h5ad --out out.h5ad");
    // Dropping them is the same as never having had them.
    let keep: Vec<usize> = (0..small().n_obs())
        .filter(|i| ![8, 20].contains(i))
        .collect();
    let without = Place::with(&small().select_obs(&keep).unwrap());
    without.train("model", "--max-epochs 1");
    assert_eq!(place.weights("model"), without.weights("model"));
    // A learned library size has no trouble with them.
    place.train("learned", "--max-epochs 1 --learn-library-size");
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::new();
    std::fs::write(place.path("taken"), "a file").unwrap();
    says(&place.error(&training("taken", "")), &["taken"]);
    says(&place.error(&training("taken/model", "")), &["taken/model"]);
    place.train("model", "--max-epochs 1");
    says(
        &place.error("embed model cells.h5ad --out nowhere/out.h5ad"),
        &["nowhere"],
    );
    says(
        &place.error("embed model cells.h5ad --out out.loom"),
        &[".h5ad"],
    );
    std::fs::create_dir(place.path("folder.h5ad")).unwrap();
    says(
        &place.error("expression model cells.h5ad --out folder.h5ad"),
        &["folder"],
    );
    assert_eq!(place.text("taken"), "a file");
}

#[test]
fn impossible_settings() {
    let place = Place::new();
    says(
        &place.error(&training("model", "--dropout-rate 1")),
        &["dropout_rate", "less than 1"],
    );
    says(
        &place.error(&training("model", "--lr 0")),
        &["lr", "positive"],
    );
    says(
        &place.error(&training("model", "--linear --dispersion gene-cell")),
        &["dispersion", "linear"],
    );
    says(&place.error(&training("model", "--resume")), &["--resume"]);
    for usage in [
        "--likelihood gamma",
        "--n-latent 0",
        "--train-size 2",
        "--batch-representation two-hot",
    ] {
        let output = place.sc(&format!("train scvi cells.h5ad --out model {usage}"));
        assert_eq!(output.status.code(), Some(2), "{usage}");
    }
    let output = place.sc("train scvi cells.h5ad --out model --likelihood gamma");
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["zinb", "poisson"],
    );
}

/// Training that runs away ends with an error that says where, and no model.
#[test]
fn divergence() {
    let place = with_counts(|x| x[[0, 0]] = 3e38);
    let message = place.error(&training(
        "model",
        "--max-epochs 20 --lr 1000000 --likelihood normal",
    ));
    says(&message, &["diverged", "epoch"]);
    assert!(!place.path("model/model.safetensors").exists());
}

/// Batch normalisation needs two cells.
#[test]
fn one_cell_is_not_enough() {
    let place = Place::with(&small().select_obs(&[0]).unwrap());
    says(
        &place.error(&training("model", "--max-epochs 1")),
        &["1 training cells", "needs 2"],
    );
}
