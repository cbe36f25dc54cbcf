use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::GeneVocab;
use crate::{Error, Result};

/// Whether upper and lower case matter when genes are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeneCase {
    /// They do.
    #[default]
    Exact,
    /// A gene that is not found is looked up again without regard to case. Released human vocabularies have no two tokens
    /// that differ in case only; where a vocabulary has, such a gene stays unknown. Mouse symbols are found so, but are
    /// not human genes.
    Ignore,
}

/// How the genes of a data set meet a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct GeneReport {
    /// Genes (columns) of the data set.
    pub n_genes: usize,
    /// How many of them are in the vocabulary.
    pub matched: usize,
    /// Those that are not, which are left out.
    pub missing: Vec<String>,
    /// Names that several columns have. Each of these columns becomes a token of its own.
    pub duplicated: Vec<String>,
    /// Those found only without regard to case: the name in the data and the token.
    pub by_case: Vec<(String, String)>,
}

/// The columns of a data set that the vocabulary knows, and their tokens.
#[derive(Debug, Clone)]
pub struct GeneMatch {
    names: Vec<String>,
    ids: Vec<Option<u32>>,
    report: GeneReport,
}

impl GeneMatch {
    /// Columns of the data set, known or not.
    pub fn n_columns(&self) -> usize {
        self.ids.len()
    }

    /// The name of each column.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The token of each column, `None` if it has none.
    pub fn ids(&self) -> &[Option<u32>] {
        &self.ids
    }

    /// The columns that have a token, ascending.
    pub fn columns(&self) -> Vec<usize> {
        (0..self.ids.len())
            .filter(|&c| self.ids.get(c).is_some_and(Option::is_some))
            .collect()
    }

    /// What was found and what was not.
    pub fn report(&self) -> &GeneReport {
        &self.report
    }

    /// The same with only some of the columns known, e.g. the variable genes; others are left out like missing ones.
    ///
    /// # Errors
    /// [`Error::Data`] if a column does not exist.
    pub fn only(mut self, columns: &[usize]) -> Result<Self> {
        let mut keep = vec![false; self.ids.len()];
        for &index in columns {
            let len = keep.len();
            let slot = keep.get_mut(index).ok_or(sc_data::Error::OutOfRange {
                what: "column",
                index,
                len,
            })?;
            *slot = true;
        }
        for (id, keep) in self.ids.iter_mut().zip(keep) {
            *id = id.filter(|_| keep);
        }
        Ok(self)
    }
}

impl GeneVocab {
    /// Looks up the genes of a data set, one for each of its columns. Warns of missing and repeated ones.
    ///
    /// # Errors
    /// [`Error::NoSharedGenes`] if none is known.
    pub fn match_genes<S: AsRef<str>>(&self, genes: &[S], case: GeneCase) -> Result<GeneMatch> {
        let folded = match case {
            GeneCase::Exact => HashMap::new(),
            GeneCase::Ignore => self.folded(),
        };
        let mut report = GeneReport {
            n_genes: genes.len(),
            ..GeneReport::default()
        };
        let mut ids = Vec::with_capacity(genes.len());
        for gene in genes.iter().map(AsRef::as_ref) {
            let exact = self.id(gene);
            let id = exact.or_else(|| folded.get(&gene.to_uppercase()).copied().flatten());
            match id {
                None => report.missing.push(gene.to_owned()),
                Some(id) => {
                    report.matched += 1;
                    if exact.is_none() {
                        let token = self.token(id).unwrap_or_default().to_owned();
                        report.by_case.push((gene.to_owned(), token));
                    }
                }
            }
            ids.push(id);
        }
        report.duplicated = duplicated(genes, &ids);
        if report.matched == 0 {
            return Err(self.nothing_shared(genes));
        }
        warn(&report);
        Ok(GeneMatch {
            names: genes.iter().map(|g| g.as_ref().to_owned()).collect(),
            ids,
            report,
        })
    }

    /// The number of each token in upper case, `None` if several tokens share it.
    fn folded(&self) -> HashMap<String, Option<u32>> {
        let mut map = HashMap::with_capacity(self.len());
        for (token, id) in self.tokens.iter().zip(0u32..) {
            map.entry(token.to_uppercase())
                .and_modify(|v| *v = None)
                .or_insert(Some(id));
        }
        map
    }

    fn nothing_shared<S: AsRef<str>>(&self, genes: &[S]) -> Error {
        let examples = genes.iter().take(3).map(AsRef::as_ref).collect::<Vec<_>>();
        let known = self.tokens.iter().take(3).map(String::as_str);
        let folded = self.folded();
        let by_case = |g: &S| folded.contains_key(&g.as_ref().to_uppercase());
        let ensembl = |g: &&S| g.as_ref().starts_with("ENS");
        let hint = if genes.is_empty() {
            "the data have no genes".to_owned()
        } else if genes.iter().any(by_case) {
            "some match without regard to case (GeneCase::Ignore); are they of another species?"
                .into()
        } else if 2 * genes.iter().filter(ensembl).count() > genes.len() {
            "they are Ensembl ids, the vocabulary has symbols; use the column with symbols (feature_name, gene_symbols)".into()
        } else {
            "are they symbols, of the same species?".into()
        };
        Error::NoSharedGenes {
            found: genes.len(),
            examples: examples.join(", "),
            size: self.len(),
            known: known.collect::<Vec<_>>().join(", "),
            hint,
        }
    }
}

/// Names whose token another column has as well, each once, in order.
fn duplicated<S: AsRef<str>>(genes: &[S], ids: &[Option<u32>]) -> Vec<String> {
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for id in ids.iter().flatten() {
        *seen.entry(*id).or_default() += 1;
    }
    let mut named = HashSet::new();
    genes
        .iter()
        .zip(ids)
        .filter(|(_, id)| id.is_some_and(|id| seen.get(&id).is_some_and(|n| *n > 1)))
        .map(|(gene, _)| gene.as_ref())
        .filter(|gene| named.insert(*gene))
        .map(str::to_owned)
        .collect()
}

fn warn(report: &GeneReport) {
    if !report.missing.is_empty() {
        tracing::warn!(
            "{} of {} genes are not in the vocabulary and are left out: {}",
            report.missing.len(),
            report.n_genes,
            first(&report.missing)
        );
    }
    if !report.duplicated.is_empty() {
        tracing::warn!(
            "{} genes have several columns, each of which becomes a token: {}",
            report.duplicated.len(),
            first(&report.duplicated)
        );
    }
}

/// The first few of some names.
fn first(names: &[String]) -> String {
    let some: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    let more = if names.len() > some.len() {
        ", ..."
    } else {
        ""
    };
    format!("{}{more}", some.join(", "))
}
