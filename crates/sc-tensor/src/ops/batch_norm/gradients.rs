//! The way back.

use candle_core::Tensor;
use pulp::Arch;

use super::BatchNorm;
use super::rows::{Open, Through};
use crate::kernel::{self, Real, View};
use crate::ops::reduce::{COLUMNS, by_columns};
use crate::simd::vectorised;

pub(super) fn gradients_plain<T: Real>(
    op: &BatchNorm,
    args: &[Tensor],
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let view = View::new(grad);
    let g = view.slice::<T>()?;
    gradients(op, args, |at, out| {
        out.copy_from_slice(&g[at..][..out.len()]);
    })
}

/// The output tells what came through: it is zero where the gate was closed.
pub(super) fn gradients_gated<T: Real>(
    op: &BatchNorm,
    args: &[Tensor],
    output: &Tensor,
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let (gv, yv) = (View::new(grad), View::new(output));
    let (g, y) = (gv.slice::<T>()?, yv.slice::<T>()?);
    let scale = op.scale::<T>();
    gradients(op, args, |at, out| {
        let n = out.len();
        Arch::new().dispatch(Open {
            out,
            g: &g[at..][..n],
            y: &y[at..][..n],
            scale,
        });
    })
}

/// With `h = (x - mean) / std`: `d gamma = sum g h`, `d beta = sum g`, and
/// `dx = gamma / std (g - mean(g) - h mean(g h))`, where the means drop out if the statistics are constants.
///
/// `grad(at, out)` writes the gradients `g` of the numbers from there on.
fn gradients<T: Real>(
    op: &BatchNorm,
    args: &[Tensor],
    grad: impl Fn(usize, &mut [T]) + Sync,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let (n, h) = args[0].dims2()?;
    let (xv, gammav) = (View::new(&args[0]), View::new(&args[1]));
    let (x, gamma) = (xv.slice::<T>()?, gammav.slice::<T>()?);
    // Per column: the sums of g and of g h.
    let mut sums = vec![[0f64; 2]; h];
    by_columns(2 * x.len(), &mut sums, |(k, sums)| {
        let (first, width) = (k * COLUMNS, sums.len());
        let (mean, inv_std) = (&op.mean[first..][..width], &op.inv_std[first..][..width]);
        // Apart from each other, so that they fill whole registers.
        let (mut of_g, mut of_gh) = ([0f64; COLUMNS], [0f64; COLUMNS]);
        let (of_g, of_gh) = (&mut of_g[..width], &mut of_gh[..width]);
        let mut row = [T::ZERO; COLUMNS];
        let row = &mut row[..width];
        vectorised(
            #[inline(always)]
            || {
                for i in 0..n {
                    let at = i * h + first;
                    grad(at, row);
                    let x = &x[at..][..width];
                    for j in 0..width {
                        let g = row[j].to_f64();
                        of_g[j] += g;
                        of_gh[j] += g * ((x[j].to_f64() - mean[j]) * inv_std[j]);
                    }
                }
            },
        );
        for (j, sum) in sums.iter_mut().enumerate() {
            *sum = [of_g[j], of_gh[j]];
        }
    });
    let column = |which: usize, scale: f64| -> Vec<T> {
        sums.iter().map(|s| T::from_f64(s[which] * scale)).collect()
    };
    let share = if op.of_batch { 1.0 / n as f64 } else { 0.0 };
    let (mean_g, mean_gh) = (column(0, share), column(1, share));
    let (mean, inv_std) = (op.rounded::<T>(&op.mean), op.rounded::<T>(&op.inv_std));
    let mut dx = vec![T::ZERO; x.len()];
    kernel::for_rows(&mut dx, h, |i, dx| {
        grad(i * h, dx);
        Arch::new().dispatch(Through {
            dx,
            x: &x[i * h..][..h],
            mean: &mean,
            inv_std: &inv_std,
            gamma,
            mean_g: &mean_g,
            mean_gh: &mean_gh,
        });
    });
    Ok(vec![
        Some(kernel::tensor(dx, (n, h))?),
        Some(kernel::tensor(column(1, 1.0), h)?),
        Some(kernel::tensor(column(0, 1.0), h)?),
    ])
}
