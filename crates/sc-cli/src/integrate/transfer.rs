//! `sc integrate transfer`.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use sc_data::Categorical;
use sc_integrate::MultiCells;
use sc_model::files::write_atomic;
use sc_neighbors::UNKNOWN_ABOVE;

use super::input::{Source, Trained};
use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places::labels;
use crate::transfer::uncertainty;

/// Give cells of one modality the labels of their nearest cells of another
///
/// Both are put into the embedding, each from its own modality alone. The table has a line for each cell of --to: its label, which
/// is Unknown where the uncertainty is above the threshold, and the uncertainty. Where the cells of --to have a column of
/// that name, too, it is said how many labels are the same.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) trained: Trained,
    /// The modality whose cells have labels
    #[arg(long, value_name = "NAME")]
    from: String,
    /// The modality whose cells get labels
    #[arg(long, value_name = "NAME")]
    to: String,
    /// obs column with the labels
    #[arg(long, value_name = "COLUMN")]
    labels: String,
    /// The table, tab-separated
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
    /// Cells that vote for the label of a cell
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one)]
    k: usize,
    /// The uncertainty, 0 to 1, above which a label is Unknown
    #[arg(long, value_name = "U", default_value_t = UNKNOWN_ABOVE, value_parser = uncertainty)]
    threshold: f64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let model = args.trained.load()?;
    let sources = args.trained.input.read()?;
    let (from, to) = (find(&sources, &args.from)?, find(&sources, &args.to)?);
    let known = labels(&from.data, &from.path, &args.labels)?;
    let cells = args.trained.input.cells_for(&model, &sources)?;
    let known = of_cells(&cells, from, &known);
    let found = model.transfer_labels(&cells, &from.name, &to.name, &known, args.k)?;
    let given = found.labels_or_unknown(args.threshold)?;
    let rows = cells.with_modality(&to.name)?;
    write_atomic(&args.out, |f| {
        writeln!(f, "cell\t{}\tuncertainty", args.labels)?;
        let lines = rows.iter().zip(given.iter()).zip(found.uncertainty());
        for ((&row, label), uncertainty) in lines {
            let name = cells.names().get(row).map_or("", String::as_str);
            writeln!(f, "{name}\t{}\t{uncertainty}", label.unwrap_or(""))?;
        }
        Ok(())
    })?;
    let unknown = found.uncertainty().iter().filter(|&&u| u > args.threshold);
    let agreement = match labels(&to.data, &to.path, &args.labels) {
        Ok(own) => found
            .accuracy(&of_cells(&cells, to, &own).select(&rows))
            .ok(),
        Err(_) => None,
    };
    let agreement = agreement.map_or(String::new(), |a| {
        format!(", {:.1} % as their own {}", 100.0 * a, args.labels)
    });
    note(&format!(
        "{} cells of {} labelled by those of {}, {} of them unknown{agreement} -> {}",
        rows.len(),
        to.name,
        from.name,
        unknown.count(),
        args.out.display()
    ));
    Ok(())
}

fn find<'a>(sources: &'a [Source], name: &str) -> Result<&'a Source> {
    sources.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
        Error::Message(format!(
            "no cells of modality \"{name}\" are given; there are: {}",
            names.join(", ")
        ))
    })
}

/// The labels of one modality's cells, for all cells.
fn of_cells(cells: &MultiCells<'_>, source: &Source, labels: &Categorical) -> Categorical {
    let names = source.data.obs.index().iter().map(String::as_str);
    let of: HashMap<&str, Option<&str>> = names.zip(labels.iter()).collect();
    let all = cells.names().iter();
    Categorical::from_options(all.map(|name| of.get(name.as_str()).copied().flatten()))
}
