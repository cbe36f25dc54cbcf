//! How many inputs the networks have.

use crate::config::BatchRepresentation;
use crate::{Registry, ScviConfig};

/// Widths of the inputs of the networks.
pub(super) struct Widths {
    pub(super) encoder_in: usize,
    pub(super) encoder_one_hots: usize,
    pub(super) decoder_in: usize,
    pub(super) decoder_one_hots: usize,
}

/// A category with one level carries no information and gets no column.
pub(crate) fn one_hot_width(levels: usize) -> usize {
    if levels > 1 { levels } else { 0 }
}

impl Widths {
    pub(super) fn new(c: &ScviConfig, r: &Registry) -> Self {
        let (batch_one_hot, batch_vector) = match c.batch_representation {
            BatchRepresentation::OneHot => (one_hot_width(r.batches.len()), 0),
            BatchRepresentation::Embedding { dim } => (0, dim),
        };
        let covariates: usize = r
            .categorical_covariates
            .iter()
            .map(|c| one_hot_width(c.len()))
            .sum();
        let one_hots = batch_one_hot.saturating_add(covariates);
        let dense = r
            .setup
            .continuous_covariate_keys
            .len()
            .saturating_add(batch_vector);
        let encoded = usize::from(c.encode_covariates);
        Self {
            encoder_in: r.n_genes().saturating_add(encoded * dense),
            encoder_one_hots: encoded * one_hots,
            decoder_in: c.n_latent.saturating_add(dense),
            decoder_one_hots: one_hots,
        }
    }
}
