//! Runs a loop with the widest instructions that the machine has.

/// As many elements as an accumulator has partial sums: one AVX-512 register of `f32`.
pub(crate) const LANES: usize = 16;

/// A loop that is compiled once per instruction set.
///
/// Everything that `run` calls must be `#[inline(always)]`: a function of its own would be compiled for the baseline.
pub(crate) trait Kernel {
    /// `FMA` says whether a fused multiply-add is an instruction (otherwise it would be a slow call).
    fn run<const FMA: bool>(self);
}

/// Runs `kernel` with the best instruction set of this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) {
    pulp::Arch::new().dispatch(Op(kernel));
}

struct Op<K>(K);

impl<K: Kernel> pulp::WithSimd for Op<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR {
            self.0.run::<false>();
        } else {
            self.0.run::<true>();
        }
    }
}

/// `if condition { a } else { b }` without a branch: several `if`s with one condition would otherwise be merged into a jump,
/// and the loop around them would not be vectorised.
#[inline(always)]
pub(crate) fn select<T>(condition: bool, a: T, b: T) -> T {
    std::hint::select_unpredictable(condition, a, b)
}

/// Applies the method `$f` of [`Lane`](super::Lane) to all elements of a slice, in place.
macro_rules! map {
    ($values:expr, $t:ident, $f:ident) => {{
        struct Map<'a, V>(&'a mut [V]);
        impl<V: $crate::math::Float> $crate::math::Kernel for Map<'_, V> {
            #[inline(always)]
            fn run<const FMA: bool>(self) {
                for v in self.0.iter_mut() {
                    *v = $crate::math::Lane::$f::<FMA>(*v);
                }
            }
        }
        $crate::math::dispatch(Map::<$t>($values));
    }};
}
pub(crate) use map;
