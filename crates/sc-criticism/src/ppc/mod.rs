//! Posterior predictive checks: does a model generate cells like those that it was trained on?
//!
//! Any model that is [`Generative`](sc_model::Generative) can be checked ([`Drawn`]), and so can samples that another program
//! wrote ([`Tables`]). Cells stream through in blocks: what is held are sums by gene (and by group), never the samples of all
//! cells. The statistics are those of `scvi.criticism` (scvi-hub; Ergen et al., Nature Methods 2025), see [`Checked`].
//!
//! ```
//! use ndarray::Array2;
//! use sc_criticism::ppc::{Ppc, Tables};
//! use sc_data::{Categorical, RowSource};
//!
//! // Made-up counts of 60 cells of two types, and two "models": one that repeats them, one that shifts the genes by one.
//! let count = |i: usize, g: usize| ((i * 7 + g * 3) % 5 * usize::from(i % 2 == g % 2)) as f32;
//! let raw = Array2::from_shape_fn((60, 20), |(i, g)| count(i, g));
//! let shifted = Array2::from_shape_fn((60, 20), |(i, g)| count(i, g + 1));
//! let types = Categorical::from_labels(&["a", "b"].repeat(30));
//! let twice = |x: &Array2<f32>| -> Vec<Box<dyn RowSource>> { vec![Box::new(x.clone()), Box::new(x.clone())] };
//! let (same, other) = (Tables::new(twice(&raw))?, Tables::new(twice(&shifted))?);
//!
//! let checked = Ppc::new(&raw)
//!     .groups(&types)
//!     .model("same", &same)
//!     .model("shifted", &other)
//!     .run(&mut |_done, _all| ())?;
//! assert_eq!(checked.models[0].cv_gene.agreement.r2, 1.0);
//! assert!(checked.models[0].de[0].lfc_pearson > 0.999);
//! assert!(checked.models[1].de[0].lfc_pearson < 0.0);
//! # Ok::<(), sc_criticism::Error>(())
//! ```

mod agreement;
mod block;
mod calibration;
mod check;
mod de;
mod figures;
mod model;
mod moments;
mod observed;
mod ranking;
mod render;
mod samples;

pub use agreement::Agreement;
pub(crate) use agreement::spearman;
pub use calibration::Calibration;
pub use check::{Checked, Ppc, PpcOptions};
pub use de::{DeOptions, DeTest, GroupAgreement, LeftOut};
pub use model::{Compared, ModelCheck};
pub use observed::Observed;
pub(crate) use ranking::{average_precision, roc_auc};
pub use samples::{Drawn, Samples, Tables};
