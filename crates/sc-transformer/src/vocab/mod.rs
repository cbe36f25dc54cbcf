//! Which token each gene is.

mod genes;
mod read;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Result};

pub use genes::{GeneCase, GeneMatch, GeneReport};

/// Fills up shorter cells in a padded batch; stands for genes that are not known.
pub const PAD: &str = "<pad>";
/// The first token of a cell, whose output is the cell's embedding.
pub const CLS: &str = "<cls>";
/// The end of a cell. Released vocabularies have it; no model uses it.
pub const EOC: &str = "<eoc>";
/// The special tokens of scGPT, in the order in which they are appended.
pub const SPECIALS: [&str; 3] = [PAD, CLS, EOC];

/// Where [`GeneVocab::from_genes`] puts special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialsAt {
    /// Before the genes.
    #[default]
    First,
    /// After the genes.
    Last,
}

/// Genes and special tokens with their numbers, `0..n` without gaps.
///
/// Symbols are case-sensitive, as CELLxGENE writes them. scGPT has no token for unknown genes.
///
/// ```
/// use sc_transformer::vocab::{GeneVocab, SPECIALS, SpecialsAt};
/// let vocab = GeneVocab::from_genes(&["CD3D", "CD8A", "CD3D"], &SPECIALS, SpecialsAt::Last)?;
/// // The gene that occurs most often comes first.
/// assert_eq!(vocab.tokens(), ["CD3D", "CD8A", "<pad>", "<cls>", "<eoc>"]);
/// assert_eq!((vocab.id("CD8A"), vocab.id("cd8a")), (Some(1), None));
/// # Ok::<(), sc_transformer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneVocab {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    default: Option<u32>,
}

impl GeneVocab {
    /// Tokens in the order of their numbers. If `<pad>` is among them, it also stands for unknown ones.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if a token occurs twice or there are more than `u32` can count.
    pub fn new<S: Into<String>>(tokens: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut vocab = Self {
            tokens: Vec::new(),
            ids: HashMap::new(),
            default: None,
        };
        for token in tokens {
            vocab.push(token.into())?;
        }
        vocab.default = vocab.id(PAD);
        Ok(vocab)
    }

    /// From `(token, number)` in any order.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] unless each token occurs once and the numbers are `0..n`, each once.
    pub fn from_ids<S: Into<String>>(entries: impl IntoIterator<Item = (S, u32)>) -> Result<Self> {
        let mut entries: Vec<(String, u32)> =
            entries.into_iter().map(|(t, id)| (t.into(), id)).collect();
        entries.sort_by_key(|e| e.1);
        for (expected, pair) in entries.iter().enumerate() {
            if pair.1 as usize != expected {
                return Err(wrong_id(&entries, expected, pair));
            }
        }
        Self::new(entries.into_iter().map(|e| e.0))
    }

    /// Reads a `vocab.json`: one object, `token -> number`, in any order.
    ///
    /// # Errors
    /// [`Error::Model`] if the file cannot be read or is not such an object; it names the first entry that is negative, too
    /// large, no integer, or there twice, and the first number that no token has.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        read::read(path.as_ref())
    }

    /// Counts genes: the most frequent comes first, of equally frequent ones the alphabetically first.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if a special token is also a gene or there twice.
    pub fn from_genes<S: AsRef<str>>(
        genes: &[S],
        specials: &[&str],
        at: SpecialsAt,
    ) -> Result<Self> {
        let mut counts: HashMap<&str, usize> = HashMap::with_capacity(genes.len());
        for gene in genes {
            *counts.entry(gene.as_ref()).or_default() += 1;
        }
        let mut counted: Vec<(&str, usize)> = counts.into_iter().collect();
        counted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let genes = counted.into_iter().map(|(g, _)| g);
        let specials = specials.iter().copied();
        match at {
            SpecialsAt::First => Self::new(specials.chain(genes)),
            SpecialsAt::Last => Self::new(genes.chain(specials)),
        }
    }

    /// With special tokens after all others, those that are not there yet; usually [`SPECIALS`]. Says nothing about unknown
    /// genes: see [`GeneVocab::with_default`].
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if there are more tokens than `u32` can count.
    pub fn with_specials(mut self, specials: &[&str]) -> Result<Self> {
        for special in specials {
            if !self.ids.contains_key(*special) {
                self.push((*special).to_owned())?;
            }
        }
        Ok(self)
    }

    /// With a token that stands for unknown ones in [`GeneVocab::id_or_default`], or none.
    ///
    /// # Errors
    /// [`Error::MissingToken`] if it is not in the vocabulary.
    pub fn with_default(mut self, token: Option<&str>) -> Result<Self> {
        self.default = token
            .map(|t| self.needed(t, "to stand for unknown genes"))
            .transpose()?;
        Ok(self)
    }

    /// Writes a `vocab.json`, whole or not at all, in the order of the numbers.
    ///
    /// # Errors
    /// [`Error::Model`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        read::save(self, path.as_ref())
    }

    /// Number of tokens, special ones included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// All tokens in the order of their numbers.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The token with a number.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The number of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The number that unknown tokens get, that of `<pad>` if it was there from the start.
    pub fn default_id(&self) -> Option<u32> {
        self.default
    }

    /// The number of a token, or the default number.
    pub fn id_or_default(&self, token: &str) -> Option<u32> {
        self.id(token).or(self.default)
    }

    /// The number of `<pad>`.
    ///
    /// # Errors
    /// [`Error::MissingToken`].
    pub fn pad(&self) -> Result<u32> {
        self.needed(PAD, "needed to fill up cells and for unknown genes")
    }

    /// The number of `<cls>`.
    ///
    /// # Errors
    /// [`Error::MissingToken`].
    pub fn cls(&self) -> Result<u32> {
        self.needed(CLS, "needed for the embedding of a cell")
    }

    /// The number of a token that must be there for some purpose.
    pub(crate) fn needed(&self, token: &str, purpose: &'static str) -> Result<u32> {
        self.id(token).ok_or_else(|| Error::MissingToken {
            token: token.to_owned(),
            size: self.len(),
            purpose,
        })
    }

    fn push(&mut self, token: String) -> Result<()> {
        let wrong = |reason| Err(Error::Vocabulary { reason });
        let Ok(id) = u32::try_from(self.tokens.len()) else {
            return wrong(format!("has more than {} tokens", u32::MAX));
        };
        if self.ids.insert(token.clone(), id).is_some() {
            return wrong(format!("has the token \"{token}\" twice; keep one of them"));
        }
        self.tokens.push(token);
        Ok(())
    }
}

/// Why `pair`, which comes at place `expected` in the order of the numbers, can't be right.
fn wrong_id(entries: &[(String, u32)], expected: usize, pair: &(String, u32)) -> Error {
    let before = expected.checked_sub(1).and_then(|i| entries.get(i));
    let reason = match before {
        Some(before) if before.1 == pair.1 => format!(
            "gives the number {} to both \"{}\" and \"{}\"",
            pair.1, before.0, pair.0
        ),
        _ => format!(
            "has no token with the number {expected} (the next is \"{}\", {}); {} tokens must have the numbers 0 to {}",
            pair.0,
            pair.1,
            entries.len(),
            entries.len().saturating_sub(1)
        ),
    };
    Error::Vocabulary { reason }
}
