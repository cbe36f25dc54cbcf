//! Pretraining of the nets around the latent space.

use sc_model::Params;
use sc_model::train::{Loss, Split, Step, TrainConfig, Trainable};

use super::Snapshots;
use crate::model::ScDiffEq;
use crate::nets::Autoencoder;
use crate::{Error, Result};

/// To reconstruct the cells of the first time.
pub(super) struct Reconstruction<'a> {
    model: &'a ScDiffEq,
    nets: &'a Autoencoder,
}

impl<'a> Reconstruction<'a> {
    pub(super) fn new(model: &'a ScDiffEq, data: &Snapshots) -> Result<Self> {
        let c = model.config();
        let (Some(nets), Some(settings)) = (model.autoencoder(), &c.autoencoder) else {
            return Err(Error::InvalidSetting {
                name: "autoencoder",
                value: "None".into(),
                reason: "there is nothing to pretrain; give the model an autoencoder".into(),
            });
        };
        if data.dim() != settings.n_input {
            return Err(Error::Shape {
                what: "the states of cells",
                found: data.states().dims().to_vec(),
                expected: format!("[cells, {}], the inputs of the encoder", settings.n_input),
            });
        }
        Ok(Self { model, nets })
    }
}

impl Trainable<Snapshots> for Reconstruction<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    fn n_cells(&self, data: &Snapshots) -> usize {
        data.n_cells()
    }

    /// The cells of the first time train and validate; the others do neither.
    fn split(&self, data: &Snapshots, config: &TrainConfig) -> sc_model::Result<Split> {
        let cells = data.cells_at(0);
        let split = config
            .split
            .split(cells.len(), config.batch_size, config.seed)?;
        let pick = |v: Vec<usize>| v.iter().filter_map(|&i| cells.get(i).copied()).collect();
        let later = (1..data.times().len()).flat_map(|k| data.cells_at(k));
        let mut test: Vec<usize> = pick(split.test);
        test.extend(later);
        Ok(Split {
            train: pick(split.train),
            validation: pick(split.validation),
            test,
        })
    }

    fn settings(&self) -> String {
        "autoencoder".into()
    }

    fn loss(&self, data: &Snapshots, rows: &[usize], step: &Step<'_>) -> sc_model::Result<Loss> {
        let run = || -> Result<Loss> {
            let params = self.params();
            let x = data.rows(rows, params.dtype(), params.device())?;
            let loss = self.nets.reconstruction_loss(&x, &step.mode)?;
            // The original sums over the minibatch; the history has means over cells.
            Ok(Loss {
                loss,
                sums: Vec::new(),
                n_cells: rows.len(),
            })
        };
        run().map_err(sc_model::Error::model)
    }
}
