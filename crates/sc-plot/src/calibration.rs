use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::Result;
use crate::canvas::{colour, legend, legend_height, svg, tick, ticks};
use crate::style::{INK, LINE, MARGIN, PALE, text};

/// Side of the square.
const SIDE: i32 = 340;

/// A curve of [`calibration`]: a name, and pairs of how much an interval should hold and how much it holds, both shares.
pub type Coverage<'a> = (&'a str, Vec<(f64, f64)>);

/// How much of the data intervals hold (up) beside how much they should (right). On the diagonal a model knows how uncertain
/// it is; below it is too sure, above not sure enough.
///
/// # Errors
/// None that can be foreseen: it draws into memory.
pub fn calibration(title: &str, curves: &[Coverage<'_>]) -> Result<String> {
    let names: Vec<&str> = curves.iter().map(|c| c.0).collect();
    let names = if names.len() > 1 { names } else { Vec::new() };
    let left = MARGIN + 58;
    let width = left + SIDE + MARGIN + 20;
    let legend_at = 48;
    let top = legend_at + legend_height(&names, width - 2 * MARGIN) + 12;
    let bottom = top + SIDE;
    let x = |v: f64| left + (v * f64::from(SIDE)).round() as i32;
    let y = |v: f64| bottom - (v * f64::from(SIDE)).round() as i32;

    svg((width, bottom + 64), |root| {
        let heading = text(19, INK, HPos::Left);
        root.draw(&Text::new(title.to_owned(), (MARGIN, 28), heading))?;
        legend(root, &names, (MARGIN, legend_at), width - 2 * MARGIN)?;
        let (at, step) = ticks(0.0, 1.0, 5);
        for v in at {
            root.draw(&PathElement::new([(x(v), y(0.0)), (x(v), y(1.0))], LINE))?;
            root.draw(&PathElement::new([(x(0.0), y(v)), (x(1.0), y(v))], LINE))?;
            let below = text(14, PALE, HPos::Center);
            root.draw(&Text::new(tick(v, step), (x(v), bottom + 14), below))?;
            let beside = text(14, PALE, HPos::Right);
            root.draw(&Text::new(tick(v, step), (left - 8, y(v)), beside))?;
        }
        root.draw(&PathElement::new([(x(0.0), y(0.0)), (x(1.0), y(1.0))], PALE))?;
        let middle = left + SIDE / 2;
        let style = text(15, INK, HPos::Center);
        let words = "share that an interval should hold";
        root.draw(&Text::new(words, (middle, bottom + 40), style))?;
        let upright = text(15, INK, HPos::Center).transform(FontTransform::Rotate270);
        let place = (MARGIN, top + SIDE / 2);
        root.draw(&Text::new("share that it holds", place, upright))?;
        for (k, (_, points)) in curves.iter().enumerate() {
            let inside = |v: f64| (0.0..=1.0).contains(&v);
            let mut places: Vec<(i32, i32)> = points
                .iter()
                .filter(|p| inside(p.0) && inside(p.1))
                .map(|p| (x(p.0), y(p.1)))
                .collect();
            places.sort_unstable();
            for &place in &places {
                root.draw(&Circle::new(place, 4, colour(k).filled()))?;
            }
            root.draw(&PathElement::new(places, colour(k).stroke_width(2)))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_outside_are_left_out() {
        let curves = [
            ("a", vec![(0.95, 0.9), (0.65, 0.7)]),
            ("b", vec![(0.5, f64::NAN), (0.5, 1.5)]),
        ];
        let svg = calibration("t", &curves).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">\na\n<") || svg.contains(">a<"), "{svg}");
    }
}
