use super::*;
use crate::testing::{blobs, with_threads};
use crate::{connectivities, knn};

fn ring(n: usize) -> Csr {
    let mut m = Array2::zeros((n, n));
    for i in 0..n {
        m[[i, (i + 1) % n]] = 1.0f32;
        m[[(i + 1) % n, i]] = 1.0;
    }
    Csr::from_dense(&m)
}

/// On a ring the eigenvalues of the walk are cosines.
#[test]
fn a_ring_has_its_known_eigenvalues() {
    for n in [100, 101] {
        let map = diffusion_map(&ring(n), 5, 1e-9, 0).unwrap();
        let tau = std::f64::consts::TAU / n as f64;
        assert!((map.values[0] - 1.0).abs() < 1e-9);
        for v in &map.values {
            let near = (0..n).map(|k| (v - (tau * k as f64).cos()).abs());
            assert!(near.fold(f64::INFINITY, f64::min) < 1e-8, "{n}: {v}");
        }
    }
}

/// The iteration and the decomposition of the whole matrix agree.
#[test]
fn both_ways_agree() {
    let (x, _) = blobs(700, 1, 4);
    let graph = connectivities(&knn(x.view(), 14).unwrap()).unwrap();
    let walk = Walk::new(&graph);
    let (all, _, _) = walk.all().unwrap();
    let map = diffusion_map(&graph, 10, 1e-9, 0).unwrap();
    let mut all: Vec<f64> = all;
    all.sort_by(|a, b| b.total_cmp(a));
    all.truncate(10);
    for (a, b) in map.values.iter().zip(&all) {
        assert!((a - b).abs() < 1e-8, "{a} {b}");
    }
    for (k, column) in map.vectors.columns().into_iter().enumerate() {
        assert!((column.dot(&column) - 1.0).abs() < 1e-9);
        let image: Vec<f64> = (0..700)
            .map(|i| {
                let row = graph.indptr()[i]..graph.indptr()[i + 1];
                row.map(|p| walk.values[p] * column[graph.indices()[p] as usize])
                    .sum()
            })
            .collect();
        for (a, b) in image.iter().zip(column) {
            assert!((a - map.values[k] * b).abs() < 1e-7);
        }
    }
    assert!(map.residual <= 1e-9);
    let run = |t| with_threads(t, || diffusion_map(&graph, 10, 1e-9, 0).unwrap().vectors);
    assert_eq!(run(1), run(3));
}

#[test]
fn pseudotime_grows_along_a_line() {
    let x = Array2::from_shape_fn((400, 1), |(i, _)| i as f32 + 0.1 * ((i * 7) % 5) as f32);
    let graph = connectivities(&knn(x.view(), 10).unwrap()).unwrap();
    let map = diffusion_map(&graph, 15, 1e-9, 0).unwrap();
    let time = map.pseudotime(0).unwrap();
    assert_eq!(time[0], 0.0);
    assert!(time.iter().all(|t| (0.0..=1.0).contains(t)));
    assert!(time[100] < time[200] && time[200] < time[399]);
    assert!(map.pseudotime(400).is_err());
    assert!(diffusion_map(&graph, 0, 1e-9, 0).is_err());
    assert!(diffusion_map(&Csr::zeros(2, 3), 1, 1e-9, 0).is_err());
    // Nothing is connected.
    assert_eq!(
        diffusion_map(&Csr::zeros(3, 3), 2, 1e-9, 0).unwrap().values,
        [0.0, 0.0]
    );
}
