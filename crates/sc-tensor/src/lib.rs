//! # sc-tensor
//!
//! The tensors that the models of this workspace compute with: [`Tensor`] is candle's tensor, re-exported, so that
//! anything written for candle works here at no cost. This crate adds what candle lacks, or does badly on a CPU, when
//! models of single cells are trained:
//!
//! | module | what it adds |
//! |---|---|
//! | [`rng`] | seeded random streams with names: the same numbers for the same seed, whatever the thread count |
//! | [`ops`] | operations whose gradients work: linear, sparse x dense, attention, norms, activations, embedding ... |
//! | [`likelihood`] | fused log-likelihoods of counts and their gradients |
//! | [`pairs`] | sums over all pairs of two clouds of points, without a matrix of them |
//! | [`math`] | vectorised exp, log, lgamma, digamma on slices |
//! | [`numpy`] | numpy's legacy `RandomState`, to repeat the splits that Python programs made |
//! | [`backward()`], [`recycle()`] | candle's `backward` without the copies, and its memory used again |
//! | [`gradcheck`](mod@gradcheck) | compares a gradient with finite differences |
//!
//! Everything gives the same bits on one thread and on many.
//!
//! ```
//! use std::sync::Arc;
//! use sc_data::Csr;
//! use sc_tensor::{DType, Device, Rng, Var, backward, ops};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two cells, three genes, and a layer with four outputs. The weight is input-major: genes x outputs.
//! let counts = Arc::new(Csr::from_dense(&ndarray::array![[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]]));
//! let x = ops::SparseInput::log1p(counts);
//! let rng = Rng::new(0);
//! let w = Var::from_tensor(&rng.stream("init").normal((3, 4), DType::F32, &Device::Cpu)?)?;
//!
//! let h = ops::relu(&ops::csr_linear(&x, &w, None, None)?)?;
//! let grads = backward(&h.sum_all()?)?;
//! assert_eq!(grads.get(&w).map(|g| g.dims().to_vec()), Some(vec![3, 4]));
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod backward;
mod error;
pub mod gradcheck;
mod kernel;
pub mod likelihood;
pub mod math;
mod matmul;
pub mod numpy;
pub mod ops;
pub mod pairs;
mod pool;
pub mod rng;
mod simd;
mod tape;
#[cfg(test)]
mod testing;
mod tiles;

pub use backward::{backward, recycle};
pub use candle_core;
pub use candle_core::backprop::GradStore;
pub use candle_core::{D, DType, Device, Module, Shape, Tensor, Var};
pub use error::{Error, Result};
pub use gradcheck::gradcheck;
pub use rng::{Rng, Stream};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
