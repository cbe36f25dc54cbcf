use serde::{Deserialize, Serialize};

use super::metadata::pretty;
use crate::{Error, Result};

/// How well a model generates the data it was trained on: the tables of `metrics.json` and of the model card.
///
/// The numbers are made by posterior predictive checks; this is where they are kept and shown.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The coefficient of variation of each cell over its genes, generated against raw.
    pub cell_wise_cv: Option<CvTable>,
    /// The coefficient of variation of each gene over the cells, generated against raw.
    pub gene_wise_cv: Option<CvTable>,
    /// Differential expression of generated against raw counts, one row a group.
    pub diff_exp: Vec<DeRow>,
}

/// Scores on the cells that trained, and on those that did not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CvTable {
    /// Cells that trained.
    pub training: CvScores,
    /// Cells that validated.
    pub validation: Option<CvScores>,
}

/// How two lists of coefficients of variation agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CvScores {
    /// Mean absolute error.
    pub mean_absolute_error: f64,
    /// Correlation.
    pub pearson: f64,
    /// Correlation of ranks.
    pub spearman: f64,
    /// Coefficient of determination; negative if a constant would do better.
    pub r2: f64,
}

/// How well differential expression of a group is preserved.
#[derive(Debug, Clone, PartialEq)]
pub struct DeRow {
    /// The group.
    pub group: String,
    /// F1 score of the top genes.
    pub gene_f1: f64,
    /// Mean absolute error of the log fold changes.
    pub lfc_mae: f64,
    /// Correlation of the log fold changes.
    pub lfc_pearson: f64,
    /// Correlation of their ranks.
    pub lfc_spearman: f64,
    /// Area under the receiver operating characteristic.
    pub roc_auc: f64,
    /// Average precision.
    pub pr_auc: f64,
    /// Number of cells of the group.
    pub n_cells: f64,
}

const SCORES: [&str; 4] = [
    "Mean Absolute Error",
    "Pearson Correlation",
    "Spearman Correlation",
    "R² (R-Squared)",
];
const DE_COLUMNS: [&str; 7] = [
    "gene_f1",
    "lfc_mae",
    "lfc_pearson",
    "lfc_spearman",
    "roc_auc",
    "pr_auc",
    "n_cells",
];

/// `metrics.json`: each table as Markdown.
#[derive(Serialize, Deserialize)]
struct Tables {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cell_wise_cv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gene_wise_cv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    diff_exp: Option<String>,
}

impl Metrics {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.cell_wise_cv.is_none() && self.gene_wise_cv.is_none() && self.diff_exp.is_empty()
    }

    /// As `metrics.json` has it.
    ///
    /// # Errors
    /// None that can be foreseen.
    pub fn to_json(&self) -> Result<String> {
        pretty(&Tables {
            cell_wise_cv: self.cell_wise_cv.map(CvTable::to_markdown),
            gene_wise_cv: self.gene_wise_cv.map(CvTable::to_markdown),
            diff_exp: self.diff_exp_markdown(),
        })
    }

    /// Reads `metrics.json`.
    ///
    /// # Errors
    /// [`Error::Hub`] if it is no JSON, or a table is none of these.
    pub fn from_json(text: &str) -> Result<Self> {
        let tables: Tables = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
        let cv = |t: Option<String>| t.map(|t| CvTable::from_markdown(&t)).transpose();
        Ok(Self {
            cell_wise_cv: cv(tables.cell_wise_cv)?,
            gene_wise_cv: cv(tables.gene_wise_cv)?,
            diff_exp: match tables.diff_exp {
                Some(t) => diff_exp_from_markdown(&t)?,
                None => Vec::new(),
            },
        })
    }

    pub(super) fn diff_exp_markdown(&self) -> Option<String> {
        if self.diff_exp.is_empty() {
            return None;
        }
        let mut lines = vec![
            format!("| Index | {} |", DE_COLUMNS.join(" | ")),
            format!("| --- |{}", " --- |".repeat(DE_COLUMNS.len())),
        ];
        for row in &self.diff_exp {
            let numbers = row.numbers().map(|v| format!("{v:.2}")).join(" | ");
            lines.push(format!("| {} | {numbers} |", row.group.replace('|', "/")));
        }
        Some(lines.join("\n"))
    }
}

impl CvScores {
    fn numbers(&self) -> [f64; 4] {
        [
            self.mean_absolute_error,
            self.pearson,
            self.spearman,
            self.r2,
        ]
    }

    fn from_column(rows: &[Vec<&str>], column: usize) -> Result<Self> {
        let score = |name: &str| -> Result<f64> {
            let row = rows.iter().find(|r| r.first() == Some(&name));
            let text = row.and_then(|r| r.get(column));
            text.and_then(|t| t.parse().ok())
                .ok_or_else(|| wrong(&format!("no number in row \"{name}\"")))
        };
        Ok(Self {
            mean_absolute_error: score(SCORES[0])?,
            pearson: score(SCORES[1])?,
            spearman: score(SCORES[2])?,
            r2: score(SCORES[3])?,
        })
    }
}

impl CvTable {
    pub(super) fn to_markdown(self) -> String {
        let mut lines = match self.validation {
            Some(_) => vec![
                "| Metric | Training Value | Validation Value |".to_owned(),
                "| --- | --- | --- |".to_owned(),
            ],
            None => vec![
                "| Metric | Training Value |".to_owned(),
                "| --- | --- |".to_owned(),
            ],
        };
        let validation = self.validation.map(|v| v.numbers());
        for (i, (name, train)) in SCORES.iter().zip(self.training.numbers()).enumerate() {
            lines.push(match validation {
                Some(v) => format!("| {name} | {train:.2} | {:.2} |", v[i]),
                None => format!("| {name} | {train:.2} |"),
            });
        }
        lines.join("\n")
    }

    /// Reads a table of scores by training and validation cells.
    pub(super) fn from_markdown(text: &str) -> Result<Self> {
        let rows = rows(text);
        let has_validation = rows.first().is_some_and(|header| header.len() > 2);
        Ok(Self {
            training: CvScores::from_column(&rows, 1)?,
            validation: has_validation
                .then(|| CvScores::from_column(&rows, 2))
                .transpose()?,
        })
    }
}

impl DeRow {
    fn numbers(&self) -> [f64; 7] {
        [
            self.gene_f1,
            self.lfc_mae,
            self.lfc_pearson,
            self.lfc_spearman,
            self.roc_auc,
            self.pr_auc,
            self.n_cells,
        ]
    }
}

pub(super) fn diff_exp_from_markdown(text: &str) -> Result<Vec<DeRow>> {
    let rows = rows(text);
    let Some((header, rows)) = rows.split_first() else {
        return Ok(Vec::new());
    };
    let mut columns = [0; DE_COLUMNS.len()];
    for (column, name) in columns.iter_mut().zip(DE_COLUMNS) {
        *column = header
            .iter()
            .position(|h| *h == name)
            .ok_or_else(|| wrong(&format!("no column \"{name}\"")))?;
    }
    rows.iter()
        .map(|row| {
            let group = row.first().copied().unwrap_or_default();
            let number = |k: usize| -> Result<f64> {
                let text = columns.get(k).and_then(|&c| row.get(c));
                text.and_then(|t| t.parse().ok())
                    .ok_or_else(|| wrong(&format!("no number for \"{group}\"")))
            };
            Ok(DeRow {
                group: group.to_owned(),
                gene_f1: number(0)?,
                lfc_mae: number(1)?,
                lfc_pearson: number(2)?,
                lfc_spearman: number(3)?,
                roc_auc: number(4)?,
                pr_auc: number(5)?,
                n_cells: number(6)?,
            })
        })
        .collect()
}

/// The cells of a Markdown table, header first, without its line of dashes.
pub(super) fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            let line = line.trim_start_matches('|').trim_end_matches('|');
            line.split('|').map(str::trim).collect::<Vec<_>>()
        })
        .filter(|row| {
            !row.iter()
                .all(|c| c.chars().all(|c| matches!(c, '-' | ':')))
        })
        .collect()
}

fn wrong(what: &str) -> Error {
    Error::Hub {
        place: super::METRICS.into(),
        reason: format!("{what}; it holds the tables cell_wise_cv, gene_wise_cv and diff_exp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Metrics {
        let scores = |x: f64| CvScores {
            mean_absolute_error: x,
            pearson: 0.5,
            spearman: 0.25,
            r2: -13.15,
        };
        Metrics {
            cell_wise_cv: Some(CvTable {
                training: scores(0.72),
                validation: Some(scores(0.62)),
            }),
            gene_wise_cv: Some(CvTable {
                training: scores(0.92),
                validation: None,
            }),
            diff_exp: vec![DeRow {
                group: "B cells".into(),
                gene_f1: 0.82,
                lfc_mae: 1.09,
                lfc_pearson: 0.57,
                lfc_spearman: 0.88,
                roc_auc: 0.62,
                pr_auc: 0.56,
                n_cells: 222.0,
            }],
        }
    }

    #[test]
    fn tables_come_back() {
        let text = example().to_json().unwrap();
        assert_eq!(Metrics::from_json(&text).unwrap(), example());
        let none = Metrics::default();
        assert_eq!(Metrics::from_json(&none.to_json().unwrap()).unwrap(), none);
    }

    #[test]
    fn damaged_tables_are_named() {
        let text = example().to_json().unwrap().replace("Pearson", "Pear");
        let message = Metrics::from_json(&text).unwrap_err().to_string();
        assert!(message.contains("Pearson Correlation"), "{message}");
        assert!(Metrics::from_json("[").is_err());
    }
}
