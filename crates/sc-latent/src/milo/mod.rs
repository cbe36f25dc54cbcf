//! Differential abundance on a neighbour graph: where do cells become more or fewer between conditions, without clusters?
//! Milo: Dann, Henderson, Teichmann, Morgan and Marioni, "Differential abundance testing on single-cell data using
//! k-nearest neighbor graphs", Nat Biotechnol 2022.
//!
//! No model is needed: an embedding of the cells, of whatever kind, the sample of each cell, and what is known about the
//! samples.
//!
//! 1. [`Neighbourhoods`]: partly overlapping groups of cells around representative ones.
//! 2. [`Counts`]: how many cells of each sample each of them holds.
//! 3. [`Design`]: which samples are compared, and what else differs between them.
//! 4. [`differential_abundance`]: a negative binomial model for each neighbourhood (TMM sizes, dispersion as a trend of
//!    abundance, quasi-likelihood F tests with variances that borrow strength from each other), as edgeR calls its legacy
//!    route; then a false discovery rate that takes neighbourhoods in dense places, which overlap most, for less.
//! 5. [`DaTable`]: the results, with labels ([`Neighbourhoods::annotate`]); [`write_to`] puts them into an `AnnData`.
//!
//! ```
//! use sc_data::{Categorical, Column, Table};
//! use sc_latent::milo::{self, Counts, Design, NeighbourhoodOptions, Neighbourhoods, TestOptions};
//! use sc_neighbors::{connectivities, knn};
//!
//! # fn main() -> Result<(), sc_latent::Error> {
//! // 600 cells of six samples on a line. In the samples of the second condition there are more at its far end.
//! let (n, samples) = (600, ["a", "b", "c", "d", "e", "f"]);
//! let place = |i: usize| {
//!     let t = ((i * 7919) % 600) as f32 / 600.0;
//!     if i % 6 >= 3 { t.sqrt() } else { t }
//! };
//! let embedding = ndarray::Array2::from_shape_fn((n, 2), |(i, j)| [place(i), 0.01 * (i as f32).sin()][j]);
//! let sample: Vec<&str> = (0..n).map(|i| samples[i % 6]).collect();
//! let condition: Vec<&str> = (0..n).map(|i| if i % 6 >= 3 { "stim" } else { "ctrl" }).collect();
//! let mut obs = Table::new((0..n).map(|i| format!("cell {i}")).collect());
//! obs.insert("condition", Column::Categorical(Categorical::from_labels(&condition)))?;
//! let sample = Categorical::from_labels(&sample);
//!
//! let neighbors = knn(embedding.view(), 30)?;
//! let graph = connectivities(&neighbors)?;
//! let neighbourhoods = Neighbourhoods::new(
//!     embedding.view(),
//!     &graph,
//!     &milo::kth_distances(&neighbors),
//!     &NeighbourhoodOptions::default(),
//! )?;
//! let counts = Counts::new(&neighbourhoods, &sample, "sample")?;
//! let design = Design::new("~ condition", &obs, &sample)?;
//! let table = milo::differential_abundance(
//!     &neighbourhoods,
//!     embedding.view(),
//!     &counts,
//!     &design,
//!     &TestOptions::default(),
//! )?;
//!
//! // Fewer cells near the start of the line.
//! let first = table.rows.iter().min_by(|a, b| {
//!     embedding[[a.index_cell, 0]].total_cmp(&embedding[[b.index_cell, 0]])
//! });
//! assert!(first.is_some_and(|r| r.log_fc < -1.0 && r.spatial_fdr < 0.1));
//! # Ok(())
//! # }
//! ```

mod abundance;
mod annotate;
mod contrast;
mod counts;
mod design;
mod dispersion;
mod formula;
mod linear;
mod lowess;
mod nb_glm;
mod neighbourhoods;
mod normalise;
mod python_random;
mod quasi;
mod ranks;
mod refine;
mod rle;
mod robust;
mod sampling;
mod spatial_fdr;
mod special;
mod spline;
mod squeeze;
mod table;
mod test;
mod tmm;
mod winsorised;

pub use annotate::{Annotations, MIXED, MIXED_BELOW};
pub use counts::Counts;
pub use design::Design;
pub use neighbourhoods::{NeighbourhoodOptions, Neighbourhoods, kth_distances};
pub use normalise::Normalisation;
pub use refine::Refinement;
pub use sampling::Sampling;
pub use spatial_fdr::{Weighting, fdr, weighted_fdr};
pub use table::{DaTable, Row, write_to};
pub use test::{SampleSize, TestOptions, differential_abundance};
