use std::io::Write;
use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The metrics of each epoch, by name: `elbo_train`, `elbo_validation`, ...
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    metrics: IndexMap<String, Vec<(usize, f64)>>,
}

impl History {
    /// Notes a value of an epoch (from 0). One that is no number is left out with a warning: it could not be saved.
    pub fn push(&mut self, name: &str, epoch: usize, value: f64) {
        if !value.is_finite() {
            tracing::warn!(epoch, value, "{name} is not a number");
            return;
        }
        self.metrics
            .entry(name.to_owned())
            .or_default()
            .push((epoch, value));
    }

    /// The names of the metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.metrics.keys().map(String::as_str)
    }

    /// A metric as pairs of epoch and value; empty if there is none of this name.
    pub fn get(&self, name: &str) -> &[(usize, f64)] {
        self.metrics.get(name).map_or(&[], Vec::as_slice)
    }

    /// The values of a metric.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.get(name).iter().map(|p| p.1).collect()
    }

    /// The last value of a metric.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.get(name).last().map(|p| p.1)
    }

    /// Puts the epochs of a later run behind these.
    pub fn append(&mut self, later: &Self) {
        let first = self
            .metrics
            .values()
            .flatten()
            .map(|p| p.0 + 1)
            .max()
            .unwrap_or(0);
        for (name, values) in &later.metrics {
            for &(epoch, value) in values {
                self.push(name, first + epoch, value);
            }
        }
    }

    /// The metrics of one epoch.
    pub fn epoch(&self, epoch: usize) -> impl Iterator<Item = (&str, f64)> {
        self.metrics.iter().filter_map(move |(k, v)| {
            v.iter()
                .rev()
                .find(|p| p.0 == epoch)
                .map(|p| (k.as_str(), p.1))
        })
    }

    /// Writes one line an epoch and one column a metric.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        crate::files::write_atomic(path, |f| {
            let epochs: std::collections::BTreeSet<usize> =
                self.metrics.values().flatten().map(|p| p.0).collect();
            write!(f, "epoch")?;
            for name in self.names() {
                write!(f, ",{name}")?;
            }
            writeln!(f)?;
            for epoch in epochs {
                write!(f, "{epoch}")?;
                for values in self.metrics.values() {
                    match values.iter().find(|p| p.0 == epoch) {
                        Some((_, v)) => write!(f, ",{v}")?,
                        None => write!(f, ",")?,
                    }
                }
                writeln!(f)?;
            }
            Ok(())
        })
    }
}
