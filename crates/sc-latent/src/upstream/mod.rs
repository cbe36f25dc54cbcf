//! Models in scvi-tools' own files: `model.pt`, and the three files that versions before 0.15 wrote.

mod init_params;
mod keep;
mod read;
mod registry;
mod write;

use std::path::Path;

pub use keep::Kept;

use crate::Error;

const MODEL: &str = "model.pt";
const LEGACY_WEIGHTS: &str = "model_params.pt";
const LEGACY_GENES: &str = "var_names.csv";
const LEGACY_ATTRIBUTES: &str = "attr.pkl";

/// Whether a folder (or a `model.pt` itself) looks like a model that scvi-tools saved.
pub fn is_scvi_tools_model(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    path.is_file() || path.join(MODEL).is_file() || path.join(LEGACY_WEIGHTS).is_file()
}

impl Error {
    /// The same with the file, if it does not say which.
    fn in_file(self, path: &Path) -> Self {
        match self {
            Self::InvalidSetting { .. }
            | Self::Data(_)
            | Self::Checkpoint(sc_io::pytorch::Error::Conversion { .. }) => Self::Upstream {
                path: path.to_owned(),
                reason: self.to_string(),
            },
            named => named,
        }
    }
}
