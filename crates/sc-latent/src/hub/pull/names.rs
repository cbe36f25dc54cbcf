//! Names that may become parts of paths and addresses.

use super::PullOptions;
use crate::Result;

/// Only names that can't lead out of the cache.
pub(super) fn check_name(repository: &str, options: &PullOptions) -> Result<()> {
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with('.')
            && p.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let good = repository.split('/').count() <= 2 && repository.split('/').all(part);
    if !good {
        let reason = "is no name of a repository; give owner/name";
        return Err(options.error(repository, None, reason));
    }
    let revision = &options.revision;
    if revision.is_empty() || !revision.split('/').all(part) {
        let reason = "is no name of a revision; give a branch, tag or commit";
        return Err(options.error(repository, None, reason));
    }
    Ok(())
}

/// Whether text that a server sent can be the name of a file.
pub(super) fn is_plain(text: &str) -> Result<(), String> {
    let is_short = (1..=128).contains(&text.len());
    if is_short && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(());
    }
    Err(format!(
        "the hub sent {text:.200?} as a commit or checksum, which it can't be"
    ))
}
