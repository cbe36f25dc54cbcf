use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::Result;
use crate::canvas::{colour, legend, legend_height, svg, tick, ticks};
use crate::style::{INK, LINE, MARGIN, PALE, text};

/// Size of the area with the lines.
const WIDTH: i32 = 460;
const HEIGHT: i32 = 320;

/// A point of a line, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Ends of the interval, if there is one.
    pub interval: Option<(f64, f64)>,
}

/// Lines through points, with whiskers for their intervals, and a grey line at 0 if that is in range: effects by dose, means
/// over time. Points that are not finite are left out.
///
/// ```
/// use sc_plot::Point;
/// let point = |x, y| Point { x, y, interval: Some((y - 0.1, y + 0.1)) };
/// let rises = vec![point(-1.0, -0.3), point(0.0, 0.0), point(1.0, 0.4)];
/// let svg = sc_plot::lines("Dose", ("z-score", "change"), &[("Neutrophil", rises)])?;
/// assert!(svg.contains("z-score"));
/// # Ok::<(), sc_plot::Error>(())
/// ```
///
/// # Errors
/// None that can be foreseen: it draws into memory.
pub fn lines(title: &str, axes: (&str, &str), series: &[(&str, Vec<Point>)]) -> Result<String> {
    let names: Vec<&str> = series.iter().map(|s| s.0).collect();
    let left = MARGIN + 72;
    let width = left + WIDTH + MARGIN + 10;
    let legend_at = 48;
    let top = legend_at + legend_height(&names, width - 2 * MARGIN) + 12;
    let bottom = top + HEIGHT;
    let all = || {
        let points = series.iter().flat_map(|s| &s.1);
        points.filter(|p| p.x.is_finite() && p.y.is_finite())
    };
    let ends = |p: &Point| p.interval.map_or([p.y, p.y], |i| [i.0, i.1]);
    let across = range(all().map(|p| p.x));
    let up = range(all().flat_map(|p| ends(p).into_iter().chain([p.y])));
    let x = |v: f64| left + ((v - across.0) / (across.1 - across.0) * f64::from(WIDTH)) as i32;
    let y = |v: f64| bottom - ((v - up.0) / (up.1 - up.0) * f64::from(HEIGHT)) as i32;

    svg((width, bottom + 64), |root| {
        let heading = text(19, INK, HPos::Left);
        root.draw(&Text::new(title.to_owned(), (MARGIN, 28), heading))?;
        legend(root, &names, (MARGIN, legend_at), width - 2 * MARGIN)?;
        let (at, step) = ticks(across.0, across.1, 6);
        for v in at {
            root.draw(&PathElement::new([(x(v), top), (x(v), bottom)], LINE))?;
            let below = text(14, PALE, HPos::Center);
            root.draw(&Text::new(tick(v, step), (x(v), bottom + 14), below))?;
        }
        let (at, step) = ticks(up.0, up.1, 6);
        for v in at {
            let line = if v == 0.0 { PALE } else { LINE };
            root.draw(&PathElement::new(
                [(left, y(v)), (left + WIDTH, y(v))],
                line,
            ))?;
            let beside = text(14, PALE, HPos::Right);
            root.draw(&Text::new(tick(v, step), (left - 8, y(v)), beside))?;
        }
        let style = text(15, INK, HPos::Center);
        let middle = left + WIDTH / 2;
        root.draw(&Text::new(axes.0.to_owned(), (middle, bottom + 40), style))?;
        let upright = text(15, INK, HPos::Center).transform(FontTransform::Rotate270);
        let place = (MARGIN, top + HEIGHT / 2);
        root.draw(&Text::new(axes.1.to_owned(), place, upright))?;
        for (k, (_, points)) in series.iter().enumerate() {
            let known = points.iter().filter(|p| p.x.is_finite() && p.y.is_finite());
            let mut places = Vec::new();
            for p in known {
                let [low, high] = ends(p);
                if low.is_finite() && high.is_finite() && low < high {
                    let whisker = [(x(p.x), y(low)), (x(p.x), y(high))];
                    root.draw(&PathElement::new(whisker, colour(k)))?;
                }
                let place = (x(p.x), y(p.y));
                root.draw(&Circle::new(place, 3, colour(k).filled()))?;
                places.push(place);
            }
            root.draw(&PathElement::new(places, colour(k).stroke_width(2)))?;
        }
        Ok(())
    })
}

/// From the least to the largest finite number, a little more, and never nothing.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        });
    match high - low {
        apart if apart > 0.0 => (low - 0.04 * apart, high + 0.04 * apart),
        _ if low.is_finite() => (low - 1.0, low + 1.0),
        _ => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_left_out() {
        let point = |x, y| Point {
            x,
            y,
            interval: None,
        };
        let some = vec![point(0.0, 1.0), point(1.0, f64::NAN), point(2.0, 3.0)];
        let svg = lines("t", ("a", "b"), &[("s", some)]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        // Nothing to draw is drawn, too.
        assert!(lines("t", ("a", "b"), &[]).is_ok());
        assert!(lines("t", ("a", "b"), &[("s", vec![point(1.0, 1.0)])]).is_ok());
    }
}
