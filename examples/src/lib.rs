//! What the examples share: plots, a table, and where their results go. The examples themselves lie beside `src`, one
//! file a story.

pub mod report;
pub mod view;

pub use sc_plot as plots;

use std::path::{Path, PathBuf};

/// A file of `tests/data`, wherever the example was started.
pub fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name)
}

/// `target/<name>`, made if it is not there: below `CARGO_TARGET_DIR` if that is set, else in the workspace.
///
/// # Errors
/// If the folder can't be made.
pub fn output_dir(name: &str) -> std::io::Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    let dir = target.join(name);
    std::fs::create_dir_all(&dir)?;
    dir.canonicalize()
}

/// The code of the workspace's README must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
