//! Fetching a hub repository, over `hf-hub`.
//!
//! `hf-hub` brings the protocol, the cache that Python's `huggingface_hub` shares, locks, and requests that go on from where
//! a `.part` file ends. It does not check what arrived, and does not try again in a way that survives a transfer that breaks
//! before its first byte. Both are done here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Serialize;

use super::{ADATA, CARD, MDATA, METADATA, METRICS, MODEL};
use crate::{Error, Result};
use checksum::{Expected, verify};

mod checksum;

pub use checksum::Checksum;

/// The files that are fetched; nothing else in a repository is looked at.
const ALLOWED: [&str; 6] = [METADATA, CARD, METRICS, MODEL, ADATA, MDATA];

/// Options of [`pull`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PullOptions {
    /// A branch, tag or commit.
    pub revision: String,
    /// The address of the hub; `None` takes `HF_ENDPOINT`, or the public hub.
    pub endpoint: Option<String>,
    /// Where files are kept; `None` takes `HF_HOME`, or the folder that Python's `huggingface_hub` uses.
    pub cache_dir: Option<PathBuf>,
    /// An access token. `None` takes the one that was saved by a login, and only for the public hub.
    pub token: Option<String>,
    /// How often a transfer that breaks is taken up again.
    pub retries: usize,
    /// Whether to fetch the cells too, which are most of it.
    pub with_data: bool,
    /// Use what the cache has, without a network.
    pub offline: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            revision: "main".into(),
            endpoint: None,
            cache_dir: None,
            token: None,
            retries: 5,
            with_data: true,
            offline: false,
        }
    }
}

/// A repository that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pulled {
    /// Its name.
    pub repository: String,
    /// The commit that the revision stood for.
    pub commit: String,
    /// The folder, to be opened with [`HubModel::open`](super::HubModel::open).
    pub dir: PathBuf,
    /// What it holds.
    pub files: Vec<PulledFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PulledFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes that came over the network in the last transfer; 0 if it was in the cache.
    pub transferred: u64,
    /// By what it was checked.
    pub checksum: Checksum,
}

/// Fetches a repository `owner/name`: model, metadata, card, metrics and, if asked for, cells; no other files. A transfer
/// that was interrupted goes on where it ended, now or in a later call. Every file is checked against the hub's checksum
/// (SHA-256 of large files, git's of small ones), each time; one that does not match is removed. `progress` is told the file,
/// the bytes it has and its size.
///
/// # Errors
/// [`Error::Hub`] if the repository, the revision or its model is not there, the network fails, or a checksum does not
/// match.
pub fn pull(
    repository: &str,
    options: &PullOptions,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Pulled> {
    check_name(repository, options)?;
    let cache = options.cache();
    let named = options.repo(repository, &options.revision);
    let wanted = |name: &&str| options.with_data || !matches!(*name, ADATA | MDATA);
    if options.offline {
        return from_cache(
            repository,
            options,
            &cache,
            ALLOWED.into_iter().filter(wanted),
        );
    }
    let api = options.api()?;
    let remote = api.repo(named.clone());
    let info = remote.info().map_err(|e| {
        let known =
            "there is no such repository or revision, or it is private and the token is missing";
        options.failed(repository, None, &e, known)
    })?;
    is_plain(&info.sha).map_err(|reason| options.error(repository, None, reason))?;
    let has = |name: &&str| info.siblings.iter().any(|s| s.rfilename == *name);
    if !has(&MODEL) {
        let reason = format!("has no {MODEL}: it is no repository of scvi-hub");
        return Err(options.error(repository, None, reason));
    }
    // By the commit, so that all files are of one version even if the branch moves meanwhile.
    let pinned = options.repo(repository, &info.sha);
    let mut fetch = Fetch {
        options,
        repository,
        api: &api,
        cache: &cache,
        remote: api.repo(pinned.clone()),
        pinned: pinned.clone(),
        progress,
    };
    let names = ALLOWED.into_iter().filter(wanted).filter(has);
    let files = names.map(|n| fetch.file(n)).collect::<Result<Vec<_>>>()?;
    cache
        .repo(named)
        .create_ref(&info.sha)
        .map_err(|e| options.error(repository, None, format!("cannot note the revision: {e}")))?;
    Ok(Pulled {
        repository: repository.to_owned(),
        dir: cache.repo(pinned).pointer_path(&info.sha),
        commit: info.sha,
        files,
    })
}

impl PullOptions {
    fn cache(&self) -> Cache {
        self.cache_dir
            .clone()
            .map_or_else(Cache::from_env, Cache::new)
    }

    fn repo(&self, repository: &str, revision: &str) -> Repo {
        Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned())
    }

    fn api(&self) -> Result<Api> {
        // Retries are ours.
        let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(0);
        if let Some(dir) = &self.cache_dir {
            builder = builder.with_cache_dir(dir.clone());
        }
        let elsewhere = self.endpoint.is_some() || std::env::var_os("HF_ENDPOINT").is_some();
        if self.token.is_some() || elsewhere {
            builder = builder.with_token(self.token.clone());
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder.build().map_err(|e| Error::Hub {
            place: "the hub".into(),
            reason: e.to_string(),
        })
    }

    fn error(&self, repository: &str, file: Option<&str>, reason: impl Into<String>) -> Error {
        let at = format!("{repository}@{}", self.revision);
        Error::Hub {
            place: file.map_or(at.clone(), |file| format!("{at}: {file}")),
            reason: reason.into(),
        }
    }

    /// `known` explains an answer that there is no such thing.
    fn failed(&self, repository: &str, file: Option<&str>, e: &ApiError, known: &str) -> Error {
        let text = e.to_string();
        let reason = match status(e) {
            Some(401 | 403 | 404) => format!("{known} ({text})"),
            _ => format!("{text}; run the same again to go on where it ended"),
        };
        self.error(repository, file, reason)
    }
}

/// Only names that can't lead out of the cache.
fn check_name(repository: &str, options: &PullOptions) -> Result<()> {
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
fn is_plain(text: &str) -> std::result::Result<(), String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(());
    }
    Err(format!(
        "the hub sent {text:?} as a commit or checksum, which it can't be"
    ))
}

/// The number of an HTTP answer; the type of the error belongs to a crate that hf-hub does not show.
fn status(e: &ApiError) -> Option<u16> {
    let text = e.to_string();
    let number = text.split("http status: ").nth(1)?;
    number.get(..3)?.parse().ok()
}

fn from_cache<'n>(
    repository: &str,
    options: &PullOptions,
    cache: &Cache,
    names: impl Iterator<Item = &'n str>,
) -> Result<Pulled> {
    let cached = cache.repo(options.repo(repository, &options.revision));
    let missing = || {
        options.error(
            repository,
            None,
            "is not in the cache; pull it with a network once",
        )
    };
    let dir = cached
        .get(MODEL)
        .and_then(|p| p.parent().map(Path::to_owned));
    let dir = dir.ok_or_else(missing)?;
    let commit = dir.file_name().ok_or_else(missing)?;
    let commit = commit.to_string_lossy().into_owned();
    let files = names
        .filter_map(|name| Some((name, cached.get(name)?)))
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

struct Fetch<'a> {
    options: &'a PullOptions,
    repository: &'a str,
    api: &'a Api,
    cache: &'a Cache,
    remote: ApiRepo,
    pinned: Repo,
    progress: &'a mut dyn FnMut(&str, u64, u64),
}

/// How an attempt at a file failed.
enum Failure {
    /// Another may succeed.
    Again(Error),
    Final(Error),
}

impl Fetch<'_> {
    fn file(&mut self, name: &str) -> Result<PulledFile> {
        if let Some(cached) = self.cached(name) {
            return Ok(cached);
        }
        let mut attempt = 0;
        loop {
            match self.attempt(name) {
                Ok(file) => return Ok(file),
                Err(Failure::Again(e)) if attempt < self.options.retries => {
                    tracing::info!("{e}; trying again");
                    std::thread::sleep(Duration::from_millis(200 << attempt.min(5)));
                    attempt += 1;
                }
                Err(Failure::Again(e) | Failure::Final(e)) => return Err(e),
            }
        }
    }

    /// The file if the cache has it whole; a damaged one is removed.
    fn cached(&self, name: &str) -> Option<PulledFile> {
        let path = self.cache.repo(self.pinned.clone()).get(name)?;
        match verify(&path, &Expected::of_cached(&path), None) {
            Ok((bytes, checksum)) => Some(PulledFile {
                name: name.to_owned(),
                bytes,
                transferred: 0,
                checksum,
            }),
            Err(reason) => {
                tracing::warn!("{}: {reason}; it is fetched again", path.display());
                remove(&path);
                None
            }
        }
    }

    fn attempt(&mut self, name: &str) -> std::result::Result<PulledFile, Failure> {
        let metadata = self
            .api
            .metadata(&self.remote.url(name))
            .map_err(|e| self.transfer(name, &e))?;
        let error = |reason: String| self.options.error(self.repository, Some(name), reason);
        for text in [metadata.etag(), metadata.commit_hash()] {
            is_plain(text).map_err(|reason| Failure::Final(error(reason)))?;
        }
        let size = metadata.size() as u64;
        let blob = self
            .cache
            .repo(self.pinned.clone())
            .blob_path(metadata.etag());
        let part = blob.with_extension("part");
        let start = prepare_part(&part, size);
        let watch = Watch {
            told: &mut *self.progress,
            name,
            done: 0,
            size,
        };
        let path = self
            .remote
            .download_with_progress(name, watch)
            .map_err(|e| self.transfer(name, &e))?;
        let error = |reason: String| self.options.error(self.repository, Some(name), reason);
        match verify(&path, &Expected::of_etag(metadata.etag()), Some(size)) {
            Ok((bytes, checksum)) => Ok(PulledFile {
                name: name.to_owned(),
                bytes,
                transferred: bytes.saturating_sub(start),
                checksum,
            }),
            Err(reason) => {
                let short = std::fs::metadata(&path).is_ok_and(|m| m.len() < size);
                if short && std::fs::rename(&blob, &part).is_ok() {
                    // The connection ended early without anybody noticing: what came is a good start.
                    let _ = std::fs::remove_file(&path);
                    return Err(Failure::Again(error(reason)));
                }
                remove(&path);
                // What an older call had left may be the damaged part.
                Err(match start {
                    0 => Failure::Final(error(reason)),
                    _ => Failure::Again(error(reason)),
                })
            }
        }
    }

    fn transfer(&self, name: &str, e: &ApiError) -> Failure {
        let known = "the hub lists this file and does not give it";
        let error = self.options.failed(self.repository, Some(name), e, known);
        match (status(e), e) {
            (Some(400..=499), _) | (_, ApiError::LockAcquisition(_)) => Failure::Final(error),
            _ => Failure::Again(error),
        }
    }
}

/// Tells how far a transfer is.
struct Watch<'a> {
    told: &'a mut dyn FnMut(&str, u64, u64),
    name: &'a str,
    done: u64,
    size: u64,
}

impl hf_hub::api::Progress for Watch<'_> {
    fn init(&mut self, _: usize, _: &str) {
        self.done = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.told)(self.name, self.done, self.size);
    }

    fn finish(&mut self) {}
}

/// How much of a file an older transfer left. A server refuses to go on from the very end, so that a whole one loses its
/// last byte first.
fn prepare_part(part: &Path, size: u64) -> u64 {
    let length = std::fs::metadata(part).map_or(0, |m| m.len());
    if length < size {
        return length;
    }
    let keep = if length == size {
        size.saturating_sub(1)
    } else {
        0
    };
    let cut = std::fs::OpenOptions::new().write(true).open(part);
    match cut.and_then(|f| f.set_len(keep)) {
        Ok(()) => keep,
        Err(_) => 0,
    }
}

/// Removes a file of the cache, and what it points to.
fn remove(path: &Path) {
    if let Ok(blob) = std::fs::canonicalize(path) {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}
