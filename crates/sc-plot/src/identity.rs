use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::Result;
use crate::canvas::{colour, svg, tick, ticks};
use crate::style::{INK, LINE, MARGIN, PALE, text, viridis};

/// Side of the square, and of the small squares that stand for many points.
const SIDE: i32 = 340;
const BIN: i32 = 5;
/// More points than these are counted in small squares.
const MOST_POINTS: usize = 1500;

/// How numbers lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// As they are.
    #[default]
    Linear,
    /// By their logarithm; what is not positive is left out.
    Log,
}

/// The same things measured twice (right and up), with the diagonal on which both agree. Beyond 1,500 points small squares
/// show how many points they hold, dark for few and light for many. Pairs that lack a number are left out.
///
/// # Errors
/// None that can be foreseen: it draws into memory.
pub fn identity(
    title: &str,
    (x_name, y_name): (&str, &str),
    x: &[f64],
    y: &[f64],
    scale: Scale,
) -> Result<String> {
    let lies = |v: f64| match scale {
        Scale::Linear => v,
        Scale::Log if v > 0.0 => v.log10(),
        Scale::Log => f64::NAN,
    };
    let points: Vec<(f64, f64)> = x
        .iter()
        .zip(y)
        .map(|(&a, &b)| (lies(a), lies(b)))
        .filter(|p| p.0.is_finite() && p.1.is_finite())
        .collect();
    let all = || points.iter().flat_map(|p| [p.0, p.1]);
    let (low, high) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    );
    let (low, high) = match high - low {
        range if range > 0.0 => (low - 0.03 * range, high + 0.03 * range),
        _ if low.is_finite() => (low - 0.5, low + 0.5),
        _ => (0.0, 1.0),
    };
    let (left, top) = (MARGIN + 62, 56);
    let bottom = top + SIDE;
    let at = |v: f64| ((v - low) / (high - low) * f64::from(SIDE)).round() as i32;
    let place = |p: &(f64, f64)| (left + at(p.0), bottom - at(p.1));

    svg((left + SIDE + MARGIN + 16, bottom + 64), |root| {
        let heading = text(19, INK, HPos::Left);
        root.draw(&Text::new(title.to_owned(), (MARGIN, 28), heading))?;
        let corners = [(left, top), (left + SIDE, bottom)];
        root.draw(&Rectangle::new(corners, LINE))?;
        for (v, name) in marks(low, high, scale) {
            let v = at(v);
            let (below, beside) = (text(14, PALE, HPos::Center), text(14, PALE, HPos::Right));
            let upright = [(left + v, bottom), (left + v, bottom + 5)];
            root.draw(&PathElement::new(upright, PALE))?;
            let across = [(left - 5, bottom - v), (left, bottom - v)];
            root.draw(&PathElement::new(across, PALE))?;
            root.draw(&Text::new(name.clone(), (left + v, bottom + 16), below))?;
            root.draw(&Text::new(name, (left - 8, bottom - v), beside))?;
        }
        let style = text(15, INK, HPos::Center);
        let middle = (left + SIDE / 2, bottom + 42);
        root.draw(&Text::new(x_name.to_owned(), middle, style))?;
        let upright = text(15, INK, HPos::Center).transform(FontTransform::Rotate270);
        let middle = (MARGIN - 6, top + SIDE / 2);
        root.draw(&Text::new(y_name.to_owned(), middle, upright))?;
        let places = points.iter().map(place);
        if points.len() <= MOST_POINTS {
            for place in places {
                root.draw(&Circle::new(place, 3, colour(0).mix(0.5).filled()))?;
            }
        } else {
            for (corner, shade) in squares(places) {
                let corners = [corner, (corner.0 + BIN, corner.1 + BIN)];
                root.draw(&Rectangle::new(corners, shade.filled()))?;
            }
        }
        root.draw(&PathElement::new(
            [(left, bottom), (left + SIDE, top)],
            INK.stroke_width(1),
        ))
    })
}

/// Where ticks lie on the axis, and their names.
fn marks(low: f64, high: f64, scale: Scale) -> Vec<(f64, String)> {
    if scale == Scale::Linear {
        let (at, step) = ticks(low, high, 5);
        return at.into_iter().map(|v| (v, tick(v, step))).collect();
    }
    // 1, 2 and 5 of each power of ten; only the powers if there are many of them.
    let factors: &[f64] = if high - low > 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.floor() as i32..=high.ceil() as i32;
    powers
        .flat_map(|p| factors.iter().map(move |f| f * 10f64.powi(p)))
        .map(|v| (v.log10(), v))
        .filter(|(at, _)| (low..=high).contains(at))
        .map(|(at, v)| (at, tick(v, v)))
        .collect()
}

/// The upper left corners of the squares that hold points, with a colour by the logarithm of how many.
fn squares(places: impl Iterator<Item = (i32, i32)>) -> Vec<((i32, i32), RGBColor)> {
    let mut counts = std::collections::BTreeMap::<(i32, i32), usize>::new();
    for (x, y) in places {
        let corner = (x.div_euclid(BIN) * BIN, y.div_euclid(BIN) * BIN);
        *counts.entry(corner).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(1) as f64;
    let shade = |n: usize| viridis((n as f64).ln_1p() / most.ln_1p());
    counts.into_iter().map(|(at, n)| (at, shade(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_drawn_and_many_are_counted() {
        let x: Vec<f64> = (0..10).map(f64::from).collect();
        let svg = identity("t", ("raw", "model"), &x, &x, Scale::Linear).unwrap();
        assert_eq!(svg.matches("<circle").count(), 10);
        let log = identity("t", ("raw", "model"), &x, &x, Scale::Log).unwrap();
        assert_eq!(log.matches("<circle").count(), 9);

        let many: Vec<f64> = (0..5000).map(|i| f64::from(i % 7)).collect();
        let svg = identity("t", ("raw", "model"), &many, &many, Scale::Linear).unwrap();
        assert_eq!(svg.matches("<circle").count(), 0);
        // The ground, the frame, and a square for each of the seven places.
        assert_eq!(svg.matches("<rect").count(), 9);
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        for values in [&[][..], &[f64::NAN][..], &[1.0, 1.0][..]] {
            assert!(identity("t", ("a", "b"), values, values, Scale::Log).is_ok());
        }
    }
}
