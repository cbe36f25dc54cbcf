use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// By what a file was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Checksum {
    /// SHA-256 of the contents: large files.
    #[serde(rename = "sha256")]
    Sha256,
    /// Git's SHA-1 of a blob: small files.
    #[serde(rename = "git")]
    Git,
    /// Its size alone, because the hub gave no checksum of a known kind.
    #[serde(rename = "size")]
    Size,
}

/// The checksum that a file must have, in hexadecimal digits.
pub(super) struct Expected {
    kind: Checksum,
    digits: String,
}

impl Expected {
    /// Hubs send the checksum as the entity tag.
    pub(super) fn of_etag(etag: &str) -> Self {
        let is_hex = etag.chars().all(|c| c.is_ascii_hexdigit());
        let kind = match etag.len() {
            64 if is_hex => Checksum::Sha256,
            40 if is_hex => Checksum::Git,
            _ => Checksum::Size,
        };
        Self {
            kind,
            digits: etag.to_ascii_lowercase(),
        }
    }

    /// In the cache a file is a link to one that is called after its entity tag.
    pub(super) fn of_cached(path: &Path) -> Self {
        let target = std::fs::canonicalize(path).unwrap_or_default();
        let name = target.file_name().unwrap_or_default();
        Self::of_etag(&name.to_string_lossy())
    }
}

/// Checks a file; gives its length and by what it was checked, or what is wrong with it.
pub(super) fn verify(
    path: &Path,
    expected: &Expected,
    size: Option<u64>,
) -> Result<(u64, Checksum), String> {
    let failed = |e: std::io::Error| format!("cannot be read back: {e}");
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if let Some(size) = size.filter(|&s| s != length) {
        return Err(format!("{length} bytes arrived of {size}"));
    }
    let found = match expected.kind {
        Checksum::Sha256 => hash(path, Sha256::new()).map_err(failed)?,
        Checksum::Git => {
            let mut sha = sha1::Sha1::new();
            sha.update(format!("blob {length}\0"));
            hash(path, sha).map_err(failed)?
        }
        Checksum::Size => return Ok((length, Checksum::Size)),
    };
    if found == expected.digits {
        return Ok((length, expected.kind));
    }
    Err(format!(
        "the checksum is {found} and must be {}; the file was damaged on its way and is removed",
        expected.digits
    ))
}

fn hash(path: &Path, mut digest: impl Digest) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
    }
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        // Of `sha256sum` and `git hash-object`.
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for (digits, kind) in [
            (sha, Checksum::Sha256),
            (git, Checksum::Git),
            ("v1", Checksum::Size),
        ] {
            assert_eq!(
                verify(&path, &Expected::of_etag(digits), Some(6)),
                Ok((6, kind))
            );
        }
        let other = Expected::of_etag(&sha.replace('5', "6"));
        assert!(verify(&path, &other, None).unwrap_err().contains("removed"));
        assert!(
            verify(&path, &Expected::of_etag("v1"), Some(7))
                .unwrap_err()
                .contains("6 bytes")
        );
    }
}
