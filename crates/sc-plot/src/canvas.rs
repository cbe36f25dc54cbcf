//! Drawings that become text, and what they share.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::style::{INK, PALETTE, text};
use crate::{Area, Result};

/// Height of a line of a legend.
const LINE_HEIGHT: i32 = 24;

/// A drawing on white as the text of an SVG file.
pub(crate) fn svg(
    (width, height): (i32, i32),
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    let mut out = String::new();
    {
        let size = (width.max(1) as u32, height.max(1) as u32);
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        root.present()?;
    }
    Ok(out)
}

/// Pixels that a text of 15 pixels takes; a letter is about half as wide as high.
pub(crate) fn width_of(name: &str) -> i32 {
    8 * name.chars().count() as i32
}

/// The colour of series `k`.
pub(crate) fn colour(k: usize) -> RGBColor {
    // Neighbours of the palette that differ in lightness first.
    const ORDER: [usize; 6] = [10, 9, 2, 4, 8, 5];
    PALETTE[ORDER.get(k).copied().unwrap_or(k) % PALETTE.len()]
}

/// A number on an axis: as many decimals as tell ticks of this distance apart.
pub(crate) fn tick(v: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{v:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() {
        "0".into()
    } else {
        text
    }
}

/// Round numbers across a range, about `n` of them, and their distance.
pub(crate) fn ticks(low: f64, high: f64, n: usize) -> (Vec<f64>, f64) {
    let range = high - low;
    if !(range.is_finite() && range > 0.0) {
        return (vec![low], 1.0);
    }
    let rough = range / n.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= rough)
        .unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    ((first..=last).map(|k| k as f64 * step).collect(), step)
}

/// How many lines the names of series take, side by side.
pub(crate) fn legend_height(names: &[&str], width: i32) -> i32 {
    LINE_HEIGHT * places(names, width).last().map_or(0, |p| p.1 + 1)
}

/// Draws squares with names from `corner` on.
pub(crate) fn legend(root: &Area<'_>, names: &[&str], corner: (i32, i32), width: i32) -> Result<()> {
    for (k, (name, (x, line))) in names.iter().zip(places(names, width)).enumerate() {
        let (x, y) = (corner.0 + x, corner.1 + LINE_HEIGHT * line + LINE_HEIGHT / 2);
        let square = [(x, y - 6), (x + 12, y + 6)];
        root.draw(&Rectangle::new(square, colour(k).filled()))?;
        let style = text(15, INK, HPos::Left);
        root.draw(&Text::new((*name).to_owned(), (x + 18, y), style))?;
    }
    Ok(())
}

/// The left edge and the line of each name.
fn places(names: &[&str], width: i32) -> Vec<(i32, i32)> {
    let (mut x, mut line) = (0, 0);
    names
        .iter()
        .map(|name| {
            let own = 18 + width_of(name) + 20;
            if x > 0 && x + own > width {
                (x, line) = (0, line + 1);
            }
            let place = (x, line);
            x += own;
            place
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 1.0, 5).0.len(), 6);
        let (at, step) = ticks(-0.13, 0.52, 5);
        assert_eq!(at.len(), 4);
        assert!((step - 0.2).abs() < 1e-12, "{step}");
        assert_eq!(tick(-0.0, 0.2), "0");
        assert_eq!(tick(0.2, 0.2), "0.2");
        assert_eq!(tick(1500.0, 500.0), "1500");
        assert_eq!(ticks(1.0, 1.0, 5).0, [1.0]);
    }

    #[test]
    fn names_wrap() {
        let names = ["a name that is long", "another", "b"];
        assert_eq!(legend_height(&names, 10_000), LINE_HEIGHT);
        assert_eq!(legend_height(&names, 10), 3 * LINE_HEIGHT);
        assert_eq!(legend_height(&[], 10), 0);
    }
}
