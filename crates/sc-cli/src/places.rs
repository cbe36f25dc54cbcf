//! What the commands on neighbours share: where cells lie, what they are, and the graph of their neighbours.

use std::path::Path;

use ndarray::Array2;
use sc_data::{AnnData, Annotation, Categorical, Csr};
use sc_neighbors::{ApproxParams, Knn, Neighbors};

use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Spinner;

/// How neighbours are searched.
#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// Neighbours of a cell, the cell itself counted (scanpy's n_neighbors)
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one)]
    pub(crate) k: usize,
    #[command(flatten)]
    accuracy: Accuracy,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
}

/// Whether all true neighbours are found.
#[derive(Debug, clap::Args)]
pub(crate) struct Accuracy {
    /// Find all true neighbours, however many cells there are
    #[arg(long, conflicts_with = "approx")]
    exact: bool,
    /// Find most of the true neighbours: faster with very many cells [default: above 100,000 cells]
    #[arg(long)]
    approx: bool,
}

impl Accuracy {
    pub(crate) fn method(&self, n_cells: usize, seed: u64) -> Knn {
        let approximate = || {
            Knn::Approximate(ApproxParams {
                seed,
                ..ApproxParams::default()
            })
        };
        match (self.exact, self.approx, Knn::auto(n_cells)) {
            (true, _, _) | (_, false, Knn::Exact) => Knn::Exact,
            _ => approximate(),
        }
    }
}

impl Search {
    /// The other cells nearest to each cell.
    pub(crate) fn neighbors(
        &self,
        path: &Path,
        key: &str,
        places: &Array2<f32>,
    ) -> Result<Neighbors> {
        let n = places.nrows();
        if self.k < 2 || self.k > n {
            return Err(Error::Message(format!(
                "--k is {}, but counts the cell itself: choose 2 to {n}, the number of cells of {}",
                self.k,
                path.display()
            )));
        }
        let _spinner = Spinner::new(format!("searching the neighbours of {n} cells"));
        let found = self.method(n).neighbors(places.view(), self.k - 1);
        found.map_err(|e| in_places(path, key, &e))
    }

    pub(crate) fn is_exact(&self, n_cells: usize) -> bool {
        matches!(self.method(n_cells), Knn::Exact)
    }

    fn method(&self, n_cells: usize) -> Knn {
        self.accuracy.method(n_cells, self.seed)
    }

    /// The weighted graph of the cells, and where they lie: made from obsm `rep`, and kept in the data; or the one that the
    /// data has, if `rep` is none.
    pub(crate) fn graph(
        &self,
        data: &mut AnnData,
        path: &Path,
        rep: Option<&str>,
    ) -> Result<(Csr, Array2<f32>)> {
        if let Some(key) = rep {
            let places = places(data, path, key)?;
            let near = self.neighbors(path, key, &places)?;
            sc_neighbors::insert_graph(data, &near, key)?;
            return Ok((sc_neighbors::find_graph(data)?.0, places));
        }
        let hint = "give --rep KEY, or run `sc neighbors` first";
        let (graph, key) = sc_neighbors::find_graph(data).map_err(|_| {
            let found = list(data.obsm.keys());
            Error::Message(format!(
                "{}: holds no graph of neighbours; {hint}. obsm has: {found}",
                path.display()
            ))
        })?;
        let key = key.ok_or_else(|| {
            Error::Message(format!(
                "{}: uns neighbors doesn't say from which obsm its graph was made; {hint}",
                path.display()
            ))
        })?;
        let places = places(data, path, &key)?;
        Ok((graph, places))
    }
}

/// The places of the cells in obsm `key`.
pub(crate) fn places(data: &AnnData, path: &Path, key: &str) -> Result<Array2<f32>> {
    match data.obsm.get(key) {
        Some(Annotation::Matrix(m)) => Ok(m.to_dense()),
        Some(_) => Err(Error::Message(format!(
            "{}: obsm {key} is a table, expected numbers",
            path.display()
        ))),
        None => Err(Error::Message(format!(
            "{}: obsm has no \"{key}\"; it has: {}. Name another with --rep, or make it with `sc embed`",
            path.display(),
            list(data.obsm.keys())
        ))),
    }
}

/// The labels in an obs column.
pub(crate) fn labels(data: &AnnData, path: &Path, key: &str) -> Result<Categorical> {
    let container = format!("{}: obs", path.display());
    let column = data.obs.column(&container, key)?;
    Ok(column.to_categorical(key)?)
}

/// Makes sure that cells of two files lie in one space.
pub(crate) fn same_space(
    key: &str,
    (one, places): (&Path, &Array2<f32>),
    (other, its): (&Path, &Array2<f32>),
) -> Result<()> {
    if places.ncols() == its.ncols() {
        return Ok(());
    }
    Err(Error::Message(format!(
        "obsm {key} has {} dimensions in {} and {} in {}: both must come from one model",
        places.ncols(),
        one.display(),
        its.ncols(),
        other.display()
    )))
}

/// Says in which file and obsm something is wrong.
pub(crate) fn in_places(path: &Path, key: &str, error: &sc_neighbors::Error) -> Error {
    Error::Message(format!("{}: obsm {key}: {error}", path.display()))
}

/// Says between which files something is wrong.
pub(crate) fn in_both(query: &Path, reference: &Path, error: &sc_neighbors::Error) -> Error {
    Error::Message(format!(
        "{} to {}: {error}",
        reference.display(),
        query.display()
    ))
}

pub(crate) fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    }
}
