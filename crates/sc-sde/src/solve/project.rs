//! The pseudo-inverse of a diffusion, applied to a vector, for each cell.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;
use sc_tensor::math::Float;

use crate::Result;

/// `u = g^+ r`: of the shortest `u` those for which `g u` is nearest to `r`. `g` is `[cells, D, m]`, `r` is `[cells, D]`, `u` is
/// `[cells, m]`.
///
/// It is solved by the normal equations in `f64`. Directions in which `g` is weaker than a millionth of its strongest are
/// damped rather than cut off, so the gradient stays finite.
pub(super) fn least_squares(g: &Tensor, r: &Tensor) -> Result<Tensor> {
    let (n, d, m) = g.dims3()?;
    if m == 1 {
        // One direction: a quotient.
        let g = g.reshape((n, d))?;
        let dot = (&g * r)?.sum_keepdim(1)?;
        let norm = (g.sqr()?.sum_keepdim(1)? + 1e-30)?;
        return Ok((dot / norm)?);
    }
    Ok(g.contiguous()?.apply_op2(&r.contiguous()?, LeastSquares)?)
}

/// The ridge, as a share of the mean eigenvalue.
const RIDGE: f64 = 1e-12;

struct LeastSquares;

impl CustomOp2 for LeastSquares {
    fn name(&self) -> &'static str {
        "least-squares"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        gl: &Layout,
        r: &CpuStorage,
        rl: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Float>(
            g: (&CpuStorage, &Layout),
            r: (&CpuStorage, &Layout),
            n: usize,
            d: usize,
            m: usize,
        ) -> candle_core::Result<CpuStorage> {
            let (g, r) = (slice::<T>(g)?, slice::<T>(r)?);
            let mut u = vec![T::ZERO; n * m];
            u.par_chunks_mut(m)
                .zip(g.par_chunks(d * m).zip(r.par_chunks(d)))
                .for_each(|(u, (g, r))| {
                    let problem = Problem::new(g, d, m);
                    for (slot, v) in u.iter_mut().zip(problem.solve(&wide(r)).u) {
                        *slot = T::of(v);
                    }
                });
            Ok(T::to_cpu_storage_owned(u))
        }
        let (n, d, m) = gl.shape().dims3()?;
        if n * d * m == 0 || rl.dims() != [n, d] {
            return Err(candle_core::Error::msg(format!(
                "least-squares: {:?} and {:?} don't fit",
                gl.dims(),
                rl.dims()
            )));
        }
        let u = match g {
            CpuStorage::F32(_) => run::<f32>((g, gl), (r, rl), n, d, m)?,
            CpuStorage::F64(_) => run::<f64>((g, gl), (r, rl), n, d, m)?,
            _ => return Err(candle_core::Error::msg("least-squares: f32 or f64 only")),
        };
        Ok((u, (n, m).into()))
    }

    fn bwd(
        &self,
        g: &Tensor,
        r: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        use candle_core::DType;
        let (n, d, m) = g.dims3()?;
        let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (gs, rs, us) = (flat(g)?, flat(r)?, flat(grad)?);
        let (mut dg, mut dr) = (vec![0.0; n * d * m], vec![0.0; n * d]);
        dg.par_chunks_mut(d * m)
            .zip(dr.par_chunks_mut(d))
            .zip(
                gs.par_chunks(d * m)
                    .zip(rs.par_chunks(d))
                    .zip(us.par_chunks(m)),
            )
            .for_each(|((dg, dr), ((g, r), u_bar))| {
                Problem::new(g, d, m).gradients(r, u_bar, dg, dr);
            });
        let tensor = |v: Vec<f64>, like: &Tensor| {
            Tensor::from_vec(v, like.shape(), like.device())?.to_dtype(like.dtype())
        };
        Ok((Some(tensor(dg, g)?), Some(tensor(dr, r)?)))
    }
}

fn slice<'a, T: Float>(
    (storage, layout): (&'a CpuStorage, &Layout),
) -> candle_core::Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(storage)?;
    layout
        .contiguous_offsets()
        .and_then(|(start, end)| all.get(start..end))
        .ok_or_else(|| candle_core::Error::msg("least-squares was given a strided tensor"))
}

fn wide<T: Float>(x: &[T]) -> Vec<f64> {
    x.iter().map(|v| v.wide()).collect()
}

/// One cell's diffusion `[d, m]` and the Cholesky factor of the smaller of `g^T g` and `g g^T`.
struct Problem {
    g: Vec<f64>,
    d: usize,
    m: usize,
    factor: Vec<f64>,
}

/// A solution, and what its gradient needs besides.
struct Solved {
    u: Vec<f64>,
    /// `(g g^T)^-1 r` where `D < m`.
    lambda: Vec<f64>,
}

impl Problem {
    fn new<T: Float>(g: &[T], d: usize, m: usize) -> Self {
        let g = wide(g);
        let k = d.min(m);
        let entry = |i: usize, j: usize| -> f64 {
            match m <= d {
                true => (0..d).map(|r| g[r * m + i] * g[r * m + j]).sum(),
                false => (0..m).map(|c| g[i * m + c] * g[j * m + c]).sum(),
            }
        };
        let mut a: Vec<f64> = (0..k * k).map(|at| entry(at / k, at % k)).collect();
        let mean = (0..k).map(|i| a[i * k + i]).sum::<f64>() / k as f64;
        for i in 0..k {
            a[i * k + i] += RIDGE * mean + f64::MIN_POSITIVE.sqrt();
        }
        cholesky(&mut a, k);
        Self { g, d, m, factor: a }
    }

    /// `g x`.
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let row = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
        self.g.chunks(self.m).map(row).collect()
    }

    /// `g^T x`.
    fn transposed_times(&self, x: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.m];
        for (row, x) in self.g.chunks(self.m).zip(x) {
            for (o, g) in out.iter_mut().zip(row) {
                *o += g * x;
            }
        }
        out
    }

    fn solve(&self, r: &[f64]) -> Solved {
        if self.m <= self.d {
            let u = solve_with(&self.factor, self.m, self.transposed_times(r));
            return Solved {
                u,
                lambda: Vec::new(),
            };
        }
        let lambda = solve_with(&self.factor, self.d, r.to_vec());
        Solved {
            u: self.transposed_times(&lambda),
            lambda,
        }
    }

    /// With `m <= D`: `w = (g^T g)^-1 u_bar`, `dr = g w`, `dg = (r - g u) w^T - (g w) u^T`. Otherwise, with
    /// `lambda = (g g^T)^-1 r` and `p = (g g^T)^-1 g u_bar`: `dr = p`, `dg = lambda (u_bar - g^T p)^T - p u^T`.
    fn gradients(&self, r: &[f64], u_bar: &[f64], dg: &mut [f64], dr: &mut [f64]) {
        let Solved { u, lambda } = self.solve(r);
        if self.m <= self.d {
            let w = solve_with(&self.factor, self.m, u_bar.to_vec());
            let (gw, gu) = (self.times(&w), self.times(&u));
            dr.copy_from_slice(&gw);
            for (i, row) in dg.chunks_mut(self.m).enumerate() {
                for (j, slot) in row.iter_mut().enumerate() {
                    *slot = (r[i] - gu[i]) * w[j] - gw[i] * u[j];
                }
            }
            return;
        }
        let p = solve_with(&self.factor, self.d, self.times(u_bar));
        let back = self.transposed_times(&p);
        dr.copy_from_slice(&p);
        for (i, row) in dg.chunks_mut(self.m).enumerate() {
            for (j, slot) in row.iter_mut().enumerate() {
                *slot = lambda[i] * (u_bar[j] - back[j]) - p[i] * u[j];
            }
        }
    }
}

/// The lower factor of a symmetric matrix of positive eigenvalues, in place; a NaN spreads.
fn cholesky(a: &mut [f64], k: usize) {
    for j in 0..k {
        for i in j..k {
            let sum: f64 = (0..j).map(|l| a[i * k + l] * a[j * k + l]).sum();
            let rest = a[i * k + j] - sum;
            a[i * k + j] = match i == j {
                true => rest.sqrt(),
                false => rest / a[j * k + j],
            };
        }
    }
}

/// Solves with a factor of [`cholesky`].
fn solve_with(a: &[f64], k: usize, mut x: Vec<f64>) -> Vec<f64> {
    for i in 0..k {
        let sum: f64 = (0..i).map(|l| a[i * k + l] * x[l]).sum();
        x[i] = (x[i] - sum) / a[i * k + i];
    }
    for i in (0..k).rev() {
        let sum: f64 = (i + 1..k).map(|l| a[l * k + i] * x[l]).sum();
        x[i] = (x[i] - sum) / a[i * k + i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use sc_tensor::{Rng, gradcheck};

    fn random(name: &str, shape: &[usize]) -> Tensor {
        let mut stream = Rng::new(4).stream(name);
        stream.normal(shape, DType::F64, &Device::Cpu).unwrap()
    }

    #[test]
    fn it_inverts_and_its_gradient_is_right() {
        for (d, m) in [(5, 1), (5, 2), (4, 4), (3, 6)] {
            let (g, u) = (random("g", &[3, d, m]), random("u", &[3, m]));
            let r = g
                .matmul(&u.unsqueeze(2).unwrap())
                .unwrap()
                .squeeze(2)
                .unwrap();
            let found = least_squares(&g, &r).unwrap();
            // g g^+ r = r, as r is in the image of g.
            let again = g
                .matmul(&found.unsqueeze(2).unwrap())
                .unwrap()
                .squeeze(2)
                .unwrap();
            let off = (again - &r).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f64>().unwrap() < 1e-7, "{d} x {m}");
            let other = random("r", &[3, d]);
            let value = |x: &[Tensor]| -> sc_tensor::Result<Tensor> {
                let u = least_squares(&x[0], &x[1]).unwrap();
                Ok(u.sqr()?.sum_all()?)
            };
            gradcheck(value, &[g, other], 1e-6, 1e-6).unwrap();
        }
    }
}
