//! One file of a repository, into the cache.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::CacheRepo;
use hf_hub::api::sync::ApiRepo;

use super::checksum::{Checksum, Expected, verify};
use super::names::is_plain;
use super::remote::{Refused, Remote, Stated};
use super::{ADATA, MDATA, MODEL, PullOptions, PulledFile};
use crate::hub::files::MAX_TEXT;
use crate::{Error, Result};

/// How often another process that fetches the same file is looked at, half a second apart.
const LOCK_ATTEMPTS: usize = 10;

pub(super) struct Fetch<'a> {
    pub(super) options: &'a PullOptions,
    pub(super) repository: &'a str,
    pub(super) remote: Remote,
    /// Where the files of the commit are.
    pub(super) address: ApiRepo,
    pub(super) cache: CacheRepo,
    pub(super) commit: &'a str,
    pub(super) progress: &'a mut dyn FnMut(&str, u64, u64),
}

/// How an attempt at a file failed.
enum Failure {
    /// Another may succeed.
    Again(String),
    Final(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused.again {
            true => Self::Again(refused.reason),
            false => Self::Final(refused.reason),
        }
    }
}

impl Fetch<'_> {
    /// The folder with the files of the commit.
    pub(super) fn folder(&self) -> PathBuf {
        self.cache.pointer_path(self.commit)
    }

    pub(super) fn file(&mut self, name: &str) -> Result<PulledFile> {
        if let Some(cached) = self.cached(name) {
            return Ok(cached);
        }
        let mut attempt = 0;
        loop {
            match self.attempt(name) {
                Ok(file) => return Ok(file),
                Err(Failure::Again(reason)) if attempt < self.options.retries => {
                    tracing::info!("{}; trying again", self.error(name, reason));
                    std::thread::sleep(Duration::from_millis(200 << attempt.min(5)));
                    attempt += 1;
                }
                Err(Failure::Again(reason) | Failure::Final(reason)) => {
                    return Err(self.error(name, reason));
                }
            }
        }
    }

    fn error(&self, name: &str, reason: String) -> Error {
        self.options.error(self.repository, Some(name), reason)
    }

    /// The file if the cache has it whole; a damaged one is removed.
    fn cached(&self, name: &str) -> Option<PulledFile> {
        let path = self.folder().join(name);
        if !path.exists() {
            return None;
        }
        match verify(&path, &Expected::of_cached(&path), None) {
            Ok(found) => Some(pulled(name, found, 0)),
            Err(reason) => {
                tracing::warn!("{}: {reason}; it is fetched again", path.display());
                remove(&path);
                None
            }
        }
    }

    fn attempt(&mut self, name: &str) -> Result<PulledFile, Failure> {
        let address = self.address.url(name);
        let stated = self.remote.stated(&address)?;
        self.check(name, &stated)?;
        let blob = self.cache.blob_path(&stated.etag);
        let part = blob.with_extension("part");
        let failed = |e: std::io::Error| Failure::Final(format!("{}: {e}", blob.display()));
        std::fs::create_dir_all(blob.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let _lock = lock(&blob.with_extension("lock"))?;
        let expected = Expected::of_etag(&stated.etag);
        // The same contents may be there for another commit, or have been fetched by another process just now.
        let found = match verify(&blob, &expected, Some(stated.bytes)) {
            Ok(found) => pulled(name, found, 0),
            Err(_) => {
                let (found, transferred) = self.fill(name, &address, &part, &stated)?;
                std::fs::rename(&part, &blob).map_err(failed)?;
                pulled(name, found, transferred)
            }
        };
        self.link(name, &stated.etag).map_err(failed)?;
        Ok(found)
    }

    /// Whether what a hub states of a file can be.
    fn check(&self, name: &str, stated: &Stated) -> Result<(), Failure> {
        for text in [&stated.etag, &stated.commit] {
            is_plain(text).map_err(Failure::Final)?;
        }
        if stated.commit != self.commit {
            return Err(Failure::Final(format!(
                "the hub gives it of commit {} and was asked for {}",
                stated.commit, self.commit
            )));
        }
        let is_text = !matches!(name, MODEL | ADATA | MDATA);
        if is_text && stated.bytes > MAX_TEXT {
            return Err(Failure::Final(format!(
                "has {} bytes on the hub, and such a text never has more than {MAX_TEXT}",
                stated.bytes
            )));
        }
        Ok(())
    }

    /// Makes the `.part` file whole, and checks it; how many bytes came.
    fn fill(
        &mut self,
        name: &str,
        address: &str,
        part: &Path,
        stated: &Stated,
    ) -> Result<((u64, Checksum), u64), Failure> {
        let expected = Expected::of_etag(&stated.etag);
        let mut start = std::fs::metadata(part).map_or(0, |m| m.len());
        if start >= stated.bytes {
            if let Ok(found) = verify(part, &expected, Some(stated.bytes)) {
                return Ok((found, 0));
            }
            start = 0;
        }
        let from = self.transfer(name, address, part, start, stated.bytes)?;
        verify(part, &expected, Some(stated.bytes))
            .map(|found| (found, stated.bytes - from))
            .map_err(|reason| {
                let _ = std::fs::remove_file(part);
                // What an older call had left may be the damaged part.
                match from {
                    0 => Failure::Final(reason),
                    _ => Failure::Again(reason),
                }
            })
    }

    /// Adds what is missing to the `.part` file, and never more than `bytes`; gives where the transfer began.
    fn transfer(
        &mut self,
        name: &str,
        address: &str,
        part: &Path,
        start: u64,
        bytes: u64,
    ) -> Result<u64, Failure> {
        let failed = |e: std::io::Error| Failure::Final(format!("{}: {e}", part.display()));
        let mut open = OpenOptions::new();
        let open = open.write(true).create(true).truncate(false);
        let mut file = open.open(part).map_err(failed)?;
        let contents = self.remote.contents(address, start)?;
        let from = contents.from;
        if from > start {
            let reason = format!("the hub sends what follows byte {from}, and {start} are there");
            return Err(Failure::Final(reason));
        }
        file.set_len(from).map_err(failed)?;
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut body = contents.body.into_reader();
        let mut buffer = vec![0u8; 1 << 16];
        let mut done = from;
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let reason = format!("{e}; run the same again to go on where it ended");
                    return Err(Failure::Again(reason));
                }
            };
            if n as u64 > bytes - done {
                let _ = std::fs::remove_file(part);
                return Err(Failure::Final(format!(
                    "the hub sends more than the {bytes} bytes that it stated; nothing of it is kept"
                )));
            }
            let came = buffer.get(..n).unwrap_or_default();
            file.write_all(came).map_err(failed)?;
            done += n as u64;
            (self.progress)(name, done, bytes);
        }
        if done < bytes {
            return Err(Failure::Again(format!(
                "{done} bytes arrived of {bytes}; run the same again to go on where it ended"
            )));
        }
        file.sync_all().map_err(failed)?;
        Ok(from)
    }

    /// Puts the file under its name into the folder of the commit.
    fn link(&self, name: &str, etag: &str) -> std::io::Result<()> {
        let folder = self.folder();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(&Path::new("../../blobs").join(etag), &path)
    }
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Links need a privilege on Windows; then the file itself is put there.
#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::os::windows::fs::symlink_file(target, path)
        .or_else(|_| std::fs::rename(folder.join(target), path))
}

fn pulled(name: &str, (bytes, checksum): (u64, Checksum), transferred: u64) -> PulledFile {
    PulledFile {
        name: name.to_owned(),
        bytes,
        transferred,
        checksum,
    }
}

/// Keeps other processes from the same file; those of Python and `hf-hub` know this lock too.
fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |e: std::io::Error| Failure::Final(format!("{}: {e}", path.display()));
    let file = File::create(path).map_err(failed)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(500));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
    Err(Failure::Final(format!(
        "{}: another process is fetching this file; wait for it",
        path.display()
    )))
}

/// Removes a file of the cache, and what it points to.
fn remove(path: &Path) {
    if let Ok(blob) = std::fs::canonicalize(path) {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}
