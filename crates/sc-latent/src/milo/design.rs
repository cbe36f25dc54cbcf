use std::collections::BTreeSet;

use ndarray::{Array2, ArrayView2};
use sc_data::{Categorical, Column, Table};

use super::contrast::parse_contrast;
use super::formula::{Formula, Variable};
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
        let present: Vec<u32> = codes
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let names: Vec<String> = present
            .iter()
            .map(|&s| samples.categories()[s as usize].clone())
            .collect();
        let groups = Groups {
            first: present
                .iter()
                .filter_map(|s| codes.iter().position(|c| c == s))
                .collect(),
            codes: &codes,
            names: &names,
            present: &present,
        };
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
        let (columns, matrix) = model_matrix(formula, &coded, names.len());
        if columns.is_empty() {
            return Err(fail("it has no terms".into()));
        }
        let mut design = Self {
            samples: names,
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

/// Cells by sample.
struct Groups<'a> {
    /// The sample of each cell.
    codes: &'a [u32],
    /// The samples there are, ascending, with their names and first cells.
    present: &'a [u32],
    names: &'a [String],
    first: Vec<usize>,
}

/// The values of a variable, one a sample.
enum Values {
    Numbers(Vec<f64>),
    Labels {
        levels: Vec<String>,
        codes: Vec<usize>,
    },
}

/// What is wrong with a variable.
enum Problem {
    Reason(String),
    Error(Error),
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<sc_data::Error> for Problem {
    fn from(e: sc_data::Error) -> Self {
        Self::Error(e.into())
    }
}

impl Groups<'_> {
    fn values(
        &self,
        variable: &Variable,
        obs: &Table,
        baseline: Option<&str>,
    ) -> Result<Values, Problem> {
        let name = &variable.name;
        let column = obs.column("obs", name)?;
        let numeric = matches!(
            column,
            Column::Int32(_)
                | Column::Int(_)
                | Column::OptInt(_)
                | Column::Float32(_)
                | Column::Float(_)
        );
        if numeric && !variable.factor {
            if baseline.is_some() {
                let reason = format!(
                    "\"{name}\" holds numbers and has no baseline; write factor({name}) if they are labels"
                );
                return Err(Problem::Reason(reason));
            }
            let all = column.to_f64(name)?;
            let show = |i: usize| all[i].to_string();
            self.constant(name, |a, b| all[a] == all[b], show)?;
            if let Some(i) = self.first.iter().find(|&&i| !all[i].is_finite()) {
                return Err(Problem::Reason(format!(
                    "\"{name}\" is {} at row {i}",
                    all[*i]
                )));
            }
            return Ok(Values::Numbers(
                self.first.iter().map(|&i| all[i]).collect(),
            ));
        }
        let labels = match column {
            Column::Float32(_) | Column::Float(_) => as_labels(&column.to_f64(name)?),
            other => other.to_categorical(name)?,
        };
        let all = labels.complete_codes(name)?;
        let show = |i: usize| labels.get(i).unwrap_or_default().to_owned();
        self.constant(name, |a, b| all[a] == all[b], show)?;
        let mine: Vec<u32> = self.first.iter().map(|&i| all[i]).collect();
        let mut used: Vec<u32> = mine
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let category = |c: &u32| labels.categories()[*c as usize].clone();
        // Without the check its column would be missing, and the one before it tested.
        if let [only] = used[..] {
            return Err(Problem::Reason(format!(
                "\"{name}\" has only the label \"{}\" in these samples, so there is nothing to compare",
                category(&only)
            )));
        }
        if let Some(baseline) = baseline {
            let Some(at) = used.iter().position(|c| category(c) == baseline) else {
                let levels: Vec<String> = used.iter().map(category).collect();
                return Err(Problem::Reason(format!(
                    "\"{name}\" has no label \"{baseline}\" to be the baseline; it has {}",
                    levels.join(", ")
                )));
            };
            used[..=at].rotate_right(1);
        }
        Ok(Values::Labels {
            levels: used.iter().map(category).collect(),
            codes: mine
                .iter()
                .filter_map(|c| used.iter().position(|u| u == c))
                .collect(),
        })
    }

    /// Refuses a variable that differs between cells of one sample.
    fn constant(
        &self,
        name: &str,
        same: impl Fn(usize, usize) -> bool,
        show: impl Fn(usize) -> String,
    ) -> Result<()> {
        for (cell, code) in self.codes.iter().enumerate() {
            let Ok(s) = self.present.binary_search(code) else {
                continue;
            };
            let first = self.first[s];
            if !same(cell, first) {
                return Err(Error::NotConstant {
                    variable: name.to_owned(),
                    sample: self.names[s].clone(),
                    examples: format!("{} and {}", show(first), show(cell)),
                });
            }
        }
        Ok(())
    }
}

/// Numbers as labels, sorted by value.
fn as_labels(values: &[f64]) -> Categorical {
    let mut levels = values.to_vec();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    let code = |v: &f64| levels.binary_search_by(|l| l.total_cmp(v)).ok();
    let codes = values.iter().map(|v| code(v).map(|c| c as u32)).collect();
    let names = levels.iter().map(f64::to_string).collect();
    Categorical::new(codes, names, false).unwrap_or_else(|_| Categorical::from_labels::<&str>(&[]))
}

/// R's `model.matrix`: a factor of a term is coded by the labels after its baseline if the term without it is in the model
/// (the term without its only variable is the intercept), else by all of its labels.
fn model_matrix(
    formula: &Formula,
    coded: &[(&Variable, Values)],
    n: usize,
) -> (Vec<String>, Array2<f64>) {
    let mut columns: Vec<(String, Vec<f64>)> = Vec::new();
    if formula.intercept {
        columns.push((INTERCEPT.to_owned(), vec![1.0; n]));
    }
    // Without an intercept the first factor among the main effects takes its place.
    let mut empty_term = formula.intercept;
    for term in &formula.terms {
        let mut product = vec![(String::new(), vec![1.0; n])];
        for variable in term {
            let Some((_, values)) = coded.iter().find(|(v, _)| *v == variable) else {
                continue;
            };
            let rest: Vec<&Variable> = term.iter().filter(|v| *v != variable).collect();
            let margin = if rest.is_empty() {
                empty_term
            } else {
                let same = |t: &&Vec<Variable>| {
                    t.len() == rest.len() && rest.iter().all(|v| t.contains(v))
                };
                formula.terms.iter().any(|t| same(&t))
            };
            let (codings, is_factor) = coding(variable, values, margin);
            empty_term |= is_factor && rest.is_empty();
            // The first variable of a term runs fastest.
            product = codings
                .iter()
                .flat_map(|(name, values)| {
                    product.iter().map(move |(before, column)| {
                        let joint = if before.is_empty() {
                            name.clone()
                        } else {
                            format!("{before}:{name}")
                        };
                        let column = column.iter().zip(values).map(|(a, b)| a * b).collect();
                        (joint, column)
                    })
                })
                .collect();
        }
        columns.extend(product);
    }
    let matrix = Array2::from_shape_fn((n, columns.len()), |(i, j)| columns[j].1[i]);
    (columns.into_iter().map(|c| c.0).collect(), matrix)
}

/// The columns of one variable, and whether it has labels.
fn coding(
    variable: &Variable,
    values: &Values,
    contrasts: bool,
) -> (Vec<(String, Vec<f64>)>, bool) {
    let name = if variable.factor {
        format!("factor({})", variable.name)
    } else {
        variable.name.clone()
    };
    match values {
        Values::Numbers(v) => (vec![(name, v.clone())], false),
        Values::Labels { levels, codes } => {
            let indicator = |l: usize| codes.iter().map(|&c| f64::from(c == l)).collect();
            let columns = (usize::from(contrasts)..levels.len())
                .map(|l| (format!("{name}{}", levels[l]), indicator(l)))
                .collect();
            (columns, true)
        }
    }
}

#[cfg(test)]
mod tests;
