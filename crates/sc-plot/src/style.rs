//! Colours and letters.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Paul Tol's "muted" scheme, then his "vibrant" one: told apart by readers with any kind of colour vision.
pub(crate) const PALETTE: [RGBColor; 15] = [
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
pub(crate) const VIRIDIS: [(u8, u8, u8); 6] = [
    (68, 1, 84),
    (65, 68, 135),
    (42, 120, 142),
    (34, 168, 132),
    (122, 209, 81),
    (253, 231, 37),
];

pub(crate) const FONT: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const PALE: RGBColor = RGBColor(0x77, 0x77, 0x77);
pub(crate) const LINE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);
/// Space around things.
pub(crate) const MARGIN: i32 = 24;

/// Dark blue for low, yellow for high: `share` from 0 to 1.
pub(crate) fn viridis(share: f64) -> RGBColor {
    let last = VIRIDIS.len() - 1;
    let at = if share.is_finite() {
        share.clamp(0.0, 1.0) * last as f64
    } else {
        0.0
    };
    let k = (at as usize).min(last - 1);
    let t = at - k as f64;
    let between = |a: u8, b: u8| (f64::from(a) + t * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (VIRIDIS[k], VIRIDIS[k + 1]);
    RGBColor(between(a.0, b.0), between(a.1, b.1), between(a.2, b.2))
}

/// Text of about so many pixels; plotters makes SVG text smaller by 1.24.
pub(crate) fn text(size: i32, colour: RGBColor, h: HPos) -> TextStyle<'static> {
    let mut style = TextStyle::from((FONT, f64::from(size) * 1.24)).pos(Pos::new(h, VPos::Center));
    style.color = colour.to_backend_color();
    style
}
