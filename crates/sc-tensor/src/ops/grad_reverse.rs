use candle_core::{CpuStorage, Shape, Tensor};

use super::composed;
use crate::Result;
use crate::kernel::{self, Arg, Kernel, Real, by_dtype};

/// `x` on the way forward; on the way back the gradient is multiplied by `-lambda`.
///
/// An adversary trained behind it makes what is before it unpredictable to the adversary (Ganin and Lempitsky 2015).
///
/// # Errors
/// If candle refuses.
pub fn grad_reverse(x: &Tensor, lambda: f64) -> Result<Tensor> {
    if !composed::fusible(&[x]) {
        return composed::grad_reverse(x, lambda);
    }
    Ok(kernel::apply(GradReverse(lambda), &[x])?)
}

struct GradReverse(f64);

impl Kernel for GradReverse {
    fn name(&self) -> &'static str {
        "grad_reverse"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let same = x.slice::<T>()?.to_vec();
            Ok((T::to_cpu_storage_owned(same), x.dims().into()))
        }
        by_dtype!("grad_reverse", args[0].dtype(), run(&args[0]))
    }

    fn backward(
        &self,
        _: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some((grad * -self.0)?)])
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Var, ops};

    #[test]
    fn the_value_stays_and_the_gradient_turns() {
        for device_twin in [false, true] {
            let x = Var::new(&[1.5f64, -2.0], &Device::Cpu).unwrap();
            let y = match device_twin {
                false => ops::grad_reverse(&x, 0.3).unwrap(),
                true => ops::composed::grad_reverse(&x, 0.3).unwrap(),
            };
            for (a, b) in y.to_vec1::<f64>().unwrap().iter().zip([1.5, -2.0]) {
                assert!((a - b).abs() < 1e-15);
            }
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let g = grads.get(&x).unwrap().to_vec1::<f64>().unwrap();
            assert!(
                (g[0] + 0.9).abs() < 1e-14 && (g[1] - 1.2).abs() < 1e-14,
                "{g:?}"
            );
        }
    }
}
