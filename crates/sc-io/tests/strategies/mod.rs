//! Data of every shape and type that files hold, made up by proptest.
#![allow(dead_code)]

use indexmap::IndexMap;
use ndarray::{Array2, ArrayD, IxDyn};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use sc_data::{AnnData, Annotation, Categorical, Column, Csr, Matrix, Raw, Table, Uns};

/// Text without NUL, which HDF5 cannot hold.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_ .äß日-]{0,12}"
}

/// Names of columns and keys: no slash, not "_index".
pub(crate) fn name() -> impl Strategy<Value = String> {
    "[a-zA-Zä][a-zA-Z0-9 .日-]{0,8}"
}

fn categorical(n: usize) -> impl Strategy<Value = Categorical> {
    (btree_set(text(), 1..200), any::<bool>()).prop_flat_map(move |(categories, ordered)| {
        let k = categories.len() as u32;
        let categories: Vec<String> = categories.into_iter().collect();
        vec(proptest::option::of(0..k), n)
            .prop_map(move |codes| Categorical::new(codes, categories.clone(), ordered).unwrap())
    })
}

fn column(n: usize) -> impl Strategy<Value = Column> {
    prop_oneof![
        vec(any::<bool>(), n).prop_map(Column::Bool),
        vec(any::<i32>(), n).prop_map(Column::Int32),
        vec(any::<i64>(), n).prop_map(Column::Int),
        vec(-1e30f32..1e30, n).prop_map(Column::Float32),
        vec(-1e300f64..1e300, n).prop_map(Column::Float),
        vec(text(), n).prop_map(Column::Str),
        categorical(n).prop_map(Column::Categorical),
        vec(any::<Option<bool>>(), n).prop_map(Column::OptBool),
        vec(any::<Option<i64>>(), n).prop_map(Column::OptInt),
        vec(proptest::option::of(text()), n).prop_map(|v| {
            // One that lacks nothing is written as plain text.
            if v.iter().all(Option::is_some) {
                Column::Str(v.into_iter().flatten().collect())
            } else {
                Column::OptStr(v)
            }
        }),
    ]
}

pub(crate) fn table(n: usize) -> impl Strategy<Value = Table> {
    let columns = vec((name(), column(n)), 0..5);
    (vec(text(), n), proptest::option::of(name()), columns).prop_map(|(index, title, columns)| {
        let title = title.filter(|t| columns.iter().all(|(n, _)| n != t));
        let mut table = Table::new(index).with_index_name(title);
        for (name, column) in columns {
            table.insert(name, column).unwrap();
        }
        table
    })
}

fn sparse(n: usize, g: usize) -> impl Strategy<Value = Csr> {
    vec(prop_oneof![3 => Just(0.0f32), 1 => -1e6f32..1e6], n * g)
        .prop_map(move |v| Csr::from_dense(&Array2::from_shape_vec((n, g), v).unwrap()))
}

pub(crate) fn matrix(n: usize, g: usize) -> impl Strategy<Value = Matrix> {
    prop_oneof![
        sparse(n, g).prop_map(Matrix::Sparse),
        vec(any::<i16>(), n * g).prop_map(move |v| {
            let v = v.into_iter().map(f32::from).collect();
            Matrix::Dense(Array2::from_shape_vec((n, g), v).unwrap())
        }),
        vec(-1e300f64..1e300, n * g)
            .prop_map(move |v| Matrix::Dense64(Array2::from_shape_vec((n, g), v).unwrap())),
    ]
}

pub(crate) fn annotations(n: usize) -> impl Strategy<Value = IndexMap<String, Annotation>> {
    let one = prop_oneof![
        (0usize..4)
            .prop_flat_map(move |k| matrix(n, k))
            .prop_map(Annotation::Matrix),
        table(n).prop_map(Annotation::Table),
    ];
    vec((name(), one), 0..3).prop_map(|v| v.into_iter().collect())
}

fn array<T: Clone + std::fmt::Debug>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = ArrayD<T>> {
    (vec(one, 24), 0usize..4).prop_map(|(v, k)| {
        let shape: &[usize] = [&[24][..], &[4, 6], &[2, 3, 4], &[0]][k];
        let n = shape.iter().product();
        ArrayD::from_shape_vec(IxDyn(shape), v[..n].to_vec()).unwrap()
    })
}

pub(crate) fn uns() -> impl Strategy<Value = Uns> {
    let leaf = prop_oneof![
        Just(Uns::Null),
        any::<bool>().prop_map(Uns::Bool),
        any::<i64>().prop_map(Uns::Int),
        (-1e300f64..1e300).prop_map(Uns::Float),
        text().prop_map(Uns::Str),
        array(any::<i64>()).prop_map(Uns::Ints),
        array(-1e300f64..1e300).prop_map(Uns::Floats),
        array(-1e30f32..1e30).prop_map(Uns::Floats32),
        array(any::<bool>()).prop_map(Uns::Bools),
        array(text()).prop_map(Uns::Strings),
        sparse(3, 2).prop_map(Uns::Sparse),
        table(2).prop_map(Uns::Table),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        vec((name(), inner), 0..3).prop_map(|v| Uns::Dict(v.into_iter().collect()))
    })
}

pub(crate) fn any_data() -> impl Strategy<Value = AnnData> {
    (0usize..7, 0usize..6, 0usize..4).prop_flat_map(|(n, g, r)| {
        let parts = (
            proptest::option::of(matrix(n, g)),
            table(n),
            table(g),
            vec((name(), matrix(n, g)), 0..3),
            annotations(n),
            annotations(g),
            proptest::option::of(matrix(n, n)),
            proptest::option::of(matrix(g, g)),
            vec((name(), uns()), 0..4),
            proptest::option::of((matrix(n, r), table(r), annotations(r))),
        );
        parts.prop_map(|(x, obs, var, layers, obsm, varm, obsp, varp, uns, raw)| {
            let mut data = AnnData::default();
            data.x = x;
            data.obs = obs;
            data.var = var;
            data.layers = layers.into_iter().collect();
            data.obsm = obsm;
            data.varm = varm;
            data.obsp = obsp.into_iter().map(|m| ("p".to_owned(), m)).collect();
            data.varp = varp.into_iter().map(|m| ("q".to_owned(), m)).collect();
            data.uns = uns.into_iter().collect();
            data.raw = raw.map(|(x, var, varm)| Raw { x, var, varm });
            data
        })
    })
}
