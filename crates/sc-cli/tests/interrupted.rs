//! The same weights on any number of threads, and after any interruption.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Place, says, training};

fn wait_for(path: &Path, child: &mut Child) {
    let start = Instant::now();
    while !path.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before {} was there",
            path.display()
        );
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} never came",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn threads_do_not_matter() {
    let place = Place::new();
    place.train("one", "--max-epochs 3 --validate-every 1 --threads 1");
    place.train("two", "--max-epochs 3 --validate-every 1 --threads 2");
    assert_eq!(place.weights("one"), place.weights("two"));
    assert_eq!(place.text("one/history.csv"), place.text("two/history.csv"));
    place.train(
        "other",
        "--max-epochs 3 --validate-every 1 --threads 2 --seed 1",
    );
    assert_ne!(place.weights("one"), place.weights("other"));
}

#[test]
fn killed_and_resumed() {
    let place = Place::new();
    let more = "--max-epochs 40 --validate-every 4 --checkpoint-every-step";
    place.train("whole", more);
    let mut child = common::spawn(
        place
            .command(&training("killed", more))
            .stderr(Stdio::null()),
    );
    wait_for(&place.path("killed/checkpoint.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        place.path("killed/checkpoint.safetensors").exists(),
        "it was not killed in time"
    );
    assert!(!place.path("killed/model.safetensors").exists());

    says(
        &place.error("embed killed cells.h5ad --out out.h5ad"),
        &["--resume"],
    );
    says(
        &place.error(&training("killed", more)),
        &["--resume", "--overwrite"],
    );
    let other = place.error(&training(
        "killed",
        &format!("{more} --resume --lr 0.01 --dropout-rate 0.3"),
    ));
    says(
        &other,
        &[
            "train.lr: 0.001 then, 0.01 now",
            "model.dropout_rate: 0.1 then, 0.3 now",
        ],
    );

    let fewer = more.replace("--max-epochs 40", "--max-epochs 39");
    let fewer = place.error(&training("killed", &format!("{fewer} --resume")));
    says(&fewer, &["epochs: 40 then, 39 now"]);

    place.train("killed", &format!("{more} --resume"));
    assert_eq!(place.weights("whole"), place.weights("killed"));
    assert_eq!(
        place.text("whole/history.csv"),
        place.text("killed/history.csv")
    );
    assert!(!place.path("killed/checkpoint.safetensors").exists());
    says(
        &place.error(&training("killed", &format!("{more} --resume"))),
        &["finished"],
    );
}

/// More epochs than the interrupted run was to have, on another number of threads.
#[test]
fn resumed_for_longer() {
    let place = Place::new();
    place.train("whole", "--max-epochs 30");
    let short = training(
        "stopped",
        "--max-epochs 20 --checkpoint-every-step --threads 1",
    );
    let mut child = common::spawn(place.command(&short).stderr(Stdio::null()));
    wait_for(&place.path("stopped/checkpoint.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    place.train("stopped", "--max-epochs 30 --threads 2 --resume");
    assert_eq!(place.weights("whole"), place.weights("stopped"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let place = Place::new();
    // No checkpoint but that of the signal.
    let more = "--max-epochs 200 --checkpoint-minutes 1000";
    for signal in ["-INT", "-TERM"] {
        let out = format!("stopped{signal}");
        let mut child = common::spawn(place.command(&training(&out, more)).stderr(Stdio::piped()));
        wait_for(&place.path(&out).join("history.csv"), &mut child);
        assert!(!place.path(&out).join("checkpoint.safetensors").exists());
        let sent = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{text}");
        says(
            &text,
            &["interrupted", "checkpoint.safetensors", "--resume"],
        );
        assert!(place.path(&out).join("checkpoint.safetensors").is_file());
        assert!(!place.path(&out).join("model.safetensors").exists());
        place.train(&out, &format!("{more} --resume"));
    }
    place.train("whole", more);
    assert_eq!(place.weights("whole"), place.weights("stopped-INT"));
    assert_eq!(place.weights("whole"), place.weights("stopped-TERM"));
    assert_eq!(
        place.text("whole/history.csv"),
        place.text("stopped-INT/history.csv")
    );
}

#[test]
fn overwriting_starts_anew() {
    let place = Place::new();
    place.train("fresh", "--max-epochs 2");
    let long = training(
        "old",
        "--max-epochs 200 --n-latent 3 --checkpoint-every-step",
    )
    .replace("--n-latent 4", "");
    let mut child = common::spawn(place.command(&long).stderr(Stdio::null()));
    wait_for(&place.path("old/checkpoint.safetensors"), &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    // Other cells can't go on with it.
    place.put(
        "cells.h5ad",
        &common::small()
            .select_obs(&(0..300).rev().collect::<Vec<_>>())
            .unwrap(),
    );
    says(
        &place.error(&format!("{long} --resume")),
        &["the names or the order of the cells differ"],
    );
    place.put("cells.h5ad", &common::small());
    place.train("old", "--max-epochs 2 --overwrite");
    assert_eq!(place.weights("fresh"), place.weights("old"));
}
