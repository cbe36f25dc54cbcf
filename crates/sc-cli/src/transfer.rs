use std::collections::BTreeMap;
use std::path::PathBuf;

use sc_data::{AnnData, Column};
use sc_neighbors::{LabelTransfer, Transferred, UNKNOWN, UNKNOWN_ABOVE, Votes};
use serde::Serialize;

use crate::common::{check_output, note, print_json, read, write};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places::{common_space, in_both, labels, places, same_space};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc transfer atlas.h5ad mapped.h5ad --labels cell_type --out annotated.h5ad
  sc transfer atlas/adata.h5ad mapped.h5ad --labels level_1,level_2 --k 30 --out annotated.h5ad
  sc transfer atlas.h5ad mapped.h5ad --labels cell_type --threshold 1 --out annotated.h5ad

With --threshold 1 nothing is Unknown.

Both files hold the places of their cells in the latent space of one model: of the atlas, as it was
trained or as `sc minify` left it, and of the query, as `sc map` wrote it. Counts are not needed.";

/// Give query cells the labels of their nearest reference cells, with an uncertainty
///
/// Writes obs KEY_transferred, which is Unknown where the uncertainty is above the threshold, and KEY_uncertainty to a copy
/// of the query, for each KEY of --labels.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Reference: an .h5ad file with labels and an embedding
    reference: PathBuf,
    /// Query: an .h5ad file with an embedding by the same model
    query: PathBuf,
    /// The copy of the query with labels, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Columns of the reference's obs, separated by commas
    #[arg(long, value_name = "KEY", required = true, value_delimiter = ',')]
    labels: Vec<String>,
    /// The obsm with the places of the cells, in both files [default: X_scVI or X_scANVI]
    #[arg(long, value_name = "KEY")]
    rep: Option<String>,
    /// The same of the reference, if it is named otherwise there [default: of a minified file, its posterior]
    #[arg(long, value_name = "KEY")]
    reference_rep: Option<String>,
    /// Reference cells that vote for the label of a cell
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    k: usize,
    /// The uncertainty, 0 to 1, above which a label is Unknown
    #[arg(long, value_name = "U", default_value_t = UNKNOWN_ABOVE, value_parser = uncertainty)]
    threshold: f64,
    /// Give each neighbour the same vote, instead of weights by distance
    #[arg(long)]
    equal_votes: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn uncertainty(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("not an uncertainty from 0 to 1".into()),
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    key: String,
    n_cells: usize,
    n_unknown: usize,
    mean_uncertainty: f64,
    /// Cells of each label.
    labels: BTreeMap<String, usize>,
    /// Where the query has a column of this name: the share of cells whose best label, however uncertain, is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let reference = sc_io::h5ad::read_annotations(&args.reference)?;
    let mut query = read(&args.query)?;
    let (rep, reference_rep) = common_space(
        (&query, &args.query),
        (&reference, &args.reference),
        args.rep.as_deref(),
        args.reference_rep.as_deref(),
    )?;
    let known = places(&reference, &args.reference, &reference_rep)?;
    let asked = places(&query, &args.query, &rep)?;
    same_space((&args.reference, &known), (&args.query, &asked))?;
    let levels = args.labels.iter();
    let levels = levels
        .map(|key| labels(&reference, &args.reference, key))
        .collect::<Result<Vec<_>>>()?;
    let Some((first, rest)) = levels.split_first() else {
        return Err(Error::Message("--labels is empty".into()));
    };
    let mut transfer = LabelTransfer::fit(known.view(), first)?;
    for level in rest {
        transfer = transfer.and(level)?;
    }
    if args.equal_votes {
        transfer = transfer.votes(Votes::Equal);
    }
    let spinner = Spinner::new(format!("labelling {} cells", asked.nrows()));
    let found = transfer
        .k(args.k)
        .transfer_levels(asked.view())
        .map_err(|e| in_both(&args.query, &args.reference, &e))?;
    drop(spinner);
    let summaries = args
        .labels
        .iter()
        .zip(&found)
        .map(|(key, found)| insert(&mut query, key, found, args.threshold))
        .collect::<Result<Vec<_>>>()?;
    write(&args.out, &query)?;
    if args.json {
        return print_json(&summaries);
    }
    for s in summaries {
        let agreement = s.agreement.map_or(String::new(), |a| {
            format!(", {:.1} % as the query's own {}", 100.0 * a, s.key)
        });
        note(&format!(
            "{}: {} labels for {} cells, {} of them unknown{agreement}",
            s.key,
            s.labels.keys().filter(|l| l.as_str() != UNKNOWN).count(),
            s.n_cells,
            s.n_unknown
        ));
    }
    note(&format!("-> {}", args.out.display()));
    Ok(())
}

/// Writes the columns of one level.
fn insert(query: &mut AnnData, key: &str, found: &Transferred, threshold: f64) -> Result<Summary> {
    let own = query.obs.get(key).and_then(|c| c.to_categorical(key).ok());
    let labels = found.labels_or_unknown(threshold)?;
    let uncertainty = found.uncertainty().to_vec();
    let n_cells = uncertainty.len();
    let counts = labels.categories().iter().cloned().zip(labels.counts());
    let summary = Summary {
        key: key.to_owned(),
        n_cells,
        n_unknown: uncertainty.iter().filter(|&&u| u > threshold).count(),
        mean_uncertainty: uncertainty.iter().sum::<f64>() / n_cells.max(1) as f64,
        labels: counts.filter(|(_, n)| *n > 0).collect(),
        agreement: own.and_then(|truth| found.accuracy(&truth).ok()),
    };
    query
        .obs
        .insert(format!("{key}_transferred"), Column::Categorical(labels))?;
    query
        .obs
        .insert(format!("{key}_uncertainty"), Column::Float(uncertainty))?;
    Ok(summary)
}
