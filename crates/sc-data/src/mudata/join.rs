//! Cells and features of several modalities, joined by name or put one behind the other.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use super::Places;
use crate::{AnnData, Error, Result, Table};

/// Cells or features.
#[derive(Clone, Copy)]
pub(super) struct Side {
    /// The table's name.
    pub(super) table: &'static str,
    /// The map's name.
    pub(super) map: &'static str,
    /// One row of it.
    one: &'static str,
    of: fn(&AnnData) -> &Table,
}

pub(super) const OBS: Side = Side {
    table: "obs",
    map: "obsmap",
    one: "cell",
    of: |data| &data.obs,
};

pub(super) const VAR: Side = Side {
    table: "var",
    map: "varmap",
    one: "feature",
    of: |data| &data.var,
};

type Modalities = IndexMap<String, AnnData>;
type Maps = IndexMap<String, Places>;

impl Side {
    pub(super) fn names(self, data: &AnnData) -> &[String] {
        (self.of)(data).index()
    }

    fn in_modality(self, name: &str) -> String {
        format!("{} of modality \"{name}\"", self.table)
    }
}

/// The joint names and the maps to them.
pub(super) fn join(all: &Modalities, side: Side, by_name: bool) -> Result<(Vec<String>, Maps)> {
    if !by_name {
        return Ok(one_behind_the_other(all, side));
    }
    let mut joint: IndexSet<&String> = IndexSet::new();
    let mut places = Vec::with_capacity(all.len());
    for (name, data) in all {
        let own = side.names(data);
        unique(own, || side.in_modality(name))?;
        places.push(
            own.iter()
                .map(|n| joint.insert_full(n).0)
                .collect::<Vec<_>>(),
        );
    }
    let maps = all.keys().zip(places).map(|(name, places)| {
        let mut map = vec![None; joint.len()];
        for (row, place) in places.into_iter().enumerate() {
            if let Some(slot) = map.get_mut(place) {
                *slot = Some(row);
            }
        }
        (name.clone(), map)
    });
    let maps = maps.collect();
    Ok((joint.into_iter().cloned().collect(), maps))
}

fn one_behind_the_other(all: &Modalities, side: Side) -> (Vec<String>, Maps) {
    let joint: Vec<String> = all.values().flat_map(|d| side.names(d)).cloned().collect();
    let mut start = 0;
    let maps = all.iter().map(|(name, data)| {
        let own = start..start + side.names(data).len();
        start = own.end;
        let place = |i: usize| own.contains(&i).then(|| i - own.start);
        (name.clone(), (0..joint.len()).map(place).collect())
    });
    let maps = maps.collect();
    (joint, maps)
}

/// The maps to joint names that are given.
pub(super) fn maps(joint: &[String], all: &Modalities, side: Side, by_name: bool) -> Result<Maps> {
    if !by_name {
        let (behind, maps) = one_behind_the_other(all, side);
        if behind == joint {
            return Ok(maps);
        }
    }
    let by_name = all.iter().map(|(name, data)| {
        let own = side.names(data);
        // Position by position even where names are not unique.
        if own == joint {
            return Ok((name.clone(), (0..own.len()).map(Some).collect()));
        }
        unique(own, || side.in_modality(name))?;
        unique(joint, || format!("the joint {}", side.table))?;
        let mut rows: HashMap<&str, usize> =
            own.iter().map(String::as_str).zip(0..own.len()).collect();
        let map: Places = joint.iter().map(|n| rows.remove(n.as_str())).collect();
        match own.iter().find(|n| rows.contains_key(n.as_str())) {
            None => Ok((name.clone(), map)),
            Some(lost) => Err(Error::NotFound {
                container: format!("the joint {}", side.table),
                kind: side.one,
                name: lost.clone(),
                available: format!(
                    "{} {}s, which lack {} of modality \"{name}\"",
                    joint.len(),
                    side.one,
                    rows.len()
                ),
            }),
        }
    });
    by_name.collect()
}

/// For each row of a modality its place; every row must be there once.
pub(super) fn inverse(map: &[Option<usize>], n: usize) -> Result<Vec<usize>, String> {
    let mut places = vec![None; n];
    for (place, row) in map.iter().enumerate() {
        let Some(row) = *row else { continue };
        match places.get_mut(row) {
            None => {
                return Err(format!(
                    "names row {row} at {place}, and there are {n} rows"
                ));
            }
            Some(Some(other)) => {
                return Err(format!("names row {row} twice, at {other} and at {place}"));
            }
            Some(slot) => *slot = Some(place),
        }
    }
    let lost = places.iter().position(Option::is_none);
    match lost {
        Some(row) => Err(format!("does not name row {row} of {n}")),
        None => Ok(places.into_iter().flatten().collect()),
    }
}

fn unique(names: &[String], what: impl FnOnce() -> String) -> Result<()> {
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    match names.iter().find(|n| !seen.insert(n.as_str())) {
        None => Ok(()),
        Some(twice) => Err(Error::Duplicate {
            what: what(),
            name: twice.clone(),
        }),
    }
}
