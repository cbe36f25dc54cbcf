//! From counts to cell types: scVI on 1,805 neurons of worm embryos, in seconds.
//!
//! `cargo run --release --example quickstart` reads real cells, trains scVI, and compares its latent space with principal
//! components. Everything it makes lies in `target/quickstart` afterwards.
//!
//! The cells (Packer et al., Science 2019) were sequenced in seven batches, some of them at different ages of the embryo.
//! A good embedding keeps the cell types apart and mixes the batches as far as biology allows.

// A program at a terminal: its output is what it is for.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use candle_core::Device;
use sc_data::Column;
use sc_examples::plots::{self, Figure};
use sc_examples::report::Table;
use sc_examples::view::{View, mixing_by_chance};
use sc_examples::{output_dir, test_data};
use sc_io::h5ad::WriteOptions;
use sc_latent::{Cells, Likelihood, NonInteger, Scvi, Setup};
use sc_model::KlWarmup;
use sc_model::train::{ProgressBar, TrainConfig};
use sc_preprocess::{HvgFlavor, highly_variable_genes, log1p, normalize_total, pca};

// Training allocates and frees many tensors of a few sizes, which mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Everything random follows from it: a second run finds the same numbers, whatever the number of threads.
const SEED: u64 = 0;
/// Genes that say something about these cells; the other 8,000 cost time and add noise.
const GENES: usize = 2_000;
/// Dimensions of the latent space, and as many principal components, so that the two can be compared.
const DIMENSIONS: usize = 10;
/// Until the validation cells gain no more (`training.svg`): few cells need many passes.
const EPOCHS: usize = 100;
/// The KL term, which draws the latent space together, grows to its full weight over these: the usual 400 are meant for
/// longer runs.
const KL_EPOCHS: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let out = output_dir("quickstart")?;

    // 1. Cells. The reader knows .h5ad of all versions, 10x files and MatrixMarket folders.
    let mut data = sc_io::read(test_data("worm_embryo.h5ad"))?;
    let counts = data.matrix(None)?.to_csr();
    let obs = &data.obs;
    let batches = obs.column("obs", "batch")?.to_categorical("batch")?;
    let types = obs
        .column("obs", "cell.type")?
        .to_categorical("cell.type")?;
    let size = (data.n_obs(), data.n_vars());
    println!("{} cells x {} genes", size.0, size.1);

    // 2. Genes that vary more than their mean explains, found on raw counts.
    let variable = highly_variable_genes(&counts, GENES, HvgFlavor::SeuratV3)?;
    let subset = data.select_vars(&variable.genes)?;

    // 3. The baseline: principal components of log-normalised counts. Every cell is scaled by all of its genes first.
    let normalised = log1p(&normalize_total(&counts, Some(1e4))?)?;
    let normalised = normalised.select_columns(&variable.columns())?;
    let principal = pca(&normalised, DIMENSIONS, SEED)?.scores;

    // 4. A model. scVI reads raw counts, and is told the batch of each cell so that the latent space need not say it.
    //    Molecules were counted (UMI), so zeros need no explanation of their own: negative binomial, no zero inflation.
    let setup = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(&subset, &setup)?;
    let params = Scvi::params(&cells)
        .n_latent(DIMENSIONS)
        .likelihood(Likelihood::Nb)
        .check()?;
    cells.check_counts(params.config(), NonInteger::Refuse)?;
    let mut model = params.init(&Device::Cpu, SEED)?;

    // 5. Training on nine cells in ten; the tenth says how well the model knows cells that it has not seen.
    let mut config = TrainConfig::default();
    config.max_epochs = Some(EPOCHS);
    config.kl_warmup = KlWarmup {
        n_epochs: Some(KL_EPOCHS),
        ..KlWarmup::default()
    };
    config.validate_every = Some(1);
    config.seed = SEED;
    let before = model.elbo(&cells, Some(SEED))?;
    let fitted = model.fit(&cells, &config, &mut ProgressBar::new("elbo_validation"))?;
    let after = model.elbo(&cells, Some(SEED))?;
    model.save(out.join("model"))?;
    let seconds: f64 = fitted.epoch_seconds.iter().sum();
    println!("trained {EPOCHS} epochs in {seconds:.1} s");

    // 6. The place of each cell in both spaces, and what follows from it.
    let latent = model.latent(&cells)?.mean;
    let scvi = View::of(&latent, &batches, &types, SEED)?;
    let baseline = View::of(&principal, &batches, &types, SEED)?;

    // 7. How well did it go? scVI should mix the batches far better and know the cell types no worse. The best possible
    //    is out of reach: some batches hold young embryos only, and the cell types pass into one another as they mature.
    let mut elbo = Table::new(&["ELBO per cell", "before training", "after"]);
    let split = &fitted.split;
    for (name, rows) in [
        ("training", &split.train),
        ("validation", &split.validation),
    ] {
        let values = [before.select(rows)?.elbo(), after.select(rows)?.elbo()];
        elbo.numbers(&format!("{} {name} cells", rows.len()), &values, 1);
    }
    println!("\n{elbo}");
    let mut table = Table::new(&["10 dimensions", "PCA", "scVI", "ideal"]);
    let chance = mixing_by_chance(&batches);
    let (p, s) = (&baseline, &scvi);
    table.numbers("batch mixing (iLISI)", &[p.mixing, s.mixing, chance], 3);
    table.numbers(
        "cell-type silhouette",
        &[p.silhouette, s.silhouette, 1.0],
        3,
    );
    table.numbers(
        "Leiden = cell type (ARI)",
        &[p.agreement, s.agreement, 1.0],
        3,
    );
    println!("{table}");

    // 8. Pictures: each cell at its place in both spaces.
    let figure = |name: &str, title: &'static str| {
        Figure::new(out.join(name), title)
            .panel("principal components", &baseline.umap)
            .panel("scVI latent space", &scvi.umap)
    };
    figure("umap_cell_type.svg", "Cell types").by_label(&types)?;
    figure("umap_batch.svg", "Batches").by_label(&batches)?;
    let clusters = figure("umap_leiden.svg", "Leiden clusters of scVI's latent space");
    clusters.names_on_points().by_label(&scvi.clusters)?;
    let age = obs.column("obs", "embryo.time")?.to_f64("embryo.time")?;
    figure("umap_embryo_time.svg", "Age of the embryo").by_value("minutes", &age)?;
    let file = out.join("training.svg");
    plots::training(&file, "scVI learns", &fitted.history, KL_EPOCHS)?;

    // 9. The cells with all that was found, for the next program: scanpy and others read it.
    data.obs
        .insert("leiden", Column::Categorical(scvi.clusters))?;
    data.obsm.insert("X_scVI".into(), latent.into());
    data.obsm.insert("X_pca".into(), principal.into());
    data.obsm.insert("X_umap".into(), scvi.umap.into());
    sc_io::write(out.join("cells.h5ad"), &data, &WriteOptions::gzip(4))?;

    println!("plots, model and cells are in {}", out.display());
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}
