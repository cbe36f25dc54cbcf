//! Minification of the other models: the same with scvi-tools' names for their class.

use sc_data::AnnData;

use super::{MinifiedKeys, MinifyOptions};
use crate::{AnyModel, Cells, Result, Scanvi};

impl Scanvi {
    /// As [`Scvi::minify`](crate::Scvi::minify). Labels are predicted from minified cells as from others.
    ///
    /// # Errors
    /// As [`Scvi::minify`](crate::Scvi::minify).
    pub fn minify(&self, data: &AnnData, options: &MinifyOptions) -> Result<AnnData> {
        self.scvi.minify(data, &self.named(options))
    }

    /// As [`Scvi::minify_cells`](crate::Scvi::minify_cells).
    ///
    /// # Errors
    /// As [`Scvi::minify`](crate::Scvi::minify).
    pub fn minify_cells(
        &self,
        cells: &Cells<'_>,
        annotations: AnnData,
        layers: &[String],
        options: &MinifyOptions,
    ) -> Result<AnnData> {
        let options = self.named(options);
        self.scvi.minify_cells(cells, annotations, layers, &options)
    }

    /// Where [`Scanvi::minify`] keeps the posterior.
    pub fn minified_keys(&self, options: &MinifyOptions) -> MinifiedKeys {
        let keys = options.keys.clone();
        keys.unwrap_or_else(|| MinifiedKeys::of_class("scanvi"))
    }

    /// As [`Scvi::set_minified`](crate::Scvi::set_minified).
    pub fn set_minified(&mut self, keys: Option<MinifiedKeys>) {
        self.scvi.set_minified(keys);
    }

    fn named(&self, options: &MinifyOptions) -> MinifyOptions {
        MinifyOptions {
            keys: Some(self.minified_keys(options)),
            ..options.clone()
        }
    }
}

impl AnyModel {
    /// As [`Scvi::minify`](crate::Scvi::minify), with the names of its class.
    ///
    /// # Errors
    /// As [`Scvi::minify`](crate::Scvi::minify).
    pub fn minify(&self, data: &AnnData, options: &MinifyOptions) -> Result<AnnData> {
        match self {
            Self::Scvi(m) => m.minify(data, options),
            Self::Scanvi(m) => m.minify(data, options),
        }
    }

    /// As [`Scvi::minify_cells`](crate::Scvi::minify_cells).
    ///
    /// # Errors
    /// As [`Scvi::minify`](crate::Scvi::minify).
    pub fn minify_cells(
        &self,
        cells: &Cells<'_>,
        annotations: AnnData,
        layers: &[String],
        options: &MinifyOptions,
    ) -> Result<AnnData> {
        match self {
            Self::Scvi(m) => m.minify_cells(cells, annotations, layers, options),
            Self::Scanvi(m) => m.minify_cells(cells, annotations, layers, options),
        }
    }

    /// Where [`AnyModel::minify`] keeps the posterior.
    pub fn minified_keys(&self, options: &MinifyOptions) -> MinifiedKeys {
        match self {
            Self::Scvi(m) => m.minified_keys(options),
            Self::Scanvi(m) => m.minified_keys(options),
        }
    }

    /// As [`Scvi::set_minified`](crate::Scvi::set_minified).
    pub fn set_minified(&mut self, keys: Option<MinifiedKeys>) {
        match self {
            Self::Scvi(m) => m.set_minified(keys),
            Self::Scanvi(m) => m.set_minified(keys),
        }
    }
}
