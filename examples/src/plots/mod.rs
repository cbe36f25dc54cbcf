//! Scatter plots of embeddings and curves of training, as SVG. The files name a font family and leave the letters to
//! whatever shows them, so that no font has to be installed here.

mod scatter;
mod style;
mod training;

pub use scatter::Figure;
pub use training::training;

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, SVGBackend};

/// What drawing may fail with: the file can't be written.
pub type Error = DrawingAreaErrorKind<std::io::Error>;
/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
