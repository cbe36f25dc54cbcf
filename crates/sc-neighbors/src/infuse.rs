use std::collections::BTreeMap;

use ndarray::{ArrayView2, Axis};
use sc_data::Categorical;

use crate::{Error, LabelTransfer, Result, UNKNOWN_ABOVE, knn, knn_query};

/// Settings of [`infuse`].
#[derive(Debug, Clone, PartialEq)]
pub struct InfuseOptions {
    /// Expert cells that vote for the label of a reference cell.
    pub k: usize,
    /// A reference cell keeps its label if the votes are more uncertain than this.
    pub max_uncertainty: f64,
    /// A reference cell keeps its label if its `k`-th expert neighbour is further away than this many times the distance
    /// that is usual among the expert cells (the median distance from one to its `k`-th other). Votes agree also far
    /// away from all expert cells; without a limit, or compartments, these would take labels too.
    pub reach: Option<f64>,
}

impl Default for InfuseOptions {
    fn default() -> Self {
        Self {
            k: 50,
            max_uncertainty: UNKNOWN_ABOVE,
            reach: None,
        }
    }
}

/// The cells of one side: their places in the latent space, `[n, dimensions]`, and their labels.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Where each cell lies.
    pub latent: ArrayView2<'a, f32>,
    /// What each cell is.
    pub labels: &'a Categorical,
    /// The compartment of each cell, if labels are only to pass between cells of the same. A cell without one takes part
    /// in nothing.
    pub compartments: Option<&'a Categorical>,
}

/// The reference after [`infuse`].
#[derive(Debug, Clone, PartialEq)]
pub struct Infused {
    /// The new label of each cell, or its old one. The categories are the old ones and, after them, those that are new.
    pub labels: Categorical,
    /// The score of the expert label that won, for each cell that could have taken one, also where it was too low.
    pub confidence: Vec<Option<f64>>,
    /// Whether the label of a cell comes from the expert.
    pub taken: Vec<bool>,
}

/// Writes the labels of an expert's cells onto a reference: a study of one compartment, annotated more finely than the
/// atlas, was mapped into its latent space, and now each reference cell asks its nearest expert cells, with the weights and
/// the uncertainty of [`LabelTransfer`] (Sikkema et al. 2023; Ergen et al., "Scvi-hub", Nat Methods 2025).
///
/// A reference cell takes the label that wins if the vote is certain enough and the experts are within reach; otherwise it
/// keeps its own. With compartments on both sides only expert cells of the cell's own compartment vote. Only latent places
/// are needed: a reference without counts will do.
///
/// ```
/// use ndarray::array;
/// use sc_data::Categorical;
/// use sc_neighbors::{InfuseOptions, Labelled, infuse};
///
/// # fn main() -> Result<(), sc_neighbors::Error> {
/// let places = array![[0.0f32], [0.1], [1.0], [1.1], [9.0]];
/// let coarse = Categorical::from_labels(&["T cell", "T cell", "T cell", "T cell", "B cell"]);
/// let expert = array![[0.02f32], [0.05], [1.02], [1.05]];
/// let fine = Categorical::from_labels(&["T naive", "T naive", "T memory", "T memory"]);
/// let infused = infuse(
///     Labelled { latent: places.view(), labels: &coarse, compartments: None },
///     Labelled { latent: expert.view(), labels: &fine, compartments: None },
///     &InfuseOptions { k: 2, reach: Some(5.0), ..InfuseOptions::default() },
/// )?;
/// let labels: Vec<_> = infused.labels.iter().flatten().collect();
/// assert_eq!(labels, ["T naive", "T naive", "T memory", "T memory", "B cell"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::LengthMismatch`] if lengths or dimensions differ, [`Error::InvalidParameter`] if a setting is out of range, if
/// only one side has compartments or the two have none in common, or if no expert cell has a label;
/// [`Error::InvalidCoordinate`] if a coordinate is not finite.
pub fn infuse(
    reference: Labelled<'_>,
    expert: Labelled<'_>,
    options: &InfuseOptions,
) -> Result<Infused> {
    check(reference, expert, options)?;
    let mut new: Vec<Option<String>> = vec![None; reference.labels.len()];
    let mut confidence = vec![None; new.len()];
    for (cells, experts) in pairs(reference, expert)? {
        let places = reference.latent.select(Axis(0), &cells);
        let latent = expert.latent.select(Axis(0), &experts);
        let labels = expert.labels.select(&experts);
        let found = LabelTransfer::fit(latent.view(), &labels)?
            .k(options.k)
            .transfer(places.view())?;
        let within = within_reach(latent.view(), places.view(), options)?;
        let names = found.labels();
        for (i, &cell) in cells.iter().enumerate() {
            let uncertainty = found.uncertainty()[i];
            confidence[cell] = Some(1.0 - uncertainty);
            if uncertainty <= options.max_uncertainty && within[i] {
                new[cell] = names.get(i).map(str::to_owned);
            }
        }
    }
    let labels = merge(reference.labels, &new)?;
    let taken = new.iter().map(Option::is_some).collect();
    Ok(Infused {
        labels,
        confidence,
        taken,
    })
}

fn check(reference: Labelled<'_>, expert: Labelled<'_>, options: &InfuseOptions) -> Result<()> {
    check_side(
        reference,
        "the labels of the reference",
        "the compartments of the reference",
    )?;
    check_side(
        expert,
        "the labels of the expert",
        "the compartments of the expert",
    )?;
    same(
        "a place of the expert's cells",
        expert.latent.ncols(),
        reference.latent.ncols(),
    )?;
    let bad = |name, found: f64, expected: &str| {
        Err(Error::InvalidParameter {
            name,
            found: found.to_string(),
            expected: expected.to_owned(),
        })
    };
    match options.reach {
        Some(r) if !(r.is_finite() && r > 0.0) => bad("reach", r, "a positive number"),
        _ if !(0.0..=1.0).contains(&options.max_uncertainty) => {
            bad("max_uncertainty", options.max_uncertainty, "0 to 1")
        }
        _ => Ok(()),
    }
}

fn check_side(side: Labelled<'_>, labels: &'static str, compartments: &'static str) -> Result<()> {
    let n = side.latent.nrows();
    same(labels, side.labels.len(), n)?;
    side.compartments
        .map_or(Ok(()), |c| same(compartments, c.len(), n))
}

fn same(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::LengthMismatch {
        what,
        found,
        expected,
    })
}

/// For each compartment the reference cells in it and the labelled expert cells in it; all of them if there are no
/// compartments.
fn pairs(reference: Labelled<'_>, expert: Labelled<'_>) -> Result<Vec<(Vec<usize>, Vec<usize>)>> {
    let is_labelled = |&i: &usize| expert.labels.codes()[i].is_some();
    let (Some(own), Some(theirs)) = (reference.compartments, expert.compartments) else {
        if reference.compartments.is_some() != expert.compartments.is_some() {
            return Err(Error::InvalidParameter {
                name: "the number of sides with compartments",
                found: "1".into(),
                expected: "2, or none".into(),
            });
        }
        let all = (0..reference.labels.len()).collect();
        return Ok(vec![(
            all,
            (0..expert.labels.len()).filter(is_labelled).collect(),
        )]);
    };
    let mut found: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (i, name) in theirs.iter().enumerate() {
        if let Some(name) = name.filter(|_| is_labelled(&i)) {
            found.entry(name).or_default().1.push(i);
        }
    }
    for (i, name) in own.iter().enumerate() {
        if let Some(pair) = name.and_then(|name| found.get_mut(name)) {
            pair.0.push(i);
        }
    }
    let both: Vec<_> = found.into_values().filter(|p| !p.0.is_empty()).collect();
    if both.is_empty() {
        return Err(Error::InvalidParameter {
            name: "the number of compartments that both sides have",
            found: "0".into(),
            expected: format!(
                "at least 1; the reference has {}, the expert {}",
                own.categories().join(", "),
                theirs.categories().join(", ")
            ),
        });
    }
    Ok(both)
}

/// Whether the `k`-th expert neighbour of each place is as near as `reach` asks.
fn within_reach(
    experts: ArrayView2<'_, f32>,
    places: ArrayView2<'_, f32>,
    options: &InfuseOptions,
) -> Result<Vec<bool>> {
    let k = options.k.min(experts.nrows().saturating_sub(1));
    let (Some(reach), true) = (options.reach, k > 0) else {
        return Ok(vec![true; places.nrows()]);
    };
    let mut usual = knn(experts, k)?.distances.column(k - 1).to_vec();
    let middle = usual.len() / 2;
    let (_, &mut usual, _) = usual.select_nth_unstable_by(middle, f32::total_cmp);
    let limit = reach * f64::from(usual);
    let far = knn_query(experts, places, k)?;
    let far = far.distances.column(k - 1);
    Ok(far.iter().map(|&d| f64::from(d) <= limit).collect())
}

/// The new labels where there are any, else the old ones.
fn merge(old: &Categorical, new: &[Option<String>]) -> Result<Categorical> {
    let mut categories = old.categories().to_vec();
    let mut code: BTreeMap<String, u32> = categories.iter().cloned().zip(0..).collect();
    let mut fresh: Vec<&String> = new
        .iter()
        .flatten()
        .filter(|l| !code.contains_key(*l))
        .collect();
    fresh.sort_unstable();
    fresh.dedup();
    for name in fresh {
        code.insert(name.clone(), categories.len() as u32);
        categories.push(name.clone());
    }
    let codes = old.codes().iter().zip(new);
    let codes = codes.map(|(old, new)| new.as_ref().map_or(*old, |n| code.get(n).copied()));
    Ok(Categorical::new(codes.collect(), categories, false)?)
}

#[cfg(test)]
#[path = "infuse_tests.rs"]
mod tests;
