//! Cell types of a new platform, from a transformer that you trained yourself.
//!
//! `cargo run --release --example annotate_cells` trains a small scBERT on two plates of CEL-seq2: first without labels, to guess
//! hidden expression, then with labels. Then it annotates cells of Drop-seq. One cell line is kept from training, so that its
//! cells are of a type that the model does not know. One to two minutes; everything lies in `target/annotate_cells` afterwards.
//!
//! The cells are from five lung cancer cell lines (Tian et al., Nature Methods 2019), whose genomes say which cell is of which
//! line: the truth is known.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use sc_criticism::classification::{Confusion, auroc};
use sc_data::{AnnData, Categorical, Column};
use sc_examples::report::Table;
use sc_examples::{output_dir, plots, test_data};
use sc_io::h5ad::WriteOptions;
use sc_model::train::{ProgressBar, TrainConfig};
use sc_model::{LrSchedule, Parity};
use sc_transformer::scbert::{
    Annotation, CellsConfig, FinetuneConfig, GenePanel, PretrainConfig, Scbert, ScbertCells,
    UNASSIGNED,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything random follows from it.
const SEED: u64 = 0;
const TYPE: &str = "cell_line";
/// The line that the model shall not know.
const NOVEL: &str = "HCC827";
/// Cells whose best type is less likely than this are `Unassigned`.
const SURE: f32 = 0.9;
/// Genes that are named for each line.
const TOP: usize = 8;

fn main() -> Result<()> {
    let started = Instant::now();
    let out = output_dir("annotate_cells")?;

    // 1. Cells: the reference are those of CEL-seq2 without the novel line, the query those of Drop-seq.
    let data = sc_io::read(test_data("cell_lines.h5ad"))?;
    let (platform, lines) = (labels(&data, "platform")?, labels(&data, TYPE)?);
    let of = |i: &usize, name: &str| platform.get(*i) == Some(name);
    let known = |i: &usize| of(i, "CEL-seq2") && lines.get(*i) != Some(NOVEL);
    let rows: Vec<usize> = (0..data.n_obs()).filter(known).collect();
    let reference = data.select_obs(&rows)?;
    let rows: Vec<usize> = (0..data.n_obs()).filter(|i| of(i, "Drop-seq")).collect();
    let query = data.select_obs(&rows)?;
    let known = labels(&reference, TYPE)?;
    let (n, new, genes) = (reference.n_obs(), query.n_obs(), data.n_vars());
    let names = known.categories().join(", ");
    println!("{n} cells of CEL-seq2 ({names}), {new} of Drop-seq; {genes} genes");

    // 2. A small scBERT. It reads every gene of its panel, expressed or not, each as one of six levels.
    let panel = GenePanel::new(data.var.index().to_vec())?;
    let small = Scbert::params(panel).dim(32).depth(2).heads(4).dim_head(8);
    let small = small.hidden(64).classifier_hidden([64, 32]);
    let small = small.learn_genes(true);
    let model = small.check()?.init(&Device::Cpu, SEED)?;

    // 3. Pre-training: no labels. A part of each cell's expression is hidden, to be guessed from the rest.
    let counts = reference.matrix(None)?.to_csr();
    let cells = model.cells(&counts, reference.var.index(), &levels())?;
    let mut pretraining = PretrainConfig::default();
    training(&mut pretraining.train, 10);
    pretraining.micro_batch = Some(8);
    let bar = &mut ProgressBar::new("accuracy_validation");
    let learned = model.pretrain(&cells, &pretraining, bar)?;
    let guessed = learned.history.values("accuracy_validation");
    if let [first, .., last] = guessed.as_slice() {
        println!("guesses {last:.3} of the hidden levels; after one epoch it was {first:.3}");
    }

    // 4. Fine-tuning: the same weights, with a new head that tells the lines apart. The epoch that does best on a fifth of
    //    the cells, which do not train, is kept.
    let model = model.with_classes(known.categories(), SEED)?;
    let labelled = model.labelled(&cells, &known)?;
    let mut finetuning = FinetuneConfig::default();
    training(&mut finetuning.train, 12);
    finetuning.micro_batch = Some(8);
    finetuning.everything = true;
    let bar = &mut ProgressBar::new("accuracy_validation");
    model.finetune(&labelled, &finetuning, bar)?;
    model.save(out.join("model"))?;

    // 5. The new platform.
    let new_counts = query.matrix(None)?.to_csr();
    let new_cells = model.cells(&new_counts, query.var.index(), &levels())?;
    let found = model.annotate(&new_cells, Some(SURE))?;
    judge(&found, &labels(&query, TYPE)?, known.categories())?;

    // 6. What the model looks at, and the cells with their types.
    explain(&out, &model, &cells, &known)?;
    write(&out, query, &found)?;
    println!("model, cells and importance.svg are in {}", out.display());
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// A column of obs, with the names that occur in these cells.
fn labels(data: &AnnData, column: &str) -> Result<Categorical> {
    let all = data.obs.column("obs", column)?.to_categorical(column)?;
    Ok(Categorical::from_options(all.iter()))
}

/// The panel has 800 genes and not 17,000: counts are scaled to a smaller sum, so that genes differ in their levels.
fn levels() -> CellsConfig {
    let mut config = CellsConfig::default();
    config.min_genes = 50;
    config.target_sum = 1500.0;
    config
}

/// Few cells and a small model: a higher rate than the original's, and small minibatches.
fn training(config: &mut TrainConfig, epochs: usize) {
    config.max_epochs = Some(epochs);
    config.batch_size = 16;
    config.lr = 2e-3;
    let (size, gamma) = (1, 0.9);
    config.lr_schedule = LrSchedule::Step { size, gamma };
    config.max_grad_norm = Some(1.0);
    config.early_stopping = None;
    config.seed = SEED;
}

/// Known lines: how many cells get theirs. The novel one: how many are recognised as not known.
fn judge(found: &Annotation, truth: &Categorical, known: &[String]) -> Result<()> {
    let said = found.names();
    let mut table = Table::new(&["", "cells", "right", "wrong", UNASSIGNED]);
    for line in truth.categories() {
        let of_line = || (0..truth.len()).filter(|&i| truth.get(i) == Some(line.as_str()));
        let count = |f: &dyn Fn(&str) -> bool| of_line().filter(|&i| f(said[i])).count() as f64;
        let right = count(&|s| s == line);
        let unsure = count(&|s| s == UNASSIGNED);
        let n = of_line().count() as f64;
        table.numbers(line, &[n, right, n - right - unsure, unsure], 0);
    }
    println!("\nDrop-seq, by the line of each cell; {NOVEL} is not known to the model\n{table}");

    // Cells without a true label do not count.
    let of_known = truth
        .iter()
        .map(|t| t.filter(|t| known.iter().any(|k| k == t)));
    let of_known = Categorical::from_options(of_known);
    let said = Categorical::from_labels(&found.probabilities.hard());
    let scores = Confusion::new(&of_known, &said)?;
    let (all, each) = (scores.accuracy(), scores.balanced_accuracy());
    println!("known lines, sure or not: accuracy {all:.3}, mean over lines {each:.3}");
    let is_novel: Vec<bool> = of_known.iter().map(|t| t.is_none()).collect();
    let sure = found.probabilities.best().1.into_iter().map(f64::from);
    let doubt: Vec<f64> = sure.map(|p| 1.0 - p).collect();
    let area = auroc(&doubt, &is_novel)?;
    println!("novel cells against known ones, by doubt: AUROC {area:.3}\n");
    Ok(())
}

/// The genes that get more attention in cells of one line than in those of the others, as a table and a picture.
fn explain(out: &Path, model: &Scbert, cells: &ScbertCells<'_>, known: &Categorical) -> Result<()> {
    let importance = model.gene_importance_by_type(cells, known, Parity::Correct)?;
    let average = 1.0 / importance.universe().len() as f64;
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for line in known.categories() {
        let top = importance.ranked_against_others(line)?;
        for (gene, more) in top.into_iter().take(TOP) {
            names.push(format!("{line}: {gene}"));
            values.push(more / average);
        }
    }
    let groups: Vec<&str> = names.iter().map(String::as_str).collect();
    let title = "Attention more than in other lines, in units of the average gene's";
    let svg = plots::bars(title, &groups, &[("scBERT", values)])?;
    std::fs::write(out.join("importance.svg"), svg)?;
    println!("genes that get most attention, against the other lines:");
    for (line, genes) in known.categories().iter().zip(names.chunks(TOP)) {
        let genes: Vec<&str> = genes.iter().filter_map(|n| n.split(": ").nth(1)).collect();
        println!("  {line:<8}{}", genes.join(" "));
    }
    println!();
    Ok(())
}

/// The cells with their types and how sure they are, for the next program.
fn write(out: &Path, mut query: AnnData, found: &Annotation) -> Result<()> {
    let names = Categorical::from_labels(&found.names());
    let sure = found.probabilities.best().1.into_iter().map(f64::from);
    let sure = Column::Float(sure.collect());
    query.obs.insert("C_scBERT", Column::Categorical(names))?;
    query.obs.insert("C_scBERT_confidence", sure)?;
    sc_io::write(out.join("annotated.h5ad"), &query, &WriteOptions::gzip(4))?;
    Ok(())
}
