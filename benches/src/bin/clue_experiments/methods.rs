//! Ways to put two modalities into one space.

use candle_core::Device;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use sc_data::Categorical;
use sc_integrate::{
    Alignment, Clue, ClueConfig, ClueTrainConfig, Compose, MultiCells, PairingLoss,
};
use sc_preprocess::{HarmonyOptions, harmony};
use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::cca::{Cca, ridge};
use crate::data::Pair;
use crate::runs::history;

/// Canonical directions that are kept.
const CANONICAL: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    Clue,
    /// Every modality is decoded from all of the embedding
    NoSubspaces,
    NoAdversary,
    /// No reconstruction from the joint embedding or from the other modality
    NoCross,
    /// Nothing that holds paired cells together but reconstruction
    NoPairing,
    InfoNce,
    /// Optimal transport instead of the adversary
    Sinkhorn,
    Cca,
    /// Canonical directions, then Harmony over modalities
    CcaHarmony,
    /// Components of the other modality by ridge regression on those of RNA
    Ridge,
}

/// Published settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Settings {
    Cite,
    Multiome,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Training {
    /// The settings that start it
    #[arg(long, value_enum, default_value = "cite")]
    pub(crate) settings: Settings,
    #[arg(long, default_value_t = 120)]
    pub(crate) epochs: usize,
}

/// Both modalities of training and held-out cells, and the held-out cells by both together.
pub(crate) struct Embedded {
    pub(crate) train: [Array2<f32>; 2],
    pub(crate) test: [Array2<f32>; 2],
    pub(crate) joint: Array2<f32>,
    /// Metrics of training.
    pub(crate) history: Value,
    /// The subspaces of the joint embedding.
    pub(crate) own: Vec<(String, Array2<f32>)>,
}

impl Method {
    /// Whether it depends on a seed.
    pub(crate) fn is_random(self) -> bool {
        !matches!(self, Self::Cca | Self::CcaHarmony | Self::Ridge)
    }

    fn config(self, settings: Settings) -> ClueConfig {
        let mut c = match settings {
            Settings::Cite => ClueConfig::winning_cite(),
            Settings::Multiome => ClueConfig::winning_multiome(),
        };
        match self {
            Self::NoSubspaces => c.subspaces = false,
            Self::NoAdversary => c.weights.align = 0.0,
            Self::NoCross => (c.weights.joint_cross, c.weights.real_cross) = (0.0, 0.0),
            Self::NoPairing => c.weights.pairing = 0.0,
            Self::InfoNce => c.pairing = PairingLoss::InfoNce,
            Self::Sinkhorn => c.alignment = Alignment::Sinkhorn,
            _ => {}
        }
        c
    }

    pub(crate) fn embed(self, pair: &Pair, training: &Training, seed: u64) -> Result<Embedded> {
        let side = |rows: &[usize]| {
            let of = |a: &Array2<f32>| a.select(Axis(0), rows);
            [of(&pair.rna.components), of(&pair.other.components)]
        };
        let (train, test) = (side(&pair.train), side(&pair.test));
        match self {
            Self::Cca | Self::CcaHarmony => canonical(self, &train, &test),
            Self::Ridge => {
                let predict =
                    |x: &Array2<f32>| ridge(train[0].view(), train[1].view(), x.view(), 1.0);
                let guess = predict(&test[0])?;
                Ok(Embedded {
                    joint: mean(&guess, &test[1]),
                    train: [predict(&train[0])?, train[1].clone()],
                    test: [guess, test[1].clone()],
                    history: Value::Null,
                    own: Vec::new(),
                })
            }
            _ => self.clue(pair, training, seed),
        }
    }

    fn clue(self, pair: &Pair, training: &Training, seed: u64) -> Result<Embedded> {
        let known = pair.cells(&pair.train)?;
        let (model, history) = train(&known, self.config(training.settings), training, seed)?;
        let new = MultiCells::for_model(pair.modalities(&pair.test)?, model.registry())?;
        let sides = |cells: &MultiCells<'_>| -> Result<[Array2<f32>; 2]> {
            Ok([
                model.embed_modality(cells, pair.rna.name)?.unit(),
                model.embed_modality(cells, pair.other.name)?.unit(),
            ])
        };
        let joint = model.embed_joint(&new, Compose::Own)?;
        let mut own = Vec::new();
        if model.config().subspaces {
            for side in [pair.rna.name, pair.other.name] {
                own.push((side.to_owned(), joint.subspace(side)?.to_owned()));
            }
        }
        Ok(Embedded {
            train: sides(&known)?,
            test: sides(&new)?,
            joint: joint.values,
            history,
            own,
        })
    }
}

/// CLUE of some cells, with the epoch that validated best.
pub(crate) fn train(
    cells: &MultiCells<'_>,
    config: ClueConfig,
    training: &Training,
    seed: u64,
) -> Result<(Clue, Value)> {
    let valid = Clue::with_config(cells, config).check()?;
    let mut model = valid.init(&Device::Cpu, seed)?;
    let mut config = ClueTrainConfig::for_cells(cells.n_cells());
    config.train.seed = seed;
    config.train.max_epochs = Some(training.epochs);
    config.align_burn_in = training.epochs / 6;
    config.plateau(training.epochs / 4, training.epochs / 12);
    let fitted = model.fit_best(cells, &config, &mut ())?;
    Ok((model, history(&fitted.history)))
}

fn canonical(
    method: Method,
    train: &[Array2<f32>; 2],
    test: &[Array2<f32>; 2],
) -> Result<Embedded> {
    let cca = Cca::fit(train[0].view(), train[1].view(), CANONICAL)?;
    let mut parts = [
        cca.first(train[0].view()),
        cca.second(train[1].view()),
        cca.first(test[0].view()),
        cca.second(test[1].view()),
    ];
    if method == Method::CcaHarmony {
        let views: Vec<ArrayView2<'_, f32>> = parts.iter().map(|p| p.view()).collect();
        let all = concatenate(Axis(0), &views)?;
        let names = parts.iter().enumerate();
        let names: Vec<&str> = names
            .flat_map(|(i, p)| std::iter::repeat_n(["rna", "other"][i % 2], p.nrows()))
            .collect();
        let modalities = Categorical::from_labels(&names);
        let corrected = harmony(all.view(), &[&modalities], &HarmonyOptions::default())?.embedding;
        let mut start = 0;
        for part in &mut parts {
            let n = part.nrows();
            *part = corrected
                .slice_axis(Axis(0), (start..start + n).into())
                .to_owned();
            start += n;
        }
    }
    let [a, b, c, d] = parts;
    Ok(Embedded {
        joint: mean(&c, &d),
        train: [a, b],
        test: [c, d],
        history: Value::Null,
        own: Vec::new(),
    })
}

fn mean(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    (a + b) * 0.5
}
