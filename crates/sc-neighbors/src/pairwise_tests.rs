use super::*;
use crate::testing::{blobs, with_threads};

fn square(a: ndarray::ArrayView1<'_, f32>, b: ndarray::ArrayView1<'_, f32>) -> f64 {
    let d = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b));
    d.map(|d| d * d).sum()
}

/// Groups that fill several chunks, one with a single point and one with none.
#[test]
fn sums_are_those_of_all_pairs() {
    for (n, d) in [(1500, 5), (70, 33), (1, 1), (6, 0)] {
        let (x, _) = blobs(n, 3, d);
        let groups: Vec<u32> = (0..n as u32)
            .map(|i| match i {
                0 => 4,
                _ => [0, 0, 0, 1, 3][i as usize % 5],
            })
            .collect();
        let grouped = GroupedPoints::new(x.view(), &groups).unwrap();
        let rows = (n / 2)..n;
        let query = x.slice_axis(Axis(0), ndarray::Slice::from(rows.clone()));
        let distances = grouped.distance_sums(query, |_, s| s.to_vec()).unwrap();
        let gauss = grouped
            .gaussian_sums(query, 0.01, |i, s| (i, s.to_vec()))
            .unwrap();
        let nearer = grouped
            .count_nearer(
                query,
                x.slice_axis(Axis(0), ndarray::Slice::from(..n - n / 2)),
            )
            .unwrap();
        for (q, i) in rows.enumerate() {
            let mut expected = [(0.0, 0.0); 5];
            let limit = square(x.row(i), x.row(q));
            let mut count = 0;
            for j in 0..n {
                let s = square(x.row(i), x.row(j));
                let e = &mut expected[groups[j] as usize];
                *e = (e.0 + s.sqrt(), e.1 + (-0.01 * s).exp());
                count += u64::from(s < limit * (1.0 - 1e-12));
            }
            assert_eq!(gauss[q].0, q);
            assert_eq!(nearer[q], count);
            for (g, e) in expected.iter().enumerate() {
                assert!(
                    (distances[q][g] - e.0).abs() <= 1e-12 * e.0,
                    "{n} {d} {i} {g}"
                );
                assert!((gauss[q].1[g] - e.1).abs() <= 1e-12 * e.1);
            }
        }
        let run = |t| with_threads(t, || grouped.distance_sums(query, |_, s| s.to_vec()));
        assert_eq!(run(1).unwrap(), run(3).unwrap());
    }
}

#[test]
fn bad_input_is_refused() {
    let x = ndarray::array![[0.0f32], [1.0]];
    assert!(GroupedPoints::new(x.view(), &[0]).is_err());
    assert!(GroupedPoints::new(x.view(), &[0, u32::MAX]).is_err());
    assert!(GroupedPoints::new(ndarray::array![[f32::NAN]].view(), &[0]).is_err());
    let g = GroupedPoints::new(x.view(), &[0, 1]).unwrap();
    assert!(
        g.distance_sums(ndarray::array![[0.0f32, 1.0]].view(), |_, _| ())
            .is_err()
    );
    assert!(
        g.count_nearer(x.view(), ndarray::array![[0.0f32]].view())
            .is_err()
    );
    assert_eq!(g.sizes(), [1, 1]);
}
