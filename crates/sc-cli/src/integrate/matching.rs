//! `sc integrate match`.

use std::io::Write;
use std::path::PathBuf;

use ndarray::ArrayView2;
use sc_data::{Categorical, Csr};
use sc_integrate::matching::{
    SinkhornOptions, as_matching, bipartite, mutual_neighbours, shared_neighbours, sinkhorn,
    within_batches,
};
use sc_model::files::write_atomic;

use super::input::{Source, Trained};
use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;

/// Say which cell of one modality is which cell of another
///
/// The first two modalities given are matched. The table has a line for each match: both cells, and its weight.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) trained: Trained,
    /// The table, tab-separated
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
    /// How cells are matched
    #[arg(long, value_enum, default_value_t = How::Shared)]
    how: How,
    /// Neighbours, of the ways that have any
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    k: usize,
    /// obs column within whose groups cells are matched, in both files
    #[arg(long, value_name = "COLUMN")]
    within: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum How {
    /// Shared nearest neighbours: the competition's winner
    Shared,
    /// Mutual nearest neighbours
    Mutual,
    /// One partner each, with the largest sum of cosines; for up to some thousands of cells
    Bipartite,
    /// Optimal transport, softened
    Sinkhorn,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let model = args.trained.load()?;
    let sources = args.trained.input.read()?;
    let [first, second, ..] = sources.as_slice() else {
        return Err(Error::Message(
            "give the two modalities that are to be matched".into(),
        ));
    };
    let cells = args.trained.input.cells_for(&model, &sources)?;
    let (x, y) = (
        model.embed_modality(&cells, &first.name)?,
        model.embed_modality(&cells, &second.name)?,
    );
    let matcher = |x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>| -> sc_integrate::Result<Csr> {
        match args.how {
            How::Shared => shared_neighbours(x, y, args.k),
            How::Mutual => mutual_neighbours(x, y, args.k),
            How::Bipartite => as_matching(&bipartite(x, y)?, y.nrows()),
            How::Sinkhorn => sinkhorn(x, y, &SinkhornOptions::default()),
        }
    };
    let found = match &args.within {
        None => matcher(x.mean.view(), y.mean.view())?,
        Some(column) => {
            let groups = |s: &Source, rows: &[usize]| groups(s, column, cells.names(), rows);
            let (a, b) = (groups(first, &x.cells)?, groups(second, &y.cells)?);
            within_batches(x.mean.view(), &a, y.mean.view(), &b, matcher)?
        }
    };
    let name = |c: Option<&usize>| {
        let name = c.and_then(|&c| cells.names().get(c));
        name.map_or("", String::as_str)
    };
    write_atomic(&args.out, |f| {
        writeln!(f, "{}\t{}\tweight", first.name, second.name)?;
        for i in 0..found.n_rows() {
            let (columns, weights) = found.row(i);
            for (&j, w) in columns.iter().zip(weights) {
                let (a, b) = (name(x.cells.get(i)), name(y.cells.get(j as usize)));
                writeln!(f, "{a}\t{b}\t{w}")?;
            }
        }
        Ok(())
    })?;
    note(&format!(
        "{} matches of {} and {} cells -> {}",
        found.n_stored(),
        x.cells.len(),
        y.cells.len(),
        args.out.display()
    ));
    Ok(())
}

/// The group of each of some cells, by their names.
fn groups(source: &Source, column: &str, names: &[String], cells: &[usize]) -> Result<Categorical> {
    let container = format!("obs of {}", source.name);
    let all = source
        .data
        .obs
        .column(&container, column)?
        .to_categorical(column)?;
    let index = source.data.obs.index().iter().enumerate();
    let row: std::collections::HashMap<&str, usize> = index.map(|(i, n)| (n.as_str(), i)).collect();
    let rows: Vec<usize> = cells
        .iter()
        .filter_map(|&c| row.get(names.get(c)?.as_str()).copied())
        .collect();
    Ok(all.select(&rows))
}
