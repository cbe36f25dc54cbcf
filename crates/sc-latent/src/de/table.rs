//! The result of comparisons, and files of it.

use std::io::Write;
use std::path::Path;

use sc_data::{Categorical, Column, Table};
use sc_model::files::write_atomic;

use super::statistics::{Change, GeneStatistics, Vanilla};
use crate::Result;
use crate::minify::GroupStatistics;

/// What was found for all comparisons.
#[derive(Debug, Clone, PartialEq)]
pub struct DeTable {
    /// The comparisons, in the order asked for.
    pub comparisons: Vec<DeComparison>,
    pub(super) genes: Vec<String>,
    pub(super) fdr_target: f64,
    pub(super) named: bool,
}

/// Two populations and what was found of each gene. All lists are in one order: by descending probability of a change, or
/// by descending Bayes factor.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DeComparison {
    /// The first population.
    pub group1: String,
    /// The second.
    pub group2: String,
    /// Cells of the first population that were drawn from.
    pub n_cells1: usize,
    /// Cells of the second.
    pub n_cells2: usize,
    /// The gene of each row, as a column of the model.
    pub genes: Vec<usize>,
    /// What was found.
    pub statistics: GeneStatistics,
    /// Statistics of the counts in both populations, if asked for and known; of minified cells their origin says how exact.
    pub raw: Option<(GroupStatistics, GroupStatistics)>,
    /// Which genes are called at the false discovery rate, for [`Mode::Change`](super::Mode::Change).
    pub is_de: Option<Vec<bool>>,
}

impl DeComparison {
    /// `group1 vs group2`.
    pub fn name(&self) -> String {
        format!("{} vs {}", self.group1, self.group2)
    }
}

type Columns = Vec<(String, Column)>;
/// A column of labels.
type LabelOf = fn(&DeComparison) -> String;
/// A column of statistics of counts.
type ListOf = fn(&GroupStatistics) -> &Vec<f64>;

impl DeTable {
    /// The names of the genes of the model.
    pub fn gene_names(&self) -> &[String] {
        &self.genes
    }

    /// The false discovery rate at which genes are called.
    pub fn fdr_target(&self) -> f64 {
        self.fdr_target
    }

    /// Rows of all comparisons.
    pub fn n_rows(&self) -> usize {
        self.comparisons.iter().map(|c| c.genes.len()).sum()
    }

    /// One table of all comparisons, one after the other; the index holds the genes, the columns have scvi-tools' names
    /// and order.
    ///
    /// # Errors
    /// Never for a table that [`differential_expression`](super::differential_expression) made.
    pub fn to_table(&self) -> Result<Table> {
        let index = self.comparisons.iter().flat_map(|c| &c.genes);
        let name = |&g: &usize| self.genes.get(g).cloned().unwrap_or_default();
        let mut table = Table::new(index.map(name).collect()).with_index_name(Some("gene".into()));
        let mut all: Columns = Vec::new();
        for comparison in &self.comparisons {
            let columns = self.columns(comparison);
            if all.is_empty() {
                all = columns;
                continue;
            }
            for ((_, to), (_, from)) in all.iter_mut().zip(columns) {
                match (to, from) {
                    (Column::Float(to), Column::Float(from)) => to.extend(from),
                    (Column::Bool(to), Column::Bool(from)) => to.extend(from),
                    _ => {}
                }
            }
        }
        for (name, column) in all {
            table.insert(name, column)?;
        }
        if self.named {
            let labels: [(&str, LabelOf); 3] = [
                ("comparison", DeComparison::name),
                ("group1", |c| c.group1.clone()),
                ("group2", |c| c.group2.clone()),
            ];
            for (name, of) in labels {
                let each = |c: &DeComparison| std::iter::repeat_n(of(c), c.genes.len());
                let labels: Vec<String> = self.comparisons.iter().flat_map(each).collect();
                table.insert(name, Column::Categorical(Categorical::from_labels(&labels)))?;
            }
        }
        Ok(table)
    }

    fn columns(&self, c: &DeComparison) -> Columns {
        let mut out = match &c.statistics {
            GeneStatistics::Vanilla(v) => vanilla(v),
            GeneStatistics::Change(c) => change(c),
        };
        if let Some((one, two)) = &c.raw {
            let lists: [(&str, ListOf); 3] = [
                ("raw_mean", |r| &r.mean),
                ("non_zeros_proportion", |r| &r.nonzero),
                ("raw_normalized_mean", |r| &r.scaled_mean),
            ];
            for (name, of) in lists {
                out.push((format!("{name}1"), Column::Float(of(one).clone())));
                out.push((format!("{name}2"), Column::Float(of(two).clone())));
            }
        }
        if let Some(is_de) = &c.is_de {
            let name = format!("is_de_fdr_{}", self.fdr_target);
            out.push((name, Column::Bool(is_de.clone())));
        }
        out
    }

    /// Writes the table as text, a row a gene, with the names of the columns first. Numbers are written so that they read
    /// back exactly; fields with the separator, quotes or line breaks are quoted.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_delimited(&self, out: &mut impl Write, separator: char) -> Result<()> {
        let table = self.to_table()?;
        text(&table, out, separator).map_err(|source| {
            sc_model::Error::File {
                path: "the table".into(),
                action: "write",
                source,
            }
            .into()
        })
    }

    /// Writes a file: tab-separated if its name ends in `.tsv` or `.txt`, JSON (a list of objects, one a row) for `.json`,
    /// comma-separated otherwise.
    ///
    /// # Errors
    /// If the disk refuses; the file is whole or as it was.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let table = self.to_table()?;
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        Ok(match extension.as_deref() {
            Some("json") => write_atomic(path, |f| json(&table, f)),
            Some("tsv" | "txt") => write_atomic(path, |f| text(&table, f, '\t')),
            _ => write_atomic(path, |f| text(&table, f, ',')),
        }?)
    }
}

fn float(name: &str, values: &[f64]) -> (String, Column) {
    (name.to_owned(), Column::Float(values.to_vec()))
}

fn vanilla(v: &Vanilla) -> Columns {
    vec![
        float("proba_m1", &v.proba_m1),
        float("proba_m2", &v.proba_m2),
        float("bayes_factor", &v.bayes_factor),
        float("scale1", &v.scale1),
        float("scale2", &v.scale2),
    ]
}

fn change(c: &Change) -> Columns {
    let constant = |v: f64| vec![v; c.proba_de.len()];
    let mut out = vec![
        float("proba_de", &c.proba_de),
        float("proba_not_de", &c.proba_not_de),
        float("bayes_factor", &c.bayes_factor),
        float("scale1", &c.scale1),
        float("scale2", &c.scale2),
        float("pseudocounts", &constant(c.pseudocounts)),
        float("delta", &constant(c.delta)),
        float("lfc_mean", &c.lfc_mean),
        float("lfc_median", &c.lfc_median),
        float("lfc_std", &c.lfc_std),
        float("lfc_min", &c.lfc_min),
        float("lfc_max", &c.lfc_max),
    ];
    for (level, low, high) in &c.lfc_intervals {
        out.push(float(&format!("lfc_confidence_interval_{level}_min"), low));
        out.push(float(&format!("lfc_confidence_interval_{level}_max"), high));
    }
    out
}

/// A cell of a table as text, and whether it is a number or a truth value.
fn value(column: &Column, row: usize) -> (String, bool) {
    match column {
        Column::Float(v) => match v.get(row) {
            Some(v) if v.is_finite() => (v.to_string(), true),
            _ => (String::new(), false),
        },
        Column::Bool(v) => (v.get(row).copied().unwrap_or_default().to_string(), true),
        Column::Categorical(v) => (v.get(row).unwrap_or_default().to_owned(), false),
        _ => (String::new(), false),
    }
}

fn text(table: &Table, out: &mut impl Write, separator: char) -> std::io::Result<()> {
    let field = |s: &str| {
        if s.contains([separator, '"', '\n', '\r']) {
            format!("\"{}\"", s.replace('"', "\"\""))
        } else {
            s.to_owned()
        }
    };
    write!(out, "gene")?;
    for (name, _) in table.columns() {
        write!(out, "{separator}{}", field(name))?;
    }
    writeln!(out)?;
    for (row, gene) in table.index().iter().enumerate() {
        write!(out, "{}", field(gene))?;
        for (_, column) in table.columns() {
            write!(out, "{separator}{}", field(&value(column, row).0))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn json(table: &Table, out: &mut impl Write) -> std::io::Result<()> {
    let string = |s: &str| serde_json::Value::from(s).to_string();
    write!(out, "[")?;
    for (row, gene) in table.index().iter().enumerate() {
        let comma = if row == 0 { "" } else { "," };
        write!(out, "{comma}\n{{\"gene\":{}", string(gene))?;
        for (name, column) in table.columns() {
            let text = match (value(column, row), column) {
                ((text, true), _) => text,
                ((_, false), Column::Float(_)) => "null".into(),
                ((text, false), _) => string(&text),
            };
            write!(out, ",{}:{text}", string(name))?;
        }
        write!(out, "}}")?;
    }
    writeln!(out, "\n]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> DeTable {
        let comparison = |group1: &str, genes: Vec<usize>| DeComparison {
            group1: group1.into(),
            group2: "Rest".into(),
            n_cells1: 2,
            n_cells2: 3,
            statistics: GeneStatistics::Vanilla(Vanilla {
                proba_m1: vec![0.75, f64::NAN],
                proba_m2: vec![0.25, 0.5],
                bayes_factor: vec![0.1, 1e-20],
                scale1: vec![0.5, 0.5],
                scale2: vec![0.5, 0.5],
            }),
            genes,
            raw: None,
            is_de: Some(vec![true, false]),
        };
        DeTable {
            comparisons: vec![comparison("a, b", vec![1, 0]), comparison("c", vec![0, 1])],
            genes: vec!["x".into(), "quoted \"y\"".into()],
            fdr_target: 0.05,
            named: true,
        }
    }

    #[test]
    fn comparisons_follow_each_other() {
        let t = table().to_table().unwrap();
        assert_eq!(t.index(), ["quoted \"y\"", "x", "x", "quoted \"y\""]);
        let names: Vec<&str> = t.columns().map(|(n, _)| n).collect();
        assert_eq!(
            names[5..],
            ["is_de_fdr_0.05", "comparison", "group1", "group2"]
        );
        assert_eq!(
            t.get("comparison")
                .unwrap()
                .to_categorical("c")
                .unwrap()
                .get(3),
            Some("c vs Rest")
        );
        assert_eq!(table().n_rows(), 4);
    }

    #[test]
    fn text_is_quoted_and_exact() {
        let mut out = Vec::new();
        table().write_delimited(&mut out, ',').unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("gene,proba_m1,proba_m2"));
        assert!(lines[1].starts_with("\"quoted \"\"y\"\"\",0.75,0.25,0.1,"));
        assert!(lines[1].ends_with("true,\"a, b vs Rest\",\"a, b\",Rest"));
        assert!(lines[2].starts_with("x,,0.5,"), "{}", lines[2]);
        let small = lines[2].split(',').nth(3).unwrap();
        assert_eq!(small.parse::<f64>().unwrap(), 1e-20);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn files_by_their_extension() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("de.json");
        table().write(&path).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read[0]["gene"], "quoted \"y\"");
        assert_eq!(read[1]["proba_m1"], serde_json::Value::Null);
        assert_eq!(read[3]["is_de_fdr_0.05"], false);
        let path = folder.path().join("de.tsv");
        table().write(&path).unwrap();
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("gene\tproba_m1")
        );
    }
}
