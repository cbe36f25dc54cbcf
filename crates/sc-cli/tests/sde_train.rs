//! `sc sde train`: what it leaves, what it goes on with, what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Place, json, says};
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Csr};

/// 90 cells at three times, drifting to the right, with obsm X_pca and columns of several kinds.
fn cells() -> AnnData {
    let n = 90;
    let mut data = AnnData::default();
    data.obs = sc_data::Table::new((0..n).map(|i| format!("cell{i}")).collect());
    data.var = sc_data::Table::new(vec!["gene".into()]);
    data.x = Some(Csr::zeros(n, 1).into());
    let day = |i: usize| (i % 3) as f64 * 2.0 + 2.0;
    let states = Array2::from_shape_fn((n, 3), |(i, j)| {
        let noise = ((i * 13 + j * 7) % 17) as f32 / 17.0;
        noise + if j == 0 { day(i) as f32 } else { 0.0 }
    });
    let mut lost = states.clone();
    lost[(7, 1)] = f32::NAN;
    data.obsm.insert("X_pca".into(), states.into());
    data.obsm.insert("X_lost".into(), lost.into());
    let floats = |of: &dyn Fn(usize) -> f64| Column::Float((0..n).map(of).collect());
    let labels: Vec<String> = (0..n).map(|i| format!("{}", day(i))).collect();
    let columns = [
        ("day", floats(&day)),
        (
            "day_label",
            Column::Categorical(Categorical::from_labels(&labels)),
        ),
        ("same", floats(&|_| 2.0)),
        ("pseudotime", floats(&|i| day(i) / 6.0)),
        ("rate", floats(&|i| 0.1 * (i % 5) as f64)),
        ("lonely", floats(&|i| if i == 4 { 9.0 } else { day(i) })),
        (
            "wild",
            floats(&|i| if i == 6 { f64::INFINITY } else { 0.1 }),
        ),
        ("timed", Column::Bool((0..n).map(|i| i != 4).collect())),
        ("nobody", Column::Bool(vec![false; n])),
        ("holes", floats(&|i| if i == 4 { f64::NAN } else { day(i) })),
        (
            "name",
            Column::Str((0..n).map(|i| format!("d{}", day(i))).collect()),
        ),
        (
            "early",
            Column::Bool((0..n).map(|i| day(i) < 5.0).collect()),
        ),
    ];
    for (name, column) in columns {
        data.obs.insert(name, column).unwrap();
    }
    data
}

const SMALL: &str = "--hidden 8,8 --sigma-hidden 4 --batch-size 16 --dt 0.5";

#[test]
fn a_model_and_how_it_was_trained() {
    let place = Place::with(&cells());
    let out = place.ok(&format!(
        "sde train cells.h5ad --out model --time-key day --growth-key rate --epochs 3 {SMALL} --json"
    ));
    let summary = json(&out);
    assert_eq!(
        (&summary["epochs"], &summary["n_cells"]),
        (&3.into(), &90.into())
    );
    assert_eq!(
        summary["history"]["validation_loss"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let record = json(&place.text("model/training.json"));
    assert_eq!(record["use_key"], "X_pca");
    assert_eq!(record["times"], serde_json::json!([2.0, 4.0, 6.0]));
    assert_eq!(record["training"]["dt"], 0.5);
    let model = sc_sde::model::ScDiffEq::load(place.path("model"), &candle_core::Device::Cpu);
    assert_eq!(model.unwrap().config().n_latent, 3);
    // Labels that are numbers are times, too.
    place.ok(&format!(
        "sde train cells.h5ad --out labels --time-key day_label --growth-key rate --epochs 3 {SMALL}"
    ));
    assert!(weights(&place, "labels") == weights(&place, "model"));
    for model in ["flow", "bridge"] {
        place.ok(&format!(
            "sde train cells.h5ad --out {model} --time-key day --model {model} --epochs 2 --hidden 8"
        ));
        let flow = sc_sde::flow::Flow::load(place.path(model), &candle_core::Device::Cpu);
        assert_eq!(flow.unwrap().config().sigma.is_some(), model == "bridge");
    }
    for more in [
        "--model prescient --hidden 8",
        "--drift neural --diffusion none --pretrain-epochs 2",
        "--n-latent 2 --pretrain-epochs 2",
        "--pseudotime-bins 2 --time-key pseudotime",
        "--train-key early --keep average",
    ] {
        let time = if more.contains("--time-key") {
            ""
        } else {
            "--time-key day"
        };
        let sizes = if more.contains("--hidden") {
            "--dt 0.5"
        } else {
            SMALL
        };
        place.ok(&format!(
            "sde train cells.h5ad --out other --epochs 2 {time} {sizes} {more}"
        ));
    }
}

#[test]
fn killed_and_resumed() {
    let place = Place::with(&cells());
    let command = |out: &str, more: &str| {
        format!(
            "sde train cells.h5ad --time-key day --epochs 100 {SMALL} --checkpoint-every-step --out {out} {more}"
        )
    };
    place.ok(&command("whole", ""));
    let mut child = common::spawn(
        place
            .command(&command("killed", ""))
            .stderr(std::process::Stdio::null()),
    );
    let checkpoint = place.path("killed/checkpoint.safetensors");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists() && !place.path("killed/model.safetensors").exists());
    let why = place.error(&command("killed", ""));
    says(&why, &["--resume", "--overwrite"]);
    let why = place.error(&command("killed", "--resume --blur 0.2"));
    says(&why, &["blur: 0.05 then, 0.2 now"]);
    place.ok(&command("killed", "--resume"));
    assert!(weights(&place, "killed") == weights(&place, "whole"));
    assert_eq!(
        place.text("killed/history.csv"),
        place.text("whole/history.csv")
    );
}

/// Pretraining is behind a checkpoint, and repeated where there is none yet.
#[test]
fn killed_after_and_in_pretraining() {
    let place = Place::with(&cells());
    for latent in ["", "--n-latent 2"] {
        let run = |out: &str, pretrain: usize, more: &str| {
            format!(
                "sde train cells.h5ad --time-key day --epochs 60 {SMALL} --checkpoint-every-step \
                 --pretrain-epochs {pretrain} --out {out} {latent} {more}"
            )
        };
        let kill_when = |command: &str, there: &std::path::Path, wait: u64| {
            let mut command = place.command(command);
            let mut child = common::spawn(command.stderr(std::process::Stdio::null()));
            while !there.exists() {
                assert!(child.try_wait().unwrap().is_none(), "it ended too early");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            std::thread::sleep(std::time::Duration::from_millis(wait));
            child.kill().unwrap();
            child.wait().unwrap();
        };
        place.ok(&run("whole", 20, ""));
        let out = format!("after{}", latent.len());
        let checkpoint = place.path(&out).join("checkpoint.safetensors");
        kill_when(&run(&out, 20, ""), &checkpoint, 0);
        let why = place.error(&run(&out, 30, "--resume"));
        says(&why, &["pretrain_epochs: 20 then, 30 now"]);
        place.ok(&run(&out, 20, "--resume"));
        assert!(weights(&place, &out) == weights(&place, "whole"));

        // More epochs of pretraining than anybody would wait for.
        let out = format!("in{}", latent.len());
        kill_when(&run(&out, 100_000_000, ""), &place.path(&out), 300);
        assert!(!place.path(&out).join("checkpoint.safetensors").exists());
        let why = place.error(&run(&out, 20, "--resume"));
        says(&why, &["leave --resume out"]);
        place.ok(&run(&out, 20, ""));
        assert!(weights(&place, &out) == weights(&place, "whole"));
    }
}

fn weights(place: &Place, model: &str) -> Vec<u8> {
    std::fs::read(place.path(model).join("model.safetensors")).unwrap()
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::with(&cells());
    let why = |more: &str| place.error(&format!("sde train cells.h5ad --out m {more}"));
    says(
        &why(""),
        &["none of the columns", "--time-key", "day_label"],
    );
    says(&why("--time-key hour"), &["hour", "day", "pseudotime"]);
    says(&why("--time-key day --use-key X_vae"), &["X_vae", "X_pca"]);
    says(
        &why("--time-key same"),
        &["obs same", "all 90 cells are of time 2"],
    );
    says(
        &why("--time-key holes"),
        &["holes of cell cell4 is NaN", "--train-key"],
    );
    says(
        &why("--time-key lonely"),
        &["time 9 has 1 cell", "validation share"],
    );
    says(
        &why("--time-key day --train-key nobody"),
        &["nobody", "true for no cell"],
    );
    says(
        &why("--time-key day --use-key X_lost"),
        &[
            "X_lost",
            "cell cell7 has NaN in dimension 1",
            "leave such cells out",
        ],
    );
    says(
        &why("--time-key day --growth-key wild"),
        &["wild of cell cell6 is inf"],
    );
    for blur in ["0", "-0.1", "NaN"] {
        let e = why(&format!("--time-key day --blur={blur}"));
        says(&e, &[&format!("blur = {blur}"), "a positive number"]);
    }
    // The first step is far too long; the second path leaves the finite numbers.
    says(
        &why(&format!("--time-key day --drift neural --lr 1e30 {SMALL}")),
        &[
            "epoch 0, minibatch 1",
            "diverged in step",
            "at time 2",
            "norm was",
            "smaller dt",
        ],
    );
    // A cell that doesn't train needs no time.
    place.ok(&format!(
        "sde train cells.h5ad --out known --time-key holes --train-key timed --epochs 1 {SMALL}"
    ));
    says(&why("--time-key name"), &["name is \"d2\"", "no number"]);
    says(
        &why("--time-key day --train-key rate"),
        &["rate holds numbers", "true and false"],
    );
    says(&why("--time-key day --growth-key no"), &["no", "rate"]);
    says(&why("--time-key day --dt 0"), &["dt = 0"]);
    says(
        &why("--time-key day --model flow --diffusion none"),
        &["--diffusion", "flow"],
    );
    let misuse = place.misuse("sde train cells.h5ad --out m --diffusion isotropic:x");
    says(&misuse, &["isotropic:SIGMA"]);
}
