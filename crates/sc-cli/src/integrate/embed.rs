//! `sc integrate embed`.

use std::path::PathBuf;

use sc_data::{AnnData, Categorical, Column, Table};
use sc_integrate::Compose;

use super::input::Trained;
use crate::common::{check_output, note, write};
use crate::error::Result;

/// Write the place of each cell, from all modalities that it has, to obsm X_CLUE of a new .h5ad file
///
/// obs has a column for each modality that says whether the cell has it; obsm has the subspace of each modality as X_CLUE_NAME.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) trained: Trained,
    /// The new file, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
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
    check_output(&args.out)?;
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
    for (name, _) in &joint.subspaces {
        let part = joint.subspace(name)?.to_owned();
        out.obsm.insert(format!("X_CLUE_{name}"), part.into());
    }
    out.obsm.insert("X_CLUE".into(), joint.values.into());
    write(&args.out, &out)?;
    note(&format!(
        "{n} cells in {dimensions} dimensions -> {}, obsm X_CLUE",
        args.out.display()
    ));
    Ok(())
}
