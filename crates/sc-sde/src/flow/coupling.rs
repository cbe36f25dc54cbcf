//! Which cells of two times belong together.

use ndarray::ArrayView2;
use sc_tensor::Stream;
use serde::{Deserialize, Serialize};

use crate::transport::{Cloud, Sinkhorn, exact_plan, sample_plan};
use crate::{Error, Result};

/// How cells of neighbouring times are paired.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Coupling {
    /// At random: CFM.
    Independent,
    /// By exact optimal transport of the minibatch: OT-CFM.
    Exact,
    /// By entropic transport with `reg = 2 sigma^2`, the plan of the Schroedinger bridge with this noise.
    Entropic,
    /// By transport that may create and destroy mass where the other side is further away than `reach`: growth is learned
    /// from how much mass comes out of each cell.
    Unbalanced {
        /// In the units of the states.
        reach: f64,
    },
}

/// Cells of one side of a pair of times.
pub(super) struct Side<'a> {
    pub(super) points: ArrayView2<'a, f64>,
    /// How much each weighs; all the same if none are given.
    pub(super) weights: Option<Vec<f64>>,
}

impl<'a> Side<'a> {
    fn cloud(&self) -> Result<Cloud<'a, f64>> {
        let cloud = Cloud::new(self.points)?;
        match &self.weights {
            Some(w) => cloud.with_weights(ndarray::ArrayView1::from(w.as_slice())),
            None => Ok(cloud),
        }
    }
}

/// Pairs of cells.
pub(super) struct Pairs {
    /// Of the earlier and of the later time.
    pub(super) pairs: Vec<(usize, usize)>,
    /// The logarithm of how much mass comes out of each earlier cell, relative to its weight; only where mass may change.
    pub(super) log_growth: Option<Vec<f64>>,
}

impl Coupling {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Unbalanced { reach } if !(reach.is_finite() && reach > 0.0) => {
                Err(Error::InvalidSetting {
                    name: "reach",
                    value: reach.to_string(),
                    reason: "a length above 0, in the units of the states".into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// `n` pairs, drawn by their share of the plan. `sigma` is the noise between the two times.
    pub(super) fn pairs(
        self,
        early: &Side<'_>,
        late: &Side<'_>,
        (n, sigma): (usize, f64),
        stream: &mut Stream,
    ) -> Result<Pairs> {
        let (x, y) = (early.cloud()?, late.cloud()?);
        let pairs = match self {
            Self::Independent => {
                let plan = |cloud: &Cloud<'_, f64>, stream: &mut Stream| {
                    let row = ndarray::Array2::from_shape_fn((1, cloud.n_points()), |(_, j)| {
                        cloud.weights().get(j).copied().unwrap_or_default()
                    });
                    sample_plan(row.view(), n, stream)
                };
                let (a, b) = (plan(&x, stream)?, plan(&y, stream)?);
                a.iter().zip(&b).map(|(a, b)| (a.1, b.1)).collect()
            }
            Self::Exact => exact_plan(&x, &y, 2)?.sample(n, stream),
            Self::Entropic => {
                let sinkhorn = entropic(sigma, &x, &y).check()?;
                sinkhorn.solve(&x, &y)?.sample(n, stream)
            }
            Self::Unbalanced { reach } => return unbalanced(&x, &y, (n, sigma), reach, stream),
        };
        Ok(Pairs {
            pairs,
            log_growth: None,
        })
    }
}

/// Entropic transport whose plan is that of Brownian bridges with noise `sigma`: the cost is half of the squared distance, so
/// `blur` is `sigma`. It is annealed slowly, and never asked to resolve less than a hundredth of the clouds' size.
fn entropic(
    sigma: f64,
    x: &Cloud<'_, f64>,
    y: &Cloud<'_, f64>,
) -> crate::transport::SinkhornParams {
    let size = spread(x).max(spread(y));
    let blur = sigma.max(0.01 * size).max(f64::MIN_POSITIVE.sqrt());
    Sinkhorn::params().blur(blur).scaling(0.9).debias(false)
}

/// The root of the mean squared distance from the centre.
fn spread(x: &Cloud<'_, f64>) -> f64 {
    let points = x.points();
    let variances = points.columns().into_iter().map(|c| c.var(0.0));
    variances.sum::<f64>().sqrt()
}

fn unbalanced(
    x: &Cloud<'_, f64>,
    y: &Cloud<'_, f64>,
    (n, sigma): (usize, f64),
    reach: f64,
    stream: &mut Stream,
) -> Result<Pairs> {
    let mut plan = entropic(sigma, x, y)
        .reach(reach)
        .check()?
        .solve(x, y)?
        .plan();
    // Both sides give way: of groups that only find each other the plan has the geometric mean of the masses. Every late cell
    // has an ancestor, though, so columns get their masses back, and rows tell how much each early cell became.
    for (mut column, w) in plan.columns_mut().into_iter().zip(y.weights()) {
        let arrived = column.sum();
        if arrived > 0.0 {
            column *= w / arrived;
        }
    }
    let growth = |(row, w): (ndarray::ArrayView1<'_, f64>, &f64)| {
        // A cell that sends nothing has died out; its rate stays finite.
        (row.sum().max(1e-6 * w) / w.max(f64::MIN_POSITIVE)).ln()
    };
    let rows = plan.rows().into_iter().zip(x.weights());
    Ok(Pairs {
        log_growth: Some(rows.map(growth).collect()),
        pairs: sample_plan(plan.view(), n, stream)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use sc_tensor::Rng;

    fn pairs(c: Coupling, x: &Array2<f64>, y: &Array2<f64>) -> Pairs {
        let side = |points: &'_ Array2<f64>| points.clone();
        let (x, y) = (side(x), side(y));
        let early = Side {
            points: x.view(),
            weights: None,
        };
        let late = Side {
            points: y.view(),
            weights: None,
        };
        let mut stream = Rng::new(3).stream("pairs");
        c.pairs(&early, &late, (400, 0.05), &mut stream).unwrap()
    }

    #[test]
    fn transport_pairs_neighbours_and_chance_does_not() {
        let x = array![[0.0, 0.0], [0.0, 10.0]];
        let y = array![[1.0, 10.0], [1.0, 0.0]];
        for c in [Coupling::Exact, Coupling::Entropic] {
            let found = pairs(c, &x, &y);
            assert!(found.pairs.iter().all(|&(i, j)| i != j), "{c:?}");
        }
        let found = pairs(Coupling::Independent, &x, &y);
        let far = found.pairs.iter().filter(|(i, j)| i == j).count();
        assert!((150..250).contains(&far), "{far}");
    }

    /// Three quarters of the late cells come from one of two equally large early groups.
    #[test]
    fn unbalanced_transport_finds_growth() {
        let x = array![[0.0, 0.0], [0.0, 50.0]];
        let y = array![[1.0, 0.0], [1.0, 0.1], [1.1, 0.0], [1.0, 50.0]];
        let found = pairs(Coupling::Unbalanced { reach: 5.0 }, &x, &y);
        let growth = found.log_growth.unwrap();
        let ratio = (growth[0] - growth[1]).exp();
        assert!((2.4..3.1).contains(&ratio), "{ratio}");
        assert!(Coupling::Unbalanced { reach: 0.0 }.check().is_err());
    }
}
