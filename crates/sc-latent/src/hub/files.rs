//! The small files of a hub folder.

use std::path::Path;

use super::METADATA;
use crate::{Error, Result};

/// The most bytes of a card, of metadata or of metrics: more is not read, or fetched.
pub(super) const MAX_TEXT: u64 = 16 << 20;

/// Writes a model. While it is written, and if it could not be described afterwards, the folder has no metadata; if it could
/// not be written, those of before.
pub(super) fn with_model<T>(dir: &Path, save: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = dir.join(METADATA);
    let before = read(&path)?;
    remove(&path)?;
    let saved = save();
    if let (Err(_), Some(text)) = (&saved, before) {
        write(&path, &text)?;
    }
    saved
}

/// The text of a file; `None` if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    if bytes > MAX_TEXT {
        return Err(Error::Hub {
            place: path.display().to_string(),
            reason: format!("has {bytes} bytes, and such a text never has more than {MAX_TEXT}"),
        });
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::Hub {
            place: path.display().to_string(),
            reason: format!("cannot be read: {e}"),
        }),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    sc_io::atomic::write_file(path, |file| file.write_all(text.as_bytes())).map_err(|e| {
        Error::Hub {
            place: path.display().to_string(),
            reason: e.to_string(),
        }
    })
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Hub {
            place: path.display().to_string(),
            reason: format!("an older file can't be removed: {e}"),
        }),
        _ => Ok(()),
    }
}
