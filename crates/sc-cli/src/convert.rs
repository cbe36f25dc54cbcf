use std::path::{Path, PathBuf};

use sc_data::AnnData;
use sc_io::{Format, csv, h5ad, h5mu, mtx, names, tenx};

use crate::common::{human_bytes, note, read};
use crate::error::{Error, Result};
use crate::modalities;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc convert filtered_feature_bc_matrix.h5 cells.h5ad --gzip 4
  sc convert matrix_folder cells.h5ad --unique-genes
  sc convert old.h5ad new.h5ad            # anndata 0.5-0.11 to today's encoding
  sc convert cells.h5ad matrix_folder     # MatrixMarket, as Cell Ranger writes it
  sc convert velocyto.loom cells.h5ad     # spliced and unspliced counts become layers
  sc convert GSE123_counts.csv.gz cells.h5ad --genes-in-rows
  sc convert cells.h5ad cells.csv         # X with the names of cells and genes
  sc convert rna=rna.h5ad adt=adt.h5ad cells.h5mu   # several modalities in one file, joined by cell
  sc convert cells.h5mu folder            # folder/rna.h5ad, folder/adt.h5ad
  sc convert cells.h5mu/rna rna.h5ad      # one modality; wherever .h5ad is read, this is, too";

/// Convert between .h5ad, .h5mu, Cell Ranger .h5, .loom (both read only), .csv or .tsv, and folders with matrix.mtx
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// .h5ad, .h5mu, Cell Ranger .h5, .loom, .csv or .tsv (.gz or not), or a folder with matrix.mtx; several, as NAME=IN, become
    /// the modalities of an .h5mu file
    #[arg(value_name = "IN", required = true)]
    input: Vec<PathBuf>,
    /// NAME.h5ad, NAME.h5mu, NAME.csv or NAME.tsv (.gz or not), or a name without extension for a folder
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
    /// Rows of the .csv or .tsv are genes
    #[arg(long)]
    genes_in_rows: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let to_modalities = h5mu::is_named_so(&args.output);
    match args.input.as_slice() {
        [one] if !to_modalities && !modalities::is_whole(one) => convert(args, one),
        inputs => convert_modalities(args, inputs, to_modalities),
    }
}

/// From or to a file of several modalities.
fn convert_modalities(args: &Args, inputs: &[PathBuf], to_modalities: bool) -> Result<()> {
    if args.genome.is_some() || args.genes_in_rows {
        return Err(Error::Message(
            "--genome and --genes-in-rows are for one file: convert that to .h5ad first".into(),
        ));
    }
    let options = options(args);
    let change = |data: &mut AnnData| {
        if args.unique_genes {
            data.var = names::make_unique(&data.var)?;
        }
        Ok(())
    };
    match inputs {
        _ if to_modalities => modalities::join(inputs, &args.output, &options, change),
        [one] => modalities::split(one, &args.output, &options, change),
        _ => Err(Error::Message(format!(
            "{}: several files become the modalities of one .h5mu file; name it so",
            args.output.display()
        ))),
    }
}

fn options(args: &Args) -> h5ad::WriteOptions {
    args.gzip
        .map_or_else(h5ad::WriteOptions::default, h5ad::WriteOptions::gzip)
}

fn convert(args: &Args, input: &Path) -> Result<()> {
    let mut data = match &args.genome {
        Some(genome) => read_genome(input, genome)?,
        None if args.genes_in_rows => read_turned(input)?,
        None => read(input)?,
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
        _ => sc_io::write(&args.output, &data, &options(args))?,
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

fn read_turned(input: &Path) -> Result<AnnData> {
    let format = sc_io::format_of(input)?;
    if format != Format::Csv {
        return Err(Error::Message(format!(
            "{}: --genes-in-rows is for .csv and .tsv files, and this is a {format}",
            input.display()
        )));
    }
    let _spinner = Spinner::new(format!("reading {}", input.display()));
    let options = csv::ReadOptions::default().genes_in_rows();
    Ok(csv::read_with(input, &options)?)
}

fn read_genome(input: &Path, genome: &str) -> Result<AnnData> {
    let format = sc_io::format_of(input)?;
    if format != Format::TenxH5 {
        return Err(Error::Message(format!(
            "{}: --genome is for Cell Ranger's .h5 files, and this is a {format}",
            input.display()
        )));
    }
    let _spinner = Spinner::new(format!("reading {}", input.display()));
    Ok(tenx::read_h5_with(
        input,
        &tenx::ReadOptions::default().genome(genome),
    )?)
}
