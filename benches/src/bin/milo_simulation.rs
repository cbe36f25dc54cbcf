//! Differential abundance where the truth is known: power, false discoveries, and time.
//!
//! `milo_simulation [REPETITIONS]` prints tables of power and false discoveries, `milo_simulation speed [CELLS]` the time of
//! each step.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use ndarray::Array2;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use sc_data::{Categorical, Column, Table};
use sc_latent::milo::{self, Counts, Design, NeighbourhoodOptions, Neighbourhoods, TestOptions};
use sc_neighbors::{connectivities, knn};
use sc_tensor::{Rng, Stream};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// The rate of false discoveries aimed at.
const ALPHA: f64 = 0.1;
/// Dimensions of the embedding.
const DIMENSIONS: usize = 10;
/// Nearest other cells of a cell.
const NEAREST: usize = 50;
/// Cells of a sample on average.
const CELLS: usize = 500;

/// Where cells lie.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// A curve whose second half has two branches.
    Trajectory,
    /// Eight clouds of different sizes.
    Clusters,
}

/// A simulated experiment.
#[derive(Clone, Copy)]
struct Experiment {
    shape: Shape,
    /// Samples of each of two conditions.
    replicates: usize,
    /// How many times as many cells the second condition has where it changes anything.
    fold: f64,
    /// How many times as many cells the second batch has at another place.
    batch_fold: f64,
    /// Standard deviation of the log density of a sample at a place.
    variation: f64,
    cells: usize,
    formula: &'static str,
    seed: u64,
}

/// A place: the branch or the cluster, and where on the branch.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    t: f64,
}

const CLUSTER_SHARES: [f64; 8] = [0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.04];

struct World {
    embedding: Array2<f32>,
    sample: Categorical,
    obs: Table,
    /// The true fold change at each cell.
    fold: Vec<f64>,
}

impl Experiment {
    fn n_samples(&self) -> usize {
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

    fn world(&self) -> Result<World, Failure> {
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
        })
    }
}

/// How many neighbourhoods were called, rightly or wrongly.
#[derive(Default, Clone, Copy)]
struct Score {
    /// Neighbourhoods in which at least half of the change shows, and those of them that were called.
    changed: usize,
    found: usize,
    /// Calls, and those where the true fold change is below 1.05.
    called: usize,
    wrong: usize,
    /// Wrong calls of a rise. Falls are also what a large rise elsewhere looks like, as samples have shares to give away.
    wrong_rises: usize,
}

fn score(e: &Experiment) -> Result<Score, Failure> {
    let w = e.world()?;
    let neighbors = knn(w.embedding.view(), NEAREST)?;
    let graph = connectivities(&neighbors)?;
    let mut options = NeighbourhoodOptions::default();
    options.seed = e.seed;
    let n = Neighbourhoods::new(
        w.embedding.view(),
        &graph,
        &milo::kth_distances(&neighbors),
        &options,
    )?;
    let counts = Counts::new(&n, &w.sample, "sample")?;
    let design = Design::new(e.formula, &w.obs, &w.sample)?;
    let table = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &counts,
        &design,
        &TestOptions::default(),
    )?;
    let mut s = Score::default();
    for (row, fold) in table.rows.iter().zip(n.mean_of(&w.fold)?) {
        let called = row.spatial_fdr <= ALPHA;
        let changed = e.fold > 1.0 && fold >= f64::midpoint(1.0, e.fold);
        s.changed += usize::from(changed);
        s.found += usize::from(changed && called && row.log_fc > 0.0);
        s.called += usize::from(called);
        let wrong = called && fold < 1.05;
        s.wrong += usize::from(wrong);
        s.wrong_rises += usize::from(wrong && row.log_fc > 0.0);
    }
    Ok(s)
}

/// Means over repetitions: power, the share of wrong calls among all, and of wrong rises among all rises. Without any
/// change the shares are those of repetitions with a call.
fn means(e: Experiment, repetitions: u64) -> Result<[f64; 3], Failure> {
    let mut sums = [0.0; 3];
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    for seed in 0..repetitions {
        let s = score(&Experiment { seed, ..e })?;
        let falls = s.wrong - s.wrong_rises;
        sums[0] += share(s.found, s.changed);
        sums[1] += share(s.wrong, s.called);
        sums[2] += share(s.wrong_rises, s.called - falls);
    }
    Ok(sums.map(|s| s / repetitions as f64))
}

/// A line of a table.
fn line(first: &str, e: Experiment, repetitions: u64) -> Result<(), Failure> {
    let [power, wrong, rises] = means(e, repetitions)?;
    let power = if e.fold > 1.0 {
        format!("{power:.2}")
    } else {
        "-".into()
    };
    println!(
        "| {first} | {} | {power} | {wrong:.3} | {rises:.3} |",
        e.fold
    );
    Ok(())
}

fn tables(repetitions: u64) -> Result<(), Failure> {
    println!(
        "Spatial FDR {ALPHA}, {repetitions} repetitions, {CELLS} cells a sample on average, k = {NEAREST}.\n"
    );
    println!(
        "| cells | samples a condition | fold change | power | wrong calls | wrong rises |\n|---|---|---|---|---|---|"
    );
    let base = Experiment {
        shape: Shape::Trajectory,
        replicates: 3,
        fold: 1.0,
        batch_fold: 1.0,
        variation: 0.25,
        cells: 0,
        formula: "~ condition",
        seed: 0,
    };
    for (shape, name) in [
        (Shape::Trajectory, "trajectory"),
        (Shape::Clusters, "clusters"),
    ] {
        for replicates in [3, 5, 10] {
            for fold in [1.0, 1.5, 2.0, 3.0, 4.0] {
                let e = Experiment {
                    shape,
                    replicates,
                    fold,
                    cells: 2 * replicates * CELLS,
                    ..base
                };
                line(&format!("{name} | {replicates}"), e, repetitions)?;
            }
        }
    }
    println!(
        "\nFive samples a condition, the second batch has 3 times as many cells at another place:\n"
    );
    println!(
        "| cells | design | fold change | power | wrong calls | wrong rises |\n|---|---|---|---|---|---|"
    );
    // Six samples a condition would be balanced; with five, batch and condition are partly confounded.
    for (shape, name) in [
        (Shape::Trajectory, "trajectory"),
        (Shape::Clusters, "clusters"),
    ] {
        for formula in ["~ condition", "~ batch + condition"] {
            for fold in [1.0, 3.0] {
                let replicates = 5;
                let e = Experiment {
                    shape,
                    replicates,
                    fold,
                    batch_fold: 3.0,
                    formula,
                    cells: 10 * CELLS,
                    ..base
                };
                line(&format!("{name} | `{formula}`"), e, repetitions)?;
            }
        }
    }
    Ok(())
}

fn speed(cells: usize) -> Result<(), Failure> {
    let e = Experiment {
        shape: Shape::Trajectory,
        replicates: 10,
        fold: 2.0,
        batch_fold: 1.5,
        variation: 0.25,
        cells,
        formula: "~ batch + condition",
        seed: 0,
    };
    let w = e.world()?;
    let mut watch = Instant::now();
    let mut lap = |what: &str| {
        println!("{what:<24} {:8.3} s", watch.elapsed().as_secs_f64());
        watch = Instant::now();
    };
    let neighbors = knn(w.embedding.view(), NEAREST)?;
    lap("nearest neighbours");
    let graph = connectivities(&neighbors)?;
    let distances = milo::kth_distances(&neighbors);
    lap("connectivities");
    let mut options = NeighbourhoodOptions::default();
    options.proportion = 0.05;
    let n = Neighbourhoods::new(w.embedding.view(), &graph, &distances, &options)?;
    lap("neighbourhoods");
    let counts = Counts::new(&n, &w.sample, "sample")?;
    let design = Design::new(e.formula, &w.obs, &w.sample)?;
    lap("counts and design");
    let table = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &counts,
        &design,
        &TestOptions::default(),
    )?;
    lap("tests");
    n.overlaps()?;
    lap("neighbourhood graph");
    let (falling, rising) = table.n_changed(ALPHA);
    println!(
        "{} cells, {} samples, {} neighbourhoods: {rising} rise, {falling} fall",
        w.embedding.nrows(),
        e.n_samples(),
        n.len()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<usize>().ok());
    if args.first().is_some_and(|a| a == "speed") {
        speed(number(1).unwrap_or(100_000))
    } else {
        tables(number(0).unwrap_or(20) as u64)
    }
}
