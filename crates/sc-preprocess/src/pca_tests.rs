use super::*;
use faer::Mat;
use ndarray::Axis;
use rand::{Rng, SeedableRng};
use sc_data::Csr;

/// Sparse rows with a few strong directions in them.
fn example(cells: usize, genes: usize) -> Csr {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let dense = Array2::from_shape_fn((cells, genes), |(i, j)| {
        let on = rng.random::<f32>() < 0.3;
        let group = if i % 4 == j % 4 { 3.0 } else { 0.0 };
        let slope = (i as f32 / cells as f32) * (j % 5) as f32;
        if on {
            rng.random::<f32>() + group + slope
        } else {
            0.0
        }
    });
    Csr::from_dense(&dense)
}

/// Variances and directions by a dense singular value decomposition of the centred matrix.
fn exact(x: &Csr) -> (Vec<f64>, Mat<f64>) {
    let d = x.to_dense().mapv(f64::from);
    let d = &d - &d.mean_axis(Axis(0)).unwrap();
    let m = Mat::from_fn(d.nrows(), d.ncols(), |i, j| d[[i, j]]);
    let svd = m.thin_svd().unwrap();
    let s = svd.S().column_vector();
    let n = d.nrows() as f64 - 1.0;
    let values = (0..s.nrows()).map(|i| s[i] * s[i] / n).collect();
    (values, svd.V().to_owned())
}

fn check(x: &Csr, k: usize) {
    for solver in [PcaSolver::Covariance, PcaSolver::Lanczos] {
        let mut options = PcaOptions::new(k);
        options.solver = solver;
        check_exact(x, k, &pca_with(x, &options).unwrap());
    }
}

fn check_exact(x: &Csr, k: usize, p: &Pca) {
    let (values, v) = exact(x);
    let total: f64 = values.iter().sum();
    assert!(p.residual <= 1e-6, "{}", p.residual);
    for j in 0..k {
        assert!(
            (p.explained_variance[j] - values[j]).abs() < 1e-9 * values[0],
            "{j}"
        );
        assert!((p.explained_variance_ratio[j] - values[j] / total).abs() < 1e-9);
        if values[j] < 1e-9 * values[0] {
            continue;
        }
        let along: f64 = (0..x.n_cols())
            .map(|g| f64::from(p.components[[j, g]]) * v[(g, j)])
            .sum();
        assert!((along.abs() - 1.0).abs() < 1e-5, "{j}: {along}");
        let column = p.scores.column(j).mapv(f64::from);
        let variance = column.dot(&column) / (x.n_rows() as f64 - 1.0);
        assert!((variance / values[j] - 1.0).abs() < 1e-5);
        assert!(column.mean().unwrap().abs() < 1e-5);
        let row = p.components.row(j);
        let largest = row
            .iter()
            .fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
        assert!(largest > 0.0);
    }
}

#[test]
fn agrees_with_a_dense_svd() {
    check(&example(300, 120), 10);
    // More genes than cells, and the basis exhausts the space.
    check(&example(40, 200), 40);
    check(&example(50, 12), 12);
    check(&example(30, 1), 1);
}

#[test]
fn restarts_find_what_the_first_basis_does_not() {
    // Noise only: variances close together, many genes, few components.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    let noise = Array2::from_shape_fn((500, 400), |_| rng.random::<f32>());
    check(&Csr::from_dense(&noise), 3);
}

#[test]
fn the_same_bits_on_any_number_of_threads_and_from_blocks() {
    let x = example(5000, 60);
    for solver in [
        PcaSolver::Covariance,
        PcaSolver::Lanczos,
        PcaSolver::Randomized {
            oversample: 5,
            power: 3,
        },
    ] {
        let mut options = PcaOptions::new(8);
        options.solver = solver;
        let run = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| pca_with(&x, &options).unwrap())
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.scores, three.scores);
        assert_eq!(one.components, three.components);
        assert_eq!(one.explained_variance, three.explained_variance);
    }
    let one = pca(&x, 8, 7).unwrap();
    // The seed shows in the last digits at most.
    let other = pca(&x, 8, 8).unwrap();
    let difference = (&one.scores - &other.scores).mapv(f32::abs);
    assert!(difference.iter().all(|&d| d < 1e-3));
}

#[test]
fn directions_of_equal_variance_are_all_found() {
    // All variances but one are the same: more of them than a block of the iteration has columns.
    let x = Csr::from_dense(&Array2::eye(70));
    for solver in [PcaSolver::Covariance, PcaSolver::Lanczos] {
        let mut options = PcaOptions::new(40);
        options.solver = solver;
        let p = pca_with(&x, &options).unwrap();
        let off = |v: &f64| (v - 1.0 / 69.0).abs();
        assert!(p.explained_variance.iter().all(|v| off(v) < 1e-9));
        let products = p.components.dot(&p.components.t());
        let identity = Array2::<f32>::eye(40);
        assert!((&products - &identity).iter().all(|d| d.abs() < 1e-5));
        assert!(p.residual < 1e-6);
    }
}

#[test]
fn transform_gives_the_scores_again() {
    let x = example(100, 30);
    let p = pca(&x, 5, 0).unwrap();
    let again = p.transform(&x).unwrap();
    assert!((&again - &p.scores).iter().all(|d| d.abs() < 1e-5));
    assert!(p.transform(&example(5, 29)).is_err());
}

#[test]
fn bad_input_is_refused() {
    let x = example(10, 8);
    assert!(pca(&x, 0, 0).is_err());
    assert!(pca(&x, 9, 0).is_err());
    assert!(pca(&x.select_rows(&[0]).unwrap(), 1, 0).is_err());
    let nan = ndarray::array![[1.0f32, f32::NAN], [0.0, 1.0]];
    assert!(matches!(
        pca(&nan, 1, 0),
        Err(Error::InvalidValue {
            row: 0,
            column: 1,
            ..
        })
    ));
    // Nothing varies.
    let flat = Array2::from_elem((5, 4), 2.0f32);
    let p = pca(&flat, 2, 0).unwrap();
    assert!(p.explained_variance.iter().all(|v| v.abs() < 1e-12));
    assert_eq!(p.explained_variance_ratio, vec![0.0, 0.0]);
}

#[test]
fn randomised_comes_close_to_exact() {
    let x = example(400, 150);
    let exact = pca(&x, 5, 0).unwrap();
    let mut options = PcaOptions::new(5);
    let mut last = f64::INFINITY;
    for power in [1, 4, 16] {
        options.solver = PcaSolver::Randomized {
            oversample: 10,
            power,
        };
        let p = pca_with(&x, &options).unwrap();
        assert!(p.residual < last, "{power}: {} {last}", p.residual);
        last = p.residual;
        for (found, exact) in p.explained_variance.iter().zip(&exact.explained_variance) {
            // A subspace can't hold more variance than the best one.
            assert!(*found <= exact * (1.0 + 1e-9));
        }
    }
    assert!(last < 0.05, "{last}");
    let shared: f32 = (0..3)
        .map(|j| {
            let p = pca_with(&x, &options).unwrap();
            p.components.row(j).dot(&exact.components.row(j)).abs()
        })
        .sum();
    assert!(shared > 2.999, "{shared}");
    // Fewer directions than asked for.
    let flat = Array2::from_elem((9, 4), 2.0f32);
    let p = pca_with(&flat, &{
        options.n_components = 2;
        options
    });
    assert!(
        p.unwrap()
            .explained_variance
            .iter()
            .all(|v| v.abs() < 1e-12)
    );
}

#[test]
fn a_mask_is_a_choice_of_genes() {
    let x = example(200, 40);
    let mask: Vec<bool> = (0..40).map(|g| g % 3 > 0).collect();
    let columns: Vec<_> = (0..40).filter(|g| mask[*g]).map(Some).collect();
    let some = pca(&x.select_columns(&columns).unwrap(), 4, 0).unwrap();
    let mut options = PcaOptions::new(4);
    options.mask = Some(mask.clone());
    let masked = pca_with(&x, &options).unwrap();
    assert_eq!(masked.scores, some.scores);
    assert_eq!(
        masked.explained_variance_ratio,
        some.explained_variance_ratio
    );
    for g in (0..40).filter(|&g| !mask[g]) {
        assert!(masked.components.column(g).iter().all(|&v| v == 0.0));
    }
    let again = masked.transform(&x).unwrap();
    assert!((&again - &masked.scores).iter().all(|d| d.abs() < 1e-5));
    options.mask = Some(vec![true; 3]);
    assert!(pca_with(&x, &options).is_err());
    options.mask = Some(vec![false; 40]);
    let message = pca_with(&x, &options).unwrap_err().to_string();
    assert!(message.contains("0 genes"), "{message}");
}

#[test]
fn without_centring_it_is_a_singular_value_decomposition() {
    let x = example(120, 60);
    let m = x.to_dense();
    let m = Mat::from_fn(120, 60, |i, j| f64::from(m[[i, j]]));
    let svd = m.thin_svd().unwrap();
    for solver in [PcaSolver::Covariance, PcaSolver::Lanczos] {
        let mut options = PcaOptions::new(6);
        options.center = false;
        options.solver = solver;
        let p = pca_with(&x, &options).unwrap();
        assert!(p.mean.iter().all(|&m| m == 0.0));
        for j in 0..6 {
            let along: f64 = (0..60)
                .map(|g| f64::from(p.components[[j, g]]) * svd.V()[(g, j)])
                .sum();
            assert!((along.abs() - 1.0).abs() < 1e-5);
            let column = p.scores.column(j).mapv(f64::from);
            let length = column.dot(&column).sqrt();
            assert!((length / svd.S()[j] - 1.0).abs() < 1e-5);
            let centred = &column - column.mean().unwrap();
            let variance = centred.dot(&centred) / 119.0;
            assert!((p.explained_variance[j] / variance - 1.0).abs() < 1e-4);
        }
    }
}

#[test]
fn dense_and_sparse_blocks_give_one_matrix() {
    // Half the entries stored: above the share at which blocks are multiplied as dense ones.
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let x = Array2::from_shape_fn((700, 150), |_| (rng.random::<f32>() - 0.5).max(0.0));
    check(&Csr::from_dense(&x), 6);
}

#[test]
fn few_cells_of_many_genes_by_their_own_matrix() {
    // More genes than the covariance matrix is made for.
    let x = example(60, 4100);
    let auto = pca(&x, 8, 0).unwrap();
    let mut options = PcaOptions::new(8);
    for center in [true, false] {
        options.center = center;
        options.solver = PcaSolver::Auto;
        let auto = pca_with(&x, &options).unwrap();
        options.solver = PcaSolver::Lanczos;
        let lanczos = pca_with(&x, &options).unwrap();
        assert!(
            (&auto.scores - &lanczos.scores)
                .iter()
                .all(|d| d.abs() < 1e-3)
        );
        assert!(
            (&auto.components - &lanczos.components)
                .iter()
                .all(|d| d.abs() < 1e-5)
        );
        let ratios = auto
            .explained_variance_ratio
            .iter()
            .zip(&lanczos.explained_variance_ratio);
        assert!(ratios.into_iter().all(|(a, b)| (a - b).abs() < 1e-9));
    }
    check_exact(&x, 8, &auto);
    // All 60 components: the last has no variance left, and the matrix of cells can't tell its direction.
    let all = pca(&x, 60, 0).unwrap();
    assert!(all.components.iter().all(|v| v.is_finite()));
}
