//! The reference numbers, with the tolerances of the manifest.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sc_tests::{json, shared, values};
use sc_transformer::scbert::{GenePanel, Scbert, UpstreamOptions};

/// The folder, and what its manifest says of the tolerances.
pub(crate) struct Golden {
    pub(crate) dir: PathBuf,
    manifest: serde_json::Value,
}

/// A file of tensors with their tolerances.
pub(crate) struct File {
    name: String,
    pub(crate) tensors: HashMap<String, Tensor>,
    about: serde_json::Value,
}

impl Golden {
    pub(crate) fn open() -> Option<Self> {
        let root = shared()?.join("golden/transformer");
        Some(Self {
            manifest: json(&root.join("MANIFEST.json")),
            dir: root.join("scbert"),
        })
    }

    pub(crate) fn file(&self, name: &str) -> File {
        File {
            name: name.to_owned(),
            tensors: candle_core::safetensors::load(self.dir.join(name), &Device::Cpu).unwrap(),
            about: self.manifest["files"][&format!("scbert/{name}")]["tensors"].clone(),
        }
    }

    pub(crate) fn model(&self, name: &str, dtype: DType) -> Scbert {
        read(&self.dir.join(name), dtype)
    }
}

impl File {
    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{name}"))
    }

    pub(crate) fn tokens(&self, name: &str) -> Vec<u32> {
        values(self.get(name)).iter().map(|&v| v as u32).collect()
    }

    /// Within the tolerance of the manifest, number by number.
    pub(crate) fn check(&self, name: &str, found: &[f64]) {
        let expected = values(self.get(name));
        assert_eq!(found.len(), expected.len(), "{name}: lengths differ");
        let about = &self.about[name];
        let of = |key: &str| about[key].as_f64().unwrap();
        let (atol, rtol) = match about["exact"].as_bool() {
            Some(true) => (0.0, 0.0),
            _ => (of("atol"), of("rtol")),
        };
        for (i, (&f, &e)) in found.iter().zip(&expected).enumerate() {
            let error = (f - e).abs();
            assert!(
                error <= atol + rtol * e.abs(),
                "{} {name} [{i}]: {f} instead of {e}, off by {error:e}, allowed {atol:e}",
                self.name
            );
        }
    }
}

pub(crate) fn panel(n: usize) -> GenePanel {
    GenePanel::new((0..n).map(|i| format!("P{i}"))).unwrap()
}

pub(crate) fn read(path: &Path, dtype: DType) -> Scbert {
    let mut options = UpstreamOptions::default();
    options.dtype = dtype;
    Scbert::from_scbert(path, panel(100), &options, &Device::Cpu).unwrap()
}

pub(crate) const PRETRAINED: &str = "panglao_pretrain.pth";

pub(crate) const FINE_TUNED: &str = "finetune_best.pth";

pub(crate) fn scalar(t: &Tensor) -> [f64; 1] {
    [t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()]
}
