use std::path::PathBuf;

use super::*;
use crate::train::{
    Loss, SplitConfig, Step, StepEvent, StopReason, TrainConfig, Trainable, fit, resume,
};
use crate::{Init, Param, ParamBuilder, build_params};
use candle_core::DType;
use sc_tensor::Rng;

/// One number that is to be near those of the data.
struct Model {
    w: Param,
    params: Params,
}

impl Model {
    fn new() -> Self {
        let make = |p: &ParamBuilder<'_>| p.param("w", 1, Init::Const(0.0));
        let (w, params) =
            build_params(&Device::Cpu, DType::F64, &Rng::new(0), make).unwrap_or_else(unexpected);
        Self { w, params }
    }

    fn bits(&self) -> u64 {
        self.w.value().to_vec1::<f64>().unwrap()[0].to_bits()
    }
}

fn unexpected<T>(e: crate::Error) -> T {
    panic!("{e}")
}

impl Trainable<[f64]> for Model {
    fn params(&self) -> &Params {
        &self.params
    }

    fn n_cells(&self, data: &[f64]) -> usize {
        data.len()
    }

    fn loss(&self, data: &[f64], rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let target: Vec<f64> = rows.iter().map(|&r| data[r]).collect();
        let target = Tensor::from_vec(target, rows.len(), &Device::Cpu)?;
        let off = target.broadcast_sub(self.w.get(&step.mode))?.sqr()?;
        Ok(Loss {
            loss: off.mean_all()?,
            sums: vec![("nearness", -off.sum_all()?.to_scalar::<f64>()?)],
            n_cells: rows.len(),
        })
    }
}

/// Cells that train are near 10, those that validate near 2: on its way up, the number passes the best place early.
const DATA: [f64; 9] = [9.0, 10.0, 11.0, 9.5, 10.5, 10.0, 1.9, 2.0, 2.1];

fn config() -> TrainConfig {
    TrainConfig {
        max_epochs: Some(6),
        batch_size: 2,
        lr: 0.3,
        validate_every: Some(1),
        split: SplitConfig {
            given: Some(((0..6).collect(), (6..9).collect())),
            ..SplitConfig::default()
        },
        ..TrainConfig::default()
    }
}

/// Stops after a minibatch, or after an epoch, and saves.
struct StopAt {
    epoch: usize,
    step: Option<usize>,
    path: PathBuf,
}

impl StopAt {
    fn control(&self, here: (usize, Option<usize>)) -> Control {
        match here == (self.epoch, self.step) {
            true => Control::Stop,
            false => Control::Continue,
        }
    }
}

impl Observer for StopAt {
    fn on_step(&mut self, e: &StepEvent<'_>) -> Result<Control> {
        Ok(self.control((e.epoch, Some(e.step))))
    }

    fn on_epoch(&mut self, e: &EpochEvent<'_>) -> Result<Control> {
        let control = self.control((e.epoch, None));
        if control == Control::Stop {
            e.state.save(&self.path)?;
        }
        Ok(control)
    }

    fn on_end(&mut self, reason: StopReason, _: &History, state: &dyn Snapshot) -> Result<()> {
        match (reason, self.step) {
            (StopReason::Interrupted, Some(_)) => state.save(&self.path),
            _ => Ok(()),
        }
    }
}

/// All places where a run of six epochs of three minibatches can be stopped.
fn places(path: &std::path::Path) -> impl Iterator<Item = StopAt> {
    let steps = [Some(0), Some(1), Some(2), None];
    (0..6).flat_map(move |epoch| {
        let path = path.to_owned();
        let at = move |step| StopAt {
            epoch,
            step,
            path: path.clone(),
        };
        steps.into_iter().map(at)
    })
}

fn keeper(params: &Params, highest: bool) -> KeepBest<'_> {
    match highest {
        true => KeepBest::highest(params, "nearness_validation"),
        false => KeepBest::new(params),
    }
}

#[test]
fn a_resumed_run_keeps_the_epoch_that_an_undisturbed_one_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for highest in [false, true] {
        let whole = Model::new();
        let mut best = keeper(&whole.params, highest);
        fit(&whole, DATA.as_slice(), &config(), &mut best).unwrap();
        let last = whole.bits();
        assert_eq!(best.best().unwrap().0, 1);
        best.restore().unwrap();
        assert!(whole.bits() != last);
        for stop in places(&path) {
            let first = Model::new();
            let at = (stop.epoch, stop.step);
            // Once before the observer that saves, once behind it.
            let best = keeper(&first.params, highest);
            let mut both: Vec<Box<dyn Observer>> = vec![Box::new(best), Box::new(stop)];
            if at.0 % 2 == 0 {
                both.reverse();
            }
            fit(&first, DATA.as_slice(), &config(), &mut both).unwrap();
            // Stopped twice: the second time before any epoch ends.
            let second = Model::new();
            let state = ResumeState::load(&path).unwrap();
            if state.epoch() < 6 && state.is_between_epochs() {
                let stop = StopAt {
                    epoch: state.epoch(),
                    step: Some(0),
                    path: path.clone(),
                };
                let mut both = (keeper(&second.params, highest), stop);
                resume(&second, DATA.as_slice(), &config(), &state, &mut both).unwrap();
            }
            let third = Model::new();
            let state = ResumeState::load(&path).unwrap();
            let mut best = keeper(&third.params, highest);
            resume(&third, DATA.as_slice(), &config(), &state, &mut best).unwrap();
            assert_eq!(third.bits(), last, "{at:?}");
            best.restore().unwrap();
            assert_eq!(third.bits(), whole.bits(), "{at:?}");
        }
    }
}

#[test]
fn a_state_without_the_best_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let model = Model::new();
    let mut stop = StopAt {
        epoch: 4,
        step: Some(1),
        path: path.clone(),
    };
    fit(&model, DATA.as_slice(), &config(), &mut stop).unwrap();
    let state = ResumeState::load(&path).unwrap();
    let mut best = KeepBest::new(&model.params);
    let said = resume(&model, DATA.as_slice(), &config(), &state, &mut best);
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("state.safetensors") && said.contains("epoch 2"),
        "{said}"
    );
}
