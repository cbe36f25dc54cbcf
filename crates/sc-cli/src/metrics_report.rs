//! The report of `sc metrics`.

use std::path::Path;

use sc_criticism::integration::{Aggregate, Kind, Metric, Scores};
use sc_criticism::report::{Figure, Report, Section, Table};
use sc_data::AnnData;

use crate::check_report::{self, draw};
use crate::error::{Error, Result};

/// The metrics of several embeddings of the same cells.
pub(crate) struct Compared<'a> {
    pub(crate) names: Vec<String>,
    pub(crate) found: Vec<Scores>,
    /// For each embedding those of scIB and of scGPT.
    pub(crate) totals: Vec<Vec<Aggregate>>,
    pub(crate) data: &'a AnnData,
    pub(crate) path: &'a Path,
    pub(crate) batch_key: &'a str,
    pub(crate) label_key: &'a str,
    /// The obsm from before integration.
    pub(crate) before: Option<String>,
    /// The rows of the cells that were judged, unless these are all.
    pub(crate) rows: Option<&'a [usize]>,
    pub(crate) seed: u64,
}

impl Compared<'_> {
    /// The metrics that were asked for, of biology and of batches.
    pub(crate) fn by_kind(&self) -> [(&'static str, Vec<Metric>); 2] {
        let of = |kind: Kind| -> Vec<Metric> {
            let asked = self.found.first().into_iter().flat_map(Scores::iter);
            asked.map(|m| m.0).filter(|m| m.kind() == kind).collect()
        };
        [
            ("kinds of cells kept apart", of(Kind::Bio)),
            ("batches mixed", of(Kind::Batch)),
        ]
    }

    /// The totals of all embeddings, with their names.
    pub(crate) fn total_rows(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let mut rows = Vec::new();
        let recipes = self.totals.first().map_or(0, Vec::len);
        for r in 0..recipes {
            let name = self.totals[0][r].name;
            let (bio, batch) = match name {
                "scGPT" => ("AvgBIO", "AvgBATCH"),
                _ => ("bio", "batch"),
            };
            let column = |of: fn(&Aggregate) -> Option<f64>| {
                self.totals.iter().map(|t| of(&t[r])).collect::<Vec<_>>()
            };
            rows.push((format!("{name} {bio}"), column(|a| a.bio)));
            rows.push((format!("{name} {batch}"), column(|a| a.batch)));
            rows.push((format!("{name} total"), column(|a| a.total)));
        }
        rows
    }

    /// Why numbers are missing, and what else to know.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, scores) in self.names.iter().zip(&self.found) {
            for (metric, value) in scores.iter() {
                if let Err(why) = value {
                    lines.push(format!("{name}: no {}: {why}", metric.name()));
                }
            }
        }
        for total in self.totals.first().into_iter().flatten() {
            if !total.left_out.is_empty() {
                let names: Vec<&str> = total.left_out.iter().map(|m| m.name()).collect();
                lines.push(format!(
                    "{} totals are without: {}",
                    total.name,
                    names.join(", ")
                ));
            }
        }
        lines.extend(
            self.found
                .first()
                .into_iter()
                .flat_map(|s| s.notes().to_vec()),
        );
        lines
    }
}

pub(crate) fn report(compared: &Compared<'_>) -> Result<Report> {
    let name = compared.path.file_name().unwrap_or_default();
    let mut report = Report::new(format!("Embeddings of {}", name.to_string_lossy()));
    let cells = compared.rows.map_or(compared.data.n_obs(), <[usize]>::len);
    report
        .fact("embeddings", compared.names.join(", "))
        .fact("cells", cells)
        .fact("batches", compared.batch_key)
        .fact("labels", compared.label_key)
        .fact(
            "before integration",
            compared.before.as_deref().unwrap_or("not given"),
        )
        .fact("seed", compared.seed)
        .fact("version", concat!("sc ", env!("CARGO_PKG_VERSION")));
    totals(report.section("Totals"), compared)?;
    for (title, metrics) in compared.by_kind() {
        let mut heading = title.to_owned();
        heading[..1].make_ascii_uppercase();
        kind(report.section(heading), compared, &metrics)?;
    }
    let remarks = compared.remarks();
    if !remarks.is_empty() {
        let section = report.section("To know when reading this");
        for line in remarks {
            section.text(line);
        }
    }
    if let Some((key, places)) = check_report::places(compared.data, compared.path, None)? {
        let keys = [compared.batch_key, compared.label_key];
        let section = report.section(format!("Cells in {key}"));
        draw(section, (compared.data, compared.path), &keys, &places)?;
    }
    Ok(report)
}

fn totals(section: &mut Section, compared: &Compared<'_>) -> Result<()> {
    let rows = compared.total_rows();
    let mut table =
        Table::new("Means of metrics", rows.iter().map(|r| r.0.clone())).of("embedding");
    for (e, name) in compared.names.iter().enumerate() {
        table = table.row(name, rows.iter().map(|r| r.1[e]));
    }
    section
        .text("Higher is better. A total is 0.6 times the score of biology and 0.4 times that of batches. Metrics that one of the embeddings lacks are left out of all totals.")
        .table(table);
    let groups: Vec<&str> = rows.iter().map(|r| r.0.as_str()).collect();
    let values = |e: usize| rows.iter().map(|r| r.1[e].unwrap_or(f64::NAN)).collect();
    section.figure(bars("Totals", &groups, compared, &values)?);
    Ok(())
}

fn kind(section: &mut Section, compared: &Compared<'_>, metrics: &[Metric]) -> Result<()> {
    let names: Vec<&str> = metrics.iter().map(|m| m.name()).collect();
    let mut table = Table::new("Metrics", names.iter().copied()).of("embedding");
    for (name, scores) in compared.names.iter().zip(&compared.found) {
        table = table.row(name, metrics.iter().map(|&m| scores.get(m)));
    }
    section.table(table);
    let values = |e: usize| {
        let each = metrics.iter().map(|&m| compared.found[e].get(m));
        each.map(|v| v.unwrap_or(f64::NAN)).collect()
    };
    section.figure(bars("Metrics", &names, compared, &values)?);
    Ok(())
}

/// Bars of the embeddings side by side.
fn bars(
    title: &str,
    groups: &[&str],
    compared: &Compared<'_>,
    values: &dyn Fn(usize) -> Vec<f64>,
) -> Result<Figure> {
    let series: Vec<(&str, Vec<f64>)> = compared
        .names
        .iter()
        .enumerate()
        .map(|(e, name)| (name.as_str(), values(e)))
        .collect();
    let svg = sc_plot::bars(title, groups, &series)
        .map_err(|e| Error::Message(format!("cannot draw bars: {e}")))?;
    Ok(Figure::new(
        &svg,
        format!("{title} of {} as bars", compared.names.join(", ")),
    )?)
}
