//! Experiments whose truth is known.

use ndarray::Array2;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use sc_data::{Categorical, Column, Table};
use sc_tensor::{Rng, Stream};

use crate::{DIMENSIONS, Failure};

/// Where cells lie.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// A curve whose second half has two branches.
    Trajectory,
    /// Eight clouds of different sizes.
    Clusters,
}

/// A simulated experiment.
#[derive(Clone, Copy)]
pub(crate) struct Experiment {
    pub(crate) shape: Shape,
    /// Samples of each of two conditions.
    pub(crate) replicates: usize,
    /// How many times as many cells the second condition has where it changes anything.
    pub(crate) fold: f64,
    /// How many times as many cells the second batch has at another place.
    pub(crate) batch_fold: f64,
    /// Standard deviation of the log density of a sample at a place.
    pub(crate) variation: f64,
    pub(crate) cells: usize,
    pub(crate) formula: &'static str,
    pub(crate) seed: u64,
}

/// A place: the branch or the cluster, and where on the branch.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    t: f64,
}

const CLUSTER_SHARES: [f64; 8] = [0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.04];

pub(crate) struct World {
    pub(crate) embedding: Array2<f32>,
    pub(crate) sample: Categorical,
    pub(crate) obs: Table,
    /// The true fold change at each cell.
    pub(crate) fold: Vec<f64>,
    /// Cells that a sample would have if it had been as the condition found it: what sizes ought to be in proportion to.
    pub(crate) true_size: Vec<usize>,
}

impl Experiment {
    /// Three samples a condition on a trajectory, without any change.
    pub(crate) fn base() -> Self {
        Self {
            shape: Shape::Trajectory,
            replicates: 3,
            fold: 1.0,
            batch_fold: 1.0,
            variation: 0.25,
            cells: 0,
            formula: "~ condition",
            seed: 0,
        }
    }

    pub(crate) fn n_samples(&self) -> usize {
        2 * self.replicates
    }

    /// How many times as many cells the second condition, or the second batch, has at a place.
    fn folds(&self, at: Place) -> (f64, f64) {
        let (condition, batch) = match self.shape {
            Shape::Trajectory => (at.part == 1 && at.t > 0.7, at.part == 0 && at.t < 0.25),
            Shape::Clusters => (at.part == 4, at.part == 1),
        };
        let of = |is: bool, fold: f64| if is { fold } else { 1.0 };
        (of(condition, self.fold), of(batch, self.batch_fold))
    }

    fn draw_place(&self, rng: &mut Stream) -> Place {
        match self.shape {
            Shape::Trajectory => {
                let t = rng.random::<f64>();
                let part = if t < 0.5 { 0 } else { rng.random_range(0..2) };
                Place { part, t }
            }
            Shape::Clusters => {
                let mut u = rng.random::<f64>();
                let part = CLUSTER_SHARES.iter().position(|s| {
                    u -= s;
                    u < 0.0
                });
                Place {
                    part: part.unwrap_or(0),
                    t: 0.0,
                }
            }
        }
    }

    /// The coordinates of a place, with noise in all dimensions.
    fn coordinates(&self, at: Place, rng: &mut Stream) -> [f32; DIMENSIONS] {
        let angle = 2.4 * at.part as f64;
        let mut x = [0.0f64; DIMENSIONS];
        match self.shape {
            Shape::Trajectory => {
                x[0] = 8.0 * at.t;
                x[1] = 2.0 * (5.0 * at.t).sin();
                // The branches part slowly.
                x[2] = if at.part == 1 { 1.0 } else { -1.0 } * 8.0 * (at.t - 0.5).max(0.0);
            }
            Shape::Clusters => {
                x[0] = 6.0 * angle.cos();
                x[1] = 6.0 * angle.sin();
                x[2] = at.part as f64;
            }
        }
        let noise = if self.shape == Shape::Clusters {
            1.0
        } else {
            0.3
        };
        x.map(|v| {
            let e: f64 = StandardNormal.sample(rng);
            (v + noise * e) as f32
        })
    }

    pub(crate) fn world(&self) -> Result<World, Failure> {
        let mut rng = Rng::new(self.seed).stream("milo simulation");
        let normal = |rng: &mut Stream| -> f64 { StandardNormal.sample(rng) };
        let samples = self.n_samples();
        // A sample's log density: a few waves along a branch, or one number a cluster.
        let waves: Vec<[f64; 16]> = (0..samples)
            .map(|_| std::array::from_fn(|_| self.variation * normal(&mut rng)))
            .collect();
        let sizes: Vec<f64> = (0..samples)
            .map(|_| (0.3 * normal(&mut rng)).exp())
            .collect();
        let total: f64 = sizes.iter().sum();
        let mut places = Vec::new();
        let mut true_size = vec![0; samples];
        for s in 0..samples {
            let wanted = (self.cells as f64 * sizes[s] / total).round() as usize;
            let (condition, batch) = (s % 2, s / 2 % 2);
            let density = |at: Place| {
                let (c, b) = self.folds(at);
                let wave = match self.shape {
                    Shape::Clusters => waves[s][at.part],
                    Shape::Trajectory => (0..4)
                        .map(|k| {
                            waves[s][8 * at.part + k]
                                * ((k + 1) as f64 * 3.0 * at.t + k as f64).sin()
                        })
                        .sum(),
                };
                let factor =
                    if condition == 1 { c } else { 1.0 } * if batch == 1 { b } else { 1.0 };
                factor * wave.clamp(-2.0, 2.0).exp()
            };
            let highest = self.fold.max(1.0) * self.batch_fold.max(1.0) * 2f64.exp();
            let mut found = 0;
            while found < wanted {
                true_size[s] += 1;
                let at = self.draw_place(&mut rng);
                if rng.random::<f64>() * highest < density(at) {
                    places.push((s, at));
                    found += 1;
                }
            }
        }
        let mut embedding = Array2::zeros((places.len(), DIMENSIONS));
        for (mut row, (_, at)) in embedding.rows_mut().into_iter().zip(&places) {
            row.iter_mut()
                .zip(self.coordinates(*at, &mut rng))
                .for_each(|(o, v)| *o = v);
        }
        let names = |f: &dyn Fn(usize) -> String| -> Vec<String> {
            places.iter().map(|&(s, _)| f(s)).collect()
        };
        let mut obs = Table::new((0..places.len()).map(|i| i.to_string()).collect());
        let column = |labels: Vec<String>| Column::Categorical(Categorical::from_labels(&labels));
        obs.insert("condition", column(names(&|s| ["a", "b"][s % 2].into())))?;
        obs.insert("batch", column(names(&|s| ["1", "2"][s / 2 % 2].into())))?;
        Ok(World {
            embedding,
            sample: Categorical::from_labels(&names(&|s| format!("s{s:03}"))),
            obs,
            fold: places.iter().map(|&(_, at)| self.folds(at).0).collect(),
            true_size,
        })
    }
}
