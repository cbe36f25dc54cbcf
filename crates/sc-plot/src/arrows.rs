use ndarray::{ArrayView2, Axis};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::Result;
use crate::canvas::svg;
use crate::style::{INK, LINE, MARGIN, text};

/// Side of the picture.
const SIDE: i32 = 520;
/// Arrows beyond this quantile of lengths are drawn as long as those at it.
const LONGEST: f64 = 0.95;
/// Pixels of the longest arrow.
const PIXELS: f64 = 22.0;

/// Arrows over cells in a plane: where things move. `cells` is `[cells, 2]`, `at` and `velocities` are `[arrows, 2]`. Lengths are
/// relative to the longest. What is not finite is left out.
///
/// # Errors
/// None that can be foreseen: it draws into memory.
pub fn arrows(
    title: &str,
    cells: ArrayView2<'_, f32>,
    at: ArrayView2<'_, f32>,
    velocities: ArrayView2<'_, f64>,
) -> Result<String> {
    let range = |axis: usize| {
        let all = cells.axis_iter(Axis(0)).chain(at.axis_iter(Axis(0)));
        let values = all.filter_map(|p| p.get(axis).copied().filter(|v| v.is_finite()));
        let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        });
        match high > low {
            true => (f64::from(low), f64::from(high - low)),
            false => (0.0, 1.0),
        }
    };
    let (x, y) = (range(0), range(1));
    let scale = f64::from(SIDE) / x.1.max(y.1);
    let top = 48;
    let place = |p: (f64, f64)| {
        (
            MARGIN + ((p.0 - x.0) * scale) as i32,
            top + ((y.0 + y.1 - p.1) * scale) as i32,
        )
    };
    let pair = |row: ndarray::ArrayView1<'_, f32>| match row.to_vec().as_slice() {
        [x, y] if x.is_finite() && y.is_finite() => Some((f64::from(*x), f64::from(*y))),
        _ => None,
    };
    let longest = longest(velocities);
    let height = top + (y.1 * scale) as i32 + MARGIN;
    svg((SIDE + 2 * MARGIN, height), |root| {
        let heading = text(19, INK, HPos::Left);
        root.draw(&Text::new(title.to_owned(), (MARGIN, 28), heading))?;
        for cell in cells.axis_iter(Axis(0)).filter_map(pair) {
            root.draw(&Circle::new(place(cell), 1, LINE.filled()))?;
        }
        for (at, v) in at.axis_iter(Axis(0)).zip(velocities.axis_iter(Axis(0))) {
            let v = v.to_vec();
            let (Some(at), &[vx, vy]) = (pair(at), v.as_slice()) else {
                continue;
            };
            let length = vx.hypot(vy);
            if !(length.is_finite() && length > 0.0) {
                continue;
            }
            let pixels = PIXELS * (length / longest).min(1.0);
            let (ux, uy) = (vx / length, -vy / length);
            let (from_x, from_y) = place(at);
            let tip = |along: f64, aside: f64| {
                (
                    from_x + (along * ux - aside * uy).round() as i32,
                    from_y + (along * uy + aside * ux).round() as i32,
                )
            };
            let head = (0.35 * pixels).min(6.0);
            let shaft = [(from_x, from_y), tip(pixels, 0.0)];
            root.draw(&PathElement::new(shaft, INK))?;
            let sides = [
                tip(pixels - head, 0.6 * head),
                tip(pixels, 0.0),
                tip(pixels - head, -0.6 * head),
            ];
            root.draw(&PathElement::new(sides, INK))?;
        }
        Ok(())
    })
}

/// The length of a long arrow.
fn longest(velocities: ArrayView2<'_, f64>) -> f64 {
    let rows = velocities.axis_iter(Axis(0));
    let mut lengths: Vec<f64> = rows
        .map(|v| v.iter().map(|x| x * x).sum::<f64>().sqrt())
        .filter(|l| l.is_finite() && *l > 0.0)
        .collect();
    lengths.sort_unstable_by(f64::total_cmp);
    let place = (LONGEST * lengths.len().saturating_sub(1) as f64).round() as usize;
    lengths.get(place).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn arrows_that_lead_nowhere_are_left_out() {
        let cells = array![[0.0f32, 0.0], [1.0, 2.0], [f32::NAN, 0.0]];
        let at = array![[0.0f32, 0.0], [1.0, 1.0], [0.5, 0.5]];
        let velocities = array![[1.0, 0.0], [0.0, 0.0], [f64::NAN, 1.0]];
        let svg = arrows("t", cells.view(), at.view(), velocities.view()).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("<polyline").count(), 2);
        let none = Array2::<f32>::zeros((0, 2));
        let still = Array2::<f64>::zeros((0, 2));
        assert!(arrows("t", none.view(), none.view(), still.view()).is_ok());
    }
}
