//! Writes a model of ours as a folder that scvi-tools loads: `cargo run --release -p sc-latent --example export_scvi_tools -- MODEL OUT`,
//! and then in Python `scvi.model.SCVI.load(OUT, adata)` or `scvi.model.SCANVI.load(OUT, adata)`.

use candle_core::Device;
use sc_latent::{AnyModel, Error};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(out), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(Error::InvalidSetting {
            name: "arguments",
            value: "not two".into(),
            reason: "give the folder of a model, and the folder to write".into(),
        });
    };
    AnyModel::load(model, &Device::Cpu)?.save_scvi_tools(out)
}
