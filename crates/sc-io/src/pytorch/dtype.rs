//! Number types of tensors and arrays, and how their bytes become numbers.

use std::fmt;

/// The type of the numbers in a tensor or an array; bytes are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

/// One row per type: the type, its width, torch's storage class, torch's name, numpy's code.
const TABLE: [(DType, usize, &str, &str, &str); 13] = [
    (DType::Bool, 1, "BoolStorage", "bool", "b1"),
    (DType::U8, 1, "ByteStorage", "uint8", "u1"),
    (DType::U16, 2, "", "uint16", "u2"),
    (DType::U32, 4, "", "uint32", "u4"),
    (DType::U64, 8, "", "uint64", "u8"),
    (DType::I8, 1, "CharStorage", "int8", "i1"),
    (DType::I16, 2, "ShortStorage", "int16", "i2"),
    (DType::I32, 4, "IntStorage", "int32", "i4"),
    (DType::I64, 8, "LongStorage", "int64", "i8"),
    (DType::F16, 2, "HalfStorage", "float16", "f2"),
    (DType::BF16, 2, "BFloat16Storage", "bfloat16", ""),
    (DType::F32, 4, "FloatStorage", "float32", "f4"),
    (DType::F64, 8, "DoubleStorage", "float64", "f8"),
];

impl DType {
    fn row(self) -> (usize, &'static str, &'static str, &'static str) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or((1, "", "", ""), |row| (row.1, row.2, row.3, row.4))
    }

    fn named(
        name: &str,
        column: impl Fn(&(DType, usize, &'static str, &'static str, &'static str)) -> &'static str,
    ) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| !name.is_empty() && column(row) == name)
            .map(|row| row.0)
    }

    /// Bytes per number.
    #[must_use]
    pub fn size(self) -> usize {
        self.row().0
    }

    /// torch's storage class, such as `FloatStorage`; `None` for the types that have none.
    pub(super) fn torch_storage(self) -> Option<&'static str> {
        Some(self.row().1).filter(|name| !name.is_empty())
    }

    /// numpy's code, such as `f4`; `None` for `bfloat16`.
    pub(super) fn numpy_code(self) -> Option<&'static str> {
        Some(self.row().3).filter(|name| !name.is_empty())
    }

    pub(super) fn from_torch_storage(class: &str) -> Option<Self> {
        Self::named(class, |row| row.2)
    }

    pub(super) fn from_torch_name(name: &str) -> Option<Self> {
        Self::named(name, |row| row.3)
    }

    pub(super) fn from_numpy_code(code: &str) -> Option<Self> {
        Self::named(code, |row| row.4)
    }

    /// Reads one number; `bytes` holds [`size`](Self::size) bytes, missing ones count as zero.
    pub(super) fn decode(self, bytes: &[u8]) -> Number {
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().zip(bytes.iter().take(self.size())) {
            *to = *from;
        }
        let bits = u64::from_le_bytes(word);
        let [b0, b1, b2, b3, ..] = word;
        match self {
            Self::Bool => Number::Int(i64::from(bits != 0)),
            Self::U8 | Self::U16 | Self::U32 => {
                Number::Int(i64::try_from(bits).unwrap_or(i64::MAX))
            }
            Self::U64 => i64::try_from(bits).map_or(Number::Large(bits), Number::Int),
            Self::I8 => Number::Int(i64::from(i8::from_le_bytes([b0]))),
            Self::I16 => Number::Int(i64::from(i16::from_le_bytes([b0, b1]))),
            Self::I32 => Number::Int(i64::from(i32::from_le_bytes([b0, b1, b2, b3]))),
            Self::I64 => Number::Int(i64::from_le_bytes(word)),
            Self::F16 => Number::Float(f64::from(half_to_f32(u16::from_le_bytes([b0, b1])))),
            Self::BF16 => Number::Float(f64::from(f32::from_bits(
                u32::from(u16::from_le_bytes([b0, b1])) << 16,
            ))),
            Self::F32 => Number::Float(f64::from(f32::from_le_bytes([b0, b1, b2, b3]))),
            Self::F64 => Number::Float(f64::from_bits(bits)),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

/// One decoded number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    /// An unsigned number above `i64::MAX`.
    Large(u64),
    Float(f64),
}

impl Number {
    #[expect(
        clippy::cast_precision_loss,
        reason = "rounding to f64 is what was asked for"
    )]
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Large(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    pub(super) fn to_i64(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Large(_) | Self::Float(_) => None,
        }
    }
}

/// IEEE 754 half precision: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits.
fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x03ff);
    match exponent {
        // Zero and subnormals: the fraction counts steps of 2^-24.
        0 => {
            #[expect(clippy::cast_precision_loss, reason = "ten bits fit an f32")]
            let magnitude = fraction as f32 * 2.0_f32.powi(-24);
            f32::from_bits(sign | magnitude.to_bits())
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// Turns big-endian numbers of `width` bytes into little-endian ones.
pub(super) fn swap_bytes(bytes: &mut [u8], width: usize) {
    if width > 1 {
        for number in bytes.chunks_exact_mut(width) {
            number.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::half_to_f32;

    #[test]
    fn half_precision_has_its_landmarks() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half_to_f32(bits), value);
        }
        assert_eq!(half_to_f32(0x0001), 2.0_f32.powi(-24));
        assert_eq!(half_to_f32(0x8000).to_bits(), (-0.0_f32).to_bits());
        assert!(half_to_f32(0x7e00).is_nan() && half_to_f32(0x7c00).is_infinite());
    }
}
