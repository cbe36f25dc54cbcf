//! Trained here, opened in Python: writes a model folder of ours as the folder that scvi-tools loads.
//!
//! ```text
//! cargo run --release --example to_scvi_tools -- target/quickstart/model scvi_model
//! python -c 'import scvi, anndata; scvi.model.SCVI.load("scvi_model", anndata.read_h5ad("cells.h5ad"))'
//! ```
#![allow(clippy::print_stdout, reason = "a program for people")]

use candle_core::Device;
use sc_latent::Scvi;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: to_scvi_tools MODEL_FOLDER NEW_FOLDER".into());
    };
    let model = Scvi::load(&model, &Device::Cpu)?;
    model.save_scvi_tools(&out)?;
    println!(
        "{out}/model.pt: {} parameters",
        model.parameters().n_trainable()
    );
    Ok(())
}
