//! Scatter plots of embeddings and curves of training, as SVG. The files name a font family and leave the letters to
//! whatever shows them, so that no font has to be installed here.

use std::path::Path;

use ndarray::ArrayView2;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sc_data::Categorical;
use sc_model::train::History;

/// What drawing may fail with: the file can't be written.
pub type Error = DrawingAreaErrorKind<std::io::Error>;
/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One scatter plot of a figure.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// What it shows.
    pub title: &'a str,
    /// Two coordinates for each cell, `[cells, 2]`.
    pub points: ArrayView2<'a, f32>,
}

/// Paul Tol's "muted" scheme, then his "vibrant" one: told apart by readers with any kind of colour vision.
const PALETTE: [RGBColor; 15] = [
    RGBColor(0x33, 0x22, 0x88),
    RGBColor(0xDD, 0xCC, 0x77),
    RGBColor(0x11, 0x77, 0x33),
    RGBColor(0xCC, 0x66, 0x77),
    RGBColor(0x88, 0xCC, 0xEE),
    RGBColor(0x88, 0x22, 0x55),
    RGBColor(0x44, 0xAA, 0x99),
    RGBColor(0x99, 0x99, 0x33),
    RGBColor(0xAA, 0x44, 0x99),
    RGBColor(0xEE, 0x77, 0x33),
    RGBColor(0x00, 0x77, 0xBB),
    RGBColor(0xCC, 0x33, 0x11),
    RGBColor(0x33, 0xBB, 0xEE),
    RGBColor(0xEE, 0x33, 0x77),
    RGBColor(0x00, 0x99, 0x88),
];

/// Viridis at equal steps: lightness rises with the value, also without colour vision.
const VIRIDIS: [(u8, u8, u8); 6] =
    [(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)];

const FONT: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE: RGBColor = RGBColor(0x77, 0x77, 0x77);
const LINE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);
/// Side of a panel.
const SIDE: i32 = 460;
/// Height of the strip with the titles.
const TITLE: i32 = 74;
/// Width of the legend.
const LEGEND: i32 = 220;
/// Space around things.
const MARGIN: i32 = 24;

/// Cells coloured by a label, the same colours in all panels, with one legend for all. Missing labels are grey.
///
/// `names_on_points` also writes each label in the middle of its cells.
///
/// # Errors
/// If the file can't be written.
pub fn by_label(path: &Path, title: &str, panels: &[Panel<'_>], labels: &Categorical, names_on_points: bool) -> Result<()> {
    let colour = |code: u32| PALETTE[code as usize % PALETTE.len()];
    let colours: Vec<RGBColor> = labels.codes().iter().map(|c| c.map_or(LINE, colour)).collect();
    figure(path, title, panels, &colours, |root, left| {
        for (k, (name, n)) in labels.categories().iter().zip(labels.counts()).enumerate() {
            let y = TITLE + 14 + 24 * k as i32;
            root.draw(&Circle::new((left + 6, y), 6, colour(k as u32).filled()))?;
            let entry = format!("{} ({n})", name.replace('_', " "));
            root.draw(&Text::new(entry, (left + 20, y), text(15, INK, HPos::Left)))?;
        }
        Ok(())
    }, |area, place| {
        if !names_on_points {
            return Ok(());
        }
        for (k, name) in labels.categories().iter().enumerate() {
            let of_label = labels.codes().iter().enumerate().filter(|(_, c)| **c == Some(k as u32));
            let places: Vec<(i32, i32)> = of_label.filter_map(|(i, _)| place.get(i).copied()).collect();
            if let Some(middle) = middle(&places) {
                outlined(area, name, middle)?;
            }
        }
        Ok(())
    })
}

/// Cells coloured by a number, with a scale.
///
/// # Errors
/// If the file can't be written.
pub fn by_value(path: &Path, title: &str, panels: &[Panel<'_>], name: &str, values: &[f64]) -> Result<()> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let colours: Vec<RGBColor> = values.iter().map(|v| viridis((v - low) / (high - low))).collect();
    figure(path, title, panels, &colours, |root, left| {
        root.draw(&Text::new(name.to_owned(), (left, TITLE + 8), text(15, INK, HPos::Left)))?;
        let (top, height) = (TITLE + 30, 240);
        for y in 0..height {
            let colour = viridis(1.0 - f64::from(y) / f64::from(height - 1));
            root.draw(&Rectangle::new([(left, top + y), (left + 18, top + y + 1)], colour.filled()))?;
        }
        for k in 0..=4 {
            let share = f64::from(k) / 4.0;
            let y = top + ((1.0 - share) * f64::from(height)) as i32;
            root.draw(&PathElement::new([(left + 18, y), (left + 23, y)], PALE))?;
            let value = format!("{:.0}", low + share * (high - low));
            root.draw(&Text::new(value, (left + 28, y), text(14, INK, HPos::Left)))?;
        }
        Ok(())
    }, |_, _| Ok(()))
}

/// The panels in a row under a title, and what `legend` draws to their right; `over` draws on top of each panel, knowing where
/// each point lies.
fn figure(
    path: &Path,
    title: &str,
    panels: &[Panel<'_>],
    colours: &[RGBColor],
    legend: impl Fn(&Area<'_>, i32) -> Result<()>,
    over: impl Fn(&Area<'_>, &[(i32, i32)]) -> Result<()>,
) -> Result<()> {
    let left_of_legend = MARGIN + panels.len() as i32 * (SIDE + MARGIN);
    let (width, height) = (left_of_legend + LEGEND, TITLE + SIDE + 2 * MARGIN);
    let root = SVGBackend::new(path, (width as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (MARGIN, 28), text(21, INK, HPos::Left)))?;
    for (k, panel) in panels.iter().enumerate() {
        let corner = (MARGIN + k as i32 * (SIDE + MARGIN), TITLE);
        let places = places(panel.points, corner);
        root.draw(&Text::new(panel.title.to_owned(), (corner.0, TITLE - 16), text(16, PALE, HPos::Left)))?;
        frame(&root, corner)?;
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

/// The border of a panel and the names of its axes; the units of UMAP mean nothing, so there are no ticks.
fn frame(root: &Area<'_>, (x, y): (i32, i32)) -> Result<()> {
    root.draw(&Rectangle::new([(x, y), (x + SIDE, y + SIDE)], LINE))?;
    root.draw(&Text::new("UMAP 1", (x + SIDE / 2, y + SIDE + 14), text(14, PALE, HPos::Center)))?;
    let upright = text(14, PALE, HPos::Center).transform(FontTransform::Rotate270);
    root.draw(&Text::new("UMAP 2", (x - 12, y + SIDE / 2), upright))
}

/// Pixels of the points in a panel whose upper left corner is `corner`, one scale for both axes.
fn places(points: ArrayView2<'_, f32>, corner: (i32, i32)) -> Vec<(i32, i32)> {
    let range = |axis: usize| {
        let values = points.rows().into_iter().filter_map(|r| r.get(axis).copied()).collect::<Vec<f32>>();
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
        .filter_map(|r| Some((corner.0 + place(r.first()? - x), corner.1 + place(y - r.get(1)?))))
        .collect()
}

/// All numbers below `n` in an order that jumps about, so that no batch of a sorted file hides the others.
fn scattered(n: usize) -> impl Iterator<Item = usize> {
    let step = (n as f64 * 0.618) as usize;
    let is_coprime = |s: &usize| { let (mut a, mut b) = (*s, n); while b > 0 { (a, b) = (b, a % b); } a == 1 };
    let step = (step.max(1)..).find(is_coprime).unwrap_or(1);
    (0..n).map(move |i| i * step % n)
}

/// The median of both coordinates.
fn middle(places: &[(i32, i32)]) -> Option<(i32, i32)> {
    let median = |pick: fn(&(i32, i32)) -> i32| {
        let mut v: Vec<i32> = places.iter().map(pick).collect();
        v.sort_unstable();
        v.get(v.len() / 2).copied()
    };
    Some((median(|p| p.0)?, median(|p| p.1)?))
}

/// Black text with a white outline, readable on points of any colour.
fn outlined(area: &Area<'_>, name: &str, (x, y): (i32, i32)) -> Result<()> {
    for (dx, dy) in [(-2, 0), (2, 0), (0, -2), (0, 2), (-1, -1), (1, 1), (-1, 1), (1, -1)] {
        area.draw(&Text::new(name.to_owned(), (x + dx, y + dy), text(17, WHITE, HPos::Center)))?;
    }
    area.draw(&Text::new(name.to_owned(), (x, y), text(17, INK, HPos::Center)))
}

fn viridis(share: f64) -> RGBColor {
    let last = VIRIDIS.len() - 1;
    let at = if share.is_finite() { share.clamp(0.0, 1.0) * last as f64 } else { 0.0 };
    let k = (at as usize).min(last - 1);
    let t = at - k as f64;
    let between = |a: u8, b: u8| (f64::from(a) + t * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (VIRIDIS[k], VIRIDIS[k + 1]);
    RGBColor(between(a.0, b.0), between(a.1, b.1), between(a.2, b.2))
}

/// Text of about so many pixels; plotters makes SVG text smaller by 1.24.
fn text(size: i32, colour: RGBColor, h: HPos) -> TextStyle<'static> {
    let mut style = TextStyle::from((FONT, f64::from(size) * 1.24)).pos(Pos::new(h, VPos::Center));
    style.color = colour.to_backend_color();
    style
}

/// The ELBO of training and validation cells after each epoch, higher is better, and the epoch from which the KL term
/// counts in full.
///
/// # Errors
/// If the file can't be written.
pub fn training(path: &Path, title: &str, history: &History, warmup_ends: usize) -> Result<()> {
    // The history keeps what is minimised: the negative ELBO.
    let curve = |name: &str| -> Vec<(f64, f64)> {
        history.get(name).iter().map(|&(epoch, v)| (epoch as f64 + 1.0, -v)).collect()
    };
    let curves = [("training cells", curve("elbo_train"), 0), ("validation cells", curve("elbo_validation"), 3)];
    let last = curves.iter().flat_map(|c| &c.1).map(|p| p.0).fold(1.0, f64::max);
    // The first epochs come from far below; the range is that of what follows.
    let later = || curves.iter().flat_map(|c| &c.1).filter(|p| p.0 > 0.03 * last).map(|p| p.1);
    let (low, high) = (later().fold(f64::INFINITY, f64::min), later().fold(f64::NEG_INFINITY, f64::max));
    let space = 0.06 * (high - low);

    let root = SVGBackend::new(path, (760, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (MARGIN, 28), text(21, INK, HPos::Left)))?;
    let mut chart = ChartBuilder::on(&root)
        .margin_top(56)
        .margin_right(MARGIN)
        .margin_bottom(8)
        .x_label_area_size(46)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..last, low - space..high + space)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE.mix(0.6))
        .axis_style(LINE)
        .label_style(text(14, INK, HPos::Left))
        .axis_desc_style(text(15, INK, HPos::Left))
        .x_desc("epoch")
        .y_desc("ELBO per cell")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    let warmup = warmup_ends as f64;
    chart.draw_series([PathElement::new([(warmup, low - space), (warmup, high + space)], PALE)])?;
    let (area, place) = (chart.plotting_area(), |x, y| chart.backend_coord(&(x, y)));
    let (x, y) = place(warmup, low);
    root.draw(&Text::new("KL term counts in full", (x + 8, y), text(14, PALE, HPos::Left)))?;
    let (right, bottom) = place(last, low);
    for (k, (name, points, colour)) in curves.iter().enumerate() {
        let colour = PALETTE[*colour];
        area.draw(&PathElement::new(points.iter().copied().filter(|p| p.1 >= low - space).collect::<Vec<_>>(), colour.stroke_width(2)))?;
        let y = bottom - 60 + 24 * k as i32;
        root.draw(&PathElement::new([(right - 150, y), (right - 126, y)], colour.stroke_width(3)))?;
        root.draw(&Text::new((*name).to_owned(), (right - 118, y), text(15, INK, HPos::Left)))?;
    }
    root.present()
}
