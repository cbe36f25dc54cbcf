//! The genes of a query and those of a reference, matched by name.

use std::collections::{HashMap, HashSet};

use sc_data::{Column, Columns, Matrix, RowSource, Table};
use serde::Serialize;

use crate::{Error, Result};

/// With a smaller share of the reference's genes a latent space means little: a warning says so.
const ENOUGH: f64 = 0.8;

/// How the genes of a query meet those of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GeneReport {
    /// Genes of the reference.
    pub n_reference: usize,
    /// Those that the query has too.
    pub shared: usize,
    /// Those that it lacks, which count as never seen.
    pub missing: Vec<String>,
    /// Genes of the query that the reference does not know, which are left out.
    pub extra: Vec<String>,
}

impl GeneReport {
    /// The share of the reference's genes that the query has.
    pub fn share(&self) -> f64 {
        self.shared as f64 / self.n_reference.max(1) as f64
    }
}

/// For each gene of the reference its column in the query, if there is one.
#[derive(Debug, Clone)]
pub(super) struct GeneMatch {
    columns: Vec<Option<usize>>,
    pub(super) report: GeneReport,
}

impl GeneMatch {
    /// Matches names exactly; `var` has one row for each gene of the query. Warns of few shared genes.
    pub(super) fn new(reference: &[String], var: &Table) -> Result<Self> {
        let found = var.index();
        let mut lookup: HashMap<&str, usize> = HashMap::with_capacity(found.len());
        let mut twice = HashSet::new();
        for (i, gene) in found.iter().enumerate() {
            if lookup.insert(gene, i).is_some() {
                twice.insert(gene.as_str());
            }
        }
        // A repeated gene that is left out anyway does no harm.
        if let Some(gene) = reference.iter().find(|g| twice.contains(g.as_str())) {
            return Err(sc_data::Error::Duplicate {
                what: "var (the gene names)".into(),
                name: gene.clone(),
            }
            .into());
        }
        let columns: Vec<Option<usize>> = reference
            .iter()
            .map(|g| lookup.get(g.as_str()).copied())
            .collect();
        let known: HashSet<&str> = reference.iter().map(String::as_str).collect();
        let missing: Vec<String> = reference
            .iter()
            .filter(|g| !lookup.contains_key(g.as_str()))
            .cloned()
            .collect();
        let report = GeneReport {
            n_reference: reference.len(),
            shared: reference.len() - missing.len(),
            missing,
            extra: found
                .iter()
                .filter(|g| !known.contains(g.as_str()))
                .cloned()
                .collect(),
        };
        if report.shared == 0 {
            return Err(Error::NoSharedGenes {
                n_reference: reference.len(),
                reference_examples: examples(reference),
                found: found.len(),
                found_examples: examples(found),
                hint: hint(reference, var).unwrap_or_else(|| {
                    "are they of the same species, and named after the same annotation?".into()
                }),
            });
        }
        if report.share() < ENOUGH {
            tracing::warn!(
                "the query has {} of the reference's {} genes ({:.0} %); the others count as never seen, and with fewer \
                 than {:.0} % a mapping is not to be trusted{}",
                report.shared,
                report.n_reference,
                100.0 * report.share(),
                100.0 * ENOUGH,
                hint(reference, var).map_or_else(String::new, |h| format!(": {h}"))
            );
        }
        Ok(Self { columns, report })
    }

    /// The reference's genes out of counts that have the query's, read as they are asked for.
    pub(super) fn source<S: RowSource>(self, counts: S) -> Result<Columns<S>> {
        Ok(Columns::new(counts, self.columns)?)
    }

    /// The same as a matrix.
    pub(super) fn matrix(&self, m: &Matrix) -> Result<Matrix> {
        Ok(m.to_csr().select_columns(&self.columns)?.into())
    }

    /// Whether the query has exactly the reference's genes, in its order.
    pub(super) fn is_identity(&self) -> bool {
        let in_order = self.columns.iter().enumerate().all(|(i, c)| *c == Some(i));
        in_order && self.report.extra.is_empty()
    }
}

fn examples(names: &[String]) -> String {
    let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    some.join(", ")
}

/// Why names may not match: what would make more of them do so.
fn hint(reference: &[String], var: &Table) -> Option<String> {
    let found = var.index();
    let known: HashSet<&str> = reference.iter().map(String::as_str).collect();
    let now = found.iter().filter(|g| known.contains(g.as_str())).count();
    // Worth a word if it finds at least twice as many.
    let better = |n: usize| n > 2 * now;
    if let Some((column, n)) = best_column(&known, var).filter(|(_, n)| better(*n)) {
        return Some(format!(
            "column \"{column}\" of var holds {n} of the reference's genes: use it as the names of the genes (--gene-key \
             {column})"
        ));
    }
    let count = |change: fn(&str) -> String| {
        let changed: HashSet<String> = reference.iter().map(|g| change(g)).collect();
        found
            .iter()
            .filter(|g| changed.contains(&change(g)))
            .count()
    };
    if better(count(|g| without_version(g).to_owned())) {
        return Some("the names differ in their version numbers (the part after the dot)".into());
    }
    if better(count(str::to_uppercase)) {
        return Some(
            "the names differ in upper and lower case, as those of mouse and human do; translate them to the reference's \
             species"
                .into(),
        );
    }
    let (a, b) = (kind(reference), kind(found));
    (a != b).then(|| {
        format!("the reference's genes are named by {a}, the query's by {b}: translate them")
    })
}

/// The column of text that holds most of the names.
fn best_column(known: &HashSet<&str>, var: &Table) -> Option<(String, usize)> {
    let hits = |column: &Column| match column {
        Column::Str(v) => v.iter().filter(|g| known.contains(g.as_str())).count(),
        Column::OptStr(v) => v
            .iter()
            .flatten()
            .filter(|g| known.contains(g.as_str()))
            .count(),
        Column::Categorical(c) => c.iter().flatten().filter(|g| known.contains(g)).count(),
        _ => 0,
    };
    var.columns()
        .map(|(name, column)| (name.to_owned(), hits(column)))
        .max_by_key(|(_, n)| *n)
}

fn without_version(gene: &str) -> &str {
    match gene.rsplit_once('.') {
        Some((name, version)) if version.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => gene,
    }
}

/// What most of some names look like.
fn kind(names: &[String]) -> &'static str {
    let most = |is: fn(&str) -> bool| 2 * names.iter().filter(|n| is(n)).count() > names.len();
    if most(|n| {
        n.starts_with("ENS")
            && n.bytes()
                .rev()
                .take(6)
                .all(|b| b.is_ascii_digit() || b == b'.')
    }) {
        "Ensembl ids"
    } else if most(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
        "numbers"
    } else {
        "symbols"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn genes_are_matched_and_counted() {
        let var = Table::new(names(&["x", "b", "a", "x"]));
        let m = GeneMatch::new(&names(&["a", "b", "c"]), &var).unwrap();
        assert_eq!(m.columns, [Some(2), Some(1), None]);
        assert_eq!((m.report.shared, m.report.missing.len()), (2, 1));
        assert_eq!(m.report.extra, ["x", "x"]);
        assert!(!m.is_identity());
        let twice = Table::new(names(&["a", "b", "a"]));
        assert!(GeneMatch::new(&names(&["a", "b"]), &twice).is_err());
    }

    #[test]
    fn without_shared_genes_the_error_knows_why() {
        let ids = names(&["ENSG00000141510", "ENSG00000012048", "ENSG00000139618"]);
        let message = |var: &Table| GeneMatch::new(&ids, var).unwrap_err().to_string();
        let symbols = Table::new(names(&["TP53", "BRCA1", "BRCA2"]));
        let m = message(&symbols);
        assert!(m.contains("ENSG00000141510") && m.contains("TP53"), "{m}");
        assert!(m.contains("Ensembl ids") && m.contains("symbols"), "{m}");
        let mut with_ids = symbols;
        with_ids
            .insert("gene_ids", Column::Str(ids.clone()))
            .unwrap();
        assert!(message(&with_ids).contains("--gene-key gene_ids"));
        let versions = Table::new(ids.iter().map(|g| format!("{g}.4")).collect());
        assert!(message(&versions).contains("version"));
        let mouse = Table::new(names(&["Tp53"]));
        let m = GeneMatch::new(&names(&["TP53"]), &mouse)
            .unwrap_err()
            .to_string();
        assert!(m.contains("upper and lower case"), "{m}");
    }
}
