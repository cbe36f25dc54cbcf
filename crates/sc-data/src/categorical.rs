use std::collections::HashMap;

use crate::{Error, Result};

/// A column of labels, each one of a few categories: `codes[i]` indexes `categories`, `None` is a missing value.
///
/// The order of the categories is part of the data: it decides the code that a model gives to each batch or label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Categorical {
    codes: Vec<Option<u32>>,
    categories: Vec<String>,
    ordered: bool,
}

impl Categorical {
    /// From codes and categories.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a code has no category, [`Error::Duplicate`] if a category occurs twice.
    pub fn new(codes: Vec<Option<u32>>, categories: Vec<String>, ordered: bool) -> Result<Self> {
        let n = categories.len();
        if let Some(code) = codes.iter().flatten().find(|&&c| c as usize >= n) {
            return Err(Error::OutOfRange {
                what: "category",
                index: *code as usize,
                len: n,
            });
        }
        let mut seen = std::collections::HashSet::with_capacity(n);
        if let Some(twice) = categories.iter().find(|c| !seen.insert(c.as_str())) {
            return Err(Error::Duplicate {
                what: "the categories".into(),
                name: twice.clone(),
            });
        }
        Ok(Self {
            codes,
            categories,
            ordered,
        })
    }

    /// From one label a row; the categories are the distinct labels, sorted.
    pub fn from_labels<S: AsRef<str>>(labels: &[S]) -> Self {
        Self::from_options(labels.iter().map(|l| Some(l.as_ref())))
    }

    /// From one label a row or `None`; the categories are the distinct labels, sorted.
    pub fn from_options<'a>(labels: impl Iterator<Item = Option<&'a str>> + Clone) -> Self {
        let mut categories: Vec<&str> = labels.clone().flatten().collect();
        categories.sort_unstable();
        categories.dedup();
        let codes = labels
            .map(|l| {
                l.and_then(|l| categories.binary_search(&l).ok())
                    .map(|c| c as u32)
            })
            .collect();
        Self {
            codes,
            categories: categories.into_iter().map(str::to_owned).collect(),
            ordered: false,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The code of each row.
    pub fn codes(&self) -> &[Option<u32>] {
        &self.codes
    }

    /// The categories in their order.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// Whether the order of the categories means something (e.g. stages).
    pub fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// The label of row `i`, `None` if it is missing or there is no such row.
    pub fn get(&self, i: usize) -> Option<&str> {
        let code = self.codes.get(i).copied().flatten()?;
        self.categories.get(code as usize).map(String::as_str)
    }

    /// The label of each row.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> + Clone {
        self.codes
            .iter()
            .map(|c| c.map(|c| self.categories[c as usize].as_str()))
    }

    /// The codes, if no value is missing.
    ///
    /// # Errors
    /// [`Error::Missing`], with `name` in the message.
    pub fn complete_codes(&self, name: &str) -> Result<Vec<u32>> {
        let missing = self.codes.iter().filter(|c| c.is_none()).count();
        match self.codes.iter().position(Option::is_none) {
            Some(first) => Err(Error::Missing {
                name: name.to_owned(),
                count: missing,
                first,
            }),
            None => Ok(self.codes.iter().flatten().copied().collect()),
        }
    }

    /// The same labels with the codes of other categories, e.g. those a model was trained with.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a label that occurs is not among them.
    pub fn recode(&self, name: &str, categories: &[String]) -> Result<Self> {
        let lookup: HashMap<&str, u32> = categories
            .iter()
            .enumerate()
            .map(|(i, c)| (c.as_str(), i as u32))
            .collect();
        let codes = self
            .iter()
            .map(|label| match label {
                None => Ok(None),
                Some(l) => lookup
                    .get(l)
                    .map(|&c| Some(c))
                    .ok_or_else(|| Error::NotFound {
                        container: name.to_owned(),
                        kind: "category",
                        name: l.to_owned(),
                        available: categories.join(", "),
                    }),
            })
            .collect::<Result<Vec<_>>>()?;
        Self::new(codes, categories.to_vec(), self.ordered)
    }

    /// The rows in the order given; rows beyond the end become missing.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            codes: rows
                .iter()
                .map(|&r| self.codes.get(r).copied().flatten())
                .collect(),
            categories: self.categories.clone(),
            ordered: self.ordered,
        }
    }

    /// How often each category occurs.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.categories.len()];
        for code in self.codes.iter().flatten() {
            counts[*code as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_sort_and_recode() {
        let c = Categorical::from_labels(&["b", "a", "b"]);
        assert_eq!(c.categories(), ["a", "b"]);
        assert_eq!(c.complete_codes("x").unwrap(), vec![1, 0, 1]);
        assert_eq!(c.counts(), vec![1, 2]);
        let r = c
            .recode("x", &["b".into(), "z".into(), "a".into()])
            .unwrap();
        assert_eq!(r.complete_codes("x").unwrap(), vec![0, 2, 0]);
        let message = c.recode("batch", &["a".into()]).unwrap_err().to_string();
        assert!(
            message.contains("\"b\"") && message.contains("batch"),
            "{message}"
        );
    }

    #[test]
    fn missing_values_are_named() {
        let c = Categorical::from_options([Some("a"), None, None].into_iter());
        let message = c.complete_codes("batch").unwrap_err().to_string();
        assert!(
            message.contains("2 missing") && message.contains("row 1"),
            "{message}"
        );
        assert!(Categorical::new(vec![Some(1)], vec!["a".into()], false).is_err());
        assert!(Categorical::new(vec![], vec!["a".into(), "a".into()], false).is_err());
    }
}
