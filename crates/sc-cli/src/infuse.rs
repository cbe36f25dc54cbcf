use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sc_data::{AnnData, Categorical, Column};
use sc_neighbors::{InfuseOptions, Infused, Labelled, UNKNOWN_ABOVE};
use serde::Serialize;

use crate::common::{check_output, note, print_json, read, write};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places::{common_space, in_both, labels, places, same_space};
use crate::progress::Spinner;
use crate::transfer::uncertainty;

const EXAMPLES: &str = "\
Examples:
  sc infuse atlas.h5ad mapped.h5ad --labels t_cell_subset --into cell_type_fine \\
      --old cell_type --within lineage --out atlas2.h5ad
  sc infuse atlas.h5ad mapped.h5ad --labels t_cell_subset --into cell_type_fine \\
      --old cell_type --within lineage=T --out atlas2.h5ad
  sc infuse atlas.h5ad mapped.h5ad --labels cell_type --into cell_type_2 --reach 2 --out atlas2.h5ad

An expert's data set, mapped into the latent space of the atlas by `sc map`, teaches the atlas its labels.
Votes agree also far away from all of the expert's cells: --within or --reach keep such cells out.";

/// Write an expert's labels onto a reference, with a confidence, keeping the old labels
///
/// Writes three obs columns to a copy of the reference: INTO (the expert's label, or the old one where the vote is too
/// uncertain), INTO_confidence (missing for cells outside the compartments) and INTO_taken.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Reference: an .h5ad file with an embedding; counts are not needed
    reference: PathBuf,
    /// The expert's cells: an .h5ad file with labels and an embedding by the same model
    query: PathBuf,
    /// The copy of the reference with the new columns, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// The column of the expert's obs
    #[arg(long, value_name = "KEY")]
    labels: String,
    /// The new column of the reference's obs
    #[arg(long, value_name = "NAME")]
    into: String,
    /// The column of the reference's obs that cells keep which take no label [default: that of --labels, if there is one]
    #[arg(long, value_name = "KEY")]
    old: Option<String>,
    /// Compartments that labels don't leave: an obs column of both files; or KEY=VALUE, a column of the reference and the
    /// cells that the expert may label
    #[arg(long, value_name = "KEY[=VALUE]")]
    within: Option<String>,
    /// Leave cells alone that are further from the expert's than so many times the distance usual among these
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    reach: Option<f64>,
    /// The obsm with the places of the cells, in both files [default: X_scVI or X_scANVI]
    #[arg(long, value_name = "KEY")]
    rep: Option<String>,
    /// The same of the reference, if it is named otherwise there [default: of a minified file, its posterior]
    #[arg(long, value_name = "KEY")]
    reference_rep: Option<String>,
    /// The expert's cells that vote for the label of a cell
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    k: usize,
    /// The uncertainty, 0 to 1, above which a cell keeps its label
    #[arg(long, value_name = "U", default_value_t = UNKNOWN_ABOVE, value_parser = uncertainty)]
    threshold: f64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() && v > 0.0 => Ok(v),
        _ => Err("not a positive number".into()),
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_taken: usize,
    /// Reference cells that took each of the expert's labels.
    labels: BTreeMap<String, usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let mut reference = read(&args.reference)?;
    let expert = sc_io::h5ad::read_annotations(&args.query)?;
    let columns = ["", "_confidence", "_taken"].map(|end| format!("{}{end}", args.into));
    if let Some(there) = columns.iter().find(|c| reference.obs.get(c).is_some()) {
        return Err(Error::Message(format!(
            "{}: obs already has a column \"{there}\"; choose another name for --into",
            args.reference.display()
        )));
    }
    let (rep, reference_rep) = common_space(
        (&expert, &args.query),
        (&reference, &args.reference),
        args.rep.as_deref(),
        args.reference_rep.as_deref(),
    )?;
    let own = places(&reference, &args.reference, &reference_rep)?;
    let theirs = places(&expert, &args.query, &rep)?;
    same_space((&args.reference, &own), (&args.query, &theirs))?;
    let old = old_labels(args, &reference)?;
    let new = labels(&expert, &args.query, &args.labels)?;
    let within = compartments(args, &reference, &expert)?;
    let spinner = Spinner::new(format!("labelling {} cells", own.nrows()));
    let infused = sc_neighbors::infuse(
        Labelled {
            latent: own.view(),
            labels: &old,
            compartments: within.as_ref().map(|w| &w.0),
        },
        Labelled {
            latent: theirs.view(),
            labels: &new,
            compartments: within.as_ref().map(|w| &w.1),
        },
        &InfuseOptions {
            k: args.k,
            max_uncertainty: args.threshold,
            reach: args.reach,
        },
    )
    .map_err(|e| in_both(&args.reference, &args.query, &e))?;
    drop(spinner);
    let summary = insert(&mut reference, columns, infused)?;
    write(&args.out, &reference)?;
    if args.json {
        return print_json(&summary);
    }
    note(&format!(
        "{} of {} cells take one of {} labels -> {}, obs {}",
        summary.n_taken,
        summary.n_cells,
        summary.labels.len(),
        args.out.display(),
        args.into
    ));
    Ok(())
}

/// What cells keep that take no label; nothing if the reference has no such column and none was asked for.
fn old_labels(args: &Args, reference: &AnnData) -> Result<Categorical> {
    let key = match &args.old {
        Some(key) => key,
        None if reference.obs.get(&args.labels).is_some() => &args.labels,
        None => {
            let none = std::iter::repeat_n(None, reference.n_obs());
            return Ok(Categorical::from_options(none));
        }
    };
    labels(reference, &args.reference, key)
}

/// The compartments of both sides, if any were asked for.
fn compartments(
    args: &Args,
    reference: &AnnData,
    expert: &AnnData,
) -> Result<Option<(Categorical, Categorical)>> {
    let Some(within) = &args.within else {
        return Ok(None);
    };
    // A column may have an equals sign in its name.
    let (key, value) = match within.rsplit_once('=') {
        Some((key, value)) if reference.obs.get(within).is_none() => (key, value),
        _ => {
            let own = labels(reference, &args.reference, within)?;
            return Ok(Some((own, labels(expert, &args.query, within)?)));
        }
    };
    let own = labels(reference, &args.reference, key)?;
    if !own.iter().any(|name| name == Some(value)) {
        return Err(no_such_value(&args.reference, key, value, &own));
    }
    let only = own.iter().map(|name| name.filter(|n| *n == value));
    let all = std::iter::repeat_n(Some(value), expert.n_obs());
    Ok(Some((
        Categorical::from_options(only),
        Categorical::from_options(all),
    )))
}

fn no_such_value(path: &Path, key: &str, value: &str, labels: &Categorical) -> Error {
    Error::Message(format!(
        "{}: no cell has \"{value}\" in obs {key}; there are: {}",
        path.display(),
        crate::places::list(labels.categories().iter())
    ))
}

fn insert(reference: &mut AnnData, columns: [String; 3], infused: Infused) -> Result<Summary> {
    let [into, confidence, taken] = columns;
    let mut labels = BTreeMap::new();
    for (name, _) in infused.labels.iter().zip(&infused.taken).filter(|c| *c.1) {
        *labels
            .entry(name.unwrap_or_default().to_owned())
            .or_insert(0) += 1;
    }
    let summary = Summary {
        n_cells: infused.taken.len(),
        n_taken: infused.taken.iter().filter(|&&t| t).count(),
        labels,
    };
    let values = infused.confidence.iter().map(|c| c.unwrap_or(f64::NAN));
    let obs = &mut reference.obs;
    obs.insert(confidence, Column::Float(values.collect()))?;
    obs.insert(taken, Column::Bool(infused.taken))?;
    obs.insert(into, Column::Categorical(infused.labels))?;
    Ok(summary)
}
