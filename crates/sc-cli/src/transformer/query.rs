//! Options of the commands that use a model.

use std::path::PathBuf;

use sc_transformer::scbert::CellsConfig;

use super::model::{Foreign, Transformer};
use crate::error::{Error, Result};
use crate::options::at_least_one;

/// Options of the commands that use a trained model.
#[derive(Debug, clap::Args)]
pub(super) struct Query {
    /// Folder with scGPT (a released checkpoint, or of `sc transformer finetune`) or scBERT
    pub(super) model: PathBuf,
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) foreign: Foreign,
    #[command(flatten)]
    pub(super) matrix: MatrixOptions,
    #[command(flatten)]
    pub(super) scgpt: ScgptOptions,
    #[command(flatten)]
    pub(super) scbert: ScbertOptions,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
}

impl Query {
    /// Refuses options of the model that is not there.
    pub(super) fn check(&self, model: &Transformer) -> Result<()> {
        match model {
            Transformer::Scgpt(_) => refuse(Which::Scgpt, &self.scbert.given()),
            Transformer::Scbert(_) => refuse(Which::Scbert, &self.scgpt.given()),
        }
    }
}

/// Which matrix, and what its columns are called.
#[derive(Debug, clap::Args)]
pub(super) struct MatrixOptions {
    /// Take this layer instead of X
    #[arg(long, value_name = "NAME")]
    pub(super) layer: Option<String>,
    /// Column of var with the names of the genes that the model knows them by [default: the index of var]
    #[arg(long, value_name = "COLUMN")]
    pub(super) gene_key: Option<String>,
    /// Leave the matrix in the .h5ad file and read it some cells at a time; a copy then has no X, layers and raw
    #[arg(long)]
    pub(super) backed: bool,
}

/// What only scGPT has.
#[derive(Debug, clap::Args)]
pub(super) struct ScgptOptions {
    /// scGPT: look genes that are not in the vocabulary up again without regard to upper and lower case
    #[arg(long)]
    pub(super) ignore_case: bool,
    /// scGPT: the most tokens of a cell, `<cls>` included; of a cell with more, a random sample is read [default: as it was
    /// trained, and 1200 for released models]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) max_length: Option<usize>,
    /// scGPT: tokens of a minibatch, on which memory depends and the result does not [default: at most 16384, within 1 GB]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) batch_tokens: Option<usize>,
    /// scGPT: column of obs with the batch, for models that are told it [default: as it was trained]
    #[arg(long, value_name = "COLUMN")]
    pub(super) batch_key: Option<String>,
    /// scGPT: seed of the samples of genes and of the bins of equal values [default: 0]
    #[arg(long)]
    pub(super) seed: Option<u64>,
}

impl ScgptOptions {
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    pub(super) fn given(&self) -> Vec<Given> {
        vec![
            ("--ignore-case", self.ignore_case),
            ("--max-length", self.max_length.is_some()),
            ("--batch-tokens", self.batch_tokens.is_some()),
            ("--batch-key", self.batch_key.is_some()),
            ("--seed", self.seed.is_some()),
        ]
    }
}

/// What only scBERT has.
#[derive(Debug, clap::Args)]
pub(super) struct ScbertOptions {
    /// scBERT: leave out cells in which fewer genes of the model are detected [default: 200]
    #[arg(long, value_name = "N")]
    min_genes: Option<usize>,
}

impl ScbertOptions {
    pub(super) fn config(&self) -> CellsConfig {
        let mut config = CellsConfig::default();
        config.min_genes = self.min_genes.unwrap_or(config.min_genes);
        config
    }

    pub(super) fn given(&self) -> Vec<Given> {
        vec![("--min-genes", self.min_genes.is_some())]
    }
}

/// A model of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Which {
    Scgpt,
    Scbert,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Scgpt => "scGPT",
            Self::Scbert => "scBERT",
        }
    }
}

/// An option, and whether it was given.
pub(super) type Given = (&'static str, bool);

/// Refuses options that only the other model has: they would change nothing, and nobody would notice.
pub(super) fn refuse(model: Which, options: &[Given]) -> Result<()> {
    let given: Vec<&str> = options.iter().filter(|o| o.1).map(|o| o.0).collect();
    if given.is_empty() {
        return Ok(());
    }
    let other = match model {
        Which::Scgpt => Which::Scbert,
        Which::Scbert => Which::Scgpt,
    };
    let (model, other) = (model.name(), other.name());
    Err(Error::Message(format!(
        "{}: for {other} only, and the model is {model}; leave it out",
        given.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_other_model_are_named() {
        let given = [
            ("--freeze", true),
            ("--seed", false),
            ("--max-length", true),
        ];
        let message = match refuse(Which::Scbert, &given) {
            Err(e) => e.to_string(),
            Ok(()) => String::new(),
        };
        assert!(message.starts_with("--freeze, --max-length: for scGPT only"));
        assert!(refuse(Which::Scgpt, &[("--min-genes", false)]).is_ok());
    }
}
