//! Cells that lie apart from their population: minimum covariance determinant (Rousseeuw 1984) by the algorithm FastMCD
//! (Rousseeuw and Van Driessen, Technometrics 41, 1999).

use faer::{Mat, Side};
use rayon::prelude::*;
use sc_tensor::rng::{Rng, Stream};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::summary::quantile;

/// Random starts in all.
const STARTS: usize = 500;
/// Solutions that are followed from one stage to the next.
const KEPT: usize = 10;
/// Concentration steps of a start before the best are kept.
const FIRST_STEPS: usize = 2;
/// Concentration steps of a solution at most; it converges in a few.
const MOST_STEPS: usize = 100;
/// More points than this are searched in parts of `PART` first.
const WHOLE: usize = 600;
const PART: usize = 300;
const MOST_PARTS: usize = 5;

/// Points, one after the other.
pub(super) struct Points<'a> {
    values: &'a [f64],
    dims: usize,
}

/// Centre and spread of some points.
#[derive(Debug, Clone)]
struct Ellipse {
    centre: Vec<f64>,
    /// The Cholesky factor of the covariance, lower triangle, row by row.
    factor: Vec<f64>,
    log_det: f64,
}

impl<'a> Points<'a> {
    pub(super) fn new(values: &'a [f64], dims: usize) -> Self {
        Self {
            values,
            dims: dims.max(1),
        }
    }

    fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    fn get(&self, i: usize) -> &[f64] {
        &self.values[i * self.dims..][..self.dims]
    }

    /// Of some points; `None` if they lie in a plane.
    fn ellipse(&self, of: &[usize]) -> Option<Ellipse> {
        let (p, n) = (self.dims, of.len());
        if n <= p {
            return None;
        }
        let mut centre = vec![0.0; p];
        for &i in of {
            centre
                .iter_mut()
                .zip(self.get(i))
                .for_each(|(c, v)| *c += v);
        }
        centre.iter_mut().for_each(|c| *c /= n as f64);
        let mut covariance = Mat::<f64>::zeros(p, p);
        let mut off = vec![0.0; p];
        for &i in of {
            let point = self.get(i).iter().zip(&centre);
            off.iter_mut().zip(point).for_each(|(o, (v, c))| *o = v - c);
            for a in 0..p {
                for b in 0..=a {
                    covariance[(a, b)] += off[a] * off[b] / n as f64;
                }
            }
        }
        let spread: f64 = (0..p).map(|a| covariance[(a, a)]).fold(0.0, f64::max);
        let llt = covariance.llt(Side::Lower).ok()?;
        let l = llt.L();
        let factor: Vec<f64> = (0..p)
            .flat_map(|a| (0..p).map(move |b| (a, b)))
            .map(|(a, b)| if b <= a { l[(a, b)] } else { 0.0 })
            .collect();
        let diagonal: Vec<f64> = (0..p).map(|a| factor[a * p + a]).collect();
        // A pivot at the level of rounding errors is a direction without spread.
        let spans = |d: &f64| d * d > spread * 1e-12;
        diagonal.iter().all(spans).then(|| Ellipse {
            log_det: 2.0 * diagonal.iter().map(|d| d.ln()).sum::<f64>(),
            centre,
            factor,
        })
    }

    /// The squared Mahalanobis distance of each of some points.
    fn distances(&self, of: &[usize], e: &Ellipse) -> Vec<f64> {
        let p = self.dims;
        let mut y = vec![0.0; p];
        of.iter()
            .map(|&i| {
                let point = self.get(i);
                let mut square = 0.0;
                for a in 0..p {
                    let row = &e.factor[a * p..][..=a];
                    let known: f64 = row.iter().zip(&y[..a]).map(|(l, y)| l * y).sum();
                    y[a] = (point[a] - e.centre[a] - known) / row[a];
                    square += y[a] * y[a];
                }
                square
            })
            .collect()
    }

    /// The ellipse of the `h` of some points that are nearest to another ellipse: it has no larger determinant.
    fn concentrate(&self, of: &[usize], e: &Ellipse, h: usize) -> Option<Ellipse> {
        let distances = self.distances(of, e);
        let mut order: Vec<usize> = (0..of.len()).collect();
        if h < order.len() {
            order.select_nth_unstable_by(h, |&a, &b| {
                distances[a].total_cmp(&distances[b]).then(a.cmp(&b))
            });
            order.truncate(h);
        }
        // Sums in one order.
        order.sort_unstable();
        let nearest: Vec<usize> = order.into_iter().map(|k| of[k]).collect();
        self.ellipse(&nearest)
    }

    /// Concentrates until the determinant no longer falls, at most so many times.
    fn converge(&self, of: &[usize], start: Ellipse, h: usize, steps: usize) -> Option<Ellipse> {
        let mut best = start;
        for step in 0..steps {
            let next = self.concentrate(of, &best, h)?;
            let done = step > 0 && next.log_det >= best.log_det - 1e-12;
            best = next;
            if done {
                break;
            }
        }
        Some(best)
    }

    /// A random start: the ellipse of one point more than there are dimensions, or of as many as span them.
    fn start(&self, of: &[usize], mut stream: Stream) -> Option<Ellipse> {
        let order: Vec<usize> = stream
            .permutation(of.len())
            .into_iter()
            .map(|k| of[k])
            .collect();
        // Almost always the first; each try adds a point.
        (self.dims + 1..=order.len()).find_map(|n| self.ellipse(&order[..n]))
    }

    /// The best few of `starts` random starts within some points, after `steps` steps from each.
    fn search(
        &self,
        of: &[usize],
        h: usize,
        (starts, steps): (usize, usize),
        (rng, part): (&Rng, usize),
    ) -> Vec<Ellipse> {
        let one = |k: usize| {
            let stream = rng.stream("mcd/start").at(&[part as u64, k as u64]);
            self.converge(of, self.start(of, stream)?, h, steps)
        };
        best((0..starts).into_par_iter().filter_map(one).collect())
    }

    /// The best few after some steps from each of others.
    fn refine(&self, of: &[usize], h: usize, from: Vec<Ellipse>, steps: usize) -> Vec<Ellipse> {
        let one = |e: Ellipse| self.converge(of, e, h, steps);
        best(from.into_par_iter().filter_map(one).collect())
    }

    /// Centre and covariance of the points within the 97.5 % ellipse of a first one, whose spread is corrected so that it is
    /// consistent for normal points.
    fn reweighted(&self, raw: &Ellipse) -> Option<Ellipse> {
        let all: Vec<usize> = (0..self.len()).collect();
        let distances = self.distances(&all, raw);
        let chi_squared = ChiSquared::new(self.dims as f64).ok()?;
        let correction = quantile(distances.clone(), 0.5)? / chi_squared.inverse_cdf(0.5);
        let cutoff = correction * chi_squared.inverse_cdf(0.975);
        let within = |i: &usize| distances[*i] < cutoff;
        self.ellipse(&all.iter().copied().filter(within).collect::<Vec<_>>())
    }

    /// The ellipse with the least determinant that holds `h` points.
    fn minimum(&self, h: usize, rng: &Rng) -> Option<Ellipse> {
        let n = self.len();
        let all: Vec<usize> = (0..n).collect();
        let candidates = if n <= WHOLE {
            // So few points that every start can be followed to its end, which finds smaller determinants.
            self.search(&all, h, (STARTS, MOST_STEPS), (rng, 0))
        } else {
            let parts = (n / PART).min(MOST_PARTS);
            let mut order = rng.stream("mcd/parts").permutation(n);
            order.truncate(if n < PART * MOST_PARTS {
                n
            } else {
                PART * MOST_PARTS
            });
            let share = |of: usize| ((h * of) as f64 / n as f64).ceil() as usize;
            let size = order.len().div_ceil(parts);
            let found = order
                .chunks(size)
                .enumerate()
                .flat_map(|(k, part)| {
                    let effort = (STARTS / parts, FIRST_STEPS);
                    self.search(part, share(part.len()), effort, (rng, k))
                })
                .collect();
            self.refine(&order, share(order.len()), found, FIRST_STEPS)
        };
        let refined = self.refine(&all, h, candidates, MOST_STEPS);
        refined.into_iter().next()
    }
}

/// The few with the least determinants, the least first.
fn best(mut found: Vec<Ellipse>) -> Vec<Ellipse> {
    found.sort_by(|a, b| a.log_det.total_cmp(&b.log_det));
    found.truncate(KEPT);
    found
}

/// How many points the ellipse with the least determinant holds.
fn support(n: usize, p: usize) -> usize {
    (n + p + 1).div_ceil(2)
}

/// Which points belong: all but the share `contamination` with the largest robust distances.
///
/// The minimum covariance determinant of half of `n + p + 1` points gives a first ellipse; its spread is corrected so that it
/// is consistent for normal points, and centre and covariance are computed anew from the points within its 97.5 %
/// ellipse. Distances are those of the result. `None` if there are too few points, or they lie in a plane.
pub(super) fn inliers(points: &Points<'_>, contamination: f64, rng: &Rng) -> Option<Vec<bool>> {
    let (n, p) = (points.len(), points.dims);
    let h = support(n, p);
    if h <= p + 1 || h > n {
        return None;
    }
    let all: Vec<usize> = (0..n).collect();
    let raw = points.minimum(h, rng)?;
    let distances = points.distances(&all, &points.reweighted(&raw)?);
    let limit = quantile(distances.clone(), 1.0 - contamination)?;
    Some(distances.into_iter().map(|d| d <= limit).collect())
}

#[cfg(test)]
#[path = "robust_tests.rs"]
mod tests;
