//! Whether values are such that their likelihood has a finite logarithm.

use sc_data::{CountProblem, CountReport, check_counts};

use super::{Loaded, MultiCells};
use crate::registry::ModalityInfo;
use crate::{Error, Likelihood, Result};

impl MultiCells<'_> {
    /// Reads all values once and refuses those that their likelihood can't have.
    ///
    /// # Errors
    /// [`Error::WrongValues`] names the first.
    pub fn check_values(&self) -> Result<()> {
        for (info, m) in self.registry.modalities.iter().zip(&self.modalities) {
            let Some(m) = m else { continue };
            let report = check_counts(&*m.values)?;
            self.check_modality(info, m, &report)?;
            if info.likelihood == Likelihood::Bernoulli {
                self.check_shares(info, m)?;
            }
        }
        Ok(())
    }

    fn check_modality(
        &self,
        info: &ModalityInfo,
        m: &Loaded<'_>,
        report: &CountReport,
    ) -> Result<()> {
        let refuse = |problem, advice| match report.first(problem) {
            Some((row, feature, value)) => Err(self.wrong(info, m, row, feature, value, advice)),
            None => Ok(()),
        };
        refuse(CountProblem::NonFinite, "every value must be a number")?;
        let l = info.likelihood;
        if l.is_of_counts() || matches!(l, Likelihood::Bernoulli | Likelihood::Ziln) {
            refuse(
                CountProblem::Negative,
                "values must not be negative; is this scaled data? Choose the raw counts, or the likelihood normal",
            )?;
        }
        if l.is_of_counts() {
            refuse(
                CountProblem::NonInteger,
                "values must be whole numbers; is this normalised data? Choose the raw counts, or the likelihood normal",
            )?;
        }
        Ok(())
    }

    /// Probabilities are of 0 and 1.
    fn check_shares(&self, info: &ModalityInfo, m: &Loaded<'_>) -> Result<()> {
        const ROWS_AT_ONCE: usize = 4096;
        let n = m.values.n_rows();
        for start in (0..n).step_by(ROWS_AT_ONCE) {
            let part = m.values.read_range(start..(start + ROWS_AT_ONCE).min(n))?;
            for i in 0..part.n_rows() {
                let (columns, values) = part.row(i);
                if let Some((&c, &v)) = columns.iter().zip(values).find(|(_, v)| **v > 1.0) {
                    let advice = "values must be 0 or 1; binarise them, or choose the likelihood nb or poisson";
                    return Err(self.wrong(info, m, start + i, c as usize, v, advice));
                }
            }
        }
        Ok(())
    }

    fn wrong(
        &self,
        info: &ModalityInfo,
        m: &Loaded<'_>,
        row: usize,
        feature: usize,
        value: f32,
        advice: &'static str,
    ) -> Error {
        let cell = m.cell_of.get(row).and_then(|&c| self.names.get(c));
        Error::WrongValues {
            modality: info.name.clone(),
            value,
            cell: cell.cloned().unwrap_or_default(),
            feature: info.features.get(feature).cloned().unwrap_or_default(),
            likelihood: info.likelihood,
            advice,
        }
    }
}
