use std::path::Path;

use crate::Result;

/// Genes that have something in common, e.g. a pathway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneSet {
    /// Its name.
    pub name: String,
    /// What the file says about it, often an address.
    pub description: String,
    /// Its genes, each once, in the order of the file.
    pub genes: Vec<String>,
}

/// Sets of genes, e.g. those of Reactome or KEGG.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GeneSets(Vec<GeneSet>);

impl GeneSets {
    /// These sets.
    pub fn new(sets: Vec<GeneSet>) -> Self {
        Self(sets)
    }

    /// Reads a GMT file: on each line a name, a description and genes, with tabs between them.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the file cannot be read, or a line is no set; it says which.
    pub fn read_gmt(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| sc_model::Error::File {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        Self::parse_gmt(&text).map_err(|reason| {
            let path = path.to_owned();
            sc_model::Error::Format { path, reason }.into()
        })
    }

    /// The sets in the text of a GMT file.
    ///
    /// # Errors
    /// Says which line has fewer than a name, a description and a gene, or which name is there twice.
    pub fn parse_gmt(text: &str) -> std::result::Result<Self, String> {
        let mut sets = Vec::new();
        let mut names = std::collections::HashSet::new();
        let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim_end()));
        for (number, line) in lines.filter(|(_, l)| !l.is_empty()) {
            let set = parse_line(line).ok_or_else(|| {
                format!("line {number} is not a set of genes: a name, a description and genes, with tabs between them")
            })?;
            if !names.insert(set.name.clone()) {
                return Err(format!(
                    "line {number}: the set \"{}\" is there twice",
                    set.name
                ));
            }
            sets.push(set);
        }
        Ok(Self(sets))
    }

    /// The sets in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, GeneSet> {
        self.0.iter()
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_line(line: &str) -> Option<GeneSet> {
    let mut fields = line.split('\t').map(str::trim);
    let name = fields.next().filter(|n| !n.is_empty())?.to_owned();
    let description = fields.next()?.to_owned();
    let mut seen = std::collections::HashSet::new();
    let genes: Vec<String> = fields
        .filter(|g| !g.is_empty() && seen.insert(*g))
        .map(str::to_owned)
        .collect();
    (!genes.is_empty()).then_some(GeneSet {
        name,
        description,
        genes,
    })
}
