//! What the cache has, without a network.

use std::path::PathBuf;

use hf_hub::Cache;

use super::checksum::{Expected, verify};
use super::{MODEL, PullOptions, Pulled, PulledFile};
use crate::Result;

/// The files of a repository that are in the cache; the model must be.
pub(super) fn all<'n>(
    repository: &str,
    options: &PullOptions,
    cache: &Cache,
    names: impl Iterator<Item = &'n str>,
) -> Result<Pulled> {
    let missing = || {
        let reason = "is not in the cache; pull it with a network once";
        options.error(repository, None, reason)
    };
    let dir = folder(repository, options, cache).ok_or_else(missing)?;
    let commit = dir.file_name().ok_or_else(missing)?;
    let commit = commit.to_string_lossy().into_owned();
    let files = names
        .map(|name| (name, dir.join(name)))
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| {
            let wrong = |reason| options.error(repository, Some(name), reason);
            let (bytes, checksum) =
                verify(&path, &Expected::of_cached(&path), None).map_err(wrong)?;
            Ok(PulledFile {
                name: name.to_owned(),
                bytes,
                transferred: 0,
                checksum,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Pulled {
        repository: repository.to_owned(),
        commit,
        dir,
        files,
    })
}

/// The folder of the revision: a branch or tag that was pulled before, or a commit.
fn folder(repository: &str, options: &PullOptions, cache: &Cache) -> Option<PathBuf> {
    let cached = cache.repo(options.repo(repository, &options.revision));
    let named = || cached.get(MODEL)?.parent().map(PathBuf::from);
    let commit = || Some(cached.pointer_path(&options.revision)).filter(|d| d.join(MODEL).exists());
    named().or_else(commit)
}
