//! The cells, where they are, and what became of some.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array2, Axis};
use sc_data::{AnnData, Annotation, Categorical, Column, Csr};
use sc_preprocess::{ScaleOptions, Scaler, pca};
use sc_sde::downstream::{ClonalFates, FateMatrix, GeneSpace};

use crate::Result;

/// The label that is no fate.
pub(crate) const UNDECIDED: &[&str] = &["undiff"];
/// The two fates that published predictions are of.
pub(crate) const TWO: [&str; 2] = ["Neutrophil", "Monocyte"];
/// scDiffEq's.
const COMPONENTS: usize = 50;
/// The standard deviation of a coordinate of the plane: that of the first components of expression, so that noise and blur have
/// the same meaning.
const SIZE: f32 = 5.0;
/// Neighbours that vote on the label of a place: of 781 labelled cells in the plane, 3 know it best (docs).
const VOTES: (usize, usize) = (20, 3);

pub(crate) struct Cells {
    pub(crate) name: &'static str,
    pub(crate) places: Array2<f32>,
    pub(crate) days: Vec<f64>,
    /// Labels; in the plane, of few.
    pub(crate) kinds: Categorical,
    /// Neighbours that vote on a label.
    pub(crate) votes: usize,
    pub(crate) tests: Vec<Test>,
    pub(crate) published: Option<Published>,
}

/// Cells with known fates.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// Their day.
    pub(crate) from: f64,
    pub(crate) rows: Vec<usize>,
    pub(crate) observed: FateMatrix,
    /// The clone of each, or what several clones that share a cell are together: what folds must not cut.
    pub(crate) clones: Vec<usize>,
}

/// Cells of day 2 that were held out, with the probability of becoming a neutrophil and not a monocyte.
pub(crate) struct Published {
    pub(crate) rows: Vec<usize>,
    /// Of clones, smoothed over neighbours.
    pub(crate) smoothed: Vec<f64>,
    /// Of the clone of the cell itself, where it is known, by place in `rows`.
    pub(crate) clonal: Vec<(usize, f64)>,
    pub(crate) predictions: Vec<(&'static str, Vec<f64>)>,
}

impl Cells {
    /// Reads cells. Components of expression are found in the cells of the days `seen`.
    pub(crate) fn read(path: &Path, seen: &[f64]) -> Result<Self> {
        let data = sc_io::read(path)?;
        match data.obsm.get("X_clone") {
            Some(Annotation::Matrix(m)) => Self::expression(&data, &m.to_csr(), seen),
            _ => Self::plane(&data),
        }
    }

    /// The rows of a day.
    pub(crate) fn of_day(&self, day: f64) -> Vec<usize> {
        (0..self.days.len())
            .filter(|i| self.days.get(*i) == Some(&day))
            .collect()
    }

    /// The places of some cells.
    pub(crate) fn at(&self, rows: &[usize]) -> Array2<f32> {
        self.places.select(Axis(0), rows)
    }

    fn expression(data: &AnnData, clones: &Csr, seen: &[f64]) -> Result<Self> {
        let days = data
            .obs
            .column("obs", "time_info")?
            .to_categorical("time_info")?;
        let days = days.iter().map(|d| d.unwrap_or("").parse::<f64>());
        let days = days.collect::<Result<Vec<_>, _>>()?;
        let kinds = data
            .obs
            .column("obs", "state_info")?
            .to_categorical("state_info")?;
        // scDiffEq's recipe: z-scores of normalised expression, and their components.
        let x = data.matrix(None)?.to_csr();
        let rows: Vec<usize> = (0..days.len())
            .filter(|i| seen.contains(&days[*i]))
            .collect();
        let of_seen = x.select_rows(&rows)?;
        let scaler = Scaler::fit(&of_seen, ScaleOptions::default())?;
        let found = pca(&scaler.to_dense(&of_seen)?, COMPONENTS, 0)?;
        let space = GeneSpace::from_pca(data.var.index().to_vec(), Some(&scaler), &found)?;
        let places = space.project(&x, &(0..days.len()).collect::<Vec<_>>())?;
        let test = |name, from: f64, later: &[f64]| -> Result<Test> {
            let found = ClonalFates::observe(clones, &days, &kinds, from, later, UNDECIDED)?;
            Ok(Test {
                name,
                from,
                rows: found.cells().to_vec(),
                observed: found.matrix(),
                clones: joined(clones, found.cells()),
            })
        };
        let tests = vec![
            test("day 4", 4.0, &[6.0])?,
            test("day 2", 2.0, &[4.0, 6.0])?,
        ];
        Ok(Self {
            name: "subset",
            places,
            days,
            kinds,
            votes: VOTES.0,
            tests,
            published: None,
        })
    }

    fn plane(data: &AnnData) -> Result<Self> {
        let mut places = data.matrix(None)?.to_dense();
        let centre = places.mean_axis(Axis(0)).ok_or("no cells")?;
        places -= &centre;
        let size = places
            .mapv(|v| f64::from(v * v))
            .mean()
            .unwrap_or(1.0)
            .sqrt() as f32;
        places *= SIZE / size;
        let test = clonal(data)?;
        let published = Published::new(data, &test)?;
        Ok(Self {
            name: "plane",
            places,
            days: numbers(data, "day")?,
            kinds: data
                .obs
                .column("obs", "state_info")?
                .to_categorical("state_info")?,
            votes: VOTES.1,
            tests: vec![test],
            published: Some(published),
        })
    }
}

/// A column of numbers, NaN where one is missing.
fn numbers(data: &AnnData, name: &str) -> Result<Vec<f64>> {
    match data.obs.column("obs", name)? {
        Column::Float(v) => Ok(v.clone()),
        other => Ok(other.to_f64(name)?),
    }
}

/// The cells of the plane with clonal fates. Their clones aren't known.
fn clonal(data: &AnnData) -> Result<Test> {
    let mut fates: Vec<(String, Vec<f64>)> = Vec::new();
    for (name, _) in data.obs.columns() {
        if let Some(fate) = name.strip_prefix("fate_") {
            fates.push((fate.to_owned(), numbers(data, name)?));
        }
    }
    let first = &fates
        .first()
        .ok_or("neither X_clone in obsm nor fate_... in obs")?
        .1;
    let rows: Vec<usize> = (0..first.len()).filter(|i| !first[*i].is_nan()).collect();
    let shares = Array2::from_shape_fn((rows.len(), fates.len()), |(i, j)| fates[j].1[rows[i]]);
    let names = fates.into_iter().map(|f| f.0).collect();
    Ok(Test {
        name: "day 2",
        from: 2.0,
        clones: (0..rows.len()).collect(),
        observed: FateMatrix::new(names, shares)?,
        rows,
    })
}

impl Published {
    fn new(data: &AnnData, test: &Test) -> Result<Self> {
        let held = numbers(data, "heldout")?;
        let rows: Vec<usize> = (0..held.len()).filter(|i| held[*i] == 1.0).collect();
        let of_rows = |name: &str| -> Result<Vec<f64>> {
            let all = numbers(data, name)?;
            Ok(rows.iter().filter_map(|r| all.get(*r).copied()).collect())
        };
        let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, r)| (*r, i)).collect();
        let [a, b] = TWO.map(|name| test.observed.fates().iter().position(|f| f == name));
        let (a, b) = a
            .zip(b)
            .ok_or("no neutrophils or monocytes among the fates")?;
        let fractions = test.observed.fractions();
        let clonal = test
            .rows
            .iter()
            .zip(fractions.rows())
            .filter_map(|(row, f)| {
                let sum = f[a] + f[b];
                let known = place.get(row).filter(|_| sum > 0.0);
                known.map(|i| (*i, f[a] / sum))
            });
        Ok(Self {
            clonal: clonal.collect(),
            smoothed: of_rows("smoothed")?,
            predictions: vec![
                ("WOT", of_rows("wot")?),
                ("PBA", of_rows("pba")?),
                ("FateID", of_rows("fateid")?),
            ],
            rows,
        })
    }
}

/// A number for each cell, the same for cells that share a barcode, directly or through others.
fn joined(clones: &Csr, cells: &[usize]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..cells.len()).collect();
    let mut first_with: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, &cell) in cells.iter().enumerate() {
        let (codes, values) = clones.row(cell);
        for (code, _) in codes.iter().zip(values).filter(|(_, v)| **v != 0.0) {
            let other = group[*first_with.entry(*code).or_insert(i)];
            let own = group[i];
            group
                .iter_mut()
                .filter(|g| **g == own)
                .for_each(|g| *g = other);
        }
    }
    group
}
