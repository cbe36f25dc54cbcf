//! Do intervals of the samples hold as much of the raw counts as they should?

use rayon::prelude::*;
use sc_data::Csr;

use crate::{Error, Result};

/// The quantiles whose intervals are looked at unless others are named: those of scvi-tools.
pub(super) const LEVELS: [f64; 14] = [
    0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95, 0.975,
];

/// How often raw counts lie within central intervals of the samples of their own cell and gene.
///
/// Quantiles interpolate linearly between sorted samples, so that an interval of few samples is narrow: of `n` samples, a
/// perfect model covers `(n - 1) / (n + 1)` of what it should. Models are comparable at one number of samples.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Calibration {
    /// What each interval should hold: the distance of its two levels.
    pub expected: Vec<f64>,
    /// What it holds, as a share of all cells and genes.
    pub observed: Vec<f64>,
    /// `sum (observed - expected)^2` over the intervals; 0 is perfect.
    pub error: f64,
}

/// Quantile levels as places between sorted samples.
#[derive(Debug, Clone)]
pub(super) struct Intervals {
    expected: Vec<f64>,
    /// Of the lower and upper level of each interval.
    places: Vec<(Place, Place)>,
    n_samples: usize,
}

/// `at` and the share of the way from there to the next sample.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    share: f64,
}

impl Place {
    fn new(level: f64, n_samples: usize) -> Self {
        let place = level * (n_samples - 1) as f64;
        Self {
            at: place.floor() as usize,
            share: place - place.floor(),
        }
    }

    /// The quantile, rounded as NumPy rounds it, since whether a count lies exactly on an end decides.
    fn of(self, sample: impl Fn(usize) -> f64) -> f64 {
        let low = sample(self.at);
        if self.share == 0.0 {
            return low;
        }
        let high = sample(self.at + 1);
        let apart = high - low;
        if self.share >= 0.5 {
            high - apart * (1.0 - self.share)
        } else {
            low + apart * self.share
        }
    }
}

impl Intervals {
    /// The first level with the last, the second with the last but one, ...
    pub(super) fn new(levels: &[f64], n_samples: usize) -> Result<Self> {
        let ascending = levels.windows(2).all(|w| w[0] < w[1]);
        let inside = levels.iter().all(|l| (0.0..=1.0).contains(l));
        if levels.is_empty() || !levels.len().is_multiple_of(2) || !ascending || !inside {
            return Err(Error::Setting {
                name: "levels",
                found: format!("{levels:?}"),
                expected: "an even number of quantile levels from 0 to 1, ascending",
            });
        }
        if n_samples < 2 {
            return Err(Error::Setting {
                name: "samples",
                found: n_samples.to_string(),
                expected: "at least 2, which calibration needs",
            });
        }
        let (lower, upper) = levels.split_at(levels.len() / 2);
        let pairs = || lower.iter().zip(upper.iter().rev());
        let place = |level: &f64| Place::new(*level, n_samples);
        Ok(Self {
            expected: pairs().map(|(low, high)| high - low).collect(),
            places: pairs()
                .map(|(low, high)| (place(low), place(high)))
                .collect(),
            n_samples,
        })
    }

    /// Counts the intervals that hold `raw`. `sorted` are the samples that are not 0, ascending, the first `negative` of them
    /// below it.
    fn count(&self, raw: f64, sorted: &[f32], negative: usize, hits: &mut [u64]) {
        let zeros = self.n_samples - sorted.len();
        let sample = |i: usize| {
            let at = match i {
                i if i < negative => i,
                i if i < negative + zeros => return 0.0,
                i => i - zeros,
            };
            sorted.get(at).copied().map_or(0.0, f64::from)
        };
        for (hit, (low, high)) in hits.iter_mut().zip(&self.places) {
            *hit += u64::from(low.of(sample) <= raw && raw <= high.of(sample));
        }
    }
}

/// Counts of what intervals hold, over the cells seen so far.
#[derive(Debug)]
pub(super) struct Counter {
    intervals: Intervals,
    hits: Vec<u64>,
    seen: u64,
}

impl Counter {
    pub(super) fn new(intervals: Intervals) -> Self {
        Self {
            hits: vec![0; intervals.expected.len()],
            seen: 0,
            intervals,
        }
    }

    /// Adds cells: every gene of each. Genes without a count anywhere lie within every interval, and cost nothing.
    pub(super) fn add(&mut self, raw: &Csr, samples: &[Csr]) {
        let n_genes = raw.n_cols();
        let empty = || {
            (
                vec![0u64; self.hits.len()],
                Cell::new(n_genes, samples.len()),
            )
        };
        let hits = (0..raw.n_rows())
            .into_par_iter()
            .fold(empty, |(mut hits, mut cell), i| {
                cell.count(i, raw, samples, &self.intervals, &mut hits);
                (hits, cell)
            })
            .map(|(hits, _)| hits)
            .reduce(
                || vec![0; self.hits.len()],
                |a, b| {
                    // Whole numbers: the order does not matter.
                    a.iter().zip(&b).map(|(a, b)| a + b).collect()
                },
            );
        self.hits.iter_mut().zip(&hits).for_each(|(h, k)| *h += k);
        self.seen += (raw.n_rows() * n_genes) as u64;
    }

    /// Adds one number of which there are samples.
    pub(super) fn add_one(&mut self, raw: f64, samples: &[f64]) {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let sample = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        for (hit, (low, high)) in self.hits.iter_mut().zip(&self.intervals.places) {
            *hit += u64::from(low.of(sample) <= raw && raw <= high.of(sample));
        }
        self.seen += 1;
    }

    pub(super) fn finish(self) -> Calibration {
        let n = self.seen as f64;
        let observed: Vec<f64> = self.hits.iter().map(|&h| h as f64 / n).collect();
        let pairs = observed.iter().zip(&self.intervals.expected);
        Calibration {
            error: pairs.map(|(o, e)| (o - e) * (o - e)).sum(),
            observed,
            expected: self.intervals.expected,
        }
    }
}

/// Room for the samples of one cell, gene by gene.
struct Cell {
    n_samples: usize,
    /// Samples of each gene that are not 0, `[genes, samples]`, and how many they are.
    values: Vec<f32>,
    filled: Vec<u32>,
    raw: Vec<f32>,
    /// Genes that have a count in a sample or in the raw cell.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl Cell {
    fn new(n_genes: usize, n_samples: usize) -> Self {
        Self {
            n_samples,
            values: vec![0.0; n_genes * n_samples],
            filled: vec![0; n_genes],
            raw: vec![0.0; n_genes],
            touched: Vec::new(),
            is_touched: vec![false; n_genes],
        }
    }

    fn touch(&mut self, g: u32) {
        let known = &mut self.is_touched[g as usize];
        if !*known {
            *known = true;
            self.touched.push(g);
        }
    }

    fn count(
        &mut self,
        i: usize,
        raw: &Csr,
        samples: &[Csr],
        intervals: &Intervals,
        hits: &mut [u64],
    ) {
        for sample in samples {
            let (genes, values) = sample.row(i);
            for (&g, &v) in genes.iter().zip(values) {
                if v != 0.0 {
                    self.touch(g);
                    let filled = &mut self.filled[g as usize];
                    self.values[g as usize * self.n_samples + *filled as usize] = v;
                    *filled += 1;
                }
            }
        }
        let (genes, values) = raw.row(i);
        for (&g, &v) in genes.iter().zip(values) {
            self.touch(g);
            self.raw[g as usize] = v;
        }
        let untouched = (self.raw.len() - self.touched.len()) as u64;
        hits.iter_mut().for_each(|h| *h += untouched);
        while let Some(g) = self.touched.pop() {
            let g = g as usize;
            let start = g * self.n_samples;
            let sorted = &mut self.values[start..start + self.filled[g] as usize];
            sorted.sort_unstable_by(f32::total_cmp);
            let negative = sorted.iter().take_while(|v| **v < 0.0).count();
            intervals.count(f64::from(self.raw[g]), sorted, negative, hits);
            self.filled[g] = 0;
            self.raw[g] = 0.0;
            self.is_touched[g] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// The definition, entry by entry.
    fn plainly(raw: &Array2<f32>, samples: &[Array2<f32>], levels: &[f64]) -> Vec<f64> {
        let half = levels.len() / 2;
        let mut hits = vec![0.0; half];
        for (at, &x) in raw.indexed_iter() {
            let mut own: Vec<f64> = samples.iter().map(|s| f64::from(s[at])).collect();
            own.sort_by(f64::total_cmp);
            let quantile = |level: f64| {
                let place = level * (own.len() - 1) as f64;
                let (a, t) = (place.floor() as usize, place.fract());
                own[a] + (own[(a + 1).min(own.len() - 1)] - own[a]) * t
            };
            for (j, hit) in hits.iter_mut().enumerate() {
                let (low, high) = (quantile(levels[j]), quantile(levels[levels.len() - 1 - j]));
                *hit += f64::from(u8::from(low <= f64::from(x) && f64::from(x) <= high));
            }
        }
        hits.iter().map(|h| h / raw.len() as f64).collect()
    }

    #[test]
    fn sparse_cells_count_as_dense_ones_do() {
        let value = |i: usize, g: usize, s: usize| {
            let v = (i * 31 + g * 17 + s * 13) % 11;
            // Mostly zeros, some negative, fractions that no interpolation meets.
            if v < 7 { 0.0 } else { v as f32 * 1.37 - 11.3 }
        };
        for n_samples in [2, 5, 12] {
            let raw = Array2::from_shape_fn((40, 9), |(i, g)| value(i, g, 99));
            let samples: Vec<Array2<f32>> = (0..n_samples)
                .map(|s| Array2::from_shape_fn((40, 9), |(i, g)| value(i, g, s)))
                .collect();
            let mut counter = Counter::new(Intervals::new(&LEVELS, n_samples).unwrap());
            let sparse: Vec<Csr> = samples.iter().map(Csr::from_dense).collect();
            counter.add(&Csr::from_dense(&raw), &sparse);
            let found = counter.finish();
            assert_eq!(found.observed, plainly(&raw, &samples, &LEVELS));
        }
    }

    #[test]
    fn one_number_at_a_time() {
        let mut counter = Counter::new(Intervals::new(&[0.25, 0.75], 5).unwrap());
        for raw in [0.0, 1.0, 2.0, 3.0, 4.0] {
            counter.add_one(raw, &[4.0, 0.0, 2.0, 1.0, 3.0]);
        }
        let found = counter.finish();
        assert_eq!(found.observed, [0.6]);
        assert!((found.error - 0.01).abs() < 1e-12);
    }

    #[test]
    fn levels_must_pair() {
        for levels in [&[0.1][..], &[0.9, 0.1], &[], &[0.1, 1.5]] {
            assert!(Intervals::new(levels, 5).is_err());
        }
        let message = Intervals::new(&LEVELS, 1).unwrap_err().to_string();
        assert!(message.contains("at least 2"), "{message}");
    }
}
