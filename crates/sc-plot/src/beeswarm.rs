//! Numbers as rows of dots.

use std::collections::BTreeMap;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::style::{INK, LINE, text};
use crate::{Area, Result};

const QUIET: RGBColor = RGBColor(0xBB, 0xBB, 0xBB);
const FALLING: RGBColor = RGBColor(0x00, 0x77, 0xBB);
const RISING: RGBColor = RGBColor(0xCC, 0x33, 0x11);

const WIDTH: i32 = 900;
/// Height of a row of dots.
const ROW: i32 = 84;
const TOP: i32 = 56;
const BOTTOM: i32 = 64;
/// Radius of a dot.
const DOT: i32 = 3;

/// A dot of a [`Beeswarm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Where it lies along the axis.
    pub value: f64,
    /// Whether it is coloured: red above 0, blue below.
    pub called: bool,
}

/// A beeswarm plot: a row of dots for each name, along one axis around 0. Dots lie beside each other where they would
/// overlap; those whose value is not finite are left out.
///
/// ```
/// use sc_plot::{Beeswarm, Dot};
/// let dots = [-1.5, -0.2, 0.1].map(|value| Dot { value, called: value < -1.0 });
/// let plot = Beeswarm {
///     title: "healthy against ill".into(),
///     axis: "log2 fold change",
///     rows: vec![("T cell".into(), dots.to_vec())],
/// };
/// assert!(plot.svg()?.contains("T cell"));
/// # Ok::<(), sc_plot::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Beeswarm<'a> {
    /// Above the plot.
    pub title: String,
    /// What the values are.
    pub axis: &'a str,
    /// Rows from top to bottom: a name, and its dots.
    pub rows: Vec<(String, Vec<Dot>)>,
}

/// Where values lie on the picture.
struct Scale {
    left: i32,
    /// The largest value to either side.
    reach: f64,
}

impl Scale {
    fn x(&self, value: f64) -> i32 {
        let width = f64::from(WIDTH - self.left - 30);
        self.left + ((value / self.reach + 1.0) / 2.0 * width) as i32
    }
}

impl Beeswarm<'_> {
    /// The plot as the text of an SVG file.
    ///
    /// # Errors
    /// If it can't be drawn.
    pub fn svg(&self) -> Result<String> {
        let scale = self.scale();
        let height = TOP + ROW * self.rows.len().max(1) as i32 + BOTTOM;
        let mut svg = String::new();
        {
            let size = (WIDTH as u32, height as u32);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&WHITE)?;
            let title = text(17, INK, HPos::Left);
            root.draw(&Text::new(
                self.title.as_str(),
                (scale.left, TOP / 2),
                title,
            ))?;
            axis(&root, self.axis, &scale, height - BOTTOM)?;
            for (k, (name, dots)) in self.rows.iter().enumerate() {
                let middle = TOP + ROW * k as i32 + ROW / 2;
                let style = text(14, INK, HPos::Right);
                root.draw(&Text::new(name.as_str(), (scale.left - 12, middle), style))?;
                for (dot, (x, y)) in swarm(dots, &scale) {
                    let colour = match dot {
                        Dot { called: false, .. } => QUIET,
                        Dot { value, .. } if *value < 0.0 => FALLING,
                        _ => RISING,
                    };
                    root.draw(&Circle::new((x, middle + y), DOT, colour.filled()))?;
                }
            }
            root.present()?;
        }
        Ok(svg)
    }

    fn scale(&self) -> Scale {
        let lengths = self.rows.iter().map(|(name, _)| name.chars().count());
        let values = self.rows.iter().flat_map(|(_, dots)| dots).map(|d| d.value);
        let finite = values.filter(|v| v.is_finite());
        Scale {
            // A letter is about half as wide as high.
            left: 30 + 8 * lengths.max().unwrap_or(0).min(40) as i32,
            reach: finite.fold(0.5f64, |m, v| m.max(v.abs())) * 1.05,
        }
    }
}

/// The dots of a row and their places, from the middle of the row.
fn swarm<'a>(dots: &'a [Dot], scale: &Scale) -> Vec<(&'a Dot, (i32, i32))> {
    let mut columns: BTreeMap<i32, Vec<&Dot>> = BTreeMap::new();
    for dot in dots.iter().filter(|d| d.value.is_finite()) {
        let column = columns.entry(scale.x(dot.value) / (2 * DOT));
        column.or_default().push(dot);
    }
    let mut places = Vec::with_capacity(dots.len());
    for column in columns.values() {
        let room = f64::from(ROW - 4 * DOT);
        let step = (f64::from(2 * DOT)).min(room / column.len() as f64);
        for (k, dot) in column.iter().enumerate() {
            // In the middle first, then alternately above and below.
            let side = if k % 2 == 0 { 1.0 } else { -1.0 };
            let y = side * k.div_ceil(2) as f64 * step;
            places.push((*dot, (scale.x(dot.value), y as i32)));
        }
    }
    places
}

fn axis(root: &Area<'_>, name: &str, scale: &Scale, bottom: i32) -> Result<()> {
    let mut steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0].into_iter();
    let few = |s: &f64| scale.reach / s <= 6.0;
    let step = steps.find(few).unwrap_or(scale.reach);
    let n = (scale.reach / step) as i32;
    for k in -n..=n {
        let at = scale.x(f64::from(k) * step);
        let width = if k == 0 { 2 } else { 1 };
        let ends = [(at, TOP - 8), (at, bottom)];
        root.draw(&PathElement::new(ends, LINE.stroke_width(width)))?;
        let value = format!("{}", (f64::from(k) * step * 10.0).round() / 10.0);
        let style = text(13, INK, HPos::Center);
        root.draw(&Text::new(value, (at, bottom + 16), style))?;
    }
    let style = text(14, INK, HPos::Center);
    root.draw(&Text::new(name, (scale.x(0.0), bottom + 42), style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(value: f64, called: bool) -> Dot {
        Dot { value, called }
    }

    #[test]
    fn rows_names_and_colours() {
        let plot = Beeswarm {
            title: "title".into(),
            axis: "change",
            rows: vec![
                ("kind".into(), vec![dot(-1.0, true), dot(2.0, true)]),
                ("other".into(), vec![dot(0.1, false), dot(f64::NAN, true)]),
            ],
        };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        for colour in ["#BBBBBB", "#0077BB", "#CC3311"] {
            assert_eq!(svg.matches(colour).count(), 1, "{colour}");
        }
        for expected in ["title", "change", "kind", "other"] {
            assert!(svg.contains(expected), "{expected}");
        }
    }

    #[test]
    fn dots_at_one_place_lie_beside_each_other_within_the_row() {
        let scale = Scale {
            left: 100,
            reach: 1.0,
        };
        for n in [2, 9, 500] {
            let dots = vec![dot(0.3, false); n];
            let mut places: Vec<i32> = swarm(&dots, &scale).iter().map(|d| d.1.1).collect();
            assert!(places.iter().all(|y| y.abs() <= ROW / 2 - DOT));
            places.sort_unstable();
            places.dedup();
            assert!(places.len() >= n.min(60));
        }
    }

    #[test]
    fn no_rows_are_an_empty_picture() {
        let plot = Beeswarm {
            title: String::new(),
            axis: "",
            rows: Vec::new(),
        };
        assert!(plot.svg().unwrap().starts_with("<svg"));
    }
}
