//! What the tests that cross crates share: where the big reference files are, how to read NumPy's archives, and how far
//! numbers are from those of a reference.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod compare;
mod npz;

pub use compare::{gradients, near, numbers, pick, values, worst, worst_relative};
pub use npz::Npz;

use std::path::{Path, PathBuf};

/// The folder with reference numbers and real data, which is not part of the repository: `$SC_SHARED`. Tests that need it
/// say so and pass without it.
pub fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("SC_SHARED").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: SC_SHARED is not set");
    }
    dir
}

/// The folder with the numbers that scvi-tools computed, below [`shared`].
pub fn golden() -> Option<PathBuf> {
    Some(shared()?.join("golden/scvi"))
}

/// The small real files of the repository.
pub fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// A file of JSON.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
