use crate::{Error, Result};

/// One step of a solver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its number, from 0.
    pub index: usize,
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

impl Interval {
    /// Its length.
    pub fn length(&self) -> f64 {
        self.end - self.start
    }
}

/// Where a state is handed out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// After this many steps.
    pub after: usize,
    /// The weight of the state after the step; that before it has the rest. 1 unless the output lies within a step.
    pub weight: f64,
}

/// The steps of a solver and the times at which states are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    times: Vec<f64>,
    steps: Vec<Interval>,
    outputs: Vec<Output>,
}

/// How many steps a schedule may have.
const MOST_STEPS: f64 = 1e7;

/// The number type in which the original's clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockPrecision {
    /// 32 bits: what scDiffEq trains with.
    F32,
    /// 64 bits.
    F64,
}

impl Schedule {
    /// Each stretch between two times is cut into equal steps, as many as make them nearest to `dt`. The first time is that
    /// of the start.
    ///
    /// # Errors
    /// [`Error::Times`] unless there are at least two times, finite and increasing, and `dt` is above 0.
    pub fn grid(times: &[f64], dt: f64) -> Result<Self> {
        check(times, dt)?;
        let mut schedule = Self::at_start(times);
        for pair in times.windows(2) {
            let &[from, to] = pair else { continue };
            let n = ((to - from) / dt).round().max(1.0);
            let point = |i: usize| from + (to - from) * (i as f64 / n);
            let n = n as usize;
            for i in 0..n {
                let end = if i + 1 == n { to } else { point(i + 1) };
                schedule.push(point(i), end);
            }
            schedule.outputs.push(Output {
                after: schedule.steps.len(),
                weight: 1.0,
            });
        }
        Ok(schedule)
    }

    /// The steps of torchsde, to compare with it: the clock adds `dt` again and again in 32 or 64 bits, passes over the
    /// times in between, and states there are interpolated linearly.
    ///
    /// # Errors
    /// As [`Schedule::grid`], and if `dt` is lost in rounding.
    pub fn torchsde(times: &[f64], dt: f64, precision: ClockPrecision) -> Result<Self> {
        check(times, dt)?;
        let round = |x: f64| match precision {
            ClockPrecision::F32 => f64::from(x as f32),
            ClockPrecision::F64 => x,
        };
        let mut schedule = Self::at_start(times);
        let last = round(times.last().copied().unwrap_or_default());
        let mut now = round(times.first().copied().unwrap_or_default());
        let mut before = now;
        for &time in times.iter().skip(1) {
            let time = round(time);
            while now < time {
                before = now;
                // Sums of 32-bit numbers are exact in 64 bits, so this rounds once.
                now = round(now + round(dt)).min(last);
                if now <= before {
                    return Err(Error::Times {
                        reason: format!("dt = {dt} is lost in rounding at time {before}"),
                    });
                }
                schedule.push(before, now);
            }
            schedule.outputs.push(Output {
                after: schedule.steps.len(),
                weight: (time - before) / (now - before),
            });
        }
        Ok(schedule)
    }

    fn at_start(times: &[f64]) -> Self {
        let outputs = vec![Output {
            after: 0,
            weight: 1.0,
        }];
        Self {
            times: times.to_vec(),
            steps: Vec::new(),
            outputs,
        }
    }

    fn push(&mut self, start: f64, end: f64) {
        let index = self.steps.len();
        self.steps.push(Interval { index, start, end });
    }

    /// The times at which states are handed out; the first is the start.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Interval] {
        &self.steps
    }

    /// Where the states of [`Schedule::times`] come from.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }
}

fn check(times: &[f64], dt: f64) -> Result<()> {
    let refuse = |reason: String| Err(Error::Times { reason });
    if !(dt.is_finite() && dt > 0.0) {
        return refuse(format!("dt = {dt}; it must be a number above 0"));
    }
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
        return refuse("there are none; the start and one later time are needed".into());
    };
    if times.len() < 2 {
        return refuse(format!(
            "there is only {first}; the start and one later time are needed"
        ));
    }
    if let Some(t) = times.iter().find(|t| !t.is_finite()) {
        return refuse(format!("one of them is {t}"));
    }
    if let Some(&[a, b]) = times.windows(2).find(|w| !matches!(w, [a, b] if a < b)) {
        return refuse(format!(
            "{b} comes after {a}; sort them and drop those that occur twice"
        ));
    }
    if (last - first) / dt > MOST_STEPS {
        return refuse(format!(
            "dt = {dt} makes more than {MOST_STEPS:e} steps between {first} and {last}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_hits_the_times_exactly() {
        let s = Schedule::grid(&[2.0, 4.0, 6.0], 0.1).unwrap();
        assert_eq!(s.steps().len(), 40);
        assert_eq!(s.steps()[19].end, 4.0);
        assert_eq!(s.steps()[39].end, 6.0);
        assert!(s.outputs().iter().all(|o| o.weight == 1.0));
        assert_eq!(Schedule::grid(&[0.0, 0.01], 0.1).unwrap().steps().len(), 1);
    }

    /// Step counts that torchsde was seen to take.
    #[test]
    fn the_clock_of_torchsde_overshoots() {
        let count = |times: &[f64]| {
            let s = Schedule::torchsde(times, 0.1, ClockPrecision::F32).unwrap();
            s.steps().len()
        };
        assert_eq!(count(&[2.0, 4.0, 6.0]), 41);
        assert_eq!(count(&[0.0, 1.0]), 10);
        assert_eq!(count(&[0.0, 1.0, 2.0]), 20);
        assert_eq!(count(&[4.0, 7.0]), 31);
        let s = Schedule::torchsde(&[2.0, 4.0, 6.0], 0.1, ClockPrecision::F32).unwrap();
        assert_eq!(s.steps()[39].start, 5.899996280670166);
        assert_eq!(s.steps()[40].start, 5.999996185302734);
        let s = Schedule::torchsde(&[0.0, 0.5, 1.0], 0.1, ClockPrecision::F64).unwrap();
        assert_eq!(s.steps().len(), 11);
    }

    #[test]
    fn bad_times_are_refused() {
        let refused = |times: &[f64], dt: f64, why: &str| {
            let error = Schedule::grid(times, dt).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(&[], 0.1, "none");
        refused(&[1.0], 0.1, "only 1");
        refused(&[0.0, 2.0, 1.0], 0.1, "1 comes after 2");
        refused(&[0.0, 0.0], 0.1, "twice");
        refused(&[0.0, f64::NAN], 0.1, "NaN");
        refused(&[0.0, 1.0], 0.0, "above 0");
        refused(&[0.0, 1.0], -0.1, "above 0");
        refused(&[0.0, 1.0], f64::NAN, "above 0");
        refused(&[0.0, 1.0], 1e-12, "steps");
        let lost = Schedule::torchsde(&[1e7, 1e7 + 4.0], 0.01, ClockPrecision::F32);
        assert!(lost.unwrap_err().to_string().contains("rounding"));
    }
}
