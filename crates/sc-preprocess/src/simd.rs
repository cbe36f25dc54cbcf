//! Loops with the widest instructions that the machine has.

/// A loop that is compiled once for each instruction set. All that `run` calls must be `#[inline(always)]`: a function of its
/// own would be compiled for the oldest processor.
pub(crate) trait Kernel {
    type Output;
    /// `FMA` says whether a fused multiplication and addition is an instruction (otherwise it would be a slow call).
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs `kernel` with the best instructions of this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    pulp::Arch::new().dispatch(Op(kernel))
}

struct Op<K>(K);

impl<K: Kernel> pulp::WithSimd for Op<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> K::Output {
        if S::IS_SCALAR {
            self.0.run::<false>()
        } else {
            self.0.run::<true>()
        }
    }
}

/// `a * b + c`.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `ln(1 + x)` of a finite `x >= 0`, to the last digit or two of `f64`.
///
/// `1 + x = 2^e m` with `m` between the square root of a half and that of two, `ln m = 2 artanh((m - 1) / (m + 1))` by its
/// series, plus what rounding `1 + x` lost.
#[inline(always)]
pub(crate) fn ln_1p<const FMA: bool>(x: f64) -> f64 {
    const ROOT_OF_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    const SERIES: [f64; 9] = [
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
    ];
    /// 2^52, whose last bits count ones.
    const COUNTER: u64 = 0x4330_0000_0000_0000;
    let sum = 1.0 + x;
    let lost = (x - (sum - 1.0)) / sum;
    let above = sum.to_bits().wrapping_sub(ROOT_OF_HALF);
    // `e` is not negative. By a trick, because conversions are not vector instructions everywhere.
    let e = f64::from_bits((above >> 52) | COUNTER) - f64::from_bits(COUNTER);
    let m = f64::from_bits(sum.to_bits().wrapping_sub(above & (0xfff << 52)));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut series = 1.0 / 21.0;
    for term in SERIES {
        series = multiply_add::<FMA>(series, z, term);
    }
    let log = multiply_add::<FMA>(2.0 * s * z, series, 2.0 * s);
    multiply_add::<FMA>(e, std::f64::consts::LN_2, log + lost)
}

/// `ln(1 + x)` of finite values from 0 on.
pub(crate) fn ln_1p_all(values: &mut [f32]) {
    struct All<'a>(&'a mut [f32]);
    impl Kernel for All<'_> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for v in self.0 {
                *v = ln_1p::<FMA>(f64::from(*v)) as f32;
            }
        }
    }
    dispatch(All(values));
}

/// The same, of double precision into single.
pub(crate) fn ln_1p_into(from: &[f64], out: &mut [f32]) {
    struct All<'a>(&'a [f64], &'a mut [f32]);
    impl Kernel for All<'_> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (from, to) in self.0.iter().zip(self.1) {
                *to = ln_1p::<FMA>(*from) as f32;
            }
        }
    }
    dispatch(All(from, out));
}

/// The same, in double precision.
pub(crate) fn ln_1p_wide(from: &[f32], out: &mut [f64]) {
    struct All<'a>(&'a [f32], &'a mut [f64]);
    impl Kernel for All<'_> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            for (from, to) in self.0.iter().zip(self.1) {
                *to = ln_1p::<FMA>(f64::from(*from));
            }
        }
    }
    dispatch(All(from, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_exact() {
        let mut x = vec![0.0, 1e-30, 1e-9, 0.41, 0.42, 1.0, 1e4, 16_777_216.0, 1e38];
        x.extend((0..4000).map(|i| (f64::from(i) * 0.01 - 20.0).exp()));
        for v in x {
            for found in [ln_1p::<true>(v), ln_1p::<false>(v)] {
                let expected = v.ln_1p();
                assert!(
                    (found - expected).abs() <= 6e-16 * expected,
                    "{v}: {found} {expected}"
                );
            }
        }
        let mut values = vec![0f32, 1e-8, 1.0, 3.0, 1e6];
        let expected: Vec<f32> = values
            .iter()
            .map(|v| f64::from(*v).ln_1p() as f32)
            .collect();
        let mut wide = vec![0f64; values.len()];
        ln_1p_wide(&values, &mut wide);
        assert!(wide.iter().zip(&expected).all(|(w, e)| *w as f32 == *e));
        let mut narrow = vec![0f32; values.len()];
        let from: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        ln_1p_into(&from, &mut narrow);
        assert_eq!(narrow, expected);
        ln_1p_all(&mut values);
        assert_eq!(values, expected);
    }
}
