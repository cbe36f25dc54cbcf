use std::io::Write;

use sc_data::{AnnData, Column, Table, Uns};
use serde::Serialize;

use super::{Annotations, Neighbourhoods};
use crate::Result;

/// One neighbourhood and what the test says about it. Numbers of neighbourhoods that could not be tested are NaN.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The row number of the index cell.
    pub index_cell: usize,
    /// Its name, if the table was given names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of cells.
    pub size: usize,
    /// The distance of the index cell to the furthest of its nearest neighbours.
    pub kth_distance: f64,
    /// The tested coefficient, log2: positive where abundance rises.
    #[serde(rename = "logFC")]
    pub log_fc: f64,
    /// Mean abundance, log2 of counts per million.
    #[serde(rename = "logCPM")]
    pub log_cpm: f64,
    /// The quasi-likelihood F statistic.
    #[serde(rename = "F")]
    pub f: f64,
    /// Its p-value.
    #[serde(rename = "PValue")]
    pub p_value: f64,
    /// The Benjamini-Hochberg false discovery rate.
    #[serde(rename = "FDR")]
    pub fdr: f64,
    /// The false discovery rate with neighbourhoods weighted by their density.
    #[serde(rename = "SpatialFDR")]
    pub spatial_fdr: f64,
    /// The most frequent label, if the table was annotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    /// The share of the cells with that label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
}

/// The result of a test of differential abundance, a row a neighbourhood in the order of [`Neighbourhoods`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DaTable {
    /// What was tested, e.g. `conditionstim`.
    pub tested: String,
    /// The samples that were compared.
    pub samples: Vec<String>,
    /// The factor by which the size of each sample was multiplied.
    pub normalisation: Vec<f64>,
    /// The dispersion that suits all neighbourhoods best: the squared coefficient of variation between samples.
    pub common_dispersion: f64,
    /// How many degrees of freedom the other neighbourhoods lend to the variance of one (the median); infinite if they do
    /// not differ.
    pub prior_df: f64,
    /// The neighbourhoods.
    pub rows: Vec<Row>,
}

impl DaTable {
    /// Adds the names of cells, e.g. `obs.index()`.
    #[must_use]
    pub fn with_names(mut self, names: &[String]) -> Self {
        for row in &mut self.rows {
            row.name = names.get(row.index_cell).cloned();
        }
        self
    }

    /// Adds labels.
    #[must_use]
    pub fn with_annotations(mut self, annotations: &Annotations) -> Self {
        let each = annotations.labels.iter().zip(&annotations.fractions);
        for (row, (label, &fraction)) in self.rows.iter_mut().zip(each) {
            row.annotation.clone_from(label);
            row.fraction = Some(fraction);
        }
        self
    }

    /// How many neighbourhoods were tested.
    pub fn n_tested(&self) -> usize {
        self.rows.iter().filter(|r| !r.p_value.is_nan()).count()
    }

    /// How many neighbourhoods fall and rise in abundance at this spatial false discovery rate.
    pub fn n_changed(&self, alpha: f64) -> (usize, usize) {
        let found = |r: &&Row| r.spatial_fdr <= alpha;
        let falling = self
            .rows
            .iter()
            .filter(found)
            .filter(|r| r.log_fc < 0.0)
            .count();
        (falling, self.rows.iter().filter(found).count() - falling)
    }

    /// Writes the rows with a header, fields separated by `separator` (`,` or a tab).
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, out: &mut impl Write, separator: char) -> std::io::Result<()> {
        let names = self.rows.iter().any(|r| r.name.is_some());
        let labels = self.rows.iter().any(|r| r.fraction.is_some());
        let mut header = vec!["index_cell"];
        header.extend(names.then_some("name"));
        header.extend([
            "size",
            "kth_distance",
            "logFC",
            "logCPM",
            "F",
            "PValue",
            "FDR",
            "SpatialFDR",
        ]);
        header.extend(
            labels
                .then_some(["annotation", "fraction"])
                .into_iter()
                .flatten(),
        );
        let separator = separator.to_string();
        writeln!(out, "{}", header.join(&separator))?;
        for r in &self.rows {
            let mut fields = vec![r.index_cell.to_string()];
            fields.extend(names.then(|| quoted(r.name.as_deref().unwrap_or_default(), &separator)));
            fields.push(r.size.to_string());
            let numbers = [
                r.kth_distance,
                r.log_fc,
                r.log_cpm,
                r.f,
                r.p_value,
                r.fdr,
                r.spatial_fdr,
            ];
            fields.extend(numbers.iter().map(|&v| number(v)));
            if labels {
                fields.push(quoted(
                    r.annotation.as_deref().unwrap_or_default(),
                    &separator,
                ));
                fields.push(number(r.fraction.unwrap_or(f64::NAN)));
            }
            writeln!(out, "{}", fields.join(&separator))?;
        }
        Ok(())
    }

    /// As a table of columns, row names being the index cells'.
    ///
    /// # Errors
    /// None in practice: all columns have one value a row.
    pub fn to_table(&self) -> Result<Table> {
        let index = self
            .rows
            .iter()
            .map(|r| r.name.clone().unwrap_or_else(|| r.index_cell.to_string()))
            .collect();
        let mut table = Table::new(index).with_index_name(Some("index_cell".into()));
        let ints = |f: &dyn Fn(&Row) -> usize| {
            Column::Int(self.rows.iter().map(|r| f(r) as i64).collect())
        };
        let floats = |f: &dyn Fn(&Row) -> f64| Column::Float(self.rows.iter().map(f).collect());
        table.insert("index_row", ints(&|r| r.index_cell))?;
        table.insert("Nhood_size", ints(&|r| r.size))?;
        table.insert("kth_distance", floats(&|r| r.kth_distance))?;
        table.insert("logFC", floats(&|r| r.log_fc))?;
        table.insert("logCPM", floats(&|r| r.log_cpm))?;
        table.insert("F", floats(&|r| r.f))?;
        table.insert("PValue", floats(&|r| r.p_value))?;
        table.insert("FDR", floats(&|r| r.fdr))?;
        table.insert("SpatialFDR", floats(&|r| r.spatial_fdr))?;
        if self.rows.iter().any(|r| r.fraction.is_some()) {
            let labels = self.rows.iter().map(|r| r.annotation.as_deref());
            let labels = sc_data::Categorical::from_options(labels);
            table.insert("nhood_annotation", Column::Categorical(labels))?;
            table.insert(
                "nhood_annotation_frac",
                floats(&|r| r.fraction.unwrap_or(f64::NAN)),
            )?;
        }
        Ok(table)
    }
}

/// A number as Python and R read it.
fn number(v: f64) -> String {
    if v.is_nan() {
        "NaN".into()
    } else if v.is_infinite() {
        if v > 0.0 { "Inf".into() } else { "-Inf".into() }
    } else if v != 0.0 && !(1e-4..1e15).contains(&v.abs()) {
        format!("{v:e}")
    } else {
        v.to_string()
    }
}

/// Text in quotes if it holds what separates fields.
fn quoted(text: &str, separator: &str) -> String {
    if text.contains(separator) || text.contains(['"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes neighbourhoods, and the result of a test if there is one, into a data set as milopy does: `obsm["nhoods"]` (cells x
/// neighbourhoods, sparse), `obs["nhood_ixs_random"]` and `["nhood_ixs_refined"]` (1 for start and index cells),
/// `obs["nhood_kth_distance"]` (0 for other cells), `uns["nhood_neighbors_key"]`. The table goes to `uns["milo"]`, since a file
/// cannot hold an object inside of another.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if the data has another number of cells.
pub fn write_to(
    data: &mut AnnData,
    neighbourhoods: &Neighbourhoods,
    table: Option<&DaTable>,
) -> Result<()> {
    let n = neighbourhoods.n_cells();
    super::neighbourhoods::same_length("the rows of obs", data.n_obs(), n)?;
    let marks = |cells: &[usize]| {
        let mut marks = vec![0i64; n];
        cells.iter().for_each(|&c| marks[c] = 1);
        Column::Int(marks)
    };
    data.obs
        .insert("nhood_ixs_random", marks(neighbourhoods.start_cells()))?;
    data.obs
        .insert("nhood_ixs_refined", marks(neighbourhoods.index_cells()))?;
    let mut distances = vec![0.0; n];
    let each = neighbourhoods
        .index_cells()
        .iter()
        .zip(neighbourhoods.kth_distance());
    each.for_each(|(&c, &d)| distances[c] = d);
    data.obs
        .insert("nhood_kth_distance", Column::Float(distances))?;
    let members = neighbourhoods.members().transpose();
    data.obsm.insert("nhoods".into(), members.into());
    data.uns.insert("nhood_neighbors_key".into(), Uns::Null);
    if let Some(table) = table {
        data.uns
            .insert("milo".into(), Uns::Table(table.to_table()?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text_are_readable() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(-1.5), "-1.5");
        assert_eq!(number(2.5e-20), "2.5e-20");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::INFINITY), "Inf");
        assert_eq!(quoted("T cell, CD4", ","), "\"T cell, CD4\"");
        assert_eq!(quoted("T cell, CD4", "\t"), "T cell, CD4");
        assert_eq!(quoted("5\" end", "\t"), "\"5\"\" end\"");
    }
}
