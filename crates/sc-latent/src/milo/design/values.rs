//! The values of a variable, one a sample.

use std::collections::BTreeSet;

use sc_data::{Categorical, Column, Table};

use crate::milo::formula::Variable;
use crate::{Error, Result};

/// Digits of a number that R writes into the name of a label.
const DIGITS: usize = 15;

/// Cells by sample.
pub(super) struct Groups<'a> {
    /// The sample of each cell.
    codes: &'a [u32],
    /// The samples there are, ascending, with their names and first cells.
    present: Vec<u32>,
    names: Vec<String>,
    first: Vec<usize>,
}

/// The values of a variable, one a sample.
pub(super) enum Values {
    Numbers(Vec<f64>),
    Labels {
        levels: Vec<String>,
        codes: Vec<usize>,
    },
}

/// What is wrong with a variable.
pub(super) enum Problem {
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

impl<'a> Groups<'a> {
    /// `codes` say for each cell which of the `samples` it is of.
    pub(super) fn new(codes: &'a [u32], samples: &Categorical) -> Self {
        let mut first_of = vec![None; samples.categories().len()];
        for (cell, &code) in codes.iter().enumerate() {
            if let Some(first) = first_of.get_mut(code as usize) {
                first.get_or_insert(cell);
            }
        }
        let mut groups = Self {
            codes,
            present: Vec::new(),
            names: Vec::new(),
            first: Vec::new(),
        };
        for ((code, first), name) in (0..).zip(first_of).zip(samples.categories()) {
            if let Some(first) = first {
                groups.present.push(code);
                groups.first.push(first);
                groups.names.push(name.clone());
            }
        }
        groups
    }

    /// The samples that have cells.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of a variable, whose labels begin with `baseline` if it is given.
    pub(super) fn values(
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
        if !numeric || variable.factor {
            return self.labels(name, column, baseline);
        }
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
        let values = self.first.iter().map(|&i| all[i]).collect();
        Ok(Values::Numbers(values))
    }

    fn labels(
        &self,
        name: &str,
        column: &Column,
        baseline: Option<&str>,
    ) -> Result<Values, Problem> {
        let labels = match column {
            Column::Float32(v) => {
                column.to_f64(name)?; // Refuses missing values.
                numbers_as_labels(v.iter().map(|&f| decimal(&f.to_string())))
            }
            Column::Float(v) => {
                column.to_f64(name)?;
                numbers_as_labels(v.iter().map(|&f| rounded(f)))
            }
            other => other.to_categorical(name)?,
        };
        let all = labels.complete_codes(name)?;
        let show = |i: usize| labels.get(i).unwrap_or_default().to_owned();
        self.constant(name, |a, b| all[a] == all[b], show)?;
        let mine: Vec<u32> = self.first.iter().map(|&i| all[i]).collect();
        let distinct: BTreeSet<u32> = mine.iter().copied().collect();
        let mut used: Vec<u32> = distinct.into_iter().collect();
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

/// A number read from its shortest decimal form: that of a single-precision number names it, its exact value does not.
/// Zero has no sign.
fn decimal(text: &str) -> f64 {
    text.parse::<f64>().unwrap_or(f64::NAN) + 0.0
}

/// As many digits of a number as R takes for a label.
fn rounded(v: f64) -> f64 {
    decimal(&format!("{v:.*e}", DIGITS - 1))
}

/// Numbers as labels, sorted by value.
fn numbers_as_labels(values: impl Iterator<Item = f64>) -> Categorical {
    let values: Vec<f64> = values.collect();
    let mut levels = values.clone();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    let code = |v: &f64| levels.binary_search_by(|l| l.total_cmp(v)).ok();
    let codes = values.iter().map(|v| code(v).map(|c| c as u32)).collect();
    let names = levels.iter().map(f64::to_string).collect();
    Categorical::new(codes, names, false).unwrap_or_else(|_| Categorical::from_labels::<&str>(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_called_as_they_were_written() {
        let names = |values: &[f64]| {
            numbers_as_labels(values.iter().copied())
                .categories()
                .to_vec()
        };
        let single = [0.1f32, -0.0, 0.0, 2.5].map(|v| decimal(&v.to_string()));
        assert_eq!(names(&single), ["0", "0.1", "2.5"]);
        let double = [0.1 + 0.2, 0.3, -0.0, 1e5, -2.0].map(rounded);
        assert_eq!(names(&double), ["-2", "0", "0.3", "100000"]);
    }
}
