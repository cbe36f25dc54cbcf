//! Which parameters of a query model are trained, by their names.

use std::ops::Range;

use sc_model::{Param, Params};

use super::growth::Growth;
use super::{Query, QueryOptions};
use crate::{Dispersion, Parity, Registry, Result, ScviConfig};

/// How much of a parameter is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trains {
    All,
    Nothing,
    /// These slices along a dimension of the layout in files.
    Only(usize, Vec<Range<usize>>),
}

/// The network that a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    ZEncoder,
    LibraryEncoder,
    Decoder,
    Classifier,
    LabelEncoder,
    LabelDecoder,
    None,
}

/// The place of a parameter in the hidden layers of a network: which block, and which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: usize,
    part: usize,
}

/// The linear map of a block.
const LINEAR: usize = 0;
/// Its batch norm.
const BATCH_NORM: usize = 1;

impl Network {
    fn of(name: &str) -> Self {
        match name.split('.').next() {
            Some("z_encoder") => Self::ZEncoder,
            Some("l_encoder") => Self::LibraryEncoder,
            Some("decoder") => Self::Decoder,
            Some("classifier") => Self::Classifier,
            Some("encoder_z2_z1") => Self::LabelEncoder,
            Some("decoder_z1_z2") => Self::LabelDecoder,
            _ => Self::None,
        }
    }
}

impl Place {
    /// Reads it off `...fc_layers.Layer 0.1.weight`.
    fn of(name: &str) -> Option<Self> {
        let (_, rest) = name.split_once("fc_layers.Layer ")?;
        let mut numbers = rest.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(block)), Some(Ok(part))) => Some(Self { block, part }),
            _ => None,
        }
    }
}

/// Freezes the parameters of a query model, and the running statistics of its batch norms.
pub(super) fn freeze(
    params: &Params,
    config: &ScviConfig,
    registry: &Registry,
    query: &Query,
) -> Result<()> {
    let rules = Rules {
        options: &query.options,
        growth: Growth::new(config, query, registry),
        encodes_covariates: config.encode_covariates,
        injects_deeply: config.deeply_inject_covariates,
        dispersion_of_batches: config.dispersion == Dispersion::GeneBatch,
        learns_library: !config.use_observed_lib_size && registry.setup.size_factor_key.is_none(),
    };
    for param in params.iter() {
        match rules.of(param) {
            Trains::All => param.set_trainable(true),
            Trains::Nothing => param.set_trainable(false),
            Trains::Only(dim, slices) => param.train_only(dim, &slices)?,
        }
    }
    Ok(())
}

struct Rules<'a> {
    options: &'a QueryOptions,
    growth: Growth,
    encodes_covariates: bool,
    injects_deeply: bool,
    dispersion_of_batches: bool,
    learns_library: bool,
}

impl Rules<'_> {
    fn of(&self, param: &Param) -> Trains {
        let (o, name) = (self.options, param.name());
        let network = Network::of(name);
        if o.unfrozen {
            return Trains::All;
        }
        if network == Network::LibraryEncoder {
            return all_if(self.learns_library || o.parity == Parity::Upstream);
        }
        match Place::of(name) {
            Some(place) if place.part == BATCH_NORM => all_if(self.batch_norm_trains(network)),
            Some(place) if place.part == LINEAR => self.linear(param, network, place),
            _ if network == Network::Classifier => all_if(!o.freeze_classifier),
            _ => self.of_batches(param),
        }
    }

    fn batch_norm_trains(&self, network: Network) -> bool {
        let o = self.options;
        match network {
            Network::ZEncoder | Network::LabelEncoder => !o.freeze_batchnorm_encoder,
            Network::Decoder | Network::LabelDecoder => !o.freeze_batchnorm_decoder,
            // scvi-tools takes ".0." in the names of a classifier for that of a linear map.
            Network::Classifier => !o.freeze_classifier || o.parity == Parity::Upstream,
            Network::LibraryEncoder | Network::None => true,
        }
    }

    fn linear(&self, param: &Param, network: Network, place: Place) -> Trains {
        let o = self.options;
        match network {
            Network::Classifier if !o.freeze_classifier => Trains::All,
            Network::ZEncoder if place.block == 0 && !o.freeze_expression => Trains::All,
            Network::Decoder if place.block == 0 && !o.freeze_decoder_first_layer => Trains::All,
            Network::ZEncoder | Network::Decoder | Network::Classifier => {
                self.covariates_of(param, network, place)
            }
            _ => Trains::Nothing,
        }
    }

    /// Only the inputs of covariates: those of new categories, and in scvi-tools those of all.
    fn covariates_of(&self, param: &Param, network: Network, place: Place) -> Trains {
        let reads = match network {
            Network::ZEncoder => self.encodes_covariates,
            Network::Decoder => true,
            _ => false,
        };
        let reads = reads && (place.block == 0 || self.injects_deeply);
        let shape = param.export_shape();
        let inputs = match shape.as_slice() {
            &[_, n_in] if reads => n_in,
            _ => 0,
        };
        match (self.options.parity, inputs) {
            // A mask without any entry: weight decay still pulls, as in scvi-tools.
            (Parity::Upstream, 0) => Trains::Only(shape.len() - 1, Vec::new()),
            (Parity::Upstream, n) => Trains::Only(1, vec![self.growth.one_hot_inputs(n)]),
            (Parity::Correct, 0) => Trains::Nothing,
            (Parity::Correct, n) => only(1, self.growth.new_inputs(n)),
        }
    }

    /// Parameters with a slice for each batch.
    fn of_batches(&self, param: &Param) -> Trains {
        let dim = match param.name() {
            "_embeddings_dict.batch.weight" => 0,
            "px_r" if self.dispersion_of_batches => 1,
            _ => return Trains::Nothing,
        };
        match self.options.parity {
            Parity::Upstream => Trains::Nothing,
            Parity::Correct => only(dim, vec![self.growth.new_batches()]),
        }
    }
}

fn all_if(yes: bool) -> Trains {
    if yes { Trains::All } else { Trains::Nothing }
}

fn only(dim: usize, slices: Vec<Range<usize>>) -> Trains {
    if slices.iter().all(Range::is_empty) {
        Trains::Nothing
    } else {
        Trains::Only(dim, slices)
    }
}
