//! How far apart two clouds of cells are: predicted and observed, before and after.
//!
//! ```
//! use sc_criticism::distribution::{energy_distance, wasserstein_1d};
//!
//! assert_eq!(wasserstein_1d(&[0.0, 1.0], &[2.0, 3.0, 2.0, 3.0], 1.0)?, 2.0);
//!
//! let control = ndarray::array![[0.0f32, 0.0], [1.0, 0.0]];
//! let treated = ndarray::array![[0.0f32, 3.0], [1.0, 3.0]];
//! assert!(energy_distance(control.view(), treated.view())? > 4.0);
//! assert_eq!(energy_distance(control.view(), control.view())?, 0.0);
//! # Ok::<(), sc_criticism::Error>(())
//! ```

mod energy;
mod mmd;
mod wasserstein;

pub use energy::energy_distance;
pub use mmd::{Estimator, median_gamma, mmd};
pub use wasserstein::{EXACT_UP_TO, sliced_wasserstein, wasserstein_1d, wasserstein_exact};

use ndarray::ArrayView2;
use sc_neighbors::GroupedPoints;

use crate::{Error, Result};

/// Refuses clouds without points, or of different dimensions.
fn comparable(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<()> {
    if x.nrows() == 0 || y.nrows() == 0 {
        return Err(Error::Undefined("one side has no cells".into()));
    }
    if x.ncols() != y.ncols() {
        return Err(Error::InvalidParameter {
            name: "the number of dimensions of the second side",
            found: y.ncols().to_string(),
            expected: format!("{}, as of the first", x.ncols()),
        });
    }
    Ok(())
}

/// All points as one group.
fn together(x: ArrayView2<'_, f32>) -> Result<GroupedPoints> {
    Ok(GroupedPoints::new(x, &vec![0; x.nrows()])?)
}
