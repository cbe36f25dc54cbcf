//! Numpy arrays: numbers, text, or arbitrary Python values.

use std::sync::Arc;

use super::dtype::{DType, Number};
use super::error::{Error, Result};
use super::tensor::{element_count, integers};
use super::value::Value;

/// A numpy array, the last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct NumpyArray {
    shape: Vec<usize>,
    data: ArrayData,
}

/// The elements of a [`NumpyArray`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ArrayData {
    /// Numbers or truth values, as little-endian bytes.
    Numbers {
        /// The type of the numbers.
        dtype: DType,
        /// The bytes of all elements.
        bytes: Arc<Vec<u8>>,
    },
    /// Text of fixed width (numpy's `U`).
    Text {
        /// Characters per element.
        width: usize,
        /// The elements, without the padding.
        items: Vec<Arc<str>>,
    },
    /// Arbitrary values (numpy's `O`).
    Objects(Vec<Value>),
}

impl NumpyArray {
    /// An array of the given shape.
    ///
    /// # Errors
    /// [`Error::Conversion`] if there are more or fewer elements than `shape` asks for.
    pub fn new(shape: &[usize], data: ArrayData) -> Result<Self> {
        let found = data.len();
        if element_count(shape) != Some(found) {
            return Err(Error::conversion(format!(
                "an array of shape {shape:?} cannot be made of {found} elements"
            )));
        }
        Ok(Self {
            shape: shape.to_vec(),
            data,
        })
    }

    /// An object array of text, of one axis, which is what scvi-tools keeps names and categories in.
    pub fn from_strings<S: AsRef<str>, I: IntoIterator<Item = S>>(items: I) -> Self {
        Self::flat(ArrayData::Objects(
            items
                .into_iter()
                .map(|item| Value::from(item.as_ref()))
                .collect(),
        ))
    }

    /// An object array of one axis.
    #[must_use]
    pub fn from_values(items: Vec<Value>) -> Self {
        Self::flat(ArrayData::Objects(items))
    }

    /// An `int64` array of one axis.
    #[must_use]
    pub fn from_i64(values: &[i64]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self::flat(ArrayData::Numbers {
            dtype: DType::I64,
            bytes: Arc::new(bytes),
        })
    }

    /// A `float64` array of one axis.
    #[must_use]
    pub fn from_f64(values: &[f64]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self::flat(ArrayData::Numbers {
            dtype: DType::F64,
            bytes: Arc::new(bytes),
        })
    }

    fn flat(data: ArrayData) -> Self {
        Self {
            shape: vec![data.len()],
            data,
        }
    }

    /// The extent of each axis; empty for a single element.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &ArrayData {
        &self.data
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements one by one, whatever their type.
    #[must_use]
    pub fn to_values(&self) -> Vec<Value> {
        match &self.data {
            ArrayData::Objects(items) => items.clone(),
            ArrayData::Text { items, .. } => items.iter().cloned().map(Value::Str).collect(),
            ArrayData::Numbers { dtype, bytes } => bytes
                .chunks_exact(dtype.size())
                .map(|number| scalar(*dtype, number))
                .collect(),
        }
    }

    /// The elements as text.
    ///
    /// # Errors
    /// [`Error::Conversion`] if an element is not text.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        self.to_values()
            .iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or_else(|| {
                    Error::conversion(format!(
                        "wanted an array of text, found {} in it",
                        item.type_name()
                    ))
                })
            })
            .collect()
    }

    /// The elements as `f64`; `None` becomes NaN, truth values become 0 and 1.
    ///
    /// # Errors
    /// [`Error::Conversion`] if an element is not a number.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        match &self.data {
            ArrayData::Numbers { dtype, bytes } => Ok(bytes
                .chunks_exact(dtype.size())
                .map(|number| dtype.decode(number).to_f64())
                .collect()),
            ArrayData::Objects(items) => items.iter().map(object_to_f64).collect(),
            ArrayData::Text { .. } => {
                Err(Error::conversion("wanted an array of numbers, found text"))
            }
        }
    }

    /// The elements as `i64`; truth values become 0 and 1.
    ///
    /// # Errors
    /// [`Error::Conversion`] if an element is not a whole number that fits.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>> {
        let wrong = |found: &str| {
            Error::conversion(format!(
                "wanted an array of whole numbers, found {found} in it"
            ))
        };
        match &self.data {
            ArrayData::Numbers { dtype, bytes } => integers(*dtype, bytes),
            ArrayData::Objects(items) => items
                .iter()
                .map(|item| item.as_i64().ok_or_else(|| wrong(item.type_name())))
                .collect(),
            ArrayData::Text { .. } => Err(wrong("text")),
        }
    }
}

impl ArrayData {
    fn len(&self) -> usize {
        match self {
            Self::Numbers { dtype, bytes } => bytes.len() / dtype.size(),
            Self::Text { items, .. } => items.len(),
            Self::Objects(items) => items.len(),
        }
    }
}

fn object_to_f64(item: &Value) -> Result<f64> {
    match item {
        Value::None => Ok(f64::NAN),
        Value::Bool(value) => Ok(f64::from(u8::from(*value))),
        Value::Tensor(tensor) if tensor.numel() == 1 => {
            Ok(tensor.to_f64_vec().first().copied().unwrap_or(f64::NAN))
        }
        Value::Array(array)
            if array.shape().is_empty() && matches!(array.data(), ArrayData::Numbers { .. }) =>
        {
            Ok(array.to_f64_vec()?.first().copied().unwrap_or(f64::NAN))
        }
        other => other.as_f64().ok_or_else(|| {
            Error::conversion(format!(
                "wanted an array of numbers, found {} in it",
                other.type_name()
            ))
        }),
    }
}

/// One number of an array, as the Python value closest to it.
pub(super) fn scalar(dtype: DType, bytes: &[u8]) -> Value {
    match dtype.decode(bytes) {
        Number::Int(value) if dtype == DType::Bool => Value::Bool(value != 0),
        Number::Int(value) => Value::Int(value),
        // Nine bytes, because the sign bit of the eighth is taken.
        Number::Large(value) => Value::BigInt(value.to_le_bytes().into_iter().chain([0]).collect()),
        Number::Float(value) => Value::Float(value),
    }
}
