//! # sc-plot
//!
//! Scatter plots of embeddings ([`Figure`]), curves of training ([`training()`]), volcano plots ([`Volcano`]) and beeswarms
//! ([`Beeswarm`]) as SVG files; bars ([`bars()`]), curves of calibration ([`calibration()`]) scatter plots along a diagonal
//! ([`identity()`]), lines with intervals ([`lines()`]) and arrows ([`arrows()`]) as the text of SVG. Drawings name a font family and leave the letters to whatever shows them,
//! so that no font has to be installed here.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod arrows;
mod bars;
mod beeswarm;
mod calibration;
mod canvas;
mod identity;
mod lines;
mod scatter;
mod style;
mod training;
mod volcano;

pub use arrows::arrows;
pub use bars::bars;
pub use beeswarm::{Beeswarm, Dot};
pub use calibration::{Coverage, calibration};
pub use identity::{MOST_POINTS, Scale, identity};
pub use lines::{Point, lines};
pub use scatter::Figure;
pub use training::training;
pub use volcano::{Volcano, VolcanoGene, volcanoes};

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, SVGBackend};

/// What drawing may fail with: the file can't be written.
pub type Error = DrawingAreaErrorKind<std::io::Error>;
/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
