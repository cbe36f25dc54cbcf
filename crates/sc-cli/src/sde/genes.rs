//! The genes behind the space in which cells move, and perturbations of them.

use std::path::PathBuf;

use ndarray::{Array2, Axis};
use sc_data::{Annotation, Csr};
use sc_preprocess::{ScaleOptions, Scaler};
use sc_sde::downstream::{Effects, FateEffect, GeneSpace};

use super::table::{line, number};
use super::trained::Opened;
use crate::error::{Error, Result};
use crate::options::{at_least_one, probability};

/// A gene space beside the model, if somebody saved one there.
const FILE: &str = "genes.safetensors";
/// Cells on which the components are checked.
const CHECKED: usize = 500;
/// How far the places that come out may be from those in the file, beside the largest.
const APART: f32 = 1e-3;

/// The expression behind the space in which cells move.
#[derive(Debug, clap::Args)]
pub(super) struct Expression {
    /// Layer with the expression that the components are of [default: X]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Column of var with the names of genes [default: its index]
    #[arg(long, value_name = "COLUMN")]
    gene_key: Option<String>,
}

/// What perturbations are made of.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Column of obs with the kind of each cell; paths end in the kind of most cells near
    #[arg(long, value_name = "COLUMN")]
    pub(super) labels: String,
    /// Neighbours that say what kind a simulated cell is of
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    pub(super) k: usize,
    #[command(flatten)]
    pub(super) expression: Expression,
    /// How sure intervals are
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = probability)]
    pub(super) level: f64,
    /// The table, a .csv file
    #[arg(long, value_name = "OUT.csv")]
    pub(super) out: PathBuf,
    /// A picture
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Expression {
    /// The space, and the expression of all cells over its genes.
    pub(super) fn space(&self, cells: &Opened) -> Result<(GeneSpace, Csr)> {
        if cells.model.has_autoencoder() {
            return Err(Error::Message(
                "this model has an autoencoder around its space; genes can be perturbed where cells move in principal components".into(),
            ));
        }
        let names = self.names(cells)?;
        let saved = cells.folder.join(FILE);
        if saved.is_file() {
            let space = GeneSpace::load(&saved)?;
            let column = |g: &String| names.iter().position(|n| n == g);
            let found: Vec<Option<usize>> = space.genes().iter().map(column).collect();
            if let Some(g) = found.iter().position(Option::is_none) {
                return Err(Error::Message(format!(
                    "{}: has no gene {}, which {} needs",
                    cells.path.display(),
                    space.genes().get(g).map_or("", String::as_str),
                    saved.display()
                )));
            }
            return Ok((space, self.expression(cells)?.select_columns(&found)?));
        }
        self.of_components(cells, &names)
    }

    fn names(&self, cells: &Opened) -> Result<Vec<String>> {
        let Some(key) = &self.gene_key else {
            return Ok(cells.data.var.index().to_vec());
        };
        let container = format!("{}: var", cells.path.display());
        let column = cells.data.var.column(&container, key)?;
        let labels = column.to_categorical(key)?;
        let text = |l: Option<&str>| l.unwrap_or("").to_owned();
        Ok(labels.iter().map(text).collect())
    }

    fn expression(&self, cells: &Opened) -> Result<Csr> {
        Ok(cells.data.matrix(self.layer.as_deref())?.to_csr())
    }

    /// From the components in varm PCs: of scaled expression or not, whichever gives the places of the cells.
    fn of_components(&self, cells: &Opened, names: &[String]) -> Result<(GeneSpace, Csr)> {
        let components = match cells.data.varm.get("PCs") {
            Some(Annotation::Matrix(m)) => m.to_dense(),
            _ => {
                return Err(Error::Message(format!(
                    "{}: varm has no PCs, the components of genes, and {} isn't there; make them by `sc preprocess pca --scale` before training",
                    cells.path.display(),
                    cells.folder.join(FILE).display()
                )));
            }
        };
        // Genes that had no part in the components have zeros.
        let used: Vec<usize> = (0..components.nrows())
            .filter(|&g| components.row(g).iter().any(|v| *v != 0.0))
            .collect();
        let columns: Vec<Option<usize>> = used.iter().map(|&g| Some(g)).collect();
        let expression = self.expression(cells)?.select_columns(&columns)?;
        let genes: Vec<String> = used.iter().filter_map(|&g| names.get(g).cloned()).collect();
        let rotation = components.select(Axis(0), &used).reversed_axes();
        let rotation = rotation.as_standard_layout().into_owned();
        for population in [None, Some(false), Some(true)] {
            let space = candidate(&genes, &expression, &rotation, population)?;
            if gives(&space, &expression, &cells.places)? {
                return Ok((space, expression));
            }
        }
        Err(Error::Message(format!(
            "{}: {} with the components in varm PCs doesn't give obsm {}, scaled or not: were components found on other values (--layer), or other cells?",
            cells.path.display(),
            self.layer.as_deref().unwrap_or("X"),
            cells.use_key
        )))
    }
}

/// The space of components of values as they are, or of scaled ones (by the deviation of the population, or of the sample).
fn candidate(
    genes: &[String],
    expression: &Csr,
    components: &Array2<f32>,
    population: Option<bool>,
) -> Result<GeneSpace> {
    let mut options = ScaleOptions::default();
    options.population = population.unwrap_or(false);
    let scaler = Scaler::fit(expression, options)
        .map_err(|e| Error::Message(format!("scaling genes: {e}")))?;
    let scale = match population {
        Some(_) => scaler.deviation.clone(),
        None => vec![1.0; genes.len()],
    };
    let offset = vec![0.0; genes.len()];
    Ok(GeneSpace::new(
        genes.to_vec(),
        (scaler.mean, scale),
        offset,
        components.clone(),
    )?)
}

fn gives(space: &GeneSpace, expression: &Csr, places: &Array2<f32>) -> Result<bool> {
    if space.dim() != places.ncols() {
        return Ok(false);
    }
    let rows: Vec<usize> = (0..expression.n_rows().min(CHECKED)).collect();
    let found = space.project(expression, &rows)?;
    let expected = places.select(Axis(0), &rows);
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    Ok(apart.fold(0f32, f32::max) <= APART * largest)
}

/// Effects as a table.
pub(super) fn table(effects: &Effects) -> String {
    let mut text = line([
        "perturbation",
        "z",
        "fate",
        "control",
        "perturbed",
        "difference",
        "difference_low",
        "difference_high",
        "log2_fold_change",
        "log2_fold_change_error",
        "log2_fold_change_low",
        "log2_fold_change_high",
        "p",
        "q",
    ]);
    effects.all().for_each(|e| text.push_str(&row(e)));
    text
}

fn row(e: &FateEffect) -> String {
    let numbers = [
        e.control,
        e.perturbed,
        e.difference,
        e.difference_low,
        e.difference_high,
        e.log2_fold_change,
        e.log2_fold_change_error,
        e.log2_fold_change_low,
        e.log2_fold_change_high,
        e.p,
        e.q,
    ];
    let head = [e.perturbation.clone(), e.z.to_string(), e.fate.clone()];
    line(head.into_iter().chain(numbers.into_iter().map(number)))
}

/// Says in which column of a file there is no such label.
pub(super) fn labels_of(cells: &Opened, key: &str, e: &sc_sde::Error) -> Error {
    Error::Message(format!("{}: obs {key}: {e}", cells.path.display()))
}
