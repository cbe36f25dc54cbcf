use std::path::PathBuf;

use sc_data::AnnData;
use sc_io::{Format, h5ad, mtx, names, tenx};

use crate::common::{human_bytes, note, read};
use crate::error::{Error, Result};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc convert filtered_feature_bc_matrix.h5 cells.h5ad --gzip 4
  sc convert matrix_folder cells.h5ad --unique-genes
  sc convert old.h5ad new.h5ad            # anndata 0.5-0.11 to today's encoding
  sc convert cells.h5ad matrix_folder     # MatrixMarket, as Cell Ranger writes it";

/// Convert between .h5ad, Cell Ranger .h5 (read only) and folders with matrix.mtx
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// NAME.h5ad, or a name without extension for a folder
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Compress with gzip; 0 is fastest, 9 is smallest
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=9))]
    gzip: Option<u8>,
    /// Append -1, -2, ... to gene names that occur again
    #[arg(long)]
    unique_genes: bool,
    /// Only the genes of this genome, of a Cell Ranger .h5 with several
    #[arg(long, value_name = "NAME")]
    genome: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut data = match &args.genome {
        Some(genome) => read_genome(args, genome)?,
        None => read(&args.input)?,
    };
    if args.unique_genes {
        data.var = names::make_unique(&data.var)?;
    }
    let spinner = Spinner::new(format!("writing {}", args.output.display()));
    let is_folder = args.output.extension().is_none() || args.output.is_dir();
    match args.gzip {
        Some(level) if is_folder => {
            let mut options = mtx::WriteOptions::default();
            options.gzip = Some(u32::from(level));
            mtx::write_dir(&args.output, &data, &options)?;
        }
        level => {
            let options = level.map_or_else(h5ad::WriteOptions::default, h5ad::WriteOptions::gzip);
            sc_io::write(&args.output, &data, &options)?;
        }
    }
    drop(spinner);
    let size = std::fs::metadata(&args.output)
        .ok()
        .filter(std::fs::Metadata::is_file);
    let size = size.map_or(String::new(), |m| format!(" ({})", human_bytes(m.len())));
    note(&format!(
        "{} cells x {} features -> {}{size}",
        data.n_obs(),
        data.n_vars(),
        args.output.display()
    ));
    Ok(())
}

fn read_genome(args: &Args, genome: &str) -> Result<AnnData> {
    let format = sc_io::format_of(&args.input)?;
    if format != Format::TenxH5 {
        return Err(Error::Message(format!(
            "{}: --genome is for Cell Ranger's .h5 files, and this is a {format}",
            args.input.display()
        )));
    }
    let _spinner = Spinner::new(format!("reading {}", args.input.display()));
    Ok(tenx::read_h5_with(
        &args.input,
        &tenx::ReadOptions::default().genome(genome),
    )?)
}
