/// The derivative of the digamma function: recurrence up to 10, then `1/x + 1/(2x^2) + sum B_2k / x^(2k+1)`
/// (Abramowitz and Stegun 6.4.12).
pub(super) fn trigamma_of(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let (mut x, mut below) = (x, 0.0);
    while x < 10.0 {
        below += 1.0 / (x * x);
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = 1.0 / 6.0
        - r * (1.0 / 30.0
            - r * (1.0 / 42.0 - r * (1.0 / 30.0 - r * (5.0 / 66.0 - r * 691.0 / 2730.0))));
    below + 1.0 / x + 0.5 * r + series * r / x
}
