//! What is found of a known truth.

use sc_latent::milo::{
    self, Counts, DaTable, Design, NeighbourhoodOptions, Neighbourhoods, Normalisation, SampleSize,
    TestOptions,
};
use sc_neighbors::{connectivities, knn};

use crate::world::{Experiment, World};
use crate::{ALPHA, Failure, NEAREST};

/// Below this a true fold change is none.
const NONE: f64 = 1.05;

/// What sizes of samples are compared by.
#[derive(Clone, Copy)]
pub(crate) enum Sizes {
    /// A method for users.
    Of(SampleSize, Normalisation),
    /// The simulation's own sizes: what a method could do at best.
    Truth,
}

/// An experiment, ready to be tested.
pub(crate) struct Ready {
    experiment: Experiment,
    world: World,
    neighbourhoods: Neighbourhoods,
    counts: Counts,
    design: Design,
    /// The mean true fold change of each neighbourhood.
    fold: Vec<f64>,
}

/// How many neighbourhoods were called, rightly or wrongly.
#[derive(Default, Clone, Copy)]
pub(crate) struct Score {
    /// Neighbourhoods in which at least half of the change shows, and those of them that were called.
    changed: usize,
    found: usize,
    /// Calls, and those of a rise.
    called: usize,
    rises: usize,
    /// Calls where the true fold change is none, and those of a rise.
    wrong: usize,
    wrong_rises: usize,
    /// The mean log2 fold change where there is none.
    pub(crate) off: f64,
}

impl Score {
    pub(crate) fn power(&self) -> f64 {
        share(self.found, self.changed)
    }

    pub(crate) fn wrong(&self) -> f64 {
        share(self.wrong, self.called)
    }

    pub(crate) fn wrong_rises(&self) -> f64 {
        share(self.wrong_rises, self.rises)
    }
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

impl Ready {
    pub(crate) fn new(experiment: Experiment) -> Result<Self, Failure> {
        let world = experiment.world()?;
        let places = world.embedding.view();
        let near = knn(places, NEAREST)?;
        let mut options = NeighbourhoodOptions::default();
        options.seed = experiment.seed;
        let distances = milo::kth_distances(&near);
        let neighbourhoods =
            Neighbourhoods::new(places, &connectivities(&near)?, &distances, &options)?;
        let counts = Counts::new(&neighbourhoods, &world.sample, "sample")?;
        let design = Design::new(experiment.formula, &world.obs, &world.sample)?;
        let fold = neighbourhoods.mean_of(&world.fold)?;
        Ok(Self {
            experiment,
            world,
            neighbourhoods,
            counts,
            design,
            fold,
        })
    }

    pub(crate) fn score(&self, sizes: Sizes) -> Result<Score, Failure> {
        let mut options = TestOptions::default();
        let mut counts = self.counts.clone();
        match sizes {
            Sizes::Of(size, normalisation) => {
                (options.size, options.normalisation) = (size, normalisation);
            }
            Sizes::Truth => {
                (options.size, options.normalisation) = (SampleSize::Cells, Normalisation::Sizes);
                counts.cells_of_sample = self.world.true_size.clone();
            }
        }
        let table = milo::differential_abundance(
            &self.neighbourhoods,
            self.world.embedding.view(),
            &counts,
            &self.design,
            &options,
        )?;
        Ok(self.count(&table))
    }

    fn count(&self, table: &DaTable) -> Score {
        let mut s = Score::default();
        let (mut sum, mut unchanged) = (0.0, 0.0);
        let right = self.experiment.fold;
        for (row, &fold) in table.rows.iter().zip(&self.fold) {
            let (called, rises) = (row.spatial_fdr <= ALPHA, row.log_fc > 0.0);
            // At least half of the change, in its direction.
            let changed = (fold - 1.0) / (right - 1.0) >= 0.5;
            let none = fold < NONE && fold > 1.0 / NONE;
            s.changed += usize::from(changed);
            s.found += usize::from(changed && called && rises == (right > 1.0));
            s.called += usize::from(called);
            s.rises += usize::from(called && rises);
            s.wrong += usize::from(none && called);
            s.wrong_rises += usize::from(none && called && rises);
            if none {
                sum += row.log_fc;
                unchanged += 1.0;
            }
        }
        s.off = sum / f64::max(unchanged, 1.0);
        s
    }
}
