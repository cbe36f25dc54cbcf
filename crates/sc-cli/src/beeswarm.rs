//! Fold changes of neighbourhoods, a row of dots for each label.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sc_latent::milo::{DaTable, MIXED, MIXED_BELOW, Row};

type Failure = DrawingAreaErrorKind<std::io::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const LINE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);
/// Of neighbourhoods without a change, of falling and of rising ones.
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

/// The picture as SVG. Coloured are neighbourhoods up to the spatial false discovery rate `alpha`; a neighbourhood with less
/// than 60 % of one label counts as mixed.
pub(crate) fn beeswarm(table: &DaTable, alpha: f64) -> Result<String, Failure> {
    let groups = groups(table);
    // A letter is about half as wide as high.
    let longest = groups
        .iter()
        .map(|g| g.0.chars().count())
        .max()
        .unwrap_or(0);
    let left = 30 + 8 * longest.min(40) as i32;
    let height = TOP + ROW * groups.len().max(1) as i32 + BOTTOM;
    let reach = table
        .rows
        .iter()
        .filter(|r| r.log_fc.is_finite())
        .fold(0.5f64, |m, r| m.max(r.log_fc.abs()))
        * 1.05;
    let x = |v: f64| left + ((v / reach + 1.0) / 2.0 * f64::from(WIDTH - left - 30)) as i32;

    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("{}, spatial FDR {alpha}", table.tested);
        write(&root, &title, (left, TOP / 2), 17, HPos::Left)?;
        axis(&root, reach, &x, height - BOTTOM)?;
        for (k, (name, rows)) in groups.iter().enumerate() {
            let middle = TOP + ROW * k as i32 + ROW / 2;
            write(&root, name, (left - 12, middle), 14, HPos::Right)?;
            for (row, place) in swarm(rows, &x) {
                let colour = match row {
                    r if r.spatial_fdr > alpha || r.spatial_fdr.is_nan() => QUIET,
                    r if r.log_fc < 0.0 => FALLING,
                    _ => RISING,
                };
                let at = (place.0, middle + place.1);
                root.draw(&Circle::new(at, DOT, colour.filled()))?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

/// The tested neighbourhoods by label, labels in alphabetical order, mixed ones last.
fn groups(table: &DaTable) -> Vec<(String, Vec<&Row>)> {
    let mut groups: std::collections::BTreeMap<(bool, &str), Vec<&Row>> =
        std::collections::BTreeMap::new();
    for row in table.rows.iter().filter(|r| r.log_fc.is_finite()) {
        let label = match (&row.annotation, row.fraction) {
            (Some(_), Some(f)) if f < MIXED_BELOW => MIXED,
            (Some(label), _) => label,
            (None, Some(_)) => "no label",
            (None, None) => "",
        };
        groups.entry((label == MIXED, label)).or_default().push(row);
    }
    groups
        .into_iter()
        .map(|((_, label), rows)| (label.to_owned(), rows))
        .collect()
}

/// The dots of a row: their place along the axis, and beside each other where they would overlap.
fn swarm<'a>(rows: &[&'a Row], x: &impl Fn(f64) -> i32) -> Vec<(&'a Row, (i32, i32))> {
    let mut columns: std::collections::BTreeMap<i32, Vec<&Row>> = std::collections::BTreeMap::new();
    for row in rows {
        columns
            .entry(x(row.log_fc) / (2 * DOT))
            .or_default()
            .push(row);
    }
    let mut dots = Vec::with_capacity(rows.len());
    for column in columns.values() {
        let room = f64::from(ROW - 4 * DOT);
        let step = (f64::from(2 * DOT)).min(room / column.len() as f64);
        for (k, row) in column.iter().enumerate() {
            // In the middle first, then alternately above and below.
            let side = if k % 2 == 0 { 1.0 } else { -1.0 };
            let y = side * k.div_ceil(2) as f64 * step;
            dots.push((*row, (x(row.log_fc), y as i32)));
        }
    }
    dots
}

fn axis(root: &Area<'_>, reach: f64, x: &impl Fn(f64) -> i32, bottom: i32) -> Result<(), Failure> {
    let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|s| reach / s <= 6.0)
        .unwrap_or(reach);
    let n = (reach / step) as i32;
    for k in -n..=n {
        let at = x(f64::from(k) * step);
        let line = PathElement::new(
            [(at, TOP - 8), (at, bottom)],
            LINE.stroke_width(if k == 0 { 2 } else { 1 }),
        );
        root.draw(&line)?;
        let value = format!("{}", (f64::from(k) * step * 10.0).round() / 10.0);
        write(root, &value, (at, bottom + 16), 13, HPos::Center)?;
    }
    write(
        root,
        "log2 fold change",
        (x(0.0), bottom + 42),
        14,
        HPos::Center,
    )
}

/// Text of about so many pixels; plotters makes SVG text smaller by 1.24.
fn write(root: &Area<'_>, text: &str, at: (i32, i32), size: i32, h: HPos) -> Result<(), Failure> {
    let mut style = TextStyle::from((FONT, f64::from(size) * 1.24)).pos(Pos::new(h, VPos::Center));
    style.color = INK.to_backend_color();
    root.draw(&Text::new(text, at, style))
}
