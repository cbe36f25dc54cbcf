//! The divergence as a loss.

use sc_tensor::math::Float;
use sc_tensor::{DType, Tensor};

use super::{Sinkhorn, Solution};
use crate::Result;
use crate::transport::envelope::{Sides, dtype, tensor_like, with_gradients};

impl Sinkhorn {
    /// The divergence of two clouds of equally heavy points as a loss: `[n, d]` and `[m, d]` give a scalar, `[batch, n, d]`
    /// and `[batch, m, d]` one number for each of the batch.
    ///
    /// Gradients reach `x` and `y` if these are in a graph. They are computed right away, not in `backward`; for tensors
    /// that aren't in a graph nothing is computed. Clouds on another device are copied to the CPU and results back.
    ///
    /// ```
    /// use sc_sde::transport::Sinkhorn;
    /// use sc_tensor::{Device, Tensor, Var, backward};
    /// # fn main() -> Result<(), sc_sde::Error> {
    /// let x = Var::new(&[[0f32, 0.0], [1.0, 0.0]], &Device::Cpu)?;
    /// let y = Tensor::new(&[[0f32, 1.0], [1.0, 1.0], [2.0, 1.0]], &Device::Cpu)?;
    /// let loss = Sinkhorn::params().check()?.loss(&x, &y)?;
    /// let gradient = backward(&loss)?.get(&x).cloned();
    /// assert!(gradient.is_some_and(|g| g.dims() == [2, 2]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If shapes or types don't fit, a number isn't finite, and as [`Sinkhorn::solve`].
    pub fn loss(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.loss_weighted(x, None, y, None)
    }

    /// [`Sinkhorn::loss`] with weights, `[n]` and `[m]` or `[batch, n]` and `[batch, m]`; without them, points weigh the
    /// same and sum to 1. Gradients reach the weights too.
    ///
    /// # Errors
    /// As [`Sinkhorn::loss`].
    pub fn loss_weighted(
        &self,
        x: &Tensor,
        a: Option<&Tensor>,
        y: &Tensor,
        b: Option<&Tensor>,
    ) -> Result<Tensor> {
        match dtype(x, y)? {
            DType::F64 => self.typed::<f64>(x, a, y, b),
            _ => self.typed::<f32>(x, a, y, b),
        }
    }

    fn typed<T: Float>(
        &self,
        x: &Tensor,
        a: Option<&Tensor>,
        y: &Tensor,
        b: Option<&Tensor>,
    ) -> Result<Tensor> {
        let sides = Sides::<T>::new(x, a, y, b)?;
        let pairs: Vec<_> = sides
            .x
            .clouds()?
            .into_iter()
            .zip(sides.y.clouds()?)
            .collect();
        let solved = self.solve_batch(&pairs)?;
        let values: Vec<f64> = solved.iter().map(Solution::value).collect();
        let shape: Vec<usize> = sides.x.batch.into_iter().collect();
        let mut gradients = Vec::new();
        type Of = fn(&Solution) -> Result<Vec<f64>>;
        let parts: [(Option<&Tensor>, Of); 4] = [
            (Some(x), |s| Ok(s.gradient_x()?.into_raw_vec_and_offset().0)),
            (Some(y), |s| Ok(s.gradient_y()?.into_raw_vec_and_offset().0)),
            (a, |s| Ok(s.gradient_a())),
            (b, |s| Ok(s.gradient_b())),
        ];
        for (tensor, of) in parts {
            if let Some(tensor) = tensor.filter(|t| t.track_op()) {
                let all = solved.iter().map(of).collect::<Result<Vec<_>>>()?.concat();
                gradients.push((tensor, tensor_like(all, tensor.dims(), tensor)?));
            }
        }
        let value = tensor_like(values, &shape, x)?;
        with_gradients(value, &gradients, sides.x.batch.is_some())
    }
}
