use indexmap::IndexMap;
use ndarray::array;
use proptest::prelude::*;

use super::{MuData, Shared};
use crate::{AnnData, Column, Csr, Error, Matrix, Table};

fn table(names: &[&str]) -> Table {
    Table::new(names.iter().map(|&n| n.to_owned()).collect())
}

/// A modality whose value in row i and column j is i + j / 10.
fn modality(cells: &[&str], features: &[&str]) -> AnnData {
    let values = |(i, j): (usize, usize)| i as f32 + j as f32 / 10.0;
    let x = ndarray::Array2::from_shape_fn((cells.len(), features.len()), values);
    AnnData::new(x, table(cells), table(features)).unwrap()
}

fn of(modalities: Vec<(&str, AnnData)>) -> IndexMap<String, AnnData> {
    let named = modalities.into_iter().map(|(n, d)| (n.to_owned(), d));
    named.collect()
}

fn mosaic() -> MuData {
    MuData::new(of(vec![
        ("rna", modality(&["c1", "c2", "c3"], &["CD3E", "CD19"])),
        (
            "adt",
            modality(&["c4", "c3", "c1"], &["CD3", "CD19", "CD4"]),
        ),
    ]))
    .unwrap()
}

#[test]
fn cells_are_joined_and_features_put_behind_each_other() {
    let m = mosaic();
    assert_eq!(m.obs.index(), ["c1", "c2", "c3", "c4"]);
    assert_eq!(m.var.index(), ["CD3E", "CD19", "CD3", "CD19", "CD4"]);
    assert_eq!(m.obsmap["rna"], [Some(0), Some(1), Some(2), None]);
    assert_eq!(m.obsmap["adt"], [Some(2), None, Some(1), Some(0)]);
    let expected = [None, None, Some(0), Some(1), Some(2)];
    assert_eq!(m.varmap["adt"], expected);
    assert_eq!(m.paired(&["rna", "adt"]).unwrap(), [0, 2]);
    assert_eq!(m.paired(&[]).unwrap().len(), 4);
    let rows = m.paired_rows(&["adt", "rna"]).unwrap();
    assert_eq!(rows, [[2, 1], [0, 2]]);
    assert_eq!(m.cells_of("adt").unwrap(), [3, 2, 0]);
}

#[test]
fn shared_features_and_both() {
    let two = || {
        of(vec![
            ("a", modality(&["c1", "c2"], &["g1", "g2"])),
            ("b", modality(&["c1"], &["g2", "g3"])),
        ])
    };
    let features = MuData::with_shared(two(), Shared::Features).unwrap();
    assert_eq!(features.obs.index(), ["c1", "c2", "c1"]);
    assert_eq!(features.var.index(), ["g1", "g2", "g3"]);
    assert_eq!(features.obsmap["b"], [None, None, Some(0)]);
    let both = MuData::with_shared(two(), Shared::Both).unwrap();
    assert_eq!(both.obs.index(), ["c1", "c2"]);
    assert_eq!(both.varmap["b"], [None, Some(0), Some(1)]);
    for shared in [Shared::Cells, Shared::Features, Shared::Both] {
        assert_eq!(Shared::from_axis(shared.axis()), Some(shared));
    }
    assert_eq!(Shared::from_axis(2), None);
}

#[test]
fn what_cannot_be_joined_is_named() {
    let twice = of(vec![
        ("rna", modality(&["c1"], &["g1"])),
        ("adt", modality(&["c1", "c1"], &["p1"])),
    ]);
    let message = MuData::new(twice.clone()).unwrap_err().to_string();
    assert_eq!(message, "obs of modality \"adt\" contains \"c1\" twice");
    // Put one behind the other they need not differ.
    assert!(MuData::with_shared(twice, Shared::Features).is_ok());
    for name in ["", "a/b", "."] {
        let wrong = of(vec![(name, modality(&["c1"], &["g1"]))]);
        let error = MuData::new(wrong).unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }), "{error}");
    }
    let message = mosaic().modality("atac").unwrap_err().to_string();
    assert!(message.contains("rna, adt"), "{message}");
    assert!(mosaic().paired(&["rna", "atac"]).is_err());
}

#[test]
fn parts_that_do_not_fit_are_named() {
    type Change = fn(&mut MuData);
    let changes: [(Change, &str); 8] = [
        (|m| m.obsmap["rna"][0] = Some(3), "names row 3 at 0"),
        (|m| m.obsmap["rna"][3] = Some(0), "names row 0 twice"),
        (|m| m.obsmap["rna"][0] = None, "does not name row 0"),
        (
            |m| m.obsmap["rna"].truncate(2),
            "obsmap/rna has length 2, expected 4",
        ),
        (
            |m| drop(m.varmap.shift_remove("adt")),
            "varmap of the modality \"adt\" is missing",
        ),
        (
            |m| drop(m.varmap.insert("x".into(), vec![])),
            "modality \"x\"",
        ),
        (
            |m| drop(m.obsm.insert("rna".into(), array![[0.0f32]].into())),
            "that of a modality",
        ),
        (
            |m| m.modalities["adt"].obs = table(&["c1"]),
            "modality \"adt\": rows of X",
        ),
    ];
    for (change, expected) in changes {
        let mut m = mosaic();
        change(&mut m);
        let message = m.check().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let mut m = mosaic();
    m.obsm.insert("X_joint".into(), array![[0.0f32]].into());
    assert!(m.check().unwrap_err().to_string().contains("obsm/X_joint"));
    let mut m = mosaic();
    m.obsp
        .insert("graph".into(), Matrix::Sparse(Csr::zeros(4, 3)));
    assert!(
        m.check()
            .unwrap_err()
            .to_string()
            .contains("columns of obsp/graph")
    );
}

#[test]
fn maps_are_found_again_by_name() {
    let mut m = mosaic();
    m.modalities["adt"] = m.modalities["adt"].select_obs(&[1, 0]).unwrap();
    assert!(m.check().is_err());
    m.map_by_names().unwrap();
    assert_eq!(m.obsmap["adt"], [None, None, Some(0), Some(1)]);
    m.check().unwrap();
    m.obs = m.obs.select_rows(&[0, 1]).unwrap();
    let message = m.map_by_names().unwrap_err().to_string();
    assert!(message.contains("no cell \"c3\""), "{message}");
    // Names that are not unique say nothing, unless both sides are the same.
    let mut same = MuData::with_shared(
        of(vec![("a", modality(&["c", "c"], &["g"]))]),
        Shared::Features,
    )
    .unwrap();
    same.shared = Shared::Cells;
    same.map_by_names().unwrap();
    assert_eq!(same.obsmap["a"], [Some(0), Some(1)]);
}

#[test]
fn joint_columns_reach_the_modalities() {
    let mut m = mosaic();
    m.obs
        .insert("batch", Column::Int(vec![10, 20, 30, 40]))
        .unwrap();
    let batch = m.obs.column("obs", "batch").unwrap();
    let of_adt = batch.select(&m.cells_of("adt").unwrap()).unwrap();
    assert_eq!(of_adt, Column::Int(vec![40, 30, 10]));
}

/// Some cells of a pool of names, each once, in any order.
fn some_cells() -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..12).collect::<Vec<usize>>(), 0..=12).prop_shuffle()
}

fn named_cells(cells: &[usize], features: usize) -> AnnData {
    let obs = Table::new(cells.iter().map(|c| format!("c{c}")).collect());
    let var = Table::new((0..features).map(|g| format!("g{g}")).collect());
    let x = ndarray::Array2::from_shape_fn((cells.len(), features), |(i, j)| {
        (cells[i] * 10 + j) as f32
    });
    AnnData::new(x, obs, var).unwrap()
}

fn any_mudata() -> impl Strategy<Value = MuData> {
    let modality = (some_cells(), 0usize..4);
    let axis = prop_oneof![
        Just(Shared::Cells),
        Just(Shared::Features),
        Just(Shared::Both)
    ];
    (proptest::collection::vec(modality, 0..4), axis).prop_map(|(all, shared)| {
        let all = all.iter().enumerate();
        let all = all.map(|(k, (cells, g))| (format!("m{k}"), named_cells(cells, *g)));
        MuData::with_shared(all.collect(), shared).unwrap()
    })
}

proptest! {
    /// Each row of a modality has the name of its joint cell, and nothing else is joint.
    #[test]
    fn names_agree(m in any_mudata()) {
        let mut used = vec![false; m.n_obs()];
        for (name, data) in &m.modalities {
            for (row, cell) in m.cells_of(name).unwrap().into_iter().enumerate() {
                prop_assert_eq!(&m.obs.index()[cell], &data.obs.index()[row]);
                prop_assert_eq!(m.rows_in(name).unwrap()[cell], Some(row));
                used[cell] = true;
            }
        }
        prop_assert!(used.into_iter().all(|u| u));
        let mut again = m.clone();
        again.map_by_names().unwrap();
        prop_assert_eq!(&again, &m);
    }

    /// A selection has the same values under the same joint cells, whatever the modality.
    #[test]
    fn selections_keep_values(m in any_mudata(), order in proptest::collection::vec(any::<prop::sample::Index>(), 0..15)) {
        prop_assume!(m.n_obs() > 0);
        let cells: Vec<usize> = order.iter().map(|i| i.index(m.n_obs())).collect();
        let s = m.select_obs(&cells).unwrap();
        s.check().unwrap();
        prop_assert_eq!(s.n_vars(), m.n_vars());
        for name in m.modalities.keys() {
            let value = |m: &MuData, cell: usize| {
                let row = m.rows_in(name).unwrap()[cell]?;
                let x = m.modalities[name].x.as_ref()?.to_dense();
                Some(x.row(row).to_vec())
            };
            for (new, &old) in cells.iter().enumerate() {
                prop_assert_eq!(value(&s, new), value(&m, old));
            }
        }
        prop_assert!(m.select_obs(&[m.n_obs()]).is_err());
    }
}
