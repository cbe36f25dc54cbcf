//! Which cells train and which validate, and the minibatches of an epoch.

use sc_model::train::{Split, TrainConfig};
use sc_tensor::{Rng, Stream};
use serde::{Deserialize, Serialize};

use super::Snapshots;
use crate::{Error, Result};

/// The cells of a minibatch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BatchSize {
    /// So many cells of each time (scDiffEq: 2,048). In an epoch every cell is used: smaller time points are filled up to the
    /// size of the largest by drawing some of their cells again.
    Cells(usize),
    /// This share of the cells of each time (PRESCIENT: 0.1), drawn anew for every step; a step is an epoch.
    Share(f64),
}

impl BatchSize {
    pub(crate) fn check(self) -> Result<()> {
        let invalid =
            |value: String, reason: &str| Err(crate::error::invalid("batch size", value, reason));
        match self {
            Self::Cells(0) => invalid("0".into(), "at least one cell of each time"),
            Self::Share(s) if !(s > 0.0 && s <= 1.0) => {
                invalid(s.to_string(), "a share of the cells: above 0, up to 1")
            }
            _ => Ok(()),
        }
    }

    /// The most cells of one time in a minibatch, where a time has `n`.
    fn most(self, n: usize) -> usize {
        match self {
            Self::Cells(size) => size.min(n),
            Self::Share(share) => ((share * n as f64).round() as usize).clamp(1, n.max(1)),
        }
    }
}

/// Which cells validate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validation {
    /// The share of the cells of each time that validates instead of training; 0.1. With 0, nothing is validated.
    pub share: f64,
    /// Draw other cells in every epoch, as scDiffEq does. Then no cell is kept from training, and the validation loss says
    /// little about new cells.
    pub redraw: bool,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            share: 0.1,
            redraw: false,
        }
    }
}

impl Validation {
    pub(crate) fn check(&self) -> Result<()> {
        match (0.0..1.0).contains(&self.share) {
            true => Ok(()),
            false => Err(Error::InvalidSetting {
                name: "validation share",
                value: self.share.to_string(),
                reason: "at least 0 and below 1".into(),
            }),
        }
    }

    /// The split that a run was given, or one drawn with its seed; each side has cells of every time.
    pub(crate) fn split_for(
        &self,
        data: &Snapshots,
        config: &TrainConfig,
    ) -> sc_model::Result<Split> {
        let split = match &config.split.given {
            Some(_) => config
                .split
                .split(data.n_cells(), config.batch_size, config.seed)?,
            None => {
                let mut stream = Rng::new(config.seed).stream("split");
                let split = self.split(data, &mut stream);
                split.map_err(sc_model::Error::model)?
            }
        };
        check_split(data, &split).map_err(sc_model::Error::model)?;
        Ok(split)
    }

    /// Splits each time on its own, so that none is lost to either side.
    pub(crate) fn split(&self, data: &Snapshots, stream: &mut Stream) -> Result<Split> {
        let mut split = Split::default();
        for (k, t) in data.times().iter().enumerate() {
            let cells = data.cells_at(k);
            let n_validation = match (self.share > 0.0, cells.len()) {
                (false, _) => 0,
                (true, n @ 0..2) => {
                    return Err(Error::Times {
                        reason: format!(
                            "time {t} has {n} cell, which can't both train and validate; leave the time out, or set the validation share to 0"
                        ),
                    });
                }
                (true, n) => ((self.share * n as f64).round() as usize).clamp(1, n - 1),
            };
            let order = stream.permutation(cells.len()).into_iter();
            let order: Vec<usize> = order.filter_map(|i| cells.get(i).copied()).collect();
            let (validation, train) = order.split_at(n_validation.min(order.len()));
            split.validation.extend(validation);
            split.train.extend(train);
        }
        Ok(split)
    }
}

/// Refuses a split that leaves a time without cells.
fn check_split(data: &Snapshots, split: &Split) -> Result<()> {
    let sets = [
        ("train", &split.train, true),
        ("validate", &split.validation, false),
    ];
    for (what, cells, needed) in sets {
        if cells.is_empty() && !needed {
            continue;
        }
        let groups = data.by_time(cells);
        let empty = groups.iter().position(Vec::is_empty);
        if let Some(t) = empty.and_then(|k| data.times().get(k)) {
            return Err(Error::Times {
                reason: format!("no cell of time {t} is among those that {what}"),
            });
        }
    }
    Ok(())
}

/// The minibatches of an epoch: the cells of each, one time after the other.
pub(crate) fn minibatches(
    groups: &[Vec<usize>],
    size: BatchSize,
    stream: &mut Stream,
) -> Vec<Vec<usize>> {
    match size {
        BatchSize::Share(_) => {
            let some = groups.iter().flat_map(|group| {
                let order = shuffled(group, stream);
                let n = size.most(group.len());
                order.into_iter().take(n)
            });
            vec![some.collect()]
        }
        BatchSize::Cells(size) => {
            let largest = groups.iter().map(Vec::len).max().unwrap_or(0);
            let full: Vec<Vec<usize>> = groups
                .iter()
                .map(|group| filled_up(group, largest, stream))
                .collect();
            let size = size.max(1);
            let batch = |start: usize| -> Vec<usize> {
                let part = |g: &Vec<usize>| -> Vec<usize> {
                    g.iter().skip(start).take(size).copied().collect()
                };
                full.iter().flat_map(part).collect()
            };
            (0..largest).step_by(size).map(batch).collect()
        }
    }
}

fn shuffled(group: &[usize], stream: &mut Stream) -> Vec<usize> {
    let order = stream.permutation(group.len()).into_iter();
    order.filter_map(|i| group.get(i).copied()).collect()
}

/// All cells in a random order, and then some of them again, drawn with replacement, up to `n`.
fn filled_up(group: &[usize], n: usize, stream: &mut Stream) -> Vec<usize> {
    let mut all = shuffled(group, stream);
    let mut again = vec![0.0; n.saturating_sub(group.len())];
    stream.fill_uniform(0.0, 1.0, &mut again);
    let pick = |u: &f64| {
        let i = (u * group.len() as f64) as usize;
        group.get(i.min(group.len().saturating_sub(1))).copied()
    };
    all.extend(again.iter().filter_map(pick));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use sc_tensor::Rng;

    fn snapshots(sizes: &[usize]) -> Snapshots {
        let times: Vec<f64> = sizes
            .iter()
            .enumerate()
            .flat_map(|(k, &n)| std::iter::repeat_n(k as f64, n))
            .collect();
        let states = Tensor::zeros((times.len(), 2), DType::F32, &Device::Cpu).unwrap();
        Snapshots::new(&states, &times).unwrap()
    }

    #[test]
    fn every_time_trains_and_validates() {
        let data = snapshots(&[2, 30, 5]);
        let mut stream = Rng::new(0).stream("split");
        let split = Validation::default().split(&data, &mut stream).unwrap();
        let sizes =
            |cells: &[usize]| -> Vec<usize> { data.by_time(cells).iter().map(Vec::len).collect() };
        assert_eq!(sizes(&split.validation), [1, 3, 1]);
        assert_eq!(sizes(&split.train), [1, 27, 4]);
        let mut all = [split.train, split.validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..37).collect::<Vec<_>>());
        let why = Validation::default()
            .split(&snapshots(&[3, 1]), &mut stream)
            .unwrap_err();
        assert!(why.to_string().contains("time 1 has 1 cell"), "{why}");
    }

    #[test]
    fn an_epoch_uses_every_cell_and_fills_up_small_times() {
        let data = snapshots(&[3, 10]);
        let groups = data.by_time(&(0..13).collect::<Vec<_>>());
        let mut stream = Rng::new(0).stream("shuffle");
        let batches = minibatches(&groups, BatchSize::Cells(4), &mut stream);
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [8, 8, 4]);
        let early = batches.iter().map(|b| data.by_time(b)[0].len());
        assert_eq!(early.collect::<Vec<_>>(), [4, 4, 2]);
        let mut late: Vec<usize> = batches
            .iter()
            .flat_map(|b| data.by_time(b)[1].clone())
            .collect();
        late.sort_unstable();
        assert_eq!(late, (3..13).collect::<Vec<_>>());

        let some = minibatches(&groups, BatchSize::Share(0.5), &mut stream);
        let sizes: Vec<usize> = data.by_time(&some[0]).iter().map(Vec::len).collect();
        assert_eq!((some.len(), sizes), (1, vec![2, 5]));
    }

    #[test]
    fn a_given_split_must_have_every_time() {
        let data = snapshots(&[2, 2]);
        let split = |train: &[usize], validation: &[usize]| Split {
            train: train.to_vec(),
            validation: validation.to_vec(),
            test: Vec::new(),
        };
        assert!(check_split(&data, &split(&[0, 2], &[])).is_ok());
        assert!(check_split(&data, &split(&[0, 2], &[1, 3])).is_ok());
        let why = check_split(&data, &split(&[0, 1], &[])).unwrap_err();
        assert!(why.to_string().contains("time 1"), "{why}");
        assert!(check_split(&data, &split(&[0, 2], &[3])).is_err());
    }
}
