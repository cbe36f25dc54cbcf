use candle_core::{Device, Tensor};
use sc_model::train::{Control, EpochEvent, Observer, ResumeState, Snapshot};
use sc_model::{Params, Result};

/// What the mean is called in a saved state.
const NAME: &str = "average";
/// The entry that says of how many epochs it is.
const EPOCHS: &str = "epochs";

/// Keeps the mean of the weights over the ends of all epochs (stochastic weight averaging; Izmailov et al. 2018).
///
/// Give it to [`fit`](sc_model::train::fit()) or [`resume`](sc_model::train::resume) as an observer, before a
/// [`Checkpoint`](sc_model::train::Checkpoint), which saves the mean with the state, and call [`AverageWeights::apply`]
/// afterwards.
#[derive(Debug)]
pub struct AverageWeights<'a> {
    params: &'a Params,
    epochs: u32,
    mean: Vec<(String, Tensor)>,
}

impl<'a> AverageWeights<'a> {
    /// Of these parameters.
    pub fn new(params: &'a Params) -> Self {
        Self {
            params,
            epochs: 0,
            mean: Vec::new(),
        }
    }

    /// Puts the mean into the model. Without an epoch, the weights stay as they are.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn apply(self) -> Result<()> {
        for (name, value) in &self.mean {
            if let Some(p) = self.params.get(name) {
                p.var().set(value)?;
            }
        }
        Ok(())
    }

    /// Takes the present weights into the mean.
    fn add(&mut self) -> Result<()> {
        self.epochs += 1;
        let share = 1.0 / f64::from(self.epochs);
        let trained = self.params.trainable();
        self.mean = match self.epochs {
            1 => trained
                .map(|p| Ok((p.name().to_owned(), p.value().copy()?)))
                .collect::<Result<_>>()?,
            _ => trained
                .zip(&self.mean)
                .map(|(p, (name, mean))| {
                    let off = (p.value().detach() - mean)?;
                    Ok((name.clone(), (mean + (off * share)?)?.detach()))
                })
                .collect::<Result<_>>()?,
        };
        Ok(())
    }

    /// Has it saved with the state.
    fn give(&self, state: &dyn Snapshot) -> Result<()> {
        let mut all = self.mean.clone();
        all.push((EPOCHS.to_owned(), Tensor::new(self.epochs, &Device::Cpu)?));
        state.keep(NAME, all);
        Ok(())
    }
}

impl Observer for AverageWeights<'_> {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        let done = u32::try_from(state.epoch()).unwrap_or(u32::MAX);
        if done == 0 {
            return Ok(());
        }
        let lacks = || state.lacks("the mean of the weights so far; start again");
        let known = state.kept(NAME, EPOCHS).ok_or_else(lacks)?;
        if known.to_scalar::<u32>()? != done {
            return Err(lacks());
        }
        let saved = self.params.trainable().map(|p| {
            let t = state.kept(NAME, p.name());
            let t = t
                .filter(|t| t.dims() == p.value().dims())
                .ok_or_else(lacks)?;
            Ok((p.name().to_owned(), t.to_device(p.value().device())?))
        });
        self.mean = saved.collect::<Result<_>>()?;
        self.epochs = done;
        self.give(now)
    }

    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.add()?;
        self.give(event.state)?;
        Ok(Control::Continue)
    }
}
