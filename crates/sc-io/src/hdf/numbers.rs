//! Numbers. They are read in the file's own type where libhdf5's conversion would clamp what does not fit.

use hdf5::types::H5Type;
use hdf5::{Dataset, Location};

use super::{H5, Kind};
use crate::Result;

impl H5 {
    /// All values, row-major, converted by libhdf5.
    pub(crate) fn raw<T: H5Type>(&self, from: &Dataset) -> Result<Vec<T>> {
        self.shape(from)?;
        from.read_raw().map_err(self.at(&from.name()))
    }

    /// Numbers as `f32`, the nearest there is.
    pub(crate) fn f32s(&self, from: &Dataset) -> Result<Vec<f32>> {
        match self.number_kind(from)? {
            Kind::Bool => Ok(self
                .raw::<u8>(from)?
                .into_iter()
                .map(|b| f32::from(u8::from(b != 0)))
                .collect()),
            _ => match self.parallel(from)? {
                Some(values) => Ok(values),
                None => self.raw(from),
            },
        }
    }

    /// Truth values.
    pub(crate) fn bools(&self, from: &Dataset) -> Result<Vec<bool>> {
        // Not as `bool`: a damaged file may hold a byte that is neither.
        Ok(self.raw::<u8>(from)?.into_iter().map(|b| b != 0).collect())
    }

    /// Integers.
    pub(crate) fn i64s(&self, from: &Dataset) -> Result<Vec<i64>> {
        match self.number_kind(from)? {
            Kind::Int(8, false) => {
                let values = self.raw::<u64>(from)?;
                match values.iter().find(|&&v| v > i64::MAX as u64) {
                    Some(v) => Err(self.wrong(
                        &from.name(),
                        v.to_string(),
                        "integers below 2^63, which is all that is supported",
                    )),
                    None => Ok(values.into_iter().map(|v| v as i64).collect()),
                }
            }
            Kind::Float(_) => Err(self.wrong(&from.name(), "floating-point numbers", "integers")),
            _ => self.raw(from),
        }
    }

    /// Column indices. A negative one becomes one so large that [`sc_data::Csr::new`] refuses it.
    pub(crate) fn indices(&self, from: &Dataset) -> Result<Vec<u32>> {
        const SLAB: usize = 1 << 20;
        match self.number_kind(from)? {
            // The collect reuses the memory.
            Kind::Int(1 | 2 | 4, true) => {
                let values: Vec<i32> = match self.parallel(from)? {
                    Some(values) => values,
                    None => self.raw(from)?,
                };
                Ok(values.into_iter().map(|i| i as u32).collect())
            }
            Kind::Int(1 | 2 | 4, false) => self.raw(from),
            Kind::Int(..) => {
                let n = self.length_1d(from)?;
                let mut indices = Vec::with_capacity(n);
                for start in (0..n).step_by(SLAB) {
                    let part = from
                        .read_slice_1d::<i64, _>(start..(start + SLAB).min(n))
                        .map_err(self.at(&from.name()))?;
                    indices.extend(part.iter().map(|&i| u32::try_from(i).unwrap_or(u32::MAX)));
                }
                Ok(indices)
            }
            other => Err(self.wrong(&from.name(), other.name(), "integers")),
        }
    }

    /// Row pointers. A negative one becomes one so large that it is refused later.
    pub(crate) fn pointers(&self, from: &Dataset) -> Result<Vec<usize>> {
        match self.number_kind(from)? {
            Kind::Int(..) => Ok(self
                .raw::<i64>(from)?
                .into_iter()
                .map(|p| p as usize)
                .collect()),
            other => Err(self.wrong(&from.name(), other.name(), "integers")),
        }
    }

    /// The integers of an attribute, `None` if there is none.
    pub(crate) fn attr_ints(&self, of: &Location, name: &str) -> Result<Option<Vec<i64>>> {
        let Ok(attr) = of.attr(name) else {
            return Ok(None);
        };
        let location = format!("{} (attribute {name})", of.name());
        if !self.kind(&attr, &location)?.is_number() {
            return Err(self.wrong(&location, "no numbers", "integers"));
        }
        if attr.space().map_err(self.at(&location))?.is_null() {
            return Ok(None);
        }
        attr.read_raw().map(Some).map_err(self.at(&location))
    }

    fn number_kind(&self, from: &Dataset) -> Result<Kind> {
        let location = from.name();
        let kind = self.kind(from, &location)?;
        if kind.is_number() {
            Ok(kind)
        } else {
            Err(self.wrong(&location, kind.name(), "numbers"))
        }
    }
}
