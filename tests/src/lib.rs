//! What the tests that cross crates share: where the big reference files are, and how to read NumPy's archives.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod npz;

pub use npz::Npz;

use std::path::PathBuf;

/// The folder with reference numbers and real data, which is not part of the repository: `$SC_SHARED`. Tests that need it
/// say so and pass without it.
pub fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("SC_SHARED").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: SC_SHARED is not set");
    }
    dir
}

/// The small real files of the repository.
pub fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The largest difference, each divided by `scale(expected)`; both must have the same length and be finite alike.
pub fn worst(found: &[f64], expected: &[f64], scale: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let mut worst = 0.0f64;
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!(
            f.is_finite() == e.is_finite(),
            "entry {i}: {f} instead of {e}"
        );
        if e.is_finite() {
            worst = worst.max((f - e).abs() / scale(e));
        }
    }
    worst
}

/// Relative to each number.
pub fn worst_relative(found: &[f64], expected: &[f64]) -> f64 {
    worst(found, expected, |e| e.abs().max(1e-30))
}
