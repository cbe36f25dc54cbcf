use candle_core::{CpuStorage, Shape, Tensor};
use rayon::prelude::*;

use super::{Segment, Segments};
use crate::Result;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::math;
use crate::ops::composed;
use crate::ops::norm::wrong;
use crate::simd::{dot, maximum, reduce, vectorised};

/// Attention where one query asks for each sequence: the last layer of an encoder of which only the first row, that of
/// `<cls>`, is wanted.
///
/// `q` is `[sequences, D]`, the queries; `kv` is `[rows, 2 D]`, the keys and values of all rows side by side, each with its
/// heads side by side. The result is `[sequences, D]`; a sequence without keys gets zeros. Without dropout.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn attention_first(
    q: &Tensor,
    kv: &Tensor,
    heads: usize,
    segments: &Segments,
) -> Result<Tensor> {
    let width = match q.dims() {
        &[n, w] if n == segments.len() && heads > 0 && w > 0 && w % heads == 0 => w,
        _ => {
            let expected = format!("[{}, {heads} heads x numbers of a head]", segments.len());
            return Err(wrong("attention_first", "q", q, expected));
        }
    };
    if kv.dims() != [segments.rows(), 2 * width] {
        let expected = format!("[{}, {}]", segments.rows(), 2 * width);
        return Err(wrong("attention_first", "kv", kv, expected));
    }
    if !composed::fusible(&[q, kv]) {
        return composed::attention_first(q, kv, heads, segments);
    }
    let op = First {
        segments: segments.clone(),
        heads,
        width,
    };
    Ok(kernel::apply(op, &[q, kv])?)
}

struct First {
    segments: Segments,
    heads: usize,
    width: usize,
}

/// One sequence: its query, and its rows of keys and values.
struct Sequence<'a, T> {
    query: &'a [T],
    keys_values: &'a [T],
    heads: usize,
    width: usize,
}

impl<T: Real> Sequence<'_, T> {
    fn scale(&self) -> T {
        T::of(1.0 / ((self.width / self.heads) as f64).sqrt())
    }

    /// The weights, `[heads, keys]`. One pass over the rows.
    fn weights(&self) -> Vec<T> {
        let (n, d) = (
            self.keys_values.len() / (2 * self.width),
            self.width / self.heads,
        );
        let mut weights = vec![T::ZERO; self.heads * n];
        let scale = self.scale();
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in self.keys_values.chunks_exact(2 * self.width).enumerate() {
                    for (h, (k, q)) in row
                        .chunks_exact(d)
                        .zip(self.query.chunks_exact(d))
                        .enumerate()
                    {
                        weights[h * n + i] = dot(k, q) * scale;
                    }
                }
            },
        );
        for weights in weights.chunks_exact_mut(n.max(1)) {
            let largest = vectorised(|| maximum(weights));
            for w in weights.iter_mut() {
                *w -= largest;
            }
            math::exp(weights);
            vectorised(
                #[inline(always)]
                || {
                    let share = T::ONE / reduce(n, |i| weights[i]);
                    for w in weights.iter_mut() {
                        *w *= share;
                    }
                },
            );
        }
        weights
    }

    fn attend(&self, out: &mut [T]) {
        let (n, d) = (
            self.keys_values.len() / (2 * self.width),
            self.width / self.heads,
        );
        let weights = self.weights();
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in self.keys_values.chunks_exact(2 * self.width).enumerate() {
                    let values = row[self.width..].chunks_exact(d);
                    for (h, (out, v)) in out.chunks_exact_mut(d).zip(values).enumerate() {
                        let weight = weights[h * n + i];
                        for (out, &v) in out.iter_mut().zip(v) {
                            *out += weight * v;
                        }
                    }
                }
            },
        );
    }

    /// `dv = w g`, `ds = w (g v - g out)`, `dq = ds k`, `dk = ds q`
    fn gradients(&self, out: &[T], grad: &[T], d_query: &mut [T], d_rows: &mut [T]) {
        let (n, d, width) = (
            self.keys_values.len() / (2 * self.width),
            self.width / self.heads,
            self.width,
        );
        let (weights, scale) = (self.weights(), self.scale());
        vectorised(
            #[inline(always)]
            || {
                let rows = self
                    .keys_values
                    .chunks_exact(2 * width)
                    .zip(d_rows.chunks_exact_mut(2 * width));
                for (i, (row, d_row)) in rows.enumerate() {
                    let (keys, values) = row.split_at(width);
                    let (d_keys, d_values) = d_row.split_at_mut(width);
                    for h in 0..self.heads {
                        let part = h * d..(h + 1) * d;
                        let (g, q) = (&grad[part.clone()], &self.query[part.clone()]);
                        let (k, v) = (&keys[part.clone()], &values[part.clone()]);
                        let weight = weights[h * n + i];
                        let d_score = weight * (dot(g, v) - dot(g, &out[part.clone()])) * scale;
                        let (dk, dv) = (&mut d_keys[part.clone()], &mut d_values[part.clone()]);
                        let dq = &mut d_query[part];
                        for j in 0..d {
                            dv[j] = weight * g[j];
                            dk[j] = d_score * q[j];
                            dq[j] += d_score * k[j];
                        }
                    }
                }
            },
        );
    }
}

impl First {
    fn sequence<'a, T>(&self, s: Segment, query: &'a [T], keys_values: &'a [T]) -> Sequence<'a, T> {
        let stride = 2 * self.width;
        Sequence {
            query,
            keys_values: &keys_values[s.start * stride..][..s.keys * stride],
            heads: self.heads,
            width: self.width,
        }
    }
}

impl Kernel for First {
    fn name(&self) -> &'static str {
        "attention_first"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(op: &First, args: &[Arg<'_>]) -> candle_core::Result<CpuStorage> {
            let (q, kv) = (args[0].slice::<T>()?, args[1].slice::<T>()?);
            let mut out = vec![T::ZERO; q.len()];
            let segments: Vec<Segment> = op.segments.iter().collect();
            let rows = out
                .par_chunks_exact_mut(op.width)
                .zip(q.par_chunks_exact(op.width));
            rows.zip(segments)
                .for_each(|((out, q), s)| op.sequence(s, q, kv).attend(out));
            Ok(T::to_cpu_storage_owned(out))
        }
        let out = by_dtype!("attention_first", args[0].dtype(), run(self, args))?;
        Ok((out, args[0].dims().into()))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Real>(
            op: &First,
            args: &[Tensor],
            output: &Tensor,
            grad: &Tensor,
        ) -> candle_core::Result<Vec<Option<Tensor>>> {
            let views = [&args[0], &args[1], output, grad].map(View::new);
            let (q, kv) = (views[0].slice::<T>()?, views[1].slice::<T>()?);
            let (out, g) = (views[2].slice::<T>()?, views[3].slice::<T>()?);
            let (mut dq, mut d_rows) = (vec![T::ZERO; q.len()], vec![T::ZERO; kv.len()]);
            let width = op.width;
            let parts = op
                .segments
                .split(&mut d_rows, 2 * width)
                .into_iter()
                .zip(dq.chunks_exact_mut(width));
            let tasks: Vec<_> = op.segments.iter().zip(parts).enumerate().collect();
            tasks.into_par_iter().for_each(|(i, (s, (d_rows, dq)))| {
                let at = i * width;
                let sequence = op.sequence(s, &q[at..][..width], kv);
                sequence.gradients(&out[at..][..width], &g[at..][..width], dq, d_rows);
            });
            Ok(vec![
                Some(kernel::tensor(dq, args[0].shape())?),
                Some(kernel::tensor(d_rows, args[1].shape())?),
            ])
        }
        by_dtype!(
            "attention_first",
            grad.dtype(),
            run(self, args, output, grad)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck;
    use crate::ops::{Keys, attention};
    use crate::testing::{assert_close, assert_same_on_threads, assert_twins, numbers, random};
    use crate::{DType, Device};

    fn ragged() -> Segments {
        Segments::with_keys([(5, 5), (1, 1), (61, 40), (9, 0), (150, 149)]).unwrap()
    }

    fn inputs(s: &Segments, width: usize, dtype: DType) -> [Tensor; 2] {
        let q = random("q", -2.0, 2.0, &[s.len(), width], dtype);
        [q, random("kv", -2.0, 2.0, &[s.rows(), 2 * width], dtype)]
    }

    #[test]
    fn the_twin_agrees() {
        let s = ragged();
        for (heads, d) in [(1, 1), (2, 7), (3, 64)] {
            assert_twins(
                &|x| attention_first(&x[0], &x[1], heads, &s),
                &|x| composed::attention_first(&x[0], &x[1], heads, &s),
                &inputs(&s, heads * d, DType::F64),
                (2e-5, 1e-12),
            );
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let s = Segments::with_keys([(4, 3), (2, 0)]).unwrap();
        gradcheck(
            |x| attention_first(&x[0], &x[1], 2, &s),
            &inputs(&s, 6, DType::F64),
            1e-6,
            1e-8,
        )
        .unwrap();
    }

    #[test]
    fn it_is_the_first_row_of_attention() {
        let s = Segments::new([7, 60]).unwrap();
        let qkv = random("qkv", -1.0, 1.0, &[67, 3 * 16], DType::F64);
        let all = attention(&qkv, 2, &s, Keys::Only, None).unwrap();
        let first = |t: &Tensor| {
            t.contiguous()
                .unwrap()
                .index_select(&Tensor::new(&[0u32, 7], &Device::Cpu).unwrap(), 0)
                .unwrap()
        };
        let y = attention_first(
            &first(&qkv.narrow(1, 0, 16).unwrap()),
            &qkv.narrow(1, 16, 32).unwrap(),
            2,
            &s,
        );
        assert_close(&y.unwrap(), &first(&all), 1e-13, "the first rows");
    }

    #[test]
    fn neither_threads_nor_others_change_a_bit() {
        let s = ragged();
        let [q, kv] = inputs(&s, 32, DType::F32);
        assert_same_on_threads(
            &|x| attention_first(&x[0], &x[1], 2, &s),
            &[q.clone(), kv.clone()],
        );
        let together = attention_first(&q, &kv, 2, &s).unwrap();
        for (i, part) in s.iter().enumerate() {
            let (q, kv) = (
                q.narrow(0, i, 1).unwrap(),
                kv.narrow(0, part.start, part.rows).unwrap(),
            );
            let alone = attention_first(
                &q,
                &kv,
                2,
                &Segments::with_keys([(part.rows, part.keys)]).unwrap(),
            );
            assert!(numbers(&alone.unwrap()) == numbers(&together.narrow(0, i, 1).unwrap()));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let s = ragged();
        let [q, kv] = inputs(&s, 6, DType::F32);
        assert!(attention_first(&q, &kv, 4, &s).is_err());
        assert!(attention_first(&q, &kv, 0, &s).is_err());
        assert!(attention_first(&q, &q, 2, &s).is_err());
        assert!(attention_first(&kv, &kv, 2, &s).is_err());
    }
}
