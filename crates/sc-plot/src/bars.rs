use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::Result;
use crate::canvas::{colour, legend, legend_height, svg, tick, ticks, width_of};
use crate::style::{INK, LINE, MARGIN, PALE, text};

/// Height of a bar, and of the space between groups of bars.
const BAR: i32 = 16;
const GAP: i32 = 12;
/// Width of the longest bar.
const LENGTH: i32 = 420;

/// Bars that lie side by side: for each group (a metric, a cell type) one for each series (an embedding, a model), with its
/// value at its end. The axis holds 0 and 1. What is not a number has no bar and says so.
///
/// ```
/// let svg = sc_plot::bars("Batches", &["iLISI", "kBET"], &[("X_scVI", vec![0.6, 0.8]), ("X_pca", vec![0.3, f64::NAN])])?;
/// assert!(svg.contains("iLISI") && svg.contains("0.60") && svg.contains("n/a"));
/// # Ok::<(), sc_plot::Error>(())
/// ```
///
/// # Errors
/// None that can be foreseen: it draws into memory.
pub fn bars(title: &str, groups: &[&str], series: &[(&str, Vec<f64>)]) -> Result<String> {
    let values = || series.iter().flat_map(|s| &s.1).filter(|v| v.is_finite());
    let low = values().copied().fold(0.0, f64::min);
    let high = values().copied().fold(1.0, f64::max);
    let names: Vec<&str> = series.iter().map(|s| s.0).collect();
    let left = MARGIN + groups.iter().map(|g| width_of(g)).max().unwrap_or(0) + 12;
    let width = left + LENGTH + 60 + MARGIN;
    // One series needs no names.
    let names = if names.len() > 1 { names } else { Vec::new() };
    let legend_at = 48;
    let top = legend_at + legend_height(&names, width - 2 * MARGIN) + 8;
    let group_height = BAR * series.len().max(1) as i32 + GAP;
    let bottom = top + group_height * groups.len() as i32;
    let x = |v: f64| left + ((v - low) / (high - low) * f64::from(LENGTH)).round() as i32;

    svg((width, bottom + 44), |root| {
        let heading = text(19, INK, HPos::Left);
        root.draw(&Text::new(title.to_owned(), (MARGIN, 28), heading))?;
        legend(root, &names, (MARGIN, legend_at), width - 2 * MARGIN)?;
        let (at, step) = ticks(low, high, 5);
        for v in at {
            root.draw(&PathElement::new([(x(v), top), (x(v), bottom)], LINE))?;
            let style = text(14, PALE, HPos::Center);
            root.draw(&Text::new(tick(v, step), (x(v), bottom + 16), style))?;
        }
        for (k, group) in groups.iter().enumerate() {
            let above = top + group_height * k as i32 + GAP / 2;
            let middle = above + (group_height - GAP) / 2;
            let style = text(15, INK, HPos::Right);
            root.draw(&Text::new((*group).to_owned(), (left - 10, middle), style))?;
            for (s, (_, values)) in series.iter().enumerate() {
                let y = above + BAR * s as i32;
                let value = values.get(k).copied().unwrap_or(f64::NAN);
                let (end, words) = if value.is_finite() {
                    let bar = [(x(value.min(0.0)), y + 1), (x(value.max(0.0)), y + BAR - 1)];
                    root.draw(&Rectangle::new(bar, colour(s).filled()))?;
                    (x(value.max(0.0)), format!("{value:.2}"))
                } else {
                    (x(0.0), "n/a".to_owned())
                };
                let style = text(13, INK, HPos::Left);
                root.draw(&Text::new(words, (end + 6, y + BAR / 2), style))?;
            }
        }
        root.draw(&PathElement::new([(x(0.0), top), (x(0.0), bottom)], PALE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_bar() {
        let series = [("one", vec![0.5, -0.25]), ("two", vec![1.5, f64::NAN])];
        let svg = bars("t", &["a", "b"], &series).unwrap();
        // The ground, two squares of the legend, three bars.
        assert_eq!(svg.matches("<rect").count(), 6);
        for words in ["0.50", "-0.25", "1.50", "n/a", "one", "two"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(bars("t", &[], &[]).is_ok());
    }
}
