mod matrix;
mod values;

use ndarray::{Array2, ArrayView2};
use sc_data::{Categorical, Table};

use self::matrix::model_matrix;
use self::values::{Groups, Problem};
use super::contrast::parse_contrast;
use super::formula::Formula;
use super::linear::{null_design, orthonormal, rank};
use crate::{Error, Result};

/// The name of the column of ones, as R calls it.
const INTERCEPT: &str = "(Intercept)";

/// What is asked of the samples: a design matrix, and the combination of its coefficients that is tested against 0.
///
/// ```
/// use sc_data::{Categorical, Column, Table};
/// use sc_latent::milo::Design;
///
/// # fn main() -> Result<(), sc_latent::Error> {
/// // Eight cells of four samples.
/// let sample = Categorical::from_labels(&["s1", "s1", "s2", "s2", "s3", "s3", "s4", "s4"]);
/// let mut obs = Table::new((0..8).map(|i| i.to_string()).collect());
/// let condition = Categorical::from_labels(&["ctrl", "ctrl", "ctrl", "ctrl", "stim", "stim", "stim", "stim"]);
/// obs.insert("condition", Column::Categorical(condition))?;
///
/// let design = Design::new("~ condition", &obs, &sample)?;
/// assert_eq!(design.columns(), ["(Intercept)", "conditionstim"]);
/// assert_eq!(design.tested(), "conditionstim");
/// assert_eq!(design.matrix().column(1).to_vec(), [0.0, 0.0, 1.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    samples: Vec<String>,
    columns: Vec<String>,
    matrix: Array2<f64>,
    contrast: Vec<f64>,
    tested: String,
}

impl Design {
    /// The design matrix of a formula such as `~ batch + condition`, with R's meaning: an intercept unless `0 +` or `- 1`
    /// says otherwise; of labels one column for each but the first (the baseline), numbers as they are; `a:b` for
    /// interactions, `a*b` for effects and interaction, `factor(x)` for numbers that are labels. Columns are called as in R.
    /// The last column is tested.
    ///
    /// `obs` has the variables, one row a cell, and `samples` says which sample each cell is of. Labels come in the order of
    /// their categories, by default alphabetical. Samples and labels without cells are left out.
    ///
    /// # Errors
    /// [`Error::Formula`] if the formula is not understood; [`Error::Data`] if there is no such column or values are missing;
    /// [`Error::NotConstant`] if a variable differs between cells of one sample; [`Error::TooFewSamples`] unless there are
    /// more samples than columns; [`Error::NotEstimable`] if columns depend on each other, as when each batch holds one
    /// condition.
    pub fn new(formula: &str, obs: &Table, samples: &Categorical) -> Result<Self> {
        Self::build(&Formula::parse(formula)?, formula, obs, samples, &[])
    }

    /// As [`Design::new`], with other baselines: pairs of a variable and the label that the others are compared with.
    ///
    /// # Errors
    /// As [`Design::new`]; [`Error::Formula`] if a variable is not in the formula or has no such label.
    pub fn with_baselines(
        formula: &str,
        obs: &Table,
        samples: &Categorical,
        baselines: &[(String, String)],
    ) -> Result<Self> {
        Self::build(&Formula::parse(formula)?, formula, obs, samples, baselines)
    }

    /// Tests a combination of coefficients, e.g. `conditionB - conditionA`. As in milopy the design has no intercept then, so
    /// that the first variable has a column for each label.
    ///
    /// # Errors
    /// As [`Design::new`]; [`Error::Formula`] if the contrast is not understood.
    pub fn with_contrast(
        formula: &str,
        contrast: &str,
        obs: &Table,
        samples: &Categorical,
    ) -> Result<Self> {
        let mut parsed = Formula::parse(formula)?;
        parsed.intercept = false;
        let mut design = Self::build(&parsed, formula, obs, samples, &[])?;
        design.contrast =
            parse_contrast(contrast, &design.columns).map_err(|reason| Error::Formula {
                formula: contrast.to_owned(),
                reason,
            })?;
        contrast.clone_into(&mut design.tested);
        Ok(design)
    }

    /// The same design, with the column of this name tested instead of the last one.
    ///
    /// # Errors
    /// [`Error::Formula`] if there is no such column; it lists those there are.
    pub fn testing(mut self, column: &str) -> Result<Self> {
        let Some(j) = self.columns.iter().position(|c| c == column) else {
            return Err(Error::Formula {
                formula: column.to_owned(),
                reason: format!("the design has the columns {}", self.columns.join(", ")),
            });
        };
        self.pick(j);
        Ok(self)
    }

    /// The samples, one a row of the matrix.
    pub fn samples(&self) -> &[String] {
        &self.samples
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The matrix, `[samples, columns]`.
    pub fn matrix(&self) -> &Array2<f64> {
        &self.matrix
    }

    /// The weight of each coefficient in what is tested.
    pub fn contrast(&self) -> &[f64] {
        &self.contrast
    }

    /// What is tested, in words.
    pub fn tested(&self) -> &str {
        &self.tested
    }

    /// The design of some of the samples, by row number.
    ///
    /// # Errors
    /// [`Error::TooFewSamples`] and [`Error::NotEstimable`] if they do not suffice.
    pub(super) fn of_samples(&self, rows: &[usize]) -> Result<Self> {
        let mut part = self.clone();
        part.samples = rows.iter().map(|&i| self.samples[i].clone()).collect();
        part.matrix = self.matrix.select(ndarray::Axis(0), rows);
        part.check()?;
        Ok(part)
    }

    fn pick(&mut self, j: usize) {
        self.contrast = vec![0.0; self.columns.len()];
        self.contrast[j] = 1.0;
        self.tested.clone_from(&self.columns[j]);
    }

    fn build(
        formula: &Formula,
        text: &str,
        obs: &Table,
        samples: &Categorical,
        baselines: &[(String, String)],
    ) -> Result<Self> {
        super::neighbourhoods::same_length("the sample labels", samples.len(), obs.n_rows())?;
        let codes = samples.complete_codes("the samples")?;
        let groups = Groups::new(&codes, samples);
        let fail = |reason: String| Error::Formula {
            formula: text.to_owned(),
            reason,
        };
        for (variable, _) in baselines {
            if !formula.variables().iter().any(|v| v.name == *variable) {
                return Err(fail(format!(
                    "it has no variable \"{variable}\" to set a baseline of"
                )));
            }
        }
        let mut coded = Vec::new();
        for variable in formula.variables() {
            let baseline = baselines
                .iter()
                .find(|b| b.0 == variable.name)
                .map(|b| b.1.as_str());
            let values = groups
                .values(variable, obs, baseline)
                .map_err(|e| match e {
                    Problem::Reason(reason) => fail(reason),
                    Problem::Error(e) => e,
                })?;
            coded.push((variable, values));
        }
        let (columns, matrix) = model_matrix(formula, &coded, groups.names().len());
        if columns.is_empty() {
            return Err(fail("it has no terms".into()));
        }
        let mut design = Self {
            samples: groups.names().to_vec(),
            contrast: Vec::new(),
            tested: String::new(),
            columns,
            matrix,
        };
        design.pick(design.columns.len() - 1);
        if design.columns == [INTERCEPT] {
            return Err(fail("it has nothing to test but the intercept".into()));
        }
        design.check()?;
        Ok(design)
    }

    /// Refuses to test a level instead of a difference: without the tested coefficient the samples must still be able to have
    /// one level, or the question is whether that level is 1, which nobody means to ask.
    pub(super) fn check_difference(&self) -> Result<()> {
        let with_level = |x: ArrayView2<'_, f64>| {
            let value = |(i, j)| if j < x.ncols() { x[[i, j]] } else { 1.0 };
            Array2::from_shape_fn((x.nrows(), x.ncols() + 1), value)
        };
        let has_level =
            |x: ArrayView2<'_, f64>| rank(with_level(x).view(), |_| true) == rank(x, |_| true);
        let null = null_design(self.matrix.view(), &self.contrast);
        if has_level(self.matrix.view()) && !has_level(null.view()) {
            return Err(Error::Formula {
                formula: self.tested.clone(),
                reason: format!(
                    "this is a level, not a difference; keep the intercept and test another column, or contrast two of {}",
                    self.columns.join(", ")
                ),
            });
        }
        Ok(())
    }

    /// Whether there are enough samples, and their columns are independent.
    fn check(&self) -> Result<()> {
        let dependent = orthonormal(self.matrix.view(), |_| true).dependent;
        if let Some(&first) = dependent.first() {
            let names: Vec<&str> = dependent
                .iter()
                .map(|&j| self.columns[j].as_str())
                .collect();
            let before = self.columns[..first].join(", ");
            return Err(Error::NotEstimable {
                columns: names.join(", "),
                others: before,
                samples: self.samples.len(),
            });
        }
        if self.samples.len() <= self.columns.len() {
            return Err(Error::TooFewSamples {
                samples: self.samples.len(),
                columns: self.columns.len(),
                names: self.columns.join(", "),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
