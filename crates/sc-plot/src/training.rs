use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use sc_model::train::History;

use crate::Result;
use crate::style::{INK, LINE, MARGIN, PALE, PALETTE, text};

/// The ELBO of training and validation cells after each epoch, higher is better, and the epoch from which the KL term
/// counts in full.
///
/// # Errors
/// If the file can't be written.
pub fn training(path: &Path, title: &str, history: &History, warmup_ends: usize) -> Result<()> {
    // The history keeps what is minimised: the negative ELBO.
    let curve = |name: &str| -> Vec<(f64, f64)> {
        history
            .get(name)
            .iter()
            .map(|&(epoch, v)| (epoch as f64 + 1.0, -v))
            .collect()
    };
    let curves = [
        ("training cells", curve("elbo_train"), 0),
        ("validation cells", curve("elbo_validation"), 3),
    ];
    let last = curves
        .iter()
        .flat_map(|c| &c.1)
        .map(|p| p.0)
        .fold(1.0, f64::max);
    // The first epochs come from far below; the range is that of what follows.
    let later = || {
        curves
            .iter()
            .flat_map(|c| &c.1)
            .filter(|p| p.0 > 0.03 * last)
            .map(|p| p.1)
    };
    let (low, high) = (
        later().fold(f64::INFINITY, f64::min),
        later().fold(f64::NEG_INFINITY, f64::max),
    );
    let space = 0.06 * (high - low);

    let root = SVGBackend::new(path, (760, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(
        title.to_owned(),
        (MARGIN, 28),
        text(21, INK, HPos::Left),
    ))?;
    let mut chart = ChartBuilder::on(&root)
        .margin_top(56)
        .margin_left(MARGIN)
        .margin_right(MARGIN)
        .margin_bottom(8)
        .x_label_area_size(46)
        .y_label_area_size(64)
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
    chart.draw_series([PathElement::new(
        [(warmup, low - space), (warmup, high + space)],
        PALE,
    )])?;
    let (area, place) = (chart.plotting_area(), |x, y| chart.backend_coord(&(x, y)));
    let (x, y) = place(warmup, low);
    root.draw(&Text::new(
        "KL term counts in full",
        (x + 8, y),
        text(14, PALE, HPos::Left),
    ))?;
    let (right, bottom) = place(last, low);
    for (k, (name, points, colour)) in curves.iter().enumerate() {
        let colour = PALETTE[*colour];
        area.draw(&PathElement::new(
            points
                .iter()
                .copied()
                .filter(|p| p.1 >= low - space)
                .collect::<Vec<_>>(),
            colour.stroke_width(2),
        ))?;
        let y = bottom - 60 + 24 * k as i32;
        root.draw(&PathElement::new(
            [(right - 150, y), (right - 126, y)],
            colour.stroke_width(3),
        ))?;
        root.draw(&Text::new(
            (*name).to_owned(),
            (right - 118, y),
            text(15, INK, HPos::Left),
        ))?;
    }
    root.present()
}
