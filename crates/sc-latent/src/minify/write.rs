use ndarray::Array2;
use sc_data::{AnnData, Column, Csr, Uns};
use sc_model::Mode;

use super::keys::TYPE_KEY;
use super::{MinifiedKeys, MinifyKind, StoredStatistics};
use crate::arrays::{batches, fill_rows};
use crate::{Cells, Error, Result, Scvi};

/// Options of [`Scvi::minify`].
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MinifyOptions {
    /// What to keep.
    pub kind: MinifyKind,
    /// The columns of `obs` for whose categories sums of counts are kept; `None` takes the labels and the batches of the
    /// model. Ignored where the counts are kept.
    pub statistics_by: Option<Vec<String>>,
    /// Where to keep the posterior; `None` takes scvi-tools' names for the class of the model.
    pub keys: Option<MinifiedKeys>,
}

impl MinifyOptions {
    /// The default options for a kind.
    pub fn new(kind: MinifyKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

impl Scvi {
    /// Minifies data in memory: scvi-tools' `minify_adata`. The result has the posterior and the library size of each cell,
    /// and of the counts nothing or everything ([`MinifyKind`]). All else is kept: `obs`, `obsm`, `obsp`, `uns`, `var`. It
    /// has the genes of the model, in its order, because that is how scvi-tools opens it.
    ///
    /// Sums of the dropped counts are kept by gene ([`StoredStatistics`]). Write the result with sc-io, and the model with
    /// [`Scvi::set_minified`] and [`Scvi::save_scvi_tools`] beside it; scvi-tools opens both.
    ///
    /// ```
    /// use sc_data::{AnnData, Csr, Table};
    /// use sc_latent::{Cells, Scvi, Setup, minify::MinifyOptions};
    ///
    /// let counts = ndarray::Array2::from_shape_fn((20, 5), |(i, g)| ((i * 3 + g * 7) % 5) as f32);
    /// let names = |prefix: &str, n| Table::new((0..n).map(|i| format!("{prefix}{i}")).collect());
    /// let data = AnnData::new(Csr::from_dense(&counts), names("cell", 20), names("gene", 5))?;
    /// let cells = Cells::new(&data, &Setup::default())?;
    /// let model = Scvi::params(&cells).n_latent(2).check()?.init(&candle_core::Device::Cpu, 0)?;
    ///
    /// let small = model.minify(&data, &MinifyOptions::default())?;
    /// let again = Cells::for_model(&small, model.registry())?;
    /// assert_eq!(model.latent(&again)?.mean, model.latent(&cells)?.mean);
    /// assert!(model.elbo(&again, None).is_err()); // needs the counts
    /// # Ok::<(), sc_latent::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the library size is learned, a cell has no counts, the data have none themselves, or they do not fit the model.
    pub fn minify(&self, data: &AnnData, options: &MinifyOptions) -> Result<AnnData> {
        let cells = Cells::for_model(data, &self.registry)?;
        let kept = if options.kind.has_counts() {
            data.clone()
        } else {
            without_matrices(data)
        };
        let layers: Vec<String> = data.layers.keys().cloned().collect();
        self.minify_cells(&cells, kept, &layers, options)
    }

    /// As [`Scvi::minify`], with the counts read minibatch by minibatch from wherever `cells` have them: a file larger than
    /// the memory, say. `annotations` is the AnnData without its matrices (sc-io's `read_annotations`), and comes back with
    /// what was added. Where the counts are dropped, `X` and the layers named become empty matrices; where they are kept,
    /// the matrices of `annotations` stay as they are.
    ///
    /// # Errors
    /// As [`Scvi::minify`].
    pub fn minify_cells(
        &self,
        cells: &Cells<'_>,
        annotations: AnnData,
        layers: &[String],
        options: &MinifyOptions,
    ) -> Result<AnnData> {
        self.fits(cells)?;
        cells.require_counts("minification")?;
        self.can_minify()?;
        let mut data = self.in_my_order(annotations)?;
        let keys = match (&options.kind, &options.statistics_by) {
            (MinifyKind::PosteriorWithCounts, _) => Vec::new(),
            (MinifyKind::Posterior, Some(keys)) => keys.clone(),
            (MinifyKind::Posterior, None) => self.default_statistics(),
        };
        let mut statistics = StoredStatistics::prepare(&data, &keys, self.registry.n_genes())?;
        let found = self.posterior_of_all(cells, |counts, start| {
            if !options.kind.has_counts() {
                statistics.add(counts, start);
            }
        })?;
        if self.registry.setup.size_factor_key.is_none() {
            let logs: Vec<f64> = found
                .library_size
                .iter()
                .map(|l| f64::from(*l).ln())
                .collect();
            crate::model::refuse_empty(&logs)?;
        }
        let keys = self.minified_keys(options);
        data.obsm.insert(keys.mean, found.mean.into());
        data.obsm.insert(keys.variance, found.variance.into());
        data.obs
            .insert(keys.library_size, Column::Float32(found.library_size))?;
        data.uns
            .insert(TYPE_KEY.into(), Uns::Str(options.kind.as_str().into()));
        StoredStatistics::remove(&mut data);
        if !options.kind.has_counts() {
            empty_matrices(&mut data, layers);
            statistics.write(&mut data);
        }
        data.check()?;
        Ok(data)
    }

    /// Says that the model belongs to minified data and where those keep the posterior, so that
    /// [`Scvi::save_scvi_tools`] writes a registry that scvi-tools opens them with. `None` says the opposite.
    pub fn set_minified(&mut self, keys: Option<MinifiedKeys>) {
        self.registry.minified = keys;
    }

    /// Where [`Scvi::minify`] keeps the posterior: what the options say, or scvi-tools' names for this class.
    pub fn minified_keys(&self, options: &MinifyOptions) -> MinifiedKeys {
        let class = if matches!(self.config.decoder, crate::Decoder::Linear { .. }) {
            "ldvae"
        } else {
            "scvi"
        };
        options
            .keys
            .clone()
            .unwrap_or_else(|| MinifiedKeys::of_class(class))
    }

    fn can_minify(&self) -> Result<()> {
        if self.nets.library_prior.is_none() {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "use_observed_lib_size",
            value: "false".into(),
            reason: "minified cells keep the sum of their counts as library size, and this model learns it instead; \
                     train one with an observed library size"
                .into(),
        })
    }

    fn default_statistics(&self) -> Vec<String> {
        let setup = &self.registry.setup;
        let keys = setup.labels_key.iter().chain(&setup.batch_key);
        let mut out: Vec<String> = Vec::new();
        for key in keys {
            if !out.contains(key) {
                out.push(key.clone());
            }
        }
        out
    }

    /// The data with the genes of the model, in its order.
    fn in_my_order(&self, data: AnnData) -> Result<AnnData> {
        let found = data.var.index();
        if found == self.registry.genes.as_slice() {
            return Ok(data);
        }
        let columns = crate::cells::match_genes(&self.registry.genes, found)?;
        let columns: Vec<usize> = columns.into_iter().flatten().collect();
        Ok(data.select_vars(&columns)?)
    }

    fn posterior_of_all(
        &self,
        cells: &Cells<'_>,
        mut see: impl FnMut(&Csr, usize),
    ) -> Result<Found> {
        let shape = (cells.n_cells(), self.config.n_latent);
        let mut out = Found {
            mean: Array2::zeros(shape),
            variance: Array2::zeros(shape),
            library_size: Vec::with_capacity(shape.0),
        };
        let mut start = 0;
        for rows in batches(shape.0) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let batch = batch.counted("minification")?;
            see(&batch.counts, start);
            let (q, _) = self.nets.encode(&batch, &Mode::eval())?;
            fill_rows(&mut out.mean, start, &q.mean)?;
            fill_rows(&mut out.variance, start, &q.var)?;
            let sizes = batch.counts.row_sums();
            out.library_size.extend(sizes.iter().map(|&s| s as f32));
            start += rows.len();
        }
        Ok(out)
    }
}

struct Found {
    mean: Array2<f32>,
    variance: Array2<f32>,
    library_size: Vec<f32>,
}

/// Everything but `X`, the layers and `raw`.
fn without_matrices(data: &AnnData) -> AnnData {
    let mut out = AnnData::default();
    out.obs = data.obs.clone();
    out.var = data.var.clone();
    out.obsm = data.obsm.clone();
    out.varm = data.varm.clone();
    out.obsp = data.obsp.clone();
    out.varp = data.varp.clone();
    out.uns = data.uns.clone();
    out
}

fn empty_matrices(data: &mut AnnData, layers: &[String]) {
    let zeros = || Csr::zeros(data.n_obs(), data.n_vars());
    let mut emptied = indexmap::IndexMap::new();
    for name in data.layers.keys().chain(layers) {
        emptied
            .entry(name.clone())
            .or_insert_with(|| zeros().into());
    }
    let x = zeros();
    data.x = Some(x.into());
    data.layers = emptied;
    data.raw = None;
}
