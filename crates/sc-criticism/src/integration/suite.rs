use ndarray::{Array2, ArrayView2, Axis, Slice};
use sc_data::{Categorical, Csr};
use sc_neighbors::{Knn, Neighbors, adjusted_rand_index, connectivities};

use super::kbet::kbet_on_graph;
use super::mixing::both_lisi;
use super::silhouette::label_widths;
use super::{
    Agreement, AswBatch, Average, Connection, Covariate, Metric, Others, Scores, asw_batch,
    best_clustering, bras, cell_cycle_conservation, embedding_trajectory, graph_connectivity,
    isolated_f1, kmeans, leiden_sweep, pcr_comparison, scib_resolutions,
};
use crate::codes::{Codes, at_least_two, same_length};
use crate::matching::{
    mean_average_precision, neighbor_conservation, neighbours_of_share, seurat_alignment_score,
};
use crate::{Error, Result};

/// Neighbours of the local inverse Simpson's index, of kBET's graph, and of clusters and connectivity. scib-metrics counts
/// the cell itself: 90, 50 and 15.
const LISI: usize = 89;
const KBET: usize = 49;
const GRAPH: usize = 14;
/// kBET's level.
const ALPHA: f64 = 0.05;
/// The share of the cells that scglue counts as neighbours, and its number of random choices.
const SHARE: f64 = 0.01;
const REPEATS: usize = 4;

/// All metrics of integration for embeddings of the same cells.
#[derive(Debug, Clone)]
pub struct Suite<'a> {
    labels: Vec<u32>,
    batches: Vec<u32>,
    notes: Vec<String>,
    before: Option<ArrayView2<'a, f32>>,
    cell_cycle: Option<ArrayView2<'a, f64>>,
    pseudotime: Option<&'a [f64]>,
    resolutions: Vec<f64>,
    starts: usize,
    glue: bool,
    seed: u64,
}

impl<'a> Suite<'a> {
    /// For cells with these labels (cell types) and batches.
    ///
    /// # Errors
    /// [`Error::Length`] unless both are of the same cells, [`Error::Undefined`] if a cell lacks a label or a batch, or
    /// there are fewer than 16 cells.
    pub fn new(labels: &Categorical, batches: &Categorical) -> Result<Self> {
        same_length("the batches", batches.len(), "the labels", labels.len())?;
        if labels.len() < GRAPH + 2 {
            return Err(Error::Undefined(format!(
                "{} cells have no neighbourhoods to speak of; at least {} are needed",
                labels.len(),
                GRAPH + 2
            )));
        }
        Ok(Self {
            notes: small_groups(labels, "label"),
            labels: complete(labels, "label")?,
            batches: complete(batches, "batch")?,
            before: None,
            cell_cycle: None,
            pseudotime: None,
            resolutions: scib_resolutions(),
            starts: 1,
            glue: false,
            seed: 0,
        })
    }

    /// An embedding from before integration, usually principal components, for what compares with it.
    ///
    /// # Errors
    /// [`Error::Length`] unless it is of the same cells.
    pub fn before(mut self, points: ArrayView2<'a, f32>) -> Result<Self> {
        self.same("the embedding before integration", points.nrows())?;
        self.before = Some(points);
        Ok(self)
    }

    /// Scores of the cell cycle, one column each for S and G2M, `[n_cells, 2]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless they are of the same cells.
    pub fn cell_cycle(mut self, scores: ArrayView2<'a, f64>) -> Result<Self> {
        self.same("the cell cycle scores", scores.nrows())?;
        self.cell_cycle = Some(scores);
        Ok(self)
    }

    /// A pseudotime from before integration, NaN for cells without one.
    ///
    /// # Errors
    /// [`Error::Length`] unless it is of the same cells.
    pub fn pseudotime(mut self, times: &'a [f64]) -> Result<Self> {
        self.same("the pseudotime", times.len())?;
        self.pseudotime = Some(times);
        Ok(self)
    }

    /// The resolutions at which Leiden clusters are sought; scIB's 0.2 to 2.0 unless set. Without any, metrics of Leiden
    /// clusters are left out.
    #[must_use]
    pub fn resolutions(mut self, resolutions: Vec<f64>) -> Self {
        self.resolutions = resolutions;
        self
    }

    /// How often k-means starts; once unless set, as in scib-metrics.
    #[must_use]
    pub fn kmeans_starts(mut self, starts: usize) -> Self {
        self.starts = starts;
        self
    }

    /// Also scglue's metrics, whose neighbours are a hundredth of all cells: their time grows with the square of the
    /// number of cells.
    #[must_use]
    pub fn glue(mut self, glue: bool) -> Self {
        self.glue = glue;
        self
    }

    /// The seed of all that is random: 0 unless set.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn same(&self, what: &str, found: usize) -> Result<()> {
        same_length(what, found, "the labels", self.labels.len())
    }

    /// The metrics of an embedding, `[n_cells, dimensions]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless it is of the same cells, [`Error::Neighbors`] if a coordinate is not finite. A metric that
    /// these data don't define is no error: [`Scores::reason`] says why there is none.
    pub fn score(&self, points: ArrayView2<'_, f32>) -> Result<Scores> {
        self.score_with(points, &mut |_| ())
    }

    /// The same; `stage` is told what is computed next.
    ///
    /// # Errors
    /// As [`Suite::score`].
    pub fn score_with(
        &self,
        points: ArrayView2<'_, f32>,
        stage: &mut dyn FnMut(&'static str),
    ) -> Result<Scores> {
        self.same("the embedding", points.nrows())?;
        let mut run = Run {
            suite: self,
            points,
            scores: Scores {
                notes: self.notes.clone(),
                ..Scores::default()
            },
        };
        stage("neighbours");
        let n = points.nrows();
        let near = Knn::auto(n).neighbors(points, LISI.min(n - 1))?;
        if n <= LISI {
            run.scores.notes.push(format!(
                "{n} cells: iLISI and cLISI with {} neighbours instead of {LISI}",
                n - 1
            ));
        }
        stage("silhouettes");
        run.silhouettes();
        stage("LISI");
        let (ilisi, clisi) = both_lisi(&near, &self.batches, &self.labels);
        run.put(Metric::Ilisi, ilisi);
        run.put(Metric::Clisi, clisi);
        stage("kBET");
        run.put(Metric::Kbet, self.kbet(&near));
        stage("graph connectivity");
        let near = nearest(&near, GRAPH);
        run.put(
            Metric::GraphConnectivity,
            graph_connectivity(&near, &self.labels, Connection::Strong),
        );
        stage("k-means");
        run.kmeans();
        stage("Leiden clusters");
        run.leiden(&connectivities(&near)?)?;
        stage("principal component regression");
        run.compared_with_before();
        stage("trajectory");
        if let Some(times) = self.pseudotime {
            let batches = Some(self.batches.as_slice());
            run.put(
                Metric::Trajectory,
                embedding_trajectory(points, times, batches),
            );
        }
        if self.glue {
            stage("metrics of scglue");
            run.glue();
        }
        Ok(run.scores)
    }

    fn kbet(&self, near: &Neighbors) -> Result<f64> {
        let graph = connectivities(&nearest(near, KBET))?;
        Ok(kbet_on_graph(&graph, &self.labels, &self.batches, ALPHA)?.0)
    }
}

/// The metrics of one embedding so far.
struct Run<'s, 'a> {
    suite: &'s Suite<'a>,
    points: ArrayView2<'s, f32>,
    scores: Scores,
}

impl Run<'_, '_> {
    fn put(&mut self, metric: Metric, value: Result<f64>) {
        let value = match value {
            Ok(v) if v.is_finite() => Ok(v),
            Ok(v) => Err(format!("it came out as {v}")),
            Err(e) => Err(e.to_string()),
        };
        self.scores.values.insert(metric, value);
    }

    fn silhouettes(&mut self) {
        let (points, s) = (self.points, self.suite);
        let several = at_least_two("the number of labels", Codes::new(&s.labels).n());
        match several.and_then(|()| label_widths(points, &s.labels, &s.batches)) {
            Ok((label, isolated)) => {
                self.put(Metric::SilhouetteLabel, Ok(label));
                self.put(Metric::IsolatedLabels, isolated);
            }
            Err(e) => {
                self.put(Metric::IsolatedLabels, Err(Error::Undefined(e.to_string())));
                self.put(Metric::SilhouetteLabel, Err(e));
            }
        }
        let batch = asw_batch(points, &s.labels, &s.batches, AswBatch::Scib);
        self.put(Metric::SilhouetteBatch, batch);
        self.put(
            Metric::Bras,
            bras(points, &s.labels, &s.batches, Others::All),
        );
    }

    fn kmeans(&mut self) {
        let s = self.suite;
        let found = || {
            let n = Codes::new(&s.labels).n();
            at_least_two("the number of labels", n)?;
            let clusters = kmeans(self.points, n, s.starts, s.seed)?;
            let nmi = Agreement::new(&s.labels, &clusters)?.nmi(Average::Arithmetic);
            Ok((nmi, adjusted_rand_index(&s.labels, &clusters)?))
        };
        let (nmi, ari) = both(found());
        self.put(Metric::NmiKmeans, nmi);
        self.put(Metric::AriKmeans, ari);
    }

    fn leiden(&mut self, graph: &Csr) -> Result<()> {
        let s = self.suite;
        if s.resolutions.is_empty() {
            return Ok(());
        }
        let sweep = leiden_sweep(graph, &s.resolutions, s.seed)?;
        let best = at_least_two("the number of labels", Codes::new(&s.labels).n())
            .and_then(|()| best_clustering(&sweep, &s.labels))
            .map(|best| best.map_or((0.0, 0.0), |b| (b.nmi, b.ari)));
        let (nmi, ari) = both(best);
        self.put(Metric::NmiLeiden, nmi);
        self.put(Metric::AriLeiden, ari);
        let f1 = isolated_f1(&sweep, &s.labels, &s.batches, None);
        self.put(Metric::IsolatedF1, f1.map(Option::unwrap_or_default));
        Ok(())
    }

    fn compared_with_before(&mut self) {
        let s = self.suite;
        let missing = || Error::Undefined("there is no embedding from before integration".into());
        let pcr = s
            .before
            .ok_or_else(missing)
            .and_then(|b| pcr_comparison(b, self.points, Covariate::Labels(&s.batches)));
        self.put(Metric::PcrComparison, pcr);
        if let Some(scores) = s.cell_cycle {
            let kept = s
                .before
                .ok_or_else(missing)
                .and_then(|b| cell_cycle_conservation(b, self.points, scores, &s.batches));
            self.put(Metric::CellCycle, kept);
        }
    }

    fn glue(&mut self) {
        let (points, s) = (self.points, self.suite);
        let k = neighbours_of_share(points.nrows(), SHARE);
        let map = match &k {
            Ok(k) => mean_average_precision(points, &s.labels, *k),
            Err(e) => Err(Error::Undefined(e.to_string())),
        };
        self.put(Metric::MeanAveragePrecision, map);
        let sas = seurat_alignment_score(points, &s.batches, SHARE, REPEATS, s.seed);
        self.put(Metric::SeuratAlignment, sas);
        let kept = match s.before {
            Some(before) => k.and_then(|k| neighbor_conservation(before, points, &s.batches, k)),
            None => Err(Error::Undefined(
                "there is no embedding from before integration".into(),
            )),
        };
        self.put(Metric::NeighborConservation, kept);
    }
}

/// Two results of one computation.
fn both(found: Result<(f64, f64)>) -> (Result<f64>, Result<f64>) {
    match found {
        Ok((a, b)) => (Ok(a), Ok(b)),
        Err(e) => (Err(Error::Undefined(e.to_string())), Err(e)),
    }
}

/// The first `k` neighbours of each point, or as many as there are.
fn nearest(near: &Neighbors, k: usize) -> Neighbors {
    let k = k.min(near.k());
    let first = Slice::from(..k);
    let columns = |a: &Array2<f32>| a.slice_axis(Axis(1), first).to_owned();
    Neighbors {
        indices: near.indices.slice_axis(Axis(1), first).to_owned(),
        distances: columns(&near.distances),
    }
}

/// The numbers of labels of which none is missing.
fn complete(labels: &Categorical, what: &str) -> Result<Vec<u32>> {
    let missing = labels.codes().iter().filter(|c| c.is_none()).count();
    if missing > 0 {
        let first = labels.codes().iter().position(Option::is_none);
        return Err(Error::Undefined(format!(
            "{missing} cells have no {what}, the first in row {}; leave them out, or give them one",
            first.unwrap_or_default()
        )));
    }
    Ok(labels.codes().iter().filter_map(|&c| c).collect())
}

/// Says which labels have a single cell.
fn small_groups(labels: &Categorical, what: &str) -> Vec<String> {
    let counts = labels.counts();
    let single: Vec<&str> = labels
        .categories()
        .iter()
        .zip(&counts)
        .filter(|(_, n)| **n == 1)
        .map(|(c, _)| c.as_str())
        .collect();
    if single.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{what} with one cell: {}. Its silhouette width is 0, it counts as connected, and kBET leaves it out",
        single.join(", ")
    )]
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod tests;
