use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

/// The genes of a model, in the order of its positions. The published model has 16,906 human genes, those of PanglaoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenePanel {
    names: Arc<[String]>,
}

impl GenePanel {
    /// These genes in this order.
    ///
    /// # Errors
    /// [`Error::Panel`] if there is none, or one occurs twice.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let wrong = |reason| Err(Error::Panel { reason });
        if names.is_empty() {
            return wrong("it has no genes".into());
        }
        let mut first = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            if let Some(earlier) = first.insert(name.as_str(), i) {
                return wrong(format!(
                    "{name} is both gene {} and gene {}; each may occur once",
                    earlier + 1,
                    i + 1
                ));
            }
        }
        Ok(Self {
            names: names.into(),
        })
    }

    /// Reads one gene a line; empty lines are passed over.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, [`Error::Panel`] as [`GenePanel::new`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        let lines = text.trim_start_matches('\u{feff}').lines();
        Self::new(lines.map(str::trim).filter(|l| !l.is_empty())).map_err(|e| match e {
            Error::Panel { reason } => Error::Panel {
                reason: format!("{}: {reason}", path.display()),
            },
            other => other,
        })
    }

    /// The genes in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: a panel has at least one gene.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Positions of a cell: the genes, and one more at the end that stands for the cell.
    pub fn positions(&self) -> usize {
        self.names.len() + 1
    }

    /// Finds the genes among the columns of a data set. Where a name occurs more than once there, its first column counts.
    ///
    /// # Errors
    /// [`Error::NoGenesInCommon`] if no gene of the panel is there.
    pub fn align<S: AsRef<str>>(&self, genes: &[S]) -> Result<Alignment> {
        let position: HashMap<&str, usize> = (self.names.iter().enumerate())
            .map(|(i, n)| (n.as_str(), i))
            .collect();
        let mut columns = vec![None; self.len()];
        let mut found = Alignment {
            positions: vec![None; genes.len()],
            missing: Vec::new(),
            duplicated: Vec::new(),
            n_extra: 0,
        };
        for (column, gene) in genes.iter().enumerate() {
            let gene = gene.as_ref();
            let Some(&p) = position.get(gene) else {
                found.n_extra += 1;
                continue;
            };
            match &mut columns[p] {
                Some(_) => found.duplicated.push(gene.to_owned()),
                free => {
                    *free = Some(column);
                    found.positions[column] = u32::try_from(p).ok();
                }
            }
        }
        let absent = self.names.iter().zip(&columns).filter(|c| c.1.is_none());
        found.missing = absent.map(|(n, _)| n.clone()).collect();
        if found.missing.len() == self.len() {
            let some = |names: &mut dyn Iterator<Item = &str>| -> String {
                names.take(3).collect::<Vec<_>>().join(", ")
            };
            return Err(Error::NoGenesInCommon {
                panel: some(&mut self.names.iter().map(String::as_str)),
                data: some(&mut genes.iter().map(AsRef::as_ref)),
            });
        }
        Ok(found)
    }
}

/// How the columns of a data set stand in a [`GenePanel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The position of each column in the panel, if it has one.
    pub(super) positions: Vec<Option<u32>>,
    missing: Vec<String>,
    duplicated: Vec<String>,
    n_extra: usize,
}

impl Alignment {
    /// Genes of the panel that the data lacks; they count as 0.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Names whose later columns were dropped, once for each of these.
    pub fn duplicated(&self) -> &[String] {
        &self.duplicated
    }

    /// Columns that are no gene of the panel; they were dropped.
    pub fn n_extra(&self) -> usize {
        self.n_extra
    }

    /// For each gene of a panel of so many whether the data has it.
    pub(super) fn found(&self, genes: usize) -> Vec<bool> {
        let mut found = vec![false; genes];
        for &p in self.positions.iter().flatten() {
            if let Some(f) = found.get_mut(p as usize) {
                *f = true;
            }
        }
        found
    }

    /// Genes of the panel that were found.
    pub fn n_found(&self) -> usize {
        self.positions.iter().flatten().count()
    }
}
