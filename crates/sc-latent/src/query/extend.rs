//! What a model knows of categories, and a query adds.

use sc_data::{Categorical, Column, Table};

use crate::cells::{unknown, unknown_labels};
use crate::{Error, Registry, Result};

impl Registry {
    /// The registry of a query: the categories of this reference keep their codes, and the batches and covariate levels that
    /// only the query has follow them, sorted. Labels are never added to. `obs` describes the cells of the query.
    ///
    /// # Errors
    /// [`Error::MissingQueryColumn`], which lists the columns there are; [`Error::UnknownLabels`] lists the labels that the
    /// reference does not know.
    pub fn extended(&self, obs: &Table) -> Result<Self> {
        let mut out = self.clone();
        // The reference's cells may be minified; those of a query have counts.
        out.minified = None;
        let setup = &self.setup;
        if let Some(key) = &setup.batch_key {
            let added = self.added(obs, key, "the batch of each cell", &self.batches)?;
            out.grow(key, &added);
            out.batches.extend(added);
        }
        for (k, key) in setup.categorical_covariate_keys.iter().enumerate() {
            let known = self
                .categorical_covariates
                .get(k)
                .map_or(&[][..], Vec::as_slice);
            let added = self.added(obs, key, "a covariate", known)?;
            out.grow(key, &added);
            if let Some(levels) = out.categorical_covariates.get_mut(k) {
                levels.extend(added);
            }
        }
        for key in setup
            .continuous_covariate_keys
            .iter()
            .chain(&setup.size_factor_key)
        {
            column(obs, key, "numbers of each cell")?;
        }
        if let Some(key) = &setup.labels_key {
            self.check_labels(obs, key)?;
        }
        Ok(out)
    }

    /// The categories that occur and are not known.
    fn added(
        &self,
        obs: &Table,
        key: &str,
        meaning: &'static str,
        known: &[String],
    ) -> Result<Vec<String>> {
        let column = column(obs, key, meaning)?.to_categorical(key)?;
        let mut new = unknown(&column, known);
        let numbers = |v: &[String]| v.iter().all(|c| c.parse::<i64>().is_ok());
        if self.integer_keys.iter().any(|k| k == key) && numbers(&new) {
            new.sort_by_key(|c| c.parse::<i64>().unwrap_or_default());
        } else {
            new.sort_unstable();
        }
        Ok(new)
    }

    /// A column whose categories were whole numbers no longer is one of numbers if text is added.
    fn grow(&mut self, key: &str, added: &[String]) {
        if added.iter().any(|c| c.parse::<i64>().is_err()) {
            self.integer_keys.retain(|k| k != key);
        }
    }

    fn check_labels(&self, obs: &Table, key: &str) -> Result<()> {
        // Where there is a category for cells without a label, the column may be missing.
        if self.setup.unlabeled_category.is_some() && obs.get(key).is_none() {
            return Ok(());
        }
        let labels = column(obs, key, "the label of each cell")?.to_categorical(key)?;
        let new = unknown(&labels, &self.labels);
        if new.is_empty() {
            return Ok(());
        }
        Err(unknown_labels(key, &new, self))
    }
}

fn column<'a>(obs: &'a Table, key: &str, meaning: &'static str) -> Result<&'a Column> {
    obs.get(key).ok_or_else(|| {
        let names: Vec<&str> = obs.columns().map(|(name, _)| name).collect();
        Error::MissingQueryColumn {
            column: key.to_owned(),
            meaning,
            available: if names.is_empty() {
                "nothing".into()
            } else {
                names.join(", ")
            },
        }
    })
}

/// The description of the cells with every label that is missing filled in as `unlabeled`, and how many those were.
pub(super) fn fill_labels(obs: &Table, key: &str, unlabeled: &str) -> Result<(Table, usize)> {
    let n = obs.n_rows();
    let (labels, filled): (Vec<String>, usize) = match obs.get(key) {
        None => (vec![unlabeled.to_owned(); n], n),
        Some(column) => {
            let column = column.to_categorical(key)?;
            let filled = column.iter().filter(Option::is_none).count();
            let labels = column.iter().map(|l| l.unwrap_or(unlabeled).to_owned());
            (labels.collect(), filled)
        }
    };
    let mut obs = obs.clone();
    if filled > 0 {
        obs.insert(key, Column::Categorical(Categorical::from_labels(&labels)))?;
    }
    Ok((obs, filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Setup;

    fn registry() -> Registry {
        let mut r = Registry::plain(3);
        r.setup = Setup {
            batch_key: Some("batch".into()),
            labels_key: Some("label".into()),
            categorical_covariate_keys: vec!["lane".into()],
            unlabeled_category: Some("Unknown".into()),
            ..Setup::default()
        };
        r.batches = vec!["z".into(), "a".into()];
        r.labels = vec!["T".into(), "Unknown".into()];
        r.categorical_covariates = vec![vec!["1".into(), "2".into()]];
        r.integer_keys = vec!["lane".into()];
        r
    }

    fn obs(batches: &[&str], lanes: Vec<i64>) -> Table {
        let mut obs = Table::new((0..batches.len()).map(|i| i.to_string()).collect());
        obs.insert(
            "batch",
            Column::Categorical(Categorical::from_labels(batches)),
        )
        .unwrap();
        obs.insert("lane", Column::Int(lanes)).unwrap();
        obs
    }

    #[test]
    fn new_categories_follow_the_known_ones() {
        let obs = obs(&["q", "a", "b"], vec![10, 9, 2]);
        let r = registry().extended(&obs).unwrap();
        assert_eq!(r.batches, ["z", "a", "b", "q"]);
        assert_eq!(r.categorical_covariates[0], ["1", "2", "9", "10"]);
        assert_eq!(r.labels, registry().labels);
    }

    #[test]
    fn missing_columns_and_unknown_labels_are_named() {
        let mut some = obs(&["a", "b"], vec![1, 2]);
        let labels = Column::OptStr(vec![Some("B cell".into()), None]);
        some.insert("label", labels).unwrap();
        let message = registry().extended(&some).unwrap_err().to_string();
        assert!(
            message.contains("B cell") && message.contains("Unknown"),
            "{message}"
        );
        some.remove("batch");
        let message = registry().extended(&some).unwrap_err().to_string();
        assert!(
            message.contains("\"batch\"") && message.contains("lane"),
            "{message}"
        );
    }

    #[test]
    fn labels_that_are_missing_are_filled() {
        let mut some = obs(&["a", "b"], vec![1, 2]);
        assert_eq!(fill_labels(&some, "label", "Unknown").unwrap().1, 2);
        some.insert("label", Column::OptStr(vec![Some("T".into()), None]))
            .unwrap();
        let (filled, n) = fill_labels(&some, "label", "Unknown").unwrap();
        let labels = filled
            .get("label")
            .unwrap()
            .to_categorical("label")
            .unwrap();
        assert_eq!(
            (n, labels.get(0), labels.get(1)),
            (1, Some("T"), Some("Unknown"))
        );
    }
}
