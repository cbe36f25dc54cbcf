use super::*;
use crate::testing::{blobs, with_threads};
use ndarray::{Axis, Slice, array};

fn naive(reference: &Array2<f32>, query: &Array2<f32>, k: usize, own: bool) -> Vec<Vec<u32>> {
    query
        .rows()
        .into_iter()
        .enumerate()
        .map(|(i, q)| {
            let mut all: Vec<(f64, u32)> = (0..reference.nrows())
                .filter(|&j| !(own && i == j))
                .map(|j| {
                    (
                        squared_distance(
                            q.as_slice().unwrap(),
                            reference.row(j).as_slice().unwrap(),
                        ),
                        j as u32,
                    )
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.iter().take(k).map(|e| e.1).collect()
        })
        .collect()
}

fn rows(n: &Neighbors) -> Vec<Vec<u32>> {
    n.indices.rows().into_iter().map(|r| r.to_vec()).collect()
}

#[test]
fn the_same_as_all_pairs() {
    // More rows than two reference tiles; far from the origin, where plain f32 products lose the distances.
    for offset in [0.0, 1000.0] {
        let (mut x, _) = blobs(4500, 6, 5);
        x.mapv_inplace(|v| v + offset);
        let found = knn(x.view(), 10).unwrap();
        assert_eq!(rows(&found), naive(&x, &x, 10, true));
        let q = x.slice_axis(Axis(0), Slice::from(..70)).to_owned();
        let found = knn_query(x.view(), q.view(), 3).unwrap();
        assert_eq!(rows(&found), naive(&x, &q, 3, false));
        assert!(found.distances.column(0).iter().all(|&d| d == 0.0));
    }
}

/// Points of a coarse grid: many coincide, and nearly all distances occur again and again.
#[test]
fn ties_in_many_blocks() {
    let x = Array2::from_shape_fn((1100, 3), |(i, j)| {
        ((i * (31 + 7 * j) + i * i * (j + 1)) % 5) as f32
    });
    // The last is more than a block has points.
    for k in [1, 7, 60, 250] {
        let found = knn(x.view(), k).unwrap();
        assert_eq!(rows(&found), naive(&x, &x, k, true), "k = {k}");
    }
    let all = knn(x.view(), 1099).unwrap();
    assert_eq!(rows(&all), naive(&x, &x, 1099, true));
    let q = x.mapv(|v| v * 0.5 + 1.0);
    let found = knn_query(x.view(), q.view(), 33).unwrap();
    assert_eq!(rows(&found), naive(&x, &q, 33, false));
}

/// Clouds a million apart with neighbours at distances near 1, and one point very far away.
#[test]
fn distances_of_very_different_size() {
    let (mut x, cloud) = blobs(900, 3, 7);
    for (mut row, c) in x.rows_mut().into_iter().zip(&cloud) {
        row.mapv_inplace(|v| v + 1e6 * *c as f32);
    }
    x.row_mut(500).fill(-1e14);
    let found = knn(x.view(), 9).unwrap();
    assert_eq!(rows(&found), naive(&x, &x, 9, true));
    // So small that squares vanish in single precision.
    let tiny = x
        .slice_axis(Axis(0), Slice::from(..300))
        .mapv(|v| v * 1e-28);
    let found = knn(tiny.view(), 9).unwrap();
    assert_eq!(rows(&found), naive(&tiny, &tiny, 9, true));
}

#[test]
fn ties_go_to_the_lower_row() {
    let x = array![[0.0f32], [1.0], [-1.0], [1.0], [0.0]];
    let n = knn(x.view(), 4).unwrap();
    assert_eq!(n.indices.row(0).to_vec(), vec![4, 1, 2, 3]);
    assert_eq!(n.distances.row(0).to_vec(), vec![0.0, 1.0, 1.0, 1.0]);
    let same = Array2::<f32>::ones((300, 3));
    assert_eq!(
        knn(same.view(), 2).unwrap().indices.row(5).to_vec(),
        vec![0, 1]
    );
}

/// Reference: scikit-learn 1.9.1, brute force, on the points of `testing::lattice`.
#[test]
fn distances_agree_with_scikit_learn() {
    let n = knn(crate::testing::lattice().view(), 5).unwrap();
    assert_eq!(n.indices.row(0).to_vec(), vec![9, 3, 11, 6, 1]);
    assert_eq!(n.indices.row(1).to_vec(), vec![3, 11, 7, 10, 6]);
    let expected = [3.3166247903554, 3.528455448809421, 4.885693126602183];
    for (d, e) in n.distances.row(0).iter().zip(expected) {
        assert!((f64::from(*d) - e).abs() < 1e-6);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (x, _) = blobs(1000, 4, 8);
    let run = |threads| with_threads(threads, || knn(x.view(), 12).unwrap());
    assert_eq!(run(1), run(3));
}

#[test]
fn bad_input_is_refused() {
    let x = array![[0.0f32, 1.0], [1.0, f32::NAN]];
    assert!(matches!(
        knn(x.view(), 1),
        Err(Error::InvalidCoordinate {
            row: 1,
            column: 1,
            ..
        })
    ));
    let x = array![[0.0f32, 1.0], [1.0, 0.0]];
    assert!(knn(x.view(), 0).is_err());
    assert!(knn(x.view(), 2).is_err());
    assert!(knn_query(x.view(), x.view(), 2).is_ok());
    assert!(knn_query(x.view(), array![[1.0f32]].view(), 1).is_err());
    assert!(knn(Array2::zeros((0, 2)).view(), 1).is_err());
}
