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

/// The entries of obsm in which the commands here, and scvi-tools when it minifies, keep places; the models of a row share a
/// latent space.
const KNOWN: [&[&str]; 2] = [
    &[
        "X_scVI",
        "scvi_latent_qzm",
        "ldvae_latent_qzm",
        "_scvi_latent_qzm",
        "_ldvae_latent_qzm",
    ],
    &["X_scANVI", "scanvi_latent_qzm", "_scanvi_latent_qzm"],
];

/// A file with cells.
pub(crate) type NamedData<'a> = (&'a AnnData, &'a Path);

/// The entries of obsm with the places of a query and of a reference: those that were named, or known ones.
pub(crate) fn common_space(
    (query, query_path): NamedData<'_>,
    (reference, reference_path): NamedData<'_>,
    rep: Option<&str>,
    reference_rep: Option<&str>,
) -> Result<(String, String)> {
    let first = |data: &AnnData, keys: &[&str]| {
        let found = keys.iter().find(|k| data.obsm.contains_key(**k));
        found.map(|k| (*k).to_owned())
    };
    let pair = |keys: &[&str]| {
        let of_query = rep.map_or_else(|| first(query, keys), |rep| Some(rep.to_owned()));
        let of_reference = reference_rep
            .map(str::to_owned)
            .or_else(|| {
                rep.filter(|r| reference.obsm.contains_key(*r))
                    .map(str::to_owned)
            })
            .or_else(|| first(reference, keys));
        of_query.zip(of_reference)
    };
    let is_of = |keys: &&[&str]| rep.is_none_or(|rep| keys.contains(&rep));
    let found = KNOWN.into_iter().filter(is_of).find_map(pair);
    // A name of their own, in both files.
    let own = || Some((rep?.to_owned(), reference_rep.or(rep)?.to_owned()));
    found.or_else(own).ok_or_else(|| {
        Error::Message(format!(
            "no obsm that `sc embed`, `sc map` or `sc minify` writes is in both files: {} has {}, {} has {}. Map the query \
             with `sc map`, or name others with --rep and --reference-rep",
            query_path.display(),
            list(query.obsm.keys()),
            reference_path.display(),
            list(reference.obsm.keys())
        ))
    })
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
    (one, places): (&Path, &Array2<f32>),
    (other, its): (&Path, &Array2<f32>),
) -> Result<()> {
    if places.ncols() == its.ncols() {
        return Ok(());
    }
    Err(Error::Message(format!(
        "the cells have {} dimensions in {} and {} in {}: both must come from one model",
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(keys: &[&str]) -> AnnData {
        let mut data = AnnData::default();
        for key in keys {
            let one = ndarray::array![[0.0f32]];
            data.obsm.insert((*key).into(), one.into());
        }
        data
    }

    #[test]
    fn spaces_are_found_in_both_files() {
        let find = |query: &[&str], reference: &[&str], rep, reference_rep| {
            let (a, b) = (with(query), with(reference));
            let one = (&a, Path::new("q.h5ad"));
            common_space(one, (&b, Path::new("r.h5ad")), rep, reference_rep)
                .map_err(|e| e.to_string())
        };
        let both = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        let minified = ["scvi_latent_qzm", "scvi_latent_qzv"];
        assert_eq!(
            find(&["X_scVI"], &["X_scVI"], None, None),
            both("X_scVI", "X_scVI")
        );
        assert_eq!(
            find(&["X_scVI"], &minified, None, None),
            both("X_scVI", "scvi_latent_qzm")
        );
        assert_eq!(
            find(&["X_scVI"], &minified, Some("X_scVI"), None),
            both("X_scVI", "scvi_latent_qzm")
        );
        let scanvi = find(&["X_pca", "X_scANVI"], &["scanvi_latent_qzm"], None, None);
        assert_eq!(scanvi, both("X_scANVI", "scanvi_latent_qzm"));
        assert_eq!(
            find(&["X_pca"], &["X_pca"], Some("X_pca"), None),
            both("X_pca", "X_pca")
        );
        assert_eq!(
            find(&["X_scVI"], &["other"], None, Some("other")),
            both("X_scVI", "other")
        );
        // Spaces of two models are none in common.
        let message = find(&["X_scVI"], &["X_scANVI"], None, None).unwrap_err();
        assert!(
            message.contains("q.h5ad has X_scVI") && message.contains("--reference-rep"),
            "{message}"
        );
    }
}
