//! A file of reference numbers, and how near they must be met.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use sc_tests::{json, shared, values};
use serde_json::Value;

pub(crate) struct Golden {
    tensors: HashMap<String, Tensor>,
    about: Value,
}

impl Golden {
    /// None if the reference files aren't there.
    pub(crate) fn open(file: &str) -> Option<Self> {
        let dir = shared()?.join("golden/sde");
        let tensors = candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap();
        let about = json(&dir.join("MANIFEST.json"))["files"][file].clone();
        Some(Self { tensors, about })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tensors.keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        let t = self.tensors.get(name);
        t.unwrap_or_else(|| panic!("no {name}")).clone()
    }

    pub(crate) fn meta(&self) -> &Value {
        &self.about["meta"]
    }

    /// The tensors below `prefix`, without it.
    pub(crate) fn below(&self, prefix: &str) -> HashMap<String, Tensor> {
        let below = |(name, t): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), t.clone()))
        };
        self.tensors.iter().filter_map(below).collect()
    }

    /// Fails unless `found` is within the manifest's tolerance for its precision.
    pub(crate) fn check(&self, name: &str, found: &Tensor) {
        let expected = self.get(name);
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let key = if found.dtype() == DType::F64 {
            "t64"
        } else {
            "t32"
        };
        let tolerance = &self.about["tensors"][name][key];
        let part = |i: usize| {
            let number = tolerance[i].as_f64();
            number.unwrap_or_else(|| panic!("{name} has no {key}"))
        };
        let (rtol, atol) = (part(0), part(1));
        for (i, (f, e)) in values(found).iter().zip(values(&expected)).enumerate() {
            assert!(
                (f - e).abs() <= atol + rtol * e.abs(),
                "{name} {key}, element {i}: {f} instead of {e}"
            );
        }
    }
}

/// A tensor of another type.
pub(crate) fn cast(t: &Tensor, dtype: DType) -> Tensor {
    t.to_dtype(dtype).unwrap()
}
