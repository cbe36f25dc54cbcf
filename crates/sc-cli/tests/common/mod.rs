//! Runs the built `sc` on a small piece of real data.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sc_data::AnnData;
use sc_io::h5ad::WriteOptions;

pub(crate) const CELLS: usize = 300;
pub(crate) const GENES: usize = 120;

/// A program that starts while libhdf5 writes a file inherits that file with its lock, and then nobody can read it: one
/// at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    let _alone = alone();
    command.spawn().unwrap()
}

/// A real data set of the repository: 1,805 cells of worm embryos in 7 batches.
pub(crate) fn worm() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/worm_embryo.h5ad")
}

/// Every sixth cell, and the genes with the most counts in them.
pub(crate) fn small() -> AnnData {
    let all = sc_io::read(worm()).unwrap();
    let cells: Vec<usize> = (0..CELLS).map(|i| 6 * i).collect();
    let some = all.select_obs(&cells).unwrap();
    let counts = some.x.as_ref().unwrap().to_csr();
    let mut sums = vec![0.0f64; counts.n_cols()];
    for (&gene, &count) in counts.indices().iter().zip(counts.data()) {
        sums[gene as usize] += f64::from(count);
    }
    let mut genes: Vec<usize> = (0..sums.len()).collect();
    genes.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
    genes.truncate(GENES);
    some.select_vars(&genes).unwrap()
}

/// A folder with `cells.h5ad`, removed at the end.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(&small())
    }

    pub(crate) fn with(data: &AnnData) -> Self {
        let place = Self::empty();
        place.put("cells.h5ad", data);
        place
    }

    pub(crate) fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn put(&self, name: &str, data: &AnnData) {
        let _alone = alone();
        sc_io::write(self.path(name), data, &WriteOptions::default()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `sc` with arguments separated by spaces, in this folder.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sc"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn sc(&self, arguments: &str) -> Output {
        let mut command = self.command(arguments);
        spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .wait_with_output()
            .unwrap()
    }

    /// What it prints, if it succeeds.
    pub(crate) fn ok(&self, arguments: &str) -> String {
        let output = self.sc(arguments);
        assert!(
            output.status.success(),
            "sc {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The error, which must come with exit code 1, without a panic and without anything on standard output.
    pub(crate) fn error(&self, arguments: &str) -> String {
        self.refusal(arguments, 1)
    }

    /// The same of a command line that can't be understood: exit code 2.
    pub(crate) fn misuse(&self, arguments: &str) -> String {
        self.refusal(arguments, 2)
    }

    fn refusal(&self, arguments: &str, code: i32) -> String {
        let output = self.sc(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "sc {arguments}: {text}");
        assert!(
            text.contains("error: ") && !text.contains("panicked"),
            "sc {arguments}: {text}"
        );
        assert!(output.stdout.is_empty(), "sc {arguments}: {text}");
        text
    }

    /// Training of a small model, quickly.
    pub(crate) fn train(&self, out: &str, more: &str) -> String {
        self.ok(&training(out, more))
    }

    /// The bytes of `model.safetensors`: weights, settings, split and history.
    pub(crate) fn weights(&self, model: &str) -> Bytes {
        let bytes = std::fs::read(self.path(model).join("model.safetensors")).unwrap();
        assert!(bytes.len() > 10_000);
        Bytes(bytes)
    }

    /// A matrix in obsm of a file.
    pub(crate) fn obsm(&self, file: &str, key: &str) -> ndarray::Array2<f32> {
        let data = sc_io::read(self.path(file)).unwrap();
        match data.obsm.get(key) {
            Some(sc_data::Annotation::Matrix(m)) => m.to_dense(),
            other => panic!("{key}: {other:?}"),
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

pub(crate) fn training(out: &str, more: &str) -> String {
    format!(
        "train scvi cells.h5ad --out {out} --batch-key batch --n-hidden 16 --n-latent 4 --batch-size 64 {more}"
    )
}

/// What a command prints as JSON.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The sizes of a small scGPT.
pub(crate) const SCGPT: &str = "--d-model 16 --n-heads 2 --d-hid 16 --n-layers 2";

/// The message has all of these words.
#[track_caller]
pub(crate) fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(
            message.contains(word),
            "\"{word}\" is missing in: {message}"
        );
    }
}

/// Bytes that are not printed when they differ.
#[derive(PartialEq)]
pub(crate) struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
