//! Cells of several times, from the columns of a file.

use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, Axis};
use sc_data::{AnnData, Column};
use sc_sde::train::{Snapshots, bin_pseudotime};

use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places::{list, places};

/// Which columns mean what.
#[derive(Debug, clap::Args)]
pub(super) struct Columns {
    /// obsm with the states of the cells
    #[arg(long, value_name = "KEY", default_value = "X_pca")]
    pub(super) use_key: String,
    /// Column of obs with the time of each cell [default: t, time, time_pt, t_info, time_info or "Time point", if one is there]
    #[arg(long, value_name = "COLUMN")]
    pub(super) time_key: Option<String>,
    /// The column is a pseudotime: cut it into so many bins, whose numbers are the times
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pseudotime_bins: Option<usize>,
    /// Column of obs with the growth rate of each cell, per unit of time
    #[arg(long, value_name = "COLUMN")]
    pub(super) growth_key: Option<String>,
    /// Column of obs with true for the cells to train on [default: all]
    #[arg(long, value_name = "COLUMN")]
    train_key: Option<String>,
}

/// What scDiffEq looks for.
const TIME_KEYS: [&str; 6] = ["t", "Time point", "time", "time_pt", "t_info", "time_info"];

/// Cells to train on.
pub(super) struct Cells {
    pub(super) snapshots: Snapshots,
    /// Their names.
    pub(super) names: Vec<String>,
    pub(super) time_key: String,
}

impl Columns {
    /// Reads the cells of a file.
    pub(super) fn read(&self, path: &Path) -> Result<Cells> {
        let data = match sc_io::format_of(path)? {
            // The counts aren't needed.
            sc_io::Format::H5ad => sc_io::h5ad::read_annotations(path)?,
            _ => crate::common::read(path)?,
        };
        self.cells(&data, path)
    }

    fn cells(&self, data: &AnnData, path: &Path) -> Result<Cells> {
        let source = Source {
            data,
            container: format!("{}: obs", path.display()),
            path: path.to_owned(),
        };
        let states = places(data, path, &self.use_key)?;
        let kept = source.kept(self.train_key.as_deref())?;
        let time_key = source.time_key(self.time_key.as_deref())?;
        let names = data.obs.index();
        let names = kept.iter().filter_map(|&i| names.get(i).cloned());
        let names: Vec<String> = names.collect();
        let states = states.select(Axis(0), &kept);
        check_places(path, &self.use_key, states.view(), &names)?;
        let mut times = source.numbers(&time_key, &kept)?;
        source.check_known(&time_key, &times, &names)?;
        let in_file = |e: sc_sde::Error| {
            Error::Message(format!(
                "{}: obsm {} and obs {time_key}: {e}",
                path.display(),
                self.use_key
            ))
        };
        if let Some(bins) = self.pseudotime_bins {
            times = bin_pseudotime(&times, bins).map_err(in_file)?;
        }
        let mut snapshots = Snapshots::from_array(states.view(), &times).map_err(in_file)?;
        if let Some(key) = &self.growth_key {
            let rates = source.numbers(key, &kept)?;
            source.check_known(key, &rates, &names)?;
            snapshots = snapshots
                .with_growth_rates(&rates)
                .map_err(|e| Error::Message(format!("{}: obs {key}: {e}", path.display())))?;
        }
        Ok(Cells {
            snapshots,
            names,
            time_key,
        })
    }
}

/// Refuses cells that are nowhere, by their names.
pub(super) fn check_places(
    path: &Path,
    key: &str,
    places: ArrayView2<'_, f32>,
    names: &[String],
) -> Result<()> {
    match places.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), value)) => Err(Error::Message(format!(
            "{}: obsm {key}: cell {} has {value} in dimension {column} (from 0); all must be finite: leave such cells out, or compute the embedding again",
            path.display(),
            names.get(row).map_or("", String::as_str)
        ))),
    }
}

struct Source<'a> {
    data: &'a AnnData,
    container: String,
    path: PathBuf,
}

impl Source<'_> {
    /// The rows to train on.
    fn kept(&self, key: Option<&str>) -> Result<Vec<usize>> {
        let n = self.data.obs.n_rows();
        let Some(key) = key else {
            return Ok((0..n).collect());
        };
        let wrong = |found: &str| {
            Error::Message(format!(
                "{}: {key} holds {found}, expected true and false",
                self.container
            ))
        };
        let flags: Vec<bool> = match self.data.obs.column(&self.container, key)? {
            Column::Bool(v) => v.clone(),
            Column::OptBool(v) => v.iter().map(|b| b.unwrap_or(false)).collect(),
            Column::Categorical(c) => c
                .iter()
                .map(|label| match label {
                    Some("True" | "true") => Ok(true),
                    Some("False" | "false") | None => Ok(false),
                    Some(other) => Err(wrong(&format!("\"{other}\""))),
                })
                .collect::<Result<_>>()?,
            other => return Err(wrong(other.type_name())),
        };
        let kept = flags.iter().enumerate().filter(|(_, keep)| **keep);
        let kept: Vec<usize> = kept.map(|(i, _)| i).collect();
        match kept.is_empty() {
            true => Err(wrong("true for no cell")),
            false => Ok(kept),
        }
    }

    fn time_key(&self, given: Option<&str>) -> Result<String> {
        if let Some(key) = given {
            return Ok(key.to_owned());
        }
        let there = |key: &&str| self.data.obs.get(key).is_some();
        let found: Vec<&str> = TIME_KEYS.into_iter().filter(there).collect();
        match found.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => {
                let columns: Vec<String> =
                    self.data.obs.columns().map(|c| c.0.to_owned()).collect();
                Err(Error::Message(format!(
                    "{} has none of the columns {}: name the one with the times by --time-key; there are: {}",
                    self.container,
                    TIME_KEYS.join(", "),
                    list(columns.iter())
                )))
            }
            several => Err(Error::Message(format!(
                "{} has several columns that could be the times, {}: name one by --time-key",
                self.container,
                several.join(", ")
            ))),
        }
    }

    /// A column as numbers, of some rows; labels are read as such.
    fn numbers(&self, key: &str, rows: &[usize]) -> Result<Vec<f64>> {
        let column = self.data.obs.column(&self.container, key)?;
        let labels = match column {
            Column::Str(_) | Column::OptStr(_) | Column::Categorical(_) => {
                column.to_categorical(key)?
            }
            // With NaN where there is none.
            Column::Float(v) => {
                return Ok(rows.iter().filter_map(|&i| v.get(i).copied()).collect());
            }
            _ => {
                let all = column.to_f64(key).map_err(|e| self.explained(key, &e))?;
                return Ok(rows.iter().filter_map(|&i| all.get(i).copied()).collect());
            }
        };
        let labels: Vec<Option<&str>> = labels.iter().collect();
        let number = |&row: &usize| {
            let label = labels.get(row).copied().flatten();
            let text = label.ok_or_else(|| {
                Error::Message(format!(
                    "{}: {key} has no value in row {row}; leave the cells without one out (--train-key)",
                    self.container
                ))
            })?;
            text.trim().parse::<f64>().map_err(|_| {
                Error::Message(format!(
                    "{}: {key} is \"{text}\" in row {row}, which is no number",
                    self.container
                ))
            })
        };
        rows.iter().map(number).collect()
    }

    /// Refuses cells of which a number isn't known, by their names.
    fn check_known(&self, key: &str, numbers: &[f64], names: &[String]) -> Result<()> {
        let unknown = numbers.iter().zip(names).find(|(v, _)| !v.is_finite());
        match unknown {
            None => Ok(()),
            Some((value, name)) => Err(Error::Message(format!(
                "{}: {key} of cell {name} is {value}; leave the cells without a number out (--train-key)",
                self.container
            ))),
        }
    }

    fn explained(&self, key: &str, error: &sc_data::Error) -> Error {
        Error::Message(format!("{}: obs {key}: {error}", self.path.display()))
    }
}
