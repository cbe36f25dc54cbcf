//! Rows that are looked at apart, by a label of each.

use sc_data::Categorical;

use crate::{Error, Result};

/// Which group each row belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    /// Empty if there is one group.
    codes: Vec<u32>,
    names: Vec<String>,
    sizes: Vec<usize>,
}

impl Groups {
    /// All rows together.
    pub(crate) fn one(n_rows: usize) -> Self {
        Self {
            codes: Vec::new(),
            names: vec!["all".into()],
            sizes: vec![n_rows],
        }
    }

    /// One group for each category that occurs.
    pub(crate) fn new(labels: &Categorical, n_rows: usize) -> Result<Self> {
        if labels.len() != n_rows {
            return Err(Error::Data(sc_data::Error::LengthMismatch {
                what: "the batch of each cell".into(),
                found: labels.len(),
                expected: n_rows,
            }));
        }
        let codes = labels.complete_codes("batch")?;
        let mut new_code = vec![0u32; labels.categories().len()];
        let (mut names, mut sizes) = (Vec::new(), Vec::new());
        for (c, (name, &count)) in labels.categories().iter().zip(&labels.counts()).enumerate() {
            if count > 0 {
                new_code[c] = names.len() as u32;
                names.push(name.clone());
                sizes.push(count);
            }
        }
        let codes = codes.iter().map(|&c| new_code[c as usize]).collect();
        Ok(Self {
            codes,
            names,
            sizes,
        })
    }

    /// All rows together, or by `labels`.
    pub(crate) fn maybe(labels: Option<&Categorical>, n_rows: usize) -> Result<Self> {
        labels.map_or_else(|| Ok(Self::one(n_rows)), |l| Self::new(l, n_rows))
    }

    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The group of a row.
    pub(crate) fn of(&self, row: usize) -> usize {
        self.codes.get(row).map_or(0, |&c| c as usize)
    }

    /// Refuses groups with fewer rows than a statistic needs, naming the first.
    pub(crate) fn at_least(&self, needed: usize) -> Result<()> {
        let small = self.sizes.iter().position(|&size| size < needed);
        match small {
            None => Ok(()),
            Some(_) if self.codes.is_empty() => Err(Error::TooSmall {
                what: "cells",
                found: self.sizes.iter().sum(),
                needed,
            }),
            Some(k) => Err(Error::SmallBatch {
                batch: self.names.get(k).cloned().unwrap_or_default(),
                found: self.sizes.get(k).copied().unwrap_or(0),
                needed,
            }),
        }
    }
}
