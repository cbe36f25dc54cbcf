//! The lines of a table: comments at its start, then records, with a bound on how long a line may be.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// A row of 100,000 genes takes a megabyte; what is longer than this is no table.
const LONGEST: u64 = 1 << 28;

/// An open file, at its first line that is no comment.
pub(crate) struct Source<'a> {
    path: &'a Path,
    rest: Box<dyn BufRead>,
    /// The line that comes next, with its end.
    first: Vec<u8>,
    /// Its number, from 1.
    number: u64,
    /// The last comment before it.
    comment: Option<String>,
}

/// The records of a file, one at a time.
pub(crate) struct Records<'a> {
    pub(crate) path: &'a Path,
    /// The last comment before the first record.
    pub(crate) comment: Option<String>,
    reader: Reader<Box<dyn Read>>,
    before: u64,
    record: ByteRecord,
}

impl<'a> Source<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let gzipped = file
            .fill_buf()
            .map_err(Error::io(path))?
            .starts_with(&[0x1f, 0x8b]);
        let mut rest: Box<dyn BufRead> = if gzipped {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        let (mut first, mut number, mut comment) = (Vec::new(), 0, None);
        loop {
            first.clear();
            let n = (&mut rest)
                .take(LONGEST)
                .read_until(b'\n', &mut first)
                .map_err(Error::io(path))?;
            number += 1;
            // Some programs write it at the start of a file.
            if first.starts_with(b"\xef\xbb\xbf") && number == 1 {
                first.drain(..3);
            }
            match first.strip_prefix(b"#") {
                Some(text) => comment = Some(String::from_utf8_lossy(text).trim().to_owned()),
                None if n > 0 && first.trim_ascii().is_empty() => {}
                None => break,
            }
        }
        Ok(Self {
            path,
            rest,
            first,
            number,
            comment,
        })
    }

    /// The line that comes next; empty at the end.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.first
    }

    pub(crate) fn records(self, delimiter: u8) -> Records<'a> {
        let all = Bounded {
            inner: Cursor::new(self.first).chain(self.rest),
            length: 0,
        };
        Records {
            path: self.path,
            comment: self.comment,
            reader: ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .comment(Some(b'#'))
                .delimiter(delimiter)
                .trim(csv::Trim::All)
                .from_reader(Box::new(all)),
            before: self.number.saturating_sub(1),
            record: ByteRecord::new(),
        }
    }
}

impl Records<'_> {
    /// The next record, `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<&ByteRecord>> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Ok(Some(&self.record)),
            Ok(false) => Ok(None),
            Err(e) => Err(match e.into_kind() {
                csv::ErrorKind::Io(e) => Error::io(self.path)(e),
                other => self.wrong(format!("{other:?}"), "fields of text"),
            }),
        }
    }

    /// Something is wrong in the last record.
    pub(crate) fn wrong(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        let line = self.record.position().map_or(1, csv::Position::line);
        let at = format!("line {}", line + self.before);
        Error::content(self.path, at, found, expected)
    }
}

/// Refuses a line that does not end.
struct Bounded<R> {
    inner: R,
    length: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let read = &buffer[..n];
        self.length = match read.iter().rposition(|b| *b == b'\n') {
            Some(end) => (n - end) as u64,
            None => self.length + n as u64,
        };
        if self.length < LONGEST {
            return Ok(n);
        }
        Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("a line of more than {LONGEST} bytes: this is no table of text"),
        ))
    }
}

/// A number as tables write them; `NA` and nothing are NaN.
pub(crate) fn number(field: &[u8]) -> Option<f32> {
    match field {
        b"" | b"NA" | b"N/A" => Some(f32::NAN),
        _ => std::str::from_utf8(field).ok()?.parse().ok(),
    }
}

pub(crate) fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}
