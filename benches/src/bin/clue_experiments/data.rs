//! Cells of two modalities, of which some are held out.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis};
use sc_data::{AnnData, Categorical, Csr};
use sc_integrate::{Likelihood, Modality, MultiCells};
use sc_preprocess::{Lsi, PcaOptions, ScaleOptions, Scaler, log1p, normalize_total, pca_with};
use sc_tensor::Rng;

use crate::Result;

/// Components that encoders and simpler methods read of each modality.
const COMPONENTS: usize = 100;

/// Where the cells come from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Files {
    /// RNA
    rna: PathBuf,
    /// The other modality of the same cells, in the same order
    other: PathBuf,
    /// Open chromatin of 0 and 1, not counts of proteins
    #[arg(long)]
    atac: bool,
    /// Layer with the counts [default: X]
    #[arg(long)]
    layer: Option<String>,
    #[arg(long)]
    batch_key: Option<String>,
    #[arg(long)]
    label_key: Option<String>,
    /// JSON with the numbers of the held-out cells as `test_rows` [default: a fifth, drawn once]
    #[arg(long)]
    test_rows: Option<PathBuf>,
}

/// One modality of all cells.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    counts: Csr,
    features: Vec<String>,
    likelihood: Likelihood,
    pub(crate) components: Array2<f32>,
}

/// Both modalities.
pub(crate) struct Pair {
    pub(crate) rna: Side,
    pub(crate) other: Side,
    cells: Vec<String>,
    pub(crate) batches: Option<Categorical>,
    pub(crate) labels: Option<Categorical>,
    pub(crate) train: Vec<usize>,
    pub(crate) test: Vec<usize>,
}

impl Files {
    pub(crate) fn read(&self) -> Result<Pair> {
        let (rna, other) = (sc_io::read(&self.rna)?, sc_io::read(&self.other)?);
        if rna.obs.index() != other.obs.index() {
            return Err("the files must have the same cells in the same order".into());
        }
        let test = self.test(rna.n_obs())?;
        let train: Vec<usize> = (0..rna.n_obs()).filter(|i| !test.contains(i)).collect();
        let column = |key: &Option<String>| -> Result<Option<Categorical>> {
            let Some(key) = key else { return Ok(None) };
            Ok(Some(rna.obs.column("obs", key)?.to_categorical(key)?))
        };
        Ok(Pair {
            cells: rna.obs.index().to_vec(),
            batches: column(&self.batch_key)?,
            labels: column(&self.label_key)?,
            rna: self.side("rna", &rna, false, &train)?,
            other: self.side(
                if self.atac { "atac" } else { "adt" },
                &other,
                self.atac,
                &train,
            )?,
            train,
            test,
        })
    }

    fn test(&self, n: usize) -> Result<Vec<usize>> {
        let Some(path) = &self.test_rows else {
            let mut test = Rng::new(0).stream("held out").permutation(n);
            test.truncate(n / 5);
            test.sort_unstable();
            return Ok(test);
        };
        let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        Ok(serde_json::from_value(all["test_rows"].clone())?)
    }

    fn side(
        &self,
        name: &'static str,
        data: &AnnData,
        atac: bool,
        train: &[usize],
    ) -> Result<Side> {
        let counts = data.matrix(self.layer.as_deref())?.to_csr();
        let (likelihood, components) = match atac {
            true => (Likelihood::Bernoulli, latent_semantics(&counts, train)?),
            false => (Likelihood::Nb, principal_components(&counts, train)?),
        };
        Ok(Side {
            name,
            counts,
            features: data.var.index().to_vec(),
            likelihood,
            components,
        })
    }

    /// What runs must have in common.
    pub(crate) fn name(&self) -> String {
        let stem = |p: &Path| {
            p.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        stem(&self.rna)
    }
}

/// LSI of the training cells, the first direction, which is the depth, left out.
fn latent_semantics(counts: &Csr, train: &[usize]) -> Result<Array2<f32>> {
    let some = counts.select_rows(train)?;
    let k = (COMPONENTS + 1).min(some.n_rows());
    let all = Lsi::fit(&some, k, 0)?.transform(counts)?;
    Ok(all.slice_axis(Axis(1), (1..).into()).mapv(|v| v as f32))
}

/// z-scores of logarithms, cut at 10, on the first components of the training cells.
pub(crate) fn principal_components(counts: &Csr, train: &[usize]) -> Result<Array2<f32>> {
    let x = log1p(&normalize_total(counts, Some(1e4))?)?;
    let some = x.select_rows(train)?;
    let mut scale = ScaleOptions::default();
    scale.max_value = Some(10.0);
    let scaler = Scaler::fit(&some, scale)?;
    let mut options = PcaOptions::new(COMPONENTS.min(some.n_cols()).min(some.n_rows()));
    options.center = false;
    let found = pca_with(&scaler.to_dense(&some)?, &options)?;
    Ok(found.transform(&scaler.to_dense(&x)?)?)
}

impl Pair {
    /// Some cells, both of whose modalities belong together.
    pub(crate) fn cells(&self, rows: &[usize]) -> Result<MultiCells<'static>> {
        Ok(MultiCells::new(self.modalities(rows)?)?)
    }

    pub(crate) fn modalities(&self, rows: &[usize]) -> Result<Vec<Modality<'static>>> {
        [&self.rna, &self.other]
            .into_iter()
            .map(|side| {
                let names = rows.iter().map(|&r| self.cells[r].clone()).collect();
                let counts = side.counts.select_rows(rows)?;
                let mut m = Modality::new(side.name, counts, names, side.features.clone())?
                    .representation(side.components.select(Axis(0), rows))?
                    .likelihood(side.likelihood);
                if let Some(batches) = &self.batches {
                    m = m.batches(&batches.select(rows))?;
                }
                Ok(m)
            })
            .collect()
    }

    /// The labels of some cells, as numbers of all that there are.
    pub(crate) fn codes(&self, rows: &[usize]) -> Option<Vec<u32>> {
        let labels = self.labels.as_ref()?;
        labels.select(rows).complete_codes("labels").ok()
    }
}
