//! A file of reference numbers, and how near they must be met.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use ndarray::Array2;
use sc_tests::{json, shared, values};
use serde_json::Value;

pub(crate) struct Golden {
    tensors: HashMap<String, Tensor>,
    about: Value,
}

impl Golden {
    /// None if the reference files aren't there.
    pub(crate) fn open(file: &str) -> Option<Self> {
        let dir = shared()?.join("golden/integrate");
        let tensors = candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap();
        let about = json(&dir.join("MANIFEST.json"))["files"][file].clone();
        Some(Self { tensors, about })
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

    /// A matrix.
    pub(crate) fn matrix(&self, name: &str) -> Array2<f32> {
        let t = self.get(name).to_dtype(DType::F32).unwrap();
        let (n, k) = t.dims2().unwrap();
        let v: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
        Array2::from_shape_vec((n, k), v).unwrap()
    }

    /// Whole numbers.
    pub(crate) fn codes(&self, name: &str) -> Vec<u32> {
        let v = values(&self.get(name));
        v.iter()
            .map(|&v| if v < 0.0 { u32::MAX } else { v as u32 })
            .collect()
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
        let key = match found.dtype() {
            DType::F64 => "t64",
            _ => "t32",
        };
        self.compare(name, key, &values(found));
    }

    /// The same for numbers, with the tolerance of one precision.
    pub(crate) fn compare(&self, name: &str, key: &str, found: &[f64]) {
        let tolerance = &self.about["tensors"][name][key];
        let part = |i: usize| {
            let number = tolerance[i].as_f64();
            number.unwrap_or_else(|| panic!("{name} has no {key}"))
        };
        let (rtol, atol) = (part(0), part(1));
        let expected = values(&self.get(name));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (f - e).abs() <= atol + rtol * e.abs(),
                "{name} {key}, element {i}: {f} instead of {e}, off by {:e}",
                (f - e).abs()
            );
        }
    }
}
