use sc_data::{AnnData, Uns};
use serde::{Deserialize, Serialize};

use super::MinifyKind;
use crate::{Error, Registry, Result};

/// The key in `uns` that says whether, and how, an AnnData is minified.
pub(super) const TYPE_KEY: &str = "_scvi_adata_minify_type";

/// Prefixes of the classes whose posterior is one normal of the latent space.
const CLASSES: [&str; 3] = ["scvi", "scanvi", "ldvae"];

/// Where a minified AnnData keeps the posterior.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinifiedKeys {
    /// The mean of `q(z | x)`, in `obsm`.
    pub mean: String,
    /// Its variance, in `obsm`.
    pub variance: String,
    /// The library size of each cell, in `obs`.
    pub library_size: String,
}

impl MinifiedKeys {
    /// The names that scvi-tools gives: `scvi`, `scanvi` or `ldvae` (its LinearSCVI).
    pub fn of_class(prefix: &str) -> Self {
        Self {
            mean: format!("{prefix}_latent_qzm"),
            variance: format!("{prefix}_latent_qzv"),
            library_size: "observed_lib_size".into(),
        }
    }

    /// The names of releases up to 1.2.
    fn legacy(prefix: &str, library_size: &str) -> Self {
        Self {
            mean: format!("_{prefix}_latent_qzm"),
            variance: format!("_{prefix}_latent_qzv"),
            library_size: library_size.to_owned(),
        }
    }

    fn known(classes: &[&str]) -> impl Iterator<Item = Self> {
        classes.iter().flat_map(|prefix| {
            [
                Self::of_class(prefix),
                Self::legacy(prefix, "_scvi_observed_lib_size"),
                Self::legacy(prefix, &format!("_{prefix}_observed_lib_size")),
            ]
        })
    }

    pub(super) fn are_in(&self, data: &AnnData) -> bool {
        data.obsm.contains_key(&self.mean)
            && data.obsm.contains_key(&self.variance)
            && data.obs.get(&self.library_size).is_some()
    }

    /// Where minified data keep their posterior: under `registered` if that is there, else under the first known names that are.
    ///
    /// # Errors
    /// If there is none; the message lists what there is.
    pub fn find(data: &AnnData, registered: Option<&Self>) -> Result<Self> {
        Self::find_of(data, registered, &CLASSES)
    }

    /// The same for a model, which must not take the posterior of another class for its own.
    pub(super) fn find_for(data: &AnnData, model: &Registry) -> Result<Self> {
        let classes: &[&str] = match model.setup.unlabeled_category {
            Some(_) => &["scanvi"],
            None => &["scvi", "ldvae"],
        };
        Self::find_of(data, model.minified.as_ref(), classes)
    }

    fn find_of(data: &AnnData, registered: Option<&Self>, classes: &[&str]) -> Result<Self> {
        let found = registered
            .cloned()
            .into_iter()
            .chain(Self::known(classes))
            .find(|keys| keys.are_in(data));
        found.ok_or_else(|| {
            let wanted = registered
                .cloned()
                .unwrap_or_else(|| Self::of_class(classes.first().unwrap_or(&"scvi")));
            let list = |names: Vec<&str>| match names.is_empty() {
                true => "nothing".to_owned(),
                false => names.join(", "),
            };
            Error::Data(sc_data::Error::NotFound {
                container: format!(
                    "minified data (obsm \"{}\" and \"{}\", obs \"{}\")",
                    wanted.mean, wanted.variance, wanted.library_size
                ),
                kind: "stored posterior under",
                name: "these names".into(),
                available: format!(
                    "obsm {}; obs {}",
                    list(data.obsm.keys().map(String::as_str).collect()),
                    list(data.obs.columns().map(|(name, _)| name).collect())
                ),
            })
        })
    }
}

/// How data are minified, if they are.
///
/// # Errors
/// [`Error::InvalidSetting`] if they are in a way that is not known.
pub(super) fn kind_of(data: &AnnData) -> Result<Option<MinifyKind>> {
    match data.uns.get(TYPE_KEY) {
        None | Some(Uns::Null) => Ok(None),
        Some(Uns::Str(text)) => text.parse().map(Some),
        Some(_) => Err(Error::InvalidSetting {
            name: "uns[\"_scvi_adata_minify_type\"]",
            value: "no text".into(),
            reason: "it says in words how the data are minified".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_data::{Column, Table};

    fn data(mean: &str, variance: &str, library: &str) -> AnnData {
        let mut data = AnnData::default();
        data.obs = Table::new(vec!["a".into()]);
        data.obs
            .insert(library, Column::Float32(vec![3.0]))
            .unwrap();
        let one = ndarray::array![[1.0f32]];
        data.obsm.insert(mean.into(), one.clone().into());
        data.obsm.insert(variance.into(), one.into());
        data
    }

    #[test]
    fn new_old_and_registered_names_are_found() {
        let new = data(
            "scanvi_latent_qzm",
            "scanvi_latent_qzv",
            "observed_lib_size",
        );
        assert_eq!(
            MinifiedKeys::find(&new, None).unwrap(),
            MinifiedKeys::of_class("scanvi")
        );
        let old = data(
            "_scvi_latent_qzm",
            "_scvi_latent_qzv",
            "_scvi_observed_lib_size",
        );
        assert_eq!(
            MinifiedKeys::find(&old, None).unwrap().mean,
            "_scvi_latent_qzm"
        );
        let own = MinifiedKeys {
            mean: "m".into(),
            variance: "v".into(),
            library_size: "l".into(),
        };
        let odd = data("m", "v", "l");
        assert_eq!(MinifiedKeys::find(&odd, Some(&own)).unwrap(), own);
        let message = MinifiedKeys::find(&odd, None).unwrap_err().to_string();
        assert!(
            message.contains("scvi_latent_qzm") && message.contains("obsm m, v"),
            "{message}"
        );
    }

    #[test]
    fn unknown_kinds_are_refused() {
        let mut data = AnnData::default();
        assert_eq!(kind_of(&data).unwrap(), None);
        let set = |data: &mut AnnData, text: &str| {
            data.uns.insert(TYPE_KEY.into(), Uns::Str(text.into()))
        };
        set(&mut data, "latent_posterior_parameters");
        assert_eq!(kind_of(&data).unwrap(), Some(MinifyKind::Posterior));
        set(&mut data, "something");
        assert!(
            kind_of(&data)
                .unwrap_err()
                .to_string()
                .contains("with_counts")
        );
    }
}
