//! `sc sde screen`.

use sc_plot::{Volcano, VolcanoGene, volcanoes};
use sc_sde::downstream::{Effects, FateEffect, Perturbation};
use serde_json::json;

use super::genes::{Options, labels_of, table};
use super::perturb::experiment;
use super::table::{check_file, write};
use super::trained::{Input, Paths};
use crate::common::{note, print_json};
use crate::error::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  sc sde screen model cells.h5ad --labels state --out screen.csv --cells 200 --copies 5
  sc sde screen model cells.h5ad --labels state --out knock_down.csv --z=-10 \\
      --fate Neutrophil --plot neutrophil.svg

Every gene behind the components is set to the z-score, one at a time; all share the same controls.
`sc sde perturb --help` says what the table holds. A gene that scores need not be a cause: markers of a
fate move cells to where it lies, too.";

/// False discovery rate of the genes that are named.
const CALLED: f64 = 0.05;
/// Genes that are named.
const NAMED: usize = 5;

/// Perturb every gene, one at a time, and rank them by what they do to fates
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// z-score that genes are set to
    #[arg(
        long,
        value_name = "Z",
        default_value_t = 10.0,
        allow_hyphen_values = true
    )]
    z: f64,
    /// Only these genes [default: all]
    #[arg(long, value_name = "GENE,GENE", value_delimiter = ',')]
    genes: Vec<String>,
    /// The fate of the picture and of the genes that are named [default: the most frequent of the controls]
    #[arg(long, value_name = "NAME")]
    fate: Option<String>,
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let options = &args.options;
    check_file(&options.out, "csv")?;
    if let Some(plot) = &options.plot {
        check_file(plot, "svg")?;
    }
    let cells = args.input.open()?;
    if let Some(fate) = &args.fate {
        let labels = cells.labels(&options.labels)?;
        if !labels.categories().contains(fate) {
            let e = sc_sde::Error::InvalidSetting {
                name: "fate",
                value: format!("\"{fate}\""),
                reason: format!("the labels are {}", labels.categories().join(", ")),
            };
            return Err(labels_of(&cells, &options.labels, &e));
        }
    }
    let (effects, n) = experiment(&cells, &args.paths, options, |space| {
        if args.genes.is_empty() {
            return Ok(Perturbation::each_gene(space, args.z)?);
        }
        let each = args.genes.iter();
        let each = each.map(|g| Perturbation::set(space, &[g], args.z));
        Ok(each.collect::<sc_sde::Result<_>>()?)
    })?;
    write(&options.out, &table(&effects))?;
    let fate = match &args.fate {
        Some(fate) => fate.clone(),
        None => most_frequent(&effects),
    };
    if let Some(plot) = &options.plot {
        write(plot, &draw(args, &effects, &fate)?)?;
    }
    tell(args, &effects, &fate, n)
}

fn most_frequent(effects: &Effects) -> String {
    let control = effects.control();
    let sums = control.counts().sum_axis(ndarray::Axis(0));
    let best = sums
        .iter()
        .zip(control.names())
        .max_by_key(|(count, _)| **count);
    best.map(|b| b.1.clone()).unwrap_or_default()
}

fn draw(args: &Args, effects: &Effects, fate: &str) -> Result<String> {
    let mut found: Vec<&FateEffect> = effects.on(fate).collect();
    found.sort_by(|a, b| a.p.total_cmp(&b.p));
    let gene = |e: &&'_ FateEffect| (e.difference, -e.p.max(1e-300).log10(), e.q <= CALLED);
    let genes = found
        .iter()
        .map(|e| {
            let (effect, evidence, called) = gene(e);
            VolcanoGene {
                name: &e.perturbation,
                effect,
                evidence,
                called,
            }
        })
        .collect();
    let plot = Volcano {
        title: format!("{fate}, genes set to z = {}", args.z),
        x: "change of the share of paths",
        y: "-log10 p",
        genes,
    };
    volcanoes(&[plot]).map_err(|e| Error::Message(format!("cannot draw: {e}")))
}

fn tell(args: &Args, effects: &Effects, fate: &str, n: usize) -> Result<()> {
    let mut found: Vec<&FateEffect> = effects.on(fate).collect();
    let n_genes = found.len();
    found.retain(|e| e.q <= CALLED);
    found.sort_by(|a, b| b.difference.total_cmp(&a.difference));
    let up: Vec<&FateEffect> = found
        .iter()
        .copied()
        .filter(|e| e.difference > 0.0)
        .collect();
    let down: Vec<&FateEffect> = found
        .iter()
        .rev()
        .copied()
        .filter(|e| e.difference < 0.0)
        .collect();
    let options = &args.options;
    if options.json {
        return print_json(&json!({
            "n_cells": n, "n_genes": n_genes, "fate": fate, "z": args.z,
            "n_up": up.len(), "n_down": down.len(),
            "up": up.iter().take(20).collect::<Vec<_>>(),
            "down": down.iter().take(20).collect::<Vec<_>>(),
            "out": options.out,
        }));
    }
    let words = |list: &[&FateEffect]| {
        let named = list.iter().take(NAMED);
        let named: Vec<String> = named
            .map(|e| format!("{} {:+.1}", e.perturbation, 100.0 * e.difference))
            .collect();
        match named.is_empty() {
            true => String::new(),
            false => format!(" ({} points)", named.join(", ")),
        }
    };
    note(&format!(
        "{n_genes} genes set to z = {} in {n} cells: {} make more paths end at {fate}{}, {} fewer{}, at a false discovery rate of 5 % -> {}",
        args.z,
        up.len(),
        words(&up),
        down.len(),
        words(&down),
        options.out.display()
    ));
    Ok(())
}
