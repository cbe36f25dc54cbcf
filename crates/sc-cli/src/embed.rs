use std::path::PathBuf;

use sc_latent::AnyModel;

use crate::common::{
    Query, cells_for, check_output, load_model, note, read, read_annotations, refuse_same, write,
};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc embed model cells.h5ad --out embedded.h5ad
  sc embed model cells.h5ad --out embedded.h5ad --variance
  sc embed scvi_tools_model_folder cells.h5ad --out embedded.h5ad
  sc embed model huge.h5ad --out latent_only.h5ad --backed";

/// Write each cell's place in the latent space to obsm X_scVI (of scANVI X_scANVI) of a copy of the data
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// The copy, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Also write the variance of each place to obsm X_scVI_var (X_scANVI_var)
    #[arg(long)]
    variance: bool,
    /// Read the counts from the .h5ad file, some cells at a time; the copy then has no X, layers and raw
    #[arg(long)]
    backed: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    if args.backed {
        refuse_same(&args.out, &[&args.query.data])?;
    }
    let model = load_model(&args.query.model)?;
    let path = &args.query.data;
    let mut data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let latent = {
        let model = model.scvi();
        let query = cells_for(model, &data, args.backed.then_some(path))?;
        if !query.empty.is_empty() {
            tracing::warn!(
                "{} cells have no counts; their place says nothing",
                query.empty.len()
            );
        }
        model.latent(&query.cells)?
    };
    let (cells, dimensions) = latent.mean.dim();
    let key = match model {
        AnyModel::Scanvi(_) => "X_scANVI",
        _ => "X_scVI",
    };
    data.obsm.insert(key.into(), latent.mean.into());
    if args.variance {
        data.obsm
            .insert(format!("{key}_var"), latent.variance.into());
    }
    write(&args.out, &data)?;
    note(&format!(
        "{cells} cells in {dimensions} dimensions -> {}, obsm {key}",
        args.out.display()
    ));
    Ok(())
}
