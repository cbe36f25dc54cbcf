//! Drawings of what a check found.

use sc_model::Parity;
use sc_plot::Scale;

use super::{Calibration, Compared, GroupAgreement, ModelCheck, Observed};
use crate::Result;
use crate::report::Figure;

/// Raw against generated coefficients of variation.
pub(super) fn cv(m: &ModelCheck, of: &str, raw: &[f64], found: &Compared) -> Result<Figure> {
    let title = format!("CV by {of}: {}", m.name);
    let svg = sc_plot::identity(
        &title,
        ("raw counts", "generated counts"),
        raw,
        &found.values,
        Scale::Log,
    )?;
    let (pearson, r2) = (found.agreement.pearson, found.agreement.r2);
    Ok(Figure::new(
        &svg,
        format!("{title}: raw against generated, Pearson {pearson:.2}"),
    )?
    .caption(format!(
        "Each point is a {of}. Pearson {pearson:.3}, R² {r2:.3}."
    )))
}

pub(super) fn zeros(m: &ModelCheck, raw: &Observed, parity: Parity) -> Result<Figure> {
    let title = match parity {
        Parity::Correct => format!("Zeros by gene: {}", m.name),
        Parity::Upstream => format!("Non-zeros by gene: {}", m.name),
    };
    let svg = sc_plot::identity(
        &title,
        ("raw counts", "generated counts"),
        &raw.zero_fraction,
        &m.zero_fraction.values,
        Scale::Linear,
    )?;
    let mae = m.zero_fraction.agreement.mae;
    Ok(
        Figure::new(&svg, format!("{title}, raw against generated"))?.caption(format!(
            "Each point is a gene. Mean absolute error {mae:.4}."
        )),
    )
}

pub(super) fn sizes(m: &ModelCheck, raw: &Observed) -> Result<Figure> {
    let title = format!("Library sizes: {}", m.name);
    let svg = sc_plot::identity(
        &title,
        ("raw counts", "generated counts"),
        &raw.library_size,
        &m.library_size.values,
        Scale::Log,
    )?;
    let r2 = m.library_size.agreement.r2;
    Ok(
        Figure::new(&svg, format!("{title}, raw against generated"))?
            .caption(format!("Each point is a cell. R² {r2:.3}.")),
    )
}

pub(super) fn calibration(title: &str, curves: &[(&str, &Calibration)]) -> Result<Figure> {
    let curves: Vec<sc_plot::Coverage<'_>> = curves
        .iter()
        .map(|(name, c)| {
            let points = c.expected.iter().copied().zip(c.observed.iter().copied());
            (*name, points.collect())
        })
        .collect();
    let svg = sc_plot::calibration(title, &curves)?;
    let alt = format!("{title}: how much intervals hold beside how much they should");
    Ok(Figure::new(&svg, alt)?
        .caption("On the diagonal a model knows how uncertain it is; below, it is too sure."))
}

/// Bars of what matters most, group by group, the models side by side.
pub(super) fn expression(models: &[ModelCheck]) -> Result<Vec<Figure>> {
    type Of = fn(&GroupAgreement) -> f64;
    let scores: [(&str, Of); 3] = [
        ("Top genes in common (F1)", |g| g.gene_f1),
        ("Log fold changes (Pearson)", |g| g.lfc_pearson),
        ("Finding DE genes (auROC)", |g| g.roc_auc),
    ];
    let groups: Vec<&str> = models
        .first()
        .map(|m| m.de.iter().map(|g| g.group.as_str()).collect())
        .unwrap_or_default();
    scores
        .iter()
        .map(|(title, of)| {
            let series: Vec<(&str, Vec<f64>)> = models
                .iter()
                .map(|m| (m.name.as_str(), m.de.iter().map(of).collect()))
                .collect();
            let svg = sc_plot::bars(title, &groups, &series)?;
            Figure::new(&svg, format!("{title}, by group and model"))
        })
        .collect()
}
