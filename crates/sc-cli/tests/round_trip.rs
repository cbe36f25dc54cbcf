//! Train, embed, expression, evaluate, inspect, convert.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, GENES, Place};
use sc_data::{Annotation, Matrix};
use serde_json::Value;

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_model_is_trained_and_used() {
    let place = Place::new();
    let summary = json(&place.train("model", "--max-epochs 3 --validate-every 1 --json"));
    for name in ["epoch_seconds", "elbo_train", "elbo_validation"] {
        assert_eq!(summary[name].as_array().unwrap().len(), 3, "{name}");
    }
    assert_eq!(summary["n_train"], 270);
    assert_eq!(summary["n_cells"], CELLS);
    assert_eq!(summary["n_genes"], GENES);
    assert_eq!(summary["epochs"], 3);
    assert_eq!(summary["model"], "model");
    if cfg!(target_os = "linux") {
        assert!(summary["peak_rss_bytes"].as_u64().unwrap() > 1_000_000);
    }
    let elbo = |epoch: usize| summary["elbo_train"][epoch].as_f64().unwrap();
    assert!(elbo(2) < elbo(0) && elbo(2) > 0.0);
    assert_eq!(place.text("model/history.csv").lines().count(), 4);
    for gone in ["checkpoint.safetensors", "checkpoint.json"] {
        assert!(!place.path("model").join(gone).exists(), "{gone}");
    }

    assert_eq!(
        place.ok("embed model cells.h5ad --out embedded.h5ad --variance"),
        ""
    );
    let before = sc_io::read(place.path("cells.h5ad")).unwrap();
    let after = sc_io::read(place.path("embedded.h5ad")).unwrap();
    for key in ["X_scVI", "X_scVI_var"] {
        let Some(Annotation::Matrix(m)) = after.obsm.get(key) else {
            panic!("no {key}")
        };
        assert_eq!((m.n_rows(), m.n_cols()), (CELLS, 4));
    }
    assert_eq!(
        (&after.x, &after.obs, &after.var),
        (&before.x, &before.obs, &before.var)
    );

    let mean = json(&place.ok("evaluate model cells.h5ad --posterior-mean --json"));
    let number = |v: &Value, name: &str| v[name].as_f64().unwrap();
    assert!(number(&mean, "elbo") < 0.0 && number(&mean, "kl") > 0.0);
    let sum = number(&mean, "reconstruction_error") + number(&mean, "kl");
    assert!((number(&mean, "elbo") + sum).abs() < 1e-9);
    let drawn = json(&place.ok("evaluate model cells.h5ad --seed 1 --marginal-ll 8 --json"));
    assert_ne!(number(&drawn, "elbo"), number(&mean, "elbo"));
    // The bound is one, up to the noise of one draw.
    assert!(number(&drawn, "marginal_ll") > number(&drawn, "elbo") - 1.0);
    assert!(place.ok("evaluate model cells.h5ad").contains("ELBO"));
}

#[test]
fn expression_of_some_genes_in_another_batch() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let data = common::small();
    let genes: Vec<String> = [5, 0, 7]
        .iter()
        .map(|&g| data.var.index()[g].clone())
        .collect();
    std::fs::write(
        place.path("genes.txt"),
        format!("{}\n\n", genes.join("\r\n")),
    )
    .unwrap();
    let options = "--posterior-mean --library-size 1000 --transform-batch Murray_b01";
    place.ok(&format!(
        "expression model cells.h5ad --out all.h5ad {options}"
    ));
    place.ok(&format!(
        "expression model cells.h5ad --out list.h5ad {options} --genes {}",
        genes.join(",")
    ));
    place.ok(&format!(
        "expression model cells.h5ad --out file.h5ad {options} --genes genes.txt"
    ));

    let all = sc_io::read(place.path("all.h5ad")).unwrap();
    let Some(Matrix::Dense(x)) = &all.x else {
        panic!("not dense f32")
    };
    assert_eq!(x.dim(), (CELLS, GENES));
    assert!(
        x.rows()
            .into_iter()
            .all(|row| (row.sum() - 1000.0).abs() < 0.1)
    );
    assert_eq!((&all.obs, &all.var), (&data.obs, &data.var));
    let list = sc_io::read(place.path("list.h5ad")).unwrap();
    assert_eq!(list.var.index(), genes);
    assert_eq!(
        list.x.as_ref().unwrap(),
        &all.x.as_ref().unwrap().select_columns(&[5, 0, 7]).unwrap()
    );
    assert_eq!(sc_io::read(place.path("file.h5ad")).unwrap(), list);

    // Draws differ by seed, and average out; the cell's own library size gives other numbers.
    place.ok("expression model cells.h5ad --out a.h5ad --seed 1 --n-samples 2");
    place.ok("expression model cells.h5ad --out b.h5ad --seed 2 --library-size latent");
    let [a, b] =
        ["a.h5ad", "b.h5ad"].map(|n| sc_io::read(place.path(n)).unwrap().x.unwrap().to_dense());
    assert!((a.row(0).sum() - 1.0).abs() < 1e-3 && b.row(0).sum() > 10.0);
}

#[test]
fn the_settings_reach_the_model() {
    let place = Place::new();
    place.train(
        "model",
        "--max-epochs 1 --likelihood nb --dispersion gene-batch --latent-distribution ln --n-layers 2 \
         --encode-covariates --batch-representation embedding:3 --categorical-covariate time.point \
         --continuous-covariate bg.300.loading --size-factor-key Size_Factor --labels-key cell.type --lr 0.01 \
         --dropout-rate 0.2 --train-size 0.5 --seed 7 --early-stopping --early-stopping-patience 3",
    );
    let config: Value = serde_json::from_str(&place.text("model/config.json")).unwrap();
    let model = &config["model"];
    assert_eq!(model["likelihood"], "nb");
    assert_eq!(model["dispersion"], "gene-batch");
    assert_eq!(model["latent_distribution"], "ln");
    assert_eq!(
        (&model["n_layers"], &model["n_hidden"], &model["n_latent"]),
        (&2.into(), &16.into(), &4.into())
    );
    assert_eq!(model["encode_covariates"], true);
    assert_eq!(model["batch_representation"]["embedding"]["dim"], 3);
    assert_eq!(model["dropout_rate"], 0.2);
    let setup = &config["registry"]["setup"];
    assert_eq!(setup["size_factor_key"], "Size_Factor");
    assert_eq!(setup["labels_key"], "cell.type");
    assert_eq!(setup["categorical_covariate_keys"][0], "time.point");
    assert_eq!(setup["continuous_covariate_keys"][0], "bg.300.loading");
    assert_eq!(
        config["training"]["split"]["train"]
            .as_array()
            .unwrap()
            .len(),
        150
    );
    // Early stopping validates.
    assert!(place.text("model/history.csv").contains("elbo_validation"));
    place.ok("evaluate model cells.h5ad");

    place.train("linear", "--max-epochs 1 --linear");
    let config: Value = serde_json::from_str(&place.text("linear/config.json")).unwrap();
    assert_eq!(config["model"]["likelihood"], "nb");
    assert_eq!(config["model"]["use_observed_lib_size"], false);
    assert!(config["model"]["decoder"]["linear"].is_object());
    place.train(
        "observed",
        "--max-epochs 1 --linear --observed-library-size --likelihood poisson",
    );
    let config: Value = serde_json::from_str(&place.text("observed/config.json")).unwrap();
    assert_eq!(config["model"]["likelihood"], "poisson");
    assert_eq!(config["model"]["use_observed_lib_size"], true);
}

/// Counts read from the file give the same model and the same numbers as counts in memory.
#[test]
fn backed_is_the_same() {
    let place = Place::new();
    place.train("memory", "--max-epochs 2");
    place.train("disk", "--max-epochs 2 --backed");
    assert_eq!(place.weights("memory"), place.weights("disk"));
    place.ok("embed memory cells.h5ad --out memory.h5ad");
    place.ok("embed memory cells.h5ad --out disk.h5ad --backed");
    let [memory, disk] = ["memory.h5ad", "disk.h5ad"].map(|n| sc_io::read(place.path(n)).unwrap());
    assert_eq!(memory.obsm, disk.obsm);
    assert_eq!(memory.obs, disk.obs);
    assert!(disk.x.is_none());
    let arguments = "evaluate memory cells.h5ad --posterior-mean --json";
    assert_eq!(
        place.ok(arguments),
        place.ok(&format!("{arguments} --backed"))
    );
}

/// Runs of cells are shuffled and read ahead from the disk as they are from memory.
#[test]
fn runs_of_cells_are_the_same_from_disk() {
    let place = Place::new();
    let options = "--max-epochs 2 --block-size 16 --blocks 4 --validate-every 1";
    place.train("memory", options);
    place.train("disk", &format!("{options} --backed"));
    assert_eq!(place.weights("memory"), place.weights("disk"));
    place.train("cells", "--max-epochs 2 --validate-every 1");
    assert_ne!(place.weights("memory"), place.weights("cells"));
    let error =
        place.error("train scvi cells.h5ad --out no --batch-size 8 --block-size 3 --blocks 3");
    common::says(&error, &["3 runs of 3 cells", "multiple of batch_size, 8"]);
}

/// Genes of new cells are found by name, in any order and among others.
#[test]
fn genes_are_matched_by_name() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let backwards: Vec<usize> = (0..GENES).rev().collect();
    place.put(
        "backwards.h5ad",
        &common::small().select_vars(&backwards).unwrap(),
    );
    place.ok("embed model cells.h5ad --out a.h5ad");
    place.ok("embed model backwards.h5ad --out b.h5ad");
    let [a, b] = ["a.h5ad", "b.h5ad"].map(|n| sc_io::read(place.path(n)).unwrap());
    assert_eq!(a.obsm, b.obsm);
    place.ok("expression model backwards.h5ad --out c.h5ad --posterior-mean");
    let c = sc_io::read(place.path("c.h5ad")).unwrap();
    assert_eq!(c.var, common::small().var);
}

#[test]
fn files_are_inspected_and_converted() {
    let place = Place::new();
    let found = json(&place.ok("inspect cells.h5ad --json"));
    assert_eq!(
        (&found["n_obs"], &found["n_vars"]),
        (&CELLS.into(), &GENES.into())
    );
    let columns = found["obs"]["columns"].as_array().unwrap();
    assert!(
        columns
            .iter()
            .any(|c| c["name"] == "batch" && c["n_categories"] == 7)
    );
    let text = place.ok("inspect cells.h5ad");
    common::says(&text, &["300 cells x 120 features", "batch", "Murray_b01"]);

    place.ok("convert cells.h5ad folder");
    place.ok("convert folder back.h5ad --gzip 9");
    let [before, after] = ["cells.h5ad", "back.h5ad"].map(|n| sc_io::read(place.path(n)).unwrap());
    assert_eq!(after.x.unwrap().to_csr(), before.x.unwrap().to_csr());
    assert_eq!(after.obs.index(), before.obs.index());
    common::says(
        &place.error("convert cells.h5ad out.h5ad --genome hg19"),
        &["--genome", "h5ad"],
    );
    // A folder trains as well.
    place.ok("train scvi folder --out model --max-epochs 1 --n-hidden 8");
    assert!(place.path("model/model.safetensors").is_file());
}

/// A reader that stops reading is no error.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_fine() {
    let place = Place::new();
    let mut child = common::spawn(
        place
            .command("inspect cells.h5ad")
            .stdout(std::process::Stdio::piped()),
    );
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Models that scvi-tools saved, and their data.
#[test]
fn folders_of_scvi_tools_work() {
    let Some(shared) = std::env::var_os("SC_SHARED").map(std::path::PathBuf::from) else {
        eprintln!("skipped: SC_SHARED is not set");
        return;
    };
    let golden = shared.join("golden/scvi");
    let place = Place::empty();
    for (model, data) in [
        ("kang_default", "kang"),
        ("kang_embed", "kang"),
        ("kang_nb_cov", "kang"),
        ("worm_learnlib", "worm_ref"),
        ("worm_ref_ln", "worm_ref"),
        ("kang_scanvi", "kang"),
    ] {
        let model = golden.join("models").join(model);
        let data = golden.join("data").join(format!("{data}.h5ad"));
        let both = format!("{} {}", model.display(), data.display());
        place.ok(&format!("embed {both} --out out.h5ad"));
        let scores = json(&place.ok(&format!("evaluate {both} --json")));
        assert!(scores["elbo"].as_f64().unwrap() < 0.0);
    }
    let other = golden.join("upstream_models/0150_totalvi_model.pt");
    let message = place.error(&format!("evaluate {} x.h5ad", other.display()));
    common::says(&message, &["TOTALVI", "SCANVI"]);
}
