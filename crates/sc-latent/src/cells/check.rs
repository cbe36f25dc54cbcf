//! Whether counts are what a model can be trained on.

use sc_data::{CountProblem, check_counts};

use super::Cells;
use crate::{Error, Result, ScviConfig};

/// What to do with counts that are no integers where the likelihood is one of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonInteger {
    /// Refuse them.
    #[default]
    Refuse,
    /// Take them, with a warning that names the first.
    Warn,
}

impl Cells<'_> {
    /// Reads all counts once and refuses what a model with these settings can't be trained on. Gives the rows without any
    /// counts, which a model with an observed library size can't be trained on either.
    ///
    /// # Errors
    /// [`Error::NotCounts`] names the first offender; [`Error::NeedsCounts`] if there are no counts.
    pub fn check_counts(&self, config: &ScviConfig, non_integer: NonInteger) -> Result<Vec<usize>> {
        self.require_counts("checking the counts")?;
        let report = check_counts(&*self.counts)?;
        let refuse = |problem, advice| match report.first(problem) {
            Some((cell, gene, value)) => Err(Error::NotCounts {
                problem,
                value,
                cell,
                gene,
                gene_name: self.registry.genes.get(gene).cloned().unwrap_or_default(),
                advice,
            }),
            None => Ok(()),
        };
        refuse(CountProblem::NonFinite, "every value must be a number")?;
        if config.likelihood.is_of_counts() {
            refuse(
                CountProblem::Negative,
                "counts are never negative; is this scaled data? Choose the layer with raw counts (--layer), or the \
                 likelihood \"normal\" without the logarithm (--no-log-variational)",
            )?;
            match (non_integer, report.first(CountProblem::NonInteger)) {
                (NonInteger::Warn, Some((cell, gene, value))) => {
                    tracing::warn!(
                        cell,
                        gene,
                        value,
                        "the counts are not all integers; training goes on as asked"
                    );
                }
                _ => refuse(
                    CountProblem::NonInteger,
                    "the likelihood is one of integers; is this normalised data? Choose the layer with raw counts \
                     (--layer), or allow it (--allow-non-integer)",
                )?,
            }
        } else if config.log_variational {
            refuse(
                CountProblem::Negative,
                "the encoder reads ln(1 + x); let it read the values as they are (--no-log-variational)",
            )?;
        }
        Ok(report.empty_rows)
    }
}
