//! What changes over the course of training: the KL weight, the learning rate, and when to stop.

use serde::{Deserialize, Serialize};

/// The weight of the KL term rises linearly from `min_weight` to `max_weight`.
///
/// ```
/// use sc_model::KlWarmup;
/// let warmup = KlWarmup::default();          // 400 epochs, from 0 to 1
/// assert_eq!(warmup.weight(0, 0), 0.0);      // the first epoch trains without any KL
/// assert_eq!(warmup.weight(100, 5_000), 0.25);
/// assert_eq!(warmup.weight(400, 20_000), 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KlWarmup {
    /// Epochs until the full weight; takes precedence over `n_steps`.
    pub n_epochs: Option<usize>,
    /// Minibatches until the full weight.
    pub n_steps: Option<u64>,
    /// The weight at the start.
    pub min_weight: f64,
    /// The weight at the end.
    pub max_weight: f64,
}

impl Default for KlWarmup {
    fn default() -> Self {
        Self {
            n_epochs: Some(400),
            n_steps: None,
            min_weight: 0.0,
            max_weight: 1.0,
        }
    }
}

impl KlWarmup {
    /// Always the same weight.
    pub fn constant(weight: f64) -> Self {
        Self {
            n_epochs: None,
            n_steps: None,
            min_weight: weight,
            max_weight: weight,
        }
    }

    /// The weight in an epoch (from 0) at a minibatch counted over all epochs (from 0).
    pub fn weight(&self, epoch: usize, step: u64) -> f64 {
        let slope = self.max_weight - self.min_weight;
        match (self.n_epochs, self.n_steps) {
            (Some(n), _) if epoch < n => self.min_weight + slope * (epoch as f64 / n as f64),
            (_, Some(n)) if step < n => self.min_weight + slope * (step as f64 / n as f64),
            _ => self.max_weight,
        }
    }
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LrSchedule {
    /// It does not.
    #[default]
    Constant,
    /// Times `factor` after `patience` epochs in which the monitored validation metric did not fall by more than
    /// `threshold`.
    Plateau {
        /// Multiplier.
        factor: f64,
        /// Epochs to wait.
        patience: usize,
        /// How much of a fall counts (absolute).
        threshold: f64,
        /// Not below this.
        min_lr: f64,
    },
    /// Times `gamma` every `size` epochs.
    Step {
        /// Epochs between.
        size: usize,
        /// Multiplier.
        gamma: f64,
    },
    /// Half a cosine from the initial rate to `min_lr` over `n_epochs`.
    Cosine {
        /// Epochs until the minimum.
        n_epochs: usize,
        /// The minimum.
        min_lr: f64,
    },
    /// Minibatch by minibatch: rises from 0 to the initial rate, then half a cosine down to 0.
    WarmupCosine {
        /// Minibatches of the rise.
        warmup_steps: u64,
        /// Minibatches of all epochs.
        total_steps: u64,
    },
    /// Cycles of epochs, each from `min_lr` in a line up to the peak and then in half a cosine down again. The first peak
    /// is the initial rate, so the first epoch trains at `min_lr` (Loshchilov & Hutter 2017, with a warm-up).
    CosineRestarts {
        /// Epochs of the first cycle.
        n_epochs: usize,
        /// Epochs of each cycle in which the rate rises.
        warmup: usize,
        /// How much longer the falling part of a cycle is than that of the one before.
        growth: usize,
        /// The minimum.
        min_lr: f64,
        /// How much the peak of a cycle is of that of the one before.
        decay: f64,
    },
}

impl LrSchedule {
    /// The rate of a minibatch, counted over all epochs from 0, where that of the epoch is `of_epoch`.
    ///
    /// ```
    /// use sc_model::LrSchedule;
    /// let schedule = LrSchedule::WarmupCosine { warmup_steps: 10, total_steps: 30 };
    /// let rate = |step| schedule.at_step(1.0, 1.0, step);
    /// assert_eq!((rate(0), rate(5), rate(10), rate(30)), (0.0, 0.5, 1.0, 0.0));
    /// ```
    pub fn at_step(&self, initial: f64, of_epoch: f64, step: u64) -> f64 {
        let Self::WarmupCosine {
            warmup_steps,
            total_steps,
        } = *self
        else {
            return of_epoch;
        };
        if step < warmup_steps {
            return initial * step as f64 / warmup_steps as f64;
        }
        let rest = total_steps.saturating_sub(warmup_steps).max(1);
        let t = ((step - warmup_steps) as f64 / rest as f64).min(1.0);
        initial * 0.5 * (1.0 + (std::f64::consts::PI * t).cos())
    }

    /// The rate of the first epoch.
    pub fn first(&self, initial: f64) -> f64 {
        match self {
            Self::CosineRestarts { .. } => self.restarts(initial, 0),
            _ => initial,
        }
    }

    /// The rate in an epoch of [`LrSchedule::CosineRestarts`]; the initial one of any other.
    fn restarts(&self, initial: f64, epoch: usize) -> f64 {
        let Self::CosineRestarts {
            n_epochs,
            warmup,
            growth,
            min_lr,
            decay,
        } = *self
        else {
            return initial;
        };
        let mut falling = n_epochs.saturating_sub(warmup).max(1);
        let (mut at, mut peak) = (epoch, initial);
        while at >= falling.saturating_add(warmup) {
            at -= falling + warmup;
            peak *= decay;
            falling = falling.saturating_mul(growth.max(1));
        }
        if at < warmup {
            return min_lr + (peak - min_lr) * at as f64 / warmup as f64;
        }
        let t = (at - warmup) as f64 / falling as f64;
        min_lr + (peak - min_lr) * (1.0 + (std::f64::consts::PI * t).cos()) / 2.0
    }
}

/// Where a schedule stands; part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LrState {
    /// The learning rate now.
    pub lr: f64,
    best: Option<f64>,
    waited: usize,
}

impl LrState {
    /// At the start of training.
    pub fn new(lr: f64) -> Self {
        Self {
            lr,
            best: None,
            waited: 0,
        }
    }

    /// After epoch number `epoch` (from 0), whose validation metric was `metric`: sets the rate of the next.
    pub fn after_epoch(
        &mut self,
        schedule: &LrSchedule,
        initial: f64,
        epoch: usize,
        metric: Option<f64>,
    ) {
        match *schedule {
            LrSchedule::Constant | LrSchedule::WarmupCosine { .. } => {}
            LrSchedule::Plateau {
                factor,
                patience,
                threshold,
                min_lr,
            } => {
                let Some(metric) = metric else { return };
                if self.best.is_none_or(|b| metric < b - threshold) {
                    self.best = Some(metric);
                    self.waited = 0;
                } else {
                    self.waited += 1;
                    if self.waited > patience {
                        self.lr = (self.lr * factor).max(min_lr);
                        self.waited = 0;
                    }
                }
            }
            LrSchedule::Step { size, gamma } => {
                self.lr = initial * gamma.powi(((epoch + 1) / size.max(1)) as i32);
            }
            LrSchedule::Cosine { n_epochs, min_lr } => {
                let t = ((epoch + 1) as f64 / n_epochs.max(1) as f64).min(1.0);
                self.lr =
                    min_lr + 0.5 * (initial - min_lr) * (1.0 + (std::f64::consts::PI * t).cos());
            }
            LrSchedule::CosineRestarts { .. } => self.lr = schedule.restarts(initial, epoch + 1),
        }
    }
}

/// Stop when a metric has not improved for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// The metric, e.g. `elbo_validation`.
    pub monitor: String,
    /// How much of an improvement counts.
    pub min_delta: f64,
    /// Epochs without improvement until training stops.
    pub patience: usize,
    /// Whether smaller is better.
    pub minimise: bool,
    /// Epochs before it starts to count.
    pub warmup_epochs: usize,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self {
            monitor: "elbo_validation".into(),
            min_delta: 0.0,
            patience: 45,
            minimise: true,
            warmup_epochs: 0,
        }
    }
}

/// Where [`EarlyStopping`] stands; part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StopState {
    best: Option<f64>,
    waited: usize,
}

impl StopState {
    /// Whether training has already been stopped.
    pub(crate) fn is_done(&self, rule: &EarlyStopping) -> bool {
        self.best.is_some() && self.waited >= rule.patience
    }

    /// After an epoch (from 0) with this value of the metric: whether to stop.
    pub fn after_epoch(&mut self, rule: &EarlyStopping, epoch: usize, metric: f64) -> bool {
        if epoch < rule.warmup_epochs {
            return false;
        }
        let better = self.best.is_none_or(|b| {
            if rule.minimise {
                metric < b - rule.min_delta
            } else {
                metric > b + rule.min_delta
            }
        });
        if better {
            self.best = Some(metric);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        self.waited >= rule.patience
    }
}

/// scvi-tools' number of epochs for a data set: 400 up to 20,000 cells, then fewer, at least 1.
///
/// ```
/// assert_eq!(sc_model::heuristic_epochs(20_000), 400);
/// assert_eq!(sc_model::heuristic_epochs(584_944), 14);
/// ```
pub fn heuristic_epochs(n_cells: usize) -> usize {
    let epochs = (20_000.0 / n_cells.max(1) as f64 * 400.0).round_ties_even();
    epochs.clamp(1.0, 400.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plateau_waits_and_then_lowers() {
        let rule = LrSchedule::Plateau {
            factor: 0.5,
            patience: 1,
            threshold: 0.0,
            min_lr: 0.2,
        };
        let mut s = LrState::new(1.0);
        for (epoch, metric) in [3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
            .into_iter()
            .enumerate()
        {
            s.after_epoch(&rule, 1.0, epoch, Some(metric));
        }
        assert_eq!(s.lr, 0.2);
    }

    #[test]
    fn early_stopping_counts_from_the_best() {
        let rule = EarlyStopping {
            patience: 2,
            ..EarlyStopping::default()
        };
        let mut s = StopState::default();
        let stopped: Vec<bool> = [5.0, 4.0, 4.5, 3.0, 3.1, 3.2]
            .iter()
            .enumerate()
            .map(|(e, &m)| s.after_epoch(&rule, e, m))
            .collect();
        assert_eq!(stopped, [false, false, false, false, false, true]);
    }

    #[test]
    fn epochs_of_published_sizes() {
        for (n, epochs) in [
            (20_001, 400),
            (53_333, 150),
            (64_000, 125),
            (100_000, 80),
            (3_200_000, 2),
            (8_000_000, 1),
        ] {
            assert_eq!(heuristic_epochs(n), epochs, "{n} cells");
        }
    }

    #[test]
    fn restarts_rise_fall_and_start_again() {
        let rule = LrSchedule::CosineRestarts {
            n_epochs: 6,
            warmup: 2,
            growth: 2,
            min_lr: 0.1,
            decay: 0.5,
        };
        let mut s = LrState::new(rule.first(1.1));
        let mut rates = vec![s.lr];
        for epoch in 0..9 {
            s.after_epoch(&rule, 1.1, epoch, None);
            rates.push(s.lr);
        }
        let at = |t: f64| 0.1 + 0.5 * (1.0 + (std::f64::consts::PI * t).cos());
        let expected = [0.1, 0.6, 1.1, at(0.25), at(0.5), at(0.75), 0.1, 0.325, 0.55];
        for (found, expected) in rates.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{rates:?}");
        }
        // The second cycle falls for 8 epochs.
        let second = 0.1 + 0.45 * (1.0 + (std::f64::consts::PI / 8.0).cos()) / 2.0;
        assert!((rates[9] - second).abs() < 1e-12);
    }

    #[test]
    fn cosine_ends_at_the_minimum() {
        let mut s = LrState::new(1.0);
        s.after_epoch(
            &LrSchedule::Cosine {
                n_epochs: 4,
                min_lr: 0.1,
            },
            1.0,
            3,
            None,
        );
        assert!((s.lr - 0.1).abs() < 1e-12);
    }
}
