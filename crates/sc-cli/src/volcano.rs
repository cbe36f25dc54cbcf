//! Volcano plots of differential expression.

use std::io::Write;
use std::path::Path;

use sc_latent::de::{DeComparison, DeTable, GeneStatistics};
use sc_model::files::write_atomic;
use sc_plot::{Volcano, VolcanoGene, volcanoes};

use crate::error::{Error, Result};

/// Draws can't tell probabilities below about this.
const LEAST_PROBABILITY: f64 = 1e-4;

/// Writes a plot of each comparison, side by side, as SVG.
pub(crate) fn write(path: &Path, table: &DeTable) -> Result<()> {
    let plots: Vec<Volcano<'_>> = table.comparisons.iter().map(|c| plot(table, c)).collect();
    let svg = volcanoes(&plots)
        .map_err(|e| Error::Message(format!("{}: cannot draw: {e}", path.display())))?;
    Ok(write_atomic(path, |f| f.write_all(svg.as_bytes()))?)
}

/// The genes of a comparison, the best first.
fn plot<'a>(table: &'a DeTable, c: &DeComparison) -> Volcano<'a> {
    let (effects, evidence, (x, y)): (Vec<f64>, Vec<f64>, _) = match &c.statistics {
        GeneStatistics::Change(s) => {
            let sure = |q: &f64| -q.max(LEAST_PROBABILITY).log10();
            let evidence = s.proba_not_de.iter().map(sure).collect();
            let axes = ("mean log2 fold change", "-log10 P(no change)");
            (s.lfc_mean.clone(), evidence, axes)
        }
        GeneStatistics::Vanilla(s) => {
            let both = s.scale1.iter().zip(&s.scale2);
            let evidence = s.bayes_factor.iter().map(|b| b.abs()).collect();
            let axes = ("log2 of the ratio of mean expression", "|ln Bayes factor|");
            (both.map(|(a, b)| (a / b).log2()).collect(), evidence, axes)
        }
        _ => (Vec::new(), Vec::new(), ("", "")),
    };
    let called = |row: usize| c.is_de.as_ref().is_some_and(|v| v.get(row) == Some(&true));
    let rows = effects.into_iter().zip(evidence).zip(&c.genes).enumerate();
    let gene = |(row, ((effect, evidence), &g)): (usize, ((f64, f64), &usize))| VolcanoGene {
        name: table.gene_names().get(g).map_or("", String::as_str),
        effect,
        evidence,
        called: called(row),
    };
    Volcano {
        title: c.name(),
        x,
        y,
        genes: rows.map(gene).collect(),
    }
}
