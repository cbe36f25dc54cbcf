//! From counts to cell types: scVI on 1,805 neurons of worm embryos, in a minute.
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
use ndarray::Array2;
use sc_data::{Categorical, Column};
use sc_examples::plots::{self, Panel};
use sc_examples::{output_dir, report::Table, test_data};
use sc_latent::{Cells, Scvi, Setup};
use sc_model::KlWarmup;
use sc_model::train::{ProgressBar, TrainConfig};
use sc_neighbors::{UmapParams, adjusted_rand_index, connectivities, ilisi, knn, leiden, principal_axes, silhouette, umap};
use sc_preprocess::{HvgFlavor, highly_variable_genes, log1p, normalize_total, pca};

// Training allocates and frees many tensors of a few sizes, which mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Everything random follows from it: a second run prints the same numbers, whatever the number of threads.
const SEED: u64 = 0;
/// Genes that say something about these cells; the other 8,000 cost time and add noise.
const GENES: usize = 2_000;
/// Dimensions of the latent space, and as many principal components, so that the two can be compared.
const DIMENSIONS: usize = 10;
/// Few cells need many passes: 200 epochs of 13 minibatches are 2,600 steps.
const EPOCHS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let out = output_dir("quickstart")?;

    // 1. Cells. The reader knows .h5ad of all versions, 10x files and MatrixMarket folders.
    let mut data = sc_io::read(test_data("worm_embryo.h5ad"))?;
    let counts = data.matrix(None)?.to_csr();
    let batches = data.obs.column("obs", "batch")?.to_categorical("batch")?;
    let types = data.obs.column("obs", "cell.type")?.to_categorical("cell.type")?;
    let (n, n_batches, n_types) = (data.n_obs(), batches.categories().len(), types.categories().len());
    println!("{n} cells x {} genes, {n_batches} batches, {n_types} cell types", data.n_vars());

    // 2. Genes that vary more than their mean explains, found on raw counts.
    let variable = highly_variable_genes(&counts, GENES, HvgFlavor::SeuratV3)?;
    let subset = data.select_vars(&variable.genes)?;

    // 3. The baseline: principal components of log-normalised counts. Every cell is scaled by all of its genes first.
    let normalised = log1p(&normalize_total(&counts, Some(1e4))?)?;
    let principal = pca(&normalised.select_columns(&variable.columns())?, DIMENSIONS, SEED)?.scores;

    // 4. A model. scVI reads raw counts, and is told the batch of each cell so that the latent space need not say it.
    let setup = Setup { batch_key: Some("batch".into()), ..Setup::default() };
    let cells = Cells::new(&subset, &setup)?;
    cells.check_counts(true, false)?;
    let mut model = Scvi::params(&cells).n_latent(DIMENSIONS).check()?.init(&Device::Cpu, SEED)?;

    // 5. Training. The KL term, which draws the latent space together, grows to its full weight over the first half: the
    //    usual 400 epochs are meant for longer runs than this one.
    let mut config = TrainConfig::default();
    config.max_epochs = Some(EPOCHS);
    config.kl_warmup = KlWarmup { n_epochs: Some(EPOCHS / 2), ..KlWarmup::default() };
    config.validate_every = Some(1);
    config.seed = SEED;
    let before = model.elbo(&cells, Some(SEED))?.elbo();
    let fitted = model.fit(&cells, &config, &mut ProgressBar::new("elbo_validation"))?;
    let after = model.elbo(&cells, Some(SEED))?.elbo();
    model.save(out.join("model"))?;
    println!("trained {EPOCHS} epochs in {:.1} s", fitted.history.epoch_seconds.iter().sum::<f64>());

    // 6. The place of each cell in both spaces, and what follows from it.
    let latent = model.latent(&cells)?.mean;
    let scvi = View::of(&latent, &batches, &types)?;
    let baseline = View::of(&principal, &batches, &types)?;

    // 7. How well did it go?
    let mut table = Table::new(&["", "before training", "after"]);
    table.row(&["ELBO per cell", &format!("{before:.1}"), &format!("{after:.1}")]);
    println!("\n{table}");
    let mut table = Table::new(&["10 dimensions", "PCA", "scVI", "best possible"]);
    let mut row = |name: &str, of: fn(&View) -> f64, best: f64| {
        let [a, b, c] = [of(&baseline), of(&scvi), best].map(|v| format!("{v:.3}"));
        table.row(&[name, &a, &b, &c]);
    };
    row("batch mixing (iLISI)", |v| v.mixing, mixing_by_chance(&batches));
    row("cell-type silhouette", |v| v.silhouette, 1.0);
    row("Leiden clusters = cell types (ARI)", |v| v.agreement, 1.0);
    println!("{table}");

    // 8. Pictures.
    let panels = |title: &'static str| [Panel { title, points: scvi.umap.view() }];
    let both = [
        Panel { title: "principal components", points: baseline.umap.view() },
        Panel { title: "scVI latent space", points: scvi.umap.view() },
    ];
    let end_of_warmup = EPOCHS / 2;
    plots::training(&out.join("training.svg"), "scVI learns", &fitted.history, end_of_warmup)?;
    plots::by_label(&out.join("umap_cell_type.svg"), "Cell types", &both, &types, false)?;
    plots::by_label(&out.join("umap_batch.svg"), "Batches", &both, &batches, false)?;
    plots::by_label(&out.join("umap_leiden.svg"), "Leiden clusters", &panels("scVI latent space"), &scvi.clusters, true)?;
    let age = data.obs.column("obs", "embryo.time")?.to_f64("embryo.time")?;
    plots::by_value(&out.join("umap_embryo_time.svg"), "Age of the embryo", &both, "minutes", &age)?;

    // 9. The cells with all that was found, for the next program: scanpy and others read it.
    data.obs.insert("leiden", Column::Categorical(scvi.clusters))?;
    data.obsm.insert("X_scVI".into(), latent.into());
    data.obsm.insert("X_pca".into(), principal.into());
    data.obsm.insert("X_umap".into(), scvi.umap.into());
    sc_io::write(out.join("cells.h5ad"), &data, &sc_io::h5ad::WriteOptions::gzip(4))?;

    println!("{:.1} s in all; plots, model and annotated cells are in {}", started.elapsed().as_secs_f64(), out.display());
    Ok(())
}

/// An embedding seen through its neighbour graph.
struct View {
    umap: Array2<f32>,
    clusters: Categorical,
    mixing: f64,
    silhouette: f64,
    agreement: f64,
}

impl View {
    fn of(points: &Array2<f32>, batches: &Categorical, types: &Categorical) -> Result<Self, Box<dyn Error>> {
        let (batches, types) = (batches.complete_codes("batch")?, types.complete_codes("cell.type")?);
        // 15 neighbours for the graph, as UMAP has them; 90 for the mixing of batches, as scIB does.
        let graph = connectivities(&knn(points.view(), 15)?)?;
        let found = leiden(&graph, 1.0, SEED)?;
        let start = principal_axes(points.view(), 2)?;
        let params = UmapParams { seed: SEED, ..UmapParams::default() };
        Ok(Self {
            umap: umap(&graph, start.view(), &params)?,
            mixing: ilisi(&knn(points.view(), 90)?, &batches, None)?,
            silhouette: silhouette(points.view(), &types)?,
            agreement: adjusted_rand_index(&found, &types)?,
            clusters: clusters(&found)?,
        })
    }
}

/// Cluster numbers as labels "0", "1", ..., the largest cluster first.
fn clusters(found: &[u32]) -> Result<Categorical, sc_data::Error> {
    let n = found.iter().max().map_or(0, |m| m + 1);
    Categorical::new(found.iter().map(|&c| Some(c)).collect(), (0..n).map(|c| c.to_string()).collect(), false)
}

/// The iLISI if every neighbourhood were a random sample of all cells. It is below 1, because the batches are of
/// different sizes: `(1 / sum of squared shares - 1) / (batches - 1)`.
fn mixing_by_chance(batches: &Categorical) -> f64 {
    let shares = batches.counts().into_iter().map(|n| n as f64 / batches.len() as f64);
    let effective = 1.0 / shares.map(|s| s * s).sum::<f64>();
    (effective - 1.0) / (batches.categories().len() as f64 - 1.0)
}
