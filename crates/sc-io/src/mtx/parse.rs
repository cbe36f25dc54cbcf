use std::io::{BufRead, Read};
use std::path::Path;

use sc_data::Csr;

use super::open_text;
use crate::{Error, Result};

/// What the first lines declare.
struct Header {
    rows: usize,
    cols: usize,
    entries: usize,
    field: Field,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Integer,
    Real,
    /// No values: every entry is 1.
    Pattern,
}

/// One line at a time into one buffer, with its number for messages.
struct Lines<'a> {
    path: &'a Path,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
}

impl Lines<'_> {
    /// The next line that is not empty, without the line end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        // Comments may be long, but a file without line breaks is no text.
        const LONGEST: u64 = 16 << 20;
        loop {
            self.line.clear();
            let n = (&mut self.reader)
                .take(LONGEST)
                .read_until(b'\n', &mut self.line)
                .map_err(Error::io(self.path))?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            let end = self.line.trim_ascii_end().len();
            self.line.truncate(end);
            if end > 0 {
                return Ok(Some(&self.line));
            }
        }
    }

    fn wrong(&self, expected: impl Into<String>) -> Error {
        let found = String::from_utf8_lossy(&self.line);
        let found: String = found.chars().take(80).collect();
        let at = format!("line {}", self.number);
        Error::content(self.path, at, format!("{found:?}"), expected)
    }
}

/// Features, cells, entries and type of number as declared.
#[cfg(feature = "hdf5")]
pub(super) fn header_of(path: &Path) -> Result<(usize, usize, usize, String)> {
    let (h, _) = start(path)?;
    let field = match h.field {
        Field::Integer => "integer",
        Field::Real => "real",
        Field::Pattern => "pattern",
    };
    Ok((h.rows, h.cols, h.entries, field.to_owned()))
}

/// Reads a matrix of features x cells as cells x features. Entries of the same place are added up.
pub(super) fn read(path: &Path, features: usize, cells: usize) -> Result<Csr> {
    let (header, mut lines) = start(path)?;
    if (header.rows, header.cols) != (features, cells) {
        let hint = if (header.cols, header.rows) == (features, cells) {
            "; this one looks transposed"
        } else {
            ""
        };
        return Err(Error::content(
            path,
            format!("line {}", lines.number),
            format!("{} rows and {} columns", header.rows, header.cols),
            format!("{features} features and {cells} cells, as the other files have{hint}"),
        ));
    }
    let mut entries = Entries::new(cells, header.entries);
    let mut read = 0usize;
    while let Some(line) = lines.next()? {
        let parsed = entry(line, header.field)
            .filter(|&(r, c, _)| (1..=header.rows).contains(&r) && (1..=header.cols).contains(&c));
        let Some((row, col, value)) = parsed else {
            return Err(lines.wrong(format!(
                "a row up to {}, a column up to {} and a value",
                header.rows, header.cols
            )));
        };
        read += 1;
        if read > header.entries {
            return Err(lines.wrong(format!("the end after {} entries", header.entries)));
        }
        entries.push(col - 1, (row - 1) as u32, value);
    }
    if read < header.entries {
        return Err(Error::content(
            path,
            "the end of the file",
            format!("{read} entries"),
            format!(
                "{}, as the header says; the file is truncated",
                header.entries
            ),
        ));
    }
    entries
        .into_csr(features)
        .map_err(Error::data(path, "the entries"))
}

fn start(path: &Path) -> Result<(Header, Lines<'_>)> {
    let mut lines = Lines {
        path,
        reader: open_text(path)?,
        line: Vec::new(),
        number: 0,
    };
    let banner = lines.next()?.unwrap_or_default().to_ascii_lowercase();
    let banner = String::from_utf8_lossy(&banner).into_owned();
    let words: Vec<&str> = banner.split_ascii_whitespace().collect();
    let field = match words[..] {
        ["%%matrixmarket", "matrix", "coordinate", field, "general"] => match field {
            "integer" => Some(Field::Integer),
            "real" => Some(Field::Real),
            "pattern" => Some(Field::Pattern),
            _ => None,
        },
        _ => None,
    };
    let Some(field) = field else {
        return Err(lines
            .wrong("\"%%MatrixMarket matrix coordinate integer general\" (or real, or pattern)"));
    };
    while let Some(line) = lines.next()? {
        if line.starts_with(b"%") {
            continue;
        }
        let mut numbers = line
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
            .map(integer);
        let sizes = (
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        );
        if let (Some(Some(rows)), Some(Some(cols)), Some(Some(entries)), None) = sizes
            && rows <= u32::MAX as usize
        {
            let header = Header {
                rows,
                cols,
                entries,
                field,
            };
            return Ok((header, lines));
        }
        break;
    }
    Err(lines.wrong("the numbers of rows, columns and entries"))
}

/// Row, column and value of a line, counted from 1.
fn entry(line: &[u8], field: Field) -> Option<(usize, usize, f32)> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|w| !w.is_empty());
    let (row, col) = (integer(words.next()?)?, integer(words.next()?)?);
    let value = match field {
        Field::Pattern => 1.0,
        _ => number(words.next()?)?,
    };
    words.next().is_none().then_some((row, col, value))
}

fn integer(word: &[u8]) -> Option<usize> {
    if word.is_empty() || word.len() > 18 {
        return None;
    }
    word.iter().try_fold(0usize, |n, &b| {
        b.is_ascii_digit().then(|| n * 10 + usize::from(b - b'0'))
    })
}

/// Most values are small integers; the rest goes the slow way.
fn number(word: &[u8]) -> Option<f32> {
    if word.len() <= 7
        && let Some(n) = integer(word)
    {
        return Some(n as f32);
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Entries gathered by cell. Files sorted by cell, as Cell Ranger's are, need no memory beyond the matrix itself.
struct Entries {
    /// Entries of each cell.
    counts: Vec<usize>,
    /// The cell of each entry, once one came out of order.
    cells: Option<Vec<u32>>,
    last: usize,
    indices: Vec<u32>,
    data: Vec<f32>,
}

impl Entries {
    fn new(cells: usize, declared: usize) -> Self {
        // The header may promise anything.
        let room = declared.min(1 << 22);
        Self {
            counts: vec![0; cells],
            cells: None,
            last: 0,
            indices: Vec::with_capacity(room),
            data: Vec::with_capacity(room),
        }
    }

    fn push(&mut self, cell: usize, feature: u32, value: f32) {
        if cell < self.last && self.cells.is_none() {
            let sorted = self.counts.iter().enumerate();
            self.cells = Some(
                sorted
                    .flat_map(|(c, &n)| std::iter::repeat_n(c as u32, n))
                    .collect(),
            );
        }
        self.last = cell;
        self.counts[cell] += 1;
        if let Some(cells) = &mut self.cells {
            cells.push(cell as u32);
        }
        self.indices.push(feature);
        self.data.push(value);
    }

    fn into_csr(self, features: usize) -> sc_data::Result<Csr> {
        let mut indptr = Vec::with_capacity(self.counts.len() + 1);
        indptr.push(0);
        let mut end = 0;
        for n in &self.counts {
            end += n;
            indptr.push(end);
        }
        let rows = self.counts.len();
        let Some(cells) = self.cells else {
            return Csr::new(rows, features, indptr, self.indices, self.data);
        };
        let mut next = indptr.clone();
        let mut indices = vec![0u32; self.indices.len()];
        let mut data = vec![0f32; self.data.len()];
        for ((&cell, &feature), &value) in cells.iter().zip(&self.indices).zip(&self.data) {
            let slot = &mut next[cell as usize];
            indices[*slot] = feature;
            data[*slot] = value;
            *slot += 1;
        }
        Csr::new(rows, features, indptr, indices, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn parse(text: &str, features: usize, cells: usize) -> Result<Csr> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.mtx");
        std::fs::write(&path, text).unwrap();
        read(&path, features, cells)
    }

    const HEAD: &str = "%%MatrixMarket matrix coordinate real general\n% made by hand\n";

    #[test]
    fn any_order_and_repeated_places() {
        let m = parse(
            &format!("{HEAD}3 2 5\n3 2 1\n1 1 2.5\n2 2 1e1\n3 2 4\n2 1 -1\n\n"),
            3,
            2,
        );
        assert_eq!(
            m.unwrap().to_dense(),
            array![[2.5, -1.0, 0.0], [0.0, 10.0, 5.0]]
        );
        let pattern = "%%MatrixMarket matrix coordinate pattern general\r\n1 2 1\r\n1 2\r\n";
        assert_eq!(
            parse(pattern, 1, 2).unwrap().to_dense(),
            array![[0.0], [1.0]]
        );
    }

    #[test]
    fn lies_are_found() {
        for (text, features, cells, says) in [
            ("3 2 1\n4 1 1\n", 3, 2, "row up to 3"),
            ("3 2 1\n0 1 1\n", 3, 2, "row up to 3"),
            ("3 2 1\n1 1 x\n", 3, 2, "a value"),
            ("3 2 1\n1 1 1 1\n", 3, 2, "a value"),
            ("3 2 2\n1 1 1\n", 3, 2, "truncated"),
            ("3 2 1\n1 1 1\n1 2 1\n", 3, 2, "the end after 1"),
            ("3 2 1\n1 1 1\n", 2, 3, "transposed"),
            ("3 2\n", 3, 2, "numbers of rows"),
            ("", 3, 2, "numbers of rows"),
            ("3 2 99999999999999999999\n", 3, 2, "numbers of rows"),
            ("3 2 999999999999999\n1 1 1\n", 3, 2, "truncated"),
        ] {
            let message = parse(&format!("{HEAD}{text}"), features, cells)
                .unwrap_err()
                .to_string();
            assert!(message.contains(says), "{text:?}: {message}");
        }
        let dense = "%%MatrixMarket matrix array real general\n1 1\n1\n";
        assert!(parse(dense, 1, 1).is_err());
    }
}
