#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod bytes;
mod golden;
mod hostile;
mod round_trip;
mod types;

use std::path::PathBuf;

/// The folder of golden files; tests that need it pass where it is not given.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SC_SHARED").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SC_SHARED does not name the folder of golden files");
    }
    folder
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/pytorch")
        .join(name)
}
