//! The reference numbers of a folder, with the tolerances of the manifest.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use sc_model::tensors;
use sc_tensor::ops::Segments;
use sc_tests::{json, shared, values};
use sc_transformer::scgpt::{Allow, Checkpoint, ScGpt, ScGptConfig};
use sc_transformer::tokens::TokenBatch;

pub(super) struct Golden {
    pub(super) dir: PathBuf,
    manifest: serde_json::Value,
}

/// A file of tensors.
pub(super) struct File {
    name: String,
    tensors: HashMap<String, Tensor>,
    manifest: serde_json::Value,
}

impl Golden {
    pub(super) fn open() -> Option<Self> {
        let dir = shared()?.join("golden/transformer");
        let manifest = json(&dir.join("MANIFEST.json"));
        Some(Self { dir, manifest })
    }

    pub(super) fn file(&self, name: &str) -> File {
        let path = self.dir.join(name);
        File {
            name: name.to_owned(),
            tensors: tensors::read(&path, &Device::Cpu).unwrap().0,
            manifest: self.manifest["files"][name].clone(),
        }
    }

    pub(super) fn json(&self, name: &str) -> serde_json::Value {
        json(&self.dir.join(name))
    }

    pub(super) fn checkpoint(&self, folder: &str) -> Checkpoint {
        Checkpoint::open(self.dir.join(folder)).unwrap()
    }

    /// The model of `scgpt/` with other settings; `overrides` holds the tensors that are added or replaced.
    pub(super) fn variant(
        &self,
        dtype: DType,
        overrides: Option<&str>,
        change: impl FnOnce(&mut ScGptConfig),
    ) -> ScGpt {
        let base = self.checkpoint("scgpt");
        let mut config = base.config().unwrap();
        change(&mut config);
        let valid = ScGpt::with_config(base.vocab().clone(), config)
            .check()
            .unwrap();
        let model = valid.init_with_dtype(&Device::Cpu, dtype, 0).unwrap();
        let any = Allow::default()
            .missing("*")
            .unexpected("*")
            .mismatched("*");
        model.load_weights(&base, &any).unwrap();
        if let Some(name) = overrides {
            for (name, value) in &self.file(name).tensors {
                let p = model
                    .parameters()
                    .get(name)
                    .unwrap_or_else(|| panic!("no parameter {name}"));
                p.import(value).unwrap();
            }
        }
        model
    }
}

impl File {
    pub(super) fn get(&self, name: &str) -> &Tensor {
        let path = &self.name;
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("{path} has no {name}"))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn u32s(&self, name: &str) -> Vec<u32> {
        values(self.get(name)).iter().map(|&v| v as u32).collect()
    }

    pub(super) fn f32s(&self, name: &str) -> Vec<f32> {
        values(self.get(name)).iter().map(|&v| v as f32).collect()
    }

    pub(super) fn scalar(&self, name: &str) -> f64 {
        values(self.get(name))[0]
    }

    /// Fails unless all numbers are within the tolerance.
    pub(super) fn near(&self, name: &str, found: &Tensor) {
        self.near_where(name, found, None);
    }

    /// The same for the rows (all axes but those of one row) that are kept.
    pub(super) fn near_where(&self, name: &str, found: &Tensor, keep: Option<&[bool]>) {
        let expected = self.get(name);
        assert_eq!(
            found.elem_count(),
            expected.elem_count(),
            "{} {name}: {:?} and {:?}",
            self.name,
            found.dims(),
            expected.dims()
        );
        self.near_values(name, &values(found), keep);
    }

    pub(super) fn near_values(&self, name: &str, found: &[f64], keep: Option<&[bool]>) {
        let expected = values(self.get(name));
        let about = &self.manifest["tensors"][name];
        let tolerance = |key: &str| {
            about[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}: no {key}"))
        };
        let (atol, rtol) = (tolerance("atol"), tolerance("rtol"));
        let width = keep.map_or(1, |k| expected.len() / k.len());
        assert_eq!(found.len(), expected.len());
        for (i, (&x, &r)) in found.iter().zip(&expected).enumerate() {
            if keep.is_some_and(|k| !k[i / width]) {
                continue;
            }
            assert!(
                (x - r).abs() <= atol + rtol * r.abs(),
                "{} {name}[{i}]: {x} instead of {r}, allowed {:e}",
                self.name,
                atol + rtol * r.abs()
            );
        }
    }
}

/// The inputs that most references share, `[5, 19]`, padded.
pub(super) struct Inputs {
    pub(super) file: File,
    /// Whether a token is one of the cell's, not padding.
    pub(super) valid: Vec<bool>,
}

impl Inputs {
    pub(super) fn new(golden: &Golden) -> Self {
        let file = golden.file("scgpt/inputs.safetensors");
        let valid = file.u32s("padding_mask").iter().map(|&m| m == 0).collect();
        Self { file, valid }
    }

    /// The cells with their padding, as the original sees them: padding asks, but is no key.
    pub(super) fn padded(&self, values: &str) -> TokenBatch {
        let ids = self.file.u32s("gene_ids");
        padded(ids, self.file.f32s(values), &self.valid, 5)
    }

    /// The same without padding.
    pub(super) fn packed(&self, values: &str) -> TokenBatch {
        packed(&self.padded(values), &self.valid)
    }

    /// Which tokens were masked.
    pub(super) fn masked(&self) -> Vec<bool> {
        let m = self.file.u32s("masked_positions");
        m.iter().map(|&m| m == 1).collect()
    }
}

pub(super) fn batch(ids: Vec<u32>, values: Vec<f32>, lengths: Vec<(usize, usize)>) -> TokenBatch {
    TokenBatch {
        cells: (0..lengths.len()).collect(),
        targets: values.clone(),
        scored: vec![false; ids.len()],
        ids,
        values,
        modality: None,
        flags: None,
        has_cls: true,
        segments: Segments::with_keys(lengths).unwrap(),
    }
}

pub(super) fn padded(ids: Vec<u32>, values: Vec<f32>, valid: &[bool], cells: usize) -> TokenBatch {
    let t = ids.len() / cells;
    let keys = |c: usize| valid[c * t..][..t].iter().filter(|v| **v).count();
    batch(ids, values, (0..cells).map(|c| (t, keys(c))).collect())
}

pub(super) fn packed(b: &TokenBatch, valid: &[bool]) -> TokenBatch {
    let lengths = b.segments.iter().map(|s| (s.keys, s.keys)).collect();
    batch(only(&b.ids, valid), only(&b.values, valid), lengths)
}

pub(super) fn only<T: Copy>(all: &[T], keep: &[bool]) -> Vec<T> {
    all.iter()
        .zip(keep)
        .filter(|(_, k)| **k)
        .map(|(x, _)| *x)
        .collect()
}

/// Rows of tokens without padding, at their place among all; the others are zero.
pub(super) fn unpack(t: &Tensor, valid: &[bool]) -> Vec<f64> {
    let (all, n) = (values(t), t.dim(0).unwrap());
    let width = all.len() / n;
    let mut rows = all.chunks(width);
    let mut out = Vec::with_capacity(valid.len() * width);
    for &v in valid {
        match v {
            true => out.extend_from_slice(rows.next().unwrap()),
            false => out.extend(std::iter::repeat_n(0.0, width)),
        }
    }
    out
}

pub(super) fn tensor(values: &[f32], like: &Tensor) -> Tensor {
    let t = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    t.to_dtype(like.dtype()).unwrap()
}

pub(super) fn mask(keep: &[bool], like: &Tensor) -> Tensor {
    let m: Vec<f32> = keep.iter().map(|&k| f32::from(u8::from(k))).collect();
    tensor(&m, like)
}

/// The only number of a tensor.
pub(super) fn number(t: &Tensor) -> f64 {
    values(t)[0]
}
