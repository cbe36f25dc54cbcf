//! The neighbour graph in annotated data, where scanpy keeps it.

use indexmap::IndexMap;
use sc_data::{AnnData, Csr, Matrix, Uns};

use crate::{Error, Neighbors, Result, connectivities};

/// The distances to the neighbours of each point as a matrix, `[n, n]` with `k` entries in each row. The distance 0 to a
/// point at the same place is an entry as well.
///
/// # Errors
/// [`Error::LengthMismatch`] if indices and distances differ in shape, [`Error::Data`] if a neighbour does not exist.
pub fn distances(neighbors: &Neighbors) -> Result<Csr> {
    let (n, k) = (neighbors.n_points(), neighbors.k());
    if neighbors.distances.dim() != (n, k) {
        return Err(Error::LengthMismatch {
            what: "the distances",
            found: neighbors.distances.len(),
            expected: neighbors.indices.len(),
        });
    }
    Ok(Csr::new(
        n,
        n,
        (0..=n).map(|i| i * k).collect(),
        neighbors.indices.iter().copied().collect(),
        neighbors.distances.iter().copied().collect(),
    )?)
}

/// Keeps neighbours and their [`connectivities`] in `obsp` and says in `uns["neighbors"]` where they are and where they
/// came from, as `scanpy.pp.neighbors` does. `representation` is the name in `obsm` of the points.
///
/// `n_neighbors` in `uns` is one more than [`Neighbors::k`]: scanpy counts the cell itself.
///
/// # Errors
/// As [`connectivities`], and [`Error::LengthMismatch`] unless there is a point for each cell.
pub fn insert_graph(data: &mut AnnData, neighbors: &Neighbors, representation: &str) -> Result<()> {
    if neighbors.n_points() != data.n_obs() {
        return Err(Error::LengthMismatch {
            what: "the neighbours",
            found: neighbors.n_points(),
            expected: data.n_obs(),
        });
    }
    let text = |s: &str| Uns::Str(s.to_owned());
    let dict = |entries: Vec<(&str, Uns)>| -> IndexMap<String, Uns> {
        let named = entries.into_iter().map(|(k, v)| (k.to_owned(), v));
        named.collect()
    };
    let weights = connectivities(neighbors)?;
    data.obsp
        .insert("distances".into(), distances(neighbors)?.into());
    data.obsp.insert("connectivities".into(), weights.into());
    let params = dict(vec![
        ("n_neighbors", Uns::Int(neighbors.k() as i64 + 1)),
        ("method", text("umap")),
        ("metric", text("euclidean")),
        ("random_state", Uns::Int(0)),
        ("use_rep", text(representation)),
    ]);
    data.uns.insert(
        "neighbors".into(),
        Uns::Dict(dict(vec![
            ("connectivities_key", text("connectivities")),
            ("distances_key", text("distances")),
            ("params", Uns::Dict(params)),
        ])),
    );
    Ok(())
}

/// The weighted graph that [`insert_graph`] or scanpy left in `obsp`, under the name that `uns["neighbors"]` gives; and the
/// name in `obsm` of the points that it was made from, if that is known.
///
/// # Errors
/// [`Error::InvalidGraph`] if there is none.
pub fn find_graph(data: &AnnData) -> Result<(Csr, Option<String>)> {
    let entry = |dict: &IndexMap<String, Uns>, name: &str| match dict.get(name) {
        Some(Uns::Str(s)) => Some(s.clone()),
        _ => None,
    };
    let (mut key, mut representation) = ("connectivities".to_owned(), None);
    if let Some(Uns::Dict(about)) = data.uns.get("neighbors") {
        key = entry(about, "connectivities_key").unwrap_or(key);
        if let Some(Uns::Dict(params)) = about.get("params") {
            representation = entry(params, "use_rep");
        }
    }
    match data.obsp.get(&key) {
        Some(Matrix::Sparse(graph)) => Ok((graph.clone(), representation)),
        Some(other) => Ok((other.to_csr(), representation)),
        None => Err(Error::InvalidGraph {
            reason: format!("is missing: obsp has no \"{key}\""),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn;
    use crate::testing::lattice;
    use sc_data::Table;

    /// Reference: scanpy 1.11.5, `pp.neighbors(n_neighbors=6)`.
    #[test]
    fn the_same_as_scanpy() {
        let names = |n: usize| Table::new((0..n).map(|i| i.to_string()).collect());
        let mut data = AnnData::new(Csr::zeros(12, 1), names(12), names(1)).unwrap();
        assert!(find_graph(&data).is_err());
        let near = knn(lattice().view(), 5).unwrap();
        insert_graph(&mut data, &near, "X_scVI").unwrap();
        data.check().unwrap();
        let d = data.obsp["distances"].to_csr();
        assert_eq!(d.n_stored(), 60);
        let expected: (&[u32], &[f32]) = (
            &[0, 1, 3, 7, 9],
            &[
                4.885_693,
                3.737_646_3,
                1.702_938_7,
                5.797_412_4,
                6.088_513_4,
            ],
        );
        let (columns, values) = d.row(11);
        assert_eq!(columns, expected.0);
        for (a, b) in values.iter().zip(expected.1) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        let (graph, rep) = find_graph(&data).unwrap();
        assert_eq!(graph, connectivities(&near).unwrap());
        assert_eq!(rep.as_deref(), Some("X_scVI"));
        let Some(Uns::Dict(about)) = data.uns.get("neighbors") else {
            panic!("no entry");
        };
        let Some(Uns::Dict(params)) = about.get("params") else {
            panic!("no parameters");
        };
        assert_eq!(params.get("n_neighbors"), Some(&Uns::Int(6)));
        assert!(
            insert_graph(
                &mut data,
                &knn(lattice().view().split_at(ndarray::Axis(0), 4).0, 2).unwrap(),
                "X"
            )
            .is_err()
        );
    }

    #[test]
    fn a_point_at_the_same_place_has_an_entry() {
        let x = ndarray::array![[0.0f32], [0.0], [3.0]];
        let d = distances(&knn(x.view(), 1).unwrap()).unwrap();
        assert_eq!(d.row(0), (&[1u32][..], &[0f32][..]));
    }
}
