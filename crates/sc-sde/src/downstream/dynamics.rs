use candle_core::Tensor;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayViewMut1, Axis};
use serde::Serialize;

use super::arrays::{norms, to_array};
use super::field::drift_and_diffusion;
use super::ranking::pearson;
use super::simulate::{Batch, Simulation};
use super::{GeneSpace, StateLabels};
use crate::error::invalid;
use crate::solve::At;
use crate::{Error, Result};

/// How fast cells move, how much chance moves them, and what they express, over time and by where they end.
///
/// Paths are grouped by the label of their last state. Nothing of a path is kept but sums, so that any number of cells can be
/// gone through.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Dynamics {
    /// The times.
    pub times: Vec<f64>,
    /// The labels of ends.
    pub fates: Vec<String>,
    /// Paths that end in each.
    pub n_paths: Vec<usize>,
    /// The mean length of the drift of the paths to each fate, `[fates, times]`; NaN where there are none.
    pub drift: Array2<f64>,
    /// The mean length of the diffusion.
    pub diffusion: Array2<f64>,
    /// The mean length of the drift over all copies of each start cell, `[cells, times]`.
    pub cell_drift: Array2<f64>,
    /// The mean length of the diffusion over all copies.
    pub cell_diffusion: Array2<f64>,
    /// Expression, if it was asked for.
    pub expression: Option<TemporalExpression>,
}

/// Expression of genes over time, by where paths end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TemporalExpression {
    /// The genes.
    pub genes: Vec<String>,
    /// The mean, `[fates, times, genes]`, on the scale that the gene space was made from; NaN where there are no paths.
    pub mean: Array3<f64>,
    /// The standard deviation over paths (with `n - 1`).
    pub std: Array3<f64>,
}

/// How a gene's mean expression goes with mean drift and diffusion over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GeneDynamics {
    /// The gene.
    pub gene: String,
    /// Pearson's correlation with the length of the drift; none if one doesn't vary.
    pub drift: Option<f64>,
    /// With the length of the diffusion.
    pub diffusion: Option<f64>,
}

impl Dynamics {
    /// Simulates all copies of each start cell (`[cells, D]`). With a gene space, expression too.
    ///
    /// # Errors
    /// As [`Simulation::run`] and [`StateLabels::label`]; [`Error::Shape`] if the spaces differ.
    pub fn measure(
        simulation: &Simulation<'_>,
        start: &Tensor,
        states: &StateLabels,
        genes: Option<&GeneSpace>,
    ) -> Result<Self> {
        let cells = start.dims().first().copied().unwrap_or(0);
        let mut sums = Sums::new(simulation, states, genes, cells)?;
        simulation.run(start, |batch| sums.add(simulation, states, genes, batch))?;
        Ok(sums.means(simulation, states, genes))
    }

    /// The correlations over time of each gene with drift and diffusion, among the paths to one fate.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such fate, no path ended there, expression wasn't asked for, or there are fewer
    /// than three times.
    pub fn correlations(&self, fate: &str) -> Result<Vec<GeneDynamics>> {
        let row = super::labels::number(&self.fates, fate)?;
        let Some(expression) = &self.expression else {
            return Err(invalid(
                "genes",
                "none",
                "give a gene space to Dynamics::measure",
            ));
        };
        if self.times.len() < 3 {
            return Err(invalid(
                "the number of times",
                self.times.len(),
                "at least 3, for a correlation over time",
            ));
        }
        if self.n_paths.get(row) == Some(&0) {
            return Err(invalid(
                "fate",
                format!("\"{fate}\""),
                "no path ended there",
            ));
        }
        let (f, g) = (
            self.drift.row(row).to_vec(),
            self.diffusion.row(row).to_vec(),
        );
        let over_time = expression.mean.index_axis(Axis(0), row);
        let of_gene = |(j, gene): (usize, &String)| {
            let x = over_time.column(j).to_vec();
            GeneDynamics {
                gene: gene.clone(),
                drift: pearson(&x, &f),
                diffusion: pearson(&x, &g),
            }
        };
        Ok(expression.genes.iter().enumerate().map(of_gene).collect())
    }
}

/// The largest number of each row: the peak over time of a cell's drift or diffusion, which rises with the number of fates that
/// are open to it.
pub fn peaks(values: &Array2<f64>) -> Vec<f64> {
    let rows = values.rows().into_iter();
    rows.map(|row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        .collect()
}

/// The mean over the cells of each group: `(group, cells, mean)`, groups ascending. With the number of fates of cells for groups
/// and [`peaks`] for values it is plasticity.
///
/// # Errors
/// [`Error::Shape`] unless there is a value for each cell.
pub fn by_group(groups: &[usize], values: &[f64]) -> Result<Vec<(usize, usize, f64)>> {
    if groups.len() != values.len() {
        return Err(Error::Shape {
            what: "the values of cells",
            found: vec![values.len()],
            expected: format!("[{}], one for each cell with a group", groups.len()),
        });
    }
    let mut sums = std::collections::BTreeMap::<usize, (usize, f64)>::new();
    for (group, value) in groups.iter().zip(values) {
        let entry = sums.entry(*group).or_default();
        *entry = (entry.0 + 1, entry.1 + value);
    }
    let mean = |(group, (n, sum)): (usize, (usize, f64))| (group, n, sum / n as f64);
    Ok(sums.into_iter().map(mean).collect())
}

/// Sums over the paths seen so far.
struct Sums {
    n_paths: Vec<usize>,
    drift: Array2<f64>,
    diffusion: Array2<f64>,
    cell_drift: Array2<f64>,
    cell_diffusion: Array2<f64>,
    expression: Option<Moments>,
}

/// Means and sums of squares around them, brought up to date group by group (Chan, Golub, LeVeque 1979).
struct Moments {
    mean: Array3<f64>,
    squares: Array3<f64>,
}

impl Sums {
    fn new(
        simulation: &Simulation<'_>,
        states: &StateLabels,
        genes: Option<&GeneSpace>,
        cells: usize,
    ) -> Result<Self> {
        let (fates, times) = (states.names().len(), simulation.times().len());
        if let Some(space) = genes.filter(|g| g.dim() != states.dim()) {
            return Err(Error::Shape {
                what: "the space of genes",
                found: vec![space.dim()],
                expected: format!("{} dimensions, as the labelled cells", states.dim()),
            });
        }
        let moments = |space: &GeneSpace| {
            let zeros = Array3::zeros((fates, times, space.genes().len()));
            Moments {
                mean: zeros.clone(),
                squares: zeros,
            }
        };
        Ok(Self {
            n_paths: vec![0; fates],
            drift: Array2::zeros((fates, times)),
            diffusion: Array2::zeros((fates, times)),
            cell_drift: Array2::zeros((cells, times)),
            cell_diffusion: Array2::zeros((cells, times)),
            expression: genes.map(moments),
        })
    }

    fn add(
        &mut self,
        simulation: &Simulation<'_>,
        states: &StateLabels,
        genes: Option<&GeneSpace>,
        batch: &Batch,
    ) -> Result<()> {
        let labels = states.label(batch.ends()?.view())?;
        for (k, (&t, z)) in batch.times().iter().zip(batch.states()).enumerate() {
            let at = At {
                t,
                step: simulation.step_of(k),
                stage: 0,
            };
            let (f, g) = drift_and_diffusion(simulation.sde(), at, z)?;
            let lengths = norms(&f)?.into_iter().zip(norms(&g)?);
            for (i, ((f, g), &label)) in lengths.zip(&labels).enumerate() {
                let cell = batch.path(i).0;
                for (sums, row, value) in [
                    (&mut self.drift, label, f),
                    (&mut self.diffusion, label, g),
                    (&mut self.cell_drift, cell, f),
                    (&mut self.cell_diffusion, cell, g),
                ] {
                    if let Some(sum) = sums.get_mut((row, k)) {
                        *sum += value;
                    }
                }
            }
            if let (Some(space), Some(moments)) = (genes, &mut self.expression) {
                let x = space.to_genes(to_array(z)?.view())?.mapv(f64::from);
                moments.add(k, &x, &labels, &self.n_paths);
            }
        }
        for label in labels {
            if let Some(n) = self.n_paths.get_mut(label) {
                *n += 1;
            }
        }
        Ok(())
    }

    fn means(
        self,
        simulation: &Simulation<'_>,
        states: &StateLabels,
        genes: Option<&GeneSpace>,
    ) -> Dynamics {
        let n: Array1<f64> = self.n_paths.iter().map(|n| *n as f64).collect();
        let n = n.insert_axis(Axis(1));
        let copies = simulation.n_copies() as f64;
        let expression = genes.zip(self.expression).map(|(space, m)| {
            let few = n.mapv(|n| if n > 0.0 { 1.0 } else { f64::NAN });
            let freedom = n.mapv(|n| if n > 1.0 { n - 1.0 } else { f64::NAN });
            TemporalExpression {
                genes: space.genes().to_vec(),
                mean: m.mean * few.insert_axis(Axis(2)),
                std: (m.squares / freedom.insert_axis(Axis(2))).mapv(f64::sqrt),
            }
        });
        Dynamics {
            times: simulation.times().to_vec(),
            fates: states.names().to_vec(),
            n_paths: self.n_paths,
            drift: self.drift / &n,
            diffusion: self.diffusion / &n,
            cell_drift: self.cell_drift / copies,
            cell_diffusion: self.cell_diffusion / copies,
            expression,
        }
    }
}

fn genes_of(all: &Array3<f64>, label: usize, k: usize) -> ArrayView1<'_, f64> {
    all.index_axis(Axis(0), label).index_axis_move(Axis(0), k)
}

fn genes_of_mut(all: &mut Array3<f64>, label: usize, k: usize) -> ArrayViewMut1<'_, f64> {
    all.index_axis_mut(Axis(0), label)
        .index_axis_move(Axis(0), k)
}

impl Moments {
    /// Adds the expression `x` (`[paths, genes]`) at time number `k` of paths with these labels; `before` paths of each label
    /// have been added.
    fn add(&mut self, k: usize, x: &Array2<f64>, labels: &[usize], before: &[usize]) {
        for (label, &n_before) in before.iter().enumerate() {
            let rows: Vec<usize> = (0..labels.len())
                .filter(|&i| labels.get(i) == Some(&label))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let some = x.select(Axis(0), &rows);
            let (n, before) = (rows.len() as f64, n_before as f64);
            let sum = some.sum_axis(Axis(0));
            let mean = &sum / n;
            let squares = (&some - &mean).mapv(|v| v * v).sum_axis(Axis(0));
            let apart = &mean - &genes_of(&self.mean, label, k);
            let mut all = genes_of_mut(&mut self.mean, label, k);
            all.scaled_add(n / (n + before), &apart);
            let mut all = genes_of_mut(&mut self.squares, label, k);
            all += &squares;
            all.scaled_add(n * before / (n + before), &apart.mapv(|v| v * v));
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use ndarray::array;
    use sc_data::Categorical;

    use super::super::arrays::to_tensor;
    use super::super::genes::tests::space;
    use super::*;
    use crate::solve::zoo::{Bifurcation, OrnsteinUhlenbeck};

    /// Diffusion is strongest where the valley splits, and both branches are alike.
    #[test]
    fn diffusion_peaks_at_the_branch_point() {
        let sde = Bifurcation::default();
        let start = Tensor::zeros((50, 2), DType::F64, &Device::Cpu).unwrap();
        let times: Vec<f64> = (0..=8).map(|k| 0.5 * f64::from(k)).collect();
        let simulation = Simulation::new(&sde, &times, 0.05).unwrap().copies(20);
        let ends = array![[4.0f32, -1.7], [4.0, 1.7]];
        let branches = Categorical::from_labels(&["low", "high"]);
        let states = StateLabels::new(ends.view(), &branches).unwrap().k(1);
        let found = Dynamics::measure(&simulation, &start, &states, None).unwrap();
        assert_eq!(found.n_paths.iter().sum::<usize>(), 1000);
        for row in 0..2 {
            assert!((found.n_paths[row] as f64 / 1000.0 - 0.5).abs() < 0.08);
            let g = found.diffusion.row(row).to_vec();
            let peak = (0..g.len()).max_by(|a, b| g[*a].total_cmp(&g[*b])).unwrap();
            assert_eq!(times[peak], 1.0, "{g:?}");
        }
        assert!(peaks(&found.cell_diffusion).iter().all(|p| *p > 0.3));
        assert!(found.correlations("low").is_err());
    }

    /// Means and deviations over blocks are those over all paths at once.
    #[test]
    fn expression_over_time() {
        let (x, space) = space();
        let rows: Vec<usize> = (0..60).collect();
        let places = space.project(&x, &rows).unwrap();
        let start = to_tensor(places.view(), DType::F32).unwrap();
        let sde = OrnsteinUhlenbeck::new(0.5, 0.0, 0.4);
        let simulation = Simulation::new(&sde, &[0.0, 0.5, 1.0, 1.5], 0.1).unwrap();
        let simulation = simulation.copies(40);
        let one = Categorical::from_labels(&["all"]);
        let origin = Array2::zeros((1, 8));
        let states = StateLabels::new(origin.view(), &one).unwrap();
        let found = Dynamics::measure(&simulation, &start, &states, Some(&space)).unwrap();
        let all = simulation.populations(&start).unwrap();
        let last = space.to_genes(all[3].view()).unwrap().mapv(f64::from);
        let expression = found.expression.as_ref().unwrap();
        let mean = last.mean_axis(Axis(0)).unwrap();
        let std = last.std_axis(Axis(0), 1.0);
        for g in 0..8 {
            assert!((expression.mean[[0, 3, g]] - mean[g]).abs() < 1e-9);
            assert!((expression.std[[0, 3, g]] - std[g]).abs() < 1e-9);
        }
        // Cells return to the middle: all means shrink together with the drift.
        let genes = found.correlations("all").unwrap();
        assert_eq!(genes.len(), 8);
        assert!(
            genes.iter().all(|g| g.diffusion.is_none()),
            "constant noise"
        );
        assert!(genes.iter().all(|g| g.drift.is_some()));
        assert!(found.correlations("none").is_err());
    }

    #[test]
    fn means_of_groups() {
        let found = by_group(&[2, 1, 2], &[1.0, 5.0, 3.0]).unwrap();
        assert_eq!(found, [(1, 1, 5.0), (2, 2, 2.0)]);
        assert!(by_group(&[1], &[]).is_err());
    }
}
