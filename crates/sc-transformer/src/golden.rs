//! Reference numbers for parts that only this crate can call by themselves (`$SC_SHARED/golden/transformer`).

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

/// The tensors of a file, and how near they must be met.
pub(crate) struct Golden {
    pub(crate) path: PathBuf,
    pub(crate) tensors: HashMap<String, Tensor>,
    about: serde_json::Value,
}

/// The folder, if it is there.
pub(crate) fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("SC_SHARED").map(PathBuf::from);
    if shared.is_none() {
        eprintln!("skipped: SC_SHARED is not set");
    }
    Some(shared?.join("golden/transformer"))
}

impl Golden {
    pub(crate) fn open(file: &str) -> Option<Self> {
        let dir = folder()?;
        let text = std::fs::read_to_string(dir.join("MANIFEST.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let path = dir.join(file);
        Some(Self {
            tensors: candle_core::safetensors::load(&path, &Device::Cpu).unwrap(),
            about: manifest["files"][file]["tensors"].clone(),
            path,
        })
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        let found = self.tensors.get(name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn tokens(&self, name: &str) -> Vec<u32> {
        let ids = numbers(self.get(name));
        ids.into_iter().map(|v| v as u32).collect()
    }

    /// Fails unless all numbers are within the tolerance.
    pub(crate) fn near(&self, name: &str, found: &Tensor) {
        let (expected, about) = (numbers(self.get(name)), &self.about[name]);
        let of = |key: &str| match about["exact"].as_bool() {
            Some(true) => 0.0,
            _ => about[key].as_f64().unwrap(),
        };
        let (atol, rtol) = (of("atol"), of("rtol"));
        let found = numbers(found);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            let allowed = atol + rtol * e.abs();
            assert!((f - e).abs() <= allowed, "{name}[{i}]: {f} instead of {e}");
        }
    }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}
