//! What will become of a cell? Fates of blood progenitors, against what became of their clones.
//!
//! `cargo run --release --example fate` trains a neural SDE on cells of three days, simulates where the cells of day 4 go, compares
//! that with the relatives that lineage barcodes give them, turns genes up and down, and draws maps of drift and diffusion. The
//! model never sees a barcode. Everything lies in `target/fate` afterwards.
//!
//! The cells are 781 of Weinreb et al., "Lineage tracing on transcriptional landscapes links state to fate during
//! differentiation", Science 2020: few, so its numbers are no benchmark.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use ndarray::{Array2, Axis};
use sc_data::{AnnData, Annotation, Categorical, Csr};
use sc_examples::plots::{Figure, Point, lines};
use sc_examples::report::Table;
use sc_examples::{output_dir, test_data};
use sc_model::Mode;
use sc_model::train::ProgressBar;
use sc_preprocess::{GeneFilter, ScaleOptions, Scaler, log1p, normalize_total, pca, qc_metrics};
use sc_sde::downstream::{
    ClonalFates, Experiment, FateCounts, FateMatrix, GeneSpace, HAS_FATE, LogisticFates,
    Perturbation, Simulation, StateLabels, fate_scores, field, landscape, potential, to_tensor,
};
use sc_sde::flow::FlowTraining;
use sc_sde::model::{DiffusionKind, ScDiffEq};
use sc_sde::nets::{Activation, NetConfig};
use sc_sde::train::{SdeTraining, Snapshots};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Everything random follows from it.
const SEED: u64 = 0;
const COMPONENTS: usize = 20;
const EPOCHS: usize = 300;
/// Genes in fewer cells are left out: their z-scores are a few outliers.
const MIN_CELLS: u32 = 40;
/// Cells that are no fate.
const UNDECIDED: &[&str] = &["undiff"];
/// Genes that drive or mark neutrophils (`Cebpe`, `Gfi1`, `Elane`) and others (`Irf8`, `Gata1`, `Csf1r`).
const GENES: [&str; 6] = ["Cebpe", "Gfi1", "Elane", "Irf8", "Csf1r", "Gata1"];

fn main() -> Result<()> {
    let started = Instant::now();
    let out = output_dir("fate")?;

    // 1. Cells in principal components, and the way back to genes.
    let data = sc_io::read(test_data("larry.h5ad"))?;
    let kinds = data.obs.column("obs", "state_info")?;
    let kinds = kinds.to_categorical("state_info")?;
    let days = days(&data)?;
    let (expression, space, places) = components(&data)?;
    space.save(out.join("genes.safetensors"))?;
    let counts = [2.0, 4.0, 6.0].map(|d| days.iter().filter(|day| **day == d).count());
    let genes = space.genes().len();
    println!("cells of days 2, 4, 6: {counts:?}; {genes} genes");

    // 2. How they move: first the drift alone, without simulation, then drift and diffusion.
    let model = train(&places, &days)?;
    model.save(out.join("model"))?;

    // 3. Fates of the cells of day 4, by what most cells are around the places where their paths end.
    let states = StateLabels::new(places.view(), &kinds)?;
    let truth = ClonalFates::observe(&clones(&data)?, &days, &kinds, 4.0, &[6.0], UNDECIDED)?;
    let equation = model.equation(&Mode::eval())?;
    let simulation = Simulation::new(&equation, &[4.0, 6.0], 0.1)?.seed(SEED);
    let start = to_tensor(
        places.select(Axis(0), truth.cells()).view(),
        model.parameters().dtype(),
    )?;
    let many = simulation.clone().copies(200);
    let ends = FateCounts::predict(&many, &start, &states)?;
    let predicted = ends.without(UNDECIDED).fractions();
    judge(&places, &truth, &predicted)?;

    // 4. Genes up and down in undecided cells of day 4; each is its own control.
    let undecided: Vec<usize> = (0..days.len())
        .filter(|&i| days[i] == 4.0 && kinds.get(i) == Some(UNDECIDED[0]))
        .collect();
    let experiment = Experiment::new(simulation.copies(20), &states, &space)?;
    perturb(&out, &experiment, &expression, &undecided)?;

    // 5. Maps.
    maps(&out, &data, &model, &places)?;
    println!("model, genes, dose.svg and maps are in {}", out.display());
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

fn days(data: &AnnData) -> Result<Vec<f64>> {
    let column = data.obs.column("obs", "time_info")?;
    let labels = column.to_categorical("time_info")?;
    let days = labels.iter().map(|d| d.unwrap_or("").parse::<f64>());
    Ok(days.collect::<std::result::Result<_, _>>()?)
}

/// Logarithms of normalised counts, the components of their z-scores, and where they put the cells.
fn components(data: &AnnData) -> Result<(Csr, GeneSpace, Array2<f32>)> {
    let counts = data.matrix(None)?.to_csr();
    let filter = GeneFilter {
        min_cells: Some(MIN_CELLS),
        ..GeneFilter::default()
    };
    let genes = filter.keep(&qc_metrics(&counts, &[], &[])?.1);
    let columns: Vec<Option<usize>> = genes.iter().map(|g| Some(*g)).collect();
    let logs = log1p(&normalize_total(
        &counts.select_columns(&columns)?,
        Some(1e4),
    )?)?;
    let scaler = Scaler::fit(&logs, ScaleOptions::default())?;
    let found = pca(&scaler.to_dense(&logs)?, COMPONENTS, SEED)?;
    let names = genes.iter().map(|g| data.var.index()[*g].clone());
    let space = GeneSpace::from_pca(names.collect(), Some(&scaler), &found)?;
    Ok((logs, space, found.scores))
}

fn train(places: &Array2<f32>, days: &[f64]) -> Result<ScDiffEq> {
    let cells = Snapshots::from_array(places.view(), days)?;
    let net = NetConfig::new([64, 64]).activation(Activation::Softplus);
    let params = ScDiffEq::params(COMPONENTS)
        .mu(net)
        .diffusion(DiffusionKind::Diagonal);
    let params = params.check()?;
    let mut model = params.init(&Device::Cpu, SEED)?;
    let mut drift = FlowTraining::default();
    drift.run.max_epochs = Some(100);
    drift.run.seed = SEED;
    let bar = &mut ProgressBar::new("validation_loss");
    model.pretrain_drift(&cells, &drift, bar)?;
    let mut training = SdeTraining::new(model.config()).epochs(EPOCHS);
    training.run.lr = 1e-3;
    // In so short a training the ratio would outweigh the cells.
    training.velocity_ratio = None;
    training.run.seed = SEED;
    let bar = &mut ProgressBar::new("validation_loss");
    let fitted = model.fit(&cells, &training, bar)?;
    let losses = fitted.history.values("validation_loss");
    if let [first, .., last] = losses.as_slice() {
        println!(
            "Sinkhorn divergence of other cells after one epoch {first:.2}, after all {last:.2}"
        );
    }
    Ok(model)
}

fn clones(data: &AnnData) -> Result<Csr> {
    match data.obsm.get("X_clone") {
        Some(Annotation::Matrix(m)) => Ok(m.to_csr()),
        _ => Err("no matrix X_clone in obsm".into()),
    }
}

/// Against the relatives of day 6: the model, and logistic regression that was taught the fates of the other cells.
fn judge(places: &Array2<f32>, truth: &ClonalFates, predicted: &FateMatrix) -> Result<()> {
    let observed = truth.matrix();
    let taught = taught(&places.select(Axis(0), truth.cells()), &observed)?;
    let mut table = Table::new(&["", "cells", "accuracy", "cross-entropy", "AUROC"]);
    for (name, fates) in [
        ("neural SDE, no barcodes", predicted),
        ("logistic regression, taught", &taught),
    ] {
        let s = fate_scores(&observed, fates, HAS_FATE)?;
        let area = s.auroc_macro.unwrap_or(f64::NAN);
        table.numbers(
            name,
            &[s.n_cells as f64, s.accuracy, s.cross_entropy, area],
            3,
        );
    }
    println!("\nFates of cells of day 4, against their clones at day 6\n{table}");
    let scores = fate_scores(&observed, predicted, HAS_FATE)?;
    let mut table = Table::new(&["fate", "cells", "AUROC", "correlation"]);
    for f in scores.fates.iter().filter(|f| f.n_cells >= 5) {
        let numbers = [
            f.n_cells as f64,
            f.auroc.unwrap_or(f64::NAN),
            f.correlation.unwrap_or(f64::NAN),
        ];
        table.numbers(&f.fate, &numbers, 2);
    }
    println!("Those that five cells have, by the neural SDE\n{table}");
    Ok(())
}

/// Each fifth of the cells is predicted from the others.
fn taught(places: &Array2<f32>, observed: &FateMatrix) -> Result<FateMatrix> {
    let n = observed.n_cells();
    let mut all = Array2::zeros(observed.fractions().dim());
    for fold in 0..5 {
        let (test, rest): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % 5 == fold);
        let known = places.select(Axis(0), &rest);
        let model = LogisticFates::fit(known.view(), &observed.select(&rest)?, 10.0)?;
        let found = model.predict(places.select(Axis(0), &test).view())?;
        for (row, p) in test.iter().zip(found.fractions().rows()) {
            all.row_mut(*row).assign(&p);
        }
    }
    Ok(FateMatrix::new(observed.fates().to_vec(), all)?)
}

/// A dose series of each gene: neutrophils, as a table and a picture.
fn perturb(
    out: &Path,
    experiment: &Experiment<'_>,
    expression: &Csr,
    cells: &[usize],
) -> Result<()> {
    let space = GeneSpace::load(out.join("genes.safetensors"))?;
    let doses = [-10.0, -5.0, 0.0, 5.0, 10.0];
    let mut table = Table::new(&["gene", "z = -10", "z = 10", "low", "high", "q"]);
    let mut series: Vec<(&str, Vec<Point>)> = Vec::new();
    for gene in GENES {
        let all = Perturbation::doses(&space, &[gene], &doses)?;
        let effects = experiment.run(expression, cells, &all, |_, _| {})?;
        let found: Vec<_> = effects.on("Neutrophil").collect();
        if let [down, .., up] = found.as_slice() {
            let numbers = [
                down.difference,
                up.difference,
                up.difference_low,
                up.difference_high,
                up.q,
            ];
            table.numbers(gene, &numbers, 3);
        }
        let point = |e: &&sc_sde::downstream::FateEffect| Point {
            x: e.z,
            y: e.difference,
            interval: Some((e.difference_low, e.difference_high)),
        };
        series.push((gene, found.iter().map(point).collect()));
    }
    println!(
        "Change of the share of neutrophils among the fates of {} undecided cells\n{table}",
        cells.len()
    );
    pairs(experiment, expression, cells, &space)?;
    let svg = lines(
        "Neutrophils",
        ("z-score of the gene", "change of their share"),
        &series,
    )?;
    std::fs::write(out.join("dose.svg"), svg)?;
    Ok(())
}

/// What it is worth that a perturbed cell moves by the random numbers of its control.
fn pairs(
    experiment: &Experiment<'_>,
    expression: &Csr,
    cells: &[usize],
    space: &GeneSpace,
) -> Result<()> {
    let both = [Perturbation::set(space, &["Cebpe", "Gfi1"], 5.0)?];
    let mut widths = Vec::new();
    for shared in [true, false] {
        let experiment = experiment.clone().shared_noise(shared);
        let effects = experiment.run(expression, cells, &both, |_, _| {})?;
        let found = effects.on("Neutrophil").next().ok_or("no neutrophils")?;
        let (low, high) = (found.difference_low, found.difference_high);
        widths.push(high - low);
        let numbers = if shared {
            "of the control"
        } else {
            "of its own"
        };
        println!("Cebpe and Gfi1 at z = 5, random numbers {numbers}: {low:+.3} to {high:+.3}");
    }
    if let [shared, own] = widths.as_slice() {
        let more = (own / shared).powi(2);
        println!("as sure without sharing them: {more:.1} times the cells\n");
    }
    Ok(())
}

/// The cells in a plane, coloured by drift, diffusion and landscape.
fn maps(out: &Path, data: &AnnData, model: &ScDiffEq, places: &Array2<f32>) -> Result<()> {
    let Some(Annotation::Matrix(plane)) = data.obsm.get("X_emb") else {
        return Err("no matrix X_emb in obsm".into());
    };
    let plane = plane.to_dense();
    let cells = to_tensor(places.view(), model.parameters().dtype())?;
    let found = field(&model.equation(&Mode::eval())?, &cells, 4.0)?;
    let near = sc_neighbors::knn(places.view(), 20)?;
    let heights = landscape(&potential(model, &cells)?, &near, sc_model::Parity::Correct)?;
    for (name, values) in [
        ("drift", &found.drift_norm),
        ("diffusion", &found.diffusion_norm),
        ("landscape", &heights),
    ] {
        let path = out.join(format!("{name}.svg"));
        Figure::new(path, name)
            .panel("", &plane)
            .by_value(name, values)?;
    }
    let kinds: Categorical = data
        .obs
        .column("obs", "state_info")?
        .to_categorical("state_info")?;
    Figure::new(out.join("kinds.svg"), "kinds")
        .panel("", &plane)
        .by_label(&kinds)?;
    Ok(())
}
