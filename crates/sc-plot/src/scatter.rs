use std::path::PathBuf;

use ndarray::{Array2, ArrayView2};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use sc_data::Categorical;

use crate::style::{INK, LINE, MARGIN, PALE, PALETTE, text, viridis};
use crate::{Area, Result};

/// Scatter plots side by side, of the same cells in several embeddings.
#[derive(Debug, Clone)]
#[must_use]
pub struct Figure<'a> {
    path: PathBuf,
    title: &'a str,
    panels: Vec<(&'a str, ArrayView2<'a, f32>)>,
    names_on_points: bool,
}

/// Side of a panel.
const SIDE: i32 = 460;
/// Height of the strip with the titles.
const TITLE: i32 = 74;

impl<'a> Figure<'a> {
    /// A figure without panels, which will be written to `path`.
    pub fn new(path: impl Into<PathBuf>, title: &'a str) -> Self {
        Self {
            path: path.into(),
            title,
            panels: Vec::new(),
            names_on_points: false,
        }
    }

    /// Adds an embedding, `[cells, 2]`.
    pub fn panel(mut self, title: &'a str, points: &'a Array2<f32>) -> Self {
        self.panels.push((title, points.view()));
        self
    }

    /// Writes each label in the middle of its cells, too.
    pub fn names_on_points(mut self) -> Self {
        self.names_on_points = true;
        self
    }

    /// Draws the cells coloured by a label, with one legend for all panels. Missing labels are grey.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn by_label(&self, labels: &Categorical) -> Result<()> {
        self.label(labels, Target::File)
    }

    /// What [`Figure::by_label`] writes, as text.
    ///
    /// # Errors
    /// None that can be foreseen: it draws into memory.
    pub fn svg_by_label(&self, labels: &Categorical) -> Result<String> {
        let mut out = String::new();
        self.label(labels, Target::Text(&mut out))?;
        Ok(out)
    }

    fn label(&self, labels: &Categorical, target: Target<'_>) -> Result<()> {
        let colour = |code: u32| PALETTE[code as usize % PALETTE.len()];
        let colours: Vec<RGBColor> = labels
            .codes()
            .iter()
            .map(|c| c.map_or(LINE, colour))
            .collect();
        let names = labels.categories();
        let entries: Vec<String> = names
            .iter()
            .zip(labels.counts())
            .map(|(name, n)| format!("{} ({n})", name.replace('_', " ")))
            .collect();
        let longest = entries.iter().map(|e| e.chars().count()).max().unwrap_or(0);
        // A letter is about half as wide as high.
        let legend_width = 20 + 8 * longest as i32;
        let legend = |root: &Area<'_>, left: i32| {
            for (k, entry) in entries.iter().enumerate() {
                let y = TITLE + 14 + 24 * k as i32;
                let dot = Circle::new((left + 6, y), 6, colour(k as u32).filled());
                root.draw(&dot)?;
                let place = (left + 20, y);
                root.draw(&Text::new(entry.as_str(), place, text(15, INK, HPos::Left)))?;
            }
            Ok(())
        };
        let over = |root: &Area<'_>, places: &[(i32, i32)]| {
            for (k, name) in names.iter().enumerate().filter(|_| self.names_on_points) {
                let of_label = labels.codes().iter().zip(places);
                let own = of_label.filter(|(code, _)| **code == Some(k as u32));
                if let Some(middle) = middle(own.map(|(_, &place)| place)) {
                    outlined(root, name, middle)?;
                }
            }
            Ok(())
        };
        let legend_size = (legend_width, 24 * names.len() as i32);
        self.draw(&colours, legend_size, legend, over, target)
    }

    /// Draws the cells coloured by a number, with a scale called `name`. Cells without one (NaN) are grey.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn by_value(&self, name: &str, values: &[f64]) -> Result<()> {
        self.value(name, values, Target::File)
    }

    /// What [`Figure::by_value`] writes, as text.
    ///
    /// # Errors
    /// None that can be foreseen: it draws into memory.
    pub fn svg_by_value(&self, name: &str, values: &[f64]) -> Result<String> {
        let mut out = String::new();
        self.value(name, values, Target::Text(&mut out))?;
        Ok(out)
    }

    fn value(&self, name: &str, values: &[f64], target: Target<'_>) -> Result<()> {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shade = |v: &f64| match v.is_nan() {
            true => LINE,
            false => viridis((v - low) / (high - low)),
        };
        // Enough decimals to tell the ticks apart.
        let decimals = match high - low {
            range if range >= 10.0 => 0,
            range if range >= 1.0 => 1,
            _ => 2,
        };
        let colours: Vec<RGBColor> = values.iter().map(shade).collect();
        let legend = |root: &Area<'_>, left: i32| {
            let heading = text(15, INK, HPos::Left);
            root.draw(&Text::new(name, (left, TITLE + 8), heading))?;
            let (top, height) = (TITLE + 30, 240);
            for y in 0..height {
                let colour = viridis(1.0 - f64::from(y) / f64::from(height - 1));
                let corners = [(left, top + y), (left + 18, top + y + 1)];
                root.draw(&Rectangle::new(corners, colour.filled()))?;
            }
            for k in 0..=4 {
                let share = f64::from(k) / 4.0;
                let y = top + ((1.0 - share) * f64::from(height)) as i32;
                let tick = [(left + 18, y), (left + 23, y)];
                root.draw(&PathElement::new(tick, PALE))?;
                let value = format!("{:.decimals$}", low + share * (high - low));
                let style = text(14, INK, HPos::Left);
                root.draw(&Text::new(value, (left + 28, y), style))?;
            }
            Ok(())
        };
        self.draw(&colours, (70, SIDE), legend, |_, _| Ok(()), target)
    }

    /// The panels in a row under the title, and what `legend` draws to their right, given its left edge; `over` draws on
    /// top of each panel, knowing where each point lies.
    fn draw(
        &self,
        colours: &[RGBColor],
        (legend_width, legend_height): (i32, i32),
        legend: impl Fn(&Area<'_>, i32) -> Result<()>,
        over: impl Fn(&Area<'_>, &[(i32, i32)]) -> Result<()>,
        target: Target<'_>,
    ) -> Result<()> {
        let left_of_legend = MARGIN + self.panels.len() as i32 * (SIDE + MARGIN);
        let width = left_of_legend + legend_width + MARGIN;
        let height = TITLE + SIDE.max(legend_height) + 2 * MARGIN;
        let size = (width as u32, height as u32);
        let backend = match target {
            Target::File => SVGBackend::new(&self.path, size),
            Target::Text(out) => SVGBackend::with_string(out, size),
        };
        let root = backend.into_drawing_area();
        root.fill(&WHITE)?;
        let heading = text(21, INK, HPos::Left);
        root.draw(&Text::new(self.title, (MARGIN, 28), heading))?;
        for (k, (title, points)) in self.panels.iter().enumerate() {
            let corner = (MARGIN + k as i32 * (SIDE + MARGIN), TITLE);
            let heading = text(16, PALE, HPos::Left);
            root.draw(&Text::new(*title, (corner.0, TITLE - 16), heading))?;
            frame(&root, corner)?;
            let places = places(*points, corner);
            for i in scattered(places.len()) {
                if let (Some(&place), Some(colour)) = (places.get(i), colours.get(i)) {
                    root.draw(&Circle::new(place, 3, colour.mix(0.75).filled()))?;
                }
            }
            over(&root, &places)?;
        }
        legend(&root, left_of_legend)?;
        root.present()
    }
}

/// Where a drawing goes.
enum Target<'a> {
    File,
    Text(&'a mut String),
}

/// The border of a panel and the names of its axes; the units of UMAP mean nothing, so there are no ticks.
fn frame(root: &Area<'_>, (x, y): (i32, i32)) -> Result<()> {
    root.draw(&Rectangle::new([(x, y), (x + SIDE, y + SIDE)], LINE))?;
    root.draw(&Text::new(
        "UMAP 1",
        (x + SIDE / 2, y + SIDE + 14),
        text(14, PALE, HPos::Center),
    ))?;
    let upright = text(14, PALE, HPos::Center).transform(FontTransform::Rotate270);
    root.draw(&Text::new("UMAP 2", (x - 12, y + SIDE / 2), upright))
}

/// Pixels of the points in a panel whose upper left corner is `corner`, one scale for both axes.
fn places(points: ArrayView2<'_, f32>, corner: (i32, i32)) -> Vec<(i32, i32)> {
    let range = |axis: usize| {
        let values = points
            .rows()
            .into_iter()
            .filter_map(|r| r.get(axis).copied())
            .collect::<Vec<f32>>();
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (f32::midpoint(low, high), high - low)
    };
    let ((x, width), (y, height)) = (range(0), range(1));
    let scale = 0.92 * SIDE as f32 / width.max(height).max(f32::MIN_POSITIVE);
    let half = SIDE as f32 / 2.0;
    let place = |v: f32| (half + v * scale).round() as i32;
    points
        .rows()
        .into_iter()
        .filter_map(|r| {
            Some((
                corner.0 + place(r.first()? - x),
                corner.1 + place(y - r.get(1)?),
            ))
        })
        .collect()
}

/// All numbers below `n` in an order that jumps about, so that no batch of a sorted file hides the others.
fn scattered(n: usize) -> impl Iterator<Item = usize> {
    // Steps of the golden section, made coprime to `n`, meet every number once.
    let first = ((n as f64 * 0.618) as usize).max(1);
    let step = (first..)
        .find(|&s| greatest_common_divisor(s, n) == 1)
        .unwrap_or(1);
    (0..n).map(move |i| i * step % n)
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The median of both coordinates.
fn middle(places: impl Iterator<Item = (i32, i32)>) -> Option<(i32, i32)> {
    let (mut x, mut y): (Vec<i32>, Vec<i32>) = places.unzip();
    x.sort_unstable();
    y.sort_unstable();
    Some((*x.get(x.len() / 2)?, *y.get(y.len() / 2)?))
}

/// Black text with a white outline, readable on points of any colour.
fn outlined(area: &Area<'_>, name: &str, (x, y): (i32, i32)) -> Result<()> {
    for (dx, dy) in [
        (-2, 0),
        (2, 0),
        (0, -2),
        (0, 2),
        (-1, -1),
        (1, 1),
        (-1, 1),
        (1, -1),
    ] {
        area.draw(&Text::new(
            name.to_owned(),
            (x + dx, y + dy),
            text(17, WHITE, HPos::Center),
        ))?;
    }
    area.draw(&Text::new(
        name.to_owned(),
        (x, y),
        text(17, INK, HPos::Center),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_once() {
        for n in [0, 1, 2, 10, 1805] {
            let mut order: Vec<usize> = scattered(n).collect();
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_figure_has_its_points_titles_and_labels() {
        let path = std::env::temp_dir().join(format!("sc-figure-{}.svg", std::process::id()));
        let points = Array2::from_shape_fn((20, 2), |(i, j)| (i * (j + 1)) as f32);
        let labels: Vec<&str> = (0..20)
            .map(|i| if i < 12 { "T_cell" } else { "B" })
            .collect();
        let figure = Figure::new(&path, "Kinds")
            .panel("left", &points)
            .panel("right", &points);
        figure.by_label(&Categorical::from_labels(&labels)).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        // Two panels of 20 cells, and two dots in the legend.
        assert_eq!(svg.matches("<circle").count(), 42);
        for expected in ["Kinds", "left", "right", "T cell (12)", "B (8)"] {
            assert!(svg.contains(expected), "{expected}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
