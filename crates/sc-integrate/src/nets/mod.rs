//! The networks of CLUE, with the names that scglue gives their parameters.

mod adversary;
mod decoder;
mod encoder;
pub(crate) mod head;
mod library;
mod moments;
mod protein;

pub(crate) use adversary::Adversary;
pub(crate) use decoder::Decoder;
pub(crate) use encoder::Input;
pub(crate) use library::{LibraryLine, Line};

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use encoder::Encoder;
use sc_data::Csr;
use sc_model::layers::Linear;
use sc_model::{Init, Mode, ParamBuilder, Parity};
use sc_tensor::ops::{self, SparseInput};

use crate::cells::Part;
use crate::registry::{ModalityInfo, Registry};
use crate::{ClueConfig, Likelihood, Result};

/// Of the leaky ReLU.
const SLOPE: f64 = 0.2;
/// PyTorch's batch norm.
const MOMENTUM: f64 = 0.1;
const NORM_EPS: f64 = 1e-5;
/// The least standard deviation of a posterior.
const STD_FLOOR: f64 = 1e-7;

/// All networks.
#[derive(Debug, Clone)]
pub(crate) struct Nets {
    sources: Vec<Source>,
    pub(crate) decoders: Vec<Decoder>,
    pub(crate) adversary: Adversary,
    pub(crate) classifier: Option<Linear>,
    dtype: DType,
    device: Device,
}

/// The encoders of one modality, one for each subspace.
#[derive(Debug, Clone)]
struct Source {
    encoders: Vec<Encoder>,
    /// scglue's: library sizes in all modalities from the raw values.
    est_l: Option<Linear>,
    /// Ours: for each target that has a library size.
    lines: Vec<Option<LibraryLine>>,
    likelihood: Likelihood,
    sparse: bool,
}

/// What the encoders of a modality make of its rows.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// Posterior means, `[rows, modalities x latent_dim]`.
    pub(crate) loc: Tensor,
    /// Posterior standard deviations.
    pub(crate) std: Tensor,
}

impl Nets {
    pub(crate) fn new(p: &ParamBuilder<'_>, c: &ClueConfig, r: &Registry) -> Result<Self> {
        let with_lines = c.parity == Parity::Correct;
        let x2u = p.pp("x2u");
        let sources = r.modalities.iter().enumerate();
        let sources = sources.map(|(s, info)| {
            let p = x2u.pp(&info.name);
            let sparse = info.representation.is_none()
                && info.likelihood.is_of_counts()
                && c.encoder_depth > 0;
            let n_in = info.representation.unwrap_or(info.n_features());
            let encoders = (0..r.n_modalities())
                .map(|t| Encoder::new(&p.pp("encoders").pp(t), c, n_in, sparse))
                .collect::<Result<_>>()?;
            // scglue's NB encoder has it whatever the likelihood of the targets.
            let est_l = match !with_lines && info.likelihood.has_library() {
                true => {
                    let p = p.pp("est_l");
                    Some(Linear::new(&p, info.n_features(), r.n_modalities(), true)?)
                }
                false => None,
            };
            let lines = r.modalities.iter().enumerate().map(|(t, target)| {
                let wanted = with_lines && t != s && target.likelihood.has_library();
                wanted
                    .then(|| LibraryLine::new(&p.pp("library"), t))
                    .transpose()
            });
            Ok(Source {
                encoders,
                est_l,
                lines: lines.collect::<Result<_>>()?,
                likelihood: info.likelihood,
                sparse,
            })
        });
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let u2x = p.pp("u2x");
        let decoder = |(k, info): (usize, &ModalityInfo)| {
            let width = c.subspace(k, r.n_modalities()).len();
            Decoder::new(&u2x.pp(&info.name), c, info, (width, r.n_batches()))
        };
        let decoders = r.modalities.iter().enumerate();
        let decoders = decoders.map(decoder).collect::<Result<_>>()?;
        let adversary = Adversary::new(&p.pp("du"), c, r)?;
        let width = c.latent_dim * r.n_modalities();
        let classifier = match r.labels.len() {
            0 => None,
            n => Some(Linear::new(&p.pp("u2c"), width, n, true)?),
        };
        Ok(Self {
            sources,
            decoders,
            adversary,
            classifier,
            dtype: p.dtype(),
            device: p.device(),
        })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The posteriors of all subspaces given the rows of one modality.
    pub(crate) fn encode(&self, source: usize, part: &Part, mode: &Mode<'_>) -> Result<Encoded> {
        let s = &self.sources[source];
        let input = self.input(s, part)?;
        let mut locs = Vec::with_capacity(s.encoders.len());
        let mut stds = Vec::with_capacity(s.encoders.len());
        for encoder in &s.encoders {
            let (loc, std) = encoder.forward(&input, mode)?;
            locs.push(loc);
            stds.push(std);
        }
        Ok(Encoded {
            loc: Tensor::cat(&locs, 1)?,
            std: Tensor::cat(&stds, 1)?,
        })
    }

    /// scglue's library sizes, `[rows, modalities]`, where the source is one of counts.
    pub(crate) fn estimated_library(
        &self,
        source: usize,
        part: &Part,
        mode: &Mode<'_>,
    ) -> Result<Option<Tensor>> {
        let Some(est_l) = &self.sources[source].est_l else {
            return Ok(None);
        };
        let x = self.dense(&part.values)?;
        Ok(Some(ops::relu(&est_l.forward(&x, mode)?)?))
    }

    /// The line that gives library sizes of a target modality from a source.
    pub(crate) fn line(&self, source: usize, target: usize) -> Option<&LibraryLine> {
        self.sources.get(source)?.lines.get(target)?.as_ref()
    }

    /// Values as a dense tensor, `[rows, features]`.
    pub(crate) fn dense(&self, values: &Arc<Csr>) -> Result<Tensor> {
        let x = SparseInput::counts(Arc::clone(values));
        Ok(x.to_dense(self.dtype, &self.device)?)
    }

    /// A matrix as a tensor of the model's type.
    pub(crate) fn tensor(&self, a: &ndarray::Array2<f32>) -> Result<Tensor> {
        let values: Vec<f32> = a.iter().copied().collect();
        let t = Tensor::from_vec(values, a.dim(), &self.device)?;
        Ok(t.to_dtype(self.dtype)?)
    }

    fn input(&self, s: &Source, part: &Part) -> Result<Input> {
        if let Some(representation) = &part.representation {
            return Ok(Input::Dense(self.tensor(representation)?));
        }
        let read = match s.likelihood {
            l if l.has_library() => Arc::new(log_normalized(&part.values)?),
            Likelihood::NbMixture => Arc::new(part.values.map(f32::ln_1p)),
            _ => Arc::clone(&part.values),
        };
        Ok(match s.sparse {
            true => Input::Sparse(SparseInput::counts(read)),
            false => Input::Dense(self.dense(&read)?),
        })
    }
}

/// `ln(1 + 1e4 x / sum)`, the sum over the features of each row.
fn log_normalized(x: &Csr) -> Result<Csr> {
    let sums = x.row_sums();
    let mut values = Vec::with_capacity(x.n_stored());
    for (i, sum) in sums.into_iter().enumerate() {
        let scale = if sum > 0.0 { 1e4 / sum } else { 0.0 };
        let row = x.row(i).1.iter();
        values.extend(row.map(|&v| (f64::from(v) * scale).ln_1p() as f32));
    }
    let (n, g) = (x.n_rows(), x.n_cols());
    Ok(Csr::new(
        n,
        g,
        x.indptr().to_vec(),
        x.indices().to_vec(),
        values,
    )?)
}

/// How blocks with a batch norm run: one row has no variance, and is normalised by the running statistics.
fn block_mode(mode: Mode<'_>, rows: usize) -> Mode<'_> {
    match rows < 2 {
        true => mode.as_at_inference(),
        false => mode,
    }
}

fn dropped(x: &Tensor, rate: f64, name: &str, mode: &Mode<'_>) -> Result<Tensor> {
    if rate == 0.0 {
        return Ok(x.clone());
    }
    Ok(match mode.dropout_stream(name) {
        Some(mut stream) => ops::dropout(x, rate, &mut stream)?,
        None => x.clone(),
    })
}

/// PyTorch's zero-initialised parameters.
const ZERO: Init = Init::Const(0.0);
