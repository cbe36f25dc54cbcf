//! Records (numpy's structured arrays), which anndata < 0.7 used for tables and scanpy uses for ranked genes.

use hdf5::Dataset;
use hdf5::datatype::ByteOrder;
use hdf5::types::{CompoundField, CompoundType, FloatSize, IntSize, TypeDescriptor};
use ndarray::Array2;
use sc_data::{Column, Matrix};

use super::bytes::{Heap, RawFile};
use super::{H5, Kind};
use crate::Result;

/// A field over all records.
pub(crate) enum Field {
    Column(Column),
    Matrix(Matrix),
}

impl H5 {
    /// The fields of a dataset of records.
    pub(crate) fn records(&self, of: &Dataset) -> Result<Vec<(String, Field)>> {
        let at = of.name();
        let kind = self.kind(of, &at)?;
        let Kind::Compound(compound) = kind else {
            return Err(self.wrong(&at, kind.name(), "records"));
        };
        let order = of.dtype().map_err(self.at(&at))?.byte_order();
        if order == ByteOrder::BigEndian {
            return Err(self.wrong(&at, "big-endian records", "little-endian ones"));
        }
        let (record, mut members) = stored_layout(&compound);
        members.sort_by_key(|m| m.index);
        let bytes = self.bytes(of, record)?;
        let mut heap = Heap::new(RawFile::open(self)?);
        let mut fields = Vec::with_capacity(members.len());
        for field in &members {
            let cells = Cells {
                bytes: &bytes,
                record: record.max(1),
                offset: field.offset,
                width: stored_size(&field.ty),
            };
            let value = field_values(&field.ty, &cells, &mut heap).map_err(|found| {
                self.wrong(
                    &at,
                    format!("field \"{}\": {found}", field.name),
                    "numbers or text",
                )
            })?;
            fields.push((field.name.clone(), value));
        }
        Ok(fields)
    }
}

/// Bytes of a value in the file. libhdf5 describes text of variable length as it would lie in memory, a pointer.
fn stored_size(ty: &TypeDescriptor) -> usize {
    match ty {
        TypeDescriptor::VarLenAscii | TypeDescriptor::VarLenUnicode => 16,
        other => other.size(),
    }
}

/// The bytes of a record in the file and where its fields lie there.
fn stored_layout(compound: &CompoundType) -> (usize, Vec<CompoundField>) {
    let mut fields = compound.fields.clone();
    fields.sort_by_key(|f| f.offset);
    let mut shift = 0;
    for field in &mut fields {
        field.offset += shift;
        shift += stored_size(&field.ty) - field.ty.size();
    }
    (compound.size + shift, fields)
}

/// Where one field lies in all records.
struct Cells<'a> {
    bytes: &'a [u8],
    record: usize,
    offset: usize,
    width: usize,
}

impl<'a> Cells<'a> {
    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let (from, to) = (self.offset, self.offset + self.width);
        self.bytes
            .chunks_exact(self.record)
            .filter_map(move |r| r.get(from..to))
    }

    fn map<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.iter()
            .filter_map(|b| b.try_into().ok())
            .map(convert)
            .collect()
    }
}

fn field_values(ty: &TypeDescriptor, cells: &Cells<'_>, heap: &mut Heap) -> Result<Field, String> {
    use TypeDescriptor as T;
    Ok(Field::Column(match ty {
        T::Boolean => Column::Bool(cells.map(|[b]: [u8; 1]| b != 0)),
        T::Integer(IntSize::U4) => Column::Int32(cells.map(i32::from_le_bytes)),
        T::Integer(_) | T::Unsigned(_) => Column::Int(integers(ty, cells)?),
        T::Float(FloatSize::U4) => Column::Float32(cells.map(f32::from_le_bytes)),
        T::Float(FloatSize::U8) => Column::Float(cells.map(f64::from_le_bytes)),
        T::FixedAscii(_) | T::FixedUnicode(_) => Column::Str(
            cells
                .iter()
                .map(|b| {
                    let end = b.iter().rposition(|&c| c != 0).map_or(0, |e| e + 1);
                    String::from_utf8_lossy(&b[..end]).into_owned()
                })
                .collect(),
        ),
        T::VarLenAscii | T::VarLenUnicode => Column::Str(
            cells
                .iter()
                .map(|b| heap.text(b))
                .collect::<Result<_, _>>()?,
        ),
        T::FixedArray(inner, n) => return matrix(inner, *n, cells).map(Field::Matrix),
        other => return Err(other.to_string()),
    }))
}

fn integers(ty: &TypeDescriptor, cells: &Cells<'_>) -> Result<Vec<i64>, String> {
    use TypeDescriptor as T;
    Ok(match ty {
        T::Integer(IntSize::U1) => cells.map(|b| i64::from(i8::from_le_bytes(b))),
        T::Integer(IntSize::U2) => cells.map(|b| i64::from(i16::from_le_bytes(b))),
        T::Integer(IntSize::U4) => cells.map(|b| i64::from(i32::from_le_bytes(b))),
        T::Integer(IntSize::U8) => cells.map(i64::from_le_bytes),
        T::Unsigned(IntSize::U1) => cells.map(|b| i64::from(u8::from_le_bytes(b))),
        T::Unsigned(IntSize::U2) => cells.map(|b| i64::from(u16::from_le_bytes(b))),
        T::Unsigned(IntSize::U4) => cells.map(|b| i64::from(u32::from_le_bytes(b))),
        other => return Err(other.to_string()),
    })
}

/// A field of `n` numbers a record.
fn matrix(inner: &TypeDescriptor, n: usize, cells: &Cells<'_>) -> Result<Matrix, String> {
    use TypeDescriptor as T;
    let flat: Vec<u8> = cells.iter().flatten().copied().collect();
    let rows = flat.len().checked_div(cells.width).unwrap_or(0);
    let all = Cells {
        bytes: &flat,
        record: inner.size().max(1),
        offset: 0,
        width: inner.size(),
    };
    let full = |e: ndarray::ShapeError| e.to_string();
    match inner {
        T::Float(FloatSize::U4) => {
            Array2::from_shape_vec((rows, n), all.map(f32::from_le_bytes)).map(Matrix::Dense)
        }
        T::Float(FloatSize::U8) => {
            Array2::from_shape_vec((rows, n), all.map(f64::from_le_bytes)).map(Matrix::Dense64)
        }
        T::Integer(_) | T::Unsigned(_) => {
            let values = integers(inner, &all)?.into_iter().map(|v| v as f64);
            Array2::from_shape_vec((rows, n), values.collect()).map(Matrix::Dense64)
        }
        other => return Err(other.to_string()),
    }
    .map_err(full)
}
