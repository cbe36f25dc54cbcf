//! The classifier: probabilities of labels for a place in the latent space.

use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_model::layers::{FcConfig, FcLayers, Input, Linear};
use sc_model::{Classify, Mode, ParamBuilder, Probabilities};
use sc_tensor::ops;
use sc_tensor::rng::Rng;

use super::Scanvi;
use super::config::ScanviConfig;
use crate::arrays::{batches, fill_rows};
use crate::{Cells, Error, Result};

/// Hidden layers (or none) and a linear map to the labels.
#[derive(Debug, Clone)]
pub(crate) struct Classifier {
    hidden: Option<FcLayers>,
    output: Linear,
    legacy_probs: bool,
}

impl Classifier {
    pub(crate) fn new(p: &ParamBuilder<'_>, c: &ScanviConfig, n_labels: usize) -> Result<Self> {
        let (s, own) = (&c.scvi, &c.classifier);
        let legacy_probs = own.legacy_probs;
        let n_layers = c.classifier_layers();
        if n_layers == 0 {
            return Ok(Self {
                hidden: None,
                output: Linear::new(&p.pp(0), s.n_latent, n_labels, true)?,
                legacy_probs,
            });
        }
        let n_hidden = own.n_hidden.unwrap_or(s.n_hidden);
        let layers = FcConfig {
            n_in: s.n_latent,
            n_out: n_hidden,
            n_hidden,
            n_layers,
            n_covariates: 0,
            inject_covariates: false,
            dropout_rate: own.dropout_rate.unwrap_or(s.dropout_rate),
            batch_norm: s.batch_norm.encoder(),
            layer_norm: s.layer_norm.encoder(),
            bias: true,
            relu: true,
            sparse_input: false,
        };
        Ok(Self {
            hidden: Some(FcLayers::new(&p.pp(0), &layers)?),
            output: Linear::new(&p.pp(1), n_hidden, n_labels, true)?,
            legacy_probs,
        })
    }

    /// Logits, `[N, labels]`.
    pub(crate) fn logits(&self, z: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let h = match &self.hidden {
            Some(layers) => &layers.forward(Input::Dense(z), None, mode)?,
            None => z,
        };
        Ok(self.output.forward(h, mode)?)
    }

    /// What the cross-entropy is told are logits: the logits, or in a legacy model the probabilities.
    pub(crate) fn trained_logits(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(if self.legacy_probs {
            ops::softmax(logits)?
        } else {
            logits.clone()
        })
    }
}

/// Where the classifier looks at a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PredictAt {
    /// At the mean of `q(z1 | x)`: nothing is random.
    #[default]
    PosteriorMean,
    /// At one draw, from this seed.
    Draw(u64),
}

impl Scanvi {
    /// The probability of each label for each cell: `softmax(classifier(z1))`. scvi-tools' `predict(soft=True)`.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn predict(&self, cells: &Cells<'_>, at: PredictAt) -> Result<Probabilities> {
        self.scvi.fits(cells)?;
        let (mode, n) = (Mode::eval(), cells.n_cells());
        let mut values = Array2::zeros((n, self.semi.n_labels()));
        let mut start = 0;
        for rows in batches(n) {
            let batch = cells.minibatch(&rows, self.scvi.config.log_variational)?;
            let (q, _) = self.scvi.encode(&batch, &mode)?;
            let z1 = match at {
                // As in training: of a logistic normal, scvi-tools classifies the mean before its softmax.
                PredictAt::PosteriorMean => q.mean.clone(),
                PredictAt::Draw(seed) => {
                    let mut stream = Rng::new(seed).stream("predict").at(&[start as u64]);
                    let (dtype, device) = (self.scvi.dtype(), self.scvi.device());
                    let noise = stream.normal(q.mean.shape().clone(), dtype, device)?;
                    self.scvi.nets.latent_of(&q.draw(&noise)?)?
                }
            };
            let logits = self.semi.classifier.logits(&z1, &mode)?;
            fill_rows(&mut values, start, &ops::softmax(&logits)?)?;
            start += rows.len();
        }
        Ok(Probabilities {
            labels: self.labels().to_vec(),
            values,
        })
    }

    /// The classifier's output before the softmax for places in the latent space, `[N, n_latent]` to `[N, labels]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn logits(&self, z1: &Tensor) -> Result<Tensor> {
        let k = self.scvi.config.n_latent;
        if z1.dims().get(1) != Some(&k) {
            return Err(Error::InvalidSetting {
                name: "z1",
                value: format!("{:?}", z1.dims()),
                reason: format!("a matrix with {k} columns was expected"),
            });
        }
        self.semi.classifier.logits(z1, &Mode::eval())
    }
}

impl Classify<Cells<'_>> for Scanvi {
    type Error = Error;

    fn classify(&self, cells: &Cells<'_>) -> Result<Probabilities> {
        self.predict(cells, PredictAt::PosteriorMean)
    }
}

/// `-log softmax(logits)[label]` of each row, averaged.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let (n, k) = logits.dims2()?;
    let one_hot = ops::one_hot(labels, k, logits.dtype(), logits.device())?;
    let sum = (ops::log_softmax(logits)? * one_hot)?.sum_all()?;
    Ok((sum * (-1.0 / n.max(1) as f64))?)
}

/// How well a minibatch is classified.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    /// Share of the cells with the right label. With one label a cell, scvi-tools' (micro) F1 score is the same number.
    pub(crate) accuracy: f64,
    /// Expected calibration error: in each of 15 bins of confidence the distance of accuracy and mean confidence, weighted
    /// by the share of the cells (Guo et al. 2017).
    pub(crate) calibration_error: f64,
}

impl Score {
    pub(crate) fn new(logits: &Tensor, labels: &[u32]) -> Result<Self> {
        const BINS: usize = 15;
        let k = logits.dim(1)?.max(1);
        let probabilities: Vec<f64> = ops::softmax(&logits.detach())?
            .to_dtype(DType::F64)?
            .flatten_all()?
            .to_vec1()?;
        let (mut n, mut right, mut confidence) = ([0.0; BINS], [0.0; BINS], [0.0; BINS]);
        for (p, &label) in probabilities.chunks(k).zip(labels) {
            let (best, p) = argmax(p);
            // The bins are open below and closed above.
            let bin = ((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            n[bin] += 1.0;
            right[bin] += f64::from(u8::from(best == label as usize));
            confidence[bin] += p;
        }
        let total = n.iter().sum::<f64>().max(1.0);
        Ok(Self {
            accuracy: right.iter().sum::<f64>() / total,
            calibration_error: right
                .iter()
                .zip(&confidence)
                .map(|(r, c)| (r - c).abs())
                .sum::<f64>()
                / total,
        })
    }
}

/// The first of the largest, and its value.
fn argmax(values: &[f64]) -> (usize, f64) {
    values
        .iter()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (i, &v)| {
            if v > best.1 { (i, v) } else { best }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn accuracy_and_calibration() {
        // Confidences 0.9 (right), 0.9 (wrong), 0.6 (right).
        let p: [[f64; 2]; 3] = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]];
        let logits = Tensor::new(&p, &Device::Cpu).unwrap().log().unwrap();
        let s = Score::new(&logits, &[0, 1, 1]).unwrap();
        assert!((s.accuracy - 2.0 / 3.0).abs() < 1e-12);
        // |1 - 1.8| / 3 + |1 - 0.6| / 3
        assert!((s.calibration_error - 0.4).abs() < 1e-12);
    }

    #[test]
    fn cross_entropy_is_the_mean_of_logs() {
        let p: [[f64; 2]; 2] = [[0.25, 0.75], [0.5, 0.5]];
        let logits = Tensor::new(&p, &Device::Cpu).unwrap().log().unwrap();
        let ce = cross_entropy(&logits, &[1, 0]).unwrap();
        let expected = -(0.75f64.ln() + 0.5f64.ln()) / 2.0;
        assert!((ce.to_scalar::<f64>().unwrap() - expected).abs() < 1e-12);
    }
}
