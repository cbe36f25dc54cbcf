//! `sc integrate graph`.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use indexmap::IndexMap;
use sc_data::Interval;
use sc_integrate::graph::link_by_distance;
use sc_io::genome::{read_bed, read_gtf};
use sc_model::files::write_atomic;

use super::input::Features;
use crate::common::note;
use crate::error::{Error, Result};

/// Link genes to the peaks near them: a table of prior knowledge, which ties modalities together where no cell has both
///
/// The first file has genes, the second peaks. A peak that lies at the gene or its promoter is linked to it, and with --range those
/// further away, with a weight of ((distance + 1000) / 1000)^-0.75. The table has a line for each link: gene, peak,
/// weight, sign.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Genes and peaks: .h5ad, Cell Ranger .h5, a folder with matrix.mtx, or one modality of an .h5mu file
    #[arg(value_name = "NAME=FILE", required = true, num_args = 2)]
    modalities: Vec<String>,
    /// Where genes lie: a GTF file, gzipped or not
    #[arg(long, value_name = "GENES.gtf")]
    gtf: PathBuf,
    /// Attribute of the GTF file that is the name of a gene in the data, e.g. gene_id
    #[arg(long, value_name = "ATTRIBUTE", default_value = "gene_name")]
    gene_by: String,
    /// Where peaks lie: a BED file with their names [default: their names say it, as chr1:100-200]
    #[arg(long, value_name = "PEAKS.bed")]
    bed: Option<PathBuf>,
    /// Which part of a gene counts
    #[arg(long, value_enum, default_value_t = Region::Combined)]
    region: Region,
    /// Length of the promoter, in bases before the gene
    #[arg(long, value_name = "BASES", default_value_t = 2_000)]
    promoter: u64,
    /// Bases between a gene and a peak up to which they are linked
    #[arg(long, value_name = "BASES", default_value_t = 0)]
    range: u64,
    /// The table, tab-separated
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Region {
    /// The gene and its promoter
    Combined,
    /// The promoter alone
    Promoter,
    /// The gene alone
    Body,
}

/// Names and places, of features that have one.
type Places = Vec<(String, Interval)>;

pub(super) fn run(args: &Args) -> Result<()> {
    let [genes, peaks] = args.modalities.as_slice() else {
        return Err(Error::Message("give genes and peaks, in this order".into()));
    };
    let (genes, peaks) = (Features::read(genes)?, Features::read(peaks)?);
    let bodies = bodies(args, &genes)?;
    let sites = sites(args, &peaks)?;
    same_chromosomes(args, &bodies, &sites)?;
    let promoter = match args.region {
        Region::Combined => args.promoter,
        Region::Promoter | Region::Body => 0,
    };
    // A gene of several places may reach a peak from more than one.
    let mut links: IndexMap<(String, String), f64> = IndexMap::new();
    for (gene, peak, weight, _) in link_by_distance(&bodies, &sites, promoter, args.range) {
        let best = links.entry((gene, peak)).or_insert(weight);
        *best = best.max(weight);
    }
    if links.is_empty() {
        return Err(Error::Message(format!(
            "no peak of {} is within {} bases of a gene of {}; try a larger --range",
            peaks.name, args.range, genes.name
        )));
    }
    write_atomic(&args.out, |f| {
        writeln!(f, "source\ttarget\tweight\tsign")?;
        for ((gene, peak), weight) in &links {
            writeln!(f, "{gene}\t{peak}\t{weight}\t1")?;
        }
        Ok(())
    })?;
    let distinct = |names: Vec<&String>| names.into_iter().collect::<HashSet<_>>().len();
    note(&format!(
        "{} links of {} genes to {} peaks; a place is known of {} of {} genes and {} of {} peaks -> {}",
        links.len(),
        distinct(links.keys().map(|l| &l.0).collect()),
        distinct(links.keys().map(|l| &l.1).collect()),
        distinct(bodies.iter().map(|b| &b.0).collect()),
        genes.names.len(),
        distinct(sites.iter().map(|s| &s.0).collect()),
        peaks.names.len(),
        args.out.display()
    ));
    Ok(())
}

/// Where the genes of the data are, or their promoters.
fn bodies(args: &Args, genes: &Features) -> Result<Places> {
    let all = read_gtf(&args.gtf, &args.gene_by)?;
    let found = in_data(all, &genes.names);
    if found.is_empty() {
        return Err(Error::Message(format!(
            "{}: no {} is a gene of {}, such as {}; choose another attribute with --gene-by",
            args.gtf.display(),
            args.gene_by,
            genes.path.display(),
            first(&genes.names)
        )));
    }
    let part = |place: Interval| match args.region {
        Region::Promoter => place.promoter(args.promoter),
        Region::Combined | Region::Body => place,
    };
    Ok(found
        .into_iter()
        .map(|(name, place)| (name, part(place)))
        .collect())
}

/// Where the peaks of the data are.
fn sites(args: &Args, peaks: &Features) -> Result<Places> {
    let found = match &args.bed {
        Some(bed) => in_data(read_bed(bed)?, &peaks.names),
        None => {
            let place = |name: &String| Some((name.clone(), plain(Interval::from_name(name)?)));
            peaks.names.iter().filter_map(place).collect()
        }
    };
    match (found.is_empty(), &args.bed) {
        (false, _) => Ok(found),
        (true, Some(bed)) => Err(Error::Message(format!(
            "{}: no name is a feature of {}, such as {}",
            bed.display(),
            peaks.path.display(),
            first(&peaks.names)
        ))),
        (true, None) => Err(Error::Message(format!(
            "{}: no feature says where it is, as chr1:100-200 does; the first is {}. Give their places with --bed",
            peaks.path.display(),
            first(&peaks.names)
        ))),
    }
}

/// Those whose names are wanted.
fn in_data(all: Places, wanted: &[String]) -> Places {
    let wanted: HashSet<&String> = wanted.iter().collect();
    let all = all.into_iter().filter(|(name, _)| wanted.contains(name));
    all.map(|(name, place)| (name, plain(place))).collect()
}

/// Chromosomes without "chr", which some write and some don't.
fn plain(mut place: Interval) -> Interval {
    let name = &place.chromosome;
    let bare = name
        .strip_prefix("chr")
        .or_else(|| name.strip_prefix("Chr"));
    let bare = bare.unwrap_or(name);
    place.chromosome = match bare {
        "M" => "MT".into(),
        other => other.to_owned(),
    };
    place
}

fn same_chromosomes(args: &Args, genes: &Places, peaks: &Places) -> Result<()> {
    let known: HashSet<&str> = genes.iter().map(|g| g.1.chromosome.as_str()).collect();
    if peaks
        .iter()
        .any(|p| known.contains(p.1.chromosome.as_str()))
    {
        return Ok(());
    }
    let of = |places: &Places| {
        places
            .first()
            .map_or(String::new(), |p| p.1.chromosome.clone())
    };
    Err(Error::Message(format!(
        "{} and the peaks have no chromosome in common; they have \"{}\" and \"{}\", for example",
        args.gtf.display(),
        of(genes),
        of(peaks)
    )))
}

fn first(names: &[String]) -> &str {
    names.first().map_or("", String::as_str)
}
