//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// Writes a file through `write`: into a temporary file beside it, which is synced to the disk and then renamed over
/// it. Whatever fails, an older file of that name stays as it was.
///
/// # Errors
/// [`Error::Io`] if the folder does not exist, the disk is full, or `write` fails.
pub fn write_file(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let mut temporary = temporary_beside(path)?;
    let mut buffer = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffer)
        .and_then(|()| buffer.flush())
        .map_err(Error::io(path))?;
    drop(buffer);
    commit(temporary, path)
}

/// As [`write_file`] for libraries that open the file by name: `write` gets the name of the temporary file.
#[cfg(feature = "hdf5")]
pub(crate) fn write_by_name(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary_beside(path)?;
    write(temporary.path())?;
    commit(temporary, path)
}

/// An empty file in the folder of `path`, with the permissions a new file would get.
fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sc-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask still applies.
        let mode = std::fs::metadata(path).map_or(0o666, |m| m.permissions().mode() & 0o777);
        builder.permissions(std::fs::Permissions::from_mode(mode | 0o200));
    }
    builder.tempfile_in(folder(path)).map_err(Error::io(path))
}

fn commit(temporary: NamedTempFile, path: &Path) -> Result<()> {
    temporary.as_file().sync_all().map_err(Error::io(path))?;
    temporary
        .persist(path)
        .map_err(|e| Error::io(path)(e.error))?;
    // The rename itself reaches the disk with its folder. Not every file system lets a folder be synced.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(path)) {
        folder.sync_all().ok();
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        write_file(&path, |f| f.write_all(b"old")).unwrap();
        let failed = write_file(&path, |f| {
            f.write_all(b"half of the new")?;
            Err(std::io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_file(&path, |f| f.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(write_file(folder.path().join("no/such"), |_| Ok(())).is_err());
    }
}
