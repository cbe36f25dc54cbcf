use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::FateMatrix;
use super::arrays::check_places;
use crate::error::invalid;
use crate::{Error, Result};

/// Steps of the optimiser at most.
const STEPS: usize = 500;
/// Steps whose curvature it remembers.
const MEMORY: usize = 10;
/// It is done when no entry of the gradient of the mean loss exceeds this.
const TOLERANCE: f64 = 1e-6;

/// Fates straight from where cells are, without dynamics: multinomial logistic regression, the baseline that predicted fates
/// must be compared with. Trained on clonal fates it knows more than a model of populations, which never sees a barcode.
///
/// Minimises `-mean_i sum_f F_if ln p_f(z_i) + l2 / (2 n) |W|^2` with the intercepts free; `l2 = 1` is scikit-learn's default
/// (`C = 1 / l2`). Perturbed places give the linear baseline of a perturbation.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticFates {
    fates: Vec<String>,
    /// `[D + 1, fates]`, the intercepts last.
    weights: Array2<f64>,
}

impl LogisticFates {
    /// From the places of cells, `[cells, D]`, and their fates. Cells without any don't count.
    ///
    /// # Errors
    /// [`Error::Shape`] unless both are of the same cells, [`Error::Empty`] if none has a fate, [`Error::InvalidSetting`] if
    /// `l2` isn't above 0, [`Error::NotFinite`].
    pub fn fit(places: ArrayView2<'_, f32>, fates: &FateMatrix, l2: f64) -> Result<Self> {
        check_places("the places of cells", places)?;
        if !(l2 > 0.0 && l2.is_finite()) {
            return Err(invalid("l2", l2, "a number above 0; 1 is usual"));
        }
        if places.nrows() != fates.n_cells() {
            return Err(Error::Shape {
                what: "the fates",
                found: vec![fates.n_cells(), fates.fates().len()],
                expected: format!("[{}, fates], as there are places", places.nrows()),
            });
        }
        let sums = fates.fractions().sum_axis(Axis(1));
        let rows: Vec<usize> = (0..sums.len())
            .filter(|&i| sums.get(i).is_some_and(|s| *s > 0.0))
            .collect();
        if rows.is_empty() {
            return Err(Error::Empty {
                what: "the set of cells with a fate",
                found: vec![0],
            });
        }
        let problem = Problem {
            x: with_ones(places.select(Axis(0), &rows).view()),
            y: fates.fractions().select(Axis(0), &rows),
            penalty: l2 / rows.len() as f64,
        };
        Ok(Self {
            fates: fates.fates().to_vec(),
            weights: problem.minimum(),
        })
    }

    /// The probability of each fate at places `[cells, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the places have other dimensions.
    pub fn predict(&self, places: ArrayView2<'_, f32>) -> Result<FateMatrix> {
        check_places("the places of cells", places)?;
        let d = self.weights.nrows().saturating_sub(1);
        if places.ncols() != d {
            return Err(Error::Shape {
                what: "the places of cells",
                found: places.shape().to_vec(),
                expected: format!("[cells, {d}], as in the fit"),
            });
        }
        let mut p = with_ones(places).dot(&self.weights);
        softmax(&mut p);
        FateMatrix::new(self.fates.clone(), p)
    }
}

fn with_ones(places: ArrayView2<'_, f32>) -> Array2<f64> {
    let (n, d) = places.dim();
    Array2::from_shape_fn((n, d + 1), |(i, j)| {
        places.get((i, j)).map_or(1.0, |v| f64::from(*v))
    })
}

/// Logits to probabilities, row by row; the sum of the logarithms of the normalisers.
fn softmax(logits: &mut Array2<f64>) -> Array1<f64> {
    let of_row = |mut row: ndarray::ArrayViewMut1<'_, f64>| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|v| (v - most).exp());
        let sum = row.sum();
        row.mapv_inplace(|v| v / sum);
        most + sum.ln()
    };
    logits.rows_mut().into_iter().map(of_row).collect()
}

struct Problem {
    x: Array2<f64>,
    y: Array2<f64>,
    penalty: f64,
}

impl Problem {
    /// The mean loss, and its gradient.
    fn loss(&self, w: &Array2<f64>) -> (f64, Array2<f64>) {
        let n = self.x.nrows() as f64;
        let mut p = self.x.dot(w);
        let fit = (&p * &self.y).sum();
        let masses = self.y.sum_axis(Axis(1));
        let normalisers = softmax(&mut p);
        let loss = (normalisers.dot(&masses) - fit) / n;
        p *= &masses.insert_axis(Axis(1));
        p -= &self.y;
        let mut gradient = self.x.t().dot(&p) / n;
        let mut penalised = w.clone();
        let intercepts = penalised.nrows().saturating_sub(1);
        penalised.row_mut(intercepts).fill(0.0);
        gradient.scaled_add(self.penalty, &penalised);
        let norm = penalised.iter().map(|v| v * v).sum::<f64>();
        (loss + 0.5 * self.penalty * norm, gradient)
    }

    /// By L-BFGS (Nocedal 1980), with steps halved until the loss falls enough.
    fn minimum(&self) -> Array2<f64> {
        let mut w = Array2::zeros((self.x.ncols(), self.y.ncols()));
        let (mut loss, mut gradient) = self.loss(&w);
        let mut memory = Memory::default();
        for _ in 0..STEPS {
            if gradient.iter().all(|g| g.abs() <= TOLERANCE) {
                break;
            }
            let mut direction = memory.direction(&gradient);
            let mut slope = dot(&direction, &gradient);
            if slope >= 0.0 {
                memory = Memory::default();
                direction = -gradient.clone();
                slope = -dot(&gradient, &gradient);
            }
            // The first direction is the bare gradient, whose length says nothing.
            let mut step = match memory.pairs.is_empty() {
                true => 1.0 / dot(&direction, &direction).sqrt().max(1.0),
                false => 1.0,
            };
            let Some((next, (next_loss, next_gradient))) = (0..50).find_map(|_| {
                let next = &w + &(&direction * step);
                let found = self.loss(&next);
                let enough = found.0 <= loss + 1e-4 * step * slope;
                step *= 0.5;
                enough.then_some((next, found))
            }) else {
                break;
            };
            memory.add(&next - &w, &next_gradient - &gradient);
            (w, loss, gradient) = (next, next_loss, next_gradient);
        }
        w
    }
}

fn dot(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The last steps and the changes of the gradient over them.
#[derive(Default)]
struct Memory {
    pairs: Vec<(Array2<f64>, Array2<f64>, f64)>,
}

impl Memory {
    fn add(&mut self, step: Array2<f64>, change: Array2<f64>) {
        let curvature = dot(&step, &change);
        if curvature <= 1e-14 {
            return;
        }
        if self.pairs.len() == MEMORY {
            self.pairs.remove(0);
        }
        self.pairs.push((step, change, 1.0 / curvature));
    }

    /// Minus the inverse of the approximate Hessian times the gradient.
    fn direction(&self, gradient: &Array2<f64>) -> Array2<f64> {
        let mut q = -gradient.clone();
        let mut weights = Vec::with_capacity(self.pairs.len());
        for (s, y, rho) in self.pairs.iter().rev() {
            let weight = rho * dot(s, &q);
            q.scaled_add(-weight, y);
            weights.push(weight);
        }
        if let Some((_, y, rho)) = self.pairs.last() {
            q *= 1.0 / (rho * dot(y, y));
        }
        for ((s, y, rho), weight) in self.pairs.iter().zip(weights.into_iter().rev()) {
            let back = rho * dot(y, &q);
            q.scaled_add(weight - back, s);
        }
        q
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use sc_model::Parity;

    use super::*;
    use crate::downstream::accuracy;

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    /// Reference: scikit-learn 1.9.1, LogisticRegression(C=1.0, tol=1e-12) on the same numbers.
    #[test]
    fn agrees_with_scikit_learn() {
        let x = Array2::from_shape_fn((30, 2), |(i, j)| {
            ((i * 7 + j * 3) as f32 * 0.37).sin() * (1.0 + j as f32)
        });
        let mut y = Array2::zeros((30, 3));
        for i in 0..30 {
            let class = if x[[i, 0]] > 0.3 {
                0
            } else {
                1 + usize::from(x[[i, 1]] > 0.0)
            };
            y[[i, class]] = 1.0;
        }
        let truth = FateMatrix::new(names(), y).unwrap();
        let model = LogisticFates::fit(x.view(), &truth, 1.0).unwrap();
        let p = model.predict(array![[0.2f32, -0.4]].view()).unwrap();
        for (found, expected) in p.fractions().iter().zip(SCIKIT_LEARN) {
            assert!((found - expected).abs() < 2e-5, "{found} {expected}");
        }
        let found = model.predict(x.view()).unwrap();
        assert!(accuracy(&truth, &found, Parity::Correct).unwrap() > 0.9);
    }

    const SCIKIT_LEARN: [f64; 3] = [0.615_369_24, 0.234_206_43, 0.150_424_33];

    #[test]
    fn bad_input_is_refused() {
        let places = array![[0.0f32], [1.0]];
        let two = FateMatrix::new(names(), array![[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]).unwrap();
        assert!(LogisticFates::fit(places.view(), &two, 0.0).is_err());
        assert!(LogisticFates::fit(array![[0.0f32]].view(), &two, 1.0).is_err());
        let none = FateMatrix::new(names(), Array2::zeros((2, 3))).unwrap();
        assert!(LogisticFates::fit(places.view(), &none, 1.0).is_err());
        let model = LogisticFates::fit(places.view(), &two, 1.0).unwrap();
        assert!(model.predict(array![[0.0f32, 1.0]].view()).is_err());
    }
}
