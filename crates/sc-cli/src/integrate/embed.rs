//! `sc integrate embed`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, MuData, Table};
use sc_integrate::Compose;
use sc_io::h5ad::WriteOptions;
use sc_io::h5mu;

use super::input::Trained;
use crate::common::{check_file, check_output, note, write};
use crate::error::{Error, Result};

/// Write the place of each cell, from all modalities that it has, to obsm X_CLUE of a new .h5ad file or of an .h5mu file
///
/// obsm has the subspace of each modality as X_CLUE_NAME. obs of an .h5ad file has a column for each modality that says whether
/// the cell has it. An .h5mu file gets everything that the input has, one .h5mu file, and may be that file itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) trained: Trained,
    /// The new file
    #[arg(long, value_name = "OUT.h5ad|OUT.h5mu")]
    out: PathBuf,
    /// How the modalities of a cell are put together
    #[arg(long, value_enum, default_value_t = How::Own)]
    compose: How,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum How {
    /// Each subspace from its own modality, where the cell has it
    Own,
    /// The mean, as in training
    Mean,
    /// Weighted by how sure each modality is
    Product,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let all = all_modalities(args)?;
    let model = args.trained.load()?;
    let sources = args.trained.input.read()?;
    let cells = args.trained.input.cells_for(&model, &sources)?;
    let compose = match args.compose {
        How::Own => Compose::Own,
        How::Mean => Compose::Mean,
        How::Product => Compose::Product,
    };
    let joint = model.embed_joint(&cells, compose)?;
    let (n, dimensions) = joint.values.dim();
    let done = format!(
        "{n} cells in {dimensions} dimensions -> {}, obsm X_CLUE",
        args.out.display()
    );
    let mut places = vec![("X_CLUE".to_owned(), joint.values.clone())];
    for (name, _) in &joint.subspaces {
        places.push((format!("X_CLUE_{name}"), joint.subspace(name)?.to_owned()));
    }
    if let Some((file, mut all)) = all {
        for (key, places) in places {
            let rows = in_order(&places, cells.names(), all.obs.index());
            all.obsm.insert(key, rows.into());
        }
        h5mu::write_annotations(file, &args.out, &all, &WriteOptions::default())?;
        note(&done);
        return Ok(());
    }
    let mut out = AnnData::default();
    let mut obs = Table::new(cells.names().to_vec());
    for s in &sources {
        let mut has = vec!["no"; n];
        for cell in cells.with_modality(&s.name)? {
            has[cell] = "yes";
        }
        let has = Categorical::from_labels(&has);
        obs.insert(format!("has_{}", s.name), Column::Categorical(has))?;
    }
    out.obs = obs;
    for (key, places) in places {
        out.obsm.insert(key, places.into());
    }
    write(&args.out, &out)?;
    note(&done);
    Ok(())
}

/// What is known of all cells together, if that is where the places go.
fn all_modalities(args: &Args) -> Result<Option<(&Path, MuData)>> {
    if !h5mu::is_named_so(&args.out) {
        check_output(&args.out)?;
        return Ok(None);
    }
    check_file(&args.out)?;
    match args.trained.input.one_file() {
        Some(file) => Ok(Some((file, h5mu::read_annotations(file)?))),
        None => Err(Error::Message(format!(
            "{}: an .h5mu file is made of one with the same modalities: give that instead of NAME=FILE, or make it with `sc \
             convert NAME=FILE ... OUT.h5mu`",
            args.out.display()
        ))),
    }
}

/// The places of the cells `wanted`; not a number for those that have none.
fn in_order(places: &Array2<f32>, names: &[String], wanted: &[String]) -> Array2<f32> {
    let rows: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let mut ordered = Array2::from_elem((wanted.len(), places.ncols()), f32::NAN);
    for (name, mut target) in wanted.iter().zip(ordered.rows_mut()) {
        if let Some(&row) = rows.get(name.as_str()) {
            target.assign(&places.row(row));
        }
    }
    ordered
}
