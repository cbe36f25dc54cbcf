//! Labels as numbers without gaps.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Labels numbered from 0 without gaps, in the order of their own numbers.
#[derive(Debug, Clone)]
pub(crate) struct Codes {
    /// The number of each row's label.
    pub(crate) of: Vec<u32>,
    /// Rows of each label.
    pub(crate) sizes: Vec<usize>,
    /// What each number stood for.
    pub(crate) labels: Vec<u32>,
}

impl Codes {
    pub(crate) fn new(labels: &[u32]) -> Self {
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        for &l in labels {
            *sizes.entry(l).or_default() += 1;
        }
        let number: BTreeMap<u32, u32> = sizes.keys().copied().zip(0..).collect();
        Self {
            of: labels
                .iter()
                .map(|l| number.get(l).copied().unwrap_or_default())
                .collect(),
            labels: sizes.keys().copied().collect(),
            sizes: sizes.into_values().collect(),
        }
    }

    /// How many labels there are.
    pub(crate) fn n(&self) -> usize {
        self.sizes.len()
    }

    /// The rows of each label.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows: Vec<Vec<usize>> = self.sizes.iter().map(|&s| Vec::with_capacity(s)).collect();
        for (row, &code) in self.of.iter().enumerate() {
            rows[code as usize].push(row);
        }
        rows
    }
}

/// Refuses what does not have one entry for each cell.
pub(crate) fn same_length(what: &str, found: usize, like: &str, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length {
        what: what.to_owned(),
        found,
        like: like.to_owned(),
        expected,
    })
}

/// Refuses less than two of something.
pub(crate) fn at_least_two(name: &'static str, found: usize) -> Result<()> {
    if found >= 2 {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name,
        found: found.to_string(),
        expected: "at least 2".into(),
    })
}

/// Some entries of a slice, by their places.
pub(crate) fn pick(values: &[u32], rows: &[usize]) -> Vec<u32> {
    rows.iter()
        .filter_map(|&r| values.get(r).copied())
        .collect()
}
