//! Effects of genes and the evidence for them.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::style::{INK, LINE, text};
use crate::{Area, Result};

/// Width and height of a plot.
const PANEL: (u32, u32) = (520, 420);
/// Plots beside each other.
const ACROSS: usize = 3;
/// Genes that are named in each plot, at most.
const NAMED: usize = 10;
/// Size of their letters.
const LETTERS: i32 = 12;
const CALLED: RGBColor = RGBColor(0xCC, 0x33, 0x11);
const OTHER: RGBColor = RGBColor(0x99, 0x99, 0x99);

/// A gene in a [`Volcano`] plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VolcanoGene<'a> {
    /// Its name.
    pub name: &'a str,
    /// How much it changes, to the right; a log fold change, say.
    pub effect: f64,
    /// How sure that is, upwards, from 0.
    pub evidence: f64,
    /// Whether it is coloured.
    pub called: bool,
}

/// A volcano plot: a dot for each gene, its effect to the right and the evidence for it upwards. Genes with a number that is
/// not finite are left out.
///
/// ```
/// use sc_plot::{Volcano, VolcanoGene};
/// let gene = |name, effect, evidence, called| VolcanoGene { name, effect, evidence, called };
/// let plot = Volcano {
///     title: "B against T".into(),
///     x: "log2 fold change",
///     y: "-log10 P(no change)",
///     genes: vec![gene("CD79A", 4.1, 3.2, true), gene("ACTB", 0.1, 0.2, false)],
/// };
/// let svg = sc_plot::volcanoes(&[plot])?;
/// assert!(svg.starts_with("<svg") && svg.contains("CD79A") && !svg.contains("ACTB"));
/// # Ok::<(), sc_plot::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Volcano<'a> {
    /// Above the plot.
    pub title: String,
    /// What effects are.
    pub x: &'a str,
    /// What evidence is.
    pub y: &'a str,
    /// The genes. Of those that are called the first ten are named, where there is room.
    pub genes: Vec<VolcanoGene<'a>>,
}

/// Draws plots side by side, three in a row; gives the text of an SVG file.
///
/// # Errors
/// If a plot can't be drawn.
pub fn volcanoes(plots: &[Volcano<'_>]) -> Result<String> {
    let across = plots.len().clamp(1, ACROSS);
    let down = plots.len().div_ceil(across).max(1);
    let size = (PANEL.0 * across as u32, PANEL.1 * down as u32);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, plot) in root.split_evenly((down, across)).iter().zip(plots) {
            plot.draw(panel)?;
        }
        root.present()?;
    }
    Ok(svg)
}

impl Volcano<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let finite = |g: &&VolcanoGene<'_>| g.effect.is_finite() && g.evidence.is_finite();
        let genes: Vec<&VolcanoGene<'_>> = self.genes.iter().filter(finite).collect();
        let widest = genes.iter().map(|g| g.effect.abs()).fold(0.1, f64::max) * 1.15;
        let highest = genes.iter().map(|g| g.evidence).fold(0.1, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, text(16, INK, HPos::Left))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(-widest..widest, 0.0..highest)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(LINE)
            .label_style(text(12, INK, HPos::Left))
            .axis_desc_style(text(13, INK, HPos::Left))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        let dot = |gene: &&VolcanoGene<'_>| {
            let colour = if gene.called { CALLED } else { OTHER };
            Circle::new((gene.effect, gene.evidence), 2, colour.mix(0.7).filled())
        };
        // Called ones on top.
        let (called, others): (Vec<_>, Vec<_>) = genes.iter().copied().partition(|g| g.called);
        chart.draw_series(others.iter().map(dot))?;
        chart.draw_series(called.iter().map(dot))?;
        let named = called.iter().take(NAMED).map(|g| {
            let place = chart.backend_coord(&(g.effect, g.evidence));
            (g.name, place)
        });
        names(area, named.collect())
    }
}

/// Writes names beside places of the whole picture: to the right, or to the left where that would leave the plot; a name
/// that would cover an earlier one is left out.
fn names(area: &Area<'_>, named: Vec<(&str, (i32, i32))>) -> Result<()> {
    let (columns, rows) = area.get_pixel_range();
    let mut taken: Vec<[i32; 4]> = Vec::new();
    for (name, (x, y)) in named {
        // A letter is about 0.6 times as wide as high.
        let width = (name.chars().count() as i32 * LETTERS * 6).div_euclid(10) + 2;
        let (left, side) = match x + 5 + width < columns.end {
            true => (x + 5, HPos::Left),
            false => (x - 5 - width, HPos::Right),
        };
        let mine = [left, y - LETTERS / 2, left + width, y + LETTERS / 2];
        let covers = |other: &[i32; 4]| {
            let [l, t, r, b] = *other;
            mine[0] < r && l < mine[2] && mine[1] < b && t < mine[3]
        };
        if taken.iter().any(covers) {
            continue;
        }
        taken.push(mine);
        let at = match side {
            HPos::Right => x - 5,
            _ => left,
        };
        let at = (at - columns.start, y - rows.start);
        area.draw(&Text::new(name.to_owned(), at, text(LETTERS, INK, side)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(genes: Vec<VolcanoGene<'_>>) -> Volcano<'_> {
        Volcano {
            title: "one < two".into(),
            x: "effect",
            y: "evidence",
            genes,
        }
    }

    fn gene(name: &str, effect: f64, called: bool) -> VolcanoGene<'_> {
        VolcanoGene {
            name,
            effect,
            evidence: 1.0,
            called,
        }
    }

    #[test]
    fn a_dot_for_each_gene_with_numbers() {
        let genes = vec![
            gene("up", 2.0, true),
            gene("quiet", 0.0, false),
            gene("missing", f64::NAN, true),
            gene("endless", f64::INFINITY, true),
        ];
        let svg = volcanoes(&[plot(genes.clone()), plot(genes)]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("\nup\n").count(), 2);
        assert!(!svg.contains("quiet") && !svg.contains("missing"));
        assert!(svg.contains("one &lt; two"));
        assert!(svg.contains(r#"width="1040" height="420""#), "{svg}");
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let genes = vec![
            gene("first", 2.0, true),
            gene("second", 2.0, true),
            gene("far", -2.0, true),
        ];
        let svg = volcanoes(&[plot(genes)]).unwrap();
        assert!(svg.contains("first") && svg.contains("far") && !svg.contains("second"));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_picture() {
        for plots in [vec![], vec![plot(Vec::new())]] {
            assert!(volcanoes(&plots).unwrap().starts_with("<svg"));
        }
    }
}
