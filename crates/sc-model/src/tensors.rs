//! Named tensors and text in one safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;

use crate::{Error, Result, files};

/// Text entries of a file, by name.
pub type Metadata = BTreeMap<String, String>;

/// The entry of the safetensors header that holds them all.
const ENTRY: &str = "sc";

/// Writes tensors and text entries; the file is whole or absent.
///
/// # Errors
/// [`Error::File`] if the disk refuses, [`Error::Format`] if a tensor has a type that the format lacks.
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    let format = |reason: String| Error::Format {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::with_capacity(tensors.len());
    for (name, t) in tensors {
        let (dtype, data) = to_bytes(t)?
            .ok_or_else(|| format(format!("tensor {name} has type {:?}", t.dtype())))?;
        bytes.push((name.as_str(), dtype, t.dims().to_vec(), data));
    }
    let views = bytes
        .iter()
        .map(|(name, dtype, dims, data)| Ok((*name, TensorView::new(*dtype, dims.clone(), data)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| format(e.to_string()))?;
    // All text goes into one entry, because the header's map has a random order and the same model must give the
    // same bytes.
    let text = serde_json::to_string(metadata).map_err(|e| format(e.to_string()))?;
    let header = Some(HashMap::from([(ENTRY.to_owned(), text)]));
    let buffer = safetensors::serialize(views, header).map_err(|e| format(e.to_string()))?;
    files::write_atomic(path, |f| f.write_all(&buffer))
}

/// Reads all tensors and text entries.
///
/// # Errors
/// [`Error::File`] if it cannot be read, [`Error::Format`] if it is not a safetensors file.
pub fn read(path: &Path, device: &Device) -> Result<(HashMap<String, Tensor>, Metadata)> {
    let buffer = std::fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    let format = |reason: String| Error::Format {
        path: path.to_owned(),
        reason,
    };
    let not_safetensors = |e: safetensors::SafeTensorError| {
        format(format!(
            "is not a whole safetensors file ({e}); it may be truncated or of another format"
        ))
    };
    let (_, header) = SafeTensors::read_metadata(&buffer).map_err(not_safetensors)?;
    let parsed = SafeTensors::deserialize(&buffer).map_err(not_safetensors)?;
    let mut tensors = HashMap::new();
    for (name, view) in parsed.tensors() {
        let t = from_view(&view, device)?.ok_or_else(|| {
            format(format!(
                "tensor {name} has type {:?}, which is not read",
                view.dtype()
            ))
        })?;
        tensors.insert(name, t);
    }
    let metadata = match header.metadata().as_ref().and_then(|m| m.get(ENTRY)) {
        Some(text) => {
            serde_json::from_str(text).map_err(|e| format(format!("entry \"{ENTRY}\": {e}")))?
        }
        None => Metadata::new(),
    };
    Ok((tensors, metadata))
}

/// Reads the text entries alone.
///
/// # Errors
/// As [`read`].
pub fn read_metadata(path: &Path) -> Result<Metadata> {
    let file = |source| Error::File {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let format = |reason: String| Error::Format {
        path: path.to_owned(),
        reason,
    };
    let mut reader = std::fs::File::open(path).map_err(file)?;
    let size = reader.metadata().map_err(file)?.len();
    let broken = || {
        format("is not a whole safetensors file; it may be truncated or of another format".into())
    };
    if size < 8 {
        return Err(broken());
    }
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(file)?;
    let length = u64::from_le_bytes(length);
    if length > size - 8 {
        return Err(broken());
    }
    let mut header = Vec::new();
    reader.take(length).read_to_end(&mut header).map_err(file)?;
    let header: serde_json::Value = serde_json::from_slice(&header).map_err(|e| {
        format(format!(
            "is not a whole safetensors file ({e}); it may be truncated or of another format"
        ))
    })?;
    match header.get("__metadata__").and_then(|m| m.get(ENTRY)) {
        Some(serde_json::Value::String(text)) => {
            serde_json::from_str(text).map_err(|e| format(format!("entry \"{ENTRY}\": {e}")))
        }
        _ => Ok(Metadata::new()),
    }
}

/// A text entry that holds JSON.
///
/// # Errors
/// [`Error::Format`] if it is missing or of another form.
pub fn json_entry<T: DeserializeOwned>(path: &Path, metadata: &Metadata, key: &str) -> Result<T> {
    let format = |reason: String| Error::Format {
        path: path.to_owned(),
        reason,
    };
    let text = metadata
        .get(key)
        .ok_or_else(|| format(format!("has no entry \"{key}\"; was it written by sc?")))?;
    serde_json::from_str(text).map_err(|e| format(format!("entry \"{key}\": {e}")))
}

fn to_bytes(t: &Tensor) -> Result<Option<(Dtype, Vec<u8>)>> {
    let flat = t.to_device(&Device::Cpu)?.flatten_all()?;
    macro_rules! bytes {
        ($dtype:expr, $t:ty) => {
            Some((
                $dtype,
                flat.to_vec1::<$t>()?
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            ))
        };
    }
    Ok(match t.dtype() {
        DType::F32 => bytes!(Dtype::F32, f32),
        DType::F64 => bytes!(Dtype::F64, f64),
        DType::I64 => bytes!(Dtype::I64, i64),
        DType::U32 => bytes!(Dtype::U32, u32),
        DType::U8 => bytes!(Dtype::U8, u8),
        DType::BF16 => Some((Dtype::BF16, half_bytes(&flat)?)),
        DType::F16 => Some((Dtype::F16, half_bytes(&flat)?)),
        _ => None,
    })
}

fn half_bytes(flat: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * flat.elem_count());
    flat.write_bytes(&mut bytes)?;
    Ok(bytes)
}

fn from_view(view: &TensorView<'_>, device: &Device) -> Result<Option<Tensor>> {
    let data = view.data();
    macro_rules! numbers {
        ($t:ty) => {{
            let v: Vec<$t> = data
                .chunks_exact(size_of::<$t>())
                .map(|c| <$t>::from_le_bytes(c.try_into().unwrap_or_default()))
                .collect();
            Some(Tensor::from_vec(v, view.shape(), device)?)
        }};
    }
    Ok(match view.dtype() {
        Dtype::F32 => numbers!(f32),
        Dtype::F64 => numbers!(f64),
        Dtype::I64 => numbers!(i64),
        Dtype::U32 => numbers!(u32),
        Dtype::U8 | Dtype::BOOL => numbers!(u8),
        Dtype::BF16 => Some(Tensor::from_raw_buffer(
            data,
            DType::BF16,
            view.shape(),
            device,
        )?),
        Dtype::F16 => Some(Tensor::from_raw_buffer(
            data,
            DType::F16,
            view.shape(),
            device,
        )?),
        _ => None,
    })
}
