//! Volcano plots of differential expression.

use std::io::Write;
use std::path::Path;

use plotters::prelude::*;
use sc_latent::de::{DeComparison, DeTable, GeneStatistics};
use sc_model::files::write_atomic;

use crate::error::{Error, Result};

/// Width and height of the plot of one comparison.
const PANEL: (u32, u32) = (520, 420);
/// Plots beside each other.
const ACROSS: usize = 3;
/// Genes that are named in each plot.
const NAMED: usize = 10;

/// A gene in a plot.
struct Point<'a> {
    x: f64,
    y: f64,
    called: bool,
    name: &'a str,
}

/// Writes a plot of each comparison, side by side, as SVG.
pub(crate) fn write(path: &Path, table: &DeTable) -> Result<()> {
    let across = table.comparisons.len().clamp(1, ACROSS);
    let down = table.comparisons.len().div_ceil(across).max(1);
    let size = (PANEL.0 * across as u32, PANEL.1 * down as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(failed).and_then(|()| {
            let panels = area.split_evenly((down, across));
            let mut both = panels.iter().zip(&table.comparisons);
            both.try_for_each(|(panel, c)| draw(panel, table, c))
        });
        drawn?;
        area.present().map_err(failed)?;
    }
    Ok(write_atomic(path, |f| f.write_all(svg.as_bytes()))?)
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Message(format!("cannot draw the plot: {e}"))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, table: &DeTable, c: &DeComparison) -> Result<()> {
    let (points, labels) = points(table, c);
    let widest = points.iter().map(|p| p.x.abs()).fold(0.1, f64::max) * 1.15;
    let highest = points.iter().map(|p| p.y).fold(0.1, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(c.name(), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(-widest..widest, 0.0..highest)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(labels.0)
        .y_desc(labels.1)
        .draw()
        .map_err(failed)?;
    let grey = RGBColor(150, 150, 150).mix(0.6).filled();
    let red = RGBColor(200, 40, 40).mix(0.8).filled();
    let dot = |p: &Point<'_>| Circle::new((p.x, p.y), 2, if p.called { red } else { grey });
    chart.draw_series(points.iter().map(dot)).map_err(failed)?;
    let named = points.iter().take(NAMED).filter(|p| p.called);
    let style = ("sans-serif", 11).into_font().color(&BLACK);
    let text = |p: &Point<'_>| Text::new(p.name.to_owned(), (p.x, p.y), style.clone());
    chart.draw_series(named.map(text)).map_err(failed)?;
    Ok(())
}

/// The genes of a comparison, the best first, and what the axes show.
fn points<'a>(
    table: &'a DeTable,
    c: &DeComparison,
) -> (Vec<Point<'a>>, (&'static str, &'static str)) {
    let (x, y, labels): (Vec<f64>, Vec<f64>, _) = match &c.statistics {
        GeneStatistics::Change(s) => (
            s.lfc_mean.clone(),
            // Draws can't tell probabilities below about 1e-4.
            s.proba_not_de
                .iter()
                .map(|q| -q.max(1e-4).log10())
                .collect(),
            ("mean log2 fold change", "-log10 P(no change)"),
        ),
        GeneStatistics::Vanilla(s) => (
            s.scale1
                .iter()
                .zip(&s.scale2)
                .map(|(a, b)| (a / b).log2())
                .collect(),
            s.bayes_factor.iter().map(|b| b.abs()).collect(),
            ("log2 of the ratio of mean expression", "|ln Bayes factor|"),
        ),
        _ => (Vec::new(), Vec::new(), ("", "")),
    };
    let called = |row: usize| c.is_de.as_ref().is_some_and(|v| v.get(row) == Some(&true));
    let both = x.into_iter().zip(y).zip(&c.genes).enumerate();
    let point = |(row, ((x, y), &g)): (usize, ((f64, f64), &usize))| Point {
        x,
        y,
        called: called(row),
        name: table.gene_names().get(g).map_or("", String::as_str),
    };
    let finite = |p: &Point<'_>| p.x.is_finite() && p.y.is_finite();
    (both.map(point).filter(finite).collect(), labels)
}
