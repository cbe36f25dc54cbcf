//! Which cells are compared with which.

use sc_data::Categorical;

use crate::{Error, Result};

/// Comparisons of populations of cells.
///
/// ```
/// use sc_data::Categorical;
/// use sc_latent::de::Groups;
/// let labels = Categorical::from_labels(&["B", "T", "B", "NK"]);
/// let all: [&str; 0] = []; // no names: every group
/// assert_eq!(Groups::one_vs_rest(&labels, &all)?.len(), 3);
/// assert_eq!(Groups::against(&labels, &["B"], "T")?.names(), [("B", "T")]);
/// assert_eq!(Groups::pairwise(&labels, &all)?.len(), 3);
/// let sets = Groups::sets(4, &[0, 2], Some(&[3]))?;
/// assert_eq!(sets.len(), 1);
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Groups {
    pub(super) populations: Vec<Population>,
    pub(super) comparisons: Vec<Comparison>,
    /// Whether the populations have names worth showing.
    pub(super) named: bool,
    pub(super) n_cells: usize,
}

/// Some cells.
#[derive(Debug, Clone)]
pub(super) struct Population {
    pub(super) name: String,
    /// Sorted, each once, at least one.
    pub(super) cells: Vec<usize>,
}

/// A population and what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) first: usize,
    pub(super) second: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    Population(usize),
    /// All cells that are not in the first population.
    Rest,
}

/// What all the other cells are called.
pub(super) const REST: &str = "Rest";

impl Groups {
    /// Each of some groups, or with an empty list each group that has cells, against all the other cells (those without a
    /// label too).
    ///
    /// # Errors
    /// [`sc_data::Error::NotFound`] for an unknown group, which lists those there are, and [`Error::EmptyGroup`] if one has
    /// no cells or there are no others.
    pub fn one_vs_rest<S: AsRef<str>>(labels: &Categorical, groups: &[S]) -> Result<Self> {
        let mut out = Self::of(labels, groups)?;
        out.comparisons = (0..out.populations.len())
            .map(|first| Comparison {
                first,
                second: Against::Rest,
            })
            .collect();
        out.check()
    }

    /// Each of some groups, or with an empty list each other group that has cells, against one group.
    ///
    /// # Errors
    /// As [`Groups::one_vs_rest`], and if a group is compared with itself.
    pub fn against<S: AsRef<str>>(
        labels: &Categorical,
        groups: &[S],
        second: &str,
    ) -> Result<Self> {
        let mut out = Self::of(labels, groups)?;
        if groups.is_empty() {
            out.populations.retain(|p| p.name != second);
        } else if groups.iter().any(|g| g.as_ref() == second) {
            return Err(Error::InvalidSetting {
                name: "group2",
                value: second.to_owned(),
                reason: "a group can't be compared with itself; name another, or leave it out for all other cells"
                    .into(),
            });
        }
        let other = out.populations.len();
        out.populations.push(population(labels, second)?);
        out.comparisons = (0..other)
            .map(|first| Comparison {
                first,
                second: Against::Population(other),
            })
            .collect();
        out.check()
    }

    /// Every two of some groups, or with an empty list of all that have cells.
    ///
    /// # Errors
    /// As [`Groups::one_vs_rest`], and if there are fewer than two groups.
    pub fn pairwise<S: AsRef<str>>(labels: &Categorical, groups: &[S]) -> Result<Self> {
        let mut out = Self::of(labels, groups)?;
        let n = out.populations.len();
        out.comparisons = (0..n)
            .flat_map(|first| {
                (first + 1..n).map(move |second| Comparison {
                    first,
                    second: Against::Population(second),
                })
            })
            .collect();
        out.check()
    }

    /// Some of `n_cells` cells against others, or against all others.
    ///
    /// # Errors
    /// If a cell does not exist, and [`Error::EmptyGroup`].
    pub fn sets(n_cells: usize, first: &[usize], second: Option<&[usize]>) -> Result<Self> {
        let set = |name: &str, cells: &[usize]| -> Result<Population> {
            if let Some(&index) = cells.iter().find(|&&c| c >= n_cells) {
                return Err(sc_data::Error::OutOfRange {
                    what: "cell",
                    index,
                    len: n_cells,
                }
                .into());
            }
            let mut cells = cells.to_vec();
            cells.sort_unstable();
            cells.dedup();
            Ok(Population {
                name: name.to_owned(),
                cells,
            })
        };
        let mut populations = vec![set("first set", first)?];
        if let Some(second) = second {
            populations.push(set("second set", second)?);
        }
        Self {
            comparisons: vec![Comparison {
                first: 0,
                second: match second {
                    Some(_) => Against::Population(1),
                    None => Against::Rest,
                },
            }],
            populations,
            named: false,
            n_cells,
        }
        .check()
    }

    /// The populations of some groups, or of all that have cells; no comparisons yet.
    fn of<S: AsRef<str>>(labels: &Categorical, groups: &[S]) -> Result<Self> {
        let populations = if groups.is_empty() {
            let used = labels.categories().iter().zip(labels.counts());
            used.filter(|(_, n)| *n > 0)
                .map(|(name, _)| population(labels, name))
                .collect::<Result<Vec<_>>>()?
        } else {
            let mut seen = std::collections::HashSet::new();
            let distinct = groups.iter().map(AsRef::as_ref).filter(|g| seen.insert(*g));
            distinct
                .map(|name| population(labels, name))
                .collect::<Result<Vec<_>>>()?
        };
        Ok(Self {
            populations,
            comparisons: Vec::new(),
            named: true,
            n_cells: labels.len(),
        })
    }

    fn check(self) -> Result<Self> {
        let empty = |group: &str| Error::EmptyGroup {
            group: group.to_owned(),
            n_cells: self.n_cells,
        };
        if let Some(p) = self.populations.iter().find(|p| p.cells.is_empty()) {
            return Err(empty(&p.name));
        }
        let all = |c: &&Comparison| {
            c.second == Against::Rest && self.populations[c.first].cells.len() == self.n_cells
        };
        if self.comparisons.iter().any(|c| all(&c)) {
            return Err(empty(REST));
        }
        if self.comparisons.is_empty() {
            return Err(Error::InvalidSetting {
                name: "groups",
                value: self.populations.len().to_string(),
                reason: "there is nothing to compare: it takes two groups with cells".into(),
            });
        }
        Ok(self)
    }

    /// Number of comparisons.
    pub fn len(&self) -> usize {
        self.comparisons.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.comparisons.is_empty()
    }

    /// The names of the populations of each comparison.
    pub fn names(&self) -> Vec<(&str, &str)> {
        self.comparisons.iter().map(|c| self.names_of(*c)).collect()
    }

    pub(super) fn names_of(&self, c: Comparison) -> (&str, &str) {
        let name = |k: usize| self.populations[k].name.as_str();
        let second = match c.second {
            Against::Population(k) => name(k),
            Against::Rest => REST,
        };
        (name(c.first), second)
    }
}

/// The cells that are not among some (sorted) ones.
pub(super) fn others(cells: &[usize], n_cells: usize) -> Vec<usize> {
    let mut out = Vec::with_capacity(n_cells.saturating_sub(cells.len()));
    let mut excluded = cells.iter().peekable();
    for cell in 0..n_cells {
        if excluded.peek() == Some(&&cell) {
            excluded.next();
        } else {
            out.push(cell);
        }
    }
    out
}

fn population(labels: &Categorical, name: &str) -> Result<Population> {
    let Some(code) = labels.categories().iter().position(|c| c == name) else {
        return Err(sc_data::Error::NotFound {
            container: "the grouping".into(),
            kind: "group",
            name: name.to_owned(),
            available: labels.categories().join(", "),
        }
        .into());
    };
    let of_group = |(_, c): &(usize, &Option<u32>)| **c == Some(code as u32);
    let cells = labels.codes().iter().enumerate().filter(of_group);
    Ok(Population {
        name: name.to_owned(),
        cells: cells.map(|(i, _)| i).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Categorical {
        let codes = [0, 1, 0, 2].map(Some).into_iter().chain([None]).collect();
        let names = ["a", "b", "c", "unused"].map(str::to_owned);
        Categorical::new(codes, names.to_vec(), false).unwrap()
    }

    #[test]
    fn rest_is_everything_else() {
        let none: [&str; 0] = [];
        let groups = Groups::one_vs_rest(&labels(), &none).unwrap();
        assert_eq!(
            groups.names(),
            [("a", "Rest"), ("b", "Rest"), ("c", "Rest")]
        );
        let a = &groups.populations[0].cells;
        assert_eq!((a, others(a, 5)), (&vec![0, 2], vec![1, 3, 4]));
        let against = Groups::against(&labels(), &none, "b").unwrap();
        assert_eq!(against.names(), [("a", "b"), ("c", "b")]);
        let pairs = Groups::pairwise(&labels(), &["c", "a", "c"]).unwrap();
        assert_eq!(pairs.names(), [("c", "a")]);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let message = |r: Result<Groups>| r.unwrap_err().to_string();
        let unknown = message(Groups::one_vs_rest(&labels(), &["z"]));
        assert!(
            unknown.contains("\"z\"") && unknown.contains("a, b, c"),
            "{unknown}"
        );
        let empty = message(Groups::against(&labels(), &["a"], "unused"));
        assert!(
            empty.contains("\"unused\"") && empty.contains("no cells"),
            "{empty}"
        );
        assert!(message(Groups::against(&labels(), &["a"], "a")).contains("itself"));
        assert!(message(Groups::pairwise(&labels(), &["a"])).contains("two groups"));
        let all = Categorical::from_labels(&["a", "a"]);
        assert!(message(Groups::one_vs_rest(&all, &["a"])).contains("Rest"));
        assert!(Groups::sets(3, &[3], None).is_err());
        assert!(Groups::sets(3, &[], None).is_err());
        let sets = Groups::sets(5, &[4, 1, 4], Some(&[1])).unwrap();
        let cells: Vec<&[usize]> = sets.populations.iter().map(|p| &p.cells[..]).collect();
        assert_eq!(cells, [&[1, 4][..], &[1]]);
    }
}
