//! What `sc check` reports besides what was found: what was checked, where the cells lie, the tables of a hub card.

use std::path::Path;

use ndarray::{Array2, Axis};
use sc_criticism::ppc::{Agreement, Checked};
use sc_criticism::report::{Figure, Report, Section};
use sc_data::AnnData;
use sc_latent::hub::{CvScores, CvTable, DeRow, Metrics};

use crate::error::{Error, Result};
use crate::places::{self, labels};

/// Names of the sets of cells.
pub(crate) const TRAINING: &str = "training cells";
pub(crate) const VALIDATION: &str = "validation cells";

/// More cells than these make a drawing that is slow to show.
const MOST_DRAWN: usize = 10_000;

/// What was checked.
pub(crate) struct Subject<'a> {
    pub(crate) data: &'a AnnData,
    pub(crate) path: &'a Path,
    pub(crate) batch_key: Option<String>,
    pub(crate) labels_key: Option<&'a str>,
    pub(crate) umap: Option<(String, Array2<f32>)>,
    pub(crate) samples: usize,
    pub(crate) seed: u64,
    pub(crate) upstream: bool,
}

/// The places to draw: of obsm `key`, or of X_umap if there is one.
pub(crate) fn places(
    data: &AnnData,
    path: &Path,
    key: Option<&str>,
) -> Result<Option<(String, Array2<f32>)>> {
    const USUAL: &str = "X_umap";
    let key = match key {
        Some(key) => key,
        None if data.obsm.contains_key(USUAL) => USUAL,
        None => return Ok(None),
    };
    let found = places::places(data, path, key)?;
    if found.ncols() < 2 {
        return Err(Error::Message(format!(
            "{}: obsm {key} has {} columns; a drawing needs 2",
            path.display(),
            found.ncols()
        )));
    }
    Ok(Some((key.to_owned(), found)))
}

impl Subject<'_> {
    pub(crate) fn report(&self, checked: &Checked) -> Result<Report> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut report = Report::new(format!("Posterior predictive checks on {name}"));
        let models: Vec<&str> = checked.models.iter().map(|m| m.name.as_str()).collect();
        report
            .fact("models", models.join(", "))
            .fact("cells", checked.n_cells)
            .fact("genes", checked.n_genes)
            .fact("samples of each cell", self.samples)
            .fact("seed", self.seed)
            .fact("version", concat!("sc ", env!("CARGO_PKG_VERSION")));
        if self.upstream {
            report.fact("parity", "as scvi-tools computes it");
        }
        checked.add_to(&mut report)?;
        if let Some((key, places)) = &self.umap {
            let keys: Vec<&str> = [self.batch_key.as_deref(), self.labels_key]
                .into_iter()
                .flatten()
                .collect();
            let section = report.section(format!("Cells in {key}"));
            draw(section, (self.data, self.path), &keys, places)?;
        }
        Ok(report)
    }
}

/// The cells in the colours of some columns of obs: batch and label.
pub(crate) fn draw(
    section: &mut Section,
    (data, path): (&AnnData, &Path),
    keys: &[&str],
    places: &Array2<f32>,
) -> Result<()> {
    let n = places.nrows();
    let step = n.div_ceil(MOST_DRAWN).max(1);
    let some: Vec<usize> = (0..n).step_by(step).collect();
    let places = places.select(Axis(0), &some);
    for key in keys {
        let column = labels(data, path, key)?.select(&some);
        let figure = sc_plot::Figure::new("", key).panel("", &places);
        let svg = figure
            .svg_by_label(&column)
            .map_err(|e| Error::Message(format!("cannot draw the cells by {key}: {e}")))?;
        let figure = Figure::new(&svg, format!("Cells in the plane, coloured by {key}"))?;
        section.figure(match step {
            1 => figure,
            _ => figure.caption(format!("{} of {n} cells are drawn.", some.len())),
        });
    }
    Ok(())
}

/// The tables of a hub card, of the first model.
pub(crate) fn card(checked: &Checked, upstream: bool) -> Metrics {
    let mut metrics = Metrics::default();
    let Some(m) = checked.models.first() else {
        return metrics;
    };
    let scores = |a: &Agreement| CvScores {
        mean_absolute_error: a.mae,
        pearson: a.pearson,
        spearman: a.spearman,
        r2: if upstream { a.r2_swapped } else { a.r2 },
    };
    let of = |set: &str| {
        let found = m.cv_cell_by_set.iter().find(|s| s.0 == set);
        found.map(|s| scores(&s.1))
    };
    metrics.cell_wise_cv = Some(CvTable {
        training: of(TRAINING).unwrap_or_else(|| scores(&m.cv_cell.agreement)),
        validation: of(VALIDATION),
    });
    metrics.gene_wise_cv = Some(CvTable {
        training: scores(&m.cv_gene.agreement),
        validation: None,
    });
    metrics.diff_exp =
        m.de.iter()
            .map(|g| DeRow {
                group: g.group.clone(),
                gene_f1: g.gene_f1,
                lfc_mae: g.lfc_mae,
                lfc_pearson: g.lfc_pearson,
                lfc_spearman: g.lfc_spearman,
                roc_auc: g.roc_auc,
                pr_auc: g.pr_auc,
                n_cells: g.n_cells as f64,
            })
            .collect();
    metrics
}
