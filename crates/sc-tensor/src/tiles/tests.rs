use pulp::{Simd, WithSimd};

use super::*;
use crate::DType;
use crate::testing::{numbers, random};

/// All products of a `[k, GROUP]` by a `[k, width]` matrix, and the narrow one.
struct Products {
    k: usize,
}

impl WithSimd for Products {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let (k, width) = (self.k, f64::width::<S>());
        let a = numbers(&random("a", -1.0, 1.0, &[k, GROUP], DType::F64));
        let b = numbers(&random("b", -1.0, 1.0, &[k, width], DType::F64));
        let mut c = vec![1.0; GROUP * width];
        for add in [false, true] {
            block(simd, &a, &b, &mut c, add);
        }
        for (at, c) in c.iter().enumerate() {
            let (i, j) = (at / width, at % width);
            let e: f64 = (0..k).map(|k| a[k * GROUP + i] * b[k * width + j]).sum();
            assert!((c - 2.0 * e).abs() < 1e-12, "{c} is not twice {e}");
        }

        let (narrow, rows) = (narrow_width::<S, f64>(), 24);
        let used = k.min(width);
        let a = numbers(&random("rows", -1.0, 1.0, &[rows, width], DType::F64));
        let b = numbers(&random("narrow", -1.0, 1.0, &[width, narrow], DType::F64));
        let mut c = vec![1.0; rows * narrow];
        by_rows(simd, &a, used, &b, &mut c);
        for (at, c) in c.iter().enumerate() {
            let (i, j) = (at / narrow, at % narrow);
            let e: f64 = (0..used)
                .map(|k| a[i * width + k] * b[k * narrow + j])
                .sum();
            assert!((c - 1.0 - e).abs() < 1e-12, "{c} is not 1 + {e}");
        }
    }
}

#[test]
fn products_of_tiles() {
    for k in [0, 1, 5, 64] {
        pulp::Arch::new().dispatch(Products { k });
        Products { k }.with_simd(pulp::Scalar);
    }
}

#[test]
fn packing() {
    let x: Vec<f64> = (0..40).map(f64::from).collect();
    // Three rows of nine numbers, ten apart.
    let x = Rows::new(&x, 10, 3, 9);
    let mut groups = vec![-1.0; 2 * 3 * GROUP];
    groups_of_columns(x, &mut groups);
    assert_eq!(
        groups[GROUP..2 * GROUP],
        [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    );
    assert_eq!(
        groups[3 * GROUP..4 * GROUP],
        [8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    );
    let mut rows = vec![-1.0; 9 * GROUP];
    groups_of_rows(x, &mut rows);
    assert_eq!(
        rows[GROUP..2 * GROUP],
        [1.0, 11.0, 21.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    );
    let mut panel = vec![-1.0; 9 * 2];
    panel_of_rows(x, 2, 2, 0.5, &mut panel);
    assert_eq!(panel[..4], [10.0, 0.0, 10.5, 0.0]);
}
