//! Trains a reference and maps a query: `map_accuracy FOLDER MODEL REFERENCE_EPOCHS QUERY_EPOCHS SEED`. FOLDER holds
//! `reference.h5ad` and `query.h5ad` with counts and obs column `batch`; the places of their cells go to
//! `reference_places.h5ad` and `query_places.h5ad`, obsm `X_scVI`. For `benches/peers/map_accuracy.py`, which judges them.
#![allow(clippy::print_stdout, reason = "a program for programs")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use sc_data::AnnData;
use sc_latent::{Cells, NormIn, QueryOptions, Scvi, Setup};
use sc_model::train::TrainConfig;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind, reference_epochs, query_epochs, seed] = args.as_slice() else {
        return Err(
            "map_accuracy FOLDER scarches|default REFERENCE_EPOCHS QUERY_EPOCHS SEED".into(),
        );
    };
    let folder = PathBuf::from(folder);
    let seed: u64 = seed.parse()?;
    let start = Instant::now();
    let data = sc_io::h5ad::read(folder.join("reference.h5ad"))?;
    let setup = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(&data, &setup)?;
    let mut params = Scvi::params(&cells).encode_covariates(true);
    if kind == "scarches" {
        params = params
            .layer_norm(NormIn::Both)
            .batch_norm(NormIn::None)
            .n_layers(2)
            .dropout_rate(0.2);
    }
    let mut reference = params.check()?.init(&candle_core::Device::Cpu, seed)?;
    let mut config = TrainConfig::default();
    config.max_epochs = Some(reference_epochs.parse()?);
    config.seed = seed;
    reference.fit(&cells, &config, &mut ())?;
    let reference_seconds = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let query = sc_io::h5ad::read(folder.join("query.h5ad"))?;
    let (query_cells, _) = Cells::for_query(&query, reference.registry())?;
    let options = QueryOptions::default();
    let mut mapped = reference.load_query(&query_cells, &options, seed)?;
    let mut config = options.train_config();
    config.max_epochs = Some(query_epochs.parse()?);
    config.seed = seed;
    let fitted = mapped.fit(&query_cells, &config, &mut ())?;
    let query_seconds = start.elapsed().as_secs_f64();

    write_places(
        &folder.join("reference_places.h5ad"),
        &reference,
        &cells,
        &data,
    )?;
    write_places(
        &folder.join("query_places.h5ad"),
        &mapped,
        &query_cells,
        &query,
    )?;
    println!(
        "{{\"reference_seconds\": {reference_seconds}, \"query_seconds\": {query_seconds}, \"query_epochs\": {}}}",
        fitted.epoch_seconds.len()
    );
    Ok(())
}

/// The cells with their places in the latent space.
fn write_places(
    to: &Path,
    model: &Scvi,
    cells: &Cells<'_>,
    data: &AnnData,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = AnnData::default();
    out.obs = data.obs.clone();
    out.obsm
        .insert("X_scVI".into(), model.latent(cells)?.mean.into());
    let options = sc_io::h5ad::WriteOptions::default();
    Ok(sc_io::h5ad::write(to, &out, &options)?)
}
