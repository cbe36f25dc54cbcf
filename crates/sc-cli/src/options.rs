//! How values of options are read.

use sc_latent::{BatchRepresentation, LibrarySize};
use sc_model::train::Shuffle;

/// scvi-tools' length of the vector of a batch.
const EMBEDDING: usize = 5;

/// In which order cells are read.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// Shuffle runs of so many neighbouring cells, and the cells of several runs, instead of all cells: with --backed and a
    /// compressed file this is many times faster
    #[arg(long, value_name = "CELLS", value_parser = at_least_one)]
    block_size: Option<usize>,
    /// How many such runs are mixed at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one, requires = "block_size")]
    blocks: usize,
}

impl Order {
    pub(crate) fn shuffle(&self) -> Shuffle {
        match self.block_size {
            None => Shuffle::Cells,
            Some(rows) => Shuffle::Blocks {
                rows,
                at_once: self.blocks,
            },
        }
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("not a whole number".into()),
    }
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if v > 0.0 && v <= 1.0 => Ok(v),
        _ => Err("not a share of the cells: more than 0, up to 1".into()),
    }
}

/// A probability that is neither impossible nor certain.
pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if v > 0.0 && v < 1.0 => Ok(v),
        _ => Err("not a number between 0 and 1, without either".into()),
    }
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v >= 0.0 => Ok(v),
        _ => Err("not a number from 0".into()),
    }
}

pub(crate) fn library_size(text: &str) -> Result<LibrarySize, String> {
    if text == "latent" {
        return Ok(LibrarySize::Latent);
    }
    match text.parse::<f64>() {
        Ok(size) if size.is_finite() && size > 0.0 => Ok(LibrarySize::Fixed(size)),
        _ => Err("neither a positive number nor \"latent\"".into()),
    }
}

pub(crate) fn batch_representation(text: &str) -> Result<BatchRepresentation, String> {
    let wrong = || "choose one-hot, embedding or embedding:LENGTH".to_owned();
    match text.split_once(':') {
        None if text == "one-hot" => Ok(BatchRepresentation::OneHot),
        None if text == "embedding" => Ok(BatchRepresentation::Embedding { dim: EMBEDDING }),
        Some(("embedding", dim)) => Ok(BatchRepresentation::Embedding {
            dim: at_least_one(dim).map_err(|_| wrong())?,
        }),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(at_least_one("3"), Ok(3));
        assert!(at_least_one("0").is_err() && at_least_one("x").is_err());
        assert_eq!(share("1"), Ok(1.0));
        assert!(share("0").is_err() && share("1.1").is_err() && share("NaN").is_err());
        assert_eq!(probability("0.05"), Ok(0.05));
        for wrong in ["0", "1", "-0.1", "5", "NaN", "5%", ""] {
            assert!(probability(wrong).is_err(), "{wrong}");
        }
        assert!(not_negative("-1").is_err() && not_negative("inf").is_err());
        assert_eq!(library_size("latent"), Ok(LibrarySize::Latent));
        assert_eq!(library_size("1e4"), Ok(LibrarySize::Fixed(1e4)));
        assert!(library_size("0").is_err() && library_size("observed").is_err());
        assert_eq!(
            batch_representation("embedding:3"),
            Ok(BatchRepresentation::Embedding { dim: 3 })
        );
        assert_eq!(
            batch_representation("embedding"),
            Ok(BatchRepresentation::Embedding { dim: 5 })
        );
        assert!(
            batch_representation("embedding:0").is_err()
                && batch_representation("two-hot").is_err()
        );
    }
}
