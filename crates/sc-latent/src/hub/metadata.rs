use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `_scvi_required_metadata.json`: what a hub needs to know before it opens a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubMetadata {
    /// The release of scvi-tools whose format the model has.
    pub scvi_version: String,
    /// The release of anndata whose format the cells have.
    pub anndata_version: String,
    /// The class: `SCVI`, `SCANVI`, `LinearSCVI`, ...
    pub model_cls_name: String,
    /// Where the full data with counts are.
    #[serde(default)]
    pub training_data_url: Option<String>,
    /// The Python module of the class.
    #[serde(default = "scvi_model")]
    pub model_parent_module: String,
}

fn scvi_model() -> String {
    "scvi.model".into()
}

impl HubMetadata {
    /// As the file has it: four spaces a level, keys in the order of scvi-tools.
    ///
    /// # Errors
    /// None that can be foreseen.
    pub fn to_json(&self) -> Result<String> {
        pretty(self)
    }

    /// Reads what the file has.
    ///
    /// # Errors
    /// [`Error::Hub`] if it is no such JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::Hub {
            place: super::METADATA.into(),
            reason: format!(
                "{e}; it is JSON with scvi_version, anndata_version and model_cls_name"
            ),
        })
    }
}

/// JSON with four spaces a level.
pub(super) fn pretty(value: &impl Serialize) -> Result<String> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, format);
    let failed = |e: String| Error::Hub {
        place: "json".into(),
        reason: e,
    };
    value
        .serialize(&mut writer)
        .map_err(|e| failed(e.to_string()))?;
    String::from_utf8(out).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_scvi_tools_writes() {
        let text = "{\n    \"scvi_version\": \"1.4.2\",\n    \"anndata_version\": \"0.12.19\",\n    \"model_cls_name\": \
                    \"SCVI\",\n    \"training_data_url\": null,\n    \"model_parent_module\": \"scvi.model\"\n}";
        let metadata = HubMetadata::from_json(text).unwrap();
        assert_eq!(metadata.model_cls_name, "SCVI");
        assert_eq!(metadata.to_json().unwrap(), text);
        let message = HubMetadata::from_json("{}").unwrap_err().to_string();
        assert!(message.contains("scvi_version"), "{message}");
    }
}
