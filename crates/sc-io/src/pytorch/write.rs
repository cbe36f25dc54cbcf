//! Writes a checkpoint as torch.save does: a zip archive of the pickle and the storages.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::error::{Error, Result};
use super::pickler::{Pickled, pickle};
use super::value::Value;
use crate::atomic::write_file;

/// Entries start at multiples of this, so that torch can map storages into memory.
const ALIGNMENT: u16 = 64;

/// Writes a checkpoint that `torch.load` reads.
///
/// The file appears under its name only when it is complete. The same value gives the same bytes, under the same
/// file name.
///
/// # Errors
/// [`Error::Unwritable`] if the value holds an object of a class other than those that build plain data (loading the
/// file would call it); [`Error::Io`] if the file cannot be written.
pub fn write(path: impl AsRef<Path>, value: &Value) -> Result<()> {
    let path = path.as_ref();
    let unwritable = |what| Error::Unwritable {
        path: path.to_path_buf(),
        what,
    };
    let pickled = pickle(value).map_err(unwritable)?;
    // torch names the folder inside the archive after the file.
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .filter(|stem| !stem.is_empty());
    write_file(path, |file| {
        archive(stem.unwrap_or("archive"), &pickled, file)
    })
    .map_err(|error| match error {
        crate::Error::Io { path, source } => Error::Io { path, source },
        other => Error::io(path, std::io::Error::other(other)),
    })
}

fn archive(stem: &str, pickled: &Pickled, file: impl Write + Seek) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(file);
    let mut entry = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        zip.start_file(format!("{stem}/{name}"), options)?;
        zip.write_all(bytes)
    };
    entry("data.pkl", &pickled.pickle)?;
    entry(".format_version", b"1")?;
    entry(".storage_alignment", b"64")?;
    entry("byteorder", b"little")?;
    for (key, storage) in pickled.storages.iter().enumerate() {
        entry(&format!("data/{key}"), storage)?;
    }
    entry("version", b"3\n")?;
    zip.finish()?;
    Ok(())
}
