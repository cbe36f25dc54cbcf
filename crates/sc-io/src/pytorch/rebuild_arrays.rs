//! Rebuilds numpy arrays and numpy's single numbers.

use std::sync::Arc;

use super::array::{ArrayData, NumpyArray, scalar};
use super::dtype::{DType, swap_bytes};
use super::freeze::Context;
use super::rebuild::{Parts, extents};
use super::tensor::{contiguous_stride, element_count};
use super::value::Value;

/// What the elements of a numpy array are.
enum Elements {
    Numbers(DType),
    /// Text of this many characters.
    Text(usize),
    Objects,
}

/// Reads a `numpy.dtype`: the code is the first argument, the byte order the second entry of the state.
fn elements(dtype: &Value) -> Option<(Elements, bool)> {
    let dtype = dtype
        .as_opaque()
        .filter(|dtype| &*dtype.class == "numpy.dtype")?;
    let code = dtype.args.first()?.as_str()?;
    let order = dtype
        .state
        .as_ref()
        .and_then(Value::as_slice)
        .and_then(|state| state.get(1))
        .and_then(Value::as_str);
    let big_endian = order == Some(">") || code.starts_with('>');
    let code = code.trim_start_matches(['<', '>', '|', '=']);
    let elements = match code.strip_prefix('U') {
        Some(width) => Elements::Text(width.parse().ok()?),
        None if code.starts_with('O') => Elements::Objects,
        None => Elements::Numbers(DType::from_numpy_code(code)?),
    };
    Some((elements, big_endian))
}

/// `numpy.ndarray.__setstate__((version, shape, dtype, is_fortran, elements))`.
pub(super) fn array_from_state(
    parts: &Parts<'_>,
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    match (parts.args, parts.state.as_ref().and_then(Value::as_slice)) {
        ([Value::Opaque(class), ..], Some([_, shape, dtype, fortran, data]))
            if &*class.class == "numpy.ndarray" =>
        {
            array(
                shape,
                dtype,
                fortran.as_bool().unwrap_or(false),
                data,
                context,
            )
        }
        _ => Ok(None),
    }
}

pub(super) fn array(
    shape: &Value,
    dtype: &Value,
    fortran: bool,
    data: &Value,
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    let (Some(shape), Some((elements, big_endian))) = (extents(shape), elements(dtype)) else {
        return Ok(None);
    };
    let count =
        element_count(&shape).ok_or_else(|| format!("an array of shape {shape:?} is too large"))?;
    context.budget.charge(count)?;
    let fortran = fortran && shape.len() > 1;
    let short =
        |found: usize| format!("an array of shape {shape:?} cannot be made of {found} bytes");
    let data = match (elements, data) {
        (Elements::Objects, Value::List(items)) if items.len() == count => {
            ArrayData::Objects(if fortran {
                transposed(&shape, items)
            } else {
                items.to_vec()
            })
        }
        (Elements::Numbers(dtype), Value::Bytes(bytes)) => {
            if count.checked_mul(dtype.size()) != Some(bytes.len()) {
                return Err(short(bytes.len()));
            }
            context.budget.charge(bytes.len() / 8)?;
            let mut bytes = bytes.to_vec();
            if big_endian {
                swap_bytes(&mut bytes, dtype.size());
            }
            if fortran {
                let numbers: Vec<&[u8]> = bytes.chunks_exact(dtype.size()).collect();
                bytes = transposed(&shape, &numbers).concat();
            }
            ArrayData::Numbers {
                dtype,
                bytes: Arc::new(bytes),
            }
        }
        (Elements::Text(width), Value::Bytes(bytes)) => {
            let size = width
                .checked_mul(4)
                .filter(|size| count.checked_mul(*size) == Some(bytes.len()));
            let size = size.ok_or_else(|| short(bytes.len()))?;
            context.budget.charge(bytes.len() / 4)?;
            let items: Vec<Arc<str>> = if size == 0 {
                vec![Arc::from(""); count]
            } else {
                bytes
                    .chunks_exact(size)
                    .map(|item| fixed_text(item, big_endian))
                    .collect()
            };
            ArrayData::Text {
                width,
                items: if fortran {
                    transposed(&shape, &items)
                } else {
                    items
                },
            }
        }
        (Elements::Objects, found) => {
            return Err(format!(
                "an object array of shape {shape:?} cannot be made of {}",
                found.type_name()
            ));
        }
        // A subclass or a dtype with a private layout.
        _ => return Ok(None),
    };
    NumpyArray::new(&shape, data)
        .map(|array| Some(array.into()))
        .map_err(|error| error.to_string())
}

/// Reorders elements from first-axis-fastest to last-axis-fastest.
fn transposed<T: Clone>(shape: &[usize], items: &[T]) -> Vec<T> {
    let from: Vec<usize> = shape
        .iter()
        .scan(1_usize, |step, &extent| {
            let now = *step;
            *step = step.saturating_mul(extent);
            Some(now)
        })
        .collect();
    let to = contiguous_stride(shape);
    (0..items.len())
        .filter_map(|place| {
            let at: usize = shape
                .iter()
                .zip(&to)
                .zip(&from)
                .map(|((&extent, &to), &from)| place / to % extent.max(1) * from)
                .sum();
            items.get(at).cloned()
        })
        .collect()
}

/// One element of numpy's `U`: UTF-32, padded with zeros.
fn fixed_text(bytes: &[u8], big_endian: bool) -> Arc<str> {
    let text: String = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|code| {
            if big_endian {
                u32::from_be_bytes(*code)
            } else {
                u32::from_le_bytes(*code)
            }
        })
        .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Arc::from(text.trim_end_matches('\0'))
}

pub(super) fn numpy_scalar(dtype: &Value, bytes: &[u8]) -> Option<Value> {
    match elements(dtype)? {
        (Elements::Numbers(dtype), big_endian) if bytes.len() == dtype.size() => {
            let mut bytes = bytes.to_vec();
            if big_endian {
                swap_bytes(&mut bytes, dtype.size());
            }
            Some(scalar(dtype, &bytes))
        }
        (Elements::Text(_), big_endian) => Some(Value::Str(fixed_text(bytes, big_endian))),
        _ => None,
    }
}
