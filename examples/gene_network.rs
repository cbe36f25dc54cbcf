//! Which genes act together, as a small scGPT sees it.
//!
//! `cargo run --release --example gene_network [sets.gmt]` pre-trains scGPT on 529 cells of five lung cancer lines (Tian et al.,
//! Nature Methods 2019), without labels: it learns to generate the expression of some genes from that of others, and on the
//! way a vector for each gene. Genes with similar vectors form a network, and its communities are programs. With a GMT file
//! (MSigDB, Reactome, KEGG) it says which sets the programs hold more of than chance explains. Two minutes; everything lies
//! in `target/gene_network` afterwards.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use candle_core::Device;
use sc_data::{Categorical, Csr};
use sc_examples::report::{Table, write_tsv};
use sc_examples::view::{gene_correlation, picture};
use sc_examples::{output_dir, plots, test_data};
use sc_model::Parity;
use sc_model::train::{ProgressBar, fit};
use sc_preprocess::{log1p, normalize_total};
use sc_transformer::network::{
    Edge, EdgeOptions, EnrichmentOptions, GeneSets, Program, ProgramOptions, ScoreOptions,
    activation, cosine_edges, enrich, gene_programs, neighbours_of, score_programs,
};
use sc_transformer::scgpt::{CellSource, PretrainCells, Pretraining, Recipe, ScGpt};
use sc_transformer::tokens::{GenerativeOptions, Tokenizer, TokenizerOptions};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything random follows from it.
const SEED: u64 = 0;
const EPOCHS: usize = 20;
const BATCH: usize = 16;
/// Genes whose nearest genes are shown: MHC class II, the cell cycle, an epithelial keratin.
const SHOWN: [&str; 3] = ["HLA-DRA", "CCNB1", "KRT19"];
/// The smallest cosine of a pair, and how many of the most similar pairs are looked at.
const MIN: f32 = 0.7;
const PAIRS: usize = 200;
/// The largest programs are shown.
const LARGEST: usize = 10;

fn main() -> Result<()> {
    let started = Instant::now();
    let out = output_dir("gene_network")?;
    let data = sc_io::read(test_data("cell_lines.h5ad"))?;
    let counts = data.matrix(None)?.to_csr();
    let genes = data.var.index();
    let name = |g: usize| genes[g].as_str();
    println!("{} cells x {} genes", data.n_obs(), genes.len());

    // 1. A vector for each gene, from pre-training.
    let model = pretrain(&counts, genes)?;
    model.save(out.join("model"))?;
    let ids = model.vocab().match_genes(genes, GeneCase::Exact)?;
    let ids: Vec<u32> = ids.ids().iter().copied().flatten().collect();
    let vectors = model.gene_matrix(&ids)?;

    // 2. Pairs of similar genes. Are they expressed together? The model was never shown a correlation.
    let options = EdgeOptions {
        min: MIN,
        ..EdgeOptions::default()
    };
    let mut edges = cosine_edges(vectors.view(), options)?;
    edges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let logs = log1p(&normalize_total(&counts, Some(1e4))?)?;
    let top = edges.iter().take(PAIRS);
    let top: Vec<(usize, usize)> = top.map(|e| (e.a as usize, e.b as usize)).collect();
    let (mean, all) = gene_correlation(&logs, &top);
    println!(
        "\n{} pairs of genes have a cosine of {MIN} or more",
        edges.len()
    );
    println!("correlation in the cells: {mean:.2} for the first {PAIRS}, {all:.2} for all pairs");
    for gene in SHOWN {
        let row = genes.iter().position(|g| g == gene);
        let row = row.ok_or("the data lacks a gene that is shown")?;
        let near = neighbours_of(vectors.view(), row, 8)?;
        let near: Vec<&str> = near.iter().map(|n| name(n.0)).collect();
        println!("  like {gene:<9}{}", near.join(" "));
    }

    // 3. Programs, and how active each is in each line: its genes beside others that are expressed as much.
    let options = ProgramOptions {
        resolution: 3.0,
        ..ProgramOptions::default()
    };
    let programs = gene_programs(vectors.view(), &options)?;
    let members: Vec<&[usize]> = programs.iter().map(|p| p.genes.as_slice()).collect();
    let scores = score_programs(&logs, &members, &ScoreOptions::default())?;
    let lines = data.obs.column("obs", "cell_line")?;
    let lines = lines.to_categorical("cell_line")?;
    let active = activation(scores.view(), &lines)?;
    let mut headings = vec!["activity of the largest programs"];
    headings.extend(lines.categories().iter().map(String::as_str));
    let mut table = Table::new(&headings);
    for (p, row) in programs.iter().zip(active.rows()).take(LARGEST) {
        let some: Vec<&str> = p.genes.iter().take(4).map(|&g| name(g)).collect();
        let (n, some) = (p.genes.len(), some.join(" "));
        let of = format!("{}: {n} genes, {some} ...", p.community);
        table.numbers(&of, &row.to_vec(), 2);
    }
    println!("\n{table}");

    // 4. Gene sets, if there is a file with some.
    if let Some(file) = std::env::args().nth(1) {
        known_sets(&GeneSets::read_gmt(file)?, &programs, genes)?;
    }

    // 5. Files and pictures.
    let name = |g: usize| genes[g].clone();
    let pair = |e: &Edge| [name(e.a as usize), name(e.b as usize), e.weight.to_string()];
    let headings = ["gene_a", "gene_b", "similarity"];
    write_tsv(out.join("network.tsv"), headings, edges.iter().map(pair))?;
    let of = |p: &Program| {
        p.genes
            .iter()
            .map(|&g| [p.community.to_string(), name(g)])
            .collect::<Vec<_>>()
    };
    let rows = programs.iter().flat_map(of);
    write_tsv(out.join("programs.tsv"), ["program", "gene"], rows)?;
    let places = picture(&vectors, 10)?;
    let figure = plots::Figure::new(out.join("genes.svg"), "Genes by their vectors");
    let figure = figure.panel("the largest programs", &places);
    figure
        .names_on_points()
        .by_label(&largest(&programs, genes.len()))?;
    println!(
        "network.tsv, programs.tsv, genes.svg are in {}",
        out.display()
    );
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// A small scGPT that learned to generate a quarter, a half or three quarters of a cell's genes from the others.
fn pretrain(counts: &Csr, genes: &[String]) -> Result<ScGpt> {
    let vocab = GeneVocab::new(genes.to_vec())?.with_specials(&SPECIALS)?;
    let small = ScGpt::params(&vocab)?.d_model(32).n_heads(4).d_hid(64);
    let small = small.n_layers(2).dropout(0.1).check()?;
    let model = small.init(&Device::Cpu, SEED)?;
    // All genes that a cell expresses, and a random 300 of them in each minibatch.
    let found = vocab.match_genes(genes, GeneCase::Exact)?;
    let all = TokenizerOptions::finetune(None, Parity::Correct);
    let tokenizer = Tokenizer::new(&vocab, &found, all)?;
    let split = GenerativeOptions {
        max_len: Some(300),
        ..GenerativeOptions::default()
    };
    let cells = PretrainCells::new(CellSource::new(counts, &tokenizer), split)?;
    // The rate rises for a tenth of the minibatches and falls to 0; from half of them on, a cell's own vector is a prompt.
    let steps = ((counts.n_rows() * 9 / 10).div_ceil(BATCH) * EPOCHS) as u64;
    let mut config = Recipe::pretraining(steps, SEED);
    config.max_epochs = Some(EPOCHS);
    config.batch_size = BATCH;
    config.lr = 5e-3;
    let mut task = Pretraining::new(&model);
    task.prompt_after = steps / 2;
    let bar = &mut ProgressBar::new("validation_loss");
    let learned = fit(&task, &cells, &config, bar)?
        .history
        .values("gep_validation");
    if let [first, .., last] = learned.as_slice() {
        println!("error of generated genes: {first:.0} after one epoch, {last:.0} after {EPOCHS}");
    }
    Ok(model)
}

/// The set of each program that chance explains least.
fn known_sets(sets: &GeneSets, programs: &[Program], genes: &[String]) -> Result<()> {
    let options = EnrichmentOptions {
        min_size: 5,
        ..EnrichmentOptions::default()
    };
    for p in programs {
        let list: Vec<String> = p.genes.iter().map(|&g| genes[g].clone()).collect();
        let found = enrich(&list, genes, sets, options)?;
        if let Some(best) = found.first().filter(|e| e.fdr < 0.05) {
            let (overlap, size) = (best.overlap.len(), best.size);
            println!(
                "  program {}: {overlap} of {size} genes of {}, FDR {:.0e}",
                p.community, best.set, best.fdr
            );
        }
    }
    println!();
    Ok(())
}

/// The program of each gene, if it is one of the largest.
fn largest(programs: &[Program], n_genes: usize) -> Categorical {
    let mut names = vec![None; n_genes];
    for p in programs.iter().take(LARGEST) {
        p.genes
            .iter()
            .for_each(|&g| names[g] = Some(p.community.to_string()));
    }
    Categorical::from_options(names.iter().map(Option::as_deref))
}
