//! Orders of convergence of all schemes over a unit of time, against theory; `strong` on Brownian paths that are drawn once, `weak`
//! without any random number.

mod strong;
mod weak;

use std::ops::RangeInclusive;

use super::*;

/// What theory says about a slope.
#[derive(Clone, Copy)]
enum Order {
    /// It is this, up to the second number.
    Is(f64, f64),
    /// It is no less.
    AtLeast(f64),
}

/// The errors of a scheme for one equation, from the coarsest step to the finest.
struct Curve {
    scheme: Scheme,
    equation: &'static str,
    order: Order,
    /// Steps are 2^-k for these k.
    halvings: RangeInclusive<u32>,
    errors: Vec<f64>,
}

impl Curve {
    fn name(&self) -> String {
        format!("{:?}, {}", self.scheme, self.equation)
    }

    /// The logarithms to base 2 of steps and errors.
    fn points(&self) -> Vec<(f64, f64)> {
        let steps = self.halvings.clone().map(|k| -f64::from(k));
        steps.zip(self.errors.iter().map(|e| e.log2())).collect()
    }

    /// The slope of the line through these points, by least squares.
    fn slope(&self) -> f64 {
        let points = self.points();
        let n = points.len() as f64;
        let (mx, my) = points
            .iter()
            .fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
        let cross: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
        let square: f64 = points.iter().map(|(x, _)| (x - mx).powi(2)).sum();
        cross / square
    }

    #[allow(
        clippy::print_stdout,
        reason = "the slopes that docs show: cargo test -- --nocapture"
    )]
    fn check(&self) {
        let (name, slope) = (self.name(), self.slope());
        let (finest, k) = (self.errors.last().unwrap(), self.halvings.end());
        println!("{name}: slope {slope:.3}, error {finest:.2e} in 2^{k} steps");
        let fits = match self.order {
            Order::Is(order, margin) => (slope - order).abs() < margin,
            Order::AtLeast(order) => slope > order - 0.1,
        };
        assert!(fits, "{name}: {slope}");
    }
}

/// The schedule of a unit of time in 2^k steps.
fn halved(k: u32) -> Schedule {
    Schedule::grid(&[0.0, 1.0], 0.5f64.powi(k as i32)).unwrap()
}

/// Draws `docs/sde-strong-orders.svg` and `docs/sde-weak-orders.svg`:
/// `cargo test --release -p sc-sde -p sc-cli --lib -- --ignored drawn_for_the_docs`.
#[test]
#[ignore = "writes into docs/"]
fn drawn_for_the_docs() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (kind, curves) in [("strong", strong::curves()), ("weak", weak::curves())] {
        let named: Vec<(String, Vec<sc_plot::Point>)> = curves
            .iter()
            .map(|c| (c.name(), c.points().into_iter().map(point).collect()))
            .collect();
        let series: Vec<_> = named.iter().map(|(n, p)| (n.as_str(), p.clone())).collect();
        let axes = ("log2 of the step", "log2 of the error");
        let svg = sc_plot::lines(&format!("{kind} errors"), axes, &series).unwrap();
        std::fs::write(docs.join(format!("sde-{kind}-orders.svg")), svg).unwrap();
    }
}

fn point((x, y): (f64, f64)) -> sc_plot::Point {
    sc_plot::Point {
        x,
        y,
        interval: None,
    }
}
