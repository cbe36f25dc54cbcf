use ndarray::ArrayView2;

use super::{comparable, together};
use crate::Result;

/// The energy distance of two clouds of points (Székely and Rizzo 2013): `2 E|X - Y| - E|X - X'| - E|Y - Y'|` with Euclidean
/// distances, each mean over all pairs, a point and itself included. 0 for the same cloud. SciPy's `energy_distance` (of
/// numbers, not points) is the root of it.
///
/// All pairs are compared, in tiles; memory is linear in the number of cells.
///
/// # Errors
/// [`Error::Undefined`](crate::Error::Undefined) if one side is empty,
/// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if the dimensions differ,
/// [`Error::Neighbors`](crate::Error::Neighbors) if a coordinate is not finite.
pub fn energy_distance(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<f64> {
    comparable(x, y)?;
    let (of_x, of_y) = (together(x)?, together(y)?);
    let mean = |points: &sc_neighbors::GroupedPoints, query: ArrayView2<'_, f32>| -> Result<f64> {
        let sums = points.distance_sums(query, |_, sums| sums.iter().sum::<f64>())?;
        let pairs = query.nrows() as f64 * points.sizes().iter().sum::<usize>() as f64;
        Ok(sums.iter().sum::<f64>() / pairs)
    };
    let distance = 2.0 * mean(&of_y, x)? - mean(&of_x, x)? - mean(&of_y, y)?;
    Ok(distance.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// Reference: SciPy 1.17.1, squared.
    #[test]
    fn of_numbers_it_is_scipys() {
        let x = array![[0.0f32], [1.0], [3.0]];
        let y = array![[5.0f32], [6.0], [8.0], [2.0]];
        let d = energy_distance(x.view(), y.view()).unwrap();
        assert!((d - 4.458_333_333_333_333).abs() < 1e-12, "{d}");
        assert_eq!(energy_distance(x.view(), x.view()).unwrap(), 0.0);
        assert!(energy_distance(x.view(), array![[0.0f32, 1.0]].view()).is_err());
        assert!(energy_distance(x.view(), ndarray::Array2::zeros((0, 1)).view()).is_err());
        assert!(energy_distance(x.view(), array![[f32::NAN]].view()).is_err());
    }
}
