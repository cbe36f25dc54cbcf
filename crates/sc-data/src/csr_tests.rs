use super::*;
use ndarray::array;

fn example() -> Csr {
    Csr::from_dense(&array![[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
}

#[test]
fn unsorted_and_duplicate_columns_become_canonical() {
    let m = Csr::new(
        2,
        3,
        vec![0, 3, 4],
        vec![2, 0, 2, 1],
        vec![1.0, 5.0, 2.0, 7.0],
    )
    .unwrap();
    assert_eq!(m.to_dense(), array![[5.0, 0.0, 3.0], [0.0, 7.0, 0.0]]);
    assert_eq!(m.n_stored(), 3);
}

#[test]
fn contradictory_arrays_are_refused() {
    assert!(Csr::new(1, 2, vec![0, 2], vec![0], vec![1.0]).is_err());
    assert!(Csr::new(1, 2, vec![0, 1], vec![2], vec![1.0]).is_err());
    assert!(Csr::new(2, 2, vec![0, 2, 1], vec![0, 1], vec![1.0, 1.0]).is_err());
    assert!(Csr::new(1, 2, vec![1, 1], vec![], vec![]).is_err());
    assert!(Csr::new(usize::MAX, 2, vec![], vec![], vec![]).is_err());
}

#[test]
fn transpose_twice_is_the_same() {
    let m = example();
    assert_eq!(m.transpose().to_dense(), m.to_dense().t());
    assert_eq!(m.transpose().transpose(), m);
}

#[test]
fn selections() {
    let m = example();
    assert_eq!(
        m.select_rows(&[2, 2, 0]).unwrap().row_sums(),
        vec![7.0, 7.0, 3.0]
    );
    assert!(m.select_rows(&[3]).is_err());
    let c = m.select_columns(&[Some(2), None, Some(0)]).unwrap();
    assert_eq!(
        c.to_dense(),
        array![[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]
    );
    assert!(m.select_columns(&[Some(0), Some(0)]).is_err());
    assert_eq!(Csr::vstack(&[&m, &m]).unwrap().n_rows(), 6);
    assert_eq!(Csr::zeros(4, 3).row_sums(), vec![0.0; 4]);
    assert_eq!(Csr::from(m.as_sprs().unwrap().to_owned()), m);
    assert_eq!(Csr::from(m.as_sprs().unwrap().to_csc()), m);
}
