//! Files that are whole or absent.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Makes a folder and those above it, if they aren't there.
///
/// # Errors
/// [`Error::File`] if the disk refuses, or a file is in the way.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::File {
        path: path.to_owned(),
        action: "make",
        source,
    })
}

/// Writes a file through a temporary one beside it, which takes its name only when it is complete and on disk.
///
/// # Errors
/// [`Error::File`], and then what was at `path` before is still there.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> std::io::Result<()>,
) -> Result<()> {
    let run = || -> std::io::Result<()> {
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let mut temporary = tempfile::Builder::new()
            .prefix(".writing-")
            .tempfile_in(parent)?;
        let mut buffer = BufWriter::new(temporary.as_file_mut());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        temporary.as_file().sync_all()?;
        // tempfile makes files private; a model is as public as any other file of the user.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_or(0o644, |m| m.permissions().mode());
            temporary
                .as_file()
                .set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        temporary.persist(path).map_err(|e| e.error)?;
        // The new name itself must survive a power cut too; not every file system lets a directory be synced.
        if let Ok(dir) = std::fs::File::open(parent) {
            let _ = dir.sync_all();
        }
        Ok(())
    };
    run().map_err(|source| Error::File {
        path: path.to_owned(),
        action: "write",
        source,
    })
}
