//! The nets of drift and diffusion: [`TorchNet`], its derivatives in closed form, and the autoencoder around them.
//!
//! A potential drift is the gradient of a net with one output. That gradient is computed by a second sweep through the
//! same layers ([`BoundNet::gradient`]), which shares the activations of the first and starts from a vector; training
//! needs its derivative, which ordinary reverse mode then gives.

mod activation;
mod autoencoder;
mod bound;
mod composed;
mod config;
mod ops;
#[cfg(test)]
mod tests;
mod torch_net;

pub use activation::Activation;
pub use autoencoder::{Autoencoder, AutoencoderConfig, power_widths};
pub use bound::BoundNet;
pub use config::NetConfig;
pub use torch_net::TorchNet;
