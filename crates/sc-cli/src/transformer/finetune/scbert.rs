//! scBERT before it is trained.

use candle_core::Device;
use sc_transformer::scbert::{GenePanel, Scbert};

use super::Common;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::transformer::cells::Data;
use crate::transformer::model::{self, Foreign, Transformer};

/// Sizes of scBERT with random weights.
#[derive(Debug, clap::Args)]
pub(super) struct Performer {
    /// Width of scBERT from scratch
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    dim: usize,
    /// Its blocks
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = at_least_one)]
    depth: usize,
    /// Its attention heads
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    heads: usize,
    /// Numbers of a head
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    dim_head: usize,
}

/// The model to begin with; random, of the genes of the data, if none was named.
pub(super) fn pretrained(
    common: &Common,
    foreign: &Foreign,
    sizes: &Performer,
    data: &Data,
) -> Result<Scbert> {
    let Some(path) = &common.from else {
        let mut seen = std::collections::HashSet::new();
        let once = data.genes.iter();
        let once = once.filter(|g| !g.is_empty() && seen.insert(g.as_str()));
        let panel = GenePanel::new(once.cloned())?;
        let params = Scbert::params(panel).dim(sizes.dim).depth(sizes.depth);
        let params = params.heads(sizes.heads).dim_head(sizes.dim_head);
        return Ok(params.check()?.init(&Device::Cpu, common.training.seed)?);
    };
    match model::open(path, foreign)? {
        Transformer::Scbert(model) => Ok(*model),
        Transformer::Scgpt(_) => Err(Error::Message(format!(
            "{}: holds scGPT, and scBERT was asked for",
            path.display()
        ))),
    }
}
