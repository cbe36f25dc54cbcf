//! Matrices in NumPy's `.npy` files.

use std::path::Path;

use ndarray::{Array2, ShapeBuilder};

use crate::{Error, Result};

/// Reads a matrix of `f32` or `f64`.
pub(super) fn read_matrix(path: &Path) -> Result<Array2<f64>> {
    let bytes = std::fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes).map_err(|reason| Error::Npy {
        path: path.to_owned(),
        reason,
    })
}

/// The parts of a header that matter.
struct Header {
    wide: bool,
    big_endian: bool,
    fortran: bool,
    shape: (usize, usize),
}

fn parse(bytes: &[u8]) -> std::result::Result<Array2<f64>, String> {
    let (header, data) = split(bytes).ok_or("is not a whole .npy file")?;
    let header = Header::parse(header)?;
    let (rows, columns) = header.shape;
    let width = if header.wide { 8 } else { 4 };
    let size = rows.checked_mul(columns).and_then(|n| n.checked_mul(width));
    if size != Some(data.len()) {
        return Err(format!(
            "says that it holds {rows} x {columns} numbers of {width} bytes, but {} bytes follow",
            data.len()
        ));
    }
    let values: Vec<f64> = data
        .chunks_exact(width)
        .map(|c| number(c, header.big_endian))
        .collect();
    let shape = (rows, columns).set_f(header.fortran);
    let matrix = Array2::from_shape_vec(shape, values).map_err(|e| e.to_string())?;
    Ok(matrix.as_standard_layout().into_owned())
}

/// The text of the header and what follows it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    // The length has two bytes in version 1 and four after it.
    let (length, rest) = rest.split_at_checked(if version[0] == 1 { 2 } else { 4 })?;
    let length = length
        .iter()
        .rev()
        .fold(0usize, |n, &b| n << 8 | usize::from(b));
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

fn number(bytes: &[u8], big_endian: bool) -> f64 {
    let mut little = [0; 8];
    for (i, &b) in bytes.iter().enumerate() {
        little[if big_endian { bytes.len() - 1 - i } else { i }] = b;
    }
    match bytes.len() {
        8 => f64::from_le_bytes(little),
        _ => f64::from(f32::from_le_bytes([
            little[0], little[1], little[2], little[3],
        ])),
    }
}

impl Header {
    /// The header is a Python dict: `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }`.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let after = |key: &str| {
            let at = text.find(&format!("'{key}'"))?;
            text.get(at..)?.split_once(':').map(|p| p.1.trim_start())
        };
        let descr = after("descr")
            .and_then(|t| t.split('\'').nth(1))
            .unwrap_or("unknown");
        let (wide, big_endian) = match descr {
            "<f8" => (true, false),
            "<f4" => (false, false),
            ">f8" => (true, true),
            ">f4" => (false, true),
            other => return Err(format!("holds numbers of type {other}; f4 and f8 are read")),
        };
        let fortran = after("fortran_order").is_some_and(|t| t.starts_with("True"));
        let shape = after("shape")
            .and_then(|t| t.strip_prefix('(')?.split(')').next())
            .unwrap_or("");
        let numbers: Option<Vec<usize>> = (shape.split(',').map(str::trim))
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().ok())
            .collect();
        match numbers.as_deref() {
            Some(&[rows, columns]) => Ok(Self {
                wide,
                big_endian,
                fortran,
                shape: (rows, columns),
            }),
            _ => Err(format!("has shape ({shape}); a matrix is needed")),
        }
    }
}
